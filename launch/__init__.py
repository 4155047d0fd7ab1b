"""The launchers and the `aceslm` command: the only code that knows about schedulers and submitit."""
