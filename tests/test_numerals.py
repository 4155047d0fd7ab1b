"""Number words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aceslm.tasks.numerals import digits_for_words


@pytest.mark.parametrize(
    ("words", "digits"),
    [
        ("eighteen", "18"),
        ("Zero", "0"),
        ("twenty-one eggs", "21 eggs"),
        ("one hundred and five", "105"),
        ("twelve thousand three hundred", "12300"),
        ("one million two hundred thousand", "1200000"),
        ("five million", "5 million"),
        ("half a million", "0.5 million"),
        ("two and a half", "2.5"),
        ("one point five million", "1.5 million"),
        ("three quarters", "3/4"),
        ("two-thirds", "2/3"),
        ("a dozen eggs", "12 eggs"),
        ("between two and seven", "between 2 and 7"),
        ("There is one segment.", "There is 1 segment."),
    ],
)
def test_number_words_become_digits(words: str, digits: str) -> None:
    assert digits_for_words(words) == digits


@pytest.mark.parametrize(
    "text", ["one of them", "the other one", "no one", "the third quarter", "5 million", "someone", "often"]
)
def test_words_that_are_no_numbers_stay(text: str) -> None:
    assert digits_for_words(text) == text


@given(
    st.text()
    | st.lists(st.sampled_from("one two ten hundred thousand and a half million dozen".split())).map(" ".join)
)
def test_no_words_crash_the_reader(text: str) -> None:
    digits_for_words(text)
