"""Intervals for samples that share contexts: questions about one table are not independent.

accuracy_interval([1, 0, 1, 1], ["table-1", "table-1", "table-2", "table-3"])
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aceslm.analysis.statistics.accuracy import Interval, wilson_interval

if TYPE_CHECKING:
    import numpy.typing as npt

_BLOCK_VALUES = 1_000_000


def cluster_bootstrap_interval(
    values: Sequence[float] | npt.NDArray[np.float64],
    clusters: Sequence[Hashable],
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Return the percentile bootstrap interval of the mean of `values`, resampling whole clusters.

    A draw takes as many clusters as there are, with replacement, and the mean over all their values, so
    that a cluster counts by its size (Davison and Hinkley 1997, section 3.8). The same input gives the same
    interval.

    Args:
        values: n numbers.
        clusters: n keys; equal keys belong together.

    Returns:
        None where resampling says nothing: fewer than two clusters, or all clusters with one mean.
    """
    sums, counts = cluster_sums(values, clusters)
    if len(sums) < 2 or np.ptp(sums / counts) < 1e-12:
        return None
    # Clusters with the same sum and size are interchangeable: only how many of each kind are drawn counts.
    kinds, times = np.unique(np.column_stack([sums.round(9), counts]), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    means = []
    block = max(1, _BLOCK_VALUES // len(kinds))
    for start in range(0, draws, block):
        drawn = rng.multinomial(len(sums), times / len(sums), size=min(block, draws - start))
        totals = drawn @ kinds
        means.append(totals[:, 0] / totals[:, 1])
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(low), float(high))


def cluster_sums(
    values: Sequence[float] | npt.NDArray[np.float64], clusters: Sequence[Hashable]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the sum and the number of values of each cluster, in order of first appearance."""
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(cluster, len(places)) for cluster in clusters], dtype=int)
    numbers = np.asarray(values, dtype=float)
    sums = np.bincount(index, weights=numbers, minlength=len(places))
    counts = np.bincount(index, minlength=len(places))
    return sums.astype(np.float64), counts.astype(np.float64)


def accuracy_interval(
    correct: Sequence[int], context_ids: Sequence[Hashable], confidence: float = 0.95
) -> Interval:
    """Return the interval of an accuracy that fits its samples.

    Wilson where every context is a single question, else the cluster bootstrap. Where the bootstrap says
    nothing (one context, or the same accuracy in all of them), it is Wilson with a context counted as one
    sample, which is wide enough whatever the dependence.

    Args:
        correct: n values 0 or 1.
        context_ids: n keys of contexts.
    """
    n, contexts = len(correct), len(set(context_ids))
    if contexts == n:
        return wilson_interval(int(sum(correct)), n, confidence)
    interval = cluster_bootstrap_interval(np.asarray(correct, dtype=float), context_ids, confidence)
    if interval is None:
        return wilson_interval(sum(correct) / n * contexts, contexts, confidence)
    return interval
