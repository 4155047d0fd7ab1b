"""Latency: mean and percentiles, in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Milliseconds; None where there are no values."""

    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None


def latency_summary(latencies_ms: npt.NDArray[np.float64]) -> LatencySummary:
    """Summarise a one-dimensional array of latencies (milliseconds)."""
    if latencies_ms.size == 0:
        return LatencySummary(None, None, None, None)
    import numpy as np

    p50, p95, p99 = np.percentile(latencies_ms, [50, 95, 99])
    return LatencySummary(float(latencies_ms.mean()), float(p50), float(p95), float(p99))
