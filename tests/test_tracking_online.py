"""W&B with a server, or with none that answers: a loopback stand-in, and ports that refuse or keep silent."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, Command, only_run
from wandb_helpers import KEY, Server, refusing_port, serving, silent_port

pytestmark = pytest.mark.slow

LIMIT_S = 10.0


@pytest.fixture(autouse=True)
def with_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", refusing_port())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        yield running
    assert running.unknown == []


def offline_folders(run: Path) -> list[Path]:
    return sorted(run.glob("wandb/**/offline-run-*"))


def test_sync_sends_every_run_once(
    aceslm: Command, grid_file: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    one_each = ["--limit", "2", "--set", "shard_size=1"]
    assert aceslm("submit", grid_file, "--cluster", "debug", *one_each).status == 0
    assert server.operations == []
    run = only_run(tmp_path)
    monkeypatch.delenv("WANDB_MODE")
    listed = aceslm("sync", run, "--dry-run")
    assert "19 W&B runs to upload" in listed.out
    assert server.operations == []
    result = aceslm("sync", run, "--batch-size", "8")
    assert result.status == 0, result.err
    assert "19 W&B runs uploaded" in result.out
    assert len(server.created) == len(set(server.created)) == 19
    assert sorted(server.finished) == sorted(server.created)
    shards = [run_id for run_id in server.created if run_id.startswith(run.name[-8:]) and "c0" in run_id]
    assert len(shards) == 12
    assert all(server.history[shard][-1]["samples_done"] == 1 for shard in shards)
    before = list(server.operations)
    assert "0 W&B runs uploaded" in aceslm("sync", run).out
    assert server.operations == before


def test_an_upload_that_was_stopped_goes_on_with_the_rest(
    aceslm: Command, grid_file: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1", "--task-name", "iot_tiny")
    from aceslm.core.paths import RunPaths
    from aceslm.tracking.upload import upload

    batches = upload(RunPaths(only_run(tmp_path)), batch_size=2)
    assert len(next(batches).sent) == 2
    batches.close()
    assert "3 W&B runs uploaded" in aceslm("sync", only_run(tmp_path)).out
    assert len(server.created) == len(set(server.created)) == 5


def test_what_changes_after_an_upload_goes_to_the_same_run(
    aceslm: Command, grid_file: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["--cluster", "debug", "--task-name", "iot_tiny", "--mode", "ace"]
    monkeypatch.setenv("WANDB_MODE", "offline")
    aceslm("submit", grid_file, *small)
    run = only_run(tmp_path)
    assert aceslm("sync", run).status == 0
    cell = next(run_id for run_id in server.created if "-" not in run_id)
    curve = list(server.history[cell])
    ended = next(run.glob("attempts/*/*.ended.json"))
    ended.write_text(json.dumps({**json.loads(ended.read_text()), "wall_s": 3600.0}))  # it cost more
    (run / "wandb" / "made_from.json").unlink()
    assert aceslm("aggregate", run).status == 0
    assert "2 W&B runs uploaded" in aceslm("sync", run).out  # the cell, and the table of the grid
    assert len(server.created) == len(set(server.created))
    assert server.history[cell] == curve  # points that are there are not sent again
    assert server.summaries[cell]["core_hours"] >= 1.0


def test_sync_says_why_it_cannot(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    aceslm("submit", grid_file, "--plan-only")
    result = aceslm("sync", only_run(tmp_path))
    assert result.status == 1
    assert "W&B cannot be reached" in result.err


@pytest.mark.parametrize("kind", ["refuses", "silent", "mute"])
def test_a_server_that_does_not_answer_costs_under_10_s_a_shard_and_loses_nothing(
    kind: str, aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        if kind == "silent":
            monkeypatch.setenv("WANDB_BASE_URL", stack.enter_context(silent_port()))
        elif kind == "mute":
            monkeypatch.setenv("WANDB_BASE_URL", stack.enter_context(serving(mute=True)).url)
        small = ["--limit", "1", "--task-name", "iot_tiny", "--mode", "baseline"]
        aceslm("submit", grid_file, *small, "--plan-only")
        run = only_run(tmp_path)
        began = time.monotonic()
        assert aceslm("work", run, "--index", "0").status == 0
        assert time.monotonic() - began < LIMIT_S
        monkeypatch.setenv("WANDB_MODE", "offline" if kind == "mute" else "auto")
        assert aceslm("aggregate", run).status == 0
    assert len(offline_folders(run)) == 3  # shard, cell, grid


def test_a_wrong_key_degrades_to_offline_with_a_warning(
    aceslm: Command,
    grid_file: Path,
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "w" * 40)
    small = ["--limit", "1", "--task-name", "iot_tiny", "--mode", "baseline"]
    with caplog.at_level(logging.WARNING):
        assert aceslm("submit", grid_file, "--cluster", "debug", *small).status == 0
    assert "offline instead" in caplog.text
    assert len(offline_folders(only_run(tmp_path))) == 3
    assert server.created == []


def test_online_a_shard_is_followed_live_and_no_key_is_written_anywhere(
    aceslm: Command, grid_file: Path, tmp_path: Path, server: Server
) -> None:
    small = ["--limit", "1", "--task-name", "iot_tiny", "--mode", "baseline"]
    result = aceslm("submit", grid_file, "--cluster", "debug", *small)
    assert result.status == 0, result.err
    run = only_run(tmp_path)
    assert len(set(server.created)) == len(server.created) == 3
    (shard,) = [run_id for run_id in server.created if "c000" in run_id]
    assert server.history[shard][-1]["samples_done"] == 1
    assert offline_folders(run) == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def wandb_processes(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.environ().get("WANDB_DIR", ""):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until_gone(folder: Path, seconds: float) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while (left := wandb_processes(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_reaches_the_worker_and_no_wandb_process_outlives_it(
    number: signal.Signals,
    aceslm: Command,
    many_samples: Path,
    tmp_path: Path,
    server: Server,
) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(f"models: [scripted]\ntasks: ['{many_samples}']\nmodes: [baseline]\n")
    aceslm("submit", grid, "--plan-only")
    run = only_run(tmp_path)
    worker = subprocess.Popen(
        [sys.executable, "-m", "launch", "work", str(run), "--index", "0"],
        env={**os.environ, "ACESLM_SCRIPTED_DELAY_S": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not any(server.history.values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert any(server.history.values())  # live: rows are on the server while it works
    worker.send_signal(number)
    worker.wait(20)
    assert wait_until_gone(run, 15) == []
    if number == signal.SIGTERM:
        (ended,) = run.glob("attempts/*/*.ended.json")
        assert '"cancelled"' in ended.read_text()
        assert list(run.glob("parts/*/part-*.parquet"))


@pytest.mark.slow
def test_with_50_simultaneous_shard_starts_nothing_fails(
    aceslm: Command, many_samples: Path, tmp_path: Path, server: Server
) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"models: [scripted]\ntasks: ['{many_samples}']\nmodes: [baseline]\nshard_size: 1\nlimit: 50\n"
    )
    aceslm("submit", grid, "--plan-only")
    run = only_run(tmp_path)

    def work(index: int) -> int:
        command = [sys.executable, "-m", "launch", "work", str(run), "--index", str(index)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode

    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(work, range(50))) == {0}
    assert len(list(run.glob("shards/*.done.json"))) == 50
    assert wait_until_gone(run, 15) == []
    assert aceslm("aggregate", run).status == 0
    assert len(set(server.created)) == 52
