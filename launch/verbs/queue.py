"""What the scheduler says about a run, beside what its files say."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launch.slurm.reconcile import SchedulerView


def show_queue(view: SchedulerView) -> None:
    """Print the queue's states, with reasons and expected start, and who was asked."""
    from launch.show.console import say

    states = Counter(task.state.lower() for task in view.tasks.values())
    for state, count in sorted(states.items()):
        tasks = [task for task in view.tasks.values() if task.state.lower() == state]
        reasons = Counter(task.reason for task in tasks if task.reason not in {"None", ""})
        why = ", ".join(f"{reason} x{number}" for reason, number in reasons.most_common(3))
        starts = sorted(task.start for task in tasks if state == "pending" and task.start not in {"N/A", ""})
        expected = f"; first expected at {starts[0]}" if starts else ""
        say(f"{count} shards {state}{f' ({why})' if why else ''}{expected}")
    say(f"source: {view.source}")


def queue_json(view: SchedulerView) -> dict[str, dict[str, str]]:
    """Return shard id -> its task in the queue."""
    return {
        shard_id: {
            "task": task.job_id if task.index is None else f"{task.job_id}_{task.index}",
            "state": task.state,
            "reason": task.reason,
            "start": task.start,
            "nodes": task.nodes,
        }
        for shard_id, task in view.tasks.items()
    }
