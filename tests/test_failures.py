"""Failure classes, and the line that says what to do; a second worker on one evolution."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest
from conftest import Command, only_run
from shards import merged, work_shard
from test_ace_mode import ACE, task
from test_run import planned

from aceslm.core import files as store
from aceslm.core.errors import (
    ConfigError,
    CorruptRun,
    DataError,
    EngineError,
    Locked,
    MixedRun,
    ModelUnavailable,
    UpstreamMissing,
)
from aceslm.core.files import read_json
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.run import Run
from aceslm.engine.scripted import ScriptedEngine
from aceslm.plan.files import load_plans, read_run
from aceslm.results.status import run_status
from aceslm.run.attempts import attempt_on
from aceslm.run.evolve import EvolvePlaybook
from aceslm.run.failures import explained, failure_class
from aceslm.run.shard import Outcome
from aceslm.run.work import StopFlag


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/data/run/parts/x.parquet")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DataError("x"), "data"),
        (ModelUnavailable("x"), "data"),
        (CorruptRun("x"), "data"),
        (MixedRun("x"), "data"),
        (ConfigError("x"), "data"),
        (UpstreamMissing("x"), "upstream"),
        (Locked("x"), "locked"),
        (KeyboardInterrupt(), "cancelled"),
        (MemoryError(), "oom"),
        (RuntimeError("CUDA out of memory"), "oom"),
        (os_error(errno.ENOMEM), "oom"),
        (EngineError("x"), "code"),
        (ValueError("x"), "code"),
        (OSError("We could not connect to the hub to load this file"), "code"),
        *[
            (os_error(number), "storage")
            for number in (
                errno.ENOSPC,
                errno.EDQUOT,
                errno.EACCES,
                errno.EPERM,
                errno.EROFS,
                errno.ENOENT,
                errno.ENOTDIR,
                errno.EISDIR,
                errno.ENAMETOOLONG,
                errno.EMFILE,
                errno.EFBIG,
            )
        ],
        *[
            (os_error(number), "node")
            for number in (
                errno.ESTALE,
                errno.EIO,
                errno.ENODEV,
                errno.ETIMEDOUT,
                errno.ECONNRESET,
                errno.EPIPE,
            )
        ],
    ],
    ids=str,
)
def test_a_failure_has_the_class_that_says_who_can_mend_it(error: BaseException, expected: str) -> None:
    assert failure_class(error) == expected


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full: free some space there"),
        (errno.EDQUOT, "the quota is used up: free some space there (quota -s)"),
        (errno.EACCES, "it is forbidden: check its owner and rights (ls -ld)"),
        (errno.EROFS, "the file system is read-only"),
        (errno.ENOENT, "it is not there: restore it"),
    ],
)
def test_what_is_full_forbidden_or_gone_is_said_with_what_to_do(
    tmp_path: Path, many_samples: Path, number: int, words: str
) -> None:
    assert explained(os_error(number)).startswith(f"/data/run/parts/x.parquet: {words}")
    paths, name = RunPaths(tmp_path), AttemptName("j")
    with pytest.raises(OSError), attempt_on(paths, "s", name):
        raise os_error(number)
    end = read_json(paths.ended("s", name))
    assert end["class"] == "storage"
    assert words in end["message"]


def test_a_disk_that_fills_up_is_said_by_the_command(
    aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aceslm.run import parts

    def full(_: object, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(parts, "write_table", full)
    result = aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1")
    assert result.status == 1
    assert "failed (storage): " in result.err
    assert "the disk is full: free some space there (df -h)" in result.err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert aceslm("retry", f"results/{only_run(tmp_path).name}", "--cluster", "debug").status == 0


def test_a_file_that_a_command_may_not_read_is_one_line(
    aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1").status == 0

    def forbidden(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("aceslm.plan.files.read_json", forbidden)
    result = aceslm("status", f"results/{only_run(tmp_path).name}")
    assert result.status == 1
    assert "plans/0001.json: it is forbidden: check its owner and rights" in result.err
    assert "unexpected" not in result.err


def second_worker(tmp_path: Path, stop: StopFlag | None = None) -> tuple[RunPaths, Outcome]:
    """Try an evolution whose lock is held."""
    paths = RunPaths(only_run(tmp_path))
    (plan,) = load_plans(paths)
    (shard,) = plan.shards
    return paths, work_shard(
        paths, plan, shard, lambda _: ScriptedEngine(), AttemptName("j2"), stop=stop or StopFlag()
    )


def lock_of(tmp_path: Path) -> Path:
    paths = planned(tmp_path, task(tmp_path), modes=["ace"], ace=ACE)
    (cell,) = load_plans(paths)[0].cells
    return paths.playbooks(cell.cell_id) / ".lock"


def held_elsewhere(lock: Path) -> None:
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(json.dumps({"token": "t", "host": "node7", "pid": 1, "job": "99"}))


def test_a_second_worker_on_an_evolution_leaves_it_to_the_first_with_a_sentence(tmp_path: Path) -> None:
    lock = lock_of(tmp_path)
    paths = RunPaths(only_run(tmp_path))
    (plan,) = load_plans(paths)
    with EvolvePlaybook.alone(Run(paths, (plan,)), plan.shards[0], StopFlag()):
        assert lock.exists()
        began = time.monotonic()
        _, outcome = second_worker(tmp_path)
        assert time.monotonic() - began < 5, "a worker that lives on this host is known at once"
    assert outcome is Outcome.HELD
    end = read_json(paths.ended(plan.shards[0].shard_id, AttemptName("j2")))
    assert end["class"] == "locked"
    assert f"pid {os.getpid()}" in end["message"]
    assert run_status(read_run(paths)).count("failed") == 0
    _, outcome = second_worker(tmp_path)
    assert outcome is Outcome.DONE
    assert merged(paths).complete


def test_a_holder_on_another_host_is_known_by_its_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_of(tmp_path)
    held_elsewhere(lock)
    slept: list[float] = []

    def beat_after_a_while(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            later = lock.stat().st_mtime + 60
            os.utime(lock, (later, later))

    monkeypatch.setattr(store.time, "sleep", beat_after_a_while)
    _, outcome = second_worker(tmp_path)
    assert outcome is Outcome.HELD
    assert len(slept) == 3


def test_a_holder_that_died_on_another_host_is_waited_out_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_of(tmp_path)
    held_elsewhere(lock)

    def age(_: float) -> None:
        if lock.exists():
            earlier = lock.stat().st_mtime - 300
            os.utime(lock, (earlier, earlier))

    monkeypatch.setattr(store.time, "sleep", age)
    paths, outcome = second_worker(tmp_path)
    assert outcome is Outcome.DONE
    assert merged(paths).complete


@pytest.mark.parametrize("reason", ["preempted", "cancelled", "timeout"])
def test_a_waiting_worker_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    held_elsewhere(lock_of(tmp_path))
    stop = StopFlag()

    def interrupt(_: float) -> None:
        stop.reason = reason

    monkeypatch.setattr(store.time, "sleep", interrupt)
    paths, outcome = second_worker(tmp_path, stop)
    assert outcome is Outcome.STOPPED
    (shard,) = load_plans(paths)[0].shards
    assert read_json(paths.ended(shard.shard_id, AttemptName("j2")))["class"] == reason


def test_who_waited_until_the_first_had_finished_has_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_of(tmp_path)
    held_elsewhere(lock)

    def first_finishes(_: float) -> None:
        monkeypatch.undo()
        lock.unlink()
        second_worker(tmp_path)

    monkeypatch.setattr(store.time, "sleep", first_finishes)
    paths, outcome = second_worker(tmp_path)
    assert outcome is Outcome.ALREADY_DONE
    assert merged(paths).complete


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"host": "HOST", "pid": "x"}', '{"host": "HOST", "pid": null}']
)
def test_a_damaged_lock_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    import socket

    lock = lock_of(tmp_path)
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(text.replace("HOST", socket.gethostname()))

    def age(_: float) -> None:
        if lock.exists():
            earlier = lock.stat().st_mtime - 300
            os.utime(lock, (earlier, earlier))

    monkeypatch.setattr(store.time, "sleep", age)
    _, outcome = second_worker(tmp_path)
    assert outcome is Outcome.DONE
