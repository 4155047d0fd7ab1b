"""Submitting to Slurm as a transaction: everything held -> jobs file -> release; or nothing at all.

A launcher that dies in between leaves held jobs that `recover` finds by their name (the intent's token):
before the jobs file they are cancelled, after it they are released.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aceslm.config.cluster import ClusterProfile
from aceslm.core.errors import AceslmError, LaunchError
from aceslm.core.paths import RunPaths
from launch.ledger import Intent, intents, write_jobs
from launch.node.task import ShardTask
from launch.slurm import client as slurm
from launch.submit.arrays import ArrayPlan, Layout
from launch.submit.launcher import Started
from launch.submit.sbatch import aggregation_parameters, executor, one_rank, parameters

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Submission:
    """What is submitted under one intent: arrays and the callable that merges them, with their log folder."""

    paths: RunPaths
    intent: Intent
    plan: Layout
    profile: ClusterProfile
    folder: Path
    aggregation: Callable[[], None]


def submit_held(submission: Submission, elsewhere: Sequence[Sequence[str]]) -> Started:
    """Submit arrays and aggregation held, write down their ids, release them.

    Args:
        elsewhere: for each array, jobs of earlier submissions that it has to wait for.

    Raises:
        LaunchError: Slurm refuses; then nothing stays submitted.
    """
    paths, intent, plan = submission.paths, submission.intent, submission.plan
    try:
        submission.folder.mkdir(parents=True, exist_ok=True)
        jobs: list[dict[str, Any]] = []
        for array, others in zip(plan.arrays, elsewhere, strict=True):
            before = [*(str(jobs[n]["job_id"]) for n in array.after), *others]
            jobs.append(_submit_array(submission, array, "afterany:" + ":".join(before) if before else None))
        ids = [str(job["job_id"]) for job in jobs]
        aggregation_id = _submit_aggregation(submission, "afterany:" + ":".join(ids))
        facts = {"slurm": slurm.version(), "folder": submission.folder.name}
        write_jobs(paths, intent, jobs, aggregation=aggregation_id, **facts)
        slurm.release([*ids, aggregation_id])
    except BaseException as error:
        _undo(paths, intent)
        if isinstance(error, AceslmError) or not isinstance(error, Exception):
            raise
        raise LaunchError(f"nothing was submitted: {_reason(error, submission.folder)}") from error
    shards = sum(len(task) for task in plan.tasks)
    return Started(intent.number, len(plan.tasks), shards, tuple(ids), aggregation_id, plan.num_waiting)


def recover(paths: RunPaths) -> None:
    """Clear up after launchers that died while submitting (the caller holds the run's lock)."""
    pending = [intent for intent in intents(paths) if intent.cluster == "slurm"]
    if not pending:
        return
    queued = slurm.queue(intent.token for intent in pending)
    for intent in pending:
        mine = [task for task in queued if task.name == intent.token]
        if not paths.jobs(intent.number).exists():
            if mine:
                log.warning("cancelling %d jobs of an interrupted submission (%s)", len(mine), intent.token)
                slurm.cancel_by_name(intent.token)
            write_jobs(paths, intent, [], abandoned=True)
        elif held := sorted({task.job_id for task in mine if task.reason == "JobHeldUser"}):
            log.warning("releasing %d jobs of an interrupted submission (%s)", len(held), intent.token)
            slurm.release(held)


def _submit_array(submission: Submission, array: ArrayPlan, dependency: str | None) -> dict[str, Any]:
    intent, profile = submission.intent, submission.profile
    values = parameters(
        array.resources, profile, intent.token, parallel=array.parallel, dependency=dependency
    )
    root = str(submission.paths.root.resolve())
    tasks = [ShardTask(root, intent.number, array.first + n) for n in range(array.count)]
    with slurm.clean_environment():
        (first, *_) = executor(values, submission.folder, profile).submit_array(tasks)
    return {
        "job_id": first.job_id.split("_")[0],
        "first": array.first,
        "count": array.count,
        "sbatch": first.paths.submission_file.read_text(encoding="utf-8"),
    }


def _submit_aggregation(submission: Submission, dependency: str) -> str:
    profile = one_rank(submission.profile)
    values = aggregation_parameters(profile, submission.intent.token, dependency)
    with slurm.clean_environment():
        job = executor(values, submission.folder, profile).submit(submission.aggregation)
    return str(job.job_id)


def _undo(paths: RunPaths, intent: Intent) -> None:
    """Cancel whatever was submitted under this token; what cannot be reached now, `recover` finds later."""
    try:
        slurm.cancel_by_name(intent.token)
    except LaunchError as error:
        log.warning("could not cancel %s (%s); the next `aceslm retry` does", intent.token, error)
        return
    if not paths.jobs(intent.number).exists():
        write_jobs(paths, intent, [], abandoned=True)


def _reason(error: Exception, folder: Path) -> str:
    if isinstance(error, OSError):
        return f"cannot write the log folder {folder}: {error.strerror or error}"
    return slurm.first_error(str(error))
