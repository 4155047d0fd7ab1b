"""Which shards a retry means, and spreading what is left of them over new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aceslm.core.errors import UsageError, nearest
from aceslm.core.files import locked
from aceslm.core.paths import RunPaths
from aceslm.core.values import Shard
from aceslm.plan.files import load_plans, save_plan
from aceslm.plan.ranges import as_ranges, unit_at
from aceslm.plan.shards import unfinished
from aceslm.results.status import run_status
from aceslm.run.parts import finished_units
from launch.ledger import intents
from launch.slurm.reconcile import queued_shards


def choose_shards(paths: RunPaths, *, failed: bool, missing: bool, names: Sequence[str]) -> list[Shard]:
    """Return the unfinished shards that a retry is about; all of them without a choice.

    Raises:
        UsageError: an unknown shard, or choices that exclude each other.
    """
    if failed and missing:
        raise UsageError("--failed and --missing exclude each other; without either, both are retried")
    plans = load_plans(paths)
    open_shards = unfinished(paths, plans)
    known = [shard.shard_id for plan in plans for shard in plan.shards]
    for name in names:
        if name not in known:
            raise UsageError(
                f"--shard: this run has no shard '{name}'{nearest(name, known) if len(known) < 50 else ''}"
            )
    if names:
        open_shards = [shard for shard in open_shards if shard.shard_id in names]
    if failed or missing:
        state = "failed" if failed else "missing"
        wanted = {shard.shard_id for shard in run_status(paths, plans).shards(state)}
        open_shards = [shard for shard in open_shards if shard.shard_id in wanted]
    return open_shards


def split_shards(paths: RunPaths, shards: Sequence[Shard], pieces: int) -> list[Shard]:
    """Add a plan that spreads the unanswered units of `shards` over `pieces` new shards each.

    Queued shards are left alone. The rows that a replaced shard already has keep counting.
    """
    with locked(paths.lock, "aceslm retry --split", wait_s=60):
        plans = load_plans(paths)
        submissions = [intent for intent in intents(paths) if intent.cluster == "slurm"]
        queued = queued_shards(paths, submissions) if submissions else {}
        number = len(plans) + 1
        made: list[Shard] = []
        for shard in shards:
            if shard.shard_id in queued:
                continue
            cell = plans[0].cell(shard.cell_id)
            if cell.evolves:
                raise UsageError(f"shard {shard.shard_id} cannot be split: its rounds follow one another")
            sample_ids = plans[-1].task(cell.task_digest).sample_ids
            units = {unit_at(cell, sample_ids, index).unit_id: index for index in shard.indices()}
            finished = finished_units(paths, shard.shard_id, set(units))
            left = [index for unit_id, index in units.items() if unit_id not in finished]
            size = -(-len(left) // pieces) or 1
            for start in range(0, len(left), size):
                name = f"{shard.shard_id.split('-')[0]}-p{number:02d}-{len(made):04d}"
                ranges = as_ranges(left[start : start + size])
                made.append(Shard(name, shard.cell_id, ranges, (shard.shard_id,), shard.needs))
        if made:
            save_plan(paths, replace(plans[-1], number=number, shards=tuple(made)))
    return made
