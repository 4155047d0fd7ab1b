"""A run's shards -> results, tables, report, W&B: the one aggregation. Idempotent, at any time.

made = aggregate(RunPaths(Path("results/quickstart-1a2b3c4d")))
made.coverage, made.told
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from aceslm.analysis.break_even import break_evens
from aceslm.analysis.comparisons import compare_modes
from aceslm.analysis.costs import cost_lines, cost_values
from aceslm.analysis.evolved_playbooks import evolution_figures
from aceslm.analysis.extensions import looked_at
from aceslm.analysis.preregistration import primary_sentences
from aceslm.analysis.rows import read_rows
from aceslm.analysis.scored_before import note_looks
from aceslm.analysis.spent import cell_costs
from aceslm.analysis.summary import shard_cost, summarize
from aceslm.analysis.tables import write_summary
from aceslm.core.files import locked, write_json
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.plan.files import read_run
from aceslm.report import try_report
from aceslm.results.coverage import Coverage, explain, require_complete
from aceslm.results.merge import MergedShards, merge_shards
from aceslm.run.done import timings_of
from aceslm.run.parts import discard_parts
from aceslm.tracking.aggregate import Told, track_run

_LOCK_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Aggregated:
    """What one aggregation made, and how many W&B runs it told."""

    run: Run
    coverage: Coverage
    told: Told

    def require_complete(self) -> None:
        """Raise CorruptRun or IncompleteRun unless every planned unit has a sound row."""
        require_complete(self.coverage, self.run.paths)


def aggregate(paths: RunPaths, *, report: bool = True, tell: bool = True) -> Aggregated:
    """Merge a run, compute its figures, write tables and report, tell W&B.

    Missing or corrupt shards are no error here: `coverage` names them, and every output says that it is
    partial (`Aggregated.require_complete`).

    Raises:
        RunError: not a run directory.
        Locked: another merge or submission of this run is still under way after two minutes.
    """
    run = read_run(paths)
    with locked(paths.lock, "aceslm aggregate", wait_s=_LOCK_WAIT_S):
        merged = merge_shards(run)
        _write_summary(run, merged)
        note_looks(paths, run.plans)
        for shard_id in merged.done:
            discard_parts(paths, shard_id)
        if report:
            try_report(paths)
    return Aggregated(run, merged.coverage, track_run(paths) if tell else Told())


def _write_summary(run: Run, merged: MergedShards) -> None:
    paths, plans, coverage = run.paths, run.plans, merged.coverage
    frame = read_rows(paths.results)
    spent, points = cell_costs(paths, plans), break_evens(paths, plans, frame)
    write_json(paths.costs, cost_values(spent, points))
    evolutions = evolution_figures(paths, plans)
    if evolutions:
        write_json(paths.evolutions, [asdict(one) for one in evolutions])
    comparisons = compare_modes(frame, greedy=run.greedy, extended=looked_at(plans))
    costs = {shard_id: shard_cost(timings_of(paths, shard_id)) for shard_id in merged.done}
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
