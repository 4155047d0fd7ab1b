"""Several workers evolve one playbook: shares, their merge, waiting, and the same bytes in any order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ace_values import LESSONS
from shards import work_shard
from teaching import GOOD, Taught, files, gold, journal, planned, play, shown, state

from aceslm.ace.playbook import codec
from aceslm.ace.playbook.bullets import Bullet, Playbook
from aceslm.core.errors import Locked, UpstreamMissing
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.prompts import Prompt
from aceslm.core.run import Run
from aceslm.core.values import Plan, Shard
from aceslm.run.evolution_journal import Journal
from aceslm.run.evolve import EvolvePlaybook
from aceslm.run.work import StopFlag

SETTINGS: dict[str, Any] = {"workers": 3, "round_size": 2, "gate": True}


def taught() -> Taught:
    """A lesson for every question that was asked; each answers a quarter of the questions."""
    return Taught(lambda n, text: LESSONS[n % 4] in text, lambda place: [LESSONS[place % 4], LESSONS[5]])


class Placed(Taught):
    """Teaches by the question that the lesson came from, so that workers learn different things."""

    def _answer(self, prompt: Prompt, text: str, settings: Any) -> str:
        numbers = [n for n in range(8) if f"number {n} " in text]
        if numbers:
            self._last = numbers[-1]
        self.teaches = lambda _: [LESSONS[self._last % 5]]
        return super()._answer(prompt, text, settings)


def test_the_order_in_which_workers_run_changes_no_byte(tmp_path: Path) -> None:
    runs = []
    for name, backwards in (("forwards", False), ("backwards", True)):
        paths, plan = planned(tmp_path / name, **SETTINGS)
        play(paths, plan, Placed(lambda n, text: LESSONS[n % 5] in text), backwards=backwards)
        runs.append((files(paths), journal(paths, plan).steps()))
    assert runs[0] == runs[1]
    names = list(runs[0][0])
    assert sum("e01-w" in name for name in names) >= 6
    assert sum("e02-w03" in name for name in names) >= 2


def test_what_workers_learnt_apart_stands_together_under_new_ids(tmp_path: Path) -> None:
    paths, plan = planned(tmp_path, **{**SETTINGS, "epochs": 1, "gate": False})
    play(paths, plan, Placed(lambda n, text: LESSONS[n % 5] in text))
    top = journal(paths, plan)
    shares = [Journal(folder) for folder in sorted(top.folder.glob("e01-w*"))]
    ends = [share.playbook(found.version) for share in shares if (found := share.state())]
    learnt = {bullet.text for one in ends for bullet in one.shown}
    assert len(ends) == 3
    assert set(shown(paths, plan)) == learnt
    assert any({bullet.text for bullet in one.shown} != learnt for one in ends)
    merged = top.playbook(state(paths, plan).version)
    taken = {bullet.bullet_id for one in ends for bullet in one.bullets}
    assert not taken & {bullet.bullet_id for bullet in merged.bullets}
    answered = [call for call in top.calls() if call.role == "generator"]
    assert len(answered) == 8, "the calls of all workers belong to the evolution"


def test_the_steps_and_calls_of_every_epoch_stay_on_record(tmp_path: Path) -> None:
    paths, plan = planned(tmp_path, **SETTINGS)
    play(paths, plan, Placed(lambda n, text: LESSONS[n % 5] in text))
    top = journal(paths, plan)
    assert [note.kind for note in top.steps()] == ["start", "merge", "gate", "merge", "gate", "final"]
    assert [note.version for note in top.steps()][-1] == state(paths, plan).version
    answered = [call.epoch for call in top.calls() if call.role == "generator"]
    assert answered == [0] * 8 + [1] * 8


def test_a_worker_begins_where_the_epoch_before_was_merged_and_waits_for_it(tmp_path: Path) -> None:
    paths, plan = planned(tmp_path, **SETTINGS)
    by_id = {shard.shard_id: shard for shard in plan.shards}
    first = [shard for shard in plan.shards if shard.step == "evolve" and shard.epoch == 0]
    second = next(shard for shard in plan.shards if shard.step == "evolve" and shard.epoch == 1)
    merge = by_id[second.needs[0]]
    for early in (second, merge):
        with pytest.raises(UpstreamMissing, match="aceslm retry"):
            run(paths, plan, early)
    for shard in first[:2]:
        run(paths, plan, shard)
    with pytest.raises(UpstreamMissing, match="2 of 3 workers"):
        run(paths, plan, merge)
    run(paths, plan, first[2])
    run(paths, plan, merge)
    run(paths, plan, second)
    start = state(paths, plan).epochs[0]
    share = Journal(journal(paths, plan).folder / "e02-w01")
    assert share.playbook(start) == journal(paths, plan).playbook(start)


def test_one_worker_takes_the_same_path_without_a_merge(tmp_path: Path) -> None:
    paths, plan = planned(tmp_path)
    play(paths, plan, taught())
    folder = journal(paths, plan).folder
    assert not list(folder.glob("e01-w*"))
    assert [note.kind for note in journal(paths, plan).steps()] == ["start", *["round"] * 4]
    assert state(paths, plan).epochs == (2, 4)


def test_a_lesson_with_the_gold_of_another_workers_question_does_not_pass_the_merge(tmp_path: Path) -> None:
    told = [f"Think of {gold(n)} at all times." for n in range(8)]
    engine = Taught(lambda _n, _text: False, lambda _: told[:3])
    paths, plan = planned(tmp_path, workers=4, round_size=2, epochs=1)
    play(paths, plan, engine)
    share = Journal(journal(paths, plan).folder / "e01-w02")
    found = share.state()
    assert found is not None
    assert share.playbook(found.version).shown, "this worker could not know"
    assert shown(paths, plan) == []


def test_two_tasks_on_one_share_do_not_meet_and_two_shares_do_not_wait(tmp_path: Path) -> None:
    paths, plan = planned(tmp_path, **SETTINGS)
    one, other = [shard for shard in plan.shards if shard.epoch == 0 and shard.worker is not None][:2]
    with (
        EvolvePlaybook.alone(Run(paths, (plan,)), one, StopFlag()),
        EvolvePlaybook.alone(Run(paths, (plan,)), other, StopFlag()),
        pytest.raises(Locked),
        EvolvePlaybook.alone(Run(paths, (plan,)), one, StopFlag()),
    ):
        pass


def test_a_killed_worker_or_merge_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    whole, plan = planned(tmp_path / "whole", **SETTINGS)
    play(whole, plan, Placed(lambda n, text: LESSONS[n % 5] in text))
    for count in (1, 7, 9):
        cut, plan = planned(tmp_path / f"cut{count}", **SETTINGS)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(Journal, "commit", failing_after(count))
            play(cut, plan, Placed(lambda n, text: LESSONS[n % 5] in text))
        play(cut, plan, Placed(lambda n, text: LESSONS[n % 5] in text), job="j2")
        assert files(cut) == files(whole)


def failing_after(count: int) -> Callable[..., None]:
    """`Journal.commit` that breaks once it has worked so often."""
    genuine, done = Journal.commit, []

    def commit(self: Journal, *values: Any) -> None:
        if len(done) == count:
            raise ZeroDivisionError
        done.append(1)
        genuine(self, *values)

    return commit


def test_an_initial_playbook_is_version_0_and_its_ids_go_on(tmp_path: Path) -> None:
    given = Playbook(9, (Bullet("b4", "reading", LESSONS[0], 3, 1, created=7, last_used=9),), 12)
    codec.save(tmp_path / "mine.jsonl", given)
    paths, plan = planned(tmp_path, playbook=str(tmp_path / "mine.jsonl"))
    play(paths, plan, Taught())
    kept = journal(paths, plan)
    (bullet,) = kept.playbook(0).bullets
    assert (bullet.bullet_id, bullet.text, bullet.helpful, bullet.last_used) == ("b4", LESSONS[0], 3, 0)
    assert kept.playbook(0).version == 0
    assert [one.bullet_id for one in kept.playbook(1).bullets] == ["b4", "b12"]


def test_a_role_with_a_model_of_its_own_is_asked_there(tmp_path: Path) -> None:
    ace = {"reflector_model": "tiny-gpt2", "epochs": 1}
    paths, plan = planned(tmp_path, grid={"engine": "scripted", "models": ["scripted"]}, **ace)
    engines: dict[str, Taught] = {}
    shard = plan.shards[0]
    work_shard(
        paths, plan, shard, lambda cell: engines.setdefault(cell.model.name, Taught()), AttemptName("j1")
    )
    asked = {
        name: {prompt.json_schema is None for batch in engine.batches for prompt in batch}
        for name, engine in engines.items()
    }
    reflected = {prompt.json_schema for batch in engines["tiny-gpt2"].batches for prompt in batch}
    assert set(asked) == {"scripted", "tiny-gpt2"}
    assert len(reflected) == 1
    assert None not in reflected
    assert GOOD in shown(paths, plan)


def run(paths: RunPaths, plan: Plan, shard: Shard) -> None:
    work_shard(paths, plan, shard, lambda _: taught(), AttemptName("j1"))


def test_a_seed_permutes_whole_contexts_and_0_keeps_the_published_order(tmp_path: Path) -> None:
    orders = []
    for seed in (0, 1, 2, 1):
        folder = tmp_path / f"{len(orders)}"
        paths, plan = planned(folder, grid={"seeds": [seed]}, epochs=1, round_size=2)
        engine = taught()
        play(paths, plan, engine, steps=("evolve",))
        rounds = [engine.questions(n) for n in range(len(engine.batches))]
        orders.append([questions for questions in rounds if questions])
    assert orders[0] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert orders[1] == orders[3] != orders[0] != orders[2] != orders[1]
    assert all(sorted(order) == orders[0] for order in orders)
