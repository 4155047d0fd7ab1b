"""How long a shard takes, from what was measured: shard sizes in minutes, time limits, cost.

    rates = measured_rates(results)                        # of every earlier shard
    rate = rates.comparable(workload_of(cell, engine), target)     # None: nothing comparable was measured

A rate is the median of samples per second over earlier shards of the same work (model, quantization, dtype,
engine, task, answer length, with or without a playbook) on the same hardware. Nothing else says how long a
shard takes: without such a rate sizes and limits are those that were asked for, and `aceslm submit --pilot`
measures one first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from aceslm.core.errors import CorruptRun
from aceslm.core.machine import Hardware
from aceslm.core.values import Cell, Resources
from aceslm.run.done import done_at, done_files
from aceslm.run.workload import Workload, read_facts

PILOT_SAMPLES = 16
_MIN_ROWS = 4  # a shard of fewer rows says more about warming up than about the rate
_SAFETY = 2.0
_MIN_TIME_MIN = 5


@dataclass(frozen=True, slots=True)
class Rate:
    """Measured speed: samples a second, and seconds to load; `hardware` says in words on what."""

    samples_per_s: float
    load_s: float
    hardware: str = ""

    def shard_size(self, minutes: float) -> int:
        """Return how many samples fill so many minutes."""
        return max(1, int(self.samples_per_s * minutes * 60))

    def time_min(self, samples: int, cap: int | None) -> int:
        """Return a time limit: twice the estimate, in whole minutes, at most `cap`."""
        estimate_s = self.load_s + samples / self.samples_per_s
        wanted = max(_MIN_TIME_MIN, math.ceil(_SAFETY * estimate_s / 60))
        return min(wanted, cap) if cap is not None else wanted


@dataclass(frozen=True, slots=True)
class Target:
    """Where work will run, as far as that is known before. `name` None: what the scheduler gives there."""

    device: str
    cores: int
    name: str | None = None
    site: str = ""

    def is_like(self, hardware: Hardware) -> bool:
        """Return whether what was measured there says something about here."""
        same = (self.device, self.cores, self.site) == (hardware.device, hardware.cores, hardware.site)
        return same and self.name in {None, hardware.name}


# a cell and the resources planned for its model -> where it runs
TargetOf = Callable[[Cell, Resources], Target]
RateOf = Callable[[Cell], Rate | None]


@dataclass(frozen=True, slots=True)
class Rates:
    """What was measured, by work and hardware."""

    measured: Mapping[tuple[Workload, Hardware], Rate]

    def comparable(self, workload: Workload, target: Target) -> Rate | None:
        """Return the rate of the same work on like hardware; of several kinds of it the slowest."""
        found = [
            rate
            for (measured, hardware), rate in self.measured.items()
            if measured == workload and target.is_like(hardware)
        ]
        return min(found, key=lambda rate: rate.samples_per_s, default=None)


def no_rate(_: Cell) -> Rate | None:
    """Nothing was measured."""
    return None


def measured_rates(results: Path) -> Rates:
    """Return the rates that the runs below `results` have measured; what cannot be read says nothing."""
    seen: dict[tuple[Workload, Hardware], list[tuple[float, float]]] = {}
    for path in done_files(results):
        try:
            done = done_at(path)
            facts = read_facts({"workload": done.workload, "hardware": done.hardware})
            rows, seconds, load_s = (done.timings[key] for key in ("rows_generated", "generate_s", "load_s"))
            if facts is None or facts[0].kind == "evolving":  # most of its time is not answering
                continue
            if rows >= _MIN_ROWS and seconds > 0:
                seen.setdefault(facts, []).append((rows / seconds, float(load_s)))
        except (CorruptRun, OSError, KeyError, TypeError, ValueError):
            continue
    return Rates(
        {
            (workload, hardware): Rate(
                median(rate for rate, _ in values), median(load for _, load in values), str(hardware)
            )
            for (workload, hardware), values in seen.items()
        }
    )


def shard_sizes(cells: Sequence[Cell], minutes: float, fallback: int, rate_of: RateOf) -> dict[str, int]:
    """Return cell id -> shard size: `minutes` of measured work, else `fallback` samples."""
    return {cell.cell_id: rate.shard_size(minutes) if (rate := rate_of(cell)) else fallback for cell in cells}


def basis(cells: Sequence[Cell], rate_of: RateOf) -> str:
    """Say what figures about these cells rest on: `requested`, or `measured on ...`."""
    rates = [rate_of(cell) for cell in cells]
    places = "; ".join(dict.fromkeys(rate.hardware for rate in rates if rate))
    measured = sum(rate is not None for rate in rates)
    if not measured:
        return "requested"
    if measured == len(cells):
        return f"measured on {places}"
    return f"measured on {places} for {measured} of {len(cells)} cells, requested for the others"
