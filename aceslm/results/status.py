"""Progress of a run directory, from its files alone: no scheduler, no Parquet, no torch.

`done` trusts `done.json` plus the shard file's size; only `aggregate` hashes.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aceslm.core.files import process_alive, read_json
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Cell, Shard

SILENT_S = 300.0  # an attempt on another host that has written nothing for so long is not running


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard: `state` is done, running, failed, missing or replaced; `last_class` ended the last try.

    `correct` of `scored` rows are right, as far as its attempts have counted them.
    """

    shard_id: str
    cell_id: str
    state: str
    rows_done: int
    rows_total: int
    samples_per_s: float = 0.0
    attempts: int = 0
    last_class: str | None = None
    message: str | None = None
    correct: int = 0
    scored: int = 0


@dataclass(frozen=True, slots=True)
class CellStatus:
    """One cell's shards added up."""

    cell: Cell
    shards: tuple[ShardStatus, ...]

    @property
    def rows_done(self) -> int:
        return sum(shard.rows_done for shard in self.shards)

    @property
    def rows_total(self) -> int:
        return sum(shard.rows_total for shard in self.shards if shard.state != "replaced")

    @property
    def samples_per_s(self) -> float:
        return sum(shard.samples_per_s for shard in self.shards if shard.state == "running")

    @property
    def eta_s(self) -> float | None:
        rate = self.samples_per_s
        return (self.rows_total - self.rows_done) / rate if rate else None

    @property
    def accuracy(self) -> float | None:
        """The accuracy so far; None where nothing is scored yet, or rows count that were seen before."""
        scored = sum(shard.scored for shard in self.shards)
        if not scored or self.cell.epochs > 1 or self.cell.split == "adapt":
            return None
        return sum(shard.correct for shard in self.shards) / scored

    @property
    def is_complete(self) -> bool:
        return all(shard.state in {"done", "replaced"} for shard in self.shards)

    def count(self, state: str) -> int:
        return sum(shard.state == state for shard in self.shards)


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run: its cells, and when it may be ready."""

    root: Path
    cells: tuple[CellStatus, ...]

    @property
    def rows_done(self) -> int:
        return sum(cell.rows_done for cell in self.cells)

    @property
    def rows_total(self) -> int:
        return sum(cell.rows_total for cell in self.cells)

    @property
    def samples_per_s(self) -> float:
        return sum(cell.samples_per_s for cell in self.cells)

    @property
    def eta_s(self) -> float | None:
        rate = self.samples_per_s
        return (self.rows_total - self.rows_done) / rate if rate else None

    def count(self, state: str) -> int:
        return sum(cell.count(state) for cell in self.cells)

    @property
    def is_complete(self) -> bool:
        return all(cell.is_complete for cell in self.cells)

    @property
    def state(self) -> str:
        """The run in one word: complete, running, failed or incomplete."""
        if self.is_complete:
            return "complete"
        if self.count("running"):
            return "running"
        return "failed" if self.count("failed") else "incomplete"

    def shards(self, state: str) -> list[ShardStatus]:
        """Return the shards in one state, in plan order."""
        return [shard for cell in self.cells for shard in cell.shards if shard.state == state]


def run_status(run: Run) -> RunStatus:
    """Read the progress of a run."""
    cells = [
        CellStatus(
            cell,
            tuple(
                _shard_status(run.paths, shard, shard.shard_id in run.replaced)
                for shard in run.shards_of(cell.cell_id)
            ),
        )
        for cell in run.cells
    ]
    return RunStatus(run.paths.root, tuple(cells))


def list_runs(results: Path) -> list[RunPaths]:
    """Return the run directories below `results`, newest first."""
    found = [path.parent.parent for path in results.glob("*/plans/0001.json")]
    return [RunPaths(root) for root in sorted(found, key=lambda root: root.stat().st_mtime, reverse=True)]


def _done(paths: RunPaths, shard_id: str) -> dict[str, Any] | None:
    """Return the `done.json` of a shard whose file has the recorded size, else None."""
    try:
        done = dict(read_json(paths.done(shard_id)))
        return done if (paths.shards / done["file"]).stat().st_size == done["bytes"] else None
    except FileNotFoundError:
        return None


def _shard_status(paths: RunPaths, shard: Shard, is_replaced: bool) -> ShardStatus:
    total = shard.num_units
    if done := _done(paths, shard.shard_id):
        correct = done.get("correct")  # a shard of an earlier version has not counted
        scored = {} if correct is None else {"correct": correct, "scored": done["rows"]}
        return ShardStatus(shard.shard_id, shard.cell_id, "done", total, total, **scored)
    folder = paths.attempts(shard.shard_id)
    started = sorted(folder.glob("*.started.json"), key=_modified) if folder.is_dir() else []
    if not started:
        state = "replaced" if is_replaced else "missing"
        return ShardStatus(shard.shard_id, shard.cell_id, state, 0, total)
    name = started[-1].name.removesuffix(".started.json")
    progress = [entry for path in folder.glob("*.progress.json") if (entry := _progress(path))]
    ends = {path.name.removesuffix(".ended.json"): read_json(path) for path in folder.glob("*.ended.json")}
    rows = [entry["rows_done"] for entry in progress] + [
        int(end.get("rows_done", 0)) for end in ends.values()
    ]
    live = [path for path in started if _is_running(path, folder, ends)]
    state, rate = "failed", 0.0
    if is_replaced:
        state = "replaced"
    elif live:
        state = "running"
        rate = max((entry["samples_per_s"] for entry in progress), default=0.0)
    elif name in ends and ends[name]["class"] in {"done", "preempted", "cancelled", "timeout"}:
        state = "missing"
    end = ends.get(name, {})
    return ShardStatus(
        shard_id=shard.shard_id,
        cell_id=shard.cell_id,
        state=state,
        rows_done=min(max(rows, default=0), total),
        rows_total=total,
        samples_per_s=rate,
        attempts=len(started),
        last_class=end.get("class", None if live else "unknown"),
        message=end.get("message"),
        correct=sum(entry.get("correct", 0) for entry in [*progress, *ends.values()]),
        scored=sum(entry.get("scored", 0) for entry in [*progress, *ends.values()]),
    )


def _is_running(started: Path, folder: Path, ends: dict[str, Any]) -> bool:
    name = started.name.removesuffix(".started.json")
    if name in ends:
        return False
    start = read_json(started)
    if start.get("host") == socket.gethostname():
        return process_alive(int(start.get("pid", 0)))
    newest = _modified(started)
    with suppress(FileNotFoundError):
        newest = max(newest, _modified(folder / f"{name}.progress.json"))
    return time.time() - newest < SILENT_S


def _progress(path: Path) -> dict[str, Any] | None:
    """Read a progress file; None when its attempt has ended meanwhile (which deletes it)."""
    try:
        return dict(read_json(path))
    except FileNotFoundError:
        return None


def _modified(path: Path) -> float:
    return path.stat().st_mtime
