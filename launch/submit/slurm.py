"""Submitting to Slurm as a transaction: intent -> everything held -> jobs file -> release.

A launcher that dies in between leaves held jobs that `recover` finds by their name (the intent's token):
before the jobs file they are cancelled, after it they are released.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aceslm.config.cluster import ClusterProfile, cluster_profile
from aceslm.core.errors import AceslmError, LaunchError
from aceslm.core.files import locked
from aceslm.core.paths import RunPaths
from aceslm.core.values import Shard
from aceslm.plan.files import load_plans
from aceslm.plan.shards import unfinished
from aceslm.results.status import is_done
from launch.ledger import (
    Intent,
    WorkerOptions,
    intents,
    is_abandoned,
    read_intent,
    refuse_mixture,
    write_intent,
    write_jobs,
)
from launch.node.log_files import log_to_stdout
from launch.node.task import ShardTask
from launch.prepare.targets import rates_of_run
from launch.slurm import client as slurm
from launch.slurm.reconcile import queued_shards, record_lost_attempts
from launch.submit.arrays import (
    ArrayPlan,
    Layout,
    check_limits,
    executor,
    layout,
    parameters,
    sbatch_text,
)

log = logging.getLogger(__name__)

AGGREGATION = {"cpus": 1, "mem_gb": 4, "gpus": 0, "time_min": 30}
_LOCK_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class AggregateTask:
    """The callable of the aggregation job: merges, sends the next wave, fails when rows are missing."""

    root: str
    submission: int

    def __call__(self) -> None:
        """Merge the run; submit what did not fit into the queue before."""
        from aceslm.results.merge import merge_run, require_complete
        from aceslm.tracking.aggregate import track_run

        log_to_stdout()
        paths = RunPaths(Path(self.root))
        intent = read_intent(paths, self.submission)
        record_lost_attempts(paths, [name for task in intent.tasks for name in task])
        coverage = merge_run(paths)
        if next_wave(paths, intent):
            return
        track_run(paths)
        require_complete(coverage, paths)


@dataclass(frozen=True, slots=True)
class SlurmLaunch:
    """How a run goes to Slurm; never part of a result's identity.

    `is_next_wave`: an aggregation sends what an earlier submission held back, by the code it runs itself.
    """

    profile_name: str
    profile: ClusterProfile
    options: WorkerOptions
    allow_mixed: bool = False
    logs: Path = Path("logs")
    is_next_wave: bool = False


@dataclass(frozen=True, slots=True)
class Submission:
    """What was submitted: job ids, counts, and what must wait for a later wave."""

    number: int
    job_ids: tuple[str, ...]
    aggregation_id: str
    num_tasks: int
    num_shards: int
    num_waiting: int


def submit_missing(
    paths: RunPaths, launch: SlurmLaunch, shards: Sequence[Shard] | None = None
) -> Submission | None:
    """Submit every planned shard that is neither done nor in the queue; None when there is none.

    Raises:
        LaunchError: Slurm refuses; then nothing stays submitted.
        MixedRun: the code changed since the run began.
    """
    slurm.require()
    with locked(paths.lock, "aceslm submit", wait_s=_LOCK_WAIT_S):
        recover(paths)
        plans = load_plans(paths)
        submissions = [intent for intent in intents(paths) if intent.cluster == "slurm"]
        queued = queued_shards(paths, submissions)
        candidates = unfinished(paths, plans) if shards is None else shards
        wanted = [s for s in candidates if s.shard_id not in queued and not is_done(paths, s.shard_id)]
        if not wanted:
            return None
        record_lost_attempts(paths, [shard.shard_id for shard in wanted])
        if not (launch.allow_mixed or launch.is_next_wave):
            refuse_mixture(paths, launch.options)
        plan = layout(
            plans, wanted, launch.profile, rates_of_run(paths, plans, launch.profile, launch.options)
        )
        check_limits(plan.arrays, launch.profile)
        intent = write_intent(
            paths,
            "slurm",
            plan.tasks,
            launch.options,
            profile=launch.profile_name,
            max_requeues=launch.profile.max_requeues,
            time_min=min(array.resources["time_min"] for array in plan.arrays),
            signal_delay_s=launch.profile.signal_delay_s,
            allow_mixed=launch.allow_mixed,
        )
        return _transaction(paths, launch, intent, plan, _jobs_elsewhere(plan, wanted, queued))


def _jobs_elsewhere(
    plan: Layout, shards: Sequence[Shard], queued: Mapping[str, slurm.QueuedTask]
) -> list[list[str]]:
    """Return, for each array, the jobs of earlier submissions that still work on what it needs."""
    needs = {shard.shard_id: shard.needs for shard in shards}
    return [
        sorted(
            {
                queued[one].job_id
                for task in plan.tasks[array.first : array.first + array.count]
                for name in task
                for one in needs[name]
                if one in queued
            }
        )
        for array in plan.arrays
    ]


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


def next_wave(paths: RunPaths, intent: Intent) -> bool:
    """Submit the shards that no submission has held yet; return whether there were any."""
    held = [each for each in intents(paths) if not is_abandoned(paths, each)]
    known = {name for each in held for task in each.tasks for name in task}
    waiting = [shard for shard in unfinished(paths, load_plans(paths)) if shard.shard_id not in known]
    if not waiting or intent.profile is None:
        return False
    profile = cluster_profile(intent.profile)
    launch = SlurmLaunch(intent.profile, profile, intent.options, intent.allow_mixed, is_next_wave=True)
    return submit_missing(paths, launch, waiting) is not None


def dry_run_texts(plan: Layout, launch: SlurmLaunch, name: str, folder: Path) -> list[str]:
    """Return the sbatch text of every array and of the aggregation, as they would be submitted."""
    texts = []
    for array in plan.arrays:
        before = ":".join(f"<array {n}>" for n in array.after)
        values = _array_parameters(array, launch, name, f"afterany:{before}" if before else None)
        texts.append(sbatch_text(values, folder, array.count, launch.profile))
    values = _aggregation_parameters(launch, name, "afterany:<arrays>")
    texts.append(sbatch_text(values, folder, 1, _without_ranks(launch.profile)))
    return texts


def submission_folder(paths: RunPaths, logs: Path, number: int) -> Path:
    """Return the fresh log folder of a submission."""
    return (logs / paths.root.name / f"{number:04d}").resolve()


def _transaction(
    paths: RunPaths,
    launch: SlurmLaunch,
    intent: Intent,
    plan: Layout,
    elsewhere: Sequence[Sequence[str]],
) -> Submission:
    folder = submission_folder(paths, launch.logs, intent.number)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        jobs: list[dict[str, Any]] = []
        for array, others in zip(plan.arrays, elsewhere, strict=True):
            before = [*(str(jobs[n]["job_id"]) for n in array.after), *others]
            dependency = "afterany:" + ":".join(before) if before else None
            jobs.append(_submit_array(paths, launch, intent, array, folder, dependency))
        ids = [str(job["job_id"]) for job in jobs]
        aggregation_id = _submit_aggregation(paths, launch, intent, folder, ids)
        write_jobs(paths, intent, jobs, aggregation=aggregation_id, slurm=slurm.version(), folder=folder.name)
        slurm.release([*ids, aggregation_id])
    except BaseException as error:
        _undo(paths, intent)
        if isinstance(error, AceslmError) or not isinstance(error, Exception):
            raise
        raise LaunchError(f"nothing was submitted: {_reason(error, folder)}") from error
    shards = sum(len(task) for task in plan.tasks)
    return Submission(intent.number, tuple(ids), aggregation_id, len(plan.tasks), shards, plan.num_waiting)


def _submit_array(
    paths: RunPaths,
    launch: SlurmLaunch,
    intent: Intent,
    array: ArrayPlan,
    folder: Path,
    dependency: str | None,
) -> dict[str, Any]:
    values = _array_parameters(array, launch, intent.token, dependency)
    root = str(paths.root.resolve())
    tasks = [ShardTask(root, intent.number, array.first + n) for n in range(array.count)]
    with slurm.clean_environment():
        (first, *_) = executor(values, folder, launch.profile).submit_array(tasks)
    job_id = first.job_id.split("_")[0]
    return {
        "job_id": job_id,
        "first": array.first,
        "count": array.count,
        "sbatch": first.paths.submission_file.read_text(encoding="utf-8"),
    }


def _submit_aggregation(
    paths: RunPaths, launch: SlurmLaunch, intent: Intent, folder: Path, ids: Sequence[str]
) -> str:
    values = _aggregation_parameters(launch, intent.token, "afterany:" + ":".join(ids))
    task = AggregateTask(str(paths.root.resolve()), intent.number)
    with slurm.clean_environment():
        job = executor(values, folder, _without_ranks(launch.profile)).submit(task)
    return str(job.job_id)


def _array_parameters(
    array: ArrayPlan, launch: SlurmLaunch, name: str, dependency: str | None
) -> Mapping[str, Any]:
    return parameters(array.resources, launch.profile, name, parallel=array.parallel, dependency=dependency)


def _aggregation_parameters(launch: SlurmLaunch, name: str, dependency: str) -> Mapping[str, Any]:
    return parameters(AGGREGATION, _without_ranks(launch.profile), name, dependency=dependency)


def _without_ranks(profile: ClusterProfile) -> ClusterProfile:
    return profile.model_copy(update={"ranks_per_task": 1})


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
