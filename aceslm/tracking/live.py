"""The story of a shard while it works: rows in, a line of metrics every now and then.

The lines go to a script below `wandb/shards/`; where W&B is online, a player follows that file. Whatever
goes wrong is said once and costs no row: the script is played again by the aggregation.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from aceslm.config.grid import GridConfig
from aceslm.config.strict_yaml import parse, read_yaml
from aceslm.config.tracking import TrackingConfig
from aceslm.core.listener import NO_TRACKING, NoStory, NoTracking
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.record import Record
from aceslm.core.run import Run
from aceslm.core.values import Cell, Shard
from aceslm.plan.cells import run_digest
from aceslm.tracking.player import PlayerOptions
from aceslm.tracking.process import PlayerProcess
from aceslm.tracking.script import Line, RunHeader, cell_config, encode, header_line, shard_script
from aceslm.tracking.server import has_key, installed, mode_of

log = logging.getLogger(__name__)

LIVE_SHARDS = 50  # `per_shard: auto` follows every shard up to so many
_STEP = "samples_done"
_MOST_POINTS = 500  # a point no sooner than after this part of the time so far: long shards tell fewer


def shard_tracking(run: Run) -> NoTracking:
    """Return what follows the shards of one worker, as the run's `tracking:` section says. Never raises."""
    try:
        config = parse(GridConfig, read_yaml(run.paths.config), run.paths.config).tracking
        wanted = len(run.shards) <= LIVE_SHARDS if config.per_shard == "auto" else config.per_shard
        if not wanted or mode_of(config) == "disabled":
            return NO_TRACKING
        return ShardTracking(run.paths, run_digest(run.cells), config)
    except Exception as error:
        log.warning("tracking is off: %s", error)
        return NO_TRACKING


@dataclass(slots=True)
class ShardTracking(NoTracking):
    """Follows the shards of one worker; its player, where there is one, serves them all."""

    paths: RunPaths
    run_digest: str
    config: TrackingConfig
    _player: PlayerProcess | None = None
    _tried: bool = False
    _warned: bool = False

    @contextmanager
    def shard(self, cell: Cell, shard: Shard, name: AttemptName) -> Iterator[NoStory]:
        """Follow one try at a shard; the W&B run's id is the shard and the attempt."""
        story = _Story(self, shard_script(self.paths, shard.shard_id, name.story))
        story.begin(self._header(cell, shard, name))
        self._play(story.path)
        failed = True
        try:
            yield story
            failed = False
        finally:
            story.end(failed)

    def _header(self, cell: Cell, shard: Shard, name: AttemptName) -> RunHeader:
        return RunHeader(
            id=f"{self.run_digest}-{shard.shard_id}-{name.story}",
            name=f"{shard.shard_id} {name.story}",
            group=self.paths.root.name,
            job_type="shard",
            project=self.config.project,
            entity=self.config.entity,
            config={"run": self.paths.root.name, "shard": shard.shard_id, **cell_config(cell)},
            tags=self.config.tags,
            notes=self.config.notes,
            step_metrics={"*": _STEP},
        )

    def close(self) -> None:
        """Give the player its last seconds; what it has not sent is played by the aggregation."""
        if self._player is None:
            return
        ended = self._player.close(self.config.finish_timeout_s)
        errors = [reply["error"] for reply in self._player.replies if reply["error"]]
        if errors or not ended:
            self.warn(f"W&B: {errors[0] if errors else 'not everything could be sent in time'}")
        self._player = None

    def warn(self, message: str) -> None:
        """Say once in a worker's life that something is amiss."""
        if not self._warned:
            log.warning("%s; going on: the aggregation tells W&B what is missing there", message)
        self._warned = True

    def _play(self, script: Path) -> None:
        """Let a player follow the script, where W&B may be online."""
        try:
            if not self._tried:
                self._tried = True
                mode = mode_of(self.config)
                if mode == "offline" or not installed() or not (mode == "online" or has_key()):
                    return
                limit = self.config.finish_timeout_s
                options = PlayerOptions(mode, self.config.answer_timeout_s, limit, limit, live=True)
                self._player = PlayerProcess(options, script.parent)
            if self._player is not None:
                self._player.play(script)
        except Exception as error:
            self.warn(f"W&B: {error}")


@dataclass(slots=True)
class _Story(NoStory):
    """Writes one script; the first write that fails is the last one tried."""

    owner: ShardTracking
    path: Path
    _started: float = field(default_factory=time.monotonic)
    _rows: int = 0
    _correct: int = 0
    _tokens: int = 0
    _errors: int = 0
    _energy_j: float | None = None
    _rows_done: int = 0
    _told_s: float | None = None
    _is_told: bool = True
    _broken: bool = False
    _facts: dict[str, Any] = field(default_factory=dict)

    def begin(self, header: RunHeader) -> None:
        self._write(header_line(header))

    def row(self, record: Record) -> None:
        self._rows += 1
        self._correct += record.correct
        self._tokens += record.output_tokens or 0
        self._errors += record.error is not None

    def spent(self, joules: float | None) -> None:
        if joules is not None:
            self._energy_j = (self._energy_j or 0.0) + joules

    def progress(self, rows_done: int) -> None:
        elapsed_s = time.monotonic() - self._started
        self._rows_done, self._is_told = rows_done, False
        if self._told_s is None or elapsed_s - self._told_s >= elapsed_s / _MOST_POINTS:
            self._tell(elapsed_s)

    def note(self, facts: Mapping[str, Any]) -> None:
        self._facts.update(facts)

    def end(self, failed: bool) -> None:
        if not self._is_told:
            self._tell(time.monotonic() - self._started)
        if self._facts:
            self._write({"summary": self._facts})
        self._write({"finish": int(failed)})

    def _tell(self, elapsed_s: float) -> None:
        """Write the figures of this try: its own rows, its own time."""
        self._told_s, self._is_told = elapsed_s, True
        metrics = {
            _STEP: self._rows_done,
            "accuracy": self._correct / self._rows if self._rows else None,
            "samples_per_s": self._rows / elapsed_s if elapsed_s else None,
            "tokens_per_s": self._tokens / elapsed_s if elapsed_s else None,
            "memory_bytes": _resident_bytes(),
            "energy_j": self._energy_j,
            "errors": self._errors,
            "elapsed_s": elapsed_s,
        }
        self._write({"log": metrics})

    def _write(self, line: Line) -> None:
        if self._broken:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(encode(line))
        except Exception as error:
            self._broken = True
            self.owner.warn(f"tracking of {self.path.parent.name} is off: {error}")


def _resident_bytes() -> int | None:
    try:
        return int(psutil.Process().memory_info().rss)
    except (psutil.Error, OSError):
        return None
