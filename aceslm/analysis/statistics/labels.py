"""Classification figures that a skewed label balance does not flatter: macro-F1 and MCC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import sqrt


def macro_f1(gold: Sequence[str], pred: Sequence[str | None]) -> float:
    """Return the mean F1 over the labels that occur in `gold` or `pred`.

    None is a reply without a label: a miss of the gold label, and no label of its own. A label that is
    never found has F1 0.
    """
    hits = Counter(truth for truth, guess in zip(gold, pred, strict=True) if truth == guess)
    truths, guesses = Counter(gold), Counter(guess for guess in pred if guess is not None)
    labels = sorted(truths | guesses)
    return sum(2 * hits[label] / (truths[label] + guesses[label]) for label in labels) / len(labels)


def matthews(gold: Sequence[str], pred: Sequence[str | None]) -> float:
    """Return Matthews' correlation of `gold` and `pred`, for any number of labels (Gorodkin 2004).

    None is a category of its own that is never right. 0 where it is undefined: one gold label only, or one
    prediction for all.
    """
    n = len(gold)
    right = sum(truth == guess for truth, guess in zip(gold, pred, strict=True))
    truths, guesses = Counter(gold), Counter(pred)
    together = right * n - sum(truths[label] * guesses[label] for label in truths)
    spread = (n * n - sum(k * k for k in guesses.values())) * (n * n - sum(k * k for k in truths.values()))
    return together / sqrt(spread) if spread else 0.0
