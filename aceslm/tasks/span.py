"""Span answers: words from the text, scored by exact match and token F1 after normalisation."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aceslm.core.values import Sample
from aceslm.tasks.base import UNPARSED, Verdict, gold_spans, hit
from aceslm.tasks.number import same_number
from aceslm.tasks.quantities import as_quantity
from aceslm.tasks.span_reading import read_spans
from aceslm.tasks.text import normalise, token_f1


class Span:
    """The spans that a reply gives (`span_reading`); the order of several does not count."""

    instruction = "Answer with only the words from the text, or the number."
    max_new_tokens = 32

    def question_block(self, sample: Sample) -> str:
        return f"Question: {sample.question}"

    def gold(self, sample: Sample) -> str:
        return sample.answer

    def judge(self, sample: Sample, text: str) -> Verdict:
        read = read_spans(text, question=sample.question, context=sample.context)
        if not read:
            return UNPARSED
        gold = gold_spans(sample)
        exact = same_spans(read, gold) or _same_number(read, sample)
        f1 = 1.0 if exact else token_f1(" ".join(read), " ".join(gold))
        quantity = as_quantity(read[-1].rstrip("."))
        return hit(
            "; ".join(read), exact, f1=f1, predicted_scale=(quantity.scale or None) if quantity else None
        )


def same_spans(one: Sequence[str], other: Sequence[str]) -> bool:
    """Say whether two answers are the same: equal items in any order, however they are parted.

    "Retail and Wholesale" is the list of the two: both sides are parted at commas, semicolons and "and".
    """
    return _items(one) == _items(other)


def _items(spans: Sequence[str]) -> list[str]:
    pieces = [piece for span in spans for piece in re.split(r",(?!\d)|;|\band\b", span)]
    return sorted(said for piece in pieces if piece.strip() and (said := normalise(piece)))


def _same_number(read: Sequence[str], sample: Sample) -> bool:
    """Compare as numbers: a scale that the reply states must be the gold's, one it leaves out is forgiven."""
    stated, expected = as_quantity(read[0].rstrip(".")), as_quantity(sample.answer)
    if len(read) > 1 or stated is None or expected is None:
        return False
    if not stated.scale:
        return stated.value == expected.value
    return same_number(stated, expected, sample.scale)
