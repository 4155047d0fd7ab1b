from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aceslm.core.values import ANSWER_TYPES, Sample
from aceslm.tasks import build_messages, gold, judge, permutation
from aceslm.tasks.choice import read_choice
from aceslm.tasks.number_reading import read_quantity
from aceslm.tasks.text import normalise, parse_number, token_f1

OPTIONS = ("Vitamin A", "Beta blocker", "Non-selective beta blocker", "Aspirin")
CHOICE = Sample("q1", "Which?", "D", choices=OPTIONS, answer_type="choice")
LABEL = Sample("l1", "State?", "anomalous", choices=("normal", "anomalous"), answer_type="label")


def number(answer: str, scale: str = "") -> Sample:
    return Sample("n1", "How much?", answer, answer_type="number", scale=scale)


def span(answer: str) -> Sample:
    return Sample("s1", "What?", answer, answer_type="span")


def shown_letter(published: int) -> str:
    return chr(ord("A") + permutation(CHOICE).index(published))


@pytest.mark.parametrize(
    "form",
    [
        "{0}",
        "{0}.",
        "({0})",
        "{0})",
        "The answer is ({0}).",
        "**{0}**",
        "Answer: {0}",
        "option {0}",
        " {0}\n",
    ],
)
def test_an_option_letter_is_read_in_every_usual_form(form: str) -> None:
    for published in range(4):
        verdict = judge(CHOICE, form.format(shown_letter(published)))
        assert verdict.pred == "ABCD"[published]
        assert verdict.correct == (published == 3)


@pytest.mark.parametrize(
    ("reply", "pred"),
    [
        ("Aspirin", "D"),
        ("It is aspirin, of course", "D"),
        ("Vitamin a", "A"),
        ("non-selective beta blocker", "C"),
        ("a deficiency of which vitamin", None),
        ("", None),
        ("I do not know", None),
        ("Aspirin or vitamin A", None),
        ("A or B", None),
    ],
)
def test_an_option_is_read_from_its_text_and_never_guessed(reply: str, pred: str | None) -> None:
    verdict = judge(CHOICE, reply)
    assert verdict.pred == pred
    assert verdict.parsed == (pred is not None)


def test_the_order_of_choices_is_keyed_by_the_sample_id_alone() -> None:
    assert permutation(CHOICE) == permutation(replace(CHOICE, question="other", answer="A"))
    orders = {permutation(replace(CHOICE, sample_id=str(n))) for n in range(40)}
    assert len(orders) > 5
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert permutation(LABEL) == ()


@pytest.mark.parametrize(
    ("gold_answer", "scale", "reply", "correct"),
    [
        ("1234.5", "", "1,234.5", 1),
        ("1234.5", "", "$1,234.50", 1),
        ("1234", "", "The answer is 1234.", 1),
        ("-12", "", "(12)", 1),
        ("-12", "", "\u221212", 1),
        ("12", "", "-12", 0),
        ("32", "million", "32 million", 1),
        ("32", "million", "32,000,000", 1),
        ("32", "million", "$32", 0),
        ("32", "million", "0.032 billion", 1),
        ("23.4", "percent", "23.4%", 1),
        ("23.4", "percent", "0.234", 1),
        ("23.4%", "", "23.4 percent", 1),
        ("12", "", "12%", 1),
        ("0.5", "", "1/2", 1),
        ("0.5", "", "The answer is 1/2.", 1),
        ("0.33", "", "1/3", 1),
        ("1", "", "1/0", 0),
        ("2019", "", "The answer is 12/31/2019", 0),
        ("1500000", "", "1.5e6", 1),
        ("1500000", "", "1.5 x 10^6", 1),
        ("3.14", "", "3.14159", 1),
        ("3.14", "", "3.15", 0),
        ("5", "", "2 + 3 = 5", 1),
        ("500", "", "In 2019 it was 500", 1),
        ("100000", "", "100009", 0),
        ("100000.5", "", "100009", 1),
        ("100000.5", "", "100011", 0),
    ],
)
def test_numbers_are_read_with_separators_signs_scales_and_rounding(
    gold_answer: str, scale: str, reply: str, correct: int
) -> None:
    assert judge(number(gold_answer, scale), reply).correct == correct


def test_a_reply_without_a_number_is_unparsed_and_wrong() -> None:
    verdict = judge(number("0"), "none at all")
    assert (verdict.parsed, verdict.pred, verdict.correct) == (False, None, 0)


