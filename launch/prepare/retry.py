"""Which shards a retry means, and spreading what is left of them over new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aceslm.core.errors import UsageError, nearest
from aceslm.core.files import locked
from aceslm.core.run import Run
from aceslm.core.values import Shard
from aceslm.plan.files import read_run, save_plan
from aceslm.plan.ranges import Ranges, as_ranges, unit_at
from aceslm.results.status import run_status
from aceslm.run.done import unfinished
from aceslm.run.parts import finished_units
from launch.ledger import intents
from launch.slurm.reconcile import queued_shards


def choose_shards(run: Run, *, failed: bool, missing: bool, names: Sequence[str]) -> list[Shard]:
    """Return the unfinished shards that a retry is about; all of them without a choice.

    Raises:
        UsageError: an unknown shard, or choices that exclude each other.
    """
    if failed and missing:
        raise UsageError("--failed and --missing exclude each other; without either, both are retried")
    known = [shard.shard_id for shard in run.shards]
    for name in names:
        if name not in known:
            raise UsageError(
                f"--shard: this run has no shard '{name}'{nearest(name, known) if len(known) < 50 else ''}"
            )
    chosen = unfinished(run)
    if names:
        chosen = [shard for shard in chosen if shard.shard_id in names]
    if failed or missing:
        meant = {one.shard_id for one in run_status(run).shards("failed" if failed else "missing")}
        chosen = [shard for shard in chosen if shard.shard_id in meant]
    return chosen


def split_shards(run: Run, shards: Sequence[Shard], pieces: int) -> tuple[Run, list[Shard]]:
    """Add a plan that spreads the unanswered units of `shards` over `pieces` new shards each.

    Queued shards are left alone. The rows that a replaced shard already has keep counting. Returns the run
    with that plan, and the new shards.
    """
    paths = run.paths
    with locked(paths.lock, "aceslm retry --split", wait_s=60):
        run = read_run(paths)  # another command may have planned meanwhile
        submissions = [intent for intent in intents(paths) if intent.cluster == "slurm"]
        queued = queued_shards(paths, submissions) if submissions else {}
        number = len(run.plans) + 1
        made: list[Shard] = []
        for shard in shards:
            if shard.shard_id in queued:
                continue
            for ranges in _left_over(run, shard, pieces):
                name = f"{shard.shard_id.split('-')[0]}-p{number:02d}-{len(made):04d}"
                made.append(Shard(name, shard.cell_id, ranges, (shard.shard_id,), shard.needs))
        if not made:
            return run, made
        plan = replace(run.plans[-1], number=number, shards=tuple(made), is_pilot=False)
        save_plan(paths, plan)
    return Run(paths, (*run.plans, plan)), made


def _left_over(run: Run, shard: Shard, pieces: int) -> list[Ranges]:
    """Return the units of a shard that no part holds, in at most `pieces` portions."""
    cell = run.cell(shard.cell_id)
    if cell.evolves:
        raise UsageError(f"shard {shard.shard_id} cannot be split: its rounds follow one another")
    sample_ids = run.task(cell.task_digest).sample_ids
    units = {unit_at(cell, sample_ids, index).unit_id: index for index in shard.indices()}
    finished = finished_units(run.paths, shard.shard_id, set(units))
    left = [index for unit_id, index in units.items() if unit_id not in finished]
    size = -(-len(left) // pieces) or 1
    return [as_ranges(left[start : start + size]) for start in range(0, len(left), size)]
