"""SIGKILL at random moments, resubmit, and end with the results of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, only_run
from test_run import content

pytestmark = pytest.mark.slow


def submit(folder: Path, grid: Path, delay_s: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "ACESLM_SCRIPTED_DELAY_S": delay_s, "PYTHONPATH": str(ROOT)}
    with (folder / "stderr.txt").open("w") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "launch", "submit", str(grid), "--cluster", "local"],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            # a suite started in the background has SIGINT ignored, and children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,  # noqa: PLW1509
        )


def kill_everything(process: subprocess.Popen[bytes]) -> None:
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def grid(folder: Path, task: Path) -> Path:
    path = folder / "grid.yaml"
    path.write_text(f"models: [scripted]\ntasks: ['{task}']\nmodes: [baseline, scaffold]\nshard_size: 25\n")
    return path


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_nothing(tmp_path: Path, many_samples: Path) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
    file = grid(tmp_path, many_samples)
    assert submit(undisturbed, file, "0").wait() == 0, (undisturbed / "stderr.txt").read_text()
    moments = random.Random(20)
    kills = 0
    while kills < 10:
        process = submit(disturbed, file, "0.2")  # 24 s of work: more than ten attempts can do
        time.sleep(moments.uniform(0.3, 3.0))
        assert process.poll() is None, (disturbed / "stderr.txt").read_text()
        kill_everything(process)
        kills += 1
    last = submit(disturbed, file, "0")
    assert last.wait() == 0, (disturbed / "stderr.txt").read_text()
    attempts = list((only_run(disturbed) / "attempts").rglob("*.started.json"))
    assert len(attempts) > 6, "the kills must have hit shards at work"
    assert content(only_run(disturbed)).equals(content(only_run(undisturbed)))


def test_a_killed_launcher_takes_its_workers_with_it(tmp_path: Path, many_samples: Path) -> None:
    process = submit(tmp_path, grid(tmp_path, many_samples), "0.2")
    parts = tmp_path / "results"
    deadline = time.monotonic() + 60
    while not list(parts.glob("*/attempts/*/*.progress.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    ended = list(parts.glob("*/attempts/*/*.ended.json"))
    assert any('"cancelled"' in path.read_text() for path in ended)


def test_ctrl_c_flushes_finished_rows_and_says_how_to_go_on(tmp_path: Path, many_samples: Path) -> None:
    process = submit(tmp_path, grid(tmp_path, many_samples), "0.1")
    results = tmp_path / "results"
    deadline = time.monotonic() + 60
    while not list(results.glob("*/attempts/*/*.progress.json")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert "finished rows are kept" in (tmp_path / "stderr.txt").read_text()
    assert list(results.glob("*/parts/*/part-*.parquet")) or list(results.glob("*/shards/*.done.json"))
