"""Hours and joules of all attempts at every cell, lost ones apart.

spent = cell_costs(run)          # cell id -> Spent
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Shard
from aceslm.run.attempt_files import AttemptRecord, End, Start, read_attempts
from aceslm.run.failures import KEPT_CLASSES


@dataclass(frozen=True, slots=True)
class Spent:
    """What all attempts at a cell took; `failed_*` is the part of attempts that ended without keeping rows.

    `energy_j` is None unless every attempt that ended was measured. `uncounted_attempts` have ended too, but
    their files are damaged or missing: their hours are not in these.
    """

    core_hours: float = 0.0
    gpu_hours: float = 0.0
    failed_core_hours: float = 0.0
    failed_gpu_hours: float = 0.0
    energy_j: float | None = None
    uncounted_attempts: int = 0

    def __add__(self, other: Spent) -> Spent:
        known = self.energy_j is not None and other.energy_j is not None
        return Spent(
            self.core_hours + other.core_hours,
            self.gpu_hours + other.gpu_hours,
            self.failed_core_hours + other.failed_core_hours,
            self.failed_gpu_hours + other.failed_gpu_hours,
            (self.energy_j or 0.0) + (other.energy_j or 0.0) if known else None,
            self.uncounted_attempts + other.uncounted_attempts,
        )


def cell_costs(run: Run) -> dict[str, Spent]:
    """Add up what the ended attempts at each cell took; one still at work counts when it has ended."""
    found: dict[str, list[Spent]] = {cell.cell_id: [] for cell in run.cells}
    for shard in run.shards:
        found[shard.cell_id] += [_spent(one) for one in read_attempts(run.paths, shard.shard_id)]
    return {cell_id: total(attempts) for cell_id, attempts in found.items()}


def total(costs: Sequence[Spent]) -> Spent:
    """Add costs up; the energy of nothing at all is not known."""
    return sum(costs, Spent(energy_j=0.0)) if costs else Spent()


def whole_cost(spent: Mapping[str, Spent]) -> Spent:
    """Add up what all cells of a run took; a cell that no attempt has begun adds nothing."""
    return total([one for one in spent.values() if one != Spent()])


def ended_attempts(paths: RunPaths, shard: Shard) -> Iterator[tuple[Start, End]]:
    """Yield the attempts that ended and of which both files can be read."""
    for one in read_attempts(paths, shard.shard_id):
        if one.start and one.end:
            yield one.start, one.end


def _spent(attempt: AttemptRecord) -> Spent:
    start, end = attempt.start, attempt.end
    if start is None or end is None:
        return Spent(energy_j=0.0, uncounted_attempts=int(attempt.has_ended or not attempt.is_running))
    cores, gpus = end.wall_h * start.cpus, end.wall_h * gpus_of(start, end)
    lost = end.failure not in KEPT_CLASSES
    return Spent(cores, gpus, cores if lost else 0.0, gpus if lost else 0.0, end.energy_j)


def gpus_of(start: Start, end: End) -> float:
    """Return the GPUs of an attempt; one that computed on a GPU which no variable named had one."""
    return start.gpus or float(str(end.engine.get("device", "")).startswith("cuda"))
