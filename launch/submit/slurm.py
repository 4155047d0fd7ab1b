"""The queue of a cluster: arrays of what is missing, and a job that merges when they have ended.

launcher = SlurmLauncher("site", cluster_profile("site"), options)
started = launcher.start(run)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from aceslm.config.cluster import ClusterProfile, cluster_profile
from aceslm.core.errors import LaunchError
from aceslm.core.files import locked
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Cell, Resources, Shard
from aceslm.plan.files import read_run
from aceslm.results.status import run_status
from aceslm.run.done import unfinished
from launch.ledger import (
    Intent,
    WorkerOptions,
    intents,
    is_abandoned,
    read_intent,
    refuse_mixture,
    write_intent,
)
from launch.node.log_files import log_to_stdout
from launch.prepare.rates import Target
from launch.prepare.run import Prepared
from launch.prepare.targets import on_slurm, rates_of_run
from launch.show.console import note
from launch.slurm import client as slurm
from launch.slurm.reconcile import queued_shards, record_lost_attempts
from launch.submit.arrays import Layout, check_limits, layout
from launch.submit.launcher import OnTick, Started, submission_folder
from launch.submit.preview import slurm_preview
from launch.submit.transaction import Submission, recover, submit_held

_LOCK_WAIT_S = 120.0
_POLL_S = 3.0
_PATIENCE = 10  # times that the controller may not answer in a row


@dataclass(frozen=True, slots=True)
class SlurmLauncher:
    """How a run goes to Slurm; never part of a result's identity.

    `is_next_wave`: an aggregation sends what an earlier submission held back, by the code it runs itself.
    """

    profile_name: str
    profile: ClusterProfile
    options: WorkerOptions
    allow_mixed: bool = False
    logs: Path = Path("logs")
    is_next_wave: bool = False

    cluster: ClassVar[str] = "slurm"
    detached: ClassVar[bool] = True

    def start(self, run: Run, shards: Sequence[Shard] | None = None) -> Started | None:
        """Submit every unfinished shard that is not in the queue; None when there is none.

        Raises:
            LaunchError: Slurm refuses; then nothing stays submitted.
            MixedRun: the code changed since the run began.
        """
        slurm.require()
        paths = run.paths
        with locked(paths.lock, "aceslm submit", wait_s=_LOCK_WAIT_S):
            recover(paths)
            run = read_run(paths)  # a split may have been planned while this waited
            queued = queued_shards(paths, _submissions(paths))
            wanted = [shard for shard in unfinished(run, shards) if shard.shard_id not in queued]
            if not wanted:
                return None
            record_lost_attempts(paths, [shard.shard_id for shard in wanted])
            if not (self.allow_mixed or self.is_next_wave):
                refuse_mixture(paths, self.options)
            plan = layout(run, wanted, self.profile, rates_of_run(run, self.profile, self.options))
            check_limits(plan.arrays, self.profile)
            intent = self._intend(paths, plan)
            submission = Submission(
                paths,
                intent,
                plan,
                self.profile,
                submission_folder(self.logs, run.name, intent.number),
                AggregateTask(str(paths.root.resolve()), intent.number),
            )
            return submit_held(submission, _jobs_elsewhere(plan, wanted, queued))

    def wait(self, run: Run, on_tick: OnTick) -> None:
        """Stay until nothing of the run is in the queue."""
        while True:
            on_tick(run_status(run))
            if not _in_queue(run.paths):
                return
            time.sleep(_POLL_S)

    def preview(self, prepared: Prepared) -> Iterator[str]:
        """Yield the scripts that would be submitted, which shards they run, and what they may cost."""
        return slurm_preview(prepared, self.profile, self.options, self.logs)

    def target_of(self, cell: Cell, planned: Resources) -> Target:
        """Return a node as the profile asks for it."""
        return on_slurm(self.profile, self.options)(cell, planned)

    def _intend(self, paths: RunPaths, plan: Layout) -> Intent:
        return write_intent(
            paths,
            self.cluster,
            plan.tasks,
            self.options,
            profile=self.profile_name,
            max_requeues=self.profile.max_requeues,
            time_min=min(array.resources.time_min for array in plan.arrays),
            signal_delay_s=self.profile.signal_delay_s,
            allow_mixed=self.allow_mixed,
        )


@dataclass(frozen=True, slots=True)
class AggregateTask:
    """The callable of the aggregation job: merges, sends the next wave, fails when rows are missing."""

    root: str
    submission: int

    def __call__(self) -> None:
        """Merge what there is; submit what did not fit into the queue before."""
        from aceslm.aggregate import aggregate, tell_wandb

        log_to_stdout()
        paths = RunPaths(Path(self.root))
        intent = read_intent(paths, self.submission)
        record_lost_attempts(paths, [name for task in intent.tasks for name in task])
        made = aggregate(paths, tell=False)
        if not _start_next_wave(made.run, intent):
            tell_wandb(made)
            made.require_complete()


def _start_next_wave(run: Run, intent: Intent) -> bool:
    """Submit the shards that no submission has held yet; return whether there were any."""
    held = [each for each in intents(run.paths) if not is_abandoned(run.paths, each)]
    known = {name for each in held for task in each.tasks for name in task}
    waiting = [shard for shard in unfinished(run) if shard.shard_id not in known]
    if not waiting or intent.profile is None:
        return False
    profile = cluster_profile(intent.profile)
    launcher = SlurmLauncher(intent.profile, profile, intent.options, intent.allow_mixed, is_next_wave=True)
    return launcher.start(run, waiting) is not None


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


def _submissions(paths: RunPaths) -> list[Intent]:
    return [intent for intent in intents(paths) if intent.cluster == "slurm"]


def _in_queue(paths: RunPaths) -> bool:
    """Return whether anything of a run is in the queue; a busy controller is asked again.

    Raises:
        LaunchError: it has been silent for too long; the jobs do not depend on it.
    """
    tokens = [intent.token for intent in _submissions(paths)]
    for silent in range(1, _PATIENCE + 1):
        try:
            return bool(slurm.queue(tokens))
        except LaunchError as error:
            if silent == _PATIENCE:
                raise LaunchError(
                    f"{error}, {silent} times: no longer waiting; the jobs go on: aceslm status {paths.root} "
                    "--watch"
                ) from None
            note(f"{error}; asking again")
            time.sleep(_POLL_S)
    return True
