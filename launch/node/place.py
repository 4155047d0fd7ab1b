"""The place a worker runs in: its name, its rank, its signals, its deadline, how it goes back into the queue.

Slurm and submitit interrupt a frame and exit; here a signal only sets a flag. The loop flushes finished
rows at the next decode step and leaves; then the task is requeued, or not.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aceslm.core.engine import Engine
from aceslm.core.errors import LaunchError
from aceslm.core.files import process_alive
from aceslm.core.listener import NoTracking
from aceslm.core.machine import step_ranks
from aceslm.core.paths import AttemptName
from aceslm.core.values import Cell
from aceslm.core.words import FailureClass
from aceslm.run.work import FlushPolicy, StopFlag, Worker
from launch.ledger import Intent
from launch.slurm import client as slurm

log = logging.getLogger(__name__)

# A preemption sends TERM and USR2 together, `scancel` only TERM: wait so long before believing the latter.
_TERM_ALONE_S = 2.0
_DEADLINE_MARGIN_S = 20.0
_EARLY_S = 90.0


@dataclass(slots=True)
class Place:
    """Where this process works: one rank of one task of one submission."""

    name: AttemptName
    stop: StopFlag = field(default_factory=StopFlag)
    policy: FlushPolicy = field(default_factory=FlushPolicy)
    num_ranks: int = 1
    job_id: str | None = None
    max_requeues: int = 0

    def worker(self, engine_for: Callable[[Cell], Engine], tracking: NoTracking) -> Worker:
        """Return who works here, with these engines."""
        return Worker(self.name, engine_for, self.stop, self.policy, self.num_ranks, tracking=tracking)

    def leave(self) -> None:
        """After an early stop: go back into the queue when preempted or out of time."""
        if self.job_id is None or self.stop.reason not in {"preempted", "timeout"}:
            return
        if self.name.restart >= self.max_requeues:
            log.error("not requeued: this task has been requeued %d times already", self.name.restart)
            return
        try:
            slurm.requeue(self.job_id)
        except LaunchError as error:
            log.warning("not requeued by this rank: %s", error)  # another rank was first, or it ends anyway
            return
        log.info("requeued job %s (%s)", self.job_id, self.stop.reason)
        time.sleep(60)  # Slurm ends this process; leaving first would look like success


def local_place(intent: Intent, index: int) -> Place:
    """Return the place of a worker of the local pool: it does not outlive its launcher."""
    place = Place(AttemptName(f"l{intent.number:04d}.{os.getpid()}", index))
    signal.signal(signal.SIGTERM, lambda *_: _request(place.stop, "cancelled"))

    def watch() -> None:
        while process_alive(intent.pid):
            time.sleep(0.5)
        _request(place.stop, "cancelled")

    threading.Thread(target=watch, daemon=True).start()
    return place


def slurm_place(intent: Intent) -> Place:
    """Return the place of this Slurm task, with signals and deadline watched."""
    environment, ranks = os.environ, step_ranks()
    job_id = environment["SLURM_JOB_ID"]
    name = AttemptName(
        job=environment.get("SLURM_ARRAY_JOB_ID", job_id),
        index=int(environment.get("SLURM_ARRAY_TASK_ID", "0")),
        restart=int(environment.get("SLURM_RESTART_COUNT", "0")),
        rank=ranks.rank,
    )
    flush_s = float(environment.get("ACESLM_FLUSH_S", "60"))
    place = Place(
        name,
        policy=FlushPolicy(rows=256, seconds=flush_s, progress_s=min(10.0, flush_s)),
        num_ranks=ranks.num_ranks,
        job_id=job_id,
        max_requeues=intent.max_requeues,
    )
    _watch_signals(place, _end_time(intent, job_id), intent.signal_delay_s)
    return place


def _watch_signals(place: Place, end_s: float, signal_delay_s: int) -> None:
    """Install flag-setting handlers over submitit's, and a thread that knows the deadline."""
    stop = place.stop

    def on_usr2(*_: object) -> None:
        # Slurm sends the warning up to a minute early; one that comes much earlier is a preemption
        left_s = end_s - time.time()
        _request(stop, "timeout" if left_s <= signal_delay_s + _EARLY_S else "preempted")

    def on_term(*_: object) -> None:
        threading.Timer(_TERM_ALONE_S, _request, (stop, "cancelled")).start()

    signal.signal(signal.SIGUSR2, on_usr2)
    signal.signal(signal.SIGTERM, on_term)

    def watch() -> None:
        while time.time() < end_s - _DEADLINE_MARGIN_S:
            time.sleep(1.0)
        _request(stop, "timeout")

    threading.Thread(target=watch, daemon=True).start()


def _end_time(intent: Intent, job_id: str) -> float:
    """Return when Slurm will end this job; asked once, else computed from the time limit."""
    return slurm.job_end_epoch_s(job_id) or time.time() + 60.0 * (intent.time_min or 10_000)


def _request(stop: StopFlag, reason: FailureClass) -> None:
    stop.reason = stop.reason or reason
