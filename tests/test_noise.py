"""The sampling noise: keyed by what is asked, never by the gold, the name of a sample, or the mode."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from shards import work_shard
from test_ace_mode import Recording
from tiny_models import save_tiny_llama

from aceslm.ace.evolution import Evolution
from aceslm.ace.generator import validated
from aceslm.ace.playbook.bullets import Playbook
from aceslm.config.grid import GridConfig
from aceslm.core.ace_config import AceConfig
from aceslm.core.engine import never
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.prompts import Message, Prompt
from aceslm.core.values import Cell, GenerationSettings, ModelSpec, Sample
from aceslm.engine import load_engine
from aceslm.models.registry import resolve_model
from aceslm.plan.files import load_plans
from aceslm.run.published import verified_shard
from aceslm.tasks.prompt import prompt_for
from launch.prepare.run import prepare, write_run

HOT = {"temperature": 1.5, "max_new_tokens": 6}
SAMPLE = Sample("s1", "How much rose revenue?", "12", context="Revenue rose by 12.", answer_type="number")
CELL = Cell(
    cell_id="c",
    model=ModelSpec("m", "m", "r", source="scripted"),
    quantization="none",
    dtype="auto",
    task_name="t",
    domain="finance",
    split="",
    task_digest="d",
    mode="scaffold",
    seed=3,
    epochs=1,
    generation=GenerationSettings(temperature=1.0),
)


def key(cell: Cell = CELL, sample: Sample = SAMPLE, epoch: int = 0) -> str:
    return prompt_for(cell, sample, cell.unit(sample.sample_id, epoch)).noise_key


@pytest.mark.parametrize(
    "change",
    [
        {"answer": "13"},
        {"sample_id": "another name"},
        {"scale": "million"},
        {"metadata": "{}"},
        {"split": "adapt"},
        {"context_id": "table 1"},
        {"question": "How much  rose Revenue? "},
    ],
)
def test_what_a_sample_is_called_and_what_its_gold_is_are_not_in_the_noise(change: dict[str, Any]) -> None:
    assert key(sample=replace(SAMPLE, **change)) == key()


@pytest.mark.parametrize(
    "change", [{"question": "How much fell it?"}, {"context": "Revenue rose by 13."}, {"choices": ("1", "2")}]
)
def test_another_question_has_other_noise(change: dict[str, Any]) -> None:
    assert key(sample=replace(SAMPLE, **change)) != key()


def test_modes_variants_and_tasks_share_their_noise_and_seeds_and_epochs_do_not() -> None:
    same = [
        replace(CELL, cell_id="b", mode="baseline"),
        replace(CELL, cell_id="f", mode="ace_frozen", variant="wide", task_digest="corrected"),
    ]
    assert {key(cell) for cell in same} == {key()}
    assert len({prompt_for(one, SAMPLE, one.unit("s1", 0)).request_id for one in [CELL, *same]}) == 3
    assert len({key(), key(replace(CELL, seed=4)), key(epoch=1)}) == 3


def rows(folder: Path, golds: dict[str, str], model: str = "scripted", **values: Any) -> pd.DataFrame:
    """Answer eight questions at temperature, some of them with another gold."""
    samples = [
        {
            "id": f"s{n}",
            "question": f"Which column number {n} is the total?",
            "context": f"revenue {n // 2} rose because gross profit",
            "answer": golds.get(f"s{n}", f"gold{n}word"),
            "answer_type": "span",
        }
        for n in range(8)
    ]
    folder.mkdir()
    path = folder / "t.json"
    path.write_text(json.dumps(samples))
    grid = {"models": [model], "tasks": [str(path)], "modes": ["baseline", "scaffold"], "generation": HOT}
    prepared = prepare(GridConfig.model_validate({**grid, **values}), folder / "results")
    write_run(prepared)
    return answered(prepared.paths)


def answered(paths: RunPaths) -> pd.DataFrame:
    (plan,) = load_plans(paths)
    engines: dict[str, Any] = {}

    def engine_for(cell: Cell) -> Any:
        name = cell.model.name
        engines[name] = engines.get(name) or load_engine(
            cell.model,
            engine="scripted" if cell.model.source == "scripted" else "generate",
            dtype="float32",
            device="cpu",
            batch_size=4,
        )
        return engines[name]

    tables = []
    for shard in plan.shards:
        work_shard(paths, plan, shard, engine_for, AttemptName("j"))
        table = verified_shard(paths, shard.shard_id)
        assert table is not None
        tables.append(table.to_pandas())
    return pd.concat(tables).set_index(["mode", "sample_id"])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield save_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize("kind", ["scripted", "tiny"])
def test_a_corrected_gold_changes_no_sampled_answer(kind: str, tmp_path: Path, tiny: Path) -> None:
    model = "scripted" if kind == "scripted" else str(tiny)
    before = rows(tmp_path / "a", {}, model)
    after = rows(tmp_path / "b", {"s3": "something else"}, model)
    assert before["raw_output"].tolist() == after["raw_output"].tolist()
    assert set(before["cell_id"]) & set(after["cell_id"]) == set()  # the results are others all the same
    assert before["raw_output"].nunique() > 4


@pytest.mark.usefixtures("one_core")
def test_equal_noise_keys_give_equal_samples_and_different_ones_do_not(tiny: Path) -> None:
    engine = load_engine(
        resolve_model(str(tiny)), engine="generate", dtype="float32", device="cpu", batch_size=4
    )
    message = (Message("user", "gross profit"),)
    prompts = [Prompt(f"r{n}", message, 8, noise_key="one" if n < 2 else f"k{n}") for n in range(4)]
    found = {
        one.request_id: one.token_ids
        for one in engine.generate(prompts, GenerationSettings(temperature=2.0), never)
    }
    assert found["r0"] == found["r1"]
    assert len(set(found.values())) == 3


def role_keys(folder: Path, golds: dict[str, str], mode: str) -> list[list[str]]:
    """Return the noise keys of all batches of an evolution."""
    folder.mkdir()
    samples = [
        {"id": f"s{n}", "question": f"Question {n}?", "answer": golds.get(f"s{n}", f"gold{n}word")}
        for n in range(6)
    ]
    (folder / "t.json").write_text(json.dumps(samples))
    grid = {
        "models": ["scripted"],
        "tasks": [str(folder / "t.json")],
        "modes": [mode],
        "generation": {"temperature": 1.0},
        "ace": {"epochs": 2, "round_size": 2, "reflect": "all", "reflection_rounds": 2},
    }
    prepared = prepare(GridConfig.model_validate(grid), folder / "results")
    write_run(prepared)
    engine = Recording()
    (plan,) = load_plans(prepared.paths)
    work_shard(prepared.paths, plan, plan.shards[0], lambda _: engine, AttemptName("j"))
    return [[prompt.noise_key for prompt in batch] for batch in engine.batches]


def test_no_role_s_noise_depends_on_a_gold_and_no_two_requests_of_an_evolution_share_theirs(
    tmp_path: Path,
) -> None:
    before = role_keys(tmp_path / "a", {}, "ace")
    assert before == role_keys(tmp_path / "b", {"s0": "else", "s4": "other"}, "ace")
    every = [key for batch in before for key in batch]
    assert len(set(every)) == len(every)


def test_the_first_round_of_an_evolution_draws_the_noise_of_the_scaffold(tmp_path: Path) -> None:
    (scaffold,) = role_keys(tmp_path / "a", {}, "scaffold")
    first = role_keys(tmp_path / "b", {}, "ace")[0]
    assert set(first) < set(scaffold)


def test_candidates_of_one_step_draw_the_same_noise_and_other_steps_draw_other(tmp_path: Path) -> None:
    engine = Recording()
    evolution = Evolution(CELL, AceConfig(), lambda _: engine, lambda: False)
    for asked in (("gate", 4, 0), ("gate", 4, 1), ("gate", 5, 0), ("select", 4, 0)):
        validated(evolution, Playbook(), [SAMPLE], key=asked)
    noise = [batch[0].noise_key for batch in engine.batches]
    assert noise[0] == noise[1]
    assert len(set(noise)) == 3
    assert len({batch[0].request_id for batch in engine.batches}) == 4
