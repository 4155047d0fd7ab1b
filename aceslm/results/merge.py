"""Shards -> results.parquet, results.csv, coverage.json. Streaming; the caller holds the run's lock.

    merged = merge_shards(run)
    merged.coverage, merged.done

Every published shard is verified (size, SHA-256, page checksums, schema) before its rows are used. What is
missing or corrupt is named; finished rows of unfinished shards are used.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice

import pyarrow as pa
import pyarrow.csv as pa_csv

from aceslm.core.errors import CorruptRun
from aceslm.core.files import replacing, write_json
from aceslm.core.parquet import ROW_GROUP_ROWS, result_schema, table_writer
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Cell, Shard
from aceslm.plan.ranges import unit_at
from aceslm.results.coverage import Coverage
from aceslm.results.mixtures import all_attempts, left_out, mixtures
from aceslm.run.done import read_done
from aceslm.run.parts import read_parts
from aceslm.run.published import verified_shard

_CACHED_SHARDS = 8


@dataclass(frozen=True, slots=True)
class MergedShards:
    """What a merge made: its coverage, and the shards that are published and sound."""

    coverage: Coverage
    done: tuple[str, ...]


@dataclass(slots=True)
class _Census:
    """What has been seen while merging."""

    done: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    corrupt: dict[str, str] = field(default_factory=dict)
    planned: int = 0
    found: int = 0
    duplicates: int = 0
    conflicts: int = 0


def merge_shards(run: Run) -> MergedShards:
    """Write the merged rows of a run in plan order, and what is there of them."""
    paths, census = run.paths, _Census()
    with replacing(paths.results) as partial, table_writer(partial, result_schema()) as writer:
        for cell in run.cells:
            for table in _cell_rows(run, cell, census):
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
    coverage = _coverage(run, census)
    write_json(paths.coverage, asdict(coverage))
    _write_csv(paths)
    return MergedShards(coverage, tuple(census.done))


def _cell_rows(run: Run, cell: Cell, census: _Census) -> Iterator[pa.Table]:
    """Yield a cell's rows in unit order, in tables of at most a row group."""
    rows = _CellRows(run.paths)
    indices: set[int] = set()
    for shard in run.shards_of(cell.cell_id):
        rows.add(shard, census, is_replaced=shard.shard_id in run.replaced)
        indices.update(shard.indices())
    sample_ids = run.task(cell.task_digest).sample_ids
    unit_ids = [unit_at(cell, sample_ids, index).unit_id for index in sorted(indices)]
    census.planned += len(unit_ids)
    census.duplicates += rows.duplicates
    census.conflicts += rows.conflicts
    present = iter([unit_id for unit_id in unit_ids if unit_id in rows.places])
    while block := list(islice(present, ROW_GROUP_ROWS)):
        census.found += len(block)
        yield rows.take(block)


@dataclass(slots=True)
class _CellRows:
    """The shards of one cell: where each unit's row is, with a few published tables in memory at a time.

    Rows read from parts stay in memory: a worker may add parts or publish the shard while it is merged, and
    a second reading would then have its rows at other places. A published shard never changes.
    """

    paths: RunPaths
    places: dict[str, tuple[str, int]] = field(default_factory=dict)
    duplicates: int = 0
    conflicts: int = 0
    _predictions: dict[str, str | None] = field(default_factory=dict)
    _published: OrderedDict[str, pa.Table] = field(default_factory=OrderedDict)
    _from_parts: dict[str, pa.Table] = field(default_factory=dict)

    def add(self, shard: Shard, census: _Census, *, is_replaced: bool) -> None:
        """Register a shard's rows; note in `census` what is missing or corrupt."""
        table = None
        parts = read_parts(self.paths, shard.shard_id)  # before: publishing a shard deletes its parts
        try:
            table = verified_shard(self.paths, shard.shard_id)
        except CorruptRun as error:
            census.corrupt[shard.shard_id] = str(error)
        if table is not None:
            census.done.append(shard.shard_id)
            if done := read_done(self.paths, shard.shard_id):
                self.duplicates += done.duplicates
                self.conflicts += done.conflicts
            self._keep(shard.shard_id, table)
        else:
            if not is_replaced and shard.shard_id not in census.corrupt:
                census.missing.append(shard.shard_id)
            table = self._from_parts[shard.shard_id] = parts
        unit_ids, preds = table.column("unit_id").to_pylist(), table.column("pred").to_pylist()
        for row, (unit_id, pred) in enumerate(zip(unit_ids, preds, strict=True)):
            if unit_id in self.places:
                self.duplicates += 1
                self.conflicts += self._predictions[unit_id] != pred
            else:
                self.places[unit_id] = (shard.shard_id, row)
                self._predictions[unit_id] = pred

    def take(self, unit_ids: Sequence[str]) -> pa.Table:
        """Return the rows of `unit_ids` in this order."""
        by_shard: dict[str, list[int]] = {}
        places = []
        for unit_id in unit_ids:
            shard_id, row = self.places[unit_id]
            wanted = by_shard.setdefault(shard_id, [])
            places.append((shard_id, len(wanted)))
            wanted.append(row)
        offsets, total = {}, 0
        for shard_id, wanted in by_shard.items():
            offsets[shard_id] = total
            total += len(wanted)
        picked = pa.concat_tables([self._table(shard_id).take(rows) for shard_id, rows in by_shard.items()])
        return picked.take([offsets[shard_id] + position for shard_id, position in places])

    def _table(self, shard_id: str) -> pa.Table:
        if shard_id in self._from_parts:
            return self._from_parts[shard_id]
        if shard_id not in self._published:
            table = verified_shard(self.paths, shard_id)
            if table is None:
                raise CorruptRun(f"shard {shard_id} was withdrawn while it was merged: aggregate again")
            self._keep(shard_id, table)
        self._published.move_to_end(shard_id)
        return self._published[shard_id]

    def _keep(self, shard_id: str, table: pa.Table) -> None:
        self._published[shard_id] = table
        if len(self._published) > _CACHED_SHARDS:
            self._published.popitem(last=False)


def _coverage(run: Run, census: _Census) -> Coverage:
    attempts = all_attempts(run)
    complete = not census.missing and not census.corrupt and census.found == census.planned
    return Coverage(
        complete=complete,
        units_planned=census.planned,
        units_found=census.found,
        shards_planned=len(run.shards),
        shards_done=len(census.done),
        missing=tuple(census.missing),
        corrupt=census.corrupt,
        duplicates=census.duplicates,
        conflicts=census.conflicts,
        mixtures=mixtures(run, attempts),
        left_out=left_out(attempts),
        merged_at=time.time(),
    )


def _write_csv(paths: RunPaths) -> None:
    """Write results.csv beside results.parquet, row group by row group; lists become JSON text."""
    import pyarrow.parquet as pq

    schema = result_schema()
    flat = pa.schema(
        [(name, pa.string() if pa.types.is_list(kind) else kind) for name, kind in _types(schema)]
    )
    with (
        replacing(paths.results_csv) as partial,
        pa_csv.CSVWriter(partial, flat) as writer,
        pq.ParquetFile(paths.results, page_checksum_verification=True) as file,
    ):
        for batch in file.iter_batches(ROW_GROUP_ROWS):
            columns = [_flat(column) for column in batch.columns]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=flat))


def _flat(column: pa.Array) -> pa.Array:
    """Return a list column as JSON text, any other as it is."""
    if not pa.types.is_list(column.type):
        return column
    return pa.array([json.dumps(value, ensure_ascii=False) for value in column.to_pylist()], pa.string())


def _types(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    return [(column.name, column.type) for column in schema]
