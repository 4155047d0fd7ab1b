"""Where log lines go, and how they are found and read again.

A task has one file, `logs/<run>/<submission>/<job>_<index>_<rank>_log.out`: what its scheduler caught, our
own lines in JSON among those of others. `aceslm logs` reads both.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aceslm.core.logs import JsonLines
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.run.attempt_files import last_attempt, read_attempts

log = logging.getLogger(__name__)

_NOISY = (
    "accelerate bitsandbytes datasets filelock fsspec httpcore httpx huggingface_hub numba tokenizers "
    "transformers urllib3 wandb xgrammar zeus"
)
_JSON_START = '{"time": '

Line = Mapping[str, Any]


def log_to_stdout() -> None:
    """Send the log of a job to its scheduler's file, warnings of Python among it."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    quieten()


def quieten() -> None:
    """Let other people's libraries speak from warnings on."""
    for name in _NOISY.split():
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Write log lines to a file too; what handlers show elsewhere stays as it is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8", delay=True)
        path.touch()
    except OSError as error:
        log.warning("no log file is written: %s", error)
        yield
        return
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    level = root.level
    for shown in root.handlers:
        shown.setLevel(max(shown.level, level))
    root.setLevel(min(level, logging.INFO))
    root.addHandler(handler)
    quieten()
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def log_files(paths: RunPaths, logs: Path) -> list[Path]:
    """Return the log files of a run, in order of submission and task."""
    return sorted((logs / paths.root.resolve().name).rglob("*.out"))


def files_of_shard(
    paths: RunPaths, shard_id: str, files: Iterable[Path]
) -> tuple[Mapping[str, Any], list[Path]]:
    """Return the last attempt at a shard (empty: none), and those of `files` that its task wrote."""
    last = last_attempt(read_attempts(paths, shard_id))
    if last is None:
        return {}, []
    # the pool names logs by its job id, the parent of the worker; Slurm by job, array index and rank
    name = AttemptName.parse(last.name)
    parent = last.start.parent_pid if last.start else None
    of_task = re.compile(rf"({re.escape(name.job)}_{name.index}(_\d+)?|{parent}_\d+)_log\.out")
    facts = {"attempt": str(name), "host": last.start.host if last.start else "unknown"}
    return facts, [path for path in files if of_task.fullmatch(path.name)]


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a log file; what others wrote has only a `message`."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            yield _parsed(text.rstrip("\n"))


def lines_of_shard(files: Sequence[Path], shard_id: str) -> list[Line]:
    """Return the lines about a shard, and those that are about no shard."""
    return [line for path in files for line in read_lines(path) if line.get("shard") in {None, shard_id}]


def rendered(line: Line) -> str:
    """Return a line as a person reads it; a line of others as it is."""
    if "level" not in line:
        return str(line["message"])
    time = str(line["time"]).replace("T", " ").split("+")[0]
    about = "".join(f" {key}={line[key]}" for key in ("shard", "unit") if line.get(key))
    text = f"{time} {line['level']:<7} {line['message']}{about and f'  [{about.strip()}]'}"
    return f"{text}\n{line['traceback']}" if line.get("traceback") else text


def census(path: Path) -> dict[str, Any]:
    """Return how many lines a log file has, and how many warnings and errors."""
    levels = Counter(str(line.get("level", "")) for line in read_lines(path))
    return {
        "file": str(path),
        "lines": sum(levels.values()),
        "warnings": levels["WARNING"],
        "errors": levels["ERROR"] + levels["CRITICAL"],
    }


def _parsed(text: str) -> Line:
    if text.startswith(_JSON_START):
        try:
            value = json.loads(text)
        except ValueError:  # cut by a kill
            return {"message": text}
        if isinstance(value, dict) and {"time", "level", "message"} <= value.keys():
            return value
    return {"message": text}
