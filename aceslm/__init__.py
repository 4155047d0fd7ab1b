"""aceslm: does an evolving playbook make a small language model better, at what cost, and is it real?

This package is the library: everything that does not know about a scheduler. The `launch` package
beside it holds the command and the launchers.
"""

__version__ = "0.1.0"
