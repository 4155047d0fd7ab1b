"""A grid -> a run directory: tasks, rates, what a retry means."""
