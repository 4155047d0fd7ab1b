"""The gate and candidates inside an evolution: what is asked of `validate`, what is kept, what is counted."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ace_values import LESSONS
from shards import work_shard
from teaching import BAD, GOOD, Taught, files, gold, journal, planned, play, shown, split_task, state

from aceslm.ace.gate import GateLedger, draw_minibatch
from aceslm.ace.playbook.bullets import ACTIVE, CANDIDATE, QUARANTINED
from aceslm.ace.roles.schemas import CURATOR_JSON
from aceslm.ace.round import rounds_of
from aceslm.ace.validation import divided
from aceslm.core.ace_config import AceConfig
from aceslm.core.errors import ConfigError
from aceslm.core.paths import AttemptName
from aceslm.core.prompts import Prompt
from aceslm.core.values import GenerationSettings, Sample
from aceslm.run import evolution_journal as journals
from aceslm.run import evolve as evolving
from launch.prepare.tasks import after, load_task

EVOLVE = ("evolve",)
VALIDATE = range(8, 20)


def test_a_lesson_that_helps_passes_the_gate_and_is_a_candidate_until_then(tmp_path: Path) -> None:
    paths, plan = planned(tmp_path, gate=True)
    play(paths, plan, Taught(), steps=EVOLVE)
    kept = journal(paths, plan)
    assert [note.kind for note in kept.steps()] == ["start", *["round", "round", "gate"] * 2, "final"]
    assert [bullet.status for bullet in kept.playbook(2).bullets] == [CANDIDATE]
    assert [bullet.status for bullet in kept.playbook(3).bullets] == [ACTIVE]
    assert shown(paths, plan) == [GOOD]


def test_a_lesson_that_harms_is_rolled_back_and_never_learnt_again(tmp_path: Path) -> None:
    lessons = [BAD, "Some other lesson of no effect."]

    def knows(number: int, text: str) -> bool:
        return (
            number >= 8 and BAD not in text
        )  # nothing of `adapt` is known: there is something to reflect on

    paths, plan = planned(tmp_path, gate=True)
    play(paths, plan, Taught(knows, lambda _: lessons), steps=EVOLVE)
    kept = journal(paths, plan)
    assert [note.accepted for note in kept.steps() if note.kind == "gate"] == [False, True]
    first = kept.playbook(3)
    assert first.shown == ()
    assert [bullet.status for bullet in first.bullets] == [QUARANTINED] * 2
    assert shown(paths, plan) == [], "a refused lesson came again"


def test_without_the_gate_the_same_lesson_stays(tmp_path: Path) -> None:
    paths, plan = planned(tmp_path)
    play(paths, plan, Taught(lambda n, text: n >= 8 and BAD not in text, lambda _: [BAD]), steps=EVOLVE)
    assert shown(paths, plan) == [BAD]


def test_the_gate_asks_whole_contexts_drawn_anew_each_epoch_and_counts_them(tmp_path: Path) -> None:
    new = iter(LESSONS)
    engine = Taught(lambda n, text: n % 2 == 0, lambda _: [next(new)])
    paths, plan = planned(tmp_path, gate=True, gate_samples=4)
    play(paths, plan, engine, steps=EVOLVE)
    asked = [
        engine.questions(n)
        for n in range(len(engine.batches))
        if engine.questions(n) and set(engine.questions(n)) <= set(VALIDATE)
    ]
    gates, final = asked[:4], asked[4:]
    assert [len(questions) for questions in gates] == [4] * 4
    assert gates[0] == gates[1] != gates[2] == gates[3]
    assert all(question ^ 1 in questions for questions in gates for question in questions)
    assert [sorted(questions) for questions in final] == [list(VALIDATE)] * 2
    ledger = state(paths, plan).ledger
    assert ledger["gate"] == GateLedger(comparisons=2, queries=16, accepted=2, refused=0)
    assert ledger["final"] == GateLedger(comparisons=1, queries=24, accepted=1, refused=0)


def test_an_evolution_that_lost_on_the_whole_validation_split_ends_where_it_began(tmp_path: Path) -> None:
    engine = Taught()
    paths, plan = planned(tmp_path, gate=True, gate_samples=4, epochs=1)
    play(paths, plan, engine, steps=EVOLVE)
    drawn = {n // 2 for batch in range(len(engine.batches)) if len(engine.questions(batch)) == 4
             for n in engine.questions(batch) if n in VALIDATE}  # fmt: skip
    assert len(drawn) == 2

    def knows(number: int, text: str) -> bool:
        return number >= 8 and (BAD in text) == (number // 2 in drawn)

    other, plan = planned(tmp_path / "other", gate=True, gate_samples=4, epochs=1)
    play(other, plan, Taught(knows, lambda _: [BAD]), steps=EVOLVE)
    notes = [(note.kind, note.accepted) for note in journal(other, plan).steps()]
    assert notes[-2:] == [("gate", True), ("final", False)]
    assert shown(other, plan) == []
    assert [one.text for one in journal(other, plan).playbook(state(other, plan).version).quarantined] == [
        BAD
    ]


def test_the_best_of_several_candidates_is_taken_and_the_others_leave_nothing(tmp_path: Path) -> None:
    offers = [[BAD], [f"{GOOD} It is a habit."], ["Some other lesson of no effect."]]
    engine = Taught(lambda _n, text: GOOD in text, lambda place: offers[place // 2])
    paths, plan = planned(tmp_path, candidates=3, epochs=1)
    play(paths, plan, engine, steps=EVOLVE)
    assert shown(paths, plan) == offers[1]
    calls = [call for call in journal(paths, plan).calls() if call.role == "curator"]
    assert {call.candidate for call in calls} == {0, 1, 2}
    assert {batch.temperature for batch, prompts in zip(engine.settings, engine.batches, strict=True)
            if prompts[0].json_schema == CURATOR_JSON} == {0.8}  # fmt: skip
    ids = [prompt.request_id for batch in engine.batches for prompt in batch]
    assert len(ids) == len(set(ids)), "two requests would share their noise"


def test_candidates_that_do_not_gain_leave_only_credits(tmp_path: Path) -> None:
    engine = Taught(lambda _n, _text: False, lambda place: [f"Lesson {'abcdef'[place]} of no effect at all."])
    paths, plan = planned(tmp_path, candidates=2, epochs=1)
    play(paths, plan, engine, steps=EVOLVE)
    assert shown(paths, plan) == []
    ledger = state(paths, plan).ledger["select"]
    assert (ledger.accepted, ledger.refused) == (0, 2)
    assert ledger.queries == 2 * 3 * 8


def test_the_gate_never_asks_a_context_that_candidates_were_chosen_on(tmp_path: Path) -> None:
    new = iter(LESSONS * 3)
    engine = Taught(lambda n, text: n % 4 < text.count("- [b"), lambda _: [next(new)])
    paths, plan = planned(tmp_path, gate=True, candidates=2, gate_samples=100)
    play(paths, plan, engine, steps=EVOLVE)
    asked = [set(engine.questions(n)) for n in range(len(engine.batches))]
    kinds = {frozenset(one) for one in asked if one and one <= set(VALIDATE)} - {frozenset(VALIDATE)}
    select, gate = sorted(kinds, key=len, reverse=True)
    assert not select & gate
    assert select | gate == set(VALIDATE)
    assert {n // 2 for n in select}.isdisjoint(n // 2 for n in gate)


def test_the_validation_split_is_divided_eleven_to_seven_the_same_for_every_seed() -> None:
    samples = [Sample(f"s{n}", "q", "a", context_id=f"c{n // 3}") for n in range(180)]
    both = divided(samples, AceConfig(gate=True, candidates=2))
    assert 105 <= len(both.select) <= 110
    assert len(both.select) + len(both.gate) == 180
    alone = divided(samples, AceConfig(gate=True))
    assert len(alone.gate) == 180


def test_one_validation_context_cannot_serve_both(tmp_path: Path) -> None:
    task = split_task(tmp_path, validate=2)
    with pytest.raises(ConfigError, match=r"add another, or say --set ace\.candidates=1"):
        planned(tmp_path, task=task, gate=True, candidates=2)


def test_a_playbook_that_did_not_change_is_not_asked_again(tmp_path: Path) -> None:
    engine = Taught(lambda _n, _text: True)
    paths, plan = planned(tmp_path, gate=True)
    play(paths, plan, engine, steps=EVOLVE)
    assert not any(set(engine.questions(n)) & set(VALIDATE) for n in range(len(engine.batches)))
    assert state(paths, plan).ledger["gate"].queries == 0


class Broken(Exception):
    """A kill, as the process sees it: nothing after it is executed."""


@pytest.mark.parametrize("holder", ["gated", "compared_with_first", "write_json", "replacing"])
@pytest.mark.parametrize("count", [0, 5])
def test_a_gate_or_candidate_step_that_was_cut_is_recomputed_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: str, count: int
) -> None:
    settings: dict[str, Any] = {"gate": True, "candidates": 2}
    whole, plan = planned(tmp_path / "whole", **settings)
    play(whole, plan, Taught(teaches=lessons), steps=EVOLVE)
    cut, plan = planned(tmp_path / "cut", **settings)
    module = evolving if hasattr(evolving, holder) else journals
    genuine, left = getattr(module, holder), [count]

    def breaks(*arguments: Any, **options: Any) -> Any:
        if left[0] == 0:
            raise Broken
        left[0] -= 1
        return genuine(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, holder, breaks)
        with suppress(Broken):
            play(cut, plan, Taught(teaches=lessons), steps=EVOLVE)
    play(cut, plan, Taught(teaches=lessons), steps=EVOLVE, job="j2")
    assert files(cut) == files(whole)
    assert len(files(whole)) == 8
    assert journal(cut, plan).steps() == journal(whole, plan).steps()


def lessons(place: int) -> list[str]:
    return [[GOOD], [BAD]][place // 2]


def test_the_held_out_curve_answers_behind_the_playbook_that_each_epoch_ended_with(tmp_path: Path) -> None:
    lessons = iter(LESSONS)
    engine = Taught(lambda *_: False, lambda _: [next(lessons)])
    paths, plan = planned(tmp_path, held_out="each", epochs=2, round_size=8)
    frozen = [cell for cell in plan.cells if cell.mode == "ace_frozen"]
    assert [cell.variant for cell in frozen] == ["epoch-1", ""]
    play(paths, plan, engine, steps=("evolve",))
    learnt = [
        {lesson for lesson in LESSONS if lesson in journal(paths, plan).playbook(n).render()} for n in (1, 2)
    ]
    assert len(learnt[0]) < len(learnt[1])
    for shard, expected in zip([one for one in plan.shards if one.step == "answer"], learnt, strict=True):
        engine.batches.clear()
        work_shard(paths, plan, shard, lambda _: engine, AttemptName("j2"))
        for prompt in (one for batch in engine.batches for one in batch):
            assert {lesson for lesson in LESSONS if lesson in engine.render(prompt)} == expected


def test_an_ended_evolution_has_one_file_of_steps_and_one_of_calls(tmp_path: Path) -> None:
    paths, plan = planned(tmp_path, gate=True)
    play(paths, plan, Taught(), steps=EVOLVE)
    folder = journal(paths, plan).folder
    assert not list(folder.glob("*.calls.jsonl"))
    assert (folder / "calls.parquet").exists()
    calls = journal(paths, plan).calls()
    assert {call.role for call in calls} == {"generator", "reflector", "curator"}
    assert [call.epoch for call in calls if call.role == "generator"] == [0] * 8 + [1] * 8
    curated = [call for call in calls if call.role == "curator"]
    assert any(GOOD in call.deltas for call in curated)
    notes = journal(paths, plan).steps()
    assert [note.version for note in notes] == list(range(8))
    assert notes[-1].tokens == Taught().count_tokens(journal(paths, plan).playbook(7).render()) > 0
    assert gold(3) not in (folder / "v0007.jsonl").read_text()


class Halfway(Taught):
    """Once the lesson stands in the prompt, its answers to `validate` are half right."""

    def _answer(self, prompt: Prompt, text: str, settings: GenerationSettings) -> str:
        if prompt.json_schema is None and GOOD in text:
            return f"{gold(int(re.findall(r'number ([0-9]+)', text)[-1]))} perhaps"
        return super()._answer(prompt, text, settings)


@pytest.mark.parametrize(("gate_on", "kept"), [("score", [GOOD]), ("correct", [])])
def test_the_gate_counts_the_headline_score_or_exact_matches_as_the_grid_says(
    tmp_path: Path, gate_on: str, kept: list[str]
) -> None:
    """Half of each answer is a gain in token F1 and none in exact match: three right ones are lost for it."""

    def knows(number: int, text: str) -> bool:
        return number in {8, 12, 16} and GOOD not in text

    paths, plan = planned(tmp_path, gate=True, gate_samples=100, gate_on=gate_on)
    play(paths, plan, Halfway(knows), steps=EVOLVE)
    assert shown(paths, plan) == kept


def test_the_score_is_what_the_gate_counts_unless_told_otherwise() -> None:
    assert AceConfig().gate_on == "score"
    with pytest.raises(ValueError, match="gate_on"):
        AceConfig.model_validate({"gate_on": "f1"})


def test_questions_about_one_text_go_together_without_context_ids() -> None:
    """Into the same round, the same draw of the gate, and the same part of the validation split."""
    with_ids = [Sample(f"s{n}", "q", "a", context_id=f"c{n // 3}") for n in range(30)]
    texts = [Sample(f"s{n}", "q", "a", context=f"Table {n // 3}.") for n in range(30)]
    spread = texts[::3] + texts[1::3] + texts[2::3]
    for rows in rounds_of(spread, 6):
        assert len({one.context for one in rows}) * 3 == len(rows) == 6
    drawn = draw_minibatch(spread, 9, seed=0, round_number=1)
    assert len({one.context for one in drawn}) * 3 == len(drawn) == 9
    parts = divided(spread, AceConfig(gate=True, candidates=2))
    assert {one.context for one in parts.select}.isdisjoint(one.context for one in parts.gate)
    assert [len(rows) for rows in rounds_of(with_ids, 6)] == [len(rows) for rows in rounds_of(texts, 6)]
    alone = [Sample(f"s{n}", "q", "a") for n in range(4)]
    assert [len(rows) for rows in rounds_of(alone, 1)] == [1] * 4


def test_a_skip_and_a_share_of_work_keep_a_text_together_without_context_ids(tmp_path: Path) -> None:
    rows = [
        {"id": f"s{n}", "question": "q?", "answer": "a", "context": f"Table {n // 3}.", "answer_type": "span"}
        for n in range(12)
    ]
    path = tmp_path / "t.json"
    path.write_text(json.dumps(rows))
    task = load_task(str(path))
    assert len(after(task, 1).samples) == 9
    assert len(set(task.table.context_ids)) == 4


def test_validation_of_one_text_cannot_serve_gate_and_candidates(tmp_path: Path) -> None:
    task = split_task(tmp_path, validate=2)
    rows = [{**row, "context_id": ""} for row in json.loads(task.read_text())]
    task.write_text(json.dumps(rows))
    with pytest.raises(ConfigError, match=r"add another, or say --set ace\.candidates=1"):
        planned(tmp_path, task=task, gate=True, candidates=2)
