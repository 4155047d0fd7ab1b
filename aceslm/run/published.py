"""A finished shard: published once, verified at every reading, set aside when corrupt.

publish_shard(work, prompts, facts)            # the shard file, then `done.json`: the first finisher wins
table = verified_shard(paths, shard_id)        # its rows, after checking size, digest and schema
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aceslm.core.digests import digest, file_sha256
from aceslm.core.errors import CorruptRun, RunError
from aceslm.core.files import create_json
from aceslm.core.parquet import SCHEMA_VERSION, read_results, write_prompts, write_table
from aceslm.core.paths import RunPaths
from aceslm.run.done import Done, read_done
from aceslm.run.parts import count_conflicts, discard_parts, first_rows, read_parts
from aceslm.run.work import Work


def publish_shard(work: Work, prompts: Iterable[tuple[str, str]], facts: Mapping[str, Any]) -> None:
    """Write the shard file in unit order, then `done.json` with `facts` in it; the first finisher wins.

    Args:
        prompts: digest and text of every prompt.
        facts: `timings`, and what the rate belongs to (`shard_facts`).

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
        **facts,
    )
    won = create_json(paths.done(shard_id), asdict(done))
    if not won and (winner := read_done(paths, shard_id)) and winner.file != target.name:
        target.unlink(missing_ok=True)
    discard_parts(paths, shard_id)


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
