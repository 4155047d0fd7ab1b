"""The sign-flip test of a paired difference, and the interval that is its inversion.

    flips = flipped(sums, counts)            # one sum of differences and one number of samples a context
    flips.p_value, flips.interval

If two modes did not differ, each context's summed difference D could as well have had the other sign (Fisher
1935): p is the share of sign patterns whose |sum| is at least the one seen. A difference t is held possible
where the same test of D - t n has p > 0.05. A pattern is as extreme as what was seen for every t between the
mean over the contexts that it flips and the mean over the others (Hartigan 1969), so that each end of the
interval is an order statistic of such means: nothing is searched for.

The test knows only differences that were seen: with two gains, no loss and many ties it excludes every loss.
The interval is therefore widened, never across a 0 that the test rejects, by what contexts that were not
drawn could still hold. 0 is outside the interval exactly where p <= 0.05.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aceslm.analysis.statistics.accuracy import Interval
from aceslm.analysis.statistics.intervals import reach, size_of_one

if TYPE_CHECKING:
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]

ALPHA = 0.05
ALL_PATTERNS = 16  # up to so many contexts all 2^k patterns are looked at
_SEED = 1
_EXACT_STEPS = 20_000  # whole sums up to this total are counted exactly
_DENOMINATORS = range(1, 13)  # means over so many seeds are whole numbers, scaled
_TIE = 1e-7  # sums of means differ in the last bits
_FEWEST_DRAWS, _MOST_DRAWS = 20_000, 200_000
_END_SD = 0.0005  # how far the seed may move an end: more patterns are drawn for wider intervals
_BLOCK_VALUES = 4_000_000


@dataclass(frozen=True, slots=True)
class Flips:
    """What flipping the signs of contexts says about a mean difference in [-1, 1]."""

    p_value: float
    interval: Interval


def flipped(sums: Numbers, counts: Numbers, seed: int = _SEED) -> Flips:
    """Test a mean difference against 0, and invert the test.

    The p is exact over all 2^k sign patterns of up to `ALL_PATTERNS` contexts, and of any number of them
    where the sums are whole numbers or means of a few seeds; else over random patterns, the one that was seen
    counted in, so that p is never 0 (Phipson and Smyth 2010).

    Args:
        sums: the summed difference of each context, in [-n, n].
        counts: n, the number of samples of each context.
        seed: of the random patterns. They move an end by less than 0.002.
    """
    total = float(sums.sum())
    turned = sums if total >= 0 else -sums  # a comparison and its reverse look at the same patterns
    order = np.lexsort((turned, counts))  # and so do the same contexts in another order
    turned, counts = turned[order], counts[order]
    pairs = np.column_stack([turned, counts])
    few = len(sums) <= ALL_PATTERNS
    part = _all_patterns(len(sums)) @ pairs if few else _drawn(pairs, _draws(turned, counts), seed)
    p_value = _p_value(turned, part[:, 0], few)
    low, high = _inverted(part, pairs.sum(axis=0), few)
    high = min(1.0, max(high, _unseen_above(turned, counts)))
    low = max(-1.0, _lowered(low, turned, counts, p_value))
    return Flips(p_value, Interval(low, high) if total >= 0 else Interval(0.0 - high, 0.0 - low))


def _p_value(sums: Numbers, part: Numbers, few: bool) -> float:
    moved = sums[np.abs(sums) > _TIE]
    if moved.size == 0:
        return 1.0
    if not few and (whole := _whole(moved)) is not None:
        return _exact_p(whole)
    extreme = int(np.count_nonzero(np.abs(sums.sum() - 2 * part) >= abs(sums.sum()) - _TIE))
    return extreme / len(part) if few else (extreme + 1) / (len(part) + 1)


def _inverted(part: Numbers, total: Numbers, few: bool) -> tuple[float, float]:
    """Return the smallest and the largest t whose test has p > 0.05; infinite with too few contexts.

    Args:
        part: summed difference and number of samples of the contexts that each pattern flips.
        total: those of all contexts.
    """
    rest = total - part
    whole = (part[:, 1] < 0.5) | (rest[:, 1] < 0.5)  # as extreme as what was seen, whatever t is
    means = np.stack([one[:, 0] / np.where(whole, 1.0, one[:, 1]) for one in (part, rest)])
    low = np.where(whole, -np.inf, means.min(axis=0))
    high = np.where(whole, np.inf, means.max(axis=0))
    rank = math.floor(ALPHA * len(part) + 1e-9) + 1 if few else round(ALPHA * (len(part) + 1))
    place = len(part) - rank
    return float(np.partition(low, rank - 1)[rank - 1]), float(np.partition(high, place)[place])


def _lowered(low: float, sums: Numbers, counts: Numbers, p_value: float) -> float:
    """Return the lower end of a difference that is not negative, in agreement with the test of 0."""
    widened = min(low, -_unseen_above(-sums, counts), _unseen_below(sums, counts))
    if p_value > ALPHA:
        return min(widened, 0.0)
    return widened if widened > 0 else max(low, math.ulp(0.0))


def _unseen_above(sums: Numbers, counts: Numbers) -> float:
    """Return the largest difference for which contexts with a gain could have been drawn as rarely as here.

    Gains are as large as those seen (`size_of_one`), and as frequent as the difference asks for. Losses stay
    as they were seen; where the losses prevail, a gain must also outweigh what would hold the balance.
    """
    gains, losses, total = np.clip(sums, 0, None), np.clip(-sums, 0, None), float(sums.sum())
    size = size_of_one(gains, counts)
    if total >= 0:
        return reach(total, counts, size, size * float(losses.sum()) + float(np.square(losses).sum()))
    found = reach(total, counts, size, float(np.square(sums).sum()))
    return found if found > 0 else -math.inf


def _unseen_below(sums: Numbers, counts: Numbers) -> float:
    """Return how far below 1 the difference could be: contexts that do not gain all may have been missed."""
    kept = counts - sums
    at_zero = float(np.square(counts).sum() + np.square(sums).sum()) / float(counts.sum())
    # of a difference of 0 the variance is what was seen: there the test itself decides
    return 1.0 - reach(float(kept.sum()), counts, min(size_of_one(kept, counts), at_zero))


def _all_patterns(k: int) -> Numbers:
    """Return all subsets of k contexts as rows of 0 and 1."""
    return (np.arange(2**k)[:, None] >> np.arange(k) & 1).astype(np.float64)


def _draws(sums: Numbers, counts: Numbers) -> int:
    """Return how many patterns make the ends firm, less the one that was seen.

    At p = 0.05 the density of a normal statistic is 0.117 for each of its standard deviations, so that an end
    has a standard deviation of sqrt(0.05 x 0.95 / draws) / 0.117 standard errors.
    """
    mean = float(sums.sum() / counts.sum())
    error = math.sqrt(float(np.square(sums - mean * counts).sum())) / float(counts.sum())
    needed = ALPHA * (1 - ALPHA) * (error / 0.117 / _END_SD) ** 2
    whole = round(min(_MOST_DRAWS, max(_FEWEST_DRAWS, needed)) * ALPHA)  # a twentieth is a whole number
    return round(whole / ALPHA) - 1


def _drawn(values: Numbers, draws: int, seed: int) -> Numbers:
    """Return the sums of `values` (contexts x columns) over random subsets of the contexts.

    Of m contexts with the same values only how many are in the subset counts: binomial(m, 1/2).
    """
    kinds, times = np.unique(values, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    sums = np.empty((draws, values.shape[1]))
    block = max(1, _BLOCK_VALUES // len(kinds))
    several = times > 1
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        taken = np.empty((rows, len(kinds)))
        taken[:, several] = rng.binomial(times[several], 0.5, size=(rows, int(several.sum())))
        single = rows * int((~several).sum())
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-single // 8)), dtype=np.uint8), count=single)
        taken[:, ~several] = bits.reshape(rows, -1)
        sums[start : start + rows] = taken @ kinds
    return sums


def _whole(sums: Numbers) -> npt.NDArray[np.int64] | None:
    """Return `sums` as whole numbers of one unit; None where there is none."""
    for denominator in _DENOMINATORS:
        scaled = sums * denominator
        if np.abs(scaled).sum() > _EXACT_STEPS:
            return None
        if np.abs(scaled - np.rint(scaled)).max() < _TIE * denominator:
            return np.rint(scaled).astype(np.int64)
    return None


def _exact_p(sums: npt.NDArray[np.int64]) -> float:
    """Return the share of all sign patterns of whole numbers that are as extreme as `sums`."""
    from scipy import stats

    sizes, times = np.unique(np.abs(sums), return_counts=True)
    total = int(np.abs(sums).sum())
    length = 1 << total.bit_length()
    product = np.ones(length // 2 + 1, dtype=complex)
    for size, count in zip(sizes.tolist(), times.tolist(), strict=True):
        kept = np.zeros(length)  # how much of the total keeps its sign: size x binomial(count, 1/2)
        kept[: size * count + 1 : size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        product *= np.fft.rfft(kept)
    shares = np.clip(np.fft.irfft(product, length), 0.0, None)[: total + 1]
    left = np.abs(2 * np.arange(total + 1) - total)
    return float(min(1.0, shares[left >= abs(int(sums.sum()))].sum()))
