"""TAT-QA replies: read into spans and a scale, scored as the official evaluation scores them.

A sample asks for this by its metadata: `{"source": "TAT-QA, ...", "answer_type": "multi-span", ...}`.
"""

from __future__ import annotations

import json
import math
import re

from aceslm.core.values import Sample
from aceslm.tasks.asked import stands_in
from aceslm.tasks.base import UNPARSED, Verdict, gold_spans
from aceslm.tasks.numerals import digits_for_words
from aceslm.tasks.quantities import as_quantity
from aceslm.tasks.span_reading import read_spans
from aceslm.tasks.tatqa_metric import SCALES, is_number, score_tatqa, to_number
from aceslm.tasks.text import normalise

_KINDS = ("span", "multi-span", "arithmetic", "count")
_LONG = 40  # characters: longer numbers are beyond floating point, and no answers
_YEARS = re.compile(r"(?:19|20)[0-9]{2}/(?:19|20)?[0-9]{2}")
_SCALE_AT_END = re.compile(
    r"(?<=[\d) ])(?:(?P<word>thousand|million|billion)s?|percent(?:age)?)$", re.IGNORECASE
)


def tatqa_kind(sample: Sample) -> str | None:
    """Return the published answer type of a TAT-QA sample; None for samples of other origin."""
    if "answer_type" not in sample.metadata:
        return None
    try:
        known = json.loads(sample.metadata)
    except (ValueError, RecursionError):
        return None
    if not isinstance(known, dict):
        return None
    source = str(known.get("source", "")).casefold().replace("-", "")
    kind = known.get("answer_type")
    return kind if source.startswith("tatqa") and kind in _KINDS else None


def judge_tatqa(sample: Sample, text: str, kind: str) -> Verdict:
    """Score a reply by the official metric: the score is its F1, `correct` its exact match.

    The published answer type picks the metric's F1 rule; what is read does not depend on it.
    """
    prediction, scale = read_tatqa(text, question=sample.question, context=sample.context)
    if not any(normalise(span) for span in prediction):
        return UNPARSED
    result = score_tatqa(gold_spans(sample), kind, sample.scale, prediction, scale)
    return Verdict(
        pred="; ".join(prediction),
        parsed=True,
        correct=int(result.exact_match),
        exact_match=result.exact_match,
        f1=result.f1,
        score=result.f1,
        predicted_scale=scale or None,
    )


def read_tatqa(text: str, *, question: str = "", context: str = "") -> tuple[tuple[str, ...], str]:
    """Return the spans of a reply without their scale, and the scale that the last one states.

    >>> read_tatqa("The answer is $73.2 and $57.7 million.")
    (('$73.2', '$57.7'), 'million')
    """
    spans = read_spans(text, question=question, context=context)
    parted = [_part(span, context) for span in spans]
    if not parted:
        return (), ""
    scale = parted[-1][1]
    if any(found not in {"", scale} for _, found in parted):
        return spans, ""  # each span with its own scale: the text says it
    return tuple(stem for stem, _ in parted), scale


def _part(span: str, context: str) -> tuple[str, str]:
    """Return a number without the scale word behind it, and the scale; a percent sign stays.

    Numbers stay as written where the evaluation reads them as meant. It does not read "three", "1/4",
    "1.5e6" or trillions, nor "(1,234)" as -1234: they become digits, but for brackets that are copied from
    the context. Other texts keep their words, and state no scale: "approximately 13%" of the context, "in
    thousands".
    """
    bare = span.rstrip(" .")
    quantity = as_quantity(digits_for_words(bare))
    if quantity is None or _YEARS.fullmatch(bare):
        return span, ""
    stem = _SCALE_AT_END.sub("", bare).rstrip()
    if as_quantity(stem) is not None and stands_in(stem, context):
        scale = quantity.scale if is_number(stem) or stem != bare else ""
        return stem, scale if scale in SCALES else ""
    if quantity.scale not in SCALES:  # the evaluation knows no trillions
        return f"{quantity.value * 1000:f}", "billion"
    bracketed = "(" in bare and ("," in bare or "%" in bare or not quantity.value)
    misread = (
        not quantity.scale
        and len(stem) < _LONG
        and not math.isclose(to_number(stem) or 0, float(quantity.value), rel_tol=1e-9, abs_tol=1e-4)
    )
    if bracketed or not is_number(stem) or misread:
        return str(quantity), quantity.scale
    return stem, quantity.scale
