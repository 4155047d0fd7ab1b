"""plan -> fan out -> aggregate, on a local pool or in this process.

outcome = submit_run(paths, plans, options, cluster="local", workers=1)
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
from typing import Any

from aceslm.core.errors import LaunchError, WorkError
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.values import Plan, Shard
from aceslm.plan.files import load_plans
from aceslm.plan.shards import unfinished
from aceslm.results.status import RunStatus, is_done, run_status
from aceslm.run.shard import StopFlag
from launch.ledger import Intent, WorkerOptions, refuse_mixture, running_launcher, write_intent, write_jobs
from launch.node.log_files import log_to_file
from launch.prepare.dtypes import refuse_dtypes_here
from launch.submit.local import LocalPool, num_gpus, pack, task_needs

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Launch:
    """Where and how to run; never part of a result's identity."""

    cluster: str = "local"
    workers: int | None = None
    options: WorkerOptions = field(default_factory=WorkerOptions)
    allow_mixed: bool = False
    logs: Path = Path("logs")


def launch_missing(
    paths: RunPaths,
    launch: Launch,
    *,
    shards: Sequence[Shard] | None = None,
    on_tick: Callable[[RunStatus], None] | None = None,
) -> int:
    """Run every planned shard that is not done (or the given ones); return how many were submitted.

    Raises:
        MixedRun: code, engine or dtype changed since the run began.
        LaunchError: another local launcher is at work on this run.
    """
    plans = load_plans(paths)
    wanted = unfinished(paths, plans) if shards is None else list(shards)
    wanted = [shard for shard in wanted if not is_done(paths, shard.shard_id)]
    if not wanted:
        return 0
    if not launch.allow_mixed:
        refuse_mixture(paths, launch.options)
        refuse_dtypes_here(paths, plans, wanted, launch.options)
    if other := running_launcher(paths):
        raise LaunchError(
            f"{paths.root} is being worked on by pid {other.pid} (submission {other.number}): "
            f"`aceslm status {paths.root}` follows it"
        )
    workers = launch.workers or max(1, num_gpus())
    tasks = pack(wanted, _model_key(plans), workers if launch.cluster == "local" else 1)
    intent = write_intent(paths, launch.cluster, tasks, launch.options, allow_mixed=launch.allow_mixed)

    def tick() -> None:
        if on_tick is not None:
            on_tick(run_status(paths, plans))

    jobs: list[dict[str, Any]] = []
    folder = launch.logs / paths.root.name / f"{intent.number:04d}"
    try:
        if launch.cluster == "debug":
            jobs.append({"index": 0, "job": _job_name(intent)})
            _run_here(paths, intent, folder, tick)
        else:
            pool = LocalPool(paths, intent, folder, workers, task_needs(intent.tasks, wanted))
            jobs = pool.jobs
            pool.run(tick)
    finally:
        write_jobs(paths, intent, jobs)
        tick()
    return len(wanted)


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


def _run_here(paths: RunPaths, intent: Intent, logs: Path, tick: Callable[[], None]) -> None:
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
                    _run_one(paths, intent, index, stop)
                if stop():
                    raise KeyboardInterrupt
        finally:
            ended.set()
            reporter.join()


def _run_one(paths: RunPaths, intent: Intent, index: int, stop: StopFlag) -> None:
    from launch.node.place import Place
    from launch.node.task import run_task  # loads the engine's side of the house

    try:
        run_task(paths, intent, index, Place(AttemptName(_job_name(intent), index), stop))
    except WorkError as error:
        log.debug("task %d: %s", index, error)  # every failed shard has its ended file; the merge reports


def _job_name(intent: Intent) -> str:
    return f"d{intent.number:04d}.{os.getpid()}"


def _model_key(plans: Sequence[Plan]) -> Callable[[Shard], object]:
    cells = {cell.cell_id: cell for cell in plans[0].cells}

    def key(shard: Shard) -> object:
        cell = cells[shard.cell_id]
        return (cell.model.model_id, cell.model.revision, cell.quantization, cell.dtype)

    return key
