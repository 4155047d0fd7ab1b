"""Models: a name -> what exactly is loaded, and how it gets onto this machine."""
