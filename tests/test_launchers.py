"""The two launchers, by their one contract: start what is missing, wait until it has ended, preview."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aceslm.config.cluster import ClusterProfile
from aceslm.config.grid import GridConfig
from aceslm.core.errors import LaunchError, MixedRun
from aceslm.core.machine import hardware
from aceslm.core.run import Run
from aceslm.core.values import Resources
from aceslm.results.status import RunStatus
from aceslm.run.done import unfinished
from launch.ledger import WorkerOptions, intents, write_intent
from launch.prepare.rates import Target
from launch.prepare.run import Prepared, prepare, write_run
from launch.slurm import client as slurm
from launch.submit import slurm as slurm_launcher
from launch.submit import transaction
from launch.submit.launcher import Launcher, Started
from launch.submit.local import LocalLauncher
from launch.submit.slurm import SlurmLauncher


@pytest.fixture
def planned(tmp_path: Path, many_samples: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    monkeypatch.chdir(tmp_path)
    grid = GridConfig(models=("scripted",), tasks=(str(many_samples),), modes=("baseline",), shard_size=15)
    return prepare(grid, tmp_path / "results")


@pytest.fixture
def run(planned: Prepared) -> Run:
    return write_run(planned)


def queueing(**profile: Any) -> SlurmLauncher:
    return SlurmLauncher("p", ClusterProfile(max_array_size=10, **profile), WorkerOptions())


@pytest.mark.parametrize("cluster", ["local", "debug"])
def test_a_local_launcher_works_while_it_is_waited_for_and_only_on_what_is_missing(
    run: Run, cluster: str
) -> None:
    launcher: Launcher = LocalLauncher(cluster, workers=1)
    assert not launcher.detached
    seen: list[RunStatus] = []
    first = launcher.start(run, run.shards[:1])
    assert first == Started(1, num_tasks=1, num_shards=1)
    assert len(unfinished(run)) == 4
    launcher.wait(run, seen.append)
    assert unfinished(run) == list(run.shards[1:])
    assert seen[-1].rows_done == 15
    second = launcher.start(run)
    assert second == Started(2, num_tasks=1, num_shards=3)
    launcher.wait(run, seen.append)
    assert seen[-1].is_complete
    assert launcher.start(run) is None
    assert len(intents(run.paths)) == 2


def test_waiting_for_a_local_launcher_that_has_started_nothing_ends_at_once(run: Run) -> None:
    LocalLauncher("debug").wait(run, lambda _: pytest.fail("there is nothing to tell"))


def test_shards_of_one_model_go_to_as_many_workers_as_there_are(run: Run) -> None:
    started = LocalLauncher("local", workers=3).start(run)
    assert started == Started(1, num_tasks=3, num_shards=4)
    assert sorted(name for task in intents(run.paths)[0].tasks for name in task) == [
        shard.shard_id for shard in run.shards
    ]


def test_a_local_launcher_refuses_another_engine_unless_mixing_is_allowed(run: Run) -> None:
    launcher = LocalLauncher("debug")
    launcher.start(run, run.shards[:1])
    launcher.wait(run, lambda _: None)
    other = WorkerOptions(engine="scripted")
    with pytest.raises(MixedRun):
        LocalLauncher("debug", options=other).start(run)
    assert LocalLauncher("debug", options=other, allow_mixed=True).start(run) is not None


@pytest.mark.parametrize(
    "launcher", [LocalLauncher(), LocalLauncher("debug"), queueing()], ids=["local", "debug", "slurm"]
)
def test_a_preview_writes_nothing(planned: Prepared, launcher: Launcher, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    lines = list(launcher.preview(planned))
    assert sorted(tmp_path.rglob("*")) == before
    assert bool(lines) == launcher.detached


def test_a_preview_names_the_shards_of_every_array(
    planned: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    text = "\n".join(queueing(max_parallel=3).preview(planned))
    assert text.count("#!/bin/bash") == 2, "one array, and the aggregation"
    assert "#SBATCH --array=0-3%3" in text
    for index, shard in enumerate(planned.run.shards):
        assert f"#   {index}: {shard.shard_id}" in text


def test_a_launcher_knows_what_its_workers_will_compute_on(planned: Prepared) -> None:
    (cell, *_), mine = planned.cells, hardware("none")

    def target(launcher: Launcher) -> Target:
        return launcher.target_of(cell, Resources(cpus=3))

    assert target(LocalLauncher("debug", workers=2)).cores == mine.cores
    assert target(LocalLauncher("local", workers=1)).is_like(mine)
    assert target(LocalLauncher("local", workers=mine.cores + 1)).cores == 1
    assert target(queueing(partition="gpu")) == Target("none", 3, None, "gpu")
    assert target(queueing(cpus=7)) == Target("none", 7, None, "default partition")


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Let a controller answer everything but what `refused` names; returns what it was asked."""

    def make(refused: str | None = None) -> list[list[str]]:
        asked: list[list[str]] = []

        def answer(command: list[str], **_: object) -> str:
            asked.append(command)
            if refused and refused in command:
                raise LaunchError(f"{command[0]}: refused")
            return "main*|infinite|64|250000|n1\n" if command[0] == "sinfo" else ""

        monkeypatch.setattr(slurm, "require", lambda: None)
        monkeypatch.setattr(slurm, "run", answer)
        ids = iter("41 42 43".split())
        monkeypatch.setattr(
            transaction,
            "_submit_array",
            lambda _, array, dependency: {
                "job_id": next(ids),
                "first": array.first,
                "count": array.count,
                "sbatch": dependency or "",
            },
        )
        monkeypatch.setattr(transaction, "_submit_aggregation", lambda *_: "99")
        return asked

    return make


