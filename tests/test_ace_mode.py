"""Mode `ace`: rounds, prequential order, resume byte for byte, what a row and the command say of it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Command, only_run
from shards import merged, work_shard
from test_run import TIMINGS, planned

from aceslm.ace.playbook import codec
from aceslm.ace.round import rounds_of
from aceslm.core.errors import ConfigError
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.prompts import Completion, Prompt
from aceslm.core.run import Run
from aceslm.core.values import GenerationSettings, Sample
from aceslm.engine.scripted import ScriptedEngine
from aceslm.plan.files import load_plans
from aceslm.run import evolution_journal as journal
from aceslm.run import evolve as evolving
from aceslm.run.evolve import EvolvePlaybook
from aceslm.run.shard import Outcome
from aceslm.run.work import StopFlag

ACE: dict[str, Any] = {"epochs": 2, "round_size": 4, "retrieve_top_k": 2, "reflection_rounds": 2}


class Recording(ScriptedEngine):
    """Remembers every batch of prompts."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Prompt]] = []

    def generate(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Completion]:
        self.batches.append(list(prompts))
        yield from super().generate(prompts, settings, should_stop)


def task(folder: Path, seed: int = 0) -> Path:
    """12 questions in contexts of two; golds stand nowhere else; with a seed the engine often says them."""
    golds = random.Random(seed).sample(range(100_000, 999_999), 12)
    rows = [
        {
            "id": f"s{n:02d}",
            "question": f"Which column label number {n} is the total?",
            "context": f"Table {n // 2}.",
            "context_id": f"c{n // 2}",
            "answer": "freight costs fell" if seed else f"gold{golds[n]}word",
            "answer_type": "span",
        }
        for n in range(12)
    ]
    path = folder / "task.json"
    path.write_text(json.dumps(rows))
    return path


def evolved(folder: Path, engine: ScriptedEngine | None = None, seed: int = 0, **ace: Any) -> RunPaths:
    folder.mkdir(exist_ok=True)
    paths = planned(folder, task(folder, seed), modes=["ace"], ace={**ACE, **ace})
    assert run(paths, engine or ScriptedEngine()) is Outcome.DONE
    return paths


def run(paths: RunPaths, engine: ScriptedEngine, job: str = "j1", **options: Any) -> Outcome:
    (plan,) = load_plans(paths)
    (shard,) = plan.shards
    return work_shard(paths, plan, shard, lambda _: engine, AttemptName(job), **options)


def versions(paths: RunPaths) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in sorted(paths.root.glob("playbooks/*/v[0-9]*[0-9].jsonl"))
    }


def rows(paths: RunPaths) -> pd.DataFrame:
    merged(paths)
    frame = pd.read_parquet(paths.results)
    return frame.drop(columns=[*TIMINGS, "reflection_latency_ms"])


def gold_of(paths: RunPaths) -> dict[str, str]:
    merged(paths)
    frame = pd.read_parquet(paths.results)
    return dict(zip(frame["sample_id"], frame["gold"], strict=True))


def test_no_gold_answer_stands_in_any_prompt_before_its_sample_was_answered(tmp_path: Path) -> None:
    engine = Recording()
    paths = evolved(tmp_path, engine)
    golds = gold_of(paths)
    answered: set[str] = set()
    shown: set[str] = set()
    for batch in engine.batches:
        for prompt in batch:
            text = engine.render(prompt)
            there = {sample for sample, gold in golds.items() if gold.lower() in text.lower()}
            assert there <= answered
            shown |= there
        if batch[0].json_schema is None:
            texts = [engine.render(prompt) for prompt in batch]
            answered |= {f"s{n:02d}" for n in range(12) if any(f" number {n} " in text for text in texts)}
    assert shown == set(golds), "the Reflector must have seen them, else this test shows nothing"


