"""Numeric answers: the number that a reply states, with its scale."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from aceslm.core.values import Sample
from aceslm.tasks.base import UNPARSED, Verdict, hit
from aceslm.tasks.number_reading import read_quantity
from aceslm.tasks.quantities import MULTIPLIERS, Quantity, as_quantity

RELATIVE_TOLERANCE = Decimal("1e-4")


class Number:
    """Right when equal within 1e-4 relative, or when rounding gives the gold's printed decimals.

    Two whole numbers must be equal. The scale counts: "1.2 billion" is "1,200 million", a bare "12.5" is not
    12.5 million. For percent, see `same_number`.
    """

    instruction = "Answer with the number only."
    max_new_tokens = 32

    def question_block(self, sample: Sample) -> str:
        return f"Question: {sample.question}"

    def gold(self, sample: Sample) -> str:
        return sample.answer

    def judge(self, sample: Sample, text: str) -> Verdict:
        stated = read_quantity(text, sample.question)
        expected = as_quantity(sample.answer.strip().rstrip("."))
        if stated is None or expected is None:
            return UNPARSED
        correct = same_number(stated, expected, sample.scale)
        return hit(str(stated), correct, predicted_scale=stated.scale or None)


def same_number(stated: Quantity, expected: Quantity, scale: str) -> bool:
    """Say whether two numbers agree; `scale` is the gold's own (a scale in its text goes before it).

    Percent, with g the gold's number and r the reply's:

    - a gold in percent ("37.5%", or scale percent) is met by "37.5%", by the fraction "0.375", and by a
      bare "37.5": the question has said the unit;
    - a gold without a scale is met by r% where r / 100 is g: 0.375 by "37.5%", never by "0.375%";
    - and by r% where r is g only if g cannot be a fraction, |g| >= 1: 12 by "12%", as where the question
      asks for a percentage and the gold is its bare number.
    """
    expected = expected if expected.scale else replace(expected, scale=scale)
    percents = {stated.scale, expected.scale}
    if percents <= {"", "percent"} and "percent" in percents:
        bare = expected.scale == stated.scale or not stated.scale or abs(expected.value) >= 1
        if bare and _close(stated.value, expected.value, expected.decimals, stated.decimals):
            return True
    if stated.scale == expected.scale:
        return _close(stated.value, expected.value, expected.decimals, stated.decimals)
    factor = MULTIPLIERS[stated.scale] / MULTIPLIERS[expected.scale]
    return _close(stated.value * factor, expected.value, expected.decimals, expected.decimals + 1)


def _close(stated: Decimal, expected: Decimal, printed: int, stated_decimals: int) -> bool:
    if stated == expected:
        return True
    # Two whole numbers are equal or they are not: 56,790 is a misreading of 56,789.
    if printed == 0 and stated_decimals == 0:
        return False
    distance = abs(stated - expected)
    if distance <= RELATIVE_TOLERANCE * abs(expected):
        return True
    return 0 < printed < stated_decimals and distance <= Decimal(5).scaleb(-printed - 1)
