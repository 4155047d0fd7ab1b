"""A Slurm that does not answer in time: one line, and what can go on goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from test_run import planned

from aceslm.core.errors import LaunchError
from aceslm.core.paths import AttemptName
from aceslm.plan.files import read_run
from launch.ledger import WorkerOptions, intents
from launch.node.place import Place
from launch.slurm import client as slurm

Answer = Callable[[list[str]], str]

SINFO = "main*|infinite|64|250000|n1\n"


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Let Slurm's commands answer; those whose words hold one of `about` never do. Returns what was asked."""

    def make(*about: str, answers: dict[str, str] | None = None) -> list[list[str]]:
        asked: list[list[str]] = []
        known = {"ping": "Slurmctld(primary) is UP", "sinfo": SINFO, **(answers or {})}

        def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
            asked.append(command)
            words = " ".join(command)
            if any(one in words for one in about):
                raise subprocess.TimeoutExpired(command, options["timeout"])
            text = next((text for key, text in known.items() if key in words), "")
            return subprocess.CompletedProcess(command, 0, text, "sbatch: Job 7 to start at soon")

        monkeypatch.setattr(slurm, "installed", lambda: True)
        monkeypatch.setattr(slurm.subprocess, "run", run)
        return asked

    return make


@pytest.mark.parametrize("command", ["--test-only", "sinfo"])
def test_a_dry_run_says_that_slurm_did_not_answer_and_ends_well(
    aceslm: Command, grid_file: Path, silent: Callable[..., list[list[str]]], command: str
) -> None:
    asked = silent(command)
    result = aceslm("submit", grid_file, "--cluster", "slurm", "--dry-run")
    assert result.status == 0, result.err
    assert "Traceback" not in result.err
    assert "unexpected" not in result.err
    assert "did not answer within 60 s: whether Slurm would accept these scripts is not known" in result.out
    assert sum(command in " ".join(words) for words in asked) == 1, "one silence is enough"
    assert "cost (requested)" in result.out


def test_a_script_that_slurm_refuses_still_fails_the_dry_run(
    aceslm: Command,
    grid_file: Path,
    silent: Callable[..., list[list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    silent()
    answered = slurm.subprocess.run

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if "--test-only" in command:
            return subprocess.CompletedProcess(command, 1, "", "allocation failure: Invalid account")
        return answered(command, **options)

    monkeypatch.setattr(slurm.subprocess, "run", run)
    result = aceslm("submit", grid_file, "--cluster", "slurm", "--dry-run")
    assert result.status == 1
    assert "sbatch --test-only: allocation failure: Invalid account" in result.err


@pytest.mark.parametrize(
    ("call", "program"),
    [
        (lambda: slurm.queue(["t"]), "squeue"),
        (slurm.partitions, "sinfo"),
        (lambda: slurm.partition_limits(None), "sinfo"),
        (lambda: slurm.cancel_by_name("t"), "scancel"),
        (lambda: slurm.release(["1"]), "scontrol"),
        (lambda: slurm.requeue("1"), "scontrol"),
        (lambda: slurm.test_only("#!/bin/sh"), "sbatch"),
    ],
)
def test_every_question_that_is_not_answered_is_one_line(
    silent: Callable[..., list[list[str]]], call: Callable[[], object], program: str
) -> None:
    silent(program)
    with pytest.raises(slurm.Unanswered, match=rf"^{program} did not answer within \d+ s$"):
        call()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(2, "x"), "is not on this machine"),
        (PermissionError(13, "Permission denied"), "cannot be run: Permission denied"),
        (OSError(12, "Cannot allocate memory"), "cannot be run: Cannot allocate memory"),
    ],
)
def test_a_command_that_cannot_be_started_is_one_line_everywhere(
    monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(slurm.subprocess, "run", run)
    for call in (lambda: slurm.test_only("x"), lambda: slurm.queue(["t"]), lambda: slurm.requeue("1")):
        with pytest.raises(LaunchError, match=words):
            call()


def test_what_only_describes_a_submission_is_left_out_where_nobody_says_it(
    silent: Callable[..., list[list[str]]],
) -> None:
    silent("scontrol", "sacct", "squeue")
    assert slurm.version() is None
    assert slurm.accounting(["1"]) is None
    assert slurm.job_end_epoch_s("1") is None
    assert slurm.max_array_size() > 0
    assert not slurm.answers()


def test_a_preempted_task_asks_again_to_be_requeued(
    silent: Callable[..., list[list[str]]], caplog: pytest.LogCaptureFixture
) -> None:
    asked = silent("requeue")
    place = Place(AttemptName("7"), job_id="7", max_requeues=3)
    place.stop.reason = "preempted"
    place.leave()
    assert len(asked) == 3
    assert "scontrol did not answer" in caplog.text


def test_a_submission_whose_release_is_not_answered_is_taken_back(
    tmp_path: Path,
    many_samples: Path,
    monkeypatch: pytest.MonkeyPatch,
    silent: Callable[..., list[list[str]]],
) -> None:
    from aceslm.config.cluster import ClusterProfile
    from launch.submit import transaction
    from launch.submit.slurm import SlurmLauncher

    paths = planned(tmp_path, many_samples, shard_size=30)
    asked = silent("release", "SLURM_VERSION", "show config")
    monkeypatch.setattr(
        transaction,
        "_submit_array",
        lambda *_: {"job_id": "41", "first": 0, "count": 2, "sbatch": ""},
    )
    monkeypatch.setattr(transaction, "_submit_aggregation", lambda *_: "42")
    launcher = SlurmLauncher("p", ClusterProfile(max_array_size=10), WorkerOptions(), logs=tmp_path)
    with pytest.raises(LaunchError, match="scontrol did not answer within"):
        launcher.start(read_run(paths))
    (intent,) = intents(paths)
    assert ["scancel", f"--name={intent.token}"] in asked
