"""A script: what one W&B run is to be told, as JSON lines in a file. The truth; W&B gets copies of it.

    {"run": {"id": ..., "name": ..., "config": {...}, ...}}
    {"log": {"samples_done": 3, "accuracy": 0.5}}    any number; "sent": true where it was sent before
    {"summary": {...}}   {"table": {...}}   {"artifact": {...}}
    {"finish": 0}

Beside a script stands `<name>.played.json` once it was played: how, from which content, into which folder,
and whether it reached a server. So nothing is sent twice, and an upload goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from aceslm.core.digests import digest
from aceslm.core.errors import RunError
from aceslm.core.files import read_json, replacing, write_json
from aceslm.core.paths import RunPaths
from aceslm.core.values import Cell

PLAYED_SUFFIX = ".played.json"
Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunHeader:
    """What a W&B run is called. `step_metrics`: pattern of metric names -> the metric they are drawn over."""

    id: str
    name: str
    group: str
    job_type: str
    project: str
    entity: str | None
    config: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    notes: str | None = None
    step_metrics: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Played:
    """How a script was played last; `folder` is relative to the script's own."""

    digest: str
    mode: str
    folder: str
    uploaded: bool = False


def shard_script(paths: RunPaths, shard_id: str, attempt: str) -> Path:
    """Return the script of one try at a shard."""
    return paths.wandb / "shards" / shard_id / f"{attempt}.jsonl"


def cell_script(paths: RunPaths, cell_id: str) -> Path:
    """Return the script of a cell."""
    return paths.wandb / "cells" / f"{cell_id}.jsonl"


def grid_script(paths: RunPaths) -> Path:
    """Return the script of the whole grid."""
    return paths.wandb / "grid" / "grid.jsonl"


def scripts(paths: RunPaths) -> list[Path]:
    """Return every script of a run, sorted."""
    folders = ("shards/*/*.jsonl", "cells/*.jsonl", "grid/*.jsonl")
    return [path for pattern in folders for path in sorted(paths.wandb.glob(pattern))]


def header_line(header: RunHeader) -> Line:
    return {"run": asdict(header)}


def encode(line: Line) -> str:
    """Return one line of a script; what JSON cannot hold (NaN) is null."""
    return json.dumps(clean(line), ensure_ascii=True, allow_nan=False, default=str) + "\n"


def clean(value: Any) -> Any:
    """Return `value` with every NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [clean(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_script(path: Path, lines: Iterable[Line]) -> None:
    """Replace a script; points that an earlier play has sent are marked, so that no curve doubles."""
    uploaded = (played := played_state(path)) is not None and played.uploaded
    sent = {
        encode({"log": line["log"]})
        for line in read_script(path)
        if "log" in line and (uploaded or line.get("sent"))
    }
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for line in lines:
            repeats = "log" in line and encode(line) in sent
            file.write(encode({**line, "sent": True} if repeats else line))


def read_script(path: Path) -> Iterator[Line]:
    """Yield the complete lines of a script, without a last one that a killed worker left half-written."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        yield from complete_lines(file)


def complete_lines(file: IO[bytes]) -> Iterator[Line]:
    """Yield the complete lines from where `file` stands, which is then left at the first incomplete one."""
    while (text := file.readline()).endswith(b"\n"):
        with suppress(ValueError):
            value = json.loads(text)
            if isinstance(value, dict):
                yield value
    file.seek(-len(text), os.SEEK_CUR)


def script_digest(lines: Iterable[Line]) -> str:
    """Return the digest of what a script says, whatever of it was sent already."""
    said = [{key: value for key, value in line.items() if key != "sent"} for line in lines]
    return digest([encode(line) for line in said])


def is_finished(lines: Sequence[Line]) -> bool:
    return bool(lines) and "finish" in lines[-1]


def played_state(path: Path) -> Played | None:
    """Return how a script was played last, None if never (or if that cannot be read)."""
    state = path.with_name(path.name + PLAYED_SUFFIX)
    try:
        return Played(**read_json(state))
    except (OSError, RunError, TypeError):
        return None


def note_played(path: Path, played: Played) -> None:
    """Write down how a script was played."""
    write_json(path.with_name(path.name + PLAYED_SUFFIX), asdict(played))


def played_folder(path: Path, played: Played) -> Path:
    """Return the W&B folder that playing a script has made."""
    return path.parent / played.folder


def cell_config(cell: Cell) -> dict[str, Any]:
    """Return what W&B keeps as the configuration of a cell's runs."""
    return {**asdict(cell), "ace": cell.ace.model_dump(mode="json") if cell.ace else {}}
