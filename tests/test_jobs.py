"""What one task does on its node: every way out leaves properly, and a shard's trouble stays its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_run import planned

from aceslm.core.errors import LaunchError, WorkError
from aceslm.core.paths import AttemptName
from aceslm.core.run import Run
from aceslm.core.values import Shard
from aceslm.plan.files import read_run
from aceslm.run.shard import Outcome
from aceslm.run.work import Worker
from launch.ledger import Intent, WorkerOptions, write_intent
from launch.node import place as worker
from launch.node import task as jobs
from launch.node.place import Place
from launch.slurm import client as slurm

Act = Callable[[Shard, Place], Outcome]


@pytest.fixture
def requeued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was put back into the queue; nothing sleeps."""
    asked: list[str] = []
    monkeypatch.setattr(slurm, "requeue", asked.append)
    monkeypatch.setattr(worker.time, "sleep", lambda _: None)
    return asked


def three_shards(tmp_path: Path, many_samples: Path) -> tuple[Run, Intent]:
    run = read_run(planned(tmp_path, many_samples, shard_size=20))
    names = [shard.shard_id for shard in run.shards]
    assert len(names) == 3
    return run, write_intent(run.paths, "slurm", [names], WorkerOptions(engine="scripted"), max_requeues=3)


def place_of_a_job() -> Place:
    return Place(AttemptName("77", 0), job_id="77", max_requeues=3)


def acting(monkeypatch: pytest.MonkeyPatch, place: Place, acts: list[Act]) -> list[str]:
    """Let the shards of a task end one after another as `acts` say; return what was run."""
    ran: list[str] = []

    def work_one(_run: Run, shard: Shard, _worker: Worker) -> Outcome:
        ran.append(shard.shard_id)
        return acts[len(ran) - 1](shard, place)

    monkeypatch.setattr(jobs, "run_shard", work_one)
    return ran


def done(*_: Any) -> Outcome:
    return Outcome.DONE


def stopped(_: Shard, place: Place) -> Outcome:
    place.stop.reason = "preempted"
    return Outcome.STOPPED


def fails(shard: Shard, _: Place) -> Outcome:
    raise ValueError(f"no luck with {shard.shard_id}")


def fails_while_stopping(shard: Shard, place: Place) -> Outcome:
    place.stop.reason = "timeout"
    raise OSError(5, "the file system went first")


def stopping(reason: str) -> Act:
    def act(_: Shard, place: Place) -> Outcome:
        place.stop.reason = reason
        return Outcome.STOPPED

    return act


@pytest.mark.parametrize(
    ("acts", "ran", "fault", "again"),
    [
        ([fails, stopped], 2, "1 of 3 shards failed", True),
        ([done, fails, stopped], 3, "1 of 3 shards failed", True),
        ([fails, fails, stopped], 3, "2 of 3 shards failed", True),
        ([fails_while_stopping, stopping("timeout")], 2, "1 of 3 shards failed", True),
        ([done, done, fails_while_stopping], 3, "1 of 3 shards failed", True),
        ([stopped], 1, None, True),
        ([done, stopping("timeout")], 2, None, True),
        ([fails, stopping("cancelled")], 2, "1 of 3 shards failed", False),
        ([fails, done, done], 3, "1 of 3 shards failed", False),
        ([done, done, done], 3, None, False),
    ],
)
def test_a_preempted_task_goes_back_into_the_queue_whatever_failed_before(
    tmp_path: Path,
    many_samples: Path,
    monkeypatch: pytest.MonkeyPatch,
    requeued: list[str],
    acts: list[Act],
    ran: int,
    fault: str | None,
    again: bool,
) -> None:
    run, intent = three_shards(tmp_path, many_samples)
    place = place_of_a_job()
    shards = acting(monkeypatch, place, acts)
    if fault is None:
        jobs.run_task(run, intent, 0, place)
    else:
        with pytest.raises(WorkError, match=fault):
            jobs.run_task(run, intent, 0, place)
    assert len(shards) == ran
    assert requeued == (["77"] if again else [])


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interruption_leaves_properly_too(
    tmp_path: Path,
    many_samples: Path,
    monkeypatch: pytest.MonkeyPatch,
    requeued: list[str],
    trouble: type[BaseException],
) -> None:
    run, intent = three_shards(tmp_path, many_samples)
    place = place_of_a_job()

    def interrupted(_: Shard, place: Place) -> Outcome:
        place.stop.reason = "preempted"
        raise trouble

    acting(monkeypatch, place, [interrupted])
    with pytest.raises(trouble):
        jobs.run_task(run, intent, 0, place)
    assert requeued == ["77"]


@pytest.mark.parametrize(
    "what", ["memory_fraction", "shard_tracking", "EngineCache.retain", "EngineCache.close"]
)
def test_trouble_around_the_shards_leaves_properly_and_stops_no_neighbour(
    tmp_path: Path, many_samples: Path, monkeypatch: pytest.MonkeyPatch, requeued: list[str], what: str
) -> None:
    run, intent = three_shards(tmp_path, many_samples)
    place = place_of_a_job()
    ran = acting(monkeypatch, place, [done, done, stopped])

    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(f"launch.node.task.{what}", broken)
    if what in {"memory_fraction", "EngineCache.retain"}:
        place.stop.reason = "preempted"
        with pytest.raises(WorkError, match="3 of 3 shards failed"):
            jobs.run_task(run, intent, 0, place)
    elif what == "shard_tracking":
        place.stop.reason = "preempted"
        with pytest.raises(RuntimeError):
            jobs.run_task(run, intent, 0, place)
    else:
        jobs.run_task(run, intent, 0, place)
        assert len(ran) == 3
    assert requeued == ["77"]


def test_a_task_whose_lost_attempts_cannot_be_judged_runs_and_leaves(
    tmp_path: Path, many_samples: Path, monkeypatch: pytest.MonkeyPatch, requeued: list[str]
) -> None:
    run, intent = three_shards(tmp_path, many_samples)
    place = Place(AttemptName("77", 0, restart=1), job_id="77", max_requeues=3)
    ran = acting(monkeypatch, place, [fails, stopped])
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setattr(jobs, "slurm_place", lambda _: place)
    monkeypatch.setattr(jobs, "log_to_stdout", lambda: None)

    def broken(*_: Any) -> None:
        raise LaunchError("squeue did not answer")

    monkeypatch.setattr(jobs, "record_lost_attempts", broken)
    with pytest.raises(WorkError):
        jobs.ShardTask(str(run.paths.root), intent.number, 0)()
    assert len(ran) == 2
    assert requeued == ["77"]


def test_the_work_verb_goes_back_into_the_queue_after_a_failure(
    tmp_path: Path, many_samples: Path, monkeypatch: pytest.MonkeyPatch, requeued: list[str]
) -> None:
    from launch.verbs.work import work

    run, _ = three_shards(tmp_path, many_samples)
    place = place_of_a_job()
    acting(monkeypatch, place, [fails_while_stopping])
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setattr(worker, "slurm_place", lambda _: place)
    monkeypatch.setattr("launch.node.log_files.log_to_stdout", lambda: None)
    with pytest.raises(WorkError):
        work(run.paths.root, 1)
    assert requeued == ["77"]


def test_a_queue_that_cannot_be_reached_changes_no_verdict(
    tmp_path: Path, many_samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, intent = three_shards(tmp_path, many_samples)
    place = place_of_a_job()
    acting(monkeypatch, place, [fails, stopped])

    def gone(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(slurm.subprocess, "run", gone)
    with pytest.raises(WorkError, match="no luck"):
        jobs.run_task(run, intent, 0, place)
