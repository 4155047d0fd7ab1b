"""Playbooks, deltas, upkeep and files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ace_values import LESSONS, deltas, playbook, words
from hypothesis import given
from hypothesis import strategies as st

from aceslm.ace.playbook.bullets import QUARANTINED, Bullet, Playbook
from aceslm.ace.playbook.codec import dumps, load, loads, save
from aceslm.ace.playbook.deltas import (
    HARMFUL,
    HELPFUL,
    Add,
    Merge,
    Refusal,
    Remove,
    Tag,
    Update,
    apply,
)
from aceslm.ace.playbook.limits import (
    PlaybookLimits,
    dedup,
    enforce_budget,
    maintain,
    prune,
    text_similarity,
)
from aceslm.core.errors import DataError


def reasons(book: Playbook, *changes: object) -> list[str]:
    return [one.refusal.reason for one in apply(book, changes, round_number=2).refused]


@given(deltas, deltas)
def test_a_bullet_id_is_never_reused(first: list, second: list) -> None:
    given_ids: dict[str, int] = {}
    book = Playbook()
    for round_number, delta in enumerate([*first, *second]):
        before = {bullet.bullet_id for bullet in book.bullets}
        book = apply(book, [delta], round_number=round_number).playbook
        for bullet_id in {bullet.bullet_id for bullet in book.bullets} - before:
            assert bullet_id not in given_ids
            given_ids[bullet_id] = round_number
    assert book.next_number == len(given_ids) + 1


@given(deltas)
def test_applying_changes_nothing_it_was_given_and_gives_the_same_twice(changes: list) -> None:
    book = playbook(*LESSONS[:3], b1=(2, 1))
    before = dumps(book)
    first = apply(book, changes, round_number=3, source_units=("u2", "u1"))
    assert dumps(book) == before
    assert first == apply(book, changes, round_number=3, source_units=("u1", "u2"))
    assert len(first.applied) + len(first.refused) == len(changes)


@given(deltas)
def test_a_playbook_reads_back_as_it_was_saved(changes: list) -> None:
    book = apply(Playbook(), changes, round_number=1, source_units=("u\u2028 1",)).playbook.advanced()
    assert loads(dumps(book), "p") == book


def test_an_id_survives_removal_in_the_file(tmp_path: Path) -> None:
    book = apply(playbook(*LESSONS[:2]), [Remove("b2")], round_number=2).playbook
    save(tmp_path / "v.jsonl", book)
    again = apply(load(tmp_path / "v.jsonl"), [Add("", LESSONS[3])], round_number=3).playbook
    assert [bullet.bullet_id for bullet in again.bullets] == ["b1", "b3"]


def test_an_update_keeps_id_and_counters() -> None:
    after = apply(playbook(LESSONS[0], b1=(4, 1)), [Update("b1", LESSONS[1])], round_number=5).playbook
    assert after.bullets == (Bullet("b1", "reading", LESSONS[1], 4, 1, last_used=5),)


def test_a_merge_sums_counters_and_unites_sources() -> None:
    book = playbook(*LESSONS[:3], b1=(1, 0), b2=(3, 1))
    book = book.with_bullets(
        replace(bullet, source_units=(f"u{bullet.number}", "u9")) for bullet in book.bullets
    )
    merged = apply(
        book, [Merge(("b1", "b2"), "Read headers and footnotes first.")], round_number=2, source_units=["u0"]
    ).playbook
    (bullet,) = [one for one in merged.bullets if one.bullet_id != "b3"]
    assert (bullet.bullet_id, bullet.helpful, bullet.harmful) == ("b2", 4, 1)
    assert bullet.source_units == ("u0", "u1", "u2", "u9")


def test_tags_count_and_mark_use() -> None:
    after = apply(
        playbook(LESSONS[0]), [Tag("b1", HELPFUL), Tag("b1", HELPFUL), Tag("b1", HARMFUL)], round_number=7
    )
    (bullet,) = after.playbook.bullets
    assert (bullet.helpful, bullet.harmful, bullet.last_used) == (2, 1, 7)


def test_what_cannot_be_applied_is_refused_with_its_reason() -> None:
    book = playbook(*LESSONS[:2])
    assert reasons(book, Update("b7", LESSONS[3]), Remove("b7"), Tag("b7", HELPFUL)) == ["unknown id"] * 3
    assert reasons(book, Merge(("b1", "b7"), LESSONS[3]), Merge(("b1", "b1"), LESSONS[3])) == [
        "unknown id",
        "one id",
    ]
    assert reasons(book, Add("", LESSONS[0].upper()), Add("", "Yes."), Add("", "word " * 60)) == [
        "duplicate",
        "too short",
        "too long",
    ]
    assert reasons(book, Add("", "Always use [b2] first."), Update("b1", LESSONS[0])) == [
        "id in text",
        "unchanged",
    ]


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("Sum the rows: 3. 3. 3. 3. 3.", True),
        ("Read the row label first. Read the row label first.", True),
        ("Compare year by year by year before you answer.", False),
        ("Check the unit of a column, the unit of a row and the unit of a cell.", False),
    ],
)
def test_a_lesson_that_ran_into_a_loop_is_refused(text: str, loops: bool) -> None:
    assert reasons(Playbook(), Add("", text)) == (["repetition"] if loops else [])


def test_a_text_that_the_check_refuses_changes_nothing() -> None:
    book = playbook(LESSONS[0])
    result = apply(
        book, [Add("", LESSONS[1]), Update("b1", LESSONS[2])], round_number=2,
        refuse=lambda text: Refusal("leak", text),
    )  # fmt: skip
    assert result.playbook == book
    assert result.reasons == {"leak": 2}


def test_a_quarantined_bullet_is_not_shown_not_changed_and_not_learnt_again() -> None:
    book = playbook(*LESSONS[:2])
    book = book.with_bullets([book.bullets[0], replace(book.bullets[1], status=QUARANTINED)])
    assert LESSONS[1] not in book.render()
    assert reasons(book, Tag("b2", HELPFUL), Add("", LESSONS[1])) == ["unknown id", "duplicate"]
    near = apply(book, [Add("", LESSONS[1].replace("the table", "each table"))], round_number=2).playbook
    assert [one.reason for one in dedup(near, threshold=0.8).dropped] == ["refused by the gate before"]


def test_the_rendered_text_does_not_move_when_only_counters_do() -> None:
    book = playbook(*LESSONS[:2])
    after = apply(book, [Tag("b1", HELPFUL)], round_number=9).playbook
    assert after.render() == book.render()
    assert book.render().splitlines() == ["## reading", f"- [b1] {LESSONS[0]}", f"- [b2] {LESSONS[1]}"]


def test_top_k_are_the_most_useful_shown_bullets() -> None:
    book = playbook(*LESSONS[:4], b1=(1, 3), b3=(5, 1), b4=(4, 0))
    assert [bullet.bullet_id for bullet in book.top_k(3)] == ["b3", "b4", "b2"]


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("Match the year with the column header.", "Match the year with the column headers!", True),
        ("Check the unit before the answer.", "Before the answer check the unit.", True),
        ("A speed below 1380 rpm is low.", "A speed below 1480 rpm is low.", False),
        ("Always state the unit of a number.", "Never state the unit of a number.", False),
        ("Power above the limit is a fault.", "Power below the limit is a fault.", False),
        ("Report the number.", "Report the number in millions and name the year it is from.", False),
    ],
)
def test_lessons_are_the_same_when_their_words_and_their_meaning_are(
    left: str, right: str, same: bool
) -> None:
    assert (text_similarity(left, right) >= 0.9) == same


def test_dedup_keeps_the_bullet_with_more_evidence_and_sums_counters() -> None:
    kept = dedup(playbook(LESSONS[0], LESSONS[0].replace("header", "headers"), b1=(1, 0), b2=(2, 3)))
    (bullet,) = kept.playbook.bullets
    assert (bullet.bullet_id, bullet.helpful, bullet.harmful) == ("b2", 3, 3)
    assert [one.reason for one in kept.dropped] == ["duplicate of b2"]


@given(deltas)
def test_dedup_loses_no_counter_and_has_nothing_to_do_twice(changes: list) -> None:
    book = apply(playbook(*LESSONS, b1=(2, 1)), changes, round_number=2).playbook
    kept = dedup(book).playbook
    assert sum(one.helpful for one in kept.bullets) == sum(one.helpful for one in book.bullets)
    assert sum(one.harmful for one in kept.bullets) == sum(one.harmful for one in book.bullets)
    assert dedup(kept).dropped == ()


def test_another_similarity_may_decide_what_is_the_same() -> None:
    kept = dedup(playbook(*LESSONS[:3]), similarity=lambda left, right: float("table" in left + right))
    assert len(kept.playbook.bullets) == 2


def test_harmful_and_unused_bullets_go() -> None:
    book = playbook(*LESSONS[:3], b1=(1, 2))
    book = book.with_bullets([*book.bullets[:2], replace(book.bullets[2], last_used=8)])
    kept = prune(book, round_number=10, unused_rounds=5)
    assert [(one.bullet.bullet_id, one.reason) for one in kept.dropped] == [
        ("b1", "harmful"),
        ("b2", "unused"),
    ]


def test_over_capacity_the_least_useful_goes_and_of_equals_the_oldest() -> None:
    kept = prune(playbook(*LESSONS[:4], b1=(3, 0), b2=(1, 1)), round_number=1, capacity=2)
    assert [one.bullet.bullet_id for one in kept.dropped] == ["b2", "b3"]
    assert [bullet.bullet_id for bullet in kept.playbook.bullets] == ["b1", "b4"]


@given(deltas, st.integers(0, 60))
def test_after_enforcement_the_playbook_fits_its_budget(changes: list, budget: int) -> None:
    book = apply(playbook(*LESSONS), changes, round_number=1).playbook
    kept = enforce_budget(book, max_tokens=budget, count_tokens=words)
    assert words(kept.playbook.render()) <= budget
    assert {one.text for one in kept.playbook.bullets} <= {one.text for one in book.bullets}
    if kept.dropped:  # no more than needed went
        assert words(book.render()) > budget


def test_upkeep_obeys_every_limit_and_says_what_went() -> None:
    book = playbook(*LESSONS, b2=(0, 1))
    kept = maintain(book, PlaybookLimits(capacity=4, token_budget=24), round_number=3, count_tokens=words)
    assert [one.reason for one in kept.dropped] == ["harmful", "capacity", "budget", "budget"]
    assert words(kept.playbook.render()) <= 24


PROTOTYPE = {"id": "x1", "domain": "iot", "text": "Check\nthe unit first.", "success_count": 3}


def test_a_file_of_the_prototype_loads() -> None:
    old = {**PROTOTYPE, "failure_count": 1, "created_at": "2025-01-01T00:00:00", "last_used_at": 17.5}
    new = {**old, "id": "x2", "helpful_count": 7, "harmful_count": 2}
    book = loads(json.dumps(old) + "\n" + json.dumps(new) + "\n", "old.jsonl")
    assert [(one.bullet_id, one.section, one.text) for one in book.bullets] == [
        ("b1", "iot", "Check the unit first."),
        ("b2", "iot", "Check the unit first."),
    ]
    assert [(one.helpful, one.harmful) for one in book.bullets] == [(3, 1), (7, 2)]
    assert book.next_number == 3


def test_a_broken_playbook_file_names_its_line() -> None:
    good = dumps(playbook(*LESSONS[:2]))
    lines = good.splitlines()
    for broken, complaint in [
        (good.replace(LESSONS[1], "Other words here."), "p:1: the digest does not fit"),
        ("\n".join([*lines[:2], lines[2][:-5]]), "p:3: not valid JSON"),
        ("\n".join([*lines[:2], lines[2].replace('"helpful": 0', '"helpful": "0"')]), "p:3: key 'helpful'"),
        ("\n".join([lines[0], lines[2], lines[1]]), "p:3: b1 stands after b2"),
        ("\n".join(lines[1:]), "p:1: no header line"),
        (good.replace('"schema": 1', '"schema": 2'), "p:1: schema 2 is not 1"),
        ("", "p:1: no header line"),
        ("[]", "p:1: expected a JSON object"),
        (json.dumps({**PROTOTYPE, "text": " "}), "p:1: key 'text'"),
    ]:
        with pytest.raises(DataError) as caught:
            loads(broken, "p")
        assert complaint in str(caught.value)


def test_a_cut_file_does_not_pass_for_a_shorter_playbook() -> None:
    cut = "".join(line + "\n" for line in dumps(playbook(*LESSONS[:3])).splitlines()[:-1])
    with pytest.raises(DataError, match="the digest does not fit"):
        loads(cut, "p")
