"""Asking Slurm, and what it knows that the files do not."""
