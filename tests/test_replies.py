"""Replies in the manner of SmolLM2, Qwen, Llama, Phi and Gemma, each with what a careful reader would mark.

`tests/replies/<kind>.jsonl`: one reply a line. `want` is the shown letter, the label, the number in units
of `scale`, or the list of texts; null where the reply does not say. A value that is not meant is never
read; at most 2 % of the replies that a reader could mark are left unparsed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from aceslm.tasks.choice import read_choice
from aceslm.tasks.label import read_label
from aceslm.tasks.number_reading import read_quantity
from aceslm.tasks.numerals import digits_for_words
from aceslm.tasks.quantities import MULTIPLIERS, as_quantity
from aceslm.tasks.span_reading import read_spans
from aceslm.tasks.tatqa import read_tatqa
from aceslm.tasks.text import normalise

FOLDER = Path(__file__).parent / "replies"
Row = dict[str, Any]


def _rows(kind: str) -> list[Row]:
    return [json.loads(line) for line in (FOLDER / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines()]


def _choice(row: Row) -> Any:
    position = read_choice(row["reply"], tuple(row["options"]), row.get("question", ""))
    return None if position is None else "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[position]


def _label(row: Row) -> Any:
    index = read_label(row["reply"], tuple(row["options"]), row.get("question", ""))
    return None if index is None else row["options"][index]


def _number(row: Row) -> Any:
    found = read_quantity(row["reply"], row.get("question", ""))
    return None if found is None else found.scaled


def _span(row: Row) -> Any:
    spans = read_spans(row["reply"], question=row.get("question", ""), context=row.get("context", ""))
    return [_comparable(span) for span in spans] or None


def _tatqa(row: Row) -> Any:
    spans, scale = read_tatqa(row["reply"], question=row.get("question", ""), context=row.get("context", ""))
    return [_comparable(span, scale) for span in spans] or None


def _comparable(text: str, scale: str = "") -> str | Decimal:
    """Numbers compare by value, other texts as they are scored."""
    quantity = as_quantity(digits_for_words(text).rstrip("."))
    if quantity is None:
        return normalise(text)
    return round(quantity.scaled if quantity.scale else quantity.value * MULTIPLIERS[scale], 6)


def _wanted(kind: str, row: Row) -> Any:
    want, scale = row["want"], row.get("scale", "")
    if want is None or kind in {"choice", "label"}:
        return want
    if kind == "number":
        return Decimal(want) * MULTIPLIERS[scale]
    return [_comparable(text, scale) for text in want]


def _same(got: Any, want: Any) -> bool:
    if isinstance(got, Decimal) and isinstance(want, Decimal):
        return abs(got - want) <= Decimal("1e-4") * abs(got)
    return bool(got == want)


READERS: dict[str, Callable[[Row], Any]] = {
    "choice": _choice,
    "label": _label,
    "number": _number,
    "span": _span,
    "tatqa": _tatqa,
}


@pytest.mark.parametrize("kind", READERS)
def test_no_reply_is_read_as_a_value_that_it_does_not_mean(kind: str) -> None:
    wrong = [
        f"{row['reply']!r}: read {got}, means {row['want']}"
        for row in _rows(kind)
        if (got := READERS[kind](row)) is not None and not _same(got, _wanted(kind, row))
    ]
    assert wrong == []


@pytest.mark.parametrize("kind", READERS)
def test_at_most_one_reply_in_fifty_that_a_reader_could_mark_is_unparsed(kind: str) -> None:
    readable = [row for row in _rows(kind) if row["want"] is not None]
    unparsed = [f"{row['reply']!r}: means {row['want']}" for row in readable if READERS[kind](row) is None]
    assert len(unparsed) <= 0.02 * len(readable), unparsed


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    "piece", ["\n* ", "\nCheck", "A | ", "from 5 to 6 ", "word - ", "1 / ", "not normal ", "Answer: A\n"]
)
def test_a_reply_that_repeats_itself_without_end_is_read_in_linear_time(kind: str, piece: str) -> None:
    row = {
        "reply": piece * (20_000 // len(piece)),
        "options": ["normal", "1.2 mg"],
        "question": "How many are left?",
    }
    begun = time.perf_counter()
    READERS[kind](row)
    assert time.perf_counter() - begun < 5


def test_the_tables_are_large_and_hold_replies_that_say_nothing() -> None:
    rows = [row for kind in READERS for row in _rows(kind)]
    assert len(rows) >= 1000
    assert sum(row["want"] is None for row in rows) >= 150
