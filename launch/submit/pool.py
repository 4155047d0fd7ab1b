"""A bounded pool around submitit's local executor: one worker process a device, the same path as on Slurm.

submitit's own local executor starts every job at once; here at most `workers` run at a time.
"""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from aceslm.core.errors import LaunchError
from aceslm.core.paths import RunPaths
from aceslm.core.values import Shard
from aceslm.plan.shards import levels
from launch.ledger import Intent
from launch.node.task import ShardTask
from launch.prepare.workers import cores_of_a_worker, num_gpus, visible_gpus
from launch.show.console import note

_NO_LIMIT_MIN = 60 * 24 * 365
_POLL_S = 0.2


@dataclass(slots=True)
class LocalPool:
    """Runs the tasks of one submission, at most `workers` at a time.

    `needs[n]` are the tasks that must have ended, however they ended, before task n starts.
    """

    paths: RunPaths
    intent: Intent
    folder: Path
    workers: int
    needs: Sequence[Set[int]]
    _waiting: list[int] = field(default_factory=list)
    _running: dict[int, Any] = field(default_factory=dict)
    jobs: list[dict[str, Any]] = field(default_factory=list)

    def run(self, on_tick: Callable[[], None]) -> None:
        """Run all tasks; `on_tick` is called a few times a second.

        On Ctrl-C the workers flush their finished rows and leave; a second Ctrl-C kills them.
        """
        self._waiting = list(range(len(self.intent.tasks)))
        try:
            while self._waiting or self._running:
                self._reap()
                self._start()
                on_tick()
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            self._stop(on_tick)
            raise
        except BaseException:
            self._kill()
            raise

    def _start(self) -> None:
        while len(self._running) < self.workers:
            open_tasks = {*self._waiting, *self._running}
            index = next((n for n in self._waiting if not self.needs[n] & open_tasks), None)
            if index is None:
                return
            self._waiting.remove(index)
            device = next(
                n for n in range(self.workers) if n not in {job.device for job in self._running.values()}
            )
            self._running[index] = self._submit(index, device)

    def _submit(self, index: int, device: int) -> _Running:
        task = ShardTask(str(self.paths.root.resolve()), self.intent.number, index)
        executor = _executor(self.folder, _gpu_of(device))
        # A worker must not get the terminal's Ctrl-C: it would be killed before it has flushed.
        with _ignored(signal.SIGINT), _cores_for(self.workers):
            job = executor.submit(task)
        self.jobs.append({"index": index, "job": job.job_id, "log": job.paths.stdout.name})
        return _Running(job, device)

    def _reap(self) -> None:
        for index, running in list(self._running.items()):
            if running.job.done():
                del self._running[index]

    def _stop(self, on_tick: Callable[[], None]) -> None:
        self._waiting.clear()
        note("stopping: finished rows are flushed; Ctrl-C again kills")
        for running in self._running.values():
            running.job._process.send_signal(signal.SIGTERM)  # the controller forwards it to the worker
        try:
            while self._running:
                self._reap()
                on_tick()
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            self._kill()

    def _kill(self) -> None:
        for running in self._running.values():
            kill_tree(running.job._process.pid)
        self._running.clear()


@dataclass(frozen=True, slots=True)
class _Running:
    job: Any
    device: int


def pack(shards: Sequence[Shard], key: Callable[[Shard], Any], workers: int) -> list[list[str]]:
    """Group shards that share a model into at most `workers` tasks a stage, evenly and in order.

    A single worker takes all stages of a model one after another, and so loads it once.
    """
    stages = levels(shards)
    groups: dict[Any, list[str]] = {}
    for shard in sorted(shards, key=lambda one: stages[one.shard_id]):
        stage = stages[shard.shard_id] if workers > 1 else 0
        groups.setdefault((stage, key(shard)), []).append(shard.shard_id)
    tasks = []
    for names in groups.values():
        lanes = min(workers, len(names))
        tasks += [names[lane::lanes] for lane in range(lanes)]
    return tasks


def task_needs(tasks: Sequence[Sequence[str]], shards: Sequence[Shard]) -> list[set[int]]:
    """Return, for each task, the other tasks that hold what its shards need."""
    place = {name: index for index, names in enumerate(tasks) for name in names}
    by_id = {shard.shard_id: shard for shard in shards}
    return [
        {place[need] for name in names for need in by_id[name].needs if need in place} - {index}
        for index, names in enumerate(tasks)
    ]


def kill_tree(pid: int) -> None:
    """Kill a process and all its descendants."""
    try:
        root = psutil.Process(pid)
        processes = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _gpu_of(lane: int) -> tuple[str, ...]:
    """Return what a lane's CUDA_VISIBLE_DEVICES is to be; more lanes than GPUs share them, none: empty."""
    visible = visible_gpus()
    names = visible if visible is not None else [str(n) for n in range(num_gpus())]
    return (names[lane % len(names)],) if names else ()


def _executor(folder: Path, gpu: tuple[str, ...]) -> Any:
    import submitit

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"cannot write the log folder {folder}: {error.strerror}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        executor = submitit.LocalExecutor(folder)
        executor.update_parameters(timeout_min=_NO_LIMIT_MIN, stderr_to_stdout=True)
        if gpu:
            # submitit checks for integers, but a MIG slice has a UUID: past its check
            executor.parameters.update(gpus_per_node=1, visible_gpus=gpu)
    return executor


@contextmanager
def _ignored(signum: int) -> Iterator[None]:
    """Let child processes started here inherit an ignored signal (the disposition survives exec)."""
    before = signal.signal(signum, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signum, before)


@contextmanager
def _cores_for(workers: int) -> Iterator[None]:
    """Give each of several workers its share of the cores."""
    if workers == 1 or "ACESLM_CORES" in os.environ:
        yield
        return
    os.environ["ACESLM_CORES"] = str(cores_of_a_worker(workers))
    try:
        yield
    finally:
        del os.environ["ACESLM_CORES"]
