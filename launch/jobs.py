"""What runs on a node. A job carries a path and two numbers; the rest is read from the run directory."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aceslm.engine import Engine, load_engine
from aceslm.errors import ModelUnavailable, WorkError
from aceslm.paths import RunPaths
from aceslm.plan import require_plans
from aceslm.records import Cell
from aceslm.shard import Outcome, run_shard
from launch.ledger import Intent, WorkerOptions, read_intent
from launch.reconcile import memory_fraction, record_lost_attempts
from launch.worker import Place, local_place, slurm_place

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
        paths = RunPaths(Path(self.root))
        intent = read_intent(paths, self.submission)
        on_slurm = os.environ.get("SUBMITIT_EXECUTOR") == "slurm"
        place = slurm_place(intent) if on_slurm else local_place(intent, self.index)
        if place.name.restart:
            record_lost_attempts(paths, intent.tasks[self.index])
        run_task(paths, intent, self.index, place)
        place.leave()


@dataclass(slots=True)
class EngineCache:
    """Keeps the last loaded engine: shards of one model and quantization share it."""

    options: WorkerOptions
    _key: tuple[object, ...] | None = None
    _engine: Engine | None = None
    _failed: dict[tuple[object, ...], ModelUnavailable] = field(default_factory=dict)

    def engine_for(self, cell: Cell, fraction: float) -> Engine:
        """Return a loaded engine for a cell; a model that failed to load once fails again at once.

        Args:
            fraction: of the usual batch, after attempts that ran out of memory.
        """
        key = (cell.model.model_id, cell.model.revision, cell.quantization, cell.dtype, fraction)
        if key in self._failed:
            raise self._failed[key]
        if self._engine is None or key != self._key:
            self.close()
            try:
                self._engine = load_engine(
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
            self._key = key
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine = None


def run_task(paths: RunPaths, intent: Intent, index: int, place: Place) -> None:
    """Run the shards of one task, one after another; a failing shard does not stop the others.

    Raises:
        WorkError: one or more shards failed; each has its own ended file.
    """
    plans = require_plans(paths)
    by_id = {shard.shard_id: (plan, shard) for plan in plans for shard in plan.shards}
    engines = EngineCache(intent.options)
    failures = []
    for shard_id in intent.tasks[index]:
        plan, shard = by_id[shard_id]
        engine_for = partial(engines.engine_for, fraction=memory_fraction(paths, shard_id))
        try:
            outcome = run_shard(
                paths,
                plan,
                shard,
                engine_for,
                place.name,
                policy=place.policy,
                stop=place.stop,
                num_ranks=place.num_ranks,
            )
        except Exception as error:
            log.exception("shard %s failed", shard_id)
            failures.append(f"{shard_id}: {error}")
            continue
        log.info("shard %s: %s", shard_id, outcome.value)
        if outcome is Outcome.STOPPED:
            break
    engines.close()
    if failures:
        raise WorkError(f"{len(failures)} of {len(intent.tasks[index])} shards failed; {failures[0]}")


def log_to_stdout() -> None:
    """Send the log of a job to its scheduler log file."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
