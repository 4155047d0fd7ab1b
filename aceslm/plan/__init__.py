"""A grid -> cells -> shards, and the plan files of a run directory."""
