"""W&B without a network: what a run tells, read back from W&B's own offline files; faults cost no row."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, only_run
from wandb_helpers import OfflineRun, read_offline_run

METRICS = {
    *("samples_done", "accuracy", "samples_per_s", "tokens_per_s"),
    *("memory_bytes", "energy_j", "errors", "elapsed_s"),
}


@pytest.fixture(autouse=True)
def no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B as on a machine that has never seen a key."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def offline_runs(run: Path) -> dict[str, OfflineRun]:
    folders = sorted(run.glob("wandb/**/offline-run-*"))
    found = [read_offline_run(folder) for folder in folders]
    assert len({one.id for one in found}) == len(found)
    return {one.id: one for one in found}


def of_type(runs: dict[str, OfflineRun], job_type: str) -> list[OfflineRun]:
    return [run for run in runs.values() if run.job_type == job_type]


def snapshot(run: Path) -> dict[str, float]:
    return {str(path): path.stat().st_mtime_ns for path in run.glob("wandb/**/*.wandb")}


@pytest.mark.slow
def test_a_run_of_12_shards_is_read_back_from_its_offline_folders(
    aceslm: Command, grid_file: Path, tmp_path: Path
) -> None:
    one_each = ["--limit", "2", "--set", "shard_size=1"]
    result = aceslm("submit", grid_file, "--cluster", "debug", *one_each)
    assert result.status == 0, result.err
    assert "19 runs are offline" in result.err
    run = only_run(tmp_path)
    runs = offline_runs(run)
    shards, cells, (grid,) = of_type(runs, "shard"), of_type(runs, "cell"), of_type(runs, "grid")
    assert (len(shards), len(cells)) == (12, 6)
    for shard in shards:
        assert shard.step_metrics == {"*": "samples_done"}
        assert set(shard.history[-1]) == METRICS
        assert shard.history[-1]["samples_done"] == 1
        assert shard.history[-1]["energy_j"] is None
        assert {"generate_s", "peak_memory_bytes", "rows_generated"} <= set(shard.summary)
        assert {"shard", "cell_id", "model", "task_name", "generation"} <= set(shard.config)
        assert shard.exit_code == 0
    for cell in cells:
        assert cell.id == cell.config["cell_id"].rsplit("-", 1)[-1]
        assert cell.config["model"]["model_id"] == "scripted"
        wanted = {"accuracy", "accuracy_low", "accuracy_high", "avg_latency_ms", "core_hours", "gpu_hours"}
        assert wanted <= set(cell.summary)
    assert {one.group for one in runs.values()} == {run.name}
    assert grid.config["models"] == ["scripted"]
    assert grid.summary["complete"] is True
    told = {key.partition(".")[0] for point in grid.history for key in point}
    assert {"summary", "comparisons", "verdicts"} <= told
    assert "results" in grid.artifacts


@pytest.mark.slow
def test_told_again_nothing_doubles_and_a_resume_keeps_the_ids(
    aceslm: Command, grid_file: Path, tmp_path: Path
) -> None:
    aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1", "--task-name", "iot_tiny")
    run = only_run(tmp_path)
    first, files = offline_runs(run), snapshot(run)
    assert len(first) == 5
    assert aceslm("aggregate", run).status == 0
    assert snapshot(run) == files
    aceslm("submit", grid_file, "--cluster", "debug", "--limit", "3", "--task-name", "iot_tiny")
    second = offline_runs(run)
    assert set(first) < set(second)
    assert len(of_type(second, "cell")) == 2
    for cell in of_type(second, "cell"):
        assert (first[cell.id].summary["num_samples"], cell.summary["num_samples"]) == (1, 3)


@pytest.mark.slow
def test_an_evolving_playbook_has_curves_over_epochs_and_versions(
    aceslm: Command, grid_file: Path, tmp_path: Path
) -> None:
    grid_file.write_text(
        "models: [scripted]\ntasks: [tatqa_tiny]\nmodes: [ace]\nace: {epochs: 2, round_size: 1}\n"
    )
    assert aceslm("submit", grid_file, "--cluster", "debug").status == 0
    runs = offline_runs(only_run(tmp_path))
    (cell,), (shard,), (grid,) = (of_type(runs, kind) for kind in ("cell", "shard", "grid"))
    assert cell.step_metrics == {"epoch/*": "epoch", "playbook/*": "playbook_version"}
    assert [point["epoch"] for point in cell.history if "epoch" in point] == [0, 1]
    assert [point["epoch/seen"] for point in cell.history if "epoch" in point] == [False, True]
    versions = [point for point in cell.history if "playbook_version" in point]
    assert [point["playbook_version"] for point in versions] == list(range(len(versions)))
    assert versions[-1]["playbook/bullets"] >= versions[0]["playbook/bullets"] == 0
    assert {"accuracy", "seen/accuracy"} <= set(cell.summary)
    assert shard.history[-1]["samples_done"] == 6
    assert "playbooks" in grid.artifacts


@pytest.mark.parametrize("how", ["setting", "environment"])
def test_disabled_writes_nothing(
    how: str, aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--set", "tracking.mode=disabled"] if how == "setting" else []
    if how == "environment":
        monkeypatch.setenv("WANDB_MODE", "disabled")
    result = aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1", *arguments)
    assert result.status == 0
    assert "W&B" not in result.err
    assert not (only_run(tmp_path) / "wandb").exists()


def test_tracking_is_no_part_of_the_identity(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    for project in ("one", "two"):
        result = aceslm("submit", grid_file, "--plan-only", "--set", f"tracking.project={project}")
        assert result.status == 0, result.err
    only_run(tmp_path)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("tracking.mode=ofline", "did you mean 'offline'"),
        ("tracking.projekt=x", "project"),
        ("tracking.per_shard=often", "per_shard"),
        ("tracking.finish_timeout_s=60", "finish_timeout_s"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    setting: str, says: str, aceslm: Command, grid_file: Path
) -> None:
    result = aceslm("submit", grid_file, "--dry-run", "--set", setting)
    assert result.status == 2
    assert says in result.err


@pytest.mark.slow
def test_more_than_50_shards_are_not_followed_one_by_one(
    aceslm: Command, many_samples: Path, tmp_path: Path
) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(f"models: [scripted]\ntasks: ['{many_samples}']\nmodes: [baseline]\nshard_size: 1\n")
    assert aceslm("submit", grid, "--cluster", "debug").status == 0
    runs = offline_runs(only_run(tmp_path))
    assert sorted(one.job_type for one in runs.values()) == ["cell", "grid"]


def test_a_disk_that_takes_nothing_costs_one_warning_and_no_row(
    aceslm: Command, grid_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    aceslm("submit", grid_file, "--plan-only", "--limit", "2", "--cluster", "debug")
    run = only_run(tmp_path)
    (run / "wandb").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        result = aceslm("submit", grid_file, "--cluster", "debug", "--limit", "2")
    assert result.status == 0
    assert len(list(run.glob("shards/*.done.json"))) == 6
    said = [record.message for record in caplog.records if record.name.startswith("aceslm.tracking")]
    assert len(said) == 2, said  # the worker's and the aggregation's


@pytest.mark.slow
def test_without_the_package_a_run_is_as_good_as_ever(
    aceslm: Command,
    grid_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("aceslm.tracking.aggregate.installed", lambda: False)
    monkeypatch.setattr("aceslm.tracking.live.installed", lambda: False)
    assert aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1").status == 0
    assert "wandb is not installed" in caplog.text
    run = only_run(tmp_path)
    assert (run / "results.parquet").exists()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE")
    aceslm("aggregate", run)
    assert len(of_type(offline_runs(run), "shard")) == 6  # told later, with the package


def test_a_player_that_cannot_start_leaves_the_results_alone(
    aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aceslm.tracking.process.sys.executable", "/bin/false")
    result = aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1")
    assert result.status == 0
    assert (only_run(tmp_path) / "results.parquet").exists()


def test_a_killed_workers_script_is_told_up_to_its_last_whole_line(tmp_path: Path) -> None:
    from aceslm.tracking.script import RunHeader, encode, header_line, played_folder, played_state

    header = RunHeader(
        "id-1", "n", "g", "shard", "aceslm", None, {"a": 1}, step_metrics={"*": "samples_done"}
    )
    paths = script_of(tmp_path, [header_line(header), {"log": {"samples_done": 1}}])
    script = paths.wandb / "shards" / "s" / "a.jsonl"
    with script.open("a") as file:
        file.write(encode({"log": {"samples_done": 2}})[:-5])
    assert play(paths).offline == 0  # somebody may still be writing
    an_hour_ago = time.time() - 3600
    os.utime(script, (an_hour_ago, an_hour_ago))
    assert play(paths).offline == 1
    played = played_state(script)
    assert played is not None
    told = read_offline_run(played_folder(script, played))
    assert [point["samples_done"] for point in told.history] == [1]
    assert told.exit_code == 1


def script_of(folder: Path, lines: list[Any]) -> Any:
    from aceslm.core.paths import RunPaths
    from aceslm.tracking.script import shard_script, write_script

    paths = RunPaths(folder / "run")
    write_script(shard_script(paths, "s", "a"), lines)
    return paths


def play(paths: Any) -> Any:
    from aceslm.config.tracking import TrackingConfig
    from aceslm.tracking.aggregate import play_pending

    return play_pending(paths, TrackingConfig(), "auto")
