"""Modes that carry a finished playbook: shared adaptations, stages, controls, variants, upstream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Command, only_run
from shards import work_shard
from test_ace_mode import Recording

from aceslm.ace.playbook import codec
from aceslm.config.grid import GridConfig
from aceslm.core.errors import ConfigError, UpstreamMissing
from aceslm.core.parquet import read_table
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.values import Plan, Shard
from aceslm.plan.cells import is_adaptation
from aceslm.plan.files import load_plans
from aceslm.plan.shards import deal, levels
from aceslm.run.evolution_journal import Journal, final_playbook
from launch.prepare.run import prepare, write_run
from launch.submit.pool import pack, task_needs

ACE = {"epochs": 1, "round_size": 4, "reflect": "all"}


def split_task(folder: Path, name: str) -> Path:
    """Eight questions to adapt on, four to validate with and six to score, in contexts of two."""
    rows = [
        {
            "id": f"{name}{n:02d}",
            "question": f"Which column of {name} number {n} is the total?",
            "context": f"Table {name} {n // 2}.",
            "context_id": f"{name}-c{n // 2}",
            "answer": f"gold{n}word",
            "answer_type": "span",
            "split": "adapt" if n < 8 else "validate" if n < 12 else "eval",
        }
        for n in range(18)
    ]
    path = folder / f"{name}.json"
    path.write_text(json.dumps(rows))
    return path


def planned(folder: Path, *modes: str, tasks: int = 1, **values: Any) -> tuple[RunPaths, Plan]:
    files = [str(split_task(folder, f"t{n}")) for n in range(tasks)]
    grid = {"models": ["scripted"], "tasks": files, "modes": modes, "ace": ACE, **values}
    prepared = prepare(GridConfig.model_validate(grid), folder / "results")
    write_run(prepared)
    return prepared.paths, load_plans(prepared.paths)[0]


def run(paths: RunPaths, plan: Plan, shard: Shard, engine: Any = None) -> Recording:
    engine = engine or Recording()
    work_shard(paths, plan, shard, lambda _: engine, AttemptName("j1"))
    return engine


def table_of(paths: RunPaths, shard: Shard) -> pd.DataFrame:
    (path,) = paths.shards.glob(f"{shard.shard_id}.*.parquet")
    return read_table(path).to_pandas()


def test_all_cells_of_a_task_share_one_adaptation_on_the_adapt_split(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, "scaffold", "ace_frozen", "ace_neutral")
    (adaptation,) = [cell for cell in plan.cells if is_adaptation(cell)]
    assert [cell.adaptation for cell in plan.cells if cell.adaptation] == [adaptation.cell_id] * 2
    assert plan.task(adaptation.task_digest).sample_ids == tuple(f"t0{n:02d}" for n in range(8))
    carriers = [shard for shard in plan.shards if plan.cell(shard.cell_id).adaptation]
    (source,) = [shard for shard in plan.shards if shard.cell_id == adaptation.cell_id]
    assert {shard.needs for shard in carriers} == {(source.shard_id,)}


def test_a_frozen_cell_answers_behind_the_last_version_and_changes_nothing(tmp_path: Path) -> None:
    paths, plan = planned(tmp_path, "ace_frozen")
    source, frozen = plan.shards
    run(paths, plan, source)
    playbook = final_playbook(paths, plan.cell(source.cell_id))
    assert playbook is not None
    assert playbook.shown
    before = {path: path.read_bytes() for path in paths.playbooks(source.cell_id).glob("v*.jsonl")}
    engine = run(paths, plan, frozen)
    for prompt in engine.batches[0]:
        assert playbook.render() in "".join(message.content for message in prompt.messages)
    frame = table_of(paths, frozen)
    assert set(frame["playbook_version"]) == {playbook.version}
    assert set(frame["split"]) == {"eval"}
    assert not frame["seen"].any()
    assert before == {path: path.read_bytes() for path in paths.playbooks(source.cell_id).glob("v*.jsonl")}


def test_without_its_playbook_a_shard_ends_as_upstream_before_a_model_is_loaded(tmp_path: Path) -> None:
    paths, plan = planned(tmp_path, "ace_frozen")
    frozen = plan.shards[1]

    def never(_: Any) -> Any:
        raise AssertionError("a model was loaded")

    with pytest.raises(UpstreamMissing, match="aceslm retry"):
        work_shard(paths, plan, frozen, never, AttemptName("j1"))
    (ended,) = paths.attempts(frozen.shard_id).glob("*.ended.json")
    assert json.loads(ended.read_text())["class"] == "upstream"


def test_shuffled_carries_as_many_bullets_of_the_next_task_under_the_same_ids(tmp_path: Path) -> None:
    paths, plan = planned(tmp_path, "ace_shuffled", tasks=2)
    stages = levels(plan.shards)
    for shard in sorted(plan.shards, key=lambda one: stages[one.shard_id]):
        engine = run(paths, plan, shard)
        cell = plan.cell(shard.cell_id)
        if cell.evolves:
            continue
        own, other = (final_playbook(paths, plan.cell(name)) for name in (cell.adaptation, cell.donor))
        assert own is not None
        assert other is not None
        text = engine.batches[0][0].messages[-1].content
        shown = [bullet for bullet in other.shown if bullet.text in text]
        assert shown
        assert not any(
            f"] {bullet.text}\n" in text
            for bullet in own.shown
            if bullet.text not in {one.text for one in other.shown}
        )
        assert text.count("- [b") == len(own.shown)


def test_a_placebo_learns_from_golds_of_other_samples(tmp_path: Path) -> None:
    paths, plan = planned(tmp_path, "ace_frozen", "ace_placebo")
    adaptations = [cell for cell in plan.cells if is_adaptation(cell)]
    assert len(adaptations) == 2
    tables = [read_table(paths.task(cell.task_digest)).to_pandas() for cell in adaptations]
    assert sorted(tables[0]["answer"]) == sorted(tables[1]["answer"])
    assert (tables[0]["answer"] != tables[1]["answer"]).all()


def test_modes_without_what_they_need_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="add one to `tasks`, or name one"):
        planned(tmp_path, "ace_shuffled")
    with pytest.raises(ConfigError, match="task 'medqa_tiny' has none"):
        planned(tmp_path, "ace_shuffled", ace={**ACE, "shuffled_from": "medqa_tiny"})
    with pytest.raises(ConfigError, match="'t0' is not another task than 't0'"):
        planned(tmp_path, "ace_shuffled", ace={**ACE, "shuffled_from": "t0"})


def test_variants_are_cells_of_their_own_and_seeds_may_differ(tmp_path: Path) -> None:
    variants = [{"label": "long", "seeds": [0, 1], "ace": {"epochs": 2}}, {"label": "short", "seeds": [2]}]
    _, plan = planned(tmp_path, "scaffold", "ace", "ace_frozen", seeds=[0, 1, 2], variants=variants)
    found = sorted(
        (cell.mode, cell.variant, cell.seed, cell.epochs) for cell in plan.cells if cell.mode != "scaffold"
    )
    adapted = [("ace", "long", 0, 2), ("ace", "long", 1, 2), ("ace", "short", 2, 1)]
    assert found == sorted([*adapted * 2, *(("ace_frozen", label, seed, 1) for _, label, seed, _ in adapted)])
    assert [cell.seed for cell in plan.cells if cell.mode == "scaffold"] == [0]


def test_a_playbook_file_is_carried_as_it_is(tmp_path: Path, aceslm: Command) -> None:
    paths, plan = planned(tmp_path, "ace_frozen")
    run(paths, plan, plan.shards[0])
    playbook = final_playbook(paths, plan.cell(plan.shards[0].cell_id))
    assert playbook is not None
    codec.save(tmp_path / "mine.jsonl", playbook)
    ace = {**ACE, "frozen_playbook": str(tmp_path / "mine.jsonl")}
    carried, given = planned(tmp_path, "ace_frozen", ace=ace)
    (tmp_path / "mine.jsonl").unlink()
    (shard,) = given.shards
    assert shard.needs == ()
    engine = run(carried, given, shard)
    assert playbook.render() in engine.batches[0][0].messages[-1].content


def test_workers_share_whole_contexts_evenly() -> None:
    contexts = ["a", "b", "a", "c", "c", "d", "e"]
    hands = deal(contexts, 3)
    assert sorted(position for hand in hands for position in hand) == list(range(7))
    assert max(map(len, hands)) - min(map(len, hands)) <= 1
    homes = [{contexts[position] for position in hand} for hand in hands]
    assert not any(one & other for n, one in enumerate(homes) for other in homes[:n])


def test_with_several_workers_an_epoch_needs_the_merge_of_the_one_before(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, "ace_frozen", ace={**ACE, "epochs": 2, "workers": 3})
    stages = levels(plan.shards)
    by_stage = [[shard for shard in plan.shards if stages[shard.shard_id] == n] for n in range(5)]
    assert [[shard.step for shard in stage] for stage in by_stage] == [
        ["evolve"] * 3,
        ["merge"],
        ["evolve"] * 3,
        ["merge"],
        ["answer"],
    ]
    assert sum(shard.num_units for shard in by_stage[0]) == 8
    tasks = pack(plan.shards, lambda _: "model", workers=2)
    needs = task_needs(tasks, plan.shards)
    assert [len(task) for task in tasks] == [2, 1, 1, 2, 1, 1, 1]
    assert needs == [set(), set(), {0, 1}, {2}, {2}, {3, 4}, {5}]
    assert len(pack(plan.shards, lambda _: "model", workers=1)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_grid_of_all_modes_runs_locally_in_stages(aceslm: Command, tmp_path: Path, workers: int) -> None:
    tasks = [str(split_task(tmp_path, f"t{n}")) for n in range(2)]
    modes = ["baseline", "scaffold", "ace", "ace_frozen", "ace_shuffled", "ace_neutral", "ace_placebo"]
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        json.dumps({"models": ["scripted"], "tasks": tasks, "modes": modes, "ace": ACE, "shard_size": 4})
    )
    result = aceslm("submit", grid, "--cluster", "local", "--workers", str(workers))
    assert result.status == 0, result.err
    frame = pd.read_parquet(only_run(tmp_path) / "results.parquet")
    scored = frame[frame["split"] == "eval"]
    assert scored.groupby("mode").size().to_dict() == dict.fromkeys(sorted(modes), 12)
    assert frame[frame["split"] == "adapt"].groupby("mode").size().to_dict() == {"ace": 32}
    summary = pd.read_csv(only_run(tmp_path) / "summary.csv")
    assert summary["num_samples"].tolist() == [6] * 14
    page = (only_run(tmp_path) / "summary.md").read_text()
    assert "ace_frozen - scaffold" in page
    assert "## Evolving playbooks" in page
    assert "evolving playbooks" in result.out
    figures = json.loads((only_run(tmp_path) / "evolutions.json").read_text())
    assert [one["split"] for one in figures].count("adapt") == 4
    for one in figures:
        assert one["calls"]["generator"] == (8 if one["split"] == "adapt" else 6)
        assert sum(one["role_share"].values()) == pytest.approx(1.0)
        calls = Journal(only_run(tmp_path) / "playbooks" / one["cell_id"]).calls()
        assert sum(one["parse_failures"].values()) == sum(call.parsed is False for call in calls)
        assert one["relative_cost"] > 0
    assert any(one["bullets"] for one in figures)
