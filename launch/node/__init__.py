"""What runs on a node: the task, its place in the scheduler, its log files."""
