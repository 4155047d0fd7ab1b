"""Accuracy with its interval."""

from __future__ import annotations

from dataclasses import dataclass

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval: of a proportion (both ends in [0, 1]) or of a difference of two."""

    low: float
    high: float


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Return the Wilson score interval (Wilson 1927) of `successes` out of `n` independent samples.

    No samples say nothing: [0, 1].
    """
    if n == 0:
        return Interval(0.0, 1.0)
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    return Interval(max(0.0, float(low)), min(1.0, float(high)))
