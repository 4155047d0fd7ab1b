"""What roles are asked, how their replies are read, and who gets credit."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from ace_values import LESSONS, playbook
from hypothesis import given
from hypothesis import strategies as st

from aceslm.ace.playbook.deltas import HARMFUL, HELPFUL, Add, Merge, Remove, Tag, Update
from aceslm.ace.playbook.retrieval import BulletIndex
from aceslm.ace.roles import messages as roles
from aceslm.ace.roles import wording as role_prompts
from aceslm.ace.roles.parsing import Curation, Reflection, parse_curation, parse_reflection
from aceslm.ace.roles.schemas import (
    CURATOR_MAX_NEW_TOKENS,
    CURATOR_SCHEMA,
    MAX_LESSON_CHARS,
    MAX_OPERATIONS,
    MAX_SECTION_CHARS,
    REFLECTOR_MAX_NEW_TOKENS,
    REFLECTOR_SCHEMA,
    conforms,
)
from aceslm.core.values import Sample
from aceslm.tasks import build_messages, permutation

SPAN = Sample("s1", "Which segment grew?", "Retail outlets", context="Retail outlets grew.", domain="finance")
CHOICE = Sample(
    "m1",
    "Which drug?",
    "B",
    domain="medical",
    choices=("aspirin", "heparin", "insulin"),
    answer_type="choice",
)
CURATED = {
    "operations": [
        {"op": "add", "section": "tables", "text": LESSONS[0]},
        {"op": "merge", "ids": ["b1", "b2"], "text": LESSONS[1]},
        {"op": "remove", "id": "b3"},
    ]
}
CURATED_DELTAS = (Add("tables", LESSONS[0]), Merge(("b1", "b2"), LESSONS[1]), Remove("b3"))
REFLECTED = {"diagnosis": "Wrong row.", "lesson": LESSONS[0], "helpful": ["b2"], "harmful": []}


def text_of(messages: tuple) -> str:
    return "\n".join(message.content for message in messages)


# Replies


def test_a_reply_under_its_schema_is_read_strictly() -> None:
    assert parse_curation(json.dumps(CURATED)) == Curation(CURATED_DELTAS, "strict")
    assert parse_reflection(json.dumps(REFLECTED)) == Reflection("Wrong row.", LESSONS[0], ("b2",), ())
    assert parse_curation('{"operations": []}') == Curation((), "strict")


@pytest.mark.parametrize(
    "wrap",
    [
        "Sure [b1]! Here it is:\n```json\n{}\n```\nI hope it helps {{}}.",
        "Reply: {}",
        "  {}\n\n- and so on with it",
    ],
)
def test_json_in_prose_or_a_fence_is_read_tolerantly(wrap: str) -> None:
    said = wrap.replace("{}", json.dumps(CURATED, indent=1), 1)
    assert parse_curation(said) == Curation(CURATED_DELTAS, "tolerant")
    reflection = parse_reflection(wrap.replace("{}", json.dumps(REFLECTED, indent=1), 1))
    assert reflection is not None
    assert (reflection.lesson, reflection.helpful, reflection.how) == (LESSONS[0], ("b2",), "tolerant")


def test_the_names_of_the_published_format_are_read() -> None:
    said = {"reasoning": "x", "operations": [{"type": "ADD", "section": "Tables", "content": LESSONS[0]}]}
    assert parse_curation(json.dumps(said)) == Curation((Add("Tables", LESSONS[0]),), "tolerant")
    update = [{"op": "update", "bullet_id": "[b4]", "text": f"[b4] {LESSONS[1]}"}]
    assert parse_curation(json.dumps(update)) == Curation((Update("b4", LESSONS[1]),), "tolerant")


def test_lines_marked_as_lessons_are_read_when_there_is_no_json() -> None:
    said = f"My lessons:\n- {LESSONS[0]}\n* 42\n1. {LESSONS[1]}\nThat is all I have."
    assert parse_curation(said) == Curation(
        (Add("general", LESSONS[0]), Add("general", LESSONS[1])), "tolerant"
    )
    assert parse_reflection(f"Lesson: {LESSONS[2]}") == Reflection("", LESSONS[2], how="tolerant")


def test_what_is_over_the_limit_is_counted_and_a_cut_line_is_not_a_lesson() -> None:
    said = "\n".join(f"- {lesson}" for lesson in LESSONS[:5])
    curation = parse_curation(said, truncated=True)
    assert curation is not None
    assert (len(curation.deltas), curation.ignored) == (MAX_OPERATIONS, 1)
    assert parse_curation(f"- {LESSONS[0][:20]}", truncated=True) is None


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "The answer is 42.",
        "[]",
        json.dumps(CURATED)[:-30],
        json.dumps({"operations": [*CURATED["operations"], {"op": "drop", "id": "b1"}]}),
        json.dumps({"operations": [{"op": "update", "text": LESSONS[0]}]}),
        json.dumps({"operations": [{"op": "merge", "ids": ["b1"], "text": LESSONS[0]}]}),
        json.dumps({"operations": [{"op": "remove", "id": 3}]}),
        json.dumps({"operations": ["add"]}),
        json.dumps({"op": "add", "text": LESSONS[0]}),
        "[" * 100_000,
        "- " + "word " * 100,
    ],
)
def test_a_curation_that_cannot_be_read_as_a_whole_is_none(reply: str) -> None:
    assert parse_curation(reply) is None


@pytest.mark.parametrize(
    "reply",
    ["no idea", json.dumps(REFLECTED)[:-3], json.dumps({**REFLECTED, "lesson": 3}), '{"lesson": " "}'],
)
def test_a_reflection_without_a_lesson_is_none(reply: str) -> None:
    assert parse_reflection(reply) is None


@given(st.text('ab {}[]":,-.\n0', max_size=80))
def test_repair_only_extracts_what_is_literally_there(noise: str) -> None:
    for said in (noise, f"- {noise}", '{"operations": [{"op": "add", "text": "' + noise):
        for delta in getattr(parse_curation(said), "deltas", ()):
            assert delta.text in " ".join(said.split())


def test_every_schema_bounds_every_string_and_array() -> None:
    def bounded(schema: dict) -> bool:
        if "anyOf" in schema:
            return all(map(bounded, schema["anyOf"]))
        if "const" in schema:
            return True
        if schema["type"] == "string":
            return (
                re.search(r"\{\d+,\d+\}\$$", schema["pattern"]) is not None and "*" not in schema["pattern"]
            )
        if schema["type"] == "array":
            return "maxItems" in schema and bounded(schema["items"])
        return all(map(bounded, schema["properties"].values())) and not schema["additionalProperties"]

    assert bounded(REFLECTOR_SCHEMA)
    assert bounded(CURATOR_SCHEMA)


def test_the_longest_reply_closes_within_its_token_budget() -> None:
    add = {"op": "add", "section": "x" * MAX_SECTION_CHARS, "text": "x" * MAX_LESSON_CHARS}
    longest = {"operations": [add] * MAX_OPERATIONS}
    ids = ["b9999"] * 3
    reflected = {"diagnosis": "x" * 100, "lesson": add["text"], "helpful": ids, "harmful": ids}
    assert conforms(longest, CURATOR_SCHEMA)
    assert conforms(reflected, REFLECTOR_SCHEMA)
    assert len(json.dumps(longest)) + 1 == CURATOR_MAX_NEW_TOKENS
    assert len(json.dumps(reflected)) + 1 == REFLECTOR_MAX_NEW_TOKENS
    assert not conforms({**reflected, "lesson": "x" * (MAX_LESSON_CHARS + 1)}, REFLECTOR_SCHEMA)
    assert not conforms({**reflected, "lesson": "Look at [b3] before."}, REFLECTOR_SCHEMA)


# Prompts


@pytest.mark.parametrize(
    "sample", [SPAN, CHOICE, replace(SPAN, answer_type="number", answer="17.25", scale="million")]
)
def test_without_labels_no_prompt_depends_on_the_gold_answer(sample: Sample) -> None:
    other = replace(sample, answer="C" if sample is CHOICE else "Wholesale", scale="")
    unlabelled = roles.reflector_messages(sample, "because", labels=False)
    assert unlabelled == roles.reflector_messages(other, "because", labels=False)
    assert "Correct answer" not in text_of(unlabelled)
    assert roles.reflector_messages(sample, "because", labels=True) != roles.reflector_messages(
        other, "because", labels=True
    )


def test_the_correct_option_is_named_by_the_letter_that_the_prompt_shows() -> None:
    shown = text_of(build_messages(CHOICE, None))
    said = roles.correct_answer(CHOICE)
    assert said.endswith("heparin")
    assert f"\n{said}" in shown
    assert any(permutation(replace(CHOICE, sample_id=str(n)))[1] != 1 for n in range(9))


@pytest.mark.parametrize("domain", ["finance", "medical", "iot", "law"])
def test_every_worked_reply_is_one_that_its_parser_reads_strictly(domain: str) -> None:
    reflector = text_of(roles.reflector_messages(replace(SPAN, domain=domain), "x", labels=True))
    curator = text_of(roles.curator_messages(domain, "", ["A lesson here."]))
    (reflected,) = re.findall(r"^Reply: (.+)$", reflector, re.MULTILINE)
    (curated,) = re.findall(r"^Reply: (.+)$", curator, re.MULTILINE)
    reflection, curation = parse_reflection(reflected), parse_curation(curated)
    assert reflection is not None
    assert curation is not None
    assert reflection.how == curation.how == "strict"
    assert roles.echo_refusal(reflection.lesson.upper()) is not None
    assert roles.echo_refusal(LESSONS[4]) is None


def test_prompts_of_one_round_share_their_front_and_differ_behind() -> None:
    one = text_of(roles.curator_messages("iot", "## a\n- [b1] x", ["First lesson."]))
    two = text_of(roles.curator_messages("iot", "## a\n- [b1] x", ["Other lesson."]))
    assert one[: one.index("First")] == two[: two.index("Other")]
    first = text_of(roles.reflector_messages(SPAN, "a", labels=True, bullets=playbook(LESSONS[0]).shown))
    assert (
        first.index("Worked case")
        < first.index("Context:\nRetail")
        < first.index("[b1]")
        < first.index(SPAN.question)
    )


def test_the_role_digest_follows_the_wording(monkeypatch: pytest.MonkeyPatch) -> None:
    before = roles.role_digest()
    assert before == roles.role_digest()
    monkeypatch.setattr(role_prompts, "REFLECTOR_RULES", "Rules: none.")
    assert roles.role_digest() != before


def test_the_generator_prompt_has_the_playbook_first_and_retrieved_bullets_behind_the_context() -> None:
    book = playbook(*LESSONS[:2]).render()
    (message,) = build_messages(SPAN, book, retrieved="- [b2] lesson")
    order = [message.content.index(part) for part in (book, "Context:", "- [b2] lesson", "Question:")]
    assert order == sorted(order)
    (other,) = build_messages(replace(SPAN, question="Who?"), book, retrieved="")
    shared = message.content.index("Lessons for this question")
    assert message.content[:shared] == other.content[:shared]


# Credit


def test_citations_are_bracketed_ids_of_shown_bullets() -> None:
    book = playbook(*LESSONS[:4])
    assert roles.citations("By [b3] and [B1, b3], give vitamin B2 (b4) [b9].", book) == ("b3", "b1")


def test_credit_goes_only_to_bullets_in_the_prompt_and_cited_or_retrieved() -> None:
    used = roles.used_bullets({"b1", "b2", "b3"}, cited=("b1", "b8"), retrieved=("b2", "b9"))
    assert used == ("b1", "b2")
    reflection = Reflection("", "x y z", helpful=("b3", "b9"), harmful=("b8",))
    tags = roles.credit(used, correct=True, cited=("b1",), reflection=reflection)
    assert tags == (Tag("b1", HELPFUL), Tag("b2", HELPFUL))


def test_a_wrong_answer_blames_what_it_cited_and_what_the_reflector_names() -> None:
    reflection = Reflection("", "x y z", helpful=("b4",), harmful=("b3",))
    tags = roles.credit(("b1", "b2", "b3", "b4"), correct=False, cited=("b1",), reflection=reflection)
    assert tags == (Tag("b1", HARMFUL), Tag("b3", HARMFUL), Tag("b4", HELPFUL))
    assert roles.credit(("b1",), correct=None, cited=("b1",)) == ()


# Retrieval


def test_retrieval_ranks_by_the_question_and_breaks_ties_by_number() -> None:
    lessons = (
        "Check the pump pressure first.",
        "Read the footnote.",
        "Check the pump pressure now.",
        "Pump twice.",
    )
    index = BulletIndex(playbook(*lessons).shown)
    assert [one.bullet_id for one in index.top_k("What do the footnotes say?", 2)] == ["b2"]
    assert [one.bullet_id for one in index.top_k("Is the pressure right?", 2)] == ["b1", "b3"]
    assert index.top_k("Is zebra?", 2) == ()
    assert index.top_k("pump", 0) == ()
    assert BulletIndex(()).top_k("pump", 3) == ()


def test_retrieval_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    BulletIndex(playbook(*LESSONS).shown).top_k("table", 2)
    assert capfd.readouterr() == ("", "")
