"""Shards -> results.parquet, results.csv, summaries, coverage.json. Idempotent, locked, streaming.

    coverage = merge_run(RunPaths(Path("results/quickstart-1a2b3c4d")))

Every published shard is verified (size, SHA-256, page checksums, schema) before its rows are used. What is
missing or corrupt is named; finished rows of unfinished shards are used, and the output is then marked as
partial everywhere.
"""

from __future__ import annotations

import json
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from aceslm.analysis.comparisons import compare_modes
from aceslm.analysis.costs import break_evens, cell_costs, cost_lines, cost_values
from aceslm.analysis.evolved_playbooks import evolution_figures
from aceslm.analysis.extensions import looked_at
from aceslm.analysis.preregistration import primary_sentences
from aceslm.analysis.rows import read_rows
from aceslm.analysis.scored_before import note_looks
from aceslm.analysis.summary import shard_cost, summarize
from aceslm.analysis.tables import write_summary
from aceslm.core.errors import CorruptRun, IncompleteRun
from aceslm.core.files import locked, read_json, replacing, write_json
from aceslm.core.parquet import ROW_GROUP_ROWS, read_table, result_schema, table_writer
from aceslm.core.paths import RunPaths
from aceslm.core.values import Cell, Plan, Shard
from aceslm.plan.files import require_plans
from aceslm.plan.ranges import unit_at
from aceslm.report import try_report
from aceslm.run.parts import discard_parts, read_done, read_parts, verified_shard

_CACHED_SHARDS = 8
_LOCK_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a merge found. `complete` means: every planned unit has a verified row.

    `mixtures` lists provenance that differs between attempts (commit, engine, device, dtype).
    """

    complete: bool
    units_planned: int
    units_found: int
    shards_planned: int
    shards_done: int
    missing: tuple[str, ...]
    corrupt: Mapping[str, str]
    duplicates: int
    conflicts: int
    mixtures: Mapping[str, list[str]]
    merged_at: float = 0.0


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


def merge_run(paths: RunPaths, *, report: bool = True) -> Coverage:
    """Merge a run directory, with its report unless told otherwise, and return its coverage.

    Raises:
        RunError: not a run directory.
        Locked: another merge or submission of this run is still under way after two minutes.
    """
    plans = require_plans(paths)
    with locked(paths.lock, "aceslm aggregate", wait_s=_LOCK_WAIT_S):
        census = _Census()
        with replacing(paths.results) as partial, table_writer(partial, result_schema()) as writer:
            for cell in plans[0].cells:
                for table in _cell_rows(paths, plans, cell, census):
                    writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        coverage = _coverage(paths, plans, census)
        write_json(paths.coverage, asdict(coverage))
        _write_csv(paths)
        _write_summary(paths, plans, coverage, census)
        note_looks(paths, plans)
        for shard_id in census.done:
            discard_parts(paths, shard_id)
        if report:
            try_report(paths)
    return coverage


def _write_summary(paths: RunPaths, plans: Sequence[Plan], coverage: Coverage, census: _Census) -> None:
    frame = read_rows(paths.results)
    spent, points = cell_costs(paths, plans), break_evens(paths, plans, frame)
    write_json(paths.costs, cost_values(spent, points))
    evolutions = evolution_figures(paths, plans)
    if evolutions:
        write_json(paths.evolutions, [asdict(one) for one in evolutions])
    greedy = all(cell.generation.temperature == 0 for cell in plans[0].cells)
    comparisons = compare_modes(frame, greedy=greedy, extended=looked_at(plans))
    costs = {shard_id: shard_cost(read_done(paths.done(shard_id))) for shard_id in census.done}
    write_summary(
        summarize(frame, costs, spent),
        paths.summary_csv,
        paths.summary_md,
        title=paths.root.name,
        note=None if coverage.complete else f"PARTIAL: {explain(coverage, paths)}",
        comparisons=comparisons,
        primary=[line for line, _ in primary_sentences(paths, plans, frame)],
        costs=cost_lines(plans, spent, points),
        evolutions=evolutions,
    )


def require_complete(coverage: Coverage, paths: RunPaths) -> None:
    """Raise CorruptRun or IncompleteRun unless the coverage is complete."""
    if coverage.corrupt:
        raise CorruptRun(explain(coverage, paths))
    if not coverage.complete:
        raise IncompleteRun(explain(coverage, paths))


def explain(coverage: Coverage, paths: RunPaths) -> str:
    """Say in one line what is missing or corrupt and what to type."""
    faults = []
    if coverage.corrupt:
        faults.append("; ".join(coverage.corrupt.values()))
    if coverage.missing:
        shown = ", ".join(coverage.missing[:5]) + (", ..." if len(coverage.missing) > 5 else "")
        faults.append(f"{len(coverage.missing)} of {coverage.shards_planned} shards are missing ({shown})")
    rows = f"{coverage.units_found:,} of {coverage.units_planned:,} rows"
    return f"{'; '.join(faults)} ({rows}): aceslm retry {paths.root}"


def _cell_rows(paths: RunPaths, plans: Sequence[Plan], cell: Cell, census: _Census) -> Iterator[pa.Table]:
    """Yield a cell's rows in unit order, in tables of at most a row group."""
    sources = _Sources(paths)
    replaced = {name for plan in plans for shard in plan.shards for name in shard.replaces}
    indices: set[int] = set()
    for shard in (shard for plan in plans for shard in plan.shards if shard.cell_id == cell.cell_id):
        sources.add(shard, census, is_replaced=shard.shard_id in replaced)
        indices.update(shard.indices())
    sample_ids = plans[-1].task(cell.task_digest).sample_ids
    unit_ids = [unit_at(cell, sample_ids, index).unit_id for index in sorted(indices)]
    census.planned += len(unit_ids)
    census.duplicates += sources.duplicates
    census.conflicts += sources.conflicts
    present = iter([unit_id for unit_id in unit_ids if unit_id in sources.rows])
    while block := list(islice(present, ROW_GROUP_ROWS)):
        census.found += len(block)
        yield sources.take(block)


