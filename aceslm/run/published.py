"""A finished shard: published once, verified at every reading, set aside when corrupt.

publish_shard(work, prompts, timings)          # the shard file, then `done.json`: the first finisher wins
done = read_done(paths, shard_id)              # what it says of the shard; None: not published
table = verified_shard(paths, shard_id)        # its rows, after checking size, digest and schema
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aceslm.core.digests import digest, file_sha256
from aceslm.core.errors import CorruptRun, RunError
from aceslm.core.files import create_json, read_json
from aceslm.core.parquet import (
    SCHEMA_VERSION,
    read_results,
    write_prompts,
    write_table,
)
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Shard
from aceslm.run.parts import count_conflicts, discard_parts, first_rows, read_parts
from aceslm.run.work import Work


@dataclass(frozen=True, slots=True)
class Done:
    """What `done.json` says of a published shard: its file, the figures to verify it by, what it took.

    `correct` is None in a file of an earlier version. `duplicates` counts rows of units that were computed
    twice, `conflicts` those of them with differing predictions. `timings` are the finisher's.
    """

    shard: str
    cell_id: str
    model_id: str
    quantization: str
    file: str
    rows: int
    bytes: int
    sha256: str
    schema_version: int
    correct: int | None = None
    duplicates: int = 0
    conflicts: int = 0
    finished_at: float = 0.0
    timings: Mapping[str, Any] = field(default_factory=dict)


def publish_shard(work: Work, prompts: Iterable[tuple[str, str]], timings: Mapping[str, Any]) -> None:
    """Write the shard file in unit order, then `done.json`; the first finisher wins.

    Args:
        prompts: digest and text of every prompt.

    Raises:
        RunError: the parts do not hold every unit.
    """
    paths, shard_id = work.run.paths, work.shard.shard_id
    unit_ids = [unit.unit_id for unit in work.units]
    if work.is_published:
        discard_parts(paths, shard_id)
        return
    table = read_parts(paths, shard_id)
    chosen = first_rows(table.column("unit_id").to_pylist())
    missing = [unit_id for unit_id in unit_ids if unit_id not in chosen]
    if missing:
        if work.is_published:  # the parts were discarded by the winner while they were read
            return
        raise RunError(f"shard {shard_id}: {len(missing)} of {len(unit_ids)} units have no row")
    write_prompts(prompts, paths.prompts(shard_id))
    ordered = table.take(pa.array([chosen[unit_id] for unit_id in unit_ids], pa.int64()))
    partial = paths.shards / f".{shard_id}.{digest(socket.gethostname(), time.time_ns())}.tmp"
    write_table(ordered.combine_chunks(), partial)
    # measured before the rename: a slower finisher with the very same rows may remove the name again
    sha256, size_bytes = file_sha256(partial), partial.stat().st_size
    target = paths.shard(shard_id, sha256)
    partial.replace(target)
    done = Done(
        shard=shard_id,
        cell_id=work.cell.cell_id,
        model_id=work.cell.model.model_id,
        quantization=work.cell.quantization,
        file=target.name,
        rows=ordered.num_rows,
        bytes=size_bytes,
        sha256=sha256,
        schema_version=SCHEMA_VERSION,
        correct=pc.sum(ordered.column("correct")).as_py() or 0,
        duplicates=table.num_rows - len(chosen),
        conflicts=count_conflicts(table),
        finished_at=time.time(),
        timings=dict(timings),
    )
    won = create_json(paths.done(shard_id), asdict(done))
    if not won and (winner := read_done(paths, shard_id)) and winner.file != target.name:
        target.unlink(missing_ok=True)
    discard_parts(paths, shard_id)


def read_done(paths: RunPaths, shard_id: str) -> Done | None:
    """Return what `done.json` says of a shard; None where it is not published.

    Raises:
        CorruptRun: it is not a done file.
    """
    path = paths.done(shard_id)
    try:
        value = read_json(path)
    except FileNotFoundError:
        return None
    except RunError as error:
        raise CorruptRun(str(error)) from None
    known = {one.name for one in fields(Done)}
    try:
        done = Done(**{key: one for key, one in value.items() if key in known})
    except (AttributeError, TypeError):
        raise CorruptRun(f"{path}: is not a done file") from None
    if not isinstance(done.file, str) or Path(done.file).name != done.file:
        raise CorruptRun(f"{path}: is not a done file")
    return done


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


def verified_shard(paths: RunPaths, shard_id: str) -> pa.Table | None:
    """Return the rows of a published shard after checking size, digest and schema; None if not published.

    Raises:
        CorruptRun: the file is missing or differs from what `done.json` says.
    """
    done = read_done(paths, shard_id)
    if done is None:
        return None
    path = paths.shards / done.file
    if not path.exists():
        raise CorruptRun(f"shard {shard_id}: {path.name} is missing")
    if path.stat().st_size != done.bytes:
        raise CorruptRun(f"shard {shard_id}: {path.name} has {path.stat().st_size} bytes, not {done.bytes}")
    if file_sha256(path) != done.sha256:
        raise CorruptRun(f"shard {shard_id}: the bytes of {path.name} differ from their checksum")
    if done.schema_version != SCHEMA_VERSION:
        raise CorruptRun(f"shard {shard_id}: schema version {done.schema_version}, not {SCHEMA_VERSION}")
    table = read_results(path)
    if table.num_rows != done.rows:
        raise CorruptRun(f"shard {shard_id}: {table.num_rows} rows, not {done.rows}")
    return table


def withdraw_shard(paths: RunPaths, shard_id: str) -> None:
    """Set a corrupt shard aside (`.corrupt`), so that it counts as missing and is computed again."""
    done = paths.done(shard_id)
    for path in [*paths.shards.glob(f"{shard_id}.*.parquet"), done]:
        if path.exists():
            path.replace(path.with_name(path.name + ".corrupt"))
