"""Shards run by the real engine: nothing that only schedules changes an answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT
from near_ties import NEAR_TIE
from shards import merged, work_shard
from tiny_models import save_tiny_llama

from aceslm.config.grid import GridConfig
from aceslm.core.engine import Engine
from aceslm.core.files import read_json
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.values import Cell
from aceslm.engine import load_engine, shared_prefix
from aceslm.plan.files import load_plans
from aceslm.run.parts import read_parts
from aceslm.run.published import verified_shard
from aceslm.run.shard import Outcome
from aceslm.run.work import FlushPolicy, StopFlag
from launch.prepare.run import prepare, write_run

pytestmark = pytest.mark.usefixtures("one_core", "small_nodes")

UNITS = 32
SAMPLED = {"temperature": 1.0, "top_p": 0.95, "max_new_tokens": 10}


@pytest.fixture(scope="module")
def small_nodes() -> Iterator[None]:
    """Let the short prefixes of tiny models be worth a node."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_prefix, "MIN_SAVED_TOKENS", 8)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions about three tables, in turn."""
    path = tmp_path_factory.mktemp("task") / "sums.json"
    rows = [
        {
            "id": f"s{n:03d}",
            "question": f"What is {n} + {n}?",
            "context": f"revenue {n % 3} rose because gross profit {n % 3} " * 3,
            "answer": str(2 * n),
        }
        for n in range(UNITS)
    ]
    path.write_text(json.dumps(rows))
    return path


Planned = Callable[..., RunPaths]


@pytest.fixture
def planned(tmp_path: Path, model: Path, task: Path) -> Planned:
    """Write a run over the task, without running it."""

    def make(name: str, **grid: Any) -> RunPaths:
        values = {
            "models": [str(model)],
            "tasks": [str(task)],
            "modes": ["scaffold"],
            "dtype": "float32",
            "engine": "shared_prefix",
            "generation": SAMPLED,
            "shard_size": 1000,
            **grid,
        }
        prepared = prepare(GridConfig.model_validate(values), tmp_path / name)
        write_run(prepared)
        return prepared.paths

    return make


def engine_of(cell: Cell, rows: int = 32) -> Engine:
    return load_engine(cell.model, engine="shared_prefix", dtype="float32", device="cpu", batch_size=rows)


def run_all(paths: RunPaths, engine_for: Callable[[Cell], Engine] = engine_of) -> pd.DataFrame:
    (plan,) = load_plans(paths)
    for shard in plan.shards:
        assert work_shard(paths, plan, shard, engine_for, AttemptName("j")) is Outcome.DONE
    return rows_of(paths)


def rows_of(paths: RunPaths) -> pd.DataFrame:
    (plan,) = load_plans(paths)
    tables = [verified_shard(paths, shard.shard_id) for shard in plan.shards]
    return pd.concat([table.to_pandas() for table in tables if table is not None]).set_index("unit_id")


def same_texts(whole: pd.DataFrame, other: pd.DataFrame) -> None:
    """Every row of `other` says what `whole` says, near-ties excepted."""
    assert len(other)
    assert set(other.index) <= set(whole.index)
    aligned = whole.loc[other.index]
    sure = (aligned["min_margin"] >= NEAR_TIE) & (other["min_margin"] >= NEAR_TIE)
    assert sure.mean() > 0.8, "too many near-ties to judge anything"
    columns = ["raw_output", "finish_reason", "prompt_digest", "prompt_tokens", "output_tokens"]
    pd.testing.assert_frame_equal(aligned.loc[sure, columns], other.loc[sure, columns])


def timings_of(paths: RunPaths) -> dict[str, Any]:
    (plan,) = load_plans(paths)
    return dict(read_json(paths.done(plan.shards[0].shard_id))["timings"])


def test_a_sampled_text_does_not_depend_on_limit_batch_or_shard_size(planned: Planned) -> None:
    whole = run_all(planned("whole"))
    assert len(whole) == UNITS
    assert whole["engine"].unique().tolist() == ["shared_prefix"]
    assert whole["batch_size"].max() == UNITS
    assert whole["raw_output"].nunique() > UNITS // 2
    same_texts(whole, run_all(planned("alone", limit=1)))
    same_texts(whole, run_all(planned("limit", limit=9)))
    small = planned("shards", shard_size=5)
    assert len(load_plans(small)[0].shards) == 7
    same_texts(whole, run_all(small))
    same_texts(whole, run_all(planned("one"), lambda cell: engine_of(cell, rows=1)))


