"""run_shard(): THE loop. Units -> prompts -> completions -> records -> parts -> one verified shard file.

    outcome = run_shard(run, shard, Worker(AttemptName("4242", 7), engine_for, stop))

Finished units survive everything: they are flushed as parts, read back on the next attempt and never
computed again. The shard file is written atomically, `done.json` last; the first finisher wins.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from enum import Enum
from typing import Any, Protocol

from aceslm.core.engine import Engine
from aceslm.core.errors import Locked
from aceslm.core.run import Run
from aceslm.core.values import Shard
from aceslm.run.answer import AnswerUnits
from aceslm.run.attempts import Attempt, attempt_on
from aceslm.run.done import is_published
from aceslm.run.evolve import EvolvePlaybook
from aceslm.run.failures import failure_class
from aceslm.run.published import publish_shard
from aceslm.run.shard_facts import done_facts, engine_facts, spent
from aceslm.run.sink import RowSink
from aceslm.run.work import StopFlag, Work, Worker, work_on


class Outcome(Enum):
    """How an attempt at a shard ended without an exception."""

    DONE = "done"
    ALREADY_DONE = "already done"
    PARTLY_DONE = "this rank's units are done"
    STOPPED = "stopped"
    HELD = "another worker evolves this playbook: left to it"


class Method(Protocol):
    """How a shard is answered: unit by unit, or by a playbook that evolves. Made from a `Work`.

    Making one raises UpstreamMissing where what the shard builds on is not there. `most_ranks` ranks can
    share a shard; None: any number.
    """

    most_ranks: int | None

    def __init__(self, work: Work) -> None: ...

    @staticmethod
    def alone(run: Run, shard: Shard, stop: StopFlag) -> AbstractContextManager[None]:
        """Keep others off, where two at once would do harm; raises Locked where another one is at it."""

    def begin(self, engine: Engine) -> None:
        """Make what is made once, and is no answering: neither its time nor its energy counts as such."""

    @property
    def num_finished(self) -> int:
        """Units of the shard that were answered before this attempt, by whichever rank."""

    def answer(self, engine: Engine, sink: RowSink) -> bool:
        """Answer what is missing; return False if stopped before the end."""

    def is_complete(self) -> bool:
        """Whether all ranks together have answered every unit."""

    def prompts(self, engine: Engine) -> Iterator[tuple[str, str]]:
        """Yield digest and text of every prompt of the shard."""

    def overhead(self) -> Mapping[str, Any]:
        """Return what came on top of the answers."""


def run_shard(run: Run, shard: Shard, worker: Worker) -> Outcome:
    """Run what is missing of one shard.

    With several ranks each answers its own units (every `num_ranks`-th) and writes its own parts; the rank
    that finds all units answered publishes the shard. No gather, no single writer.

    Raises:
        EngineError: the engine ended without an answer for every prompt.
        UpstreamMissing: the playbook that the shard builds on is not there.
    """
    if is_published(run.paths, shard.shard_id):
        return Outcome.ALREADY_DONE
    if worker.stop():
        return Outcome.STOPPED
    cell = run.cell(shard.cell_id)
    method_of: type[Method] = EvolvePlaybook if cell.evolves else AnswerUnits
    if method_of.most_ranks is not None and worker.name.rank >= method_of.most_ranks:
        return Outcome.PARTLY_DONE
    with attempt_on(run.paths, shard.shard_id, worker.name) as attempt, ExitStack() as held:
        try:
            held.enter_context(method_of.alone(run, shard, worker.stop))
        except Locked as error:
            attempt.outcome = worker.stop.reason or failure_class(error)
            attempt.note(message=str(error))
            return Outcome.STOPPED if worker.stop() else Outcome.HELD
        story = held.enter_context(worker.tracking.shard(cell, shard, worker.name))
        return _attempted(method_of, work_on(run, shard, worker, story), attempt)


def _attempted(method_of: type[Method], work: Work, attempt: Attempt) -> Outcome:
    """Answer what is missing of a shard, and publish it where that was all."""
    if work.is_published:  # by whom this one has waited for
        return Outcome.ALREADY_DONE
    worker, method = work.worker, method_of(work)
    engine = worker.engine_for(work.cell)
    method.begin(engine)
    meter = worker.meter_of(engine)
    attempt.begin(engine_facts(engine), meter)
    complete, took = _answered(method, work, engine, attempt)
    timings = {**took, **spent(engine, meter)}
    attempt.note(timings=timings)
    work.story.note(timings)
    if not complete and not work.is_published:
        attempt.outcome = worker.stop.reason or "unknown"
        return Outcome.STOPPED
    if not method.is_complete():
        return Outcome.PARTLY_DONE
    publish_shard(work, method.prompts(engine), {"timings": timings, **done_facts(work.cell, engine)})
    return Outcome.DONE


def _answered(method: Method, work: Work, engine: Engine, attempt: Attempt) -> tuple[bool, Mapping[str, Any]]:
    """Answer what is missing; return whether all of it is, and what it took."""
    began, prefilled_s = time.perf_counter(), engine.counters.shared_prefill_s
    with RowSink(work, attempt, already=method.num_finished) as sink:
        complete = method.answer(engine, sink)
    timings = {
        "generate_s": time.perf_counter() - began,
        "rows_generated": sink.generated,
        "shared_prefill_s": engine.counters.shared_prefill_s - prefilled_s,
        **method.overhead(),
    }
    return complete, timings
