"""Exemplars: what is kept of right answers, which questions they stand beside, and what the gate does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from teaching import Taught, files, gold, journal, planned, play, state

from aceslm.ace.controls import length_matched, neutral
from aceslm.ace.playbook import codec
from aceslm.ace.playbook.bullets import Exemplar, Playbook
from aceslm.ace.playbook.exemplars import ExemplarIndex, joined, solved, turns_of
from aceslm.ace.playbook.merge import merge_workers
from aceslm.core.ace_config import AceConfig
from aceslm.core.errors import DataError
from aceslm.core.prompts import Message, Prompt
from aceslm.core.values import GenerationSettings

REVENUE = Exemplar("What was the revenue in the first year?", "12", "u1", 1)
MARGIN = Exemplar("How did the margin change?", "fell", "u2", 2)


class Solving(Taught):
    """Answers even questions rightly; every question once an exemplar stands in its prompt."""

    def _answer(self, prompt: Prompt, text: str, settings: GenerationSettings) -> str:
        self.knows = lambda n, _: n % 2 == 0 or len(prompt.messages) > 1
        return super()._answer(prompt, text, settings)

    def asked(self) -> list[tuple[Message, ...]]:
        return [one.messages for batch in self.batches for one in batch if one.json_schema is None]


def evolved(folder: Path, engine: Taught, **ace: Any) -> Playbook:
    paths, plan = planned(folder, **{"exemplars": 2, "epochs": 1, **ace})
    play(paths, plan, engine)
    return journal(paths, plan).committed(state(paths, plan))


def test_right_answers_become_exemplars_and_wrong_ones_do_not(tmp_path: Path) -> None:
    engine = Taught(lambda n, _: n in {1, 6})
    found = evolved(tmp_path, engine).exemplars
    assert [(one.question, one.answer) for one in found] == [
        (f"Which word has number {n} here?", gold(n)) for n in (1, 6)
    ]
    assert found[0].created < found[1].created


def test_without_the_setting_nothing_is_kept_or_shown(tmp_path: Path) -> None:
    engine = Solving()
    assert evolved(tmp_path, engine, exemplars=0).exemplars == ()
    assert all(len(messages) == 1 for messages in engine.asked())


def test_an_exemplar_is_a_turn_behind_the_playbook_and_never_of_the_question_itself(tmp_path: Path) -> None:
    engine = Solving()
    evolved(tmp_path, engine, epochs=3)
    shown = [messages for messages in engine.asked() if len(messages) > 1]
    assert len(shown) > 8
    for first, *between, last in shown:
        assert first.content.startswith("Playbook of lessons")
        assert [one.role for one in between] in (["assistant"], ["assistant", "user", "assistant"])
        assert last.content.startswith("Context:")
        own = re.findall(r"Question: .*", last.content)[-1]
        assert not any(own in one.content for one in (first, *between))


def test_the_scored_split_is_asked_with_exemplars_of_the_adapt_split_only(tmp_path: Path) -> None:
    engine = Solving()
    evolved(tmp_path, engine)
    scored = [one for one in engine.asked() if int(re.findall(r"number (\d+)", one[-1].content)[-1]) >= 20]
    assert len(scored) == 6
    answers = {one.content for messages in scored for one in messages if one.role == "assistant"}
    assert answers
    assert answers <= {gold(n) for n in range(8)}


def test_the_nearest_is_the_one_that_shares_most_with_the_question() -> None:
    index = ExemplarIndex([REVENUE, MARGIN])
    assert index.nearest("What was the margin of the year?", 1) == (MARGIN,)
    assert index.nearest("How high was the revenue?", 2) == (REVENUE,)
    assert index.nearest(REVENUE.question.upper(), 2) == ()
    assert ExemplarIndex([]).nearest("Anything?", 4) == ()
    nearest = index.nearest("What was the margin of the year?", 2)
    assert turns_of(nearest)[-1] == (MARGIN.question, MARGIN.answer)  # next to the question


def test_a_question_is_kept_once_on_one_line_and_not_when_it_is_too_long() -> None:
    again = Exemplar("what was the REVENUE in the first year", "13", "u9", 3)
    assert joined([REVENUE], [again, MARGIN]) == (REVENUE, MARGIN)
    tidied = solved("u", "Two\nlines?", "a\x00 b", 1)
    assert tidied == Exemplar("Two lines?", "a b", "u", 1)
    assert solved("u", "x" * 240, "y", 1) is None
    assert solved("u", "Which?", "", 1) is None


def test_the_gate_takes_exemplars_that_help_and_drops_those_that_do_not(tmp_path: Path) -> None:
    helped = evolved(tmp_path / "a", Solving(teaches=lambda _: []), gate=True)
    assert len(helped.exemplars) >= 4
    harmed = Taught(lambda n, text: n % 2 == 0 and "gold" not in text, lambda _: [])
    assert evolved(tmp_path / "b", harmed, gate=True).exemplars == ()


def test_workers_exemplars_are_united_in_any_order(tmp_path: Path) -> None:
    one, other = Playbook(1, exemplars=(REVENUE,)), Playbook(1, exemplars=(MARGIN, REVENUE))
    assert merge_workers(Playbook(), [one, other]).playbook.exemplars == (REVENUE, MARGIN)
    runs = []
    for backwards in (False, True):
        paths, plan = planned(tmp_path / str(backwards), workers=3, exemplars=2, round_size=2)
        play(paths, plan, Solving(), backwards=backwards)
        runs.append(files(paths))
        assert len(journal(paths, plan).committed(state(paths, plan)).exemplars) >= 4
    assert runs[0] == runs[1]


def test_controls_show_the_donors_exemplars_or_none() -> None:
    target, donor = Playbook(exemplars=(REVENUE,)), Playbook(exemplars=(MARGIN,))
    assert length_matched(target, donor, len).playbook.exemplars == (MARGIN,)
    assert neutral(target, len).playbook.exemplars == ()


def test_a_file_holds_exemplars_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    book = Playbook(3, exemplars=(REVENUE, MARGIN))
    path = tmp_path / "v0003.jsonl"
    codec.save(path, book)
    assert codec.load(path) == book
    assert book.digest != Playbook(3).digest
    path.write_text(path.read_text().replace('"answer": "fell"', '"answer": 5'))
    with pytest.raises(DataError, match=r"v0003.jsonl:3: key 'answer': expected text, found 5"):
        codec.load(path)


def test_without_reflection_only_exemplars_are_learnt_and_no_role_is_asked(tmp_path: Path) -> None:
    engine = Solving()
    book = evolved(tmp_path, engine, reflect="none")
    assert book.exemplars
    assert book.bullets == ()
    assert not any(prompt.json_schema for batch in engine.batches for prompt in batch)
    with pytest.raises(ValueError, match="say how many to show, exemplars: 4"):
        AceConfig(reflect="none")


def test_exemplars_without_gold_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="with labels false say exemplars: 0"):
        AceConfig(labels=False, reflect="all", exemplars=2)
