"""What an answer type is: a question block, one format sentence, a parser and a scorer."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Protocol

from aceslm.core.values import Sample


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply was read as, and how it scored.

    `pred` is None when nothing could be read (`parsed` False, `correct` 0): never a default answer.
    `score` in [0, 1] is the answer type's headline score; `exact_match` and `f1` likewise.
    """

    pred: str | None
    parsed: bool
    correct: int
    exact_match: float
    f1: float
    score: float
    predicted_scale: str | None = None


UNPARSED = Verdict(pred=None, parsed=False, correct=0, exact_match=0.0, f1=0.0, score=0.0)


class AnswerType(Protocol):
    """One answer type. `instruction` is the format sentence, the same for every mode."""

    instruction: str
    max_new_tokens: int

    def question_block(self, sample: Sample) -> str:
        """Return the question as the model sees it. It must not depend on the gold answer."""

    def gold(self, sample: Sample) -> str:
        """Return the gold answer as recorded."""

    def judge(self, sample: Sample, text: str) -> Verdict:
        """Read and score a reply; never raises."""


def permutation(sample: Sample) -> tuple[int, ...]:
    """Return the order in which a sample's choices are shown: `permutation[i]` is a published index.

    Keyed by the sample id alone, so every model, mode and seed sees the same order. () without lettered
    choices.
    """
    if sample.answer_type != "choice":
        return ()
    order = list(range(len(sample.choices)))
    random.Random(f"choices:{sample.sample_id}").shuffle(order)  # noqa: S311 - not for secrets
    return tuple(order)


def gold_spans(sample: Sample) -> tuple[str, ...]:
    """Return the gold spans: one, or several where the answer is a JSON list."""
    if sample.answer.startswith("["):
        try:
            spans = json.loads(sample.answer)
        except ValueError:
            return (sample.answer,)
        if isinstance(spans, list) and spans and all(isinstance(span, str) for span in spans):
            return tuple(spans)
    return (sample.answer,)


def hit(pred: str, correct: bool, *, f1: float | None = None, predicted_scale: str | None = None) -> Verdict:
    """Return the verdict of a parsed reply; the score is the F1 where there is one."""
    exact = float(correct)
    return Verdict(
        pred=pred,
        parsed=True,
        correct=int(correct),
        exact_match=exact,
        f1=exact if f1 is None else f1,
        score=exact if f1 is None else f1,
        predicted_scale=predicted_scale,
    )
