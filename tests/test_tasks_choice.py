"""Multiple choice: the permutation, and the letter in a reply."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from aceslm.core.values import Sample
from aceslm.tasks import build_messages, judge, permutation

OPTIONS = ("Aspirin", "Insulin", "Iron", "Vitamin B12")
SAMPLE = Sample("c1", "Which drug?", "B", choices=OPTIONS, answer_type="choice")


def _shown(sample: Sample, published: str) -> str:
    """Return the letter under which the prompt shows the option published as `published`."""
    return "ABCD"[permutation(sample).index("ABCD".index(published))]


def test_the_permutation_depends_on_the_sample_id_alone() -> None:
    other = replace(SAMPLE, question="Other?", choices=("w", "x", "y", "z"), answer="A")
    assert permutation(other) == permutation(SAMPLE)
    assert sorted(permutation(SAMPLE)) == [0, 1, 2, 3]


def test_every_position_shows_the_gold_equally_often() -> None:
    positions = Counter(permutation(replace(SAMPLE, sample_id=f"s{n}")).index(1) for n in range(2000))
    assert all(400 < positions[at] < 600 for at in range(4))


def test_the_prompt_shows_the_options_in_permuted_order() -> None:
    (message,) = build_messages(SAMPLE, None)
    lines = [f"{'ABCD'[at]}. {OPTIONS[index]}" for at, index in enumerate(permutation(SAMPLE))]
    assert "\n".join(lines) in message.content


@pytest.mark.parametrize("published", "ABCD")
@pytest.mark.parametrize("sample_id", ["c1", "c2", "c3"])
@pytest.mark.parametrize(
    "reply",
    [
        "{0}", "{0}.", "({0})", "{0})", "**{0}**", "{0}) {1}", "{0}. {1}", "{0}: {1}", "The answer is {0}",
        "The answer is ({0}).", "The correct option is {0}.", "Answer: {0}", "answer: {0}) {1}",
        "\\boxed{{{0}}}", "Option {0}", "I would choose {0}.", "It must be ({0}).", "{1}", "{1}.",
        "The drug is {1}, of course.", "The answer is {1}", "A patient like this needs {1}",
        "{0}\n\nQuestion: next?\nAnswer: A",
        "First I thought the answer is A, but the answer is {0}.", "It is not ({2}), so ({0})",
    ],
)  # fmt: skip
def test_a_letter_or_an_options_text_is_found(published: str, sample_id: str, reply: str) -> None:
    sample = replace(SAMPLE, sample_id=sample_id)
    letter = _shown(sample, published)
    text = reply.format(letter, OPTIONS["ABCD".index(published)], "B" if letter == "A" else "A")
    verdict = judge(sample, text)
    assert (verdict.pred, verdict.correct) == (published, int(published == "B"))


def test_a_lower_case_letter_counts_where_it_cannot_be_an_article() -> None:
    shown = _shown(SAMPLE, "B").lower()
    for text in (shown, f"{shown})", f"({shown})", f"the answer is {shown}.", f"the answer is ({shown})"):
        assert judge(SAMPLE, text).pred == "B"


@pytest.mark.parametrize(
    "text",
    [
        "I do not know", "A patient with fever", "The answer is a mystery", "E", "The answer is Z", "A or B",
        "A. Aspirin\nB. Insulin\nC. Iron", "Aspirin or Insulin", "(A) or (B)", "not Aspirin", "42", "?", "()",
        "None", "I",
    ],
)  # fmt: skip
def test_a_reply_without_one_choice_is_unparsed_and_never_the_first_option(text: str) -> None:
    verdict = judge(SAMPLE, text)
    assert (verdict.parsed, verdict.pred, verdict.correct) == (False, None, 0)


def test_an_option_inside_another_does_not_hide_the_longer_one() -> None:
    sample = replace(SAMPLE, choices=("Iron", "Iron deficiency", "Lead", "Zinc"))
    assert judge(sample, "It is iron deficiency.").pred == "B"
    assert judge(sample, "It is iron.").pred == "A"
