"""This machine: a bounded pool of processes, or (`debug`) this very process.

launcher = LocalLauncher("debug")
launcher.start(run)
launcher.wait(run, show)                       # the work is done here
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from aceslm.core.errors import LaunchError, WorkError
from aceslm.core.paths import AttemptName
from aceslm.core.run import Run
from aceslm.core.values import Cell, Resources, Shard
from aceslm.results.status import run_status
from aceslm.run.done import unfinished
from aceslm.run.work import StopFlag
from launch.ledger import Intent, WorkerOptions, refuse_mixture, running_launcher, write_intent, write_jobs
from launch.node.log_files import log_to_file
from launch.node.place import Place
from launch.node.task import run_task
from launch.prepare.dtypes import refuse_dtypes_here
from launch.prepare.rates import Target
from launch.prepare.run import Prepared
from launch.prepare.targets import here
from launch.prepare.workers import num_gpus
from launch.submit.launcher import OnTick, Started, submission_folder
from launch.submit.pool import LocalPool, pack, task_needs

log = logging.getLogger(__name__)


@dataclass(slots=True)
class LocalLauncher:
    """How a run is worked on here, as long as this process lives; never part of a result's identity."""

    cluster: str = "local"
    workers: int | None = None
    options: WorkerOptions = field(default_factory=WorkerOptions)
    allow_mixed: bool = False
    logs: Path = Path("logs")
    _intent: Intent | None = None

    detached: ClassVar[bool] = False

    def start(self, run: Run, shards: Sequence[Shard] | None = None) -> Started | None:
        """Deal every unfinished shard to the workers; `wait` lets them work.

        Raises:
            MixedRun: code, engine or dtype changed since the run began.
            LaunchError: another local launcher is at work on this run.
        """
        wanted = unfinished(run, shards)
        if not wanted:
            return None
        paths = run.paths
        if not self.allow_mixed:
            refuse_mixture(paths, self.options)
            refuse_dtypes_here(run, wanted, self.options)
        if other := running_launcher(paths):
            raise LaunchError(
                f"{paths.root} is being worked on by pid {other.pid} (submission {other.number}): "
                f"`aceslm status {paths.root}` follows it"
            )
        tasks = pack(wanted, lambda shard: _loaded_for(run, shard), self._num_workers)
        self._intent = write_intent(paths, self.cluster, tasks, self.options, allow_mixed=self.allow_mixed)
        return Started(self._intent.number, len(tasks), len(wanted))

    def wait(self, run: Run, on_tick: OnTick) -> None:
        """Run what was started to its end. On Ctrl-C finished rows are flushed; a second one kills."""
        if self._intent is None:
            return
        intent, self._intent = self._intent, None
        folder = submission_folder(self.logs, run.name, intent.number)
        jobs: list[dict[str, Any]] = []

        def tick() -> None:
            on_tick(run_status(run))

        try:
            if self.cluster == "debug":
                jobs.append({"index": 0, "job": _job_name(intent)})
                _run_here(run, intent, folder, tick)
            else:
                needs = task_needs(intent.tasks, run.shards)
                pool = LocalPool(run.paths, intent, folder, self._num_workers, needs)
                jobs = pool.jobs
                pool.run(tick)
        finally:
            write_jobs(run.paths, intent, jobs)
            tick()

    def preview(self, prepared: Prepared) -> Iterator[str]:
        """Yield nothing: here the plan is all there is."""
        yield from ()

    def target_of(self, cell: Cell, planned: Resources) -> Target:
        """Return this machine: the share of it that one worker gets."""
        return here(self.options, self._num_workers)(cell, planned)

    @property
    def _num_workers(self) -> int:
        return 1 if self.cluster == "debug" else self.workers or max(1, num_gpus())


@contextmanager
def interruptible() -> Iterator[StopFlag]:
    """Turn the first Ctrl-C (or SIGTERM) into a stop flag: finished rows are flushed; a second one kills."""
    stop = StopFlag()

    def request(signum: int, _frame: object) -> None:
        stop.reason = "cancelled"
        signal.signal(signum, previous[signum])

    previous = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run_here(run: Run, intent: Intent, logs: Path, tick: Callable[[], None]) -> None:
    """Run all tasks in this process; a thread reports progress from the run directory meanwhile."""
    ended = threading.Event()

    def report() -> None:
        while not ended.wait(0.5):
            tick()

    reporter = threading.Thread(target=report, daemon=True)
    with interruptible() as stop:
        reporter.start()
        try:
            for index in range(len(intent.tasks)):
                with log_to_file(logs / f"{_job_name(intent)}_{index}_log.out"):
                    _run_one(run, intent, index, stop)
                if stop():
                    raise KeyboardInterrupt
        finally:
            ended.set()
            reporter.join()


def _run_one(run: Run, intent: Intent, index: int, stop: StopFlag) -> None:
    try:
        run_task(run, intent, index, Place(AttemptName(_job_name(intent), index), stop))
    except WorkError as error:
        log.debug("task %d: %s", index, error)  # every failed shard has its ended file; the merge reports


def _job_name(intent: Intent) -> str:
    return f"d{intent.number:04d}.{os.getpid()}"


def _loaded_for(run: Run, shard: Shard) -> object:
    """Return what is loaded to answer a shard: shards that share it are best answered by one worker."""
    cell = run.cell(shard.cell_id)
    return (cell.model.model_id, cell.model.revision, cell.quantization, cell.dtype)
