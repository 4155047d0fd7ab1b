"""TAT-QA's exact match and numeracy-focused F1, equal to the official evaluation for the same predictions.

    score_tatqa(("1,496.5",), "span", "million", "1496.5", "million").exact_match   # 1.0

Written from the behaviour of the published evaluator (Zhu et al., ACL 2021; `tatqa_eval.py`), oddities
included, because published figures contain them:

- the scale is part of the answer: numbers are rounded to two decimals and multiplied by it, other texts get
  it appended;
- "23.42%" is a percentage whatever the scale, and an unscaled 0.2342 also equals 23.42 percent;
- "(1234)" is -1234, but "(1,234)" is +1234; ".5" and "1e5" are not read as 0.5 and 100000;
- several spans are sorted as texts and joined; F1 is over sets of tokens, rounded to two decimals;
- arithmetic and count answers get no partial credit.
"""

from __future__ import annotations

import math
import re
import string
from dataclasses import dataclass

SCALES = ("", "thousand", "million", "billion", "percent")

_FACTORS = (("hundred", 100), ("thousand", 10**3), ("million", 10**6), ("billion", 10**9), ("percent", 0.01))
_DECORATION = str.maketrans("", "", "'\"\\$€£¥%(),[]")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_FIRST_NUMBER = re.compile(r"(?P<plain>[+-]?\d+(?:\.\d+)?)|[+-]?\.\d+")
_BRACKETED = re.compile(r"\([\d.\s]+\)")
_PERCENTAGE = re.compile(r"[\d.\s]%")
_WORD_AT_NUMBER = re.compile(r"[\d.]\s?(?P<word>[a-zA-Z]+)")
_ARTICLES = re.compile(r"\b(?:an?|the)\b")


@dataclass(frozen=True, slots=True)
class TatqaScore:
    """`exact_match` is 0.0 or 1.0, `f1` in [0, 1]; `scale_correct` says whether the scales are the same."""

    exact_match: float
    f1: float
    scale_correct: bool


WRONG = TatqaScore(0.0, 0.0, scale_correct=False)


def score_tatqa(
    gold_spans: tuple[str, ...],
    answer_type: str,
    gold_scale: str,
    prediction: str | tuple[str, ...],
    predicted_scale: str,
) -> TatqaScore:
    """Score one prediction. An empty prediction scores nothing, its scale included.

    Args:
        gold_spans: the published answer as texts; one for `span`, `arithmetic` and `count`.
        answer_type: `span`, `multi-span`, `arithmetic` or `count`.
        gold_scale: one of `SCALES`.
        prediction: a text, or several spans in any order. Never a number: the official evaluation takes
            the integer 0 for no answer.
        predicted_scale: one of `SCALES`.
    """
    spans = (prediction,) if isinstance(prediction, str) else prediction
    if not prediction or not gold_spans:
        return WRONG
    wanted = _tokens(_answer_text(gold_spans, gold_scale))
    readings = [_answer_text(spans, predicted_scale)]
    if (fraction := _fraction(spans, predicted_scale)) is not None:
        readings.append(fraction)
    exact_match, f1 = max(_compare(_tokens(reading), wanted) for reading in readings)
    if answer_type in {"arithmetic", "count"}:
        f1 = exact_match
    return TatqaScore(exact_match, f1, scale_correct=gold_scale == predicted_scale)


def is_number(text: str) -> bool:
    """Say whether the evaluation takes a text for a number: "$ 1,234", "(5)", "1.2 million", "12%".

    Only the first two words count; a second one must be a scale.
    """
    words = text.translate(_DECORATION).split()
    if not words:
        return False
    try:
        if math.isnan(float(words[0])):
            return False
    except ValueError:
        return False
    return len(words) == 1 or _factor(words[1]) != 1


def to_number(text: str) -> float | None:
    """Return the value of a text that `is_number`, to four decimals; None where its digits cannot be used.

    >>> to_number("(1234)"), to_number("(1,234)"), to_number("12%"), to_number("$1.2 million")
    (-1234, 1234, 0.12, 1200000.0)
    """
    match = _FIRST_NUMBER.search(text.translate(_DECORATION))
    if match is None or match["plain"] is None:
        return None
    word = _WORD_AT_NUMBER.search(text)
    bare = text.strip()
    sign = -1 if _BRACKETED.search(bare) else 1
    percent = 0.01 if _PERCENTAGE.search(bare) else 1
    try:
        number = float(match["plain"]) if "." in match["plain"] else int(match["plain"])
        return round(number * (_factor(word["word"]) if word else 1) * sign * percent, 4)
    except (ValueError, OverflowError):  # thousands of digits
        return None


def _factor(scale: str) -> float:
    lowered = scale.lower()
    return next((factor for name, factor in _FACTORS if name in lowered), 1)


def _answer_text(spans: tuple[str, ...], scale: str) -> str:
    """Return spans with their scale as one text: sorted, numbers in ones with four decimals."""
    return " ".join(_with_scale(span, scale) for span in sorted(spans))


def _with_scale(span: str, scale: str) -> str:
    number = to_number(span) if is_number(span) else None
    if number is None:
        return f"{span} {scale}" if scale else span
    try:
        return _four_decimals(number if "%" in span else round(number, 2) * _factor(scale))
    except OverflowError:
        return span


def _fraction(spans: tuple[str, ...], scale: str) -> str | None:
    """Return the unrounded text of an unscaled number: 0.2342 is then equal to 23.42 percent."""
    if len(spans) != 1 or scale or "%" in spans[0] or not is_number(spans[0]):
        return None
    number = to_number(spans[0])
    try:
        return None if number is None else _four_decimals(number)
    except OverflowError:
        return None


def _four_decimals(number: float) -> str:
    return f"{number:.4f}"


def _tokens(text: str) -> str:
    """Return a text for comparison: no case, articles or punctuation, numbers in one spelling."""
    words = (_word(token.lower()) for token in text.split(" "))
    return " ".join(word for word in words if word)


def _word(token: str) -> str:
    token = token if is_number(token) else token.translate(_PUNCTUATION)
    spelled = str(to_number(token)) if is_number(token) else token
    return " ".join(_ARTICLES.sub(" ", spelled).split())


def _compare(predicted: str, gold: str) -> tuple[float, float]:
    """Return exact match and F1 over token sets; the F1 is rounded half to even, as numpy does it."""
    left, right = set(predicted.split()), set(gold.split())
    common = len(left & right)
    precision = common / len(left) if left else 1.0
    recall = common / len(right) if right else 1.0
    f1 = 2 * precision * recall / (precision + recall) if precision or recall else 0.0
    return float(predicted == gold), round(f1 * 100) / 100
