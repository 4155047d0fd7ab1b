"""Parts: small Parquet files with the rows of a shard that are finished so far.

A part has one writer and one name, and is a resume point; the parts go once their shard is published.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from aceslm.core.errors import CorruptRun
from aceslm.core.parquet import (
    read_results,
    records_table,
    result_schema,
    write_table,
)
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.record import Record
from aceslm.run.energy import share_out

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
    return sorted(folder.glob("part-*.parquet"))


def read_parts(paths: RunPaths, shard_id: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of all valid parts in name order; a damaged part is left out with a warning."""
    empty = result_schema().empty_table()
    tables = [empty if columns is None else empty.select(columns)]
    for path in part_files(paths, shard_id):
        try:
            tables.append(read_results(path, columns))
        except FileNotFoundError:
            continue  # another worker has published the shard meanwhile
        except CorruptRun as error:
            log.warning("%s; its rows are computed again", error)
    return pa.concat_tables(tables)


def finished_units(paths: RunPaths, shard_id: str, wanted: set[str]) -> set[str]:
    """Return the unit ids among `wanted` that the parts of a shard already hold."""
    return wanted & set(read_parts(paths, shard_id, ["unit_id"]).column("unit_id").to_pylist())


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
