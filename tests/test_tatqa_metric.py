"""TAT-QA's metric: perturbed predictions, the real gold, and replies on their way to it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aceslm.core.values import Sample
from aceslm.tasks import ANSWER_TYPES, build_messages, judge
from aceslm.tasks.number_reading import read_quantity
from aceslm.tasks.numerals import digits_for_words
from aceslm.tasks.quantities import as_quantity, quantities
from aceslm.tasks.span_reading import read_spans
from aceslm.tasks.tatqa import read_tatqa, tatqa_kind
from aceslm.tasks.tatqa_metric import SCALES, is_number, score_tatqa, to_number
from aceslm.tasks.text import normalise, parse_number

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("span", "multi-span", "arithmetic", "count")


def sample(answer: str, kind: str, scale: str = "") -> Sample:
    metadata = json.dumps({"source": "TAT-QA, https://example.org", "answer_type": kind})
    return Sample("t1", "How much?", answer, answer_type="span", scale=scale, metadata=metadata)


# Every expected value was also given by the published evaluator.
PERTURBED: list[tuple[tuple[str, ...], str, str, str | tuple[str, ...], str, float, float]] = [
    # gold spans, answer type, gold scale, prediction, predicted scale, exact match, F1
    (("1,496.5",), "span", "million", "1,496.5", "million", 1, 1),
    (("1,496.5",), "span", "million", "1,496.5", "", 0, 0),
    (("1,496.5",), "span", "million", "1,496.5", "thousand", 0, 0),
    (("1,496.5",), "span", "million", "1496.5", "million", 1, 1),
    (("1,496.5",), "span", "million", "1496500000", "", 1, 1),
    (("1,496.5",), "span", "million", "1496500", "thousand", 1, 1),
    (("1,496.5",), "span", "million", "1.4965", "billion", 0, 0),  # two decimals first, then the scale
    (("1,496.5",), "span", "million", "1,496.5 million", "", 1, 1),
    (("1,496.5",), "span", "million", "1,496.5 million", "million", 0, 0),
    (("$1,496.5",), "span", "million", "1496.5", "million", 1, 1),
    (("1496.5",), "span", "million", "\u20ac 1,496.5", "million", 1, 1),
    (("12.345",), "arithmetic", "", "12.35", "", 1, 1),
    (("12.344",), "arithmetic", "", "12.34", "", 1, 1),
    (("12.34",), "arithmetic", "", "12.344", "", 1, 1),
    (("12.34",), "arithmetic", "", "12.35", "", 0, 0),
    (("12",), "arithmetic", "", "12.00", "", 1, 1),
    (("12",), "arithmetic", "", "-12", "", 0, 0),
    (("-12",), "arithmetic", "", "(12)", "", 1, 1),
    (("1234",), "arithmetic", "", "(1,234)", "", 1, 1),
    (("-1234",), "arithmetic", "", "(1234)", "", 1, 1),
    (("-1234",), "arithmetic", "", "(1,234)", "", 0, 0),
    (("-1234",), "arithmetic", "", "-1,234", "", 1, 1),
    (("23.42",), "arithmetic", "percent", "23.42", "percent", 1, 1),
    (("23.42",), "arithmetic", "percent", "23.42%", "", 1, 1),
    (("23.42",), "arithmetic", "percent", "23.42%", "million", 1, 1),
    (("23.42",), "arithmetic", "percent", "0.2342", "", 1, 1),
    (("23.42",), "arithmetic", "percent", "0.2342", "percent", 0, 0),
    (("23.42",), "arithmetic", "percent", "23.42", "", 0, 0),
    (("23.42",), "arithmetic", "percent", "23.42 percent", "percent", 0, 0),
    (("3",), "count", "", "3", "", 1, 1),
    (("3",), "count", "", "3.0", "", 1, 1),
    (("3",), "count", "", "three", "", 0, 0),
    (("3",), "count", "", "3 segments", "", 0, 0),
    (("0",), "count", "", "0", "", 1, 1),
    (("0",), "count", "", "", "", 0, 0),
    (("2019", "2018"), "multi-span", "", ("2018", "2019"), "", 1, 1),
    (("2019", "2018"), "multi-span", "", ("2018",), "", 0, 0.67),
    (
        ("2019", "2018"),
        "multi-span",
        "",
        "2018 2019",
        "",
        0,
        0,
    ),  # one text that is not one number: no "2018.0"
    (("73,260", "57,768"), "multi-span", "thousand", ("57768", "73260"), "thousand", 1, 1),
    (("73,260", "57,768"), "multi-span", "thousand", ("57768", "73260"), "", 0, 0),
    (("Retail", "Wholesale"), "multi-span", "", ("wholesale", "the retail"), "", 1, 1),
    (("Retail", "Wholesale"), "multi-span", "", ("Wholesale.", "Retail,"), "", 1, 1),
    (("the Freight costs",), "span", "", "freight  costs!", "", 1, 1),
    (("Freight costs fell",), "span", "", "costs of freight", "", 0, 0.67),
    (("Freight costs",), "span", "", "Freight costs", "million", 0, 0.8),
    (("$85.1 million",), "span", "", "85.1", "million", 1, 1),
    ((".5",), "arithmetic", "", "0.5", "", 0, 0),
    (("1e5",), "arithmetic", "", "100000", "", 0, 0),
]


@pytest.mark.parametrize(("gold", "kind", "scale", "prediction", "stated", "exact_match", "f1"), PERTURBED)
def test_a_perturbed_prediction_scores_as_published(
    gold: tuple[str, ...],
    kind: str,
    scale: str,
    prediction: str | tuple[str, ...],
    stated: str,
    exact_match: float,
    f1: float,
) -> None:
    score = score_tatqa(gold, kind, scale, prediction, stated)
    assert (score.exact_match, score.f1) == (exact_match, f1)
    assert score.scale_correct == (bool(prediction) and scale == stated)


def test_no_prediction_scores_nothing_and_an_empty_gold_cannot_be_met() -> None:
    for empty in ("", ()):
        score = score_tatqa(("5",), "span", "", empty, "")
        assert (score.exact_match, score.f1, score.scale_correct) == (0.0, 0.0, False)
    assert score_tatqa((), "span", "", "5", "").exact_match == 0.0


def published() -> Iterator[dict[str, Any]]:
    """Give every question of the published files that are here."""
    places = [os.environ.get("ACESLM_DATA"), ROOT / "../shared/data", ROOT / "../../shared/data"]
    for place in places:
        files = sorted(Path(place, "tatqa").glob("tatqa_dataset_*.json")) if place else []
        for file in files:
            for context in json.loads(file.read_text(encoding="utf-8")):
                yield from (one for one in context["questions"] if "answer" in one)
        if files:
            return


def gold_texts(question: dict[str, Any]) -> tuple[str, ...]:
    answer = question["answer"]
    if isinstance(answer, list):
        return tuple(answer)
    return (str(int(answer) if question["answer_type"] == "count" else answer),)


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    found = list(published())
    if not found:
        pytest.skip("no TAT-QA files: set ACESLM_DATA to a folder with tatqa/tatqa_dataset_*.json")
    return found


def test_the_real_gold_given_back_is_an_exact_match(questions: list[dict[str, Any]]) -> None:
    scores = [
        score_tatqa(gold_texts(one), one["answer_type"], one["scale"], gold_texts(one), one["scale"])
        for one in questions
    ]
    assert sum(score.exact_match for score in scores) >= 0.99 * len(scores) > 1000
    assert sum(score.f1 for score in scores) >= 0.99 * len(scores)
    assert all(score.scale_correct for score in scores)


def test_the_real_gold_without_its_scale_loses_what_has_a_scale(questions: list[dict[str, Any]]) -> None:
    scaled = [one for one in questions if one["scale"] in {"thousand", "million", "billion"}]
    scores = [
        score_tatqa(gold_texts(one), one["answer_type"], one["scale"], gold_texts(one), "") for one in scaled
    ]
    assert sum(score.exact_match for score in scores) <= 0.02 * len(scores)


@pytest.mark.parametrize(
    ("gold", "kind", "scale", "reply", "exact", "stated"),
    [
        ("1,496.5", "span", "million", "$1,496.5 million", 1, "million"),
        ("1,496.5", "span", "million", "The answer is $1,496.5 millions.", 1, "million"),
        ("1,496.5", "span", "million", "$1,496.5", 0, None),
        ("1,496.5", "span", "million", "1,496.5 billion", 0, "billion"),
        ("36%", "span", "", "36%", 1, "percent"),
        ("13.2", "span", "percent", "13.2 percent", 1, "percent"),
        ("13.2", "span", "percent", "13.2%", 1, "percent"),
        ("$85.1 million", "span", "", "$85.1 million", 1, "million"),
        ("Freight costs", "span", "", "Answer: freight costs\nbecause they rose", 1, None),
        ("the thousand islands", "span", "", "thousand islands", 1, None),
        ('["73,260", "57,768"]', "multi-span", "thousand", "57,768 and 73,260 thousand", 1, "thousand"),
        ('["73,260", "57,768"]', "multi-span", "thousand", "57,768 thousand, 73,260 thousand", 1, "thousand"),
        ('["$417 million", "$146 million"]', "multi-span", "", "$146 million; $417 million", 1, "million"),
        ('["Retail", "Wholesale"]', "multi-span", "", '["Wholesale", "Retail"]', 1, None),
        ('["Retail", "Wholesale"]', "multi-span", "", "- Wholesale\n- Retail", 1, None),
        ('["4.1%", "4.6%"]', "multi-span", "", "4.6%, 4.1%", 1, "percent"),
        ("-12.5", "arithmetic", "million", "(12.5) million", 1, "million"),
        ("-1234", "arithmetic", "", "(1,234)", 1, None),
        ("23.42", "arithmetic", "percent", "(5 - 4) / 4 = 23.42%", 1, "percent"),
        ("23.42", "arithmetic", "percent", "0.2342", 1, None),
        ("0", "count", "", "0", 1, None),
        ("2000", "arithmetic", "billion", "2 trillion", 1, "billion"),
        ("3", "count", "", "There are 3.", 1, None),
    ],
)
def test_a_tatqa_reply_is_read_with_its_scale(
    gold: str, kind: str, scale: str, reply: str, exact: int, stated: str | None
) -> None:
    verdict = judge(sample(gold, kind, scale), reply)
    assert (verdict.correct, verdict.exact_match, verdict.predicted_scale) == (exact, float(exact), stated)


def test_the_headline_score_is_the_f1() -> None:
    verdict = judge(sample("Freight costs fell", "span"), "freight costs")
    assert (verdict.score, verdict.f1, verdict.exact_match, verdict.correct) == (0.8, 0.8, 0.0, 0)


def test_a_reply_without_an_answer_is_unparsed() -> None:
    for kind in KINDS:
        verdict = judge(sample("5", kind), " ?! \n")
        assert (verdict.parsed, verdict.pred, verdict.correct, verdict.score) == (False, None, 0, 0.0)


def test_only_a_tatqa_sample_is_scored_with_its_scale() -> None:
    for metadata in (
        "",
        "{",
        '["answer_type"]',
        '{"answer_type": "span"}',
        '{"source": "nab", "answer_type": "span"}',
    ):
        other = Sample("o", "How much?", "5", metadata=metadata, scale="million")
        assert tatqa_kind(other) is None
    assert tatqa_kind(sample("5", "span")) == "span"


def test_no_published_answer_type_shows_in_the_prompt() -> None:
    assert build_messages(sample("5", "span"), "") == build_messages(sample("5", "multi-span"), "")
    assert build_messages(sample("5", "count"), "") == build_messages(
        sample("7", "arithmetic", "percent"), ""
    )


NUMBER_LIKE = st.text(
    alphabet="0123456789.,-+%$()eE/ x^\u2212\u00b2\u0661[]{}\"'\n\tMmilonkpercthousand", max_size=60
)


@given(st.one_of(st.text(), NUMBER_LIKE), st.one_of(st.text(), NUMBER_LIKE), st.sampled_from(KINDS))
def test_no_input_crashes_a_parser_or_the_metric(text: str, gold: str, kind: str) -> None:
    for scale in SCALES:
        score = score_tatqa((gold,), kind, scale, text, scale)
        assert 0 <= score.f1 <= 1
        assert score.exact_match <= score.f1
    for one in (sample(gold, kind), Sample("x", "?", gold, choices=("a b", "not a"), answer_type="label")):
        verdict = judge(one, text)
        assert verdict.parsed == (verdict.pred is not None)
        assert 0 <= verdict.score <= 1
    for parser in (is_number, to_number, parse_number, read_quantity, normalise, read_spans, read_tatqa):
        parser(text)
    quantities(text)
    as_quantity(text)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4).map(tuple), st.sampled_from(SCALES))
def test_every_prediction_meets_itself_in_any_order(spans: tuple[str, ...], scale: str) -> None:
    backwards = tuple(reversed(spans))
    assert score_tatqa(spans, "multi-span", scale, backwards, scale).exact_match == 1.0


@given(
    st.decimals(-(10**9), 10**9, places=2), st.sampled_from(["", "thousand", "million", "billion", "percent"])
)
def test_a_number_written_out_is_read_back(value: Any, scale: str) -> None:
    sign = "-" if value < 0 else ""
    for form in (f"{value}", f"{value:,}", f"{sign}${abs(value):,}", f"\u20ac{value}", f"({abs(value):,})"):
        expected = -abs(value) if form.startswith("(") else value
        assert parse_number(form) == pytest.approx(float(expected), abs=1e-9)
        stated = read_quantity(f"The answer is {form} {scale}.")
        assert stated is not None
        assert (stated.value, stated.scale) == (expected, scale)
        gold = sample(str(expected), "arithmetic", scale)
        assert judge(gold, f"{form} {scale}").correct == 1


@given(st.integers(-(10**15), 10**15), st.integers(1, 10**6))
def test_fractions_and_exponents_are_read_back(top: int, bottom: int) -> None:
    assert parse_number(f"{top}/{bottom}") == pytest.approx(top / bottom)
    assert parse_number(f"{top}e-{bottom % 20}") == pytest.approx(float(f"{top}e-{bottom % 20}"))


# fmt: off
HOSTILE = (
    " ", "\n", "(", "( ", "1", "1,", "1,111", "1.", "1 ", "$", "- ", "-", "%", ".", "answer ", "answer is ",
    "a", "A) ", "= ", "=1", "the ", "[", '["', "not ", "\u00b2", "1/", "9e9", "x10^", "q\n", "million ", "; ",
    "<think>", "\u00a01",
)
# fmt: on


@pytest.mark.slow
@pytest.mark.parametrize("piece", HOSTILE)
def test_a_long_hostile_reply_is_read_in_no_time(piece: str) -> None:
    text = piece * (50_000 // len(piece))
    options = ("a b", "not a", "the 1")
    start = time.perf_counter()
    for kind in KINDS:
        judge(sample("5", kind), text)
    for answer_type in ANSWER_TYPES:
        judge(Sample("x", "?", "A", choices=options, answer_type=answer_type), text)
    for parser in (
        is_number,
        to_number,
        parse_number,
        read_quantity,
        normalise,
        read_spans,
        digits_for_words,
    ):
        parser(text)
    assert time.perf_counter() - start < 10
