"""Spans: normalisation, exact match and token F1."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aceslm.core.values import Sample
from aceslm.tasks import judge
from aceslm.tasks.text import normalise


def _sample(*spans: str, scale: str = "") -> Sample:
    return Sample(
        "s1", "Which?", spans[0] if len(spans) == 1 else json.dumps(spans), answer_type="span", scale=scale
    )


@pytest.mark.parametrize(
    ("spans", "text"),
    [
        (("the Netherlands",), "Netherlands"),
        (("Oslo",), "  OSLO. "),
        (("Oslo",), '"Oslo"'),
        (("U.S. Treasury",), "US treasury"),
        (("customer's  fees",), "customers fees"),
        (("multi-year contracts",), "multi year contracts"),
        (("$1,234.50",), "1234.5"),
        (("12%",), "12 %"),
        (("(1,234)",), "1,234"),
        (("2019",), "The answer is 2019"),
        (("2018", "2019"), "2019, 2018"),
        (("2018", "2019"), "2018 and 2019"),
        (("2018", "2019"), "- 2018\n- 2019"),
        (("2018", "2019"), "1. 2018\n2. 2019\nBoth years."),
        (("2018", "2019"), '["2018", "2019"]'),
        (("1,234", "5,678"), "1,234, 5,678"),
        (("sales and marketing", "research"), "sales and marketing; research"),
        (("the",), "The"),
        (("it’s “new”",), "its new"),
    ],
)
def test_form_does_not_count(spans: tuple[str, ...], text: str) -> None:
    verdict = judge(_sample(*spans), text)
    assert (verdict.correct, verdict.exact_match, verdict.f1, verdict.score) == (1, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("spans", "text", "f1"),
    [
        (("Oslo",), "Rome", 0.0),
        (("Oslo Norway",), "Oslo", 2 / 3),
        (("Oslo",), "Oslo Oslo Oslo", 0.5),
        (("2018", "2019"), "2018", 2 / 3),
        (("12.5",), "125", 0.0),
        (("12.5",), "-12.5", 0.0),
    ],
)
def test_part_of_an_answer_is_credited_by_token_f1_but_not_correct(
    spans: tuple[str, ...], text: str, f1: float
) -> None:
    verdict = judge(_sample(*spans), text)
    assert verdict.correct == 0
    assert verdict.score == verdict.f1 == pytest.approx(f1)


def test_a_stated_scale_must_be_the_golds_and_one_left_out_is_forgiven() -> None:
    sample = _sample("$2,756", scale="thousand")
    assert judge(sample, "2,756").correct == 1
    assert judge(sample, "2,756 thousand").correct == 1
    assert judge(sample, "2,756 million").correct == 0
    assert judge(sample, "2,756 thousand").predicted_scale == "thousand"
    assert judge(sample, "Oslo").predicted_scale is None


def test_only_the_first_line_of_prose_is_the_answer() -> None:
    assert judge(_sample("Oslo"), "Oslo\nIt is the capital of Norway.").pred == "Oslo"


@given(st.from_regex(r"[q-z]+(?:[ ,;-][q-z]+)*", fullmatch=True))
def test_case_space_punctuation_and_articles_do_not_count(text: str) -> None:
    dressed = f"  The “{text.upper()}”!\n".replace(" ", "  ").replace(",", " - ")
    assert normalise(dressed) == normalise(text)
    assert normalise(text) != normalise(text + "x")
