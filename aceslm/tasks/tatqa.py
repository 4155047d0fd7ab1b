"""TAT-QA replies: read into spans and a scale, scored as the official evaluation scores them.

A sample asks for this by its metadata: `{"source": "TAT-QA, ...", "answer_type": "multi-span", ...}`.
"""

from __future__ import annotations

import json
import re

from aceslm.core.values import Sample
from aceslm.tasks.base import UNPARSED, Verdict, gold_spans
from aceslm.tasks.tatqa_metric import SCALES, is_number, score_tatqa
from aceslm.tasks.text import answer_line, find_number, normalise, shown_number

_KINDS = ("span", "multi-span", "arithmetic", "count")
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
    """Score a reply by the official metric: the score is its F1, `correct` its exact match."""
    if kind in {"arithmetic", "count"}:
        prediction, scale = read_number(text)
    else:
        prediction, scale = read_spans(text, several=kind == "multi-span")
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


def read_number(text: str) -> tuple[tuple[str, ...], str]:
    """Return the number of a reply as the evaluation reads it best: plain digits, and its scale.

    A number in brackets is negative here whether or not it has separators; the evaluation's "(1,234)" is
    +1234, which no reply means.
    """
    found = find_number(text)
    if found is None:
        return (), ""
    value, scale = found
    if scale not in SCALES:  # the evaluation knows no trillions
        value, scale = value * 1000, "billion"
    return (shown_number(value),), scale


def read_spans(text: str, *, several: bool) -> tuple[tuple[str, ...], str]:
    """Return the spans of a reply without their scale, and the scale that the last one states.

    >>> read_spans("The answer is $73.2 and $57.7 million.", several=True)
    (('$73.2', '$57.7'), 'million')
    """
    line = answer_line(text)
    spans = _split(line) if several else (line,)
    spans = tuple(span for span in spans if span)
    if not spans:
        return (), ""
    parted = [_part(span) for span in spans]
    scale = parted[-1][1]
    if any(found not in {"", scale} for _, found in parted):
        return spans, ""  # each span with its own scale: the text says it
    return tuple(stem for stem, _ in parted), scale


def _split(line: str) -> tuple[str, ...]:
    """Split an enumeration by its strongest separator: a JSON list, semicolons, commas and "and"."""
    if line.startswith("["):
        try:
            spans = json.loads(line)
        except (ValueError, RecursionError):
            spans = None
        if isinstance(spans, list) and spans and all(isinstance(span, str | int | float) for span in spans):
            return tuple(str(span).strip() for span in spans)
    pieces = line.split(";") if ";" in line else re.split(r",(?!\d)| and ", line)
    return tuple(piece.strip().removeprefix("and ").strip() for piece in pieces)


def _part(span: str) -> tuple[str, str]:
    """Return a number without the scale word behind it, and the scale; a percent sign stays.

    Other texts keep their words, and state no scale: "approximately 13%", "in thousands".
    """
    bare = span.rstrip(" .")
    if "%" in bare:
        return span, "percent" if is_number(bare) else ""
    match = _SCALE_AT_END.search(bare)
    stem = bare[: match.start()].rstrip() if match else ""
    if match is None or not is_number(stem):
        return span, ""
    return stem, (match["word"] or "percent").lower()
