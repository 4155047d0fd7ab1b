"""Asking Slurm: small typed answers from squeue, sacct, scontrol, sinfo. No shell, always a time limit.

A controller that does not answer is a LaunchError with one line; accounting that does not answer is None.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from aceslm.core.errors import LaunchError

_TIMEOUT_S = 60.0
_REQUEUE_TRIES = 3
_DEFAULT_ARRAY_SIZE = 1001
_OPTION_PREFIXES = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SINFO_")

# sacct states -> failure classes (DESIGN: the classes of attempts)
STATE_CLASSES = {
    "PREEMPTED": "preempted",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "OUT_OF_MEMORY": "oom",
    "NODE_FAIL": "node",
    "BOOT_FAIL": "node",
    "CANCELLED": "cancelled",
    "REQUEUED": "preempted",
}


class Unanswered(LaunchError):
    """A command of Slurm's took too long: nothing is known, neither yes nor no."""


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """One array task (or job) in the queue. `index` is None for a job that is not an array."""

    name: str
    job_id: str
    index: int | None
    state: str
    reason: str
    start: str
    nodes: str


@dataclass(frozen=True, slots=True)
class PartitionLimits:
    """What a partition can ever run; None means no limit. Minutes, CPUs and megabytes."""

    max_time_min: int | None
    nodes: int
    cpus_per_node: int
    mem_mb_per_node: int


def installed() -> bool:
    """Return whether this machine has Slurm's client commands."""
    return shutil.which("sbatch") is not None and shutil.which("srun") is not None


def answers() -> bool:
    """Return whether a Slurm controller answers."""
    if not installed():
        return False
    try:
        return "is UP" in run(["scontrol", "ping"], timeout_s=15)
    except LaunchError:
        return False


def require() -> None:
    """Raise LaunchError unless jobs can be submitted from here."""
    if not installed():
        raise LaunchError(
            "no sbatch on this machine: run this on a login node, or use --cluster local; "
            "--dry-run works anywhere"
        )
    if not answers():
        raise LaunchError(
            "the Slurm controller does not answer (scontrol ping): try again later, or use --cluster local"
        )


def inside_allocation() -> bool:
    """Return whether this process runs inside a job or an `salloc`."""
    return "SLURM_JOB_ID" in os.environ


@contextmanager
def clean_environment() -> Iterator[None]:
    """Hide what Slurm's commands would take for options (SLURM_*, SBATCH_*, SQUEUE_*, ...; not SLURM_CONF).

    A user's SQUEUE_STATES=RUNNING would hide pending tasks, and they would be submitted a second time.
    """
    names = [name for name in os.environ if name.startswith(_OPTION_PREFIXES) and name != "SLURM_CONF"]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def run(command: Sequence[str], *, timeout_s: float = _TIMEOUT_S) -> str:
    """Run one Slurm command and return its output.

    Raises:
        Unanswered: it takes too long.
        LaunchError: it is not there, or fails.
    """
    result = _completed(command, timeout_s=timeout_s)
    if result.returncode != 0:
        raise LaunchError(f"{command[0]}: {first_error(result.stderr or result.stdout)}")
    return result.stdout


