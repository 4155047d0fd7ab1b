"""SIGKILL while a playbook evolves, the same command again: the bytes of an undisturbed evolution."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pandas as pd
from conftest import only_run
from test_ace_mode import task, versions
from test_kill import kill_everything, submit
from test_run import content

from aceslm.paths import RunPaths


def learnt(folder: Path) -> dict[str, bytes]:
    return versions(RunPaths(only_run(folder)))


def test_kills_while_a_playbook_evolves_change_no_byte_of_it(tmp_path: Path) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"models: [scripted]\ntasks: ['{task(tmp_path)}']\nmodes: [ace]\nace: {{epochs: 3, round_size: 2}}\n"
    )
    assert submit(undisturbed, grid, "0").wait() == 0, (undisturbed / "stderr.txt").read_text()
    moments = random.Random(7)
    for _ in range(3):
        known = len(list(disturbed.glob("results/*/playbooks/*/v*[0-9].jsonl")))
        process = submit(disturbed, grid, "0.03")
        deadline = time.monotonic() + 60
        while len(list(disturbed.glob("results/*/playbooks/*/v*[0-9].jsonl"))) <= known:
            assert time.monotonic() < deadline, (disturbed / "stderr.txt").read_text()
            time.sleep(0.02)
        time.sleep(moments.uniform(0.0, 0.3))
        assert process.poll() is None, (disturbed / "stderr.txt").read_text()
        kill_everything(process)
    last = submit(disturbed, grid, "0")
    assert last.wait() == 0, (disturbed / "stderr.txt").read_text()
    assert len(learnt(disturbed)) == 19
    assert learnt(disturbed) == learnt(undisturbed)
    drop = ["reflection_latency_ms"]
    left, right = (content(only_run(folder)).drop(columns=drop) for folder in (disturbed, undisturbed))
    pd.testing.assert_frame_equal(left, right)
