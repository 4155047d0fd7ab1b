"""Where things lie: the clone that holds `configs/` and `data/`, and the cache of conversions."""

from __future__ import annotations

import os
from pathlib import Path


def repository_root() -> Path:
    """Return the clone that holds `configs/` and `data/` (or `$ACESLM_ROOT`)."""
    return Path(os.environ.get("ACESLM_ROOT") or Path(__file__).resolve().parents[2])


def cache_dir() -> Path:
    """Return the folder of conversions: `$ACESLM_CACHE`, else `aceslm` in the user's cache directory."""
    if explicit := os.environ.get("ACESLM_CACHE"):
        return Path(explicit).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aceslm"
