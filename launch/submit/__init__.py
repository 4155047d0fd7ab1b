"""Shards -> work: the local pool, Slurm arrays."""
