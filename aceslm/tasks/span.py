"""Span answers: words from the text, scored by exact match and token F1 after normalisation."""

from __future__ import annotations

import re

from aceslm.core.values import Sample
from aceslm.tasks.base import UNPARSED, Verdict, gold_spans, hit
from aceslm.tasks.number import same_number
from aceslm.tasks.quantities import as_quantity
from aceslm.tasks.text import answer_line, normalise, token_f1


class Span:
    """The first line, or the opening bullets, answer; several gold spans are joined, their order ignored."""

    instruction = "Answer with only the words or the number from the text."
    max_new_tokens = 32

    def question_block(self, sample: Sample) -> str:
        return f"Question: {sample.question}"

    def gold(self, sample: Sample) -> str:
        return sample.answer

    def judge(self, sample: Sample, text: str) -> Verdict:
        line = answer_line(text)
        if not line:
            return UNPARSED
        spans = gold_spans(sample)
        exact = _same_spans(line, spans) or _same_number(line, sample)
        f1 = 1.0 if exact else token_f1(line, " ".join(spans))
        quantity = as_quantity(line.rstrip("."))
        return hit(line, exact, f1=f1, predicted_scale=(quantity.scale or None) if quantity else None)


def _same_spans(line: str, spans: tuple[str, ...]) -> bool:
    expected = sorted(map(normalise, spans))
    if len(expected) == 1:
        return normalise(line) == expected[0]
    splits = (line.split(";"), re.split(r",(?!\d)|;| and ", line))
    return any(sorted(normalise(part) for part in split if part.strip()) == expected for split in splits)


def _same_number(line: str, sample: Sample) -> bool:
    """Compare as numbers: a scale that the reply states must be the gold's, one it leaves out is forgiven."""
    stated, expected = as_quantity(line.rstrip(".")), as_quantity(sample.answer)
    if stated is None or expected is None:
        return False
    if not stated.scale:
        return stated.value == expected.value
    return same_number(stated, expected, sample.scale)
