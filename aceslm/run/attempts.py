"""The story of every try at a shard: started, progress, ended, with class and provenance.

    with attempt_on(paths, shard_id, name) as attempt:
        ...
        attempt.note(rows_done=12)

A start without an end means that the process died without a trace (SIGKILL, node loss).
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import resource
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from aceslm import __version__
from aceslm.core.digests import digest
from aceslm.core.files import create_json, write_json
from aceslm.core.logs import about, redacted
from aceslm.core.machine import allocated_gpus, available_cores, cpu_name
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.words import FailureClass
from aceslm.run.energy import EnergyMeter
from aceslm.run.failures import blames_input, explained, failure_class
from aceslm.run.source import code_digest

log = logging.getLogger(__name__)

_PROVENANCE_PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "bitsandbytes",
    "tokenizers",
    "numpy",
    "pyarrow",
    "submitit",
)


@dataclass(slots=True)
class Attempt:
    """One running try; `outcome` is what the ended file will say."""

    paths: RunPaths
    shard_id: str
    name: AttemptName
    started_at: float
    outcome: FailureClass = "done"
    facts: dict[str, Any] = field(default_factory=dict)
    meter: EnergyMeter | None = None
    is_mute: bool = False

    def begin(self, facts: Mapping[str, Any], meter: EnergyMeter) -> None:
        """Note the engine that is at work, and measure its energy from here."""
        self.note(engine=dict(facts))
        self.meter = meter

    def note(self, **facts: Any) -> None:
        """Add facts (engine, device, timings) to the ended file."""
        self.facts.update(facts)

    def joules(self) -> float | None:
        """Return what was spent since the last call, None where it is not known."""
        return self.meter.take() if self.meter else None

    def progress(self, rows_done: int, rows_total: int, generated: int, correct: int | None = None) -> None:
        """Write how far this attempt is, for `status`; `correct` counts right rows of those generated."""
        elapsed = time.time() - self.started_at
        progress = {
            "rows_done": rows_done,
            "generated": generated,
            "rows_total": rows_total,
            "samples_per_s": generated / elapsed if elapsed else 0.0,
            "updated_at": time.time(),
            **({} if correct is None else {"correct": correct, "scored": generated}),
        }
        self.write(write_json, self.paths.progress(self.shard_id, self.name), progress)

    def write(self, how: Callable[[Path, Any], object], path: Path, value: Any) -> None:
        """Write a file that only describes this try: where that fails, the work goes on without it."""
        try:
            how(path, value)
        except OSError as error:
            if not self.is_mute:
                log.warning("how this attempt goes is not written down: %s", explained(error))
            self.is_mute = True


@contextmanager
def attempt_on(paths: RunPaths, shard_id: str, name: AttemptName) -> Iterator[Attempt]:
    """Record one try at a shard: a started file now, an ended file whatever happens."""
    attempt = Attempt(paths, shard_id, name, time.time())
    started = {
        "attempt": str(name),
        "shard": shard_id,
        "rank": name.rank,
        "pid": os.getpid(),
        "parent_pid": os.getppid(),
        "cpus": available_cores(),
        "gpus": allocated_gpus(),
        "host": socket.gethostname(),
        "node": os.environ.get("SLURMD_NODENAME"),
        "started_at": attempt.started_at,
        "provenance": provenance(),
    }
    attempt.write(create_json, paths.started(shard_id, name), started)
    try:
        with about(shard=shard_id, attempt=str(name)):
            yield attempt
    except BaseException as error:
        attempt.outcome = failure_class(error)
        attempt.note(message=redacted(explained(error)), traceback=redacted(traceback.format_exc()))
        attempt.note(blames_input=blames_input(error))
        raise
    finally:
        ended = {
            "attempt": str(name),
            "class": attempt.outcome,
            "ended_at": time.time(),
            "wall_s": time.time() - attempt.started_at,
            "peak_memory_bytes": peak_memory_bytes(),
            **(attempt.meter.figures() if attempt.meter else {}),
            **attempt.facts,
        }
        attempt.write(write_json, paths.ended(shard_id, name), ended)
        with suppress(OSError):
            paths.progress(shard_id, name).unlink(missing_ok=True)


def peak_memory_bytes() -> int:
    """Return this process's resident high-water mark, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


@cache
def provenance() -> dict[str, Any]:
    """Return what produced the rows: versions, commit, platform. Never part of an identity."""
    packages = {}
    for name in _PROVENANCE_PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "aceslm": __version__,
        "commit": _git("rev-parse", "HEAD"),
        "dirty": _dirty_digest(),
        "code": code_digest(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "packages": packages,
    }


def installed_packages() -> list[str]:
    """Return `name==version` of everything installed: no URL, so no credential."""
    found = {
        f"{distribution.metadata['Name']}=={distribution.version}"
        for distribution in importlib.metadata.distributions()
    }
    return sorted(found, key=str.lower)


def _dirty_digest() -> str | None:
    """Return a digest of uncommitted changes, None for a clean checkout (or none at all)."""
    changes = _git("diff", "HEAD")
    return digest(changes) if changes else None


def _git(*arguments: str) -> str | None:
    root = Path(__file__).resolve().parents[2]
    try:
        result = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None
