"""A run's shards -> results, tables, report, W&B: the one aggregation. Idempotent, at any time.

made = aggregate(RunPaths(Path("results/quickstart-1a2b3c4d")))
made.coverage, made.analysed, made.told
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aceslm.analysis.analysed import Analysed, analyse, write_tables
from aceslm.analysis.scored_before import note_looks
from aceslm.core.files import locked
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.plan.files import read_run
from aceslm.report import try_report
from aceslm.results.coverage import Coverage, explain, require_complete
from aceslm.results.merge import merge_shards
from aceslm.run.parts import discard_parts
from aceslm.tracking.aggregate import Told, track_run

_LOCK_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Aggregated:
    """What one aggregation found and made, and how many W&B runs it told."""

    run: Run
    coverage: Coverage
    analysed: Analysed
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
        analysed = analyse(run)
        partial = not merged.coverage.complete
        write_tables(run, analysed, f"PARTIAL: {explain(merged.coverage, paths)}" if partial else None)
        note_looks(run)
        for shard_id in merged.done:
            discard_parts(paths, shard_id)
        if report:
            try_report(run, analysed)
    made = Aggregated(run, merged.coverage, analysed, Told())
    return tell_wandb(made) if tell else made


def tell_wandb(made: Aggregated) -> Aggregated:
    """Tell W&B about a merged run; no fault of it is an error."""
    return replace(made, told=track_run(made.run, made.analysed))
