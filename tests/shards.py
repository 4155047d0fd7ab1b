"""Working on one shard, and merging, from a test: what does not matter to the test is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aceslm.aggregate import aggregate
from aceslm.analysis.analysed import analyse
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Cell, Plan, Shard
from aceslm.plan.files import read_run
from aceslm.report import Made, write_report
from aceslm.results.coverage import Coverage
from aceslm.run.shard import Outcome, run_shard
from aceslm.run.work import Worker


def work_shard(
    paths: RunPaths,
    plan: Plan,
    shard: Shard,
    engine_for: Callable[[Cell], Any],
    name: AttemptName,
    **worker: Any,
) -> Outcome:
    """Run what is missing of one shard of `plan`; further keywords are fields of `Worker`."""
    return run_shard(Run(paths, (plan,)), shard, Worker(name, engine_for, **worker))


def merged(paths: RunPaths, *, report: bool = True) -> Coverage:
    """Aggregate a run without telling W&B; return what the merge found."""
    return aggregate(paths, report=report, tell=False).coverage


def reported(paths: RunPaths, **options: Any) -> Made:
    """Write the report of a merged run."""
    run = read_run(paths)
    return write_report(run, analyse(run), **options)
