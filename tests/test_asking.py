"""What the launchers ask of Slurm and of this machine: queries, devices, the doctor's job, scripts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import ROOT, Command

from aceslm.core.paths import RunPaths
from launch.slurm import client as slurm
from launch.submit import pool


def test_tasks_in_hidden_partitions_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def answer(command: Sequence[str], **_: object) -> str:
        asked.append(list(command))
        return "aceslm-1|7|3|PENDING|Priority|N/A|\n"

    monkeypatch.setattr(slurm, "run", answer)
    (task,) = slurm.queue(["aceslm-1"])
    assert (task.job_id, task.index, task.state) == ("7", 3, "PENDING")
    assert "--all" in asked[0]


def test_a_list_of_partitions_has_the_most_generous_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = "gpu*|2:00:00|8|1000|n1\nlong|1-00:00:00|4|2000|n2\n"
    monkeypatch.setattr(slurm, "run", lambda *_, **__: nodes)
    assert slurm.partition_limits("gpu,long") == slurm.PartitionLimits(1440, 2, 8, 2000)
    assert slurm.partition_limits(None) == slurm.PartitionLimits(120, 1, 8, 1000)
    assert slurm.partition_limits("gpu,nosuch") is None


@pytest.mark.parametrize(
    ("visible", "lanes", "expected"),
    [("2,5", 2, ["2", "5"]), ("MIG-a", 2, ["MIG-a", "MIG-a"]), ("", 1, [""]), ("7", 1, ["7"])],
)
def test_local_workers_stay_on_the_gpus_that_were_given(
    visible: str, lanes: int, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    jobs = [
        pool._executor(tmp_path, pool._gpu_of(lane)).submit(os.getenv, "CUDA_VISIBLE_DEVICES")
        for lane in range(lanes)
    ]
    assert [job.result() for job in jobs] == expected


def test_doctors_job_asks_for_what_a_task_would(
    aceslm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site.yaml").write_text(
        "partition: gpu\ngpus: 2\ncpus: 3\nmem_gb: 9\nenvironment: {HF_HOME: /x}\nsbatch: {exclusive: true}\n"
    )
    seen: list[str] = []

    def take(command: Sequence[str], **_: object) -> str:
        seen.extend([*command, Path(command[-1]).read_text()])
        return ""

    monkeypatch.setattr(slurm, "require", lambda: None)
    monkeypatch.setattr(slurm, "run", take)
    assert aceslm("doctor", "--profile", "site.yaml").status == 0
    flags = {
        "--gpus-per-node=2",
        "--cpus-per-task=3",
        "--mem=9GB",
        "--exclusive",
        "--partition=gpu",
        "--time=5",
    }
    assert flags <= set(seen)
    assert "export HF_HOME=/x" in seen[-1]


def test_waiting_with_json_prints_nothing_but_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from aceslm.config.cluster import ClusterProfile
    from aceslm.core.run import Run
    from launch.ledger import WorkerOptions
    from launch.submit.launcher import Started
    from launch.submit.slurm import SlurmLauncher
    from launch.verbs import submit

    started = Started(1, num_tasks=2, num_shards=2, job_ids=("7",), aggregation_id="8")
    monkeypatch.setattr(SlurmLauncher, "start", lambda *_: started)
    monkeypatch.setattr(SlurmLauncher, "wait", lambda *_: None)
    monkeypatch.setattr("launch.verbs.results.merge_and_show", lambda *_: print("[]"))
    launcher = SlurmLauncher("slurm", ClusterProfile(), WorkerOptions())
    submit.carry_out(launcher, Run(RunPaths(tmp_path), ()), wait=True, as_json_=True)
    assert json.loads(capsys.readouterr().out) == []


def test_a_grid_is_read_before_slurm_is_asked(aceslm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "answers", lambda: pytest.fail("asked for nothing"))
    assert aceslm("submit", "nosuch.yaml").status == 2


def test_the_plain_scripts_name_only_verbs_and_options_that_exist(aceslm: Command) -> None:
    for script in sorted((ROOT / "sbatch").glob("*.sbatch")):
        for line in re.findall(r"(?:aceslm|-m launch) ([^\n]*)", script.read_text()):
            verb = re.match(r"[a-z]+(?= )", line)
            if verb is None:
                continue
            shown = aceslm(verb[0], "--help")
            assert shown.status == 0, f"{script.name}: {line}"
            for option in re.findall(r"--[a-z][a-z-]+", line.split("#")[0]):
                assert option in shown.out, f"{script.name}: {line}"
