"""Progress on a terminal is a live table a cell; elsewhere it is plain lines."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from conftest import Command, only_run
from rich.console import Console
from shards import work_shard
from test_run import planned, stopped_after

from aceslm.core.paths import AttemptName, RunPaths
from aceslm.plan.files import load_plans, read_run
from aceslm.results.status import run_status
from aceslm.run.attempts import attempt_on
from aceslm.run.work import StopFlag
from launch.show import live
from launch.show.live import LiveStatus, live_table


def frame(paths: RunPaths, width: int = 160, height: int = 40) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(LiveStatus(run_status(read_run(paths))))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_cell_shows_shards_samples_rate_eta_and_accuracy_so_far(tmp_path: Path, many_samples: Path) -> None:
    paths = planned(tmp_path, many_samples, shard_size=30)
    (plan,) = load_plans(paths)
    stop = StopFlag()
    engine = stopped_after(10, stop)
    work_shard(paths, plan, plan.shards[0], lambda _: engine, AttemptName("a"), stop=stop)
    with attempt_on(paths, plan.shards[1].shard_id, AttemptName("b")) as attempt:
        attempt.started_at -= 5
        attempt.progress(15, 30, 15, correct=5)
        (cell,) = run_status(read_run(paths)).cells
        text = frame(paths)
    assert (cell.count("running"), cell.count("missing"), cell.rows_done) == (1, 1, 25)
    assert cell.accuracy == pytest.approx((5 + cell.shards[0].correct) / 25)
    assert cell.samples_per_s == pytest.approx(3.0, rel=0.2)
    assert "25/60" in text
    assert f"{cell.accuracy:.3f}" in text
    assert "scripted sums baseline" in text
    assert "ETA" in text.splitlines()[-1]


def test_a_finished_cell_says_its_accuracy(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    import pandas as pd

    aceslm("submit", grid_file, "--cluster", "debug")
    run = only_run(tmp_path)
    by_cell = pd.read_parquet(run / "results.parquet").groupby("cell_id")["correct"].mean()
    for cell in run_status(read_run(RunPaths(run))).cells:
        assert cell.accuracy == pytest.approx(by_cell[cell.cell.cell_id])


def test_a_frame_never_has_more_lines_than_the_terminal_and_shows_what_is_at_work(
    tmp_path: Path, many_samples: Path
) -> None:
    paths = planned(
        tmp_path, many_samples, seeds=list(range(30)), generation={"temperature": 1.0}, modes=["baseline"]
    )
    (plan,) = load_plans(paths)
    with attempt_on(paths, plan.shards[-1].shard_id, AttemptName("a")):
        text = frame(paths, height=16)
    assert len(text.splitlines()) <= 16
    assert "seed 29" in text
    assert "and 22 cells more: aceslm status" in text


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_frame_keeps_its_figures_at_any_width(tmp_path: Path, many_samples: Path, width: int) -> None:
    paths = planned(tmp_path, many_samples, shard_size=7)
    text = frame(paths, width=width)
    assert "0/60" in text
    assert max(map(len, text.splitlines())) <= width


def test_without_a_terminal_progress_is_plain_lines(
    tmp_path: Path, many_samples: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_PLAIN_EVERY_S", 0.0)
    paths = planned(tmp_path, many_samples)
    with live_table() as show:
        show(run_status(read_run(paths)))
    assert capsys.readouterr().err == "0/60 samples\n"


def test_watching_ends_when_the_run_is_complete_and_shows_it(
    aceslm: Command, grid_file: Path, tmp_path: Path
) -> None:
    aceslm("submit", grid_file, "--cluster", "debug")
    run = only_run(tmp_path)
    result = aceslm("status", f"results/{run.name}", "--watch")
    assert result.status == 0
    assert "complete" in result.out
    assert json.loads(aceslm("status", f"results/{run.name}", "--watch", "--json").out)["state"] == "complete"


def test_ctrl_c_while_watching_leaves_the_run_alone(
    aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    aceslm("submit", grid_file, "--engine", "scripted", "--plan-only", "--cluster", "debug")
    run = only_run(tmp_path)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    result = aceslm("status", f"results/{run.name}", "--watch")
    assert result.status == 0
    assert "the run goes on" in result.err
