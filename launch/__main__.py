"""`python -m launch` is the `aceslm` command."""

import sys

from launch.cli import main

sys.exit(main())
