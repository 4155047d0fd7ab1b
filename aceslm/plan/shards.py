"""Cells and samples -> Plan: shards, and what is still to be planned.

    cells = expand(grid, models, tasks)
    plan = next_plan(grid, cells, tables, earlier)

Pure (`plan.files` reads and writes). A plan is written once and never changed: a larger limit or a
split adds a further plan over the units that no earlier one covers. What must come before a shard stands in
its `needs`: the evolution of the playbook that it carries, or the epoch before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aceslm.config.grid import GridConfig
from aceslm.core.errors import ConfigError
from aceslm.core.values import Cell, Plan, Resources, Shard, TaskTable
from aceslm.plan.cells import is_adaptation
from aceslm.plan.ranges import Ranges, as_ranges, chunks, subtract, wanted_ranges

DEFAULT_SHARD_SIZE = 64


MAX_SHARDS = 4000  # more entries than this in one folder make a parallel file system slow


def next_plan(
    grid: GridConfig,
    cells: Sequence[Cell],
    tasks: Sequence[TaskTable],
    earlier: Sequence[Plan],
    resources: Mapping[str, Resources] | None = None,
    shard_sizes: Mapping[str, int] | None = None,
) -> Plan | None:
    """Return a plan over the wanted units that no earlier plan covers; None when there are none.

    Args:
        shard_sizes: cell id -> samples a shard, where it was measured; a size of 0 leaves the cell out.
    """
    number = len(earlier) + 1
    ordered = earlier[0].cells if earlier else tuple(cells)
    by_digest = {task.task_digest: task for task in tasks}
    before = [shard for plan in earlier for shard in plan.shards]
    shards: list[Shard] = []
    for index, cell in enumerate(ordered):
        table = by_digest[cell.task_digest]
        wanted = wanted_ranges(len(table.sample_ids), cell.epochs, _limit(cell, grid))
        covered = [part for shard in before if shard.cell_id == cell.cell_id for part in shard.ranges]
        missing = subtract(wanted, covered)
        name = f"c{index:03d}-p{number:02d}"
        size = (shard_sizes or {}).get(cell.cell_id, grid.shard_size or DEFAULT_SHARD_SIZE)
        if not size:
            continue
        if cell.evolves:  # each round needs the one before: one shard, or one a worker and epoch
            shards += _evolving_shards(name, cell, table, missing)
            continue
        needs = _carried_from(cell, [*before, *shards])
        shards += [
            Shard(f"{name}-{n:04d}", cell.cell_id, ranges, needs=needs)
            for n, ranges in enumerate(chunks(missing, size))
        ]
    if not shards:
        return None
    if len(shards) > MAX_SHARDS:
        size = max(shard.num_units for shard in shards) * -(-len(shards) // MAX_SHARDS)
        raise ConfigError(
            f"this grid makes {len(shards):,} shards, more than {MAX_SHARDS:,}: --set shard_size={size}"
        )
    return Plan(number, grid.name, ordered, tuple(shards), tuple(tasks), resources or {})


def _limit(cell: Cell, grid: GridConfig) -> int | None:
    return cell.playbook_settings.adapt_samples if is_adaptation(cell) else grid.limit


def _carried_from(cell: Cell, shards: Iterable[Shard]) -> tuple[str, ...]:
    """Return the shards that end the evolutions whose playbooks a cell carries."""
    sources = {cell.adaptation, cell.donor} - {""}
    ends: dict[str, str] = {}
    for shard in shards:
        if shard.cell_id in sources and (shard.step == "merge" or shard.worker is None):
            ends[shard.cell_id] = shard.shard_id  # the last one: an evolution's shards stand in order
    return tuple(sorted(ends.values()))


def _evolving_shards(name: str, cell: Cell, table: TaskTable, missing: Ranges) -> list[Shard]:
    """Return one shard over all rounds; with K workers K shards an epoch, and one that merges them.

    An epoch's workers need the merge of the epoch before, a merge needs its workers.
    """
    if not missing:
        return []
    workers = cell.playbook_settings.workers
    if workers == 1:
        return [Shard(f"{name}-0000", cell.cell_id, missing, step="evolve")]
    made: list[Shard] = []
    needs: tuple[str, ...] = ()
    for epoch, (start, stop) in enumerate(_epochs(missing, len(table.sample_ids))):
        offset = epoch * len(table.sample_ids)
        dealt = deal([_context(table, index - offset) for index in range(start, stop)], workers)
        members = [
            Shard(
                f"{name}-e{epoch + 1:02d}w{worker + 1:02d}",
                cell.cell_id,
                as_ranges(start + position for position in positions),
                needs=needs,
                step="evolve",
                epoch=epoch,
                worker=worker,
            )
            for worker, positions in enumerate(dealt)
            if positions
        ]
        merge = Shard(
            f"{name}-e{epoch + 1:02d}",
            cell.cell_id,
            (),
            needs=tuple(shard.shard_id for shard in members),
            step="merge",
            epoch=epoch,
        )
        made += [*members, merge]
        needs = (merge.shard_id,)
    return made


def _epochs(ranges: Ranges, num_samples: int) -> Ranges:
    """Cut ranges at the ends of epochs."""
    return tuple(
        (max(low, epoch * num_samples), min(high, (epoch + 1) * num_samples))
        for low, high in ranges
        for epoch in range(low // num_samples, -(-high // num_samples))
    )


def _context(table: TaskTable, position: int) -> str:
    named = table.context_ids[position] if table.context_ids else ""
    return f"context {named}" if named else f"sample {table.sample_ids[position]}"


def deal(contexts: Sequence[str], workers: int) -> list[list[int]]:
    """Deal positions to workers by whole contexts, each context to the worker with the fewest so far.

    >>> deal(["a", "a", "b", "c"], 2)
    [[0, 1], [2, 3]]
    """
    hands: list[list[int]] = [[] for _ in range(workers)]
    members: dict[str, list[int]] = {}
    for position, context in enumerate(contexts):
        members.setdefault(context, []).append(position)
    for positions in members.values():
        min(hands, key=len).extend(positions)
    return [sorted(hand) for hand in hands]


def levels(shards: Sequence[Shard]) -> dict[str, int]:
    """Return shard id -> stage: 0 needs none of these shards, n needs one of stage n - 1.

    What a shard needs beyond `shards` does not count: it has ended, or somebody else runs it.
    """
    by_id = {shard.shard_id: shard for shard in shards}
    found: dict[str, int] = {}

    def level(name: str) -> int:
        if name not in found:
            found[name] = max((level(one) + 1 for one in by_id[name].needs if one in by_id), default=0)
        return found[name]

    return {name: level(name) for name in by_id}
