"""Paired comparison of two modes on the same samples, and Holm's correction over many of them.

    result = paired_comparison(ace, scaffold, context_ids)   # arrays of samples x seeds
    result.difference, result.interval, result.p_value

Seeds are averaged first: the samples are what was drawn, seeds are repeated looks at them. Interval and p are
one test (`aceslm.analysis.statistics.sign_flips`): 0 is outside the interval exactly where p <= 0.05.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aceslm.analysis.statistics.accuracy import Interval
from aceslm.analysis.statistics.intervals import cluster_sums
from aceslm.analysis.statistics.sign_flips import flipped

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class McNemar:
    """Exact McNemar test: samples that only one of two modes got right, and the two-sided p."""

    only_treatment: int
    only_reference: int
    p_value: float


@dataclass(frozen=True, slots=True)
class PairedResult:
    """Treatment minus reference, as a difference of means in [-1, 1].

    `mcnemar` is None where contexts hold several questions, a mode has several seeds, or values are not 0 and
    1.
    """

    difference: float
    interval: Interval
    p_value: float
    num_samples: int
    num_contexts: int
    mcnemar: McNemar | None = None


def paired_comparison(
    treatment: npt.NDArray[np.float64],
    reference: npt.NDArray[np.float64],
    context_ids: Sequence[Hashable],
) -> PairedResult:
    """Compare two modes on the same samples.

    Args:
        treatment: values in [0, 1] as samples x seeds; row i is the same sample in both arrays. NaN where a
            seed lacks a sample.
        reference: likewise; the number of seeds may differ.
        context_ids: the context of each sample.

    Raises:
        ValueError: no samples, or not the same number of them.
    """
    if not len(treatment) == len(reference) == len(context_ids) or len(context_ids) == 0:
        sizes = f"{len(treatment)}, {len(reference)}, {len(context_ids)}"
        raise ValueError(f"a paired comparison needs the same samples on both sides, not {sizes}")
    differences = np.nanmean(treatment, axis=1) - np.nanmean(reference, axis=1)
    sums, counts = cluster_sums(differences, context_ids)
    flips = flipped(sums, counts)
    single = len(sums) == len(differences) and treatment.shape[1] == reference.shape[1] == 1
    binary = single and bool(np.isin(treatment, (0, 1)).all() and np.isin(reference, (0, 1)).all())
    return PairedResult(
        difference=float(differences.mean()),
        interval=flips.interval,
        p_value=flips.p_value,
        num_samples=len(differences),
        num_contexts=len(sums),
        mcnemar=mcnemar(treatment[:, 0], reference[:, 0]) if binary else None,
    )


def mcnemar(treatment: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> McNemar:
    """Return the exact McNemar test of two arrays of 0 and 1 over the same samples."""
    from statsmodels.stats.contingency_tables import mcnemar as test

    gained = int(np.count_nonzero((treatment == 1) & (reference == 0)))
    lost = int(np.count_nonzero((treatment == 0) & (reference == 1)))
    p_value = float(test([[0, gained], [lost, 0]], exact=True).pvalue)
    return McNemar(only_treatment=gained, only_reference=lost, p_value=p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number by Holm's step-down method (Holm 1979), in order."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda one: p_values[one])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
