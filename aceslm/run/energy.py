"""Joules, where the hardware counts them; elsewhere None and a reason, never a guess.

    meter = EnergyMeter(counters)  # from `aceslm.run.energy_counters`, or any others
    meter.start()
    ...                            # answer a batch
    joules = meter.take()          # since the start, or since the last take
    meter.figures()                # {"energy_j": ..., "energy_scope": ..., "energy_reason": ...}

Counters of hardware move every 1 to 100 ms (NVML's every 20 to 100), so whole batches are measured and shared
out over their rows by time (`share_out`). A row's own joules are right to about one update of the counter.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from aceslm.core.record import Record

log = logging.getLogger(__name__)

MIN_WINDOW_S = 1.0  # ten updates of the slowest counter
_MAX_WATTS = 1000.0  # of one counter: how soon one that wraps may have gone round twice


class EnergyUnknown(Exception):
    """A counter cannot be used; the message is the reason that stands beside the null."""


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter of joules since some time in the past; `range_j` is where it starts again at 0."""

    name: str
    read_j: Callable[[], float]
    range_j: float | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """What is read together.

    `scope` says in words what is measured. `strangers()` returns why the counters would charge others' work
    at this moment, None where they would not.
    """

    scope: str
    counters: tuple[Counter, ...]
    strangers: Callable[[], str | None] = lambda: None


@dataclass(slots=True)
class EnergyMeter:
    """Joules of one attempt. Where counters fail on the way, its energy is unknown from then on.

    Args:
        source: counters, or the reason why there are none.
        clock: seconds that never go back.
    """

    source: Counters | str
    clock: Callable[[], float] = time.monotonic
    reason: str | None = None
    _values: tuple[float, ...] = ()
    _total_j: float = 0.0
    _started_s: float = 0.0
    _taken_s: float = 0.0

    def start(self) -> None:
        """Begin to measure: what was spent before (loading the model) is not counted."""
        self._started_s = self._taken_s = self.clock()
        self._total_j = 0.0
        if isinstance(self.source, str):
            self.reason = self.source
            return
        self._values = self._read(self.source) or ()

    @property
    def ready(self) -> bool:
        """Whether a batch has lasted long enough to be measured; always true where nothing is measured."""
        return self.reason is not None or self.clock() - self._taken_s >= MIN_WINDOW_S

    def take(self) -> float | None:
        """Return the joules since the last take; None where they are not known."""
        joules = self._advance()
        return None if self._too_short() else joules

    def figures(self) -> dict[str, Any]:
        """Return joules since the start, what they cover, and why they are null where they are."""
        self._advance()
        scope = None if isinstance(self.source, str) else self.source.scope
        reason = self.reason or self._too_short()
        return {
            "energy_j": None if reason else self._total_j,
            "energy_scope": scope,
            "energy_reason": reason,
        }

    def _too_short(self) -> str | None:
        spent_s = self._taken_s - self._started_s
        if self.reason is None and spent_s < MIN_WINDOW_S:
            return f"{spent_s:.2f} s are too short for counters that move every 20 to 100 ms"
        return None

    def _advance(self) -> float | None:
        if isinstance(self.source, str) or self.reason is not None:
            return None
        now = self.clock()
        values = self._read(self.source)
        if values is None:
            return None
        joules = 0.0
        for counter, before, after in zip(self.source.counters, self._values, values, strict=True):
            spent = _spent_j(counter, before, after, now - self._taken_s)
            if isinstance(spent, str):
                self._give_up(spent)
                return None
            joules += spent
        self._values, self._taken_s = values, now
        self._total_j += joules
        return joules

    def _read(self, source: Counters) -> tuple[float, ...] | None:
        try:
            others = source.strangers()
            values = None if others else tuple(counter.read_j() for counter in source.counters)
        except Exception as error:  # a driver's own exceptions: energy never costs a row
            self._give_up(f"a counter could not be read: {type(error).__name__}: {error}")
            return None
        if others:
            self._give_up(others)
        return values

    def _give_up(self, reason: str) -> None:
        self.reason = reason
        warn_once(reason)


def share_out(records: Sequence[Record], joules: float | None) -> list[Record]:
    """Return the records with `energy_j`: each gets the share of `joules` that it has of the engine's time.

    A record's time is its latency over the rows that were active at its admission: rows that run together
    share what is spent meanwhile. The parts add up to `joules`; a row's own is right to about one update of
    the counter, and as far as rows that run together cost alike.
    """
    if joules is None or not records:
        return list(records)
    times = [(record.latency_ms or 0.0) / max(1, record.batch_size or 1) for record in records]
    total = sum(times)
    shares = [one / total for one in times] if total else [1 / len(records)] * len(records)
    return [replace(record, energy_j=joules * share) for record, share in zip(records, shares, strict=True)]


def _spent_j(counter: Counter, before: float, after: float, seconds: float) -> float | str:
    """Return what a counter has counted, or why that is not known."""
    if counter.range_j is None:
        if after < before:
            return f"the counter of {counter.name} went back: its driver was reset"
        return after - before
    if seconds * _MAX_WATTS >= counter.range_j:
        return f"the counter of {counter.name} was not read for {seconds:.0f} s and may have gone round twice"
    return (after - before) % counter.range_j


@cache
def warn_once(reason: str) -> None:
    """Log why energy is not known, once a process for each reason."""
    log.warning("energy is not measured: %s", reason)
