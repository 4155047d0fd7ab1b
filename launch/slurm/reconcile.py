"""What the scheduler knows and the files do not: tasks in the queue, attempts that died without a trace."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aceslm.core.errors import LaunchError
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.run.attempt_files import AttemptRecord, note_end, read_attempts
from launch.ledger import Intent, intents, submitted_arrays
from launch.slurm import client as slurm

_MAX_HALVINGS = 6


@dataclass(frozen=True, slots=True)
class SchedulerView:
    """What is in the queue for a run: shard id -> its task. `source` says who was asked."""

    source: str
    tasks: dict[str, slurm.QueuedTask]


def scheduler_view(paths: RunPaths) -> SchedulerView:
    """Ask Slurm about a run's tasks; without Slurm the files alone speak."""
    submissions = [intent for intent in intents(paths) if intent.cluster == "slurm"]
    if not submissions:
        return SchedulerView("files", {})
    try:
        found = queued_shards(paths, submissions)
    except LaunchError:
        return SchedulerView("files (the Slurm controller does not answer)", {})
    accounted = slurm.accounting(_job_ids(paths, submissions)) is not None
    return SchedulerView("squeue and sacct" if accounted else "squeue (sacct does not answer)", found)


def queued_shards(paths: RunPaths, submissions: Sequence[Intent]) -> dict[str, slurm.QueuedTask]:
    """Return the shards that are queued or running: shard id -> task.

    Raises:
        LaunchError: the controller does not answer.
    """
    by_token = {intent.token: intent for intent in submissions}
    places = {
        (array.job_id, index): intent.tasks[array.task(index)]
        for intent in submissions
        for array in submitted_arrays(paths, intent)
        for index in range(array.count)
    }
    found = {}
    for task in slurm.queue(by_token):
        for shard_id in places.get((task.job_id, task.index or 0), ()):
            found[shard_id] = task
    return found


def record_lost_attempts(paths: RunPaths, shard_ids: Iterable[str]) -> None:
    """Write the end of attempts that died without writing one, classified from sacct, else `unknown`.

    An attempt is lost when its task has been restarted since, or is no longer in the queue. Safe to repeat.
    """
    lost = [
        (shard_id, one)
        for shard_id in shard_ids
        for one in read_attempts(paths, shard_id)
        if not one.has_ended
    ]
    if not lost:
        return
    try:
        running = _running_tasks(paths)
    except LaunchError:
        return  # who is alive is not known: say nothing
    runs = slurm.accounting(
        {job for job in (AttemptName.parse(one.name).job for _, one in lost) if job.isdigit()}
    )
    for shard_id, one in lost:
        name = one.name
        if _is_alive(paths, shard_id, one, running):
            continue
        failure, elapsed_s = _classify(name, runs)
        end = {
            "attempt": str(AttemptName.parse(name)),
            "class": failure,
            "ended_at": None,
            "wall_s": elapsed_s,
            "message": f"died without a trace; class from {'sacct' if runs else 'nothing: no accounting'}",
            "recorded_at": time.time(),
        }
        note_end(paths, shard_id, name, end)


def memory_fraction(paths: RunPaths, shard_id: str) -> float:
    """Return 1, halved for every earlier attempt at this shard that ended as `oom` or `unknown`."""
    ends = [one.end.failure for one in read_attempts(paths, shard_id) if one.end]
    return 0.5 ** min(_MAX_HALVINGS, sum(end in {"oom", "unknown"} for end in ends))


def _running_tasks(paths: RunPaths) -> dict[tuple[str, int], bool]:
    """Return the Slurm tasks of this run that are in the queue: (job, index) -> True."""
    tokens = [intent.token for intent in intents(paths) if intent.cluster == "slurm"]
    if not tokens or not slurm.installed():
        return {}
    return {(task.job_id, task.index or 0): True for task in slurm.queue(tokens)}


def _is_alive(
    paths: RunPaths, shard_id: str, attempt: AttemptRecord, running: dict[tuple[str, int], bool]
) -> bool:
    mine = AttemptName.parse(attempt.name)
    if not mine.job.isdigit():  # a local worker: its process tells
        elsewhere = attempt.start is not None and attempt.start.host != socket.gethostname()
        return elsewhere or attempt.is_running
    known = [AttemptName.parse(other.name) for other in read_attempts(paths, shard_id)]
    task = (mine.job, mine.index)
    later = [other for other in known if (other.job, other.index) == task and other.restart > mine.restart]
    return not later and task in running and not _is_me_restarted(mine)


def _is_me_restarted(earlier: AttemptName) -> bool:
    """Return whether this very process is a later restart of that task."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ.get("SLURM_JOB_ID"))
    index = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    return (job, index) == (earlier.job, earlier.index) and restart > earlier.restart


def _classify(name: str, runs: Sequence[slurm.Accounted] | None) -> tuple[str, float | None]:
    one = AttemptName.parse(name)
    mine = [run for run in runs or () if run.task in {f"{one.job}_{one.index}", one.job}]
    if one.restart >= len(mine):
        return "unknown", None
    return slurm.STATE_CLASSES.get(mine[one.restart].state, "unknown"), float(mine[one.restart].elapsed_s)


def _job_ids(paths: RunPaths, submissions: Sequence[Intent]) -> list[str]:
    return [array.job_id for intent in submissions for array in submitted_arrays(paths, intent)]