def _completed(
    command: Sequence[str], text: str | None = None, timeout_s: float = _TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run one Slurm command to its end: the only place that starts one."""
    try:
        with clean_environment():
            return subprocess.run(
                list(command),
                input=text,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
    except FileNotFoundError:
        raise LaunchError(f"{command[0]} is not on this machine") from None
    except subprocess.TimeoutExpired:
        raise Unanswered(f"{command[0]} did not answer within {timeout_s:.0f} s") from None
    except OSError as error:
        raise LaunchError(f"{command[0]} cannot be run: {error.strerror or error}") from None


def first_error(text: str) -> str:
    """Return the line of a Slurm command's complaint that says most."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    failed = [line for line in lines if re.search("fail|error|invalid", line.lower())]
    return (failed or lines or ["no message"])[-1]


def queue(names: Iterable[str]) -> list[QueuedTask]:
    """Return the tasks in the queue whose job name is one of `names`, array tasks one by one.

    Raises:
        LaunchError: the controller does not answer.
    """
    wanted = sorted(set(names))
    if not wanted:
        return []
    # --all: tasks in hidden partitions too, or they would be submitted a second time
    output = run(["squeue", "--all", "-h", "-r", f"--name={','.join(wanted)}", "-o", "%j|%F|%K|%T|%r|%S|%N"])
    tasks = []
    for line in output.splitlines():
        name, job_id, index, state, reason, start, nodes = (line.split("|") + [""] * 7)[:7]
        number = int(index) if index.isdigit() else None
        tasks.append(QueuedTask(name, job_id, number, state, reason, start, nodes))
    return tasks


@dataclass(frozen=True, slots=True)
class Accounted:
    """One run of one task in sacct; `task` is `<job>_<index>` or `<job>`. Seconds."""

    task: str
    state: str
    elapsed_s: int
    cpus: int
    nodes: str


def accounting(job_ids: Iterable[str]) -> list[Accounted] | None:
    """Return every run (requeued ones too) of these jobs, oldest first; None without accounting."""
    ids = sorted(set(job_ids))
    if not ids:
        return []
    wanted = ["-j", ",".join(ids), "-o", "JobID,State,ElapsedRaw,AllocCPUS,NodeList"]
    try:
        output = run(["sacct", "-n", "-P", "-X", "-D", *wanted], timeout_s=20)
    except LaunchError:
        return None
    rows = []
    for line in output.splitlines():
        task, state, elapsed, cpus, nodes = (line.split("|") + [""] * 5)[:5]
        word = state.split()[0] if state else "UNKNOWN"
        rows.append(Accounted(task, word, int(elapsed or 0), int(cpus or 0), nodes))
    return rows


def max_array_size() -> int:
    """Return how many tasks an array may have: indices must stay below the site's MaxArraySize.

    Slurm's own default where no controller answers (a dry run on a laptop).
    """
    return int(_setting("MaxArraySize") or _DEFAULT_ARRAY_SIZE)


def version() -> str | None:
    """Return Slurm's version; None without Slurm, or where it does not say."""
    return _setting("SLURM_VERSION") if installed() else None


def partition_limits(name: str | None) -> PartitionLimits | None:
    """Return the limits of a partition (None: the default one); None when there is no such partition.

    Of several ("gpu,gpu-long": Slurm takes whichever starts first) the most generous figures count.
    """
    output = run(["sinfo", "--all", "-h", "-N", "-o", "%P|%l|%c|%m|%N"])
    rows = [line.split("|") for line in output.splitlines() if line.count("|") == 4]
    names = (name or "").split(",")
    mine = [row for row in rows if (row[0].rstrip("*") in names if name else row[0].endswith("*"))]
    if not mine or (name and {row[0].rstrip("*") for row in mine} != set(names)):
        return None
    times = [_minutes(row[1]) for row in mine]
    known = [time for time in times if time is not None]
    return PartitionLimits(
        max_time_min=max(known) if len(known) == len(times) else None,
        nodes=len({row[4] for row in mine}),
        cpus_per_node=max(int(row[2].rstrip("+")) for row in mine),
        mem_mb_per_node=max(int(row[3].rstrip("+")) for row in mine),
    )


def partitions() -> list[str]:
    """Return the names of all partitions, the default one first."""
    names = dict.fromkeys(run(["sinfo", "-h", "-o", "%P"]).split())
    return [name.rstrip("*") for name in sorted(names, key=lambda name: not name.endswith("*"))]


def cancel_by_name(name: str) -> None:
    """Cancel everything with this job name."""
    run(["scancel", f"--name={name}"])


def release(job_ids: Iterable[str]) -> None:
    """Release held jobs."""
    run(["scontrol", "release", ",".join(job_ids)])


def requeue(job_id: str) -> None:
    """Put a running job back into the queue; a slow controller is asked again at once."""
    for left in reversed(range(_REQUEUE_TRIES)):
        try:
            run(["scontrol", "requeue", job_id], timeout_s=15)
            return
        except Unanswered:
            if not left:
                raise


def test_only(text: str) -> str:
    """Ask Slurm whether it would accept this script; return what it says about its start.

    Raises:
        Unanswered: it does not say in time.
        LaunchError: it would be refused.
    """
    result = _completed(["sbatch", "--test-only"], text)
    if result.returncode != 0:
        raise LaunchError(f"sbatch --test-only: {first_error(result.stderr)}")
    return first_error(result.stderr)


def job_end_epoch_s(job_id: str) -> float | None:
    """Return when Slurm will end a running job (seconds since the epoch), None when it does not say."""
    try:
        text = run(["squeue", "-h", "-j", job_id, "-o", "%e"], timeout_s=15).strip().splitlines()
        return datetime.datetime.fromisoformat(text[0]).timestamp()
    except (LaunchError, ValueError, IndexError):
        return None


def _setting(key: str) -> str | None:
    """Return one line of Slurm's configuration; None where it does not say."""
    try:
        found = re.search(rf"^{key}\s*=\s*(\S+)", run(["scontrol", "show", "config"]), re.MULTILINE)
    except LaunchError:
        return None
    return found[1] if found else None


def _minutes(text: str) -> int | None:
    """Read Slurm's [days-]hours:minutes:seconds, rounded down to minutes; None for no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, _ = (int(group or 0) for group in match.groups())
    return days * 1440 + hours * 60 + minutes
