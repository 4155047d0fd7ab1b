"""Numbers: which one a reply gives, and whether it is the gold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aceslm.core.values import Sample
from aceslm.tasks import gold, judge


def _judge(answer: str, text: str, scale: str = "") -> int:
    return judge(Sample("n1", "How much?", answer, answer_type="number", scale=scale), text).correct


@pytest.mark.parametrize(
    ("answer", "scale", "text"),
    [
        ("1234", "", "1,234"),
        ("1,234", "", "$1234.00"),
        ("$1,234.5", "", "It was 1234.5 USD."),
        ("-1234", "", "(1,234)"),
        ("(1,234)", "", "-$1,234"),
        ("12", "", "12%"),
        ("12%", "", "12"),
        ("12.3", "percent", "12.3%"),
        ("12.3", "percent", "12.3 percent"),
        ("12.3", "percent", "0.123"),
        ("12.3", "percent", "12.3"),
        ("0.375", "", "37.5%"),
        ("37.5%", "", "37.5%"),
        ("37.5%", "", "37.5"),
        ("37.5%", "", "0.375"),
        ("-0.1414", "", "-14.14%"),
        ("1.5", "", "150%"),
        ("12", "", "twelve"),
        ("1.2", "billion", "1,200 million"),
        ("1.2", "billion", "1.2 billion"),
        ("1.2 billion", "", "1,200,000,000"),
        ("1.2", "billion", "1,234 million"),
        ("12.35", "", "12.3456"),
        ("0.3333", "", "0.33333"),
        ("0.0015", "", "1.5e-3"),
        ("5", "", "5.0"),
        ("0", "", "0"),
        ("0", "", "-0.0"),
        ("148", "", "In 2022, 148 stores were open."),
        ("148", "", "148 in 2022"),
        ("2022", "", "2022"),
        ("2022", "", "in 2022"),
        ("234", "", "1,234 - 1,000 = 234"),
        ("7", "", "3 and 4 make it. The answer is 7."),
        ("7", "", "\\boxed{7}"),
    ],
)
def test_the_same_number_is_right_however_it_is_written(answer: str, scale: str, text: str) -> None:
    assert _judge(answer, text, scale) == 1


@pytest.mark.parametrize(
    ("answer", "scale", "text"),
    [
        ("1234", "", "-1234"),
        ("12.5", "million", "12.5"),
        ("0.375", "", "0.375%"),
        ("0.375", "", "37.5"),
        ("37.5%", "", "0.375%"),
        ("37.5", "percent", "0.375%"),
        ("12.5", "million", "12.5 billion"),
        ("12.5", "", "12.5 million"),
        ("12.3", "percent", "1230"),
        ("56789", "", "56790"),
        ("12", "", "12.4"),
        ("12.35", "", "12.36"),
        ("12.35", "", "12.3"),
        ("1234", "million", "1.2 billion"),
        ("0", "", "0.5"),
        ("5", "", "not 6"),
    ],
)
def test_another_number_is_wrong(answer: str, scale: str, text: str) -> None:
    assert _judge(answer, text, scale) == 0


def test_the_stated_scale_is_recorded() -> None:
    sample = Sample("n1", "How much?", "$12.50", answer_type="number", scale="million")
    verdict = judge(sample, "$12.5 million")
    assert (gold(sample), verdict.pred, verdict.predicted_scale) == ("$12.50", "12.5", "million")
    assert judge(sample, "12.5").predicted_scale is None
    assert judge(sample, "none").predicted_scale is None


@pytest.mark.parametrize("text", ["none", "Q3", "", "twelfth"])
def test_a_reply_without_a_number_is_unparsed(text: str) -> None:
    sample = Sample("n1", "How much?", "3", answer_type="number")
    assert not judge(sample, text).parsed


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**12), max_value=10**12))
def test_a_gold_given_back_as_a_reply_is_right(value: object) -> None:
    for scale in ("", "percent", "thousand", "million", "billion"):
        assert _judge(f"{value}", f"The answer is {value:,} {scale}.", scale) == 1
