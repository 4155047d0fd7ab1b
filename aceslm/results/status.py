"""Progress of a run directory, from its files alone: no scheduler, no Parquet, no torch.

`done` trusts `done.json` plus the shard file's size; only `aggregate` hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aceslm.core.errors import CorruptRun
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Cell, Shard
from aceslm.core.words import ShardState
from aceslm.run.attempt_files import AttemptRecord, End, Progress, last_attempt, read_attempts
from aceslm.run.done import Done, read_done
from aceslm.run.failures import KEPT_CLASSES


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard: `state` is done, running, failed, missing or replaced; `last_class` ended the last try.

    `correct` of `scored` rows are right, as far as its attempts have counted them.
    """

    shard_id: str
    cell_id: str
    state: ShardState
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

    def count(self, state: ShardState) -> int:
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

    def count(self, state: ShardState) -> int:
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

    def shards(self, state: ShardState) -> list[ShardStatus]:
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


def _done(paths: RunPaths, shard_id: str) -> Done | None:
    """Return what `done.json` says of a shard whose file has the recorded size, else None.

    Raises:
        CorruptRun: it is damaged.
    """
    done = read_done(paths, shard_id)
    try:
        return done if done and (paths.shards / done.file).stat().st_size == done.bytes else None
    except FileNotFoundError:
        return None


def _shard_status(paths: RunPaths, shard: Shard, is_replaced: bool) -> ShardStatus:
    total = shard.num_units
    try:
        done = _done(paths, shard.shard_id)
    except CorruptRun as error:
        advice = f"{error}: aceslm retry {paths.root}"
        return ShardStatus(
            shard.shard_id, shard.cell_id, "failed", 0, total, last_class="corrupt", message=advice
        )
    if done:
        counted = done.correct is not None  # a shard of an earlier version has not
        return ShardStatus(
            shard.shard_id,
            shard.cell_id,
            "done",
            total,
            total,
            correct=done.correct or 0,
            scored=done.rows if counted else 0,
        )
    attempts = read_attempts(paths, shard.shard_id)
    last = last_attempt(attempts)
    if last is None:
        return ShardStatus(shard.shard_id, shard.cell_id, "replaced" if is_replaced else "missing", 0, total)
    told = [figures for one in attempts if (figures := one.end or one.progress)]
    running = [one for one in attempts if one.is_running]
    end = last.end
    state: ShardState = "failed"
    rate = 0.0
    if is_replaced:
        state = "replaced"
    elif running:
        state, rate = "running", sum(one.progress.samples_per_s for one in running if one.progress)
    elif end and end.failure in KEPT_CLASSES:
        state = "missing"
    return ShardStatus(
        shard_id=shard.shard_id,
        cell_id=shard.cell_id,
        state=state,
        rows_done=min(_rows_done(attempts), total),
        rows_total=total,
        samples_per_s=rate,
        attempts=len(attempts),
        last_class=end.failure if end else None if running else "unknown",
        message=end.message if end else None,
        correct=sum(one.correct for one in told),
        scored=sum(one.scored for one in told),
    )


def _rows_done(attempts: Sequence[AttemptRecord]) -> int:
    """Return the rows that attempts at a shard tell of: ranks of one task each count their own."""
    ranks: dict[str, list[Progress | End]] = {}
    for one in attempts:
        if figures := one.end or one.progress:
            ranks.setdefault(str(AttemptName.parse(one.name)), []).append(figures)
    return max(
        (
            max(one.rows_done - one.generated for one in task) + sum(one.generated for one in task)
            for task in ranks.values()
        ),
        default=0,
    )
