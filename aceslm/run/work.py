"""What one attempt at a shard works on, and who works: values that the ways of answering share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from aceslm.core.engine import Engine
from aceslm.core.listener import NO_STORY, NO_TRACKING, NoStory, NoTracking
from aceslm.core.paths import AttemptName
from aceslm.core.run import Run
from aceslm.core.values import Cell, Sample, Shard, Unit
from aceslm.core.words import FailureClass
from aceslm.data import read_snapshot
from aceslm.plan.ranges import unit_at
from aceslm.run.energy import EnergyMeter
from aceslm.run.metering import meter_of


@dataclass(slots=True)
class StopFlag:
    """Set by signal handlers, read by the loop: nothing is interrupted in the middle of a write.

    `reason` is the failure class that the attempt ends with (`preempted`, `timeout`, `cancelled`).
    """

    reason: FailureClass | None = None

    def __call__(self) -> bool:
        return self.reason is not None


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """When finished rows become a part: after so many rows, or so many seconds, whichever is first."""

    rows: int = 64
    seconds: float = 10.0
    progress_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Worker:
    """Who works on shards, and how.

    Attributes:
        engine_for: returns a loaded engine for a cell; called only when there is work.
        num_ranks: processes that share the shard; each answers every `num_ranks`-th unit.
        meter_of: returns a started energy meter of an engine.
        tracking: follows the rows as they come.
    """

    name: AttemptName
    engine_for: Callable[[Cell], Engine]
    stop: StopFlag = field(default_factory=StopFlag)
    policy: FlushPolicy = FlushPolicy()
    num_ranks: int = 1
    meter_of: Callable[[Engine], EnergyMeter] = meter_of
    tracking: NoTracking = NO_TRACKING


@dataclass(frozen=True, slots=True)
class Work:
    """What one shard needs, looked up once: its units in order and their samples.

    `validate` holds the samples that the gate and candidates may be scored on; `story` follows the rows.
    """

    run: Run
    cell: Cell
    shard: Shard
    worker: Worker
    units: tuple[Unit, ...]
    samples: Mapping[str, Sample]
    validate: tuple[Sample, ...] = ()
    story: NoStory = NO_STORY

    @property
    def is_published(self) -> bool:
        """Whether the shard is done, by whomever."""
        return self.run.paths.done(self.shard.shard_id).exists()

    def engine_for_role(self, role: str) -> Engine:
        """Return the engine of a role: that of the cell, or of the model that the role has."""
        model = self.cell.role_models.get(role, self.cell.model)
        return self.worker.engine_for(replace(self.cell, model=model))


def work_on(run: Run, shard: Shard, worker: Worker, story: NoStory) -> Work:
    """Read what a shard needs.

    Raises:
        CorruptRun: the snapshot of its task is damaged.
    """
    cell = run.cell(shard.cell_id)
    sample_ids = run.task(cell.task_digest).sample_ids
    units = tuple(unit_at(cell, sample_ids, index) for index in shard.indices())
    wanted = {unit.sample_id for unit in units}
    samples = {
        sample.sample_id: sample
        for sample in read_snapshot(run.paths.task(cell.task_digest))
        if sample.sample_id in wanted
    }
    return Work(run, cell, shard, worker, units, samples, _validation_samples(run, cell), story)


def _validation_samples(run: Run, cell: Cell) -> tuple[Sample, ...]:
    """Return the samples that the gate and candidates of an evolution may ask."""
    if not cell.validate_digest:
        return ()
    samples = read_snapshot(run.paths.task(cell.validate_digest))
    return samples[: cell.playbook_settings.validate_samples]