def test_without_labels_the_golds_change_no_prompt_no_playbook_and_no_prediction(tmp_path: Path) -> None:
    engines = [Recording(), Recording()]
    first, second = (
        evolved(tmp_path / str(seed), engine, seed, labels=False, reflect="all")
        for seed, engine in enumerate(engines)
    )
    told = [[[p.messages for p in batch] for batch in engine.batches] for engine in engines]
    assert told[0] == told[1]
    lessons = [
        [
            [(bullet.text, bullet.helpful, bullet.harmful) for bullet in codec.load(path).bullets]
            for path in sorted(run.root.glob("playbooks/*/v*[0-9].jsonl"))
        ]
        for run in (first, second)
    ]
    assert lessons[0] == lessons[1]
    assert lessons[0][-1]
    assert rows(first)["pred"].tolist() == rows(second)["pred"].tolist()
    assert rows(second)["correct"].sum() > 0, "else the golds would not have mattered anyway"


def test_the_playbook_is_the_same_for_a_whole_round_and_grows_between_rounds(tmp_path: Path) -> None:
    engine = Recording()
    frame = rows(evolved(tmp_path, engine))
    heads = [
        {prompt.messages[0].content.split("Context:")[0] for prompt in batch}
        for batch in engine.batches
        if batch[0].json_schema is None
    ]
    assert [len(head) for head in heads] == [1] * 6
    assert len(set.union(*heads)) > 2
    assert frame["playbook_version"].tolist() == [n // 4 for n in range(24)]
    assert frame["epoch"].tolist() == [0] * 12 + [1] * 12
    assert frame["seen"].tolist() == [False] * 12 + [True] * 12
    assert (frame["reflected"] == (frame["correct"] == 0)).all()
    assert any(len(used) for used in frame["bullets_used"])


def test_the_questions_of_one_context_are_in_one_round() -> None:
    samples = [Sample(f"s{n}", "q", "a", context_id=name) for n, name in enumerate("abaccc")]
    loose = [replace(sample, context_id="") for sample in samples]
    assert [[one.sample_id for one in part] for part in rounds_of(samples, 2)] == [
        ["s0", "s2"],
        ["s1"],
        ["s3", "s4", "s5"],
    ]
    assert [len(part) for part in rounds_of(loose, 4)] == [4, 2]


class Broken(Exception):
    """A kill, as the process sees it: nothing after it is executed."""


@pytest.mark.parametrize(
    ("holder", "name", "calls"),
    [
        (journal.codec, "save", 1),
        (journal.codec, "save", 4),
        (journal, "write_json", 0),
        (journal, "write_json", 3),
        (journal, "write_json", 6),
        (journal, "write_values", 0),
        (evolving, "play_round", 2),
        (journal, "replacing", 2),
    ],
)
@pytest.mark.parametrize("curate_every", [1, 4])
def test_a_round_that_was_cut_anywhere_is_recomputed_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, calls: int, curate_every: int
) -> None:
    whole = evolved(tmp_path / "whole", curate_every=curate_every)
    (tmp_path / "cut").mkdir()
    cut = planned(
        tmp_path / "cut", task(tmp_path / "cut"), modes=["ace"], ace={**ACE, "curate_every": curate_every}
    )
    genuine = getattr(holder, name)
    left = [calls]

    def breaks(*arguments: Any, **options: Any) -> Any:
        if left[0] == 0:
            raise Broken
        left[0] -= 1
        return genuine(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(holder, name, breaks)
        with pytest.raises(Broken):
            run(cut, ScriptedEngine())
    assert run(cut, ScriptedEngine(), "j2") is Outcome.DONE
    assert len(versions(whole)) == 7
    (done,) = cut.shards.glob("*.done.json")
    assert json.loads(done.read_text())["duplicates"] == 0
    assert versions(cut) == versions(whole)
    pd.testing.assert_frame_equal(rows(cut), rows(whole))


def test_a_stop_in_the_middle_of_a_round_loses_only_that_round(tmp_path: Path) -> None:
    whole = evolved(tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    cut = planned(tmp_path / "cut", task(tmp_path / "cut"), modes=["ace"], ace=ACE)
    stop = StopFlag()

    class Stopping(Recording):
        def render(self, prompt: Prompt) -> str:
            if len(self.batches) == 6:
                stop.reason = "preempted"
            return super().render(prompt)

    assert run(cut, Stopping(), stop=stop) is Outcome.STOPPED
    (state,) = cut.root.glob("playbooks/*/state.json")
    assert 0 < json.loads(state.read_text())["cursor"] < 6
    again = Recording()
    assert run(cut, again, "j2") is Outcome.DONE
    assert len([batch for batch in again.batches if batch[0].json_schema is None]) < 6
    assert versions(cut) == versions(whole)
    pd.testing.assert_frame_equal(rows(cut), rows(whole))


def test_lessons_wait_for_the_round_that_curates(tmp_path: Path) -> None:
    paths = evolved(tmp_path, epochs=1, curate_every=3)
    *early, last = [codec.loads(text.decode(), name) for name, text in versions(paths).items()]
    assert not any(one.bullets for one in early)
    sources = {unit for bullet in last.bullets for unit in bullet.source_units}
    frame = rows(paths)
    first_round = set(frame[frame["playbook_version"] == 0]["unit_id"])
    assert sources & first_round


def test_a_shard_says_what_each_role_cost_and_how_many_replies_could_not_be_read(tmp_path: Path) -> None:
    paths = evolved(tmp_path)
    (done,) = paths.shards.glob("*.done.json")
    timings = json.loads(done.read_text())["timings"]
    assert timings["role_calls"]["generator"] == 24
    assert timings["role_calls"]["reflector"] > 0
    (file,) = paths.root.glob("playbooks/*/calls.parquet")
    calls = pd.read_parquet(file)
    unread = calls[calls["parsed"].eq(False)]["role"].value_counts()
    assert timings["parse_failures"] == {role: unread.get(role, 0) for role in ("reflector", "curator")}
    assert sum(timings["parse_failures"].values()) < 0.2 * len(calls)
    assert timings["relative_cost"] > 1


def test_a_limit_is_another_evolution_because_order_and_number_decide_what_is_learnt(tmp_path: Path) -> None:
    file = task(tmp_path)
    few, more = (planned(tmp_path, file, modes=["ace"], ace=ACE, limit=limit) for limit in (4, 8))
    assert few.root != more.root


@pytest.mark.parametrize(
    ("ace", "message"),
    [
        ({"gate": True}, r"ace\.gate asks the 'validate' split, and task 'task' has none"),
        ({"candidates": 3}, r"ace\.candidates asks the 'validate' split"),
    ],
)
def test_what_the_ace_mode_cannot_do_is_refused(tmp_path: Path, ace: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(tmp_path, task(tmp_path), modes=["ace"], ace=ace)


def test_a_grid_with_ace_runs_locally_beside_its_baseline(aceslm: Command, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"models: [scripted]\ntasks: ['{task(tmp_path)}']\nmodes: [scaffold, ace]\nshard_size: 3\n"
        "ace: {epochs: 2, round_size: 4}\n"
    )
    result = aceslm("submit", grid, "--cluster", "local")
    assert result.status == 0, result.err
    frame = pd.read_parquet(only_run(tmp_path) / "results.parquet")
    assert frame.groupby("mode").size().to_dict() == {"ace": 24, "scaffold": 12}


def test_an_ace_shard_is_not_split(aceslm: Command, tmp_path: Path) -> None:
    paths = planned(tmp_path, task(tmp_path), modes=["ace"], ace=ACE)
    split = aceslm("retry", paths.root, "--split", "2", "--cluster", "debug")
    assert split.status == 2
    assert "cannot be split" in split.err


def test_a_damaged_part_makes_the_playbook_evolve_again(tmp_path: Path) -> None:
    whole = evolved(tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    cut = planned(tmp_path / "cut", task(tmp_path / "cut"), modes=["ace"], ace=ACE)
    stop = StopFlag()

    class Stopping(Recording):
        def render(self, prompt: Prompt) -> str:
            if len(self.batches) == 6:
                stop.reason = "preempted"
            return super().render(prompt)

    assert run(cut, Stopping(), stop=stop) is Outcome.STOPPED
    part = next(cut.root.glob("parts/*/part-*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    assert run(cut, ScriptedEngine(), "j2") is Outcome.DONE
    assert versions(cut) == versions(whole)
    pd.testing.assert_frame_equal(rows(cut), rows(whole))


def test_two_workers_do_not_evolve_one_playbook(tmp_path: Path) -> None:
    paths = planned(tmp_path, task(tmp_path), modes=["ace"], ace=ACE)
    (plan,) = load_plans(paths)
    with EvolvePlaybook.alone(Run(paths, (plan,)), plan.shards[0], StopFlag()):
        assert run(paths, ScriptedEngine()) is Outcome.HELD