@dataclass(slots=True)
class _Sources:
    """The shards of one cell: where each unit's row is, with a few published tables in memory at a time.

    Rows read from parts stay in memory: a worker may add parts or publish the shard while it is merged, and
    a second reading would then have its rows at other places. A published shard never changes.
    """

    paths: RunPaths
    rows: dict[str, tuple[str, int]] = field(default_factory=dict)
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
            done = read_done(self.paths.done(shard.shard_id))
            self.duplicates += done.get("duplicates", 0)
            self.conflicts += done.get("conflicts", 0)
            self._keep(shard.shard_id, table)
        else:
            if not is_replaced and shard.shard_id not in census.corrupt:
                census.missing.append(shard.shard_id)
            table = self._from_parts[shard.shard_id] = parts
        unit_ids, preds = table.column("unit_id").to_pylist(), table.column("pred").to_pylist()
        for row, (unit_id, pred) in enumerate(zip(unit_ids, preds, strict=True)):
            if unit_id in self.rows:
                self.duplicates += 1
                self.conflicts += self._predictions[unit_id] != pred
            else:
                self.rows[unit_id] = (shard.shard_id, row)
                self._predictions[unit_id] = pred

    def take(self, unit_ids: Sequence[str]) -> pa.Table:
        """Return the rows of `unit_ids` in this order."""
        by_shard: dict[str, list[int]] = {}
        places = []
        for unit_id in unit_ids:
            shard_id, row = self.rows[unit_id]
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


def _coverage(paths: RunPaths, plans: Sequence[Plan], census: _Census) -> Coverage:
    complete = not census.missing and not census.corrupt and census.found == census.planned
    return Coverage(
        complete=complete,
        units_planned=census.planned,
        units_found=census.found,
        shards_planned=sum(len(plan.shards) for plan in plans),
        shards_done=len(census.done),
        missing=tuple(census.missing),
        corrupt=census.corrupt,
        duplicates=census.duplicates,
        conflicts=census.conflicts,
        mixtures=mixtures(paths, plans),
        merged_at=time.time(),
    )


def mixtures(paths: RunPaths, plans: Sequence[Plan]) -> dict[str, list[str]]:
    """Return every provenance key that takes more than one value over the attempts of a run."""
    seen: dict[str, Counter[str]] = {}
    for shard in (shard for plan in plans for shard in plan.shards):
        folder = paths.attempts(shard.shard_id)
        for path in sorted(folder.glob("*.started.json")) if folder.is_dir() else []:
            provenance = read_json(path).get("provenance", {})
            for key in ("commit", "dirty", "code", "aceslm", "python"):
                seen.setdefault(key, Counter())[str(provenance.get(key))] += 1
            for package, version in provenance.get("packages", {}).items():
                seen.setdefault(package, Counter())[version] += 1
    columns = ["engine", "device", "dtype"]
    table = read_table(paths.results, columns)
    for column in columns:
        for value in pc.unique(table.column(column)).to_pylist():
            if value is not None:
                seen.setdefault(column, Counter())[str(value)] += 1
    return {key: sorted(values) for key, values in sorted(seen.items()) if len(values) > 1}


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