def test_a_submission_is_released_when_it_is_written_down(
    run: Run, controller: Callable[..., list[list[str]]]
) -> None:
    asked = controller()
    launcher: Launcher = queueing()
    assert launcher.detached
    assert launcher.start(run) == Started(1, 4, 4, ("41",), "99", 0)
    assert ["scontrol", "release", "41,99"] in asked
    assert run.paths.jobs(1).exists()


def test_a_submission_that_is_refused_is_taken_back(
    run: Run, controller: Callable[..., list[list[str]]]
) -> None:
    asked = controller(refused="release")
    with pytest.raises(LaunchError, match="refused"):
        queueing().start(run)
    (intent,) = intents(run.paths)
    assert ["scancel", f"--name={intent.token}"] in asked


def test_only_what_was_asked_for_and_is_not_in_the_queue_is_submitted(
    run: Run, controller: Callable[..., list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    controller()
    first, second, *_ = run.shards
    queued = {first.shard_id: slurm.QueuedTask("t", "7", 0, "RUNNING", "None", "", "n1")}
    monkeypatch.setattr(slurm_launcher, "queued_shards", lambda *_: queued)
    queueing().start(run, [first, second])
    assert intents(run.paths)[-1].tasks == ((second.shard_id,),)
    assert queueing().start(run, [first]) is None


def test_waiting_for_slurm_outlives_a_controller_that_is_busy_for_a_while(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_intent(run.paths, "slurm", [["x"]], WorkerOptions())
    busy = LaunchError("squeue did not answer within 60 s")
    answers: list[object] = [busy, [object()], busy, []]

    def queue(_: object) -> object:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(slurm, "queue", queue)
    monkeypatch.setattr(slurm_launcher, "_POLL_S", 0.0)
    seen: list[RunStatus] = []
    queueing().wait(run, seen.append)
    assert len(seen) == 2
    assert capsys.readouterr().err.count("squeue did not answer within 60 s; asking again") == 2
    answers[:] = [busy]
    with pytest.raises(LaunchError, match="no longer waiting; the jobs go on: aceslm status"):
        queueing().wait(run, seen.append)
