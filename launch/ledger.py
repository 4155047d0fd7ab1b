"""The ledger of submissions: an intent before, the jobs after; neither is ever rewritten.

`submissions/0001.intent.json` says which array index runs which shards, so that a job carries nothing but
a path and two numbers. `submissions/0001.jobs.json` says what was submitted, from which code.
"""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aceslm.core.errors import LaunchError, MixedRun, RunError
from aceslm.core.files import create_json, process_alive, read_json
from aceslm.core.paths import RunPaths
from aceslm.run.attempt_files import said
from aceslm.run.attempts import installed_packages, provenance
from aceslm.run.done import row_files
from aceslm.run.source import code_digest


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How workers generate; never part of a result's identity."""

    engine: str = "auto"
    device: str = "auto"
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """One submission before it happens: index -> shards. `token` (= job name) finds its jobs again.

    `profile` and `max_requeues` are for Slurm submissions. `allow_mixed`: rows of another dtype may be added.
    """

    number: int
    token: str
    cluster: str
    tasks: tuple[tuple[str, ...], ...]
    options: WorkerOptions
    code: str
    host: str
    pid: int
    created_at: float
    profile: str | None = None
    max_requeues: int = 0
    time_min: int | None = None
    signal_delay_s: int = 90
    allow_mixed: bool = False


@dataclass(frozen=True, slots=True)
class SubmittedArray:
    """One array in the queue: job id, and its tasks of the intent. A one-task array is a plain job."""

    job_id: str
    first: int
    count: int
    sbatch: str

    def task(self, index: int | None) -> int:
        """Return the intent's task number of an array index."""
        return self.first + (index or 0)


def write_intent(
    paths: RunPaths,
    cluster: str,
    tasks: Sequence[Sequence[str]],
    options: WorkerOptions,
    **more: Any,
) -> Intent:
    """Take the next submission number and write what is about to be submitted."""
    intent = Intent(
        number=0,
        token=f"aceslm-{secrets.token_hex(4)}",
        cluster=cluster,
        tasks=tuple(tuple(task) for task in tasks),
        options=options,
        code=code_digest(),
        host=socket.gethostname(),
        pid=os.getpid(),
        created_at=time.time(),
        **more,
    )
    number = max(_numbers(paths), default=0) + 1
    while not create_json(paths.intent(number), {**asdict(intent), "number": number}):
        number += 1
    return read_intent(paths, number)


def read_intent(paths: RunPaths, number: int) -> Intent:
    """Read one submission's intent.

    Raises:
        RunError: there is none, or it does not read back.
    """
    path = paths.intent(number)
    try:
        value = dict(read_json(path, f"aceslm retry {paths.root} submits what is missing"))
        value["tasks"] = tuple(tuple(task) for task in value["tasks"])
        value["options"] = WorkerOptions(**value["options"])
        return Intent(**value)
    except FileNotFoundError:
        raise RunError(f"{path} is missing: this run has no submission {number}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: not an intent of this version ({error}): aceslm retry {paths.root} submits what is "
            "missing"
        ) from None


def intents(paths: RunPaths) -> list[Intent]:
    """Return all submissions of a run, in order; one that cannot be read is said and left out."""
    found = []
    for number in _numbers(paths):
        try:
            found.append(read_intent(paths, number))
        except (RunError, OSError) as error:
            said(f"{error}; left out")
    return found


def _numbers(paths: RunPaths) -> list[int]:
    names = [path.name for path in paths.submissions.glob("*.intent.json")]
    return sorted(int(name.split(".")[0]) for name in names if name.split(".")[0].isdigit())


def write_jobs(paths: RunPaths, intent: Intent, jobs: Sequence[dict[str, Any]], **more: Any) -> None:
    """Write what was submitted, and the environment it was submitted from."""
    value = {
        "number": intent.number,
        "token": intent.token,
        "jobs": list(jobs),
        "submitted_at": time.time(),
        "user": getpass.getuser(),
        "environment": {
            **provenance(),
            "host": socket.gethostname(),
            "installed": installed_packages(),
        },
        **more,
    }
    create_json(paths.jobs(intent.number), value)


def is_abandoned(paths: RunPaths, intent: Intent) -> bool:
    """Return whether a submission came to nothing (its launcher died, or Slurm refused)."""
    return bool(_jobs(paths, intent).get("abandoned"))


def submitted_arrays(paths: RunPaths, intent: Intent) -> list[SubmittedArray]:
    """Return the arrays of a Slurm submission; empty before its jobs file exists."""
    try:
        return [SubmittedArray(**job) for job in _jobs(paths, intent).get("jobs", ())]
    except TypeError as error:
        said(f"{paths.jobs(intent.number)}: not the jobs of a Slurm submission ({error})")
        return []


def _jobs(paths: RunPaths, intent: Intent) -> dict[str, Any]:
    """Return what was submitted; empty before that, and where it cannot be read, which is said."""
    try:
        return dict(read_json(paths.jobs(intent.number)))
    except FileNotFoundError:
        return {}
    except (RunError, OSError, TypeError, ValueError) as error:
        said(
            f"{paths.jobs(intent.number)} cannot be read ({error}): `aceslm cancel {paths.root}` ends its "
            "jobs"
        )
        return {}


def refuse_mixture(paths: RunPaths, options: WorkerOptions) -> None:
    """Compare with the last submission of this run.

    Raises:
        MixedRun: the code or the engine has changed, so rows of two versions would stand in one table.
    """
    earlier = intents(paths)
    if not earlier or not row_files(paths):
        return
    last = earlier[-1]
    changes = [
        ("the code of aceslm", last.code, code_digest()),
        ("the engine", last.options.engine, options.engine),
    ]
    for what, before, now in changes:
        if before != now:
            raise MixedRun(
                f"{paths.root}: {what} has changed since this run began ({before} -> {now}): finish with the "
                "old version, start afresh under another name (--set name=...), or accept rows of both "
                "with --allow-mixed"
            )


def refuse_dirty() -> None:
    """Raise LaunchError when the checkout has uncommitted changes (or is no checkout at all)."""
    facts = provenance()
    if facts["commit"] is None:
        raise LaunchError(
            "--require-clean: this is not a git checkout, so nothing can be said about its changes"
        )
    if facts["dirty"] is not None:
        raise LaunchError("--require-clean: there are uncommitted changes (git status); commit or stash them")


def running_launcher(paths: RunPaths) -> Intent | None:
    """Return the submission of another local launcher that is still at work on this host, if any."""
    for intent in reversed(intents(paths)):
        mine = intent.pid == os.getpid() or paths.jobs(intent.number).exists()
        local = intent.cluster in {"local", "debug"} and intent.host == socket.gethostname()
        if local and not mine and process_alive(intent.pid, intent.created_at):
            return intent
    return None
