"""What a run has cost: hours over all attempts, lost ones apart; when an adaptation has paid off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Command, only_run
from shards import merged
from test_run import planned

from aceslm.analysis.break_even import BreakEven, break_evens
from aceslm.analysis.spent import Spent, cell_costs, total
from aceslm.analysis.summary import summarize
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.plan.files import load_plans
from aceslm.run.done import all_timings


def write_attempt(paths: RunPaths, shard: str, number: int, end: dict[str, Any], **start: Any) -> None:
    folder = paths.attempts(shard)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"j{number}_0-r0.started.json").write_text(json.dumps({"cpus": 4, "gpus": 0, **start}))
    (folder / f"j{number}_0-r0.ended.json").write_text(json.dumps({"ended_at": number, **end}))


def test_hours_are_wall_time_x_what_was_allocated_and_lost_attempts_are_apart(
    tmp_path: Path, many_samples: Path
) -> None:
    paths = planned(tmp_path, many_samples, shard_size=30)
    plans = load_plans(paths)
    first, second = (shard.shard_id for shard in plans[0].shards)
    write_attempt(paths, first, 1, {"class": "oom", "wall_s": 1800, "energy_j": 10.0}, gpus=2)
    write_attempt(paths, first, 2, {"class": "preempted", "wall_s": 900, "energy_j": 20.0}, gpus=2)
    write_attempt(paths, second, 3, {"class": "done", "wall_s": 3600, "energy_j": 30.0}, gpus=2)
    write_attempt(paths, second, 4, {"class": "unknown", "wall_s": None, "energy_j": 0.0})
    (spent,) = cell_costs(Run(paths, plans)).values()
    assert spent == Spent(4 * 1.75, 2 * 1.75, 4 * 0.5, 2 * 0.5, 60.0)
    write_attempt(paths, second, 5, {"class": "done", "wall_s": 0.0, "energy_j": None})
    assert cell_costs(Run(paths, plans))[plans[0].cells[0].cell_id].energy_j is None


def test_an_attempt_on_a_gpu_that_no_variable_named_had_one(tmp_path: Path, many_samples: Path) -> None:
    paths = planned(tmp_path, many_samples)
    plans = load_plans(paths)
    end = {"class": "done", "wall_s": 3600, "engine": {"device": "cuda"}}
    write_attempt(paths, plans[0].shards[0].shard_id, 1, end)
    assert total(list(cell_costs(Run(paths, plans)).values())).gpu_hours == 1.0


def test_wandb_is_told_the_hours_of_the_costs(tmp_path: Path, many_samples: Path) -> None:
    from test_run import run_first

    from aceslm.analysis.analysed import analyse
    from aceslm.config.grid import GridConfig
    from aceslm.config.strict_yaml import parse, read_yaml
    from aceslm.tracking.figures import cell_lines, read_merged

    paths = planned(tmp_path, many_samples)
    plans = load_plans(paths)
    shard = plans[0].shards[0].shard_id
    run_first(paths)
    # on a GPU that no variable named; one that failed; one whose start is lost
    write_attempt(paths, shard, 2, {"class": "done", "wall_s": 3600, "engine": {"device": "cuda:0"}})
    write_attempt(paths, shard, 3, {"class": "oom", "wall_s": 1800}, gpus=2)
    write_attempt(paths, shard, 4, {"class": "done", "wall_s": 7200}, gpus=8)
    (paths.attempts(shard) / "j4_0-r0.started.json").unlink()
    merged(paths)
    run = Run(paths, plans)
    ((cell, lines),) = cell_lines(
        read_merged(run, analyse(run), parse(GridConfig, read_yaml(paths.config), paths.config))
    )
    (told,) = [line["summary"] for line in lines if "summary" in line]
    spent = cell_costs(Run(paths, plans))[cell.cell_id]
    assert (told["gpu_hours"], told["core_hours"]) == (spent.gpu_hours, spent.core_hours)
    assert spent.gpu_hours == 1.0 + 0.5 * 2
    assert spent.uncounted_attempts == 1


def test_a_row_of_the_summary_has_its_cells_hours_by_its_samples() -> None:
    rows = pd.DataFrame(
        {
            "model_id": "m",
            "task_name": "t",
            "mode": "ace",
            "correct": [1, 0, 1, 1],
            "latency_ms": 10.0,
            "cell_id": "c",
            "epoch": [0, 1, 1, 1],
            "seen": [False, True, True, True],
            "energy_j": [5.0, 1.0, 2.0, 3.0],
        }
    )
    first, second = summarize(rows, spent={"c": Spent(8.0, 4.0, 2.0, 0.0)}).to_dict("records")
    assert (first["core_hours"], second["core_hours"]) == (2.0, 6.0)
    assert (first["gpu_hours"], first["failed_core_hours"], second["failed_gpu_hours"]) == (1.0, 0.5, 0.0)
    assert (first["energy_j"], first["energy_per_correct_j"]) == (5.0, 5.0)
    assert second["energy_per_correct_j"] == 3.0
    unknown = summarize(rows.assign(energy_j=[5.0, None, 2.0, 3.0])).iloc[1]
    assert pd.isna(unknown["energy_j"])
    assert pd.isna(unknown["core_hours"])


def test_the_fixed_columns_still_lead_the_summary(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    assert aceslm("submit", grid_file, "--cluster", "debug").status == 0
    run = only_run(tmp_path)
    header = (run / "summary.csv").read_text().splitlines()[0]
    assert header.startswith("model_id,task_name,mode,epoch,accuracy,avg_latency_ms,num_samples,")
    assert "core_hours,gpu_hours,failed_core_hours,failed_gpu_hours,energy_j,energy_per_correct_j" in header
    page = (run / "summary.md").read_text()
    assert "## Cost" in page
    assert "energy not measured" in page
    costs = json.loads((run / "costs.json").read_text())
    assert all(cell["core_hours"] > 0 for cell in costs["cells"].values())
    status = json.loads(aceslm("status", f"results/{run.name}", "--json").out)
    assert status["costs"] == costs["cells"]
    assert "core-h" in aceslm("status", f"results/{run.name}").out


def point(**values: float) -> BreakEven:
    defaults = {
        "adaptation": 600.0,
        "answer": 3.0,
        "reference_answer": 2.0,
        "accuracy": 0.35,
        "reference_accuracy": 0.30,
    }
    return BreakEven("ace", "scaffold", "core-seconds", **{**defaults, **values})


def test_an_adaptation_has_paid_off_when_it_cost_no_more_than_the_answering() -> None:
    even = point()
    assert even.questions == pytest.approx(200)
    assert even.extra_per_correct() == pytest.approx(20.0)
    assert even.extra_per_correct(200) == pytest.approx(80.0)
    words = even.sentence("ace on t by m", "scaffold")
    assert "took 600.0 core-seconds, as much as answering 200 questions" in words
    assert "0.350 against 0.300" in words


@pytest.mark.parametrize("accuracy", [0.30, 0.25])
def test_without_a_gain_an_adaptation_never_pays_off(accuracy: float) -> None:
    even = point(accuracy=accuracy)
    assert even.questions is None
    assert even.extra_per_correct() is None
    assert "never pays off" in even.sentence("ace on t by m", "scaffold")


def finish_by_hand(paths: RunPaths, timings: dict[str, dict[str, Any]]) -> None:
    """Give every shard of a mode its timings, and one attempt with two cores."""
    plans = load_plans(paths)
    for shard in plans[0].shards:
        mode = plans[0].cell(shard.cell_id).mode
        paths.shards.mkdir(exist_ok=True)
        done = {
            "file": "x",
            "rows": 60,
            "bytes": 1,
            "sha256": "0",
            "schema_version": 1,
            "timings": timings[mode],
        }
        paths.done(shard.shard_id).write_text(json.dumps(done))
        write_attempt(paths, shard.shard_id, 1, {"class": "done", "wall_s": 1.0}, cpus=2)


def test_a_streaming_evolution_is_charged_for_all_but_its_answers(tmp_path: Path, many_samples: Path) -> None:
    paths = planned(tmp_path, many_samples, modes=["scaffold", "ace"])
    roles = {"generator": 90.0, "reflector": 40.0, "curator": 15.0, "validation": 5.0}
    finish_by_hand(
        paths,
        {
            "scaffold": {"generate_s": 60.0, "rows_generated": 60},
            "ace": {"generate_s": 150.0, "rows_generated": 60, "role_s": roles},
        },
    )
    plans = load_plans(paths)
    scaffold, ace = plans[0].cells
    epochs = ace.epochs
    frame = pd.DataFrame(
        {
            "cell_id": [scaffold.cell_id] * 2 + [ace.cell_id] * 3,
            "correct": [1, 0, 1, 1, 0],
            "seen": [None, None, False, False, True],
        }
    )
    run = Run(paths, plans)
    (even,) = break_evens(run, frame, all_timings(run))
    assert even.reference_cell_id == scaffold.cell_id
    assert (even.adaptation, even.unit) == (2 * 60.0, "core-seconds")
    assert even.answer == pytest.approx(2 * 90.0 / (60 * epochs))
    assert even.reference_answer == pytest.approx(2.0)
    assert (even.accuracy, even.reference_accuracy) == (1.0, 0.5)


def test_a_rehearsed_grid_with_ace_says_its_break_even(tmp_path: Path) -> None:
    from test_ace_mode import ACE, task

    paths = planned(tmp_path, task(tmp_path), modes=["scaffold", "ace"], ace=ACE)
    (plan,) = load_plans(paths)
    from shards import work_shard

    from aceslm.core.paths import AttemptName
    from aceslm.engine.scripted import ScriptedEngine

    for shard in plan.shards:
        work_shard(paths, plan, shard, lambda _: ScriptedEngine(), AttemptName("j1"))
    merged(paths)
    page = (paths.root / "summary.md").read_text()
    assert "over scaffold" in page
    (even,) = json.loads(paths.costs.read_text())["break_even"]
    assert even["adaptation"] > 0
