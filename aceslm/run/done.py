"""The `done.json` of a published shard, read and checked without Parquet.

done = read_done(paths, shard_id)        # None: not published; CorruptRun: damaged
timings = timings_of(paths, shard_id)    # empty where there are none that can be read
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from aceslm.core.errors import CorruptRun
from aceslm.core.files import read_json
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Shard

Timings = Mapping[str, Mapping[str, Any]]
"""Shard id -> what its finisher has measured; only shards that have told."""

_KEYS = {"file": str, "rows": int, "bytes": int, "sha256": str, "schema_version": int}


@dataclass(frozen=True, slots=True)
class Done:
    """What `done.json` says of a published shard: its file, the figures to verify it by, what it took.

    `correct` is None in a file of an earlier version. `duplicates` counts rows of units that were computed
    twice, `conflicts` those of them with differing predictions. `timings` are the finisher's; `engine`,
    `workload` and `hardware` say what its rate belongs to.
    """

    file: str
    rows: int
    bytes: int
    sha256: str
    schema_version: int
    shard: str = ""
    cell_id: str = ""
    model_id: str = ""
    quantization: str = ""
    correct: int | None = None
    duplicates: int = 0
    conflicts: int = 0
    finished_at: float = 0.0
    timings: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    workload: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)


def read_done(paths: RunPaths, shard_id: str) -> Done | None:
    """Return what `done.json` says of a shard; None where it is not published.

    Raises:
        CorruptRun: it is not a done file.
    """
    path = paths.done(shard_id)
    try:
        return done_at(path)
    except FileNotFoundError:
        return None


def done_at(path: Path) -> Done:
    """Return what one `done.json` says.

    Raises:
        CorruptRun: it is not a done file.
        FileNotFoundError: there is none.
    """
    value = read_json(path)
    good = isinstance(value, dict) and all(type(value.get(key)) is kind for key, kind in _KEYS.items())
    if not good or Path(value["file"]).name != value["file"]:
        raise CorruptRun(f"{path}: is not a done file")
    known = {one.name for one in fields(Done)}
    facts = ("timings", "engine", "workload", "hardware")
    value = {key: one for key, one in value.items() if key not in facts or isinstance(one, dict)}
    return Done(**{key: one for key, one in value.items() if key in known})


def timings_of(paths: RunPaths, shard_id: str) -> Mapping[str, Any]:
    """Return what the finisher of a shard has measured; empty where nothing can be read."""
    try:
        done = read_done(paths, shard_id)
    except (OSError, CorruptRun):
        return {}
    return done.timings if done else {}


def all_timings(run: Run) -> Timings:
    """Return what the finishers of all shards of a run have measured."""
    found = {shard.shard_id: timings_of(run.paths, shard.shard_id) for shard in run.shards}
    return {shard_id: timings for shard_id, timings in found.items() if timings}


def is_published(paths: RunPaths, shard_id: str) -> bool:
    """Whether a shard is published; says nothing of whether its file is sound."""
    return paths.done(shard_id).exists()


def unfinished(run: Run, among: Iterable[Shard] | None = None) -> list[Shard]:
    """Return the shards of a run (or of `among`) that are neither published nor replaced by later ones."""
    return [
        shard
        for shard in (run.shards if among is None else among)
        if shard.shard_id not in run.replaced and not is_published(run.paths, shard.shard_id)
    ]


def done_files(results: Path) -> Iterator[Path]:
    """Yield the `done.json` files of all runs below a results folder."""
    yield from results.glob("*/shards/*.done.json")


def row_files(paths: RunPaths) -> list[Path]:
    """Return the files that show that a run has rows: done files, and parts."""
    return [*paths.shards.glob("*.done.json"), *(paths.root / "parts").glob("*/part-*.parquet")]
