"""Paired comparison of two modes on the same samples, and Holm's correction over many of them.

    result = paired_comparison(ace, scaffold, context_ids)   # arrays of samples x seeds
    result.difference, result.interval, result.p_value

Seeds are averaged first: the samples are what was drawn, seeds are repeated looks at them. The p is that of
a sign-flip test over contexts: if the modes did not differ, each context's summed difference could as well
have had the other sign (Fisher 1935).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aceslm.analysis.statistics.accuracy import Interval
from aceslm.analysis.statistics.intervals import cluster_bootstrap_interval, cluster_sums

if TYPE_CHECKING:
    import numpy.typing as npt

EXACT_CONTEXTS = 14
_TIE = 1e-9  # sums of averages differ in the last bits
_BLOCK_ROWS = 1000


@dataclass(frozen=True, slots=True)
class McNemar:
    """Exact McNemar test: samples that only one of two modes got right, and the two-sided p."""

    only_treatment: int
    only_reference: int
    p_value: float


@dataclass(frozen=True, slots=True)
class PairedResult:
    """Treatment minus reference, as a difference of accuracies in [-1, 1].

    `interval` is None where resampling says nothing (one context, or one difference everywhere). `mcnemar`
    is None where contexts hold several questions or a mode has several seeds.
    """

    difference: float
    interval: Interval | None
    p_value: float
    num_samples: int
    num_contexts: int
    mcnemar: McNemar | None = None


def paired_comparison(
    treatment: npt.NDArray[np.float64],
    reference: npt.NDArray[np.float64],
    context_ids: Sequence[Hashable],
    seed: int = 0,
) -> PairedResult:
    """Compare two modes on the same samples.

    Args:
        treatment: `correct` as samples x seeds; row i is the same sample in both arrays. NaN where a seed
            lacks a sample.
        reference: likewise; the number of seeds may differ.
        context_ids: the context of each sample.
        seed: of the random flips and of the bootstrap.

    Raises:
        ValueError: no samples, or not the same number of them.
    """
    if not len(treatment) == len(reference) == len(context_ids) or len(context_ids) == 0:
        sizes = f"{len(treatment)}, {len(reference)}, {len(context_ids)}"
        raise ValueError(f"a paired comparison needs the same samples on both sides, not {sizes}")
    differences = np.nanmean(treatment, axis=1) - np.nanmean(reference, axis=1)
    sums, _ = cluster_sums(differences, context_ids)
    single = len(sums) == len(differences) and treatment.shape[1] == reference.shape[1] == 1
    return PairedResult(
        difference=float(differences.mean()),
        interval=cluster_bootstrap_interval(differences, context_ids, seed=seed),
        p_value=sign_flip_p(sums, seed=seed),
        num_samples=len(differences),
        num_contexts=len(sums),
        mcnemar=mcnemar(treatment[:, 0], reference[:, 0]) if single else None,
    )


def sign_flip_p(sums: npt.NDArray[np.float64], draws: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p of the sign-flip test of `sums` (one summed difference a context).

    Exact over all 2^k sign patterns up to `EXACT_CONTEXTS` contexts with a difference; beyond that over
    `draws` random patterns, the observed one counted in, so that p is never 0 (Phipson and Smyth 2010).
    """
    moved = np.asarray(sums, dtype=float)
    moved = moved[np.abs(moved) > _TIE]
    if moved.size == 0:
        return 1.0
    observed = abs(moved.sum()) - _TIE * moved.size  # a tie is a tie, whatever the rounding
    if moved.size <= EXACT_CONTEXTS:
        patterns = np.arange(2**moved.size)[:, None] >> np.arange(moved.size) & 1
        return float(np.mean(np.abs((1 - 2 * patterns) @ moved) >= observed))
    # Of m contexts with one size of difference, only how many keep their sign counts: binomial(m, 1/2).
    sizes, times = np.unique(np.abs(moved).round(9), return_counts=True)
    rng = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, draws, _BLOCK_ROWS):
        kept = rng.binomial(times, 0.5, size=(min(_BLOCK_ROWS, draws - start), sizes.size))
        extreme += int(np.count_nonzero(np.abs((2 * kept - times) @ sizes) >= observed))
    return (extreme + 1) / (draws + 1)


def mcnemar(treatment: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> McNemar:
    """Return the exact McNemar test of two arrays of 0 and 1 over the same samples."""
    from statsmodels.stats.contingency_tables import mcnemar as test

    gained = int(np.count_nonzero((treatment == 1) & (reference == 0)))
    lost = int(np.count_nonzero((treatment == 0) & (reference == 1)))
    p_value = float(test([[0, gained], [lost, 0]], exact=True).pvalue)
    return McNemar(only_treatment=gained, only_reference=lost, p_value=p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted for their number by Holm's step-down method (Holm 1979), in order."""
    if not p_values:
        return []
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(list(p_values), method="holm")[1]]