def test_a_sampled_text_does_not_depend_on_a_resume(planned: Planned) -> None:
    whole = run_all(planned("whole"))
    paths, stop = planned("stopped"), StopFlag()
    (plan,) = load_plans(paths)
    (shard,) = plan.shards
    engine = engine_of(plan.cells[0], rows=4)
    real = engine.generate

    def generate(*arguments: Any) -> Iterator[Any]:
        for number, completion in enumerate(real(*arguments)):
            yield completion
            if number == 6:
                stop.reason = "preempted"

    engine.generate = generate  # type: ignore[method-assign]
    policy = FlushPolicy(rows=4)
    outcome = work_shard(paths, plan, shard, lambda _: engine, AttemptName("j1"), policy=policy, stop=stop)
    assert outcome is Outcome.STOPPED
    kept = len(read_parts(paths, shard.shard_id))
    assert 7 <= kept < UNITS
    assert work_shard(paths, plan, shard, engine_of, AttemptName("j2")) is Outcome.DONE
    assert timings_of(paths)["rows_generated"] == UNITS - kept
    same_texts(whole, rows_of(paths))


def test_the_shared_prefill_and_the_token_budget_are_noted_and_the_summary_counts_them_once(
    planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    paths, calls = planned("tight"), []

    def tight(cell: Cell) -> Engine:
        engine: Any = engine_of(cell)
        forward = engine._loaded.model.forward

        def once(**options: Any) -> Any:
            calls.append(options["input_ids"].numel())
            if len(calls) == 5:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(**options)

        engine._loaded.model.forward = once
        return engine

    run_all(paths, tight)
    timings = timings_of(paths)
    assert timings["token_budget_fraction"] == 0.5
    assert 0 < timings["shared_prefill_s"] < timings["generate_s"]
    (plan,) = load_plans(paths)
    ended = read_json(paths.ended(plan.shards[0].shard_id, AttemptName("j")))
    assert ended["timings"]["token_budget_fraction"] == 0.5
    assert ended["timings"]["shared_prefill_s"] == timings["shared_prefill_s"]
    merged(paths)
    summary = pd.read_csv(paths.summary_csv).iloc[0]
    assert summary["amortised_ms"] == pytest.approx(timings["generate_s"] * 1000 / UNITS)
    assert summary["amortised_ms"] < summary["avg_latency_ms"]


RANK = """
import sys
from pathlib import Path
from aceslm.engine import load_engine, shared_prefix
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.plan.files import load_plans
from aceslm.core.run import Run
from aceslm.run.shard import run_shard
from aceslm.run.work import Worker

shared_prefix.MIN_SAVED_TOKENS = 8
paths, rank = RunPaths(Path(sys.argv[1])), int(sys.argv[2])
(plan,) = load_plans(paths)
(shard,) = plan.shards
engine_for = lambda cell: load_engine(
    cell.model, engine="shared_prefix", dtype="float32", device="cpu", batch_size=8
)
worker = Worker(AttemptName("j", rank=rank), engine_for, num_ranks=2)
print(run_shard(Run(paths, (plan,)), shard, worker).value)
"""


@pytest.mark.slow
def test_two_ranks_share_a_shard_and_their_rows_equal_those_of_one(planned: Planned) -> None:
    whole, paths = run_all(planned("whole")), planned("ranks")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(paths.root), str(rank)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    (plan,) = load_plans(paths)
    shard_id = plan.shards[0].shard_id
    ended = [read_json(paths.ended(shard_id, AttemptName("j", rank=rank))) for rank in (0, 1)]
    assert [end["timings"]["rows_generated"] for end in ended] == [UNITS // 2, UNITS // 2]
    done = read_json(paths.done(shard_id))
    assert (done["rows"], done["duplicates"], done["conflicts"]) == (UNITS, 0, 0)
    rows = rows_of(paths)
    assert rows.index.tolist() == whole.index.tolist()
    same_texts(whole, rows)