@pytest.mark.parametrize(
    ("answer", "reply", "exact"),
    [
        ("Freight costs fell", "  freight   costs fell. ", True),
        ("the Retail segment", "Retail segment", True),
        ("$1,234", "1234", True),
        ("12 %", "12%", True),
        ('["Retail", "Wholesale"]', "wholesale, retail", True),
        ('["Retail", "Wholesale"]', "Retail and Wholesale", True),
        ('["Retail", "Wholesale"]', "Retail", False),
        ("Retail", "Retail segment", False),
    ],
)
def test_spans_survive_case_punctuation_separators_and_signs(answer: str, reply: str, exact: bool) -> None:
    verdict = judge(span(answer), reply)
    assert verdict.correct == int(exact)
    assert verdict.f1 == 1.0 if exact else 0 < verdict.f1 < 1


@pytest.mark.parametrize(
    ("reply", "pred"),
    [
        ("Anomalous.", "anomalous"),
        ("The series is normal", "normal"),
        ("The series is not normal", "anomalous"),
        ("The series is not necessarily normal", None),
        ("normal or anomalous", None),
        ("maybe\nanomalous", "anomalous"),
        ("abnormal", None),
    ],
)
def test_a_label_is_read_only_when_exactly_one_is_named(reply: str, pred: str | None) -> None:
    assert judge(LABEL, reply).pred == pred


def test_every_gold_answer_given_back_is_right() -> None:
    for sample in (CHOICE, LABEL, number("1,234.5", "million"), span("Retail"), span('["a b", "c"]')):
        reply = gold(sample)
        if sample.answer_type == "choice":
            reply = shown_letter("ABCD".index(reply))
        if sample.scale:
            reply += f" {sample.scale}"
        if reply.startswith("["):
            reply = "c, a b"
        assert judge(sample, reply).correct == 1, sample


def test_the_gold_answer_never_decides_a_prompt() -> None:
    for sample, other in [(CHOICE, "A"), (LABEL, "normal"), (number("7"), "8"), (span("x"), "y")]:
        for playbook in (None, "", "- a lesson"):
            assert build_messages(sample, playbook) == build_messages(replace(sample, answer=other), playbook)


def test_baseline_and_ace_prompts_differ_only_by_the_playbook_in_front() -> None:
    sample = replace(CHOICE, context="a table")
    (baseline,) = build_messages(sample, None)
    (scaffold,) = build_messages(sample, "")
    assert scaffold.content.endswith(baseline.content)
    (adapted,) = build_messages(sample, "- lesson 1", retrieved="- lesson 2")
    assert (
        adapted.content.index("lesson 1")
        < adapted.content.index("a table")
        < adapted.content.index("lesson 2")
    )
    assert adapted.content.index("lesson 2") < adapted.content.index("Which?")


def test_questions_behind_one_playbook_share_their_beginning() -> None:
    first = build_messages(CHOICE, "- lesson")[0].content
    second = build_messages(span("x"), "- lesson")[0].content
    shared = first[: first.index("Question:")]
    assert second.startswith(shared)
    assert "- lesson" in shared


@given(st.text(max_size=200), st.sampled_from(ANSWER_TYPES))
def test_no_reply_crashes_a_parser(text: str, answer_type: str) -> None:
    sample = {"choice": CHOICE, "label": LABEL, "number": number("1"), "span": span("x")}[answer_type]
    verdict = judge(sample, text)
    assert 0 <= verdict.score <= 1
    assert verdict.parsed == (verdict.pred is not None)
    if not verdict.parsed:
        assert verdict.correct == 0


@given(st.text(alphabet="0123456789.,-+%$()eE/ x^\u2212Mmilon", max_size=30))
def test_no_number_like_text_crashes_the_number_parser(text: str) -> None:
    parse_number(text)
    read_quantity(text)


@given(st.integers(-(10**12), 10**12))
def test_a_number_written_with_separators_is_read_back(value: int) -> None:
    assert parse_number(f"{value:,}") == value
    stated = read_quantity(f"The answer is ${value:,}." if value >= 0 else f"{value:,}")
    assert stated is not None
    assert (stated.value, stated.scale) == (value, "")


def test_normalisation_and_f1_on_edge_cases() -> None:
    assert normalise("The A-team's  (best) 1,234.50!") == "team's best 1234.5".replace("'", "")
    assert (normalise("-5 %"), normalise("?!"), normalise("-0.0")) == ("-5", "?!", "0")
    assert token_f1("a b", "") == 0.0
    assert token_f1("", "") == 1.0
    assert token_f1("x y", "y z") == pytest.approx(0.5)
    assert read_choice("", OPTIONS) is None
