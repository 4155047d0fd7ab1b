"""Which tasks of a run were extended after their rows had been looked at, read from its plans.

    extended = looked_at(plans)        # task -> samples that were scored before more were added

A plan is written by one submission; its aggregation shows what it answered. A later plan over further samples
is a second look at the same question: two looks at p <= 0.05 find a difference that is not there in up to
one case of twelve. Plans over units that failed, or were split anew, add no sample and are no second look;
nor is what follows a pilot, whose rows nobody was shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from aceslm.core.values import Plan
from aceslm.plan.cells import is_adaptation


def looked_at(plans: Sequence[Plan]) -> dict[str, int]:
    """Return for each task that was extended the number of samples of the first plan."""
    first: dict[str, int] = {}
    samples: dict[str, set[int]] = {}
    measured: dict[str, set[int]] = {}  # by pilots that no look has followed yet
    for plan in plans:
        met: dict[str, set[int]] = {}
        for shard in plan.shards:
            cell = plan.cell(shard.cell_id)
            if not is_adaptation(cell):
                size = len(plan.task(cell.task_digest).sample_ids)
                met.setdefault(cell.task_name, set()).update(index % size for index in shard.indices())
        if plan.is_pilot:
            for task, found in met.items():
                measured.setdefault(task, set()).update(found)
            continue
        for task, answered in met.items():
            known, found = samples.setdefault(task, set()), answered | measured.pop(task, set())
            if known and not found <= known:
                first.setdefault(task, len(known))
            known |= found
    return first


def declared_ids(plans: Sequence[Plan], task_name: str, num_samples: int) -> tuple[str, ...]:
    """Return the ids of the first so many scored samples of a task: a limit takes them from the front."""
    for cell in plans[0].cells:
        if cell.task_name == task_name and not is_adaptation(cell):
            return plans[0].task(cell.task_digest).sample_ids[:num_samples]
    return ()
