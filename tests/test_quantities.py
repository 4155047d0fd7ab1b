"""Numbers as people write them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aceslm.tasks.quantities import MULTIPLIERS, as_quantity, quantities, tidy


@pytest.mark.parametrize(
    ("text", "value", "scale"),
    [
        ("1,234", "1234", ""),
        ("12,34,567.5", "1234567.5", ""),
        ("1\u00a0234", "1234", ""),
        ("56 789", "56789", ""),
        ("56\u2009789", "56789", ""),
        ("1.234.567", "1234567", ""),
        ("1.234,5", "1234.5", ""),
        ("1'234'567", "1234567", ""),
        ("12,5", "12.5", ""),
        ("3 1/2", "3.5", ""),
        ("2\u00bd", "2.5", ""),
        ("5 crore", "50000000", ""),
        ("2 dozen", "24", ""),
        ("$ (3.5)", "-3.5", ""),
        ("5M", "5", "million"),
        ("5 m", "5", ""),
        ("$1,234.50", "1234.50", ""),
        ("US$5", "5", ""),
        ("EUR 5", "5", ""),
        ("€ 5", "5", ""),
        ("-5", "-5", ""),
        ("−5", "-5", ""),
        ("-$5", "-5", ""),
        ("$-5", "-5", ""),
        ("+5", "5", ""),
        ("(1,234)", "-1234", ""),
        ("($1,234.5)", "-1234.5", ""),
        ("(12.3)%", "-12.3", "percent"),
        ("(12.3%)", "-12.3", "percent"),
        ("23.42 %", "23.42", "percent"),
        ("23.42 per cent", "23.42", "percent"),
        ("7 percentage points", "7", "percent"),
        ("1.2 million", "1.2", "million"),
        ("1.2 Millions", "1.2", "million"),
        ("$1.2bn", "1.2", "billion"),
        ("$5m", "5", "million"),
        ("$5K", "5", "thousand"),
        ("70K", "70", "thousand"),
        (".5", "0.5", ""),
        ("1.5e-3", "0.0015", ""),
        ("2E6", "2000000", ""),
        ("1.2 x 10^-3", "0.0012", ""),
        ("1.2×10⁻³", "0.0012", ""),
        ("１２３", "123", ""),
        ("about 12.5 kg.", "12.5", ""),
        ("12 m²", "12", ""),
    ],
)
def test_a_number_is_read_with_its_sign_and_scale(text: str, value: str, scale: str) -> None:
    (quantity,) = quantities(text)
    assert (quantity.value, quantity.scale) == (Decimal(value), scale)


def test_a_digit_inside_a_word_is_no_number() -> None:
    assert quantities("Q3 H2O FY2019 x^2 COVID 1st 22nd 3D") == ()


def test_a_dash_between_numbers_is_no_minus() -> None:
    assert [quantity.value for quantity in quantities("2018-2019")] == [2018, 2019]


@pytest.mark.parametrize(
    ("text", "decimals"), [("12", 0), ("12.50", 2), ("1.25e1", 1), ("5e3", 0), ("1.5e-3", 4)]
)
def test_printed_decimals_are_counted(text: str, decimals: int) -> None:
    assert quantities(text)[0].decimals == decimals


@pytest.mark.parametrize(
    ("text", "whole"), [(" $5 million ", True), ("5 dogs", False), ("", False), ("in 5", False)]
)
def test_a_text_that_is_only_a_number_is_told_apart(text: str, whole: bool) -> None:
    assert (as_quantity(text) is not None) is whole


def test_plain_digits_carry_no_separators() -> None:
    assert [str(quantities(text)[0]) for text in ("$1,234.50", "(5)", "-0.0", "2e3")] == [
        "1234.50",
        "-5",
        "0",
        "2000",
    ]


@given(st.text() | st.text("0123456789.,-+()%$eE^x* ⁻²", max_size=40))
def test_no_text_crashes_the_reader(text: str) -> None:
    for quantity in quantities(text):
        assert quantity.value.is_finite()
        assert 0 <= quantity.start < quantity.end <= len(tidy(text))
        assert str(quantity)
        assert quantity.scaled.is_finite()


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_what_is_written_is_read_back(value: Decimal) -> None:
    for scale in MULTIPLIERS:
        (quantity,) = quantities(f"{value:,} {scale}")
        assert (quantity.value, quantity.scale, quantity.decimals) == (value, scale, 3)
