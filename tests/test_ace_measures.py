"""Leakage, the gate, merging of workers, measures, control playbooks and the `ace:` section of a grid."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ace_values import LESSONS, deltas, playbook, words
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aceslm.ace.controls import length_matched, neutral, permuted_golds
from aceslm.ace.gate import GateLedger, Pairs, compare, decide, draw_minibatch, select_candidate, settle
from aceslm.ace.leakage import GoldIndex, leak_refusal
from aceslm.ace.measures import (
    citation_rate,
    compare_versions,
    gold_leaks,
    measure,
    published_rules,
    redundancy,
    rule_recovery,
)
from aceslm.ace.playbook.bullets import CANDIDATE, QUARANTINED, Playbook
from aceslm.ace.playbook.codec import dumps
from aceslm.ace.playbook.deltas import HARMFUL, HELPFUL, Add, Remove, Tag, Update, apply
from aceslm.ace.playbook.merge import merge_workers
from aceslm.core.ace_config import AceConfig
from aceslm.core.values import Sample
from aceslm.data.importers.ai4i import RULES


def sample(answer: str, sample_id: str = "s", **more: object) -> Sample:
    return Sample(sample_id, "Which?", answer, **more)  # type: ignore[arg-type]


# Leakage


@pytest.mark.parametrize(
    ("gold", "text", "leaks"),
    [
        ("freight costs", "It was the Freight costs, again.", True),
        ("freight costs", "Freight has costs.", False),
        ("Wholesale", "The wholesale segment grows.", True),
        ("tail", "Look at the retail row.", False),
        ("$1,234.50", "Expect 1234.5 in such tables.", True),
        ("-12.5", "Sales fell by 12.5 percent.", True),
        ("2019", "The year is 2019.", True),
        ("2019", "The code is 20190.", False),
        ("32", "The answer is 32 here.", False),
        ("0.05", "Take 0.05 as the level.", False),
        ("A", "A table has a header.", False),
        ("yes", "Say yes or no only.", False),
        ("none", "If none fits, say none.", False),
        ('["interest rate", "tax"]', "Check the interest rate first.", True),
    ],
)
def test_a_lesson_leaks_when_it_carries_a_gold_that_counts(gold: str, text: str, leaks: bool) -> None:
    assert bool(GoldIndex.of([sample(gold)]).leaks(text)) == leaks


def test_a_number_leaks_with_its_scale_and_a_choice_by_its_text_but_a_label_never() -> None:
    number = sample("32", scale="million")
    choice = sample("B", choices=("aspirin", "heparin"), answer_type="choice")
    label = sample("tool wear", choices=("none", "tool wear"), answer_type="label")
    golds = GoldIndex.of([number, choice, label])
    assert golds.leaks("It is 32 million.") == ("32 million",)
    assert golds.leaks("Give heparin, not aspirin.") == ("heparin",)
    assert golds.leaks("High tool wear is a fault.") == ()


def test_a_leaking_delta_is_refused_and_counted() -> None:
    check = leak_refusal(GoldIndex.of([sample("freight costs", "s7")]))
    result = apply(
        playbook(LESSONS[0]),
        [
            Add("", "Costs rose by freight costs."),
            Update("b1", "Think of freight costs."),
            Add("", LESSONS[1]),
        ],
        round_number=1,
        refuse=check,
    )
    assert result.reasons == {"leak": 2}
    assert "s7" in result.refused[0].refusal.detail
    assert "freight" not in result.playbook.render()


# The gate


@pytest.mark.parametrize(
    ("gains", "losses", "accepted"),
    [(0, 0, True), (1, 0, False), (2, 0, True), (6, 1, True), (4, 2, False), (0, 1, False)],
)
def test_the_gate_asks_for_a_gain_beyond_luck(gains: int, losses: int, accepted: bool) -> None:
    assert decide(changed(gains, losses)).accepted == accepted


def changed(gains: int, losses: int, questions: int = 1) -> Pairs:
    """The pairs of single right answers gained and lost, so many questions a context."""
    before = {f"s{n}": n >= gains for n in range(gains + losses)}
    after = {f"s{n}": n < gains for n in range(gains + losses)}
    return compare(before, after, {f"s{n}": n // questions for n in range(gains + losses)})


def test_a_threshold_of_zero_accepts_what_does_not_lose() -> None:
    assert decide(changed(3, 3), threshold=0).accepted
    assert not decide(changed(3, 4), threshold=0).accepted


def test_the_questions_of_one_context_are_one_observation_for_the_gate() -> None:
    assert decide(changed(6, 0)).accepted
    assert decide(changed(6, 0, questions=3)).accepted
    refused = decide(changed(6, 0, questions=6))
    assert not refused.accepted
    assert refused.reason == "refused: 6 gained, 0 lost of 6 in 1 context, net 7.68 needed"
    assert changed(6, 6, questions=12).spread == 0, "within one context they cancel"


def test_parts_of_a_score_count_as_parts_of_a_gain() -> None:
    before, after = {"a": 0.2, "b": 0.5, "c": 1.0}, {"a": 0.6, "b": 0.4, "c": 1.0}
    pairs = compare(before, after)
    assert (pairs.gains, pairs.losses) == (pytest.approx(0.4), pytest.approx(0.1))
    assert pairs.spread == pytest.approx((0.4**2 + 0.1**2) ** 0.5)
    assert select_candidate(before, [{**before, "a": 0.3}, after]).index == 1
    assert decide(compare({"a": 0.1 + 0.2}, {"a": 0.3}), threshold=0).accepted, "no loss but of the last bit"


def test_only_samples_asked_on_both_sides_are_compared() -> None:
    pairs = compare({"a": True, "b": False, "c": True}, {"a": False, "b": True, "c": True})
    assert (pairs.gains, pairs.losses, pairs.num_samples, pairs.num_contexts) == (1, 1, 3, 3)
    with pytest.raises(ValueError, match="same samples"):
        compare({"a": True}, {"b": True})


def test_the_best_candidate_is_kept_only_if_it_gains() -> None:
    before = {"a": False, "b": True, "c": False}
    gains = {"a": True, "b": True, "c": False}
    assert select_candidate(before, [before, gains, gains]).index == 1
    assert select_candidate(before, [before, {**gains, "b": False}]).index is None
    assert select_candidate(before, []).index is None


def test_a_refused_version_rolls_back_and_quarantines_what_was_new() -> None:
    before = playbook(*LESSONS[:2])
    tried = apply(
        before,
        [Remove("b1"), Update("b2", LESSONS[4]), Add("", LESSONS[2])],
        round_number=2,
        status=CANDIDATE,
    ).playbook.advanced()
    refused = settle(before, tried, accepted=False)
    assert refused.shown == before.bullets
    assert [one.bullet_id for one in refused.quarantined] == ["b3"]
    assert (refused.version, refused.next_number) == (2, 4)
    accepted = settle(before, tried, accepted=True)
    assert [(one.bullet_id, one.status) for one in accepted.bullets] == [("b2", "active"), ("b3", "active")]


def test_the_ledger_counts_comparisons_and_queries() -> None:
    ledger = GateLedger().after(True, comparisons=3, queries=96).after(False, comparisons=1, queries=48)
    assert ledger == GateLedger(comparisons=4, queries=144, accepted=1, refused=1)


def test_a_minibatch_takes_whole_contexts_and_is_drawn_anew_each_round() -> None:
    samples = [sample("x", f"s{n}", context_id=f"c{n // 3}") for n in range(60)]
    drawn = draw_minibatch(samples, 9, seed=1, round_number=4)
    assert len(drawn) == 9
    assert all(sum(one.context_id == other.context_id for other in drawn) == 3 for one in drawn)
    again = draw_minibatch(samples[::-1], 9, seed=1, round_number=4)
    assert {one.sample_id for one in again} == {one.sample_id for one in drawn}
    others = [
        draw_minibatch(samples, 9, seed=1, round_number=5),
        draw_minibatch(samples, 9, seed=2, round_number=4),
        draw_minibatch(samples, 9, seed=1, round_number=4, purpose="select"),
    ]
    assert drawn not in others
    assert len(draw_minibatch(samples[:3], 2, seed=0, round_number=0)) == 3


# Workers


@settings(max_examples=60)
@given(st.lists(deltas, min_size=2, max_size=4), st.randoms())
def test_merging_does_not_depend_on_the_order_of_workers(changes: list, random: object) -> None:
    base = playbook(*LESSONS[:4], b1=(2, 1))
    workers = [
        apply(base, one, round_number=2, source_units=(f"u{n}",)).playbook for n, one in enumerate(changes)
    ]
    merged = merge_workers(base, workers)
    random.shuffle(workers)  # type: ignore[attr-defined]
    assert dumps(merge_workers(base, workers).playbook) == dumps(merged.playbook)
    taken = {one.bullet_id for worker in workers for one in worker.bullets} - {
        one.bullet_id for one in base.bullets
    }
    new = {one.bullet_id for one in merged.playbook.bullets} - {one.bullet_id for one in base.bullets}
    assert not taken & new


def test_new_bullets_are_numbered_by_what_they_say_not_by_who_said_it() -> None:
    base = playbook(LESSONS[0])
    workers = [
        apply(base, [Add("", LESSONS[n]), Add("", LESSONS[5 - n])], round_number=2).playbook for n in (1, 2)
    ]
    merged = [merge_workers(base, order).playbook for order in (workers, workers[::-1])]
    assert dumps(merged[0]) == dumps(merged[1])
    assert [one.text for one in merged[0].bullets[1:]] == sorted(LESSONS[1:5])


def test_one_worker_is_the_sequential_case() -> None:
    base = playbook(*LESSONS[:2])
    worker = apply(base, [Add("", LESSONS[2]), Remove("b1")], round_number=2).playbook.advanced()
    assert merge_workers(base, [worker]).playbook == worker


def test_counters_of_workers_are_summed_relative_to_the_base() -> None:
    base = playbook(LESSONS[0], b1=(5, 2))
    left = apply(base, [Tag("b1", HELPFUL)] * 2, round_number=2).playbook
    right = apply(base, [Tag("b1", HELPFUL), Tag("b1", HARMFUL)], round_number=3).playbook
    (bullet,) = merge_workers(base, [left, right]).playbook.bullets
    assert (bullet.helpful, bullet.harmful, bullet.last_used) == (8, 3, 3)


def test_conflicts_between_workers_are_settled_by_evidence() -> None:
    base = playbook(*LESSONS[:3])
    left = apply(base, [Remove("b1"), Remove("b2"), Update("b3", LESSONS[4])], round_number=2).playbook
    right = apply(
        base,
        [Tag("b1", HELPFUL), Tag("b2", HARMFUL), Update("b3", LESSONS[5]), Tag("b3", HELPFUL)],
        round_number=2,
    ).playbook
    merged = merge_workers(base, [left, right]).playbook
    assert [(one.bullet_id, one.text) for one in merged.bullets] == [("b1", LESSONS[0]), ("b3", LESSONS[5])]


def test_the_same_lesson_from_several_workers_becomes_one() -> None:
    base = playbook(LESSONS[0])
    workers = [
        apply(base, [Add("", LESSONS[1]), Tag("b2", HELPFUL)], round_number=2, source_units=[unit]).playbook
        for unit in ("u2", "u1", "u3")
    ]
    merged = merge_workers(base, workers).playbook
    assert [(one.text, one.helpful, one.source_units) for one in merged.bullets[1:]] == [
        (LESSONS[1], 3, ("u1", "u2", "u3"))
    ]


def test_a_worker_that_did_not_start_from_the_base_is_refused() -> None:
    with pytest.raises(ValueError, match="older than the base"):
        merge_workers(playbook(*LESSONS), [Playbook(), Playbook()])
    with pytest.raises(ValueError, match="no worker"):
        merge_workers(Playbook(), [])


# Measures


def test_size_tokens_redundancy_and_leaks_of_a_version() -> None:
    book = playbook(LESSONS[0], LESSONS[0] + " Now", LESSONS[2])
    book = book.with_bullets([*book.bullets[:2], replace(book.bullets[2], status=QUARANTINED)])
    found = measure(book, count_tokens=words, scored=[sample("column header")])
    assert (found.num_bullets, found.num_quarantined, found.tokens) == (2, 1, words(book.render()))
    assert found.gold_leaks == 2
    assert 0.9 < found.redundancy < 1
    assert redundancy(book.shown[:1]) == 0
    assert gold_leaks(book, [sample("the history forbids")]) == {}


def test_churn_and_survival_between_versions() -> None:
    earlier = playbook(*LESSONS[:4])
    later = apply(
        earlier, [Remove("b1"), Update("b2", LESSONS[4]), Add("", LESSONS[5])], round_number=2
    ).playbook
    change = compare_versions(earlier, later)
    assert (change.added, change.removed, change.reworded) == (1, 1, 1)
    assert (change.churn, change.survival) == (3 / 5, 3 / 4)
    assert compare_versions(Playbook(), Playbook()).churn == 0


def test_the_citation_rate_is_the_share_of_answers_that_cite() -> None:
    assert citation_rate([("b1", "b2"), (), (), ("b1",)]) == 0.5
    assert citation_rate([]) == 0


def test_a_published_ai4i_threshold_counts_when_a_bullet_states_it_for_its_quantity() -> None:
    samples = [
        sample(label, answer_type="label", metadata=json.dumps({"rule": rule}))
        for label, rule in RULES.items()
    ]
    rules = published_rules([*samples, sample("x", metadata="{"), sample("y")])
    assert rules == RULES
    book = playbook(
        "A rotational speed below 1,380 rpm with 8.6 K is heat.",
        "Torque times speed above 9000 W is a fault.",
        "Of 12000 questions few are hard.",
        "Tool wear beyond 2400 is rare.",
    )
    assert rule_recovery(book, rules) == {
        "heat dissipation": 1.0,
        "power": 0.5,
        "overstrain": 0.0,
        "tool wear": 0.0,
        "random": 0.0,
    }


# Controls


def test_shuffled_bullets_match_in_number_and_nearly_in_length() -> None:
    target = playbook("One two three four.", "One two three four five six seven.", "One two three.")
    donor = playbook("Q w e r t y u.", "Q w e.", "Q w e r.", "Far longer than all of the other ones in here.")
    control = length_matched(target, donor, words)
    assert [one.text for one in control.playbook.bullets] == ["Q w e r.", "Q w e r t y u.", "Q w e."]
    assert control.tokens == control.target_tokens
    twins = length_matched(playbook(LESSONS[0], LESSONS[0] + "!"), playbook(*LESSONS[:2]), words)
    assert {one.text for one in twins.playbook.bullets} == set(LESSONS[:2])
    assert len(length_matched(target, playbook("Q w e."), words).playbook.bullets) == 3
    assert length_matched(target, Playbook(), words).playbook.bullets == ()
    refused = playbook("Q w e.").with_bullets([replace(playbook("Q w e.").bullets[0], status=QUARANTINED)])
    assert len(length_matched(target, refused, words).playbook.shown) == 3


def test_neutral_bullets_say_nothing_of_the_task_at_the_same_length() -> None:
    control = neutral(playbook(*LESSONS), words)
    assert control.tokens == control.target_tokens
    assert not {one.text for one in control.playbook.bullets} & set(LESSONS)


def test_placebo_golds_are_those_of_other_samples() -> None:
    samples = [
        *(sample(str(n), f"n{n}", answer_type="number", scale="million" if n % 2 else "") for n in range(6)),
        *(sample(label, f"l{label}", choices=("a", "b"), answer_type="label") for label in "ab"),
        sample("alone", "x"),
    ]
    placebo = permuted_golds(samples, seed=3)
    assert [one.sample_id for one in placebo] == [one.sample_id for one in samples[:-1]]
    assert all(one.answer != own.answer for one, own in zip(placebo, samples, strict=False))
    assert sorted((one.answer, one.scale) for one in placebo) == sorted(
        (one.answer, one.scale) for one in samples[:-1]
    )
    assert placebo != permuted_golds(samples, seed=4)


# Configuration


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0}, {"round_size": 0}, {"reflect": "some"}, {"reflection_rounds": 6}, {"curate_every": 0},
        {"capacity": 0}, {"token_budget": 8}, {"dedup_similarity": 1.1}, {"prune_unused_rounds": 0},
        {"gate_threshold": -1}, {"gate_samples": 0}, {"candidates": 0}, {"workers": 0}, {"playbook": ""},
        {"retrieve_top_k": 9, "capacity": 8}, {"unknown": 1},
    ],
)  # fmt: skip
def test_a_wrong_ace_setting_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AceConfig.model_validate(wrong)
