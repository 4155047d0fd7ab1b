"""Intervals for samples that share contexts: questions about one table are not independent.

accuracy_interval([1, 0, 1, 1], ["table-1", "table-1", "table-2", "table-3"])
mean_interval([0.4, 1.0, 0.0], ["table-1", "table-1", "table-2"])     # of a score in [0, 1]

A context counts by its size: with X its sum and n its number of samples, the mean is sum X / sum n. A value
t is held possible where sum(X - t n) is within 1.96 of its own standard deviations at t: Wilson's interval
(1927) with contexts in the place of samples. That variance is taken from the contexts, or, where it is
larger, from what the mean t would need in contexts that hold something and were not among the few that were
drawn. Nothing is drawn at random: the same rows in any order give the same interval.

`python tests/simulations.py` prints how often the truth is inside.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aceslm.analysis.statistics.accuracy import Z_95, Interval, proportion_interval

if TYPE_CHECKING:
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]

_DECIMALS = 9  # sums of averages differ in the last bits


def accuracy_interval(correct: Sequence[int], context_ids: Sequence[Hashable]) -> Interval:
    """Return the 95 % interval of an accuracy: that of a proportion where every context is a single question.

    Args:
        correct: n values 0 or 1.
        context_ids: n keys of contexts.
    """
    if len(set(context_ids)) == len(correct):
        return proportion_interval(int(sum(correct)), len(correct))
    return mean_interval(np.asarray(correct, dtype=float), context_ids)


def mean_interval(values: Sequence[float] | Numbers, context_ids: Sequence[Hashable]) -> Interval:
    """Return the 95 % interval of the mean of n values in [0, 1]; no values say nothing: [0, 1]."""
    if len(values) == 0:
        return Interval(0.0, 1.0)
    sums, counts = cluster_sums(values, context_ids)
    return Interval(max(0.0, 1.0 - _high(counts - sums, counts)), min(1.0, _high(sums, counts)))


def cluster_sums(values: Sequence[float] | Numbers, clusters: Sequence[Hashable]) -> tuple[Numbers, Numbers]:
    """Return the sum and the number of values of each cluster, sorted: the order of rows does not matter."""
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(cluster, len(places)) for cluster in clusters], dtype=int)
    numbers = np.asarray(values, dtype=float)
    sums = np.bincount(index, weights=numbers, minlength=len(places)).round(_DECIMALS)
    counts = np.bincount(index, minlength=len(places)).astype(np.float64)
    order = np.lexsort((sums, counts))
    return np.asarray(sums[order], dtype=float), counts[order]


def size_of_one(held: Numbers, counts: Numbers) -> float:
    """Return what a context holds that holds anything, by its share of all that is held.

    Half a full context of typical size is counted in: a few small ones do not prove that there are no full
    ones, and where nothing is held at all, a full one is what may have been missed.

    Args:
        held: what each context holds, at least 0.
        counts: the number of samples of each.
    """
    full = float(np.square(counts).sum() / counts.sum())
    return float((np.square(held).sum() + full * full / 2) / (held.sum() + full / 2))


def reach(total: float, counts: Numbers, size: float, fixed: float = 0.0) -> float:
    """Return the largest t that a variance of `size` t sum(n) + `fixed` - t^2 sum(n^2) allows; -inf: none.

    It is the larger root of (total - t sum(n))^2 = 1.96^2 x that variance.
    """
    n, squares, z2 = float(counts.sum()), float(np.square(counts).sum()), Z_95 * Z_95
    a, b, c = n * n + z2 * squares, 2 * total * n + z2 * size * n, total * total - z2 * fixed
    root = b * b - 4 * a * c
    return (b + math.sqrt(root)) / (2 * a) if root >= 0 else -math.inf


def _high(sums: Numbers, counts: Numbers) -> float:
    """Return the upper end; the lower one is that of what was missed."""
    return max(_high_by_spread(sums, counts), reach(float(sums.sum()), counts, size_of_one(sums, counts)))


def _high_by_spread(sums: Numbers, counts: Numbers) -> float:
    """Return the larger root t of sum(X - t n)^2 = 1.96^2 sum((X - t n)^2); inf with too few contexts."""
    n, total, z2 = float(counts.sum()), float(sums.sum()), Z_95 * Z_95
    a = n * n - z2 * float(np.square(counts).sum())
    if a <= 0:
        return math.inf
    b = total * n - z2 * float((sums * counts).sum())
    c = total * total - z2 * float(np.square(sums).sum())
    return (b + math.sqrt(max(0.0, b * b - a * c))) / a
