"""How long a shard takes, from what was measured: shard sizes in minutes, time limits, cost.

A rate comes from the `done.json` files of earlier shards of the same model and quantization (the median of
samples per second). Without one, `aceslm submit --pilot` measures it first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from aceslm.core.files import read_json
from aceslm.core.values import Cell

PILOT_SAMPLES = 16
_MIN_ROWS = 4  # a shard of fewer rows says more about warming up than about the rate
_SAFETY = 2.0
_MIN_TIME_MIN = 5


@dataclass(frozen=True, slots=True)
class Rate:
    """Measured speed of one model and quantization: samples a second, and seconds to load."""

    samples_per_s: float
    load_s: float

    def shard_size(self, minutes: float) -> int:
        """Return how many samples fill so many minutes."""
        return max(1, int(self.samples_per_s * minutes * 60))

    def time_min(self, samples: int, cap: int | None) -> int:
        """Return a time limit: twice the estimate, in whole minutes, at most `cap`."""
        estimate_s = self.load_s + samples / self.samples_per_s
        wanted = max(_MIN_TIME_MIN, math.ceil(_SAFETY * estimate_s / 60))
        return min(wanted, cap) if cap is not None else wanted


def model_key(cell: Cell) -> tuple[str, str]:
    """Return what a rate belongs to."""
    return cell.model.model_id, cell.quantization


def measured_rates(results: Path) -> dict[tuple[str, str], Rate]:
    """Return the rates that the runs below `results` have measured."""
    seen: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for path in results.glob("*/shards/*.done.json"):
        done = read_json(path)
        timings = done.get("timings", {})
        if "role_s" in timings:  # an evolution: most of its time is not answering
            continue
        rows, seconds = timings.get("rows_generated", 0), timings.get("generate_s", 0.0)
        if rows >= _MIN_ROWS and seconds > 0 and "model_id" in done:
            key = (done["model_id"], done["quantization"])
            seen.setdefault(key, []).append((rows / seconds, timings.get("load_s", 0.0)))
    return {
        key: Rate(median(rate for rate, _ in values), median(load for _, load in values))
        for key, values in seen.items()
    }


def shard_sizes(
    cells: Sequence[Cell], minutes: float, fallback: int, rates: Mapping[tuple[str, str], Rate]
) -> dict[str, int]:
    """Return cell id -> shard size: `minutes` of measured work, else `fallback` samples."""
    return {
        cell.cell_id: rates[model_key(cell)].shard_size(minutes) if model_key(cell) in rates else fallback
        for cell in cells
    }
