"""SIGKILL while a playbook evolves, the same command again: the bytes of an undisturbed evolution."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import only_run
from teaching import files, split_task
from test_kill import kill_everything, submit
from test_run import content

from aceslm.core.paths import RunPaths

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_kills_while_a_playbook_evolves_change_no_byte_of_it(tmp_path: Path, kills: int) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        f"models: [scripted]\ntasks: ['{split_task(tmp_path)}']\nmodes: [ace_frozen]\n"
        "ace: {epochs: 8, round_size: 2, reflect: all, gate: true, candidates: 2, gate_samples: 4}\n"
    )
    assert submit(undisturbed, grid, "0").wait() == 0, (undisturbed / "stderr.txt").read_text()
    moments = random.Random(7)
    for _ in range(kills):
        known = versions(disturbed)
        process = submit(disturbed, grid, "0.03")
        deadline = time.monotonic() + 60
        while versions(disturbed) <= known:
            assert time.monotonic() < deadline, (disturbed / "stderr.txt").read_text()
            time.sleep(0.02)
        time.sleep(moments.uniform(0.0, 0.3))
        assert process.poll() is None, (disturbed / "stderr.txt").read_text()
        kill_everything(process)
    assert submit(disturbed, grid, "0").wait() == 0, (disturbed / "stderr.txt").read_text()
    left, right = (files(RunPaths(only_run(folder))) for folder in (disturbed, undisturbed))
    assert len(left) == 1 + 8 * (4 + 1) + 1, "a start, four rounds and a gate an epoch, the last comparison"
    assert left == right
    frames = [content(only_run(folder)) for folder in (disturbed, undisturbed)]
    drop = [name for name in frames[0] if name.startswith(("reflection_latency", "energy"))]
    pd.testing.assert_frame_equal(*(frame.drop(columns=drop) for frame in frames))


def versions(folder: Path) -> int:
    return len(list(folder.glob("results/*/playbooks/*/v*[0-9].jsonl")))
