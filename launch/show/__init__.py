"""What a person sees: tables, progress, one-line errors."""
