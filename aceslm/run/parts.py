"""Parts and shards on disk: flush, read back, publish, verify, discard.

A part is a small Parquet file with the rows finished so far: one writer, one name, a resume point. A
shard is published as one file named by its digest plus `done.json`; the parts go once that verifies.
"""

from __future__ import annotations

import logging
import shutil
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aceslm.core.digests import digest, file_sha256
from aceslm.core.errors import CorruptRun, RunError
from aceslm.core.files import create_json, is_temporary
from aceslm.core.parquet import (
    SCHEMA_VERSION,
    read_results,
    records_table,
    result_schema,
    write_prompts,
    write_table,
)
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.record import Record
from aceslm.core.values import Cell, Shard
from aceslm.run.energy import share_out
from aceslm.run.published import read_done

log = logging.getLogger(__name__)


@dataclass(slots=True)
class PartWriter:
    """Buffers records and writes them as numbered parts of one attempt."""

    paths: RunPaths
    shard_id: str
    attempt: AttemptName
    _rows: list[Record] = field(default_factory=list)
    _number: int = 0

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, record: Record) -> None:
        self._rows.append(record)

    def flush(self, joules: float | None = None) -> None:
        """Write the buffered rows as one part, `joules` shared out over them; nothing when there are none.

        A part that is there is never overwritten: an earlier try may have had the same name (a process id
        comes again on another host, or after a while).
        """
        if not self._rows:
            return
        self._number += 1
        while (path := self.paths.part(self.shard_id, self.attempt, self._number)).exists():
            self._number += 1
        write_table(records_table(share_out(self._rows, joules)), path)
        self._rows.clear()


def part_files(paths: RunPaths, shard_id: str) -> list[Path]:
    """Return the parts of a shard, sorted by name."""
    folder = paths.parts(shard_id)
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.glob("part-*.parquet") if not is_temporary(path))


def read_parts(paths: RunPaths, shard_id: str) -> pa.Table:
    """Return the rows of all valid parts in name order; a damaged part is left out with a warning."""
    tables = [result_schema().empty_table()]
    for path in part_files(paths, shard_id):
        try:
            tables.append(read_results(path))
        except FileNotFoundError:
            continue  # another worker has published the shard meanwhile
        except CorruptRun as error:
            log.warning("%s; its rows are computed again", error)
    return pa.concat_tables(tables)


def finished_units(paths: RunPaths, shard_id: str, wanted: set[str]) -> set[str]:
    """Return the unit ids among `wanted` that the parts of a shard already hold."""
    return wanted & set(read_parts(paths, shard_id).column("unit_id").to_pylist())


def publish_shard(
    paths: RunPaths,
    cell: Cell,
    shard: Shard,
    unit_ids: Sequence[str],
    prompts: Iterable[tuple[str, str]],
    facts: Mapping[str, Any],
) -> None:
    """Write the shard file in unit order, then `done.json` with `facts` in it; the first finisher wins.

    Raises:
        RunError: the parts do not hold every unit.
    """
    done = paths.done(shard.shard_id)
    if done.exists():
        discard_parts(paths, shard.shard_id)
        return
    table = read_parts(paths, shard.shard_id)
    chosen = first_rows(table.column("unit_id").to_pylist())
    missing = [unit_id for unit_id in unit_ids if unit_id not in chosen]
    if missing:
        if done.exists():  # the parts were discarded by the winner while they were read
            return
        raise RunError(f"shard {shard.shard_id}: {len(missing)} of {len(unit_ids)} units have no row")
    write_prompts(prompts, paths.prompts(shard.shard_id))
    ordered = table.take(pa.array([chosen[unit_id] for unit_id in unit_ids], pa.int64()))
    partial = paths.shards / f".{shard.shard_id}.{digest(socket.gethostname(), time.time_ns())}.tmp"
    write_table(ordered.combine_chunks(), partial)
    # measured before the rename: a slower finisher with the very same rows may remove the name again
    sha256, size_bytes = file_sha256(partial), partial.stat().st_size
    target = paths.shard(shard.shard_id, sha256)
    partial.replace(target)
    value = {
        "shard": shard.shard_id,
        "cell_id": cell.cell_id,
        "model_id": cell.model.model_id,
        "quantization": cell.quantization,
        "file": target.name,
        "rows": ordered.num_rows,
        "correct": pc.sum(ordered.column("correct")).as_py() or 0,
        "bytes": size_bytes,
        "sha256": sha256,
        "schema_version": SCHEMA_VERSION,
        "duplicates": table.num_rows - len(chosen),
        "conflicts": count_conflicts(table),
        "finished_at": time.time(),
        **facts,
    }
    if not create_json(done, value) and read_done(done)["file"] != target.name:
        target.unlink(missing_ok=True)
    discard_parts(paths, shard.shard_id)


def verified_shard(paths: RunPaths, shard_id: str) -> pa.Table | None:
    """Return the rows of a published shard after checking size, digest and schema; None if not published.

    Raises:
        CorruptRun: the file is missing or differs from what `done.json` says.
    """
    done_path = paths.done(shard_id)
    if not done_path.exists():
        return None
    done = read_done(done_path)
    path = paths.shards / done["file"]
    if not path.exists():
        raise CorruptRun(f"shard {shard_id}: {path.name} is missing")
    if path.stat().st_size != done["bytes"]:
        raise CorruptRun(
            f"shard {shard_id}: {path.name} has {path.stat().st_size} bytes, not {done['bytes']}"
        )
    if file_sha256(path) != done["sha256"]:
        raise CorruptRun(f"shard {shard_id}: the bytes of {path.name} differ from their checksum")
    if done["schema_version"] != SCHEMA_VERSION:
        raise CorruptRun(f"shard {shard_id}: schema version {done['schema_version']}, not {SCHEMA_VERSION}")
    table = read_results(path)
    if table.num_rows != done["rows"]:
        raise CorruptRun(f"shard {shard_id}: {table.num_rows} rows, not {done['rows']}")
    return table


def withdraw_shard(paths: RunPaths, shard_id: str) -> None:
    """Set a corrupt shard aside (`.corrupt`), so that it counts as missing and is computed again."""
    done = paths.done(shard_id)
    for path in [*paths.shards.glob(f"{shard_id}.*.parquet"), done]:
        if path.exists():
            path.replace(path.with_name(path.name + ".corrupt"))


def discard_parts(paths: RunPaths, shard_id: str) -> None:
    """Delete the parts of a published shard."""
    shutil.rmtree(paths.parts(shard_id), ignore_errors=True)


def first_rows(unit_ids: Sequence[str]) -> dict[str, int]:
    """Return unit id -> its first row: a unit computed twice keeps the row whose part sorts first."""
    chosen: dict[str, int] = {}
    for row, unit_id in enumerate(unit_ids):
        chosen.setdefault(unit_id, row)
    return chosen


def count_conflicts(table: pa.Table) -> int:
    """Count the units that were computed more than once with different predictions."""
    pairs = table.select(["unit_id", "pred"]).group_by(["unit_id", "pred"]).aggregate([])
    counts = pairs.group_by("unit_id").aggregate([([], "count_all")]).column("count_all")
    return int(pc.sum(pc.greater(counts, 1).cast(pa.int64())).as_py() or 0)
