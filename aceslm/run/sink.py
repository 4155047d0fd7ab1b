"""The one way of rows to disk: collected, flushed as parts, told to `status` and to whoever follows.

with RowSink(work, attempt, already=12) as sink:
    sink.append(record)        # flushes itself by the policy; a part is a resume point
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Self

from aceslm.core.record import Record
from aceslm.run.attempts import Attempt
from aceslm.run.parts import PartWriter
from aceslm.run.work import Work

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RowSink:
    """Collects the rows of one attempt; what it holds is flushed on the way out.

    `already` counts rows of the shard from before this attempt. Rows of an evolution come as whole steps: the
    evolution flushes them itself (`keep` and `flush`), since a step is what it commits.
    """

    work: Work
    attempt: Attempt
    already: int = 0
    finished_elsewhere: bool = False
    generated: int = 0
    _parts: PartWriter = field(init=False)
    _correct: int = 0
    _last_flush: float = field(default_factory=time.monotonic)
    _last_progress: float = 0.0

    def __post_init__(self) -> None:
        self._parts = PartWriter(self.work.run.paths, self.work.shard.shard_id, self.work.worker.name)

    def __enter__(self) -> Self:
        self.report()
        return self

    def __exit__(self, *_: object) -> None:
        self.flush(self._joules())
        self.report()

    def append(self, record: Record) -> None:
        """Take one finished row, and flush when it is time."""
        self.keep(record)
        policy, now, meter = self.work.worker.policy, time.monotonic(), self.attempt.meter
        enough = len(self._parts) >= policy.rows and (meter is None or meter.ready)
        if enough or now - self._last_flush >= policy.seconds:
            self.flush(self._joules())
        if now - self._last_progress >= policy.progress_s:
            self.report()

    def keep(self, record: Record) -> None:
        """Take one finished row."""
        self._parts.append(record)
        self.work.story.row(record)
        self.generated += 1
        self._correct += record.correct

    def flush(self, joules: float | None) -> None:
        """Write the rows that are held as one part, unless another worker has finished the shard."""
        self._last_flush = time.monotonic()
        if not len(self._parts):
            return
        self.finished_elsewhere = self.work.is_published
        if self.finished_elsewhere:
            log.warning("shard %s was finished by another worker", self.work.shard.shard_id)
            return
        try:
            self._parts.flush(joules)
            self.work.story.spent(joules)
        except FileNotFoundError:  # the finisher deleted the folder of parts under this write
            self.finished_elsewhere = self.work.is_published
            if not self.finished_elsewhere:
                raise

    def report(self) -> None:
        """Tell how far the shard is; rows of an adaptation count for no accuracy."""
        self._last_progress = time.monotonic()
        done = self.already + self.generated
        correct = None if self.work.cell.evolves else self._correct
        self.attempt.note(rows_done=done, generated=self.generated)
        if correct is not None:
            self.attempt.note(scored=self.generated, correct=correct)
        self.attempt.progress(done, len(self.work.units), self.generated, correct)
        self.work.story.progress(done)

    def _joules(self) -> float | None:
        return self.attempt.joules() if len(self._parts) else None
