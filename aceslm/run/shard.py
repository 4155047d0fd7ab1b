"""run_shard(): THE loop. Units -> prompts -> completions -> records -> parts -> one verified shard file.

    outcome = run_shard(paths, plan, shard, engine_for, AttemptName("4242", 7), stop=stop)

Finished units survive everything: they are flushed as parts, read back on the next attempt and never
computed again. The shard file is written atomically, `done.json` last; the first finisher wins.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import Enum

from aceslm.ace.playbook.bullets import Playbook
from aceslm.core.digests import digest
from aceslm.core.engine import Engine
from aceslm.core.errors import EngineError, Locked
from aceslm.core.listener import NO_TRACKING, NoTracking
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.core.prompts import Completion, Prompt
from aceslm.core.record import Record
from aceslm.core.values import Cell, Plan, Sample, Shard
from aceslm.data import read_snapshot
from aceslm.plan.ranges import unit_at
from aceslm.run.answer import Asked, asked_prompts, bullets_used, carry, find_sources
from aceslm.run.attempts import Attempt, attempt_on
from aceslm.run.energy import EnergyMeter
from aceslm.run.evolution_steps import require_upstream
from aceslm.run.evolve import (
    alone,
    answer_by_rounds,
    discard_uncommitted,
    evolved_prompts,
)
from aceslm.run.failures import failure_class
from aceslm.run.metering import meter_of
from aceslm.run.parts import PartWriter, finished_units, publish_shard
from aceslm.run.rows import record_of
from aceslm.run.shard_facts import done_facts, engine_facts, spent
from aceslm.run.work import Work

log = logging.getLogger(__name__)


class Outcome(Enum):
    """How an attempt at a shard ended without an exception."""

    DONE = "done"
    ALREADY_DONE = "already done"
    PARTLY_DONE = "this rank's units are done"
    STOPPED = "stopped"
    HELD = "another worker evolves this playbook: left to it"


@dataclass(slots=True)
class StopFlag:
    """Set by signal handlers, read by the loop: nothing is interrupted in the middle of a write.

    `reason` is the failure class that the attempt ends with (`preempted`, `timeout`, `cancelled`).
    """

    reason: str | None = None

    def __call__(self) -> bool:
        return self.reason is not None


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """When finished rows become a part: after so many rows, or so many seconds, whichever is first."""

    rows: int = 64
    seconds: float = 10.0
    progress_s: float = 1.0


def run_shard(
    paths: RunPaths,
    plan: Plan,
    shard: Shard,
    engine_for: Callable[[Cell], Engine],
    name: AttemptName,
    *,
    policy: FlushPolicy | None = None,
    stop: StopFlag | None = None,
    num_ranks: int = 1,
    meter_of: Callable[[Engine], EnergyMeter] = meter_of,
    tracking: NoTracking = NO_TRACKING,
) -> Outcome:
    """Run what is missing of one shard.

    With several ranks each answers its own units (every `num_ranks`-th) and writes its own parts; the rank
    that finds all units answered publishes the shard. No gather, no single writer.

    Args:
        engine_for: returns a loaded engine for a cell; called only when there is work.
        meter_of: returns a started energy meter of an engine.
        tracking: follows the rows as they come.

    Raises:
        EngineError: the engine ended without an answer for every prompt.
    """
    stop = stop or StopFlag()
    if paths.done(shard.shard_id).exists():
        return Outcome.ALREADY_DONE
    if stop():
        return Outcome.STOPPED
    cell = plan.cell(shard.cell_id)
    if cell.evolves and name.rank:  # rounds follow one another: there is nothing to share out
        return Outcome.PARTLY_DONE
    with attempt_on(paths, shard.shard_id, name) as attempt, ExitStack() as held:
        try:
            held.enter_context(alone(paths, cell, shard, stop))
        except Locked as error:
            attempt.outcome = stop.reason or failure_class(error)
            attempt.note(message=str(error))
            return Outcome.STOPPED if stop() else Outcome.HELD
        story = held.enter_context(tracking.shard(cell, shard, name))
        work = replace(_work(paths, plan, shard, name), story=story)
        return _answered(work, plan, engine_for, attempt, policy or FlushPolicy(), stop, num_ranks, meter_of)


def _answered(
    work: Work,
    plan: Plan,
    engine_for: Callable[[Cell], Engine],
    attempt: Attempt,
    policy: FlushPolicy,
    stop: StopFlag,
    num_ranks: int,
    meter_of: Callable[[Engine], EnergyMeter],
) -> Outcome:
    """Answer what is missing of a shard, and publish it where that was all."""
    paths, cell, shard, rank = work.paths, work.cell, work.shard, work.attempt.rank
    if paths.done(shard.shard_id).exists():  # by whom this one has waited for
        return Outcome.ALREADY_DONE
    if cell.evolves:
        require_upstream(work)
        discard_uncommitted(work)
        num_ranks = 1
    finished = finished_units(paths, shard.shard_id, {unit.unit_id for unit in work.units})
    pending = [unit for unit in work.units[rank::num_ranks] if unit.unit_id not in finished]
    sources = find_sources(paths, plan, cell)  # before a model is loaded
    engine = engine_for(cell)
    playbook = carry(cell, sources, engine.count_tokens)
    attempt.note(engine=engine_facts(engine))
    attempt.meter = meter_of(engine)
    started, prefilled_s = time.perf_counter(), engine.counters.shared_prefill_s
    if cell.evolves:
        complete = answer_by_rounds(work, _role_engines(cell, engine_for), attempt, stop)
    else:
        asked = asked_prompts(work, pending, playbook)
        complete = _generate(work, asked, playbook, engine, attempt, policy, stop)
    timings = {
        "generate_s": time.perf_counter() - started,
        "rows_generated": len(pending),
        "shared_prefill_s": engine.counters.shared_prefill_s - prefilled_s,
        **spent(work, engine, attempt.meter),
    }
    attempt.note(timings=timings)
    work.story.note(timings)
    if not complete and not paths.done(shard.shard_id).exists():
        attempt.outcome = stop.reason or "unknown"
        return Outcome.STOPPED
    if num_ranks > 1 and not _all_answered(work):
        return Outcome.PARTLY_DONE
    prompts = evolved_prompts(work, engine) if cell.evolves else _prompt_texts(engine, work, playbook)
    facts = {"timings": timings, **done_facts(cell, engine)}
    publish_shard(paths, cell, shard, [unit.unit_id for unit in work.units], prompts, facts)
    return Outcome.DONE


def _role_engines(cell: Cell, engine_for: Callable[[Cell], Engine]) -> Callable[[str], Engine]:
    """Return what gives each role its engine: that of the cell, or of the model that the role has."""

    def engine_for_role(role: str) -> Engine:
        return engine_for(replace(cell, model=cell.role_models.get(role, cell.model)))

    return engine_for_role


def _all_answered(work: Work) -> bool:
    wanted = {unit.unit_id for unit in work.units}
    done = work.paths.done(work.shard.shard_id).exists()
    return done or len(finished_units(work.paths, work.shard.shard_id, wanted)) == len(wanted)


def _work(paths: RunPaths, plan: Plan, shard: Shard, name: AttemptName) -> Work:
    cell = plan.cell(shard.cell_id)
    sample_ids = plan.task(cell.task_digest).sample_ids
    units = tuple(unit_at(cell, sample_ids, index) for index in shard.indices())
    wanted = {unit.sample_id for unit in units}
    samples = {
        sample.sample_id: sample
        for sample in read_snapshot(paths.task(cell.task_digest))
        if sample.sample_id in wanted
    }
    return Work(paths, cell, shard, name, units, samples, _validation_samples(paths, cell))


def _validation_samples(paths: RunPaths, cell: Cell) -> tuple[Sample, ...]:
    """Return the samples that the gate and candidates of an evolution may ask."""
    if not cell.validate_digest:
        return ()
    return read_snapshot(paths.task(cell.validate_digest))[: cell.ace["validate_samples"]]


def _generate(
    work: Work,
    asked: Sequence[Asked],
    playbook: Playbook | None,
    engine: Engine,
    attempt: Attempt,
    policy: FlushPolicy,
    stop: StopFlag,
) -> bool:
    """Answer and record what is asked; return whether every unit of it has a row now."""
    writer = _Flushing(work, attempt, policy, already=len(work.units) - len(asked))
    by_request = {one.prompt.request_id: one for one in asked}
    prompts = [one.prompt for one in asked]

    def should_stop() -> bool:
        return stop() or writer.finished_elsewhere

    with writer:
        for completion in _answers(engine, prompts, work.cell, should_stop):
            one = by_request.pop(completion.request_id)
            # the digest of the exact text that the model saw
            record = record_of(work, one.unit, completion, engine, digest(engine.render(one.prompt)))
            writer.append(record if playbook is None else _carrying(record, playbook, one))
    if by_request and not should_stop():
        raise EngineError(f"the engine returned no answer for {len(by_request)} of {len(asked)} prompts")
    return not by_request


def _carrying(record: Record, playbook: Playbook, asked: Asked) -> Record:
    """Add to a row what its prompt carried; the playbook never learnt from a sample that it answers."""
    used = bullets_used(playbook, asked, record.raw_output or "")
    return replace(record, playbook_version=playbook.version, bullets_used=used, seen=False)


def _answers(
    engine: Engine, prompts: Sequence[Prompt], cell: Cell, should_stop: Callable[[], bool]
) -> Iterator[Completion]:
    if prompts:
        yield from engine.generate(prompts, cell.generation, should_stop)


@dataclass(slots=True)
class _Flushing:
    """Collects records and flushes them as parts by the policy; always flushes on the way out."""

    work: Work
    attempt: Attempt
    policy: FlushPolicy
    already: int
    finished_elsewhere: bool = False
    _parts: PartWriter = field(init=False)
    _generated: int = 0
    _correct: int = 0
    _last_flush: float = field(default_factory=time.monotonic)
    _last_progress: float = 0.0

    def __post_init__(self) -> None:
        self._parts = PartWriter(self.work.paths, self.work.shard.shard_id, self.work.attempt)

    def __enter__(self) -> _Flushing:
        self._report()
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._report()

    def append(self, record: Record) -> None:
        self._parts.append(record)
        self.work.story.row(record)
        self._generated += 1
        self._correct += record.correct
        now, meter = time.monotonic(), self.attempt.meter
        enough = len(self._parts) >= self.policy.rows and (meter is None or meter.ready)
        if enough or now - self._last_flush >= self.policy.seconds:
            self._flush()
        if now - self._last_progress >= self.policy.progress_s:
            self._report()

    def _flush(self) -> None:
        self.finished_elsewhere = self.work.paths.done(self.work.shard.shard_id).exists()
        self._last_flush = time.monotonic()
        if self.finished_elsewhere:
            log.warning("shard %s was finished by another worker", self.work.shard.shard_id)
            return
        try:
            joules = self.attempt.joules() if len(self._parts) else None
            self._parts.flush(joules)
            self.work.story.spent(joules)
        except FileNotFoundError:  # the finisher deleted the folder of parts under this write
            self.finished_elsewhere = self.work.paths.done(self.work.shard.shard_id).exists()
            if not self.finished_elsewhere:
                raise

    def _report(self) -> None:
        self._last_progress = time.monotonic()
        done = self.already + self._generated
        self.attempt.note(rows_done=done, scored=self._generated, correct=self._correct)
        self.attempt.progress(done, len(self.work.units), self._generated, self._correct)
        self.work.story.progress(done)


def _prompt_texts(engine: Engine, work: Work, playbook: Playbook | None) -> Iterator[tuple[str, str]]:
    for one in asked_prompts(work, work.units, playbook):
        text = engine.render(one.prompt)
        yield digest(text), text
