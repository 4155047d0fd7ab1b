"""The `done.json` of a published shard: read and checked, without Parquet.

done = read_done(paths.done(shard_id))       # CorruptRun where it is damaged
timings = timings_of(paths, shard_id)        # empty where there are none that can be read
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aceslm.core.errors import CorruptRun, RunError
from aceslm.core.files import read_json
from aceslm.core.paths import RunPaths

_KEYS = {"file": str, "rows": int, "bytes": int, "sha256": str, "schema_version": int}


def read_done(path: Path) -> dict[str, Any]:
    """Read a `done.json`.

    Raises:
        CorruptRun: it is not one.
        FileNotFoundError: there is none.
    """
    value = read_json(path)
    good = isinstance(value, dict) and all(type(value.get(key)) is kind for key, kind in _KEYS.items())
    if not good or Path(value["file"]).name != value["file"]:
        raise CorruptRun(f"{path}: is not a done file")
    return dict(value)


def timings_of(paths: RunPaths, shard_id: str) -> Mapping[str, Any]:
    """Return what the finisher of a shard has measured; empty where nothing can be read."""
    return facts_of(paths.done(shard_id), "timings")


def facts_of(path: Path, key: str) -> Mapping[str, Any]:
    """Return one group of facts of a `done.json`; empty where it cannot be read or has none."""
    try:
        value = read_json(path)
    except (OSError, RunError):
        return {}
    facts = value.get(key) if isinstance(value, dict) else None
    return facts if isinstance(facts, dict) else {}
