"""What runs on a node. A job carries a path and two numbers; the rest is read from the run directory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from aceslm.core.engine import Engine
from aceslm.core.errors import ModelUnavailable, WorkError
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Cell
from aceslm.engine import load_engine
from aceslm.plan.files import read_run
from aceslm.run.failures import explained
from aceslm.run.shard import Outcome, run_shard
from aceslm.tracking.live import shard_tracking
from launch.ledger import Intent, WorkerOptions, read_intent
from launch.node.log_files import log_to_stdout
from launch.node.place import Place, local_place, slurm_place
from launch.prepare.dtypes import refuse_other_dtype
from launch.slurm.reconcile import memory_fraction, record_lost_attempts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShardTask:
    """The callable that is pickled for one array task."""

    root: str
    submission: int
    index: int

    def __call__(self) -> None:
        """Run this task's shards on the node, or in a worker of the local pool."""
        log_to_stdout()
        run = read_run(RunPaths(Path(self.root)))
        intent = read_intent(run.paths, self.submission)
        on_slurm = os.environ.get("SUBMITIT_EXECUTOR") == "slurm"
        place = slurm_place(intent) if on_slurm else local_place(intent, self.index)
        if place.name.restart:
            _classify_lost(run.paths, intent.tasks[self.index])
        run_task(run, intent, self.index, place)


def _classify_lost(paths: RunPaths, shard_ids: Sequence[str]) -> None:
    """Write down how earlier tries at this task died; what cannot be said now may be said later."""
    try:
        record_lost_attempts(paths, shard_ids)
    except Exception as error:
        log.warning("earlier attempts are not classified: %s", error)


@dataclass(slots=True)
class EngineCache:
    """Keeps the engines of the last shard: shards of one model and quantization share them."""

    options: WorkerOptions
    _engines: dict[tuple[object, ...], Engine] = field(default_factory=dict)
    _failed: dict[tuple[object, ...], ModelUnavailable] = field(default_factory=dict)

    def engine_for(self, cell: Cell, fraction: float) -> Engine:
        """Return a loaded engine for a cell; a model that failed to load once fails again at once.

        Args:
            fraction: of the usual batch, after attempts that ran out of memory.
        """
        key = _engine_key(cell, fraction)
        if key in self._failed:
            raise self._failed[key]
        if key not in self._engines:
            try:
                self._engines[key] = load_engine(
                    cell.model,
                    engine=self.options.engine,
                    quantization=cell.quantization,
                    dtype=cell.dtype,
                    device=self.options.device,
                    batch_size=self.options.batch_size,
                    batch_fraction=fraction,
                )
            except ModelUnavailable as error:
                self._failed[key] = error
                raise
        return self._engines[key]

    def retain(self, cell: Cell, fraction: float) -> None:
        """Close the engines that neither the cell nor a role of it uses."""
        models = (cell.model, *cell.role_models.values())
        self._close_all_but({_engine_key(replace(cell, model=model), fraction) for model in models})

    def close(self) -> None:
        """Close every engine."""
        self._close_all_but(set())

    def _close_all_but(self, keys: Set[tuple[object, ...]]) -> None:
        for key in [key for key in self._engines if key not in keys]:
            self._engines.pop(key).close()


def _engine_key(cell: Cell, fraction: float) -> tuple[object, ...]:
    return (cell.model.model_id, cell.model.revision, cell.quantization, cell.dtype, fraction)


def run_task(run: Run, intent: Intent, index: int, place: Place) -> None:
    """Run the shards of one task one after another, then leave the place, whatever happened before.

    A failing shard does not stop the others. A task that was preempted or is out of time goes back into the
    queue also where shards of it failed.

    Raises:
        WorkError: one or more shards failed; each has its own ended file.
    """
    names = intent.tasks[index]
    try:
        failures = _run_shards(run, intent, names, place)
    finally:
        place.leave()
    if failures:
        raise WorkError(f"{len(failures)} of {len(names)} shards failed; {failures[0]}")


def _run_shards(run: Run, intent: Intent, names: Sequence[str], place: Place) -> list[str]:
    """Run shards until one is stopped; return a line for each that failed."""
    engines = EngineCache(intent.options)
    tracking = shard_tracking(run)
    failures = []
    try:
        for shard_id in names:
            try:
                engine_for = _engines_of(run, shard_id, intent, engines)
                outcome = run_shard(run, run.shard(shard_id), place.worker(engine_for, tracking))
            except Exception as error:
                log.exception("shard %s failed", shard_id, extra={"shard": shard_id})
                failures.append(f"{shard_id}: {explained(error)}")
                continue
            level = logging.WARNING if outcome is Outcome.HELD else logging.INFO
            log.log(level, "shard %s: %s", shard_id, outcome.value, extra={"shard": shard_id})
            if outcome is Outcome.STOPPED:
                break
    finally:
        for close in (engines.close, tracking.close):
            try:
                close()
            except Exception as error:  # the rows are written: nothing is lost
                log.warning("while ending: %s", error)
    return failures


def _engines_of(run: Run, shard_id: str, intent: Intent, engines: EngineCache) -> Callable[[Cell], Engine]:
    """Return what gives a shard its engines; others are closed, and another dtype than before is refused."""
    fraction = memory_fraction(run.paths, shard_id)
    own = run.cell(run.shard(shard_id).cell_id)
    engines.retain(own, fraction)

    def engine_for(cell: Cell) -> Engine:
        engine = engines.engine_for(cell, fraction)
        if cell == own and not intent.allow_mixed:
            refuse_other_dtype(run, cell, engine.info.dtype)
        return engine

    return engine_for
