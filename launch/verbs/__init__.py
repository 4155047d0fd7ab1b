"""The verbs of the command: options in, one call into the library, tables out."""
