"""Files that are complete when they exist: atomic replace, exclusive creation, JSON, locks.

    with replacing(path) as partial:
        partial.write_text(...)

A reader never sees half a file: the bytes go to a temporary name in the same folder, are synced, and are
renamed over the target. Works on Lustre and NFS (no flock).
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aceslm.core.errors import CorruptRun, Locked

log = logging.getLogger(__name__)

STALE_LOCK_S = 600.0
_HEARTBEAT_S = 60.0
_CLOCK_S = 60.0  # what a process's time of birth may be off where the clock was set


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path` atomically and durably."""
    partial = _temporary(path)
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def create_json(path: Path, value: Any) -> bool:
    """Create `path` with `value` unless it exists; return whether this call created it.

    Exactly one of several simultaneous callers gets True (a hard link is made, which fails if the name
    exists; where the file system has no links, `O_EXCL` decides).
    """
    partial = _temporary(path)
    try:
        partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        _sync(partial)
        try:
            os.link(partial, path)
        except FileExistsError:
            # NFS repeats a link whose reply was lost, and then says that it exists: with two names it is ours
            return partial.stat().st_nlink == 2
        except OSError:
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                return False
            partial.replace(path)
        _sync(path.parent)
        return True
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path, remedy: str = "") -> Any:
    """Read JSON.

    Args:
        remedy: what helps where the file is damaged, for the message.

    Raises:
        CorruptRun: it is not JSON; the message names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, IsADirectoryError) as error:
        words = f"{path}: not valid JSON ({str(error) or type(error).__name__})"
        raise CorruptRun(f"{words}: {remedy}" if remedy else words) from None


def is_temporary(path: Path) -> bool:
    """Return whether `path` is a temporary name that an interrupted writer may have left."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


@contextmanager
def locked(
    path: Path, purpose: str, wait_s: float = 0.0, give_up: Callable[[], bool] | None = None
) -> Iterator[None]:
    """Hold the lock file `path`, waiting at most `wait_s`; else raise Locked saying who holds it.

    `give_up` ends the waiting as soon as it is true (`seen_alive`).

    A lock is an `O_EXCL` file with host, pid and job id whose modification time is its heartbeat. It is
    stale when its process is gone from this host, or after ten minutes without a heartbeat.
    """
    token = secrets.token_hex(8)
    owner = {
        "token": token,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job": os.environ.get("SLURM_JOB_ID"),
        "purpose": purpose,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    while not create_json(path, owner):
        _break_if_stale(path)
        if create_json(path, owner):
            break
        if time.monotonic() >= deadline or (give_up and give_up()):
            raise Locked(_held_by(path))
        time.sleep(0.2)
    stop = threading.Event()
    beat = threading.Thread(target=_keep_beating, args=(path, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        if _owner(path).get("token") == token:
            path.unlink(missing_ok=True)


def seen_alive(path: Path) -> Callable[[], bool]:
    """Return a question: is whoever holds this lock alive? True once that has been seen.

    A process of this host tells at once, one of another host by its next heartbeat.
    """
    first: dict[object, float] = {}

    def alive() -> bool:
        owner = _owner(path)
        try:
            beaten_s = path.stat().st_mtime
        except FileNotFoundError:
            return False
        if owner.get("host") == socket.gethostname() and time.time() - beaten_s < 3 * _HEARTBEAT_S:
            return process_alive(_pid(owner))
        return beaten_s > first.setdefault(owner.get("token"), beaten_s)

    return alive


def _keep_beating(path: Path, stop: threading.Event) -> None:
    while not stop.wait(_HEARTBEAT_S):
        with suppress(OSError):
            os.utime(path)


def _break_if_stale(path: Path) -> None:
    owner = _owner(path)  # empty where its creator was killed before it wrote: then only its age counts
    if not _is_stale(path, owner):
        return
    # Whoever renames this very file may go on; a newer lock that slipped in is put back.
    grave = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.rename(grave)
    except FileNotFoundError:
        return
    if _owner(grave).get("token") != owner.get("token"):
        with suppress(OSError):
            os.link(grave, path)
    else:
        log.warning("took over a stale lock (%s)", _describe(owner))
    grave.unlink(missing_ok=True)


def _is_stale(path: Path, owner: dict[str, Any]) -> bool:
    if owner.get("host") == socket.gethostname() and not process_alive(_pid(owner)):
        return True
    try:
        return time.time() - path.stat().st_mtime > STALE_LOCK_S
    except FileNotFoundError:
        return False


def process_alive(pid: int, born_before: float | None = None) -> bool:
    """Return whether a process with this id lives on this host; one that only waits to be reaped does not.

    Args:
        born_before: it must have been there then: a later process with the same number is another one.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if born_before is not None and process.create_time() > born_before + _CLOCK_S:
            return False
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, ValueError):
        return False
    except psutil.AccessDenied:
        return True


def _owner(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _pid(owner: dict[str, Any]) -> int:
    pid = owner.get("pid")
    return pid if isinstance(pid, int) and pid > 0 else 0


def _held_by(path: Path) -> str:
    owner = _owner(path)
    return f"{path} is held by {_describe(owner)}; wait for it, or delete the file if that process is gone"


def _describe(owner: dict[str, Any]) -> str:
    job = f", job {owner['job']}" if owner.get("job") else ""
    purpose = owner.get("purpose", "another command")
    return f"`{purpose}` on {owner.get('host', '?')}, pid {owner.get('pid', '?')}{job}"


def _temporary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems cannot sync a folder; a file must be synced
            raise
    finally:
        os.close(descriptor)
