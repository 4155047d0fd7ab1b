"""Working on one shard from a test: the plan's run, and a worker made of what matters to the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Cell, Plan, Shard
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
