"""What the files of attempts say: read, checked, and never in anybody's way.

    for one in read_attempts(paths, shard_id):
        one.start, one.end, one.progress       # None where there is none, or none that can be read

These files tell how a run went and decide no result. What is damaged or missing is said in one log line and
left out; `one.faults` has it for whoever adds up.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aceslm.core.errors import RunError
from aceslm.core.files import create_json, process_alive, read_json
from aceslm.core.paths import RunPaths

log = logging.getLogger(__name__)

SILENT_S = 300.0  # an attempt on another host that has written nothing for so long is not running
_NAME = re.compile(r"(?P<name>.+_\d+-r\d+(-p\d+)?)\.(?P<kind>started|ended|progress)\.json")


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Start(_File):
    """What an attempt wrote when it began."""

    cpus: float = Field(gt=0)
    gpus: float = Field(default=0.0, ge=0)
    host: str = ""
    pid: int = 0
    parent_pid: int | None = None
    started_at: float = 0.0
    provenance: dict[str, Any] = {}


class End(_File):
    """What an attempt wrote when it ended, or what accounting told of it later (then without times).

    `rows_done` counts all rows of the shard that it knew of, `generated` its own. `blames_input`: a task or
    model file is at fault.
    """

    failure: str = Field(alias="class", min_length=1)
    ended_at: float | None = None
    wall_s: float | None = Field(default=None, ge=0)
    energy_j: float | None = None
    rows_done: int = 0
    generated: int = 0
    scored: int = 0
    correct: int = 0
    message: str | None = None
    traceback: str | None = None
    blames_input: bool = False
    engine: dict[str, Any] = {}

    @property
    def wall_h(self) -> float:
        return (self.wall_s or 0.0) / 3600


class Progress(_File):
    """How far a running attempt is; figures as in `End`."""

    rows_done: int = 0
    generated: int = 0
    samples_per_s: float = 0.0
    scored: int = 0
    correct: int = 0


_Kind = TypeVar("_Kind", bound=_File)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try at a shard. `has_ended`: it has a file that says so, readable or not."""

    name: str
    place: str
    start: Start | None
    end: End | None
    progress: Progress | None
    has_ended: bool
    began_s: float
    written_s: float
    faults: tuple[str, ...]

    @property
    def is_running(self) -> bool:
        """Whether its process lives; on another host, whether it has written something of late."""
        if self.has_ended:
            return False
        if self.start is not None and self.start.host == socket.gethostname():
            return process_alive(self.start.pid, self.start.started_at or None)
        return time.time() - self.written_s < SILENT_S

    @property
    def silence(self) -> tuple[str, ...]:
        """Why nothing is known of its end: none has been written, and it is not at work."""
        return (
            () if self.has_ended or self.is_running else (f"{self.place}/{self.name}.ended.json is missing",)
        )


def read_attempts(paths: RunPaths, shard_id: str) -> list[AttemptRecord]:
    """Return every try at a shard, by name."""
    folder = paths.attempts(shard_id)
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if match := _NAME.fullmatch(path.name):
            found.setdefault(match["name"], {})[match["kind"]] = path
    return [_record(paths, folder, name, files) for name, files in sorted(found.items())]


def note_end(paths: RunPaths, shard_id: str, name: str, end: Mapping[str, Any]) -> None:
    """Write down how an attempt ended that could not do so itself; what it has written stands."""
    create_json(paths.attempts(shard_id) / f"{name}.ended.json", dict(end))


def last_attempt(attempts: Iterable[AttemptRecord]) -> AttemptRecord | None:
    """Return the attempt that began last."""
    return max(attempts, key=lambda one: one.began_s, default=None)


@cache
def said(fault: str) -> None:
    """Log what is amiss: once, however often it is read."""
    log.warning("%s", fault)


def _record(paths: RunPaths, folder: Path, name: str, files: dict[str, Path]) -> AttemptRecord:
    faults: list[str] = []
    start = _read(Start, files.get("started"), paths, faults)
    end = _read(End, files.get("ended"), paths, faults)
    progress = _read(Progress, files.get("progress"), paths, faults)
    if "started" not in files and "ended" in files:
        lost = folder / f"{name}.started.json"
        faults.append(f"{lost.relative_to(paths.root)} is missing")
    for fault in faults:
        said(f"{paths.root.name}/{fault}; left out")
    times = {kind: _modified(path) for kind, path in files.items()}
    return AttemptRecord(
        name=name,
        place=str(folder.relative_to(paths.root)),
        start=start,
        end=end,
        progress=progress,
        has_ended="ended" in files,
        began_s=times.get("started") or max(times.values()),
        written_s=max(times.values()),
        faults=tuple(faults),
    )


def _read(kind: type[_Kind], path: Path | None, paths: RunPaths, faults: list[str]) -> _Kind | None:
    if path is None:
        return None
    try:
        return kind.model_validate(read_json(path))
    except FileNotFoundError:
        return None  # gone since it was listed: an attempt that ends deletes its progress
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        what = f"is damaged ({f'key {key!r}: ' if key else ''}{fault['msg']})"
    except RunError:
        what = "is damaged (not JSON)"
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
    faults.append(f"{path.relative_to(paths.root)} {what}")
    return None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
