"""run_shard(): THE loop. Units -> prompts -> completions -> records -> parts -> one verified shard file.

    outcome = run_shard(run, shard, Worker(AttemptName("4242", 7), engine_for, stop))

Finished units survive everything: they are flushed as parts, read back on the next attempt and never
computed again. The shard file is written atomically, `done.json` last; the first finisher wins.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, Protocol

from aceslm.core.engine import Engine
from aceslm.core.run import Run
from aceslm.core.values import Shard
from aceslm.run.answer import AnswerUnits
from aceslm.run.attempts import Attempt, attempt_on, peak_memory_bytes
from aceslm.run.evolve import EvolvePlaybook
from aceslm.run.published import is_published, publish_shard
from aceslm.run.sink import RowSink
from aceslm.run.work import Work, Worker, work_on


class Outcome(Enum):
    """How an attempt at a shard ended without an exception."""

    DONE = "done"
    ALREADY_DONE = "already done"
    PARTLY_DONE = "this rank's units are done"
    STOPPED = "stopped"


class Method(Protocol):
    """How a shard is answered: unit by unit, or by a playbook that evolves. Made from a `Work`.

    Making one raises UpstreamMissing where what the shard builds on is not there. `most_ranks` ranks can
    share a shard; None: any number.
    """

    most_ranks: int | None

    def __init__(self, work: Work) -> None: ...

    @staticmethod
    def alone(run: Run, shard: Shard) -> AbstractContextManager[None]:
        """Keep others off, where two at once would do harm."""

    @property
    def num_pending(self) -> int:
        """Units that this attempt has to answer."""

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
        Locked: another task evolves the same playbook.
    """
    if is_published(run.paths, shard.shard_id):
        return Outcome.ALREADY_DONE
    if worker.stop():
        return Outcome.STOPPED
    cell = run.cell(shard.cell_id)
    method_of: type[Method] = EvolvePlaybook if cell.evolves else AnswerUnits
    if method_of.most_ranks is not None and worker.name.rank >= method_of.most_ranks:
        return Outcome.PARTLY_DONE
    with (
        attempt_on(run.paths, shard.shard_id, worker.name) as attempt,
        method_of.alone(run, shard),
        worker.tracking.shard(cell, shard, worker.name) as story,
    ):
        work = work_on(run, shard, worker, story)
        method = method_of(work)
        engine = worker.engine_for(cell)
        attempt.begin(_engine_facts(engine), worker.meter_of(engine))
        complete, timings = _answered(method, work, engine, attempt)
        if not complete and not work.is_published:
            attempt.outcome = worker.stop.reason or "unknown"
            return Outcome.STOPPED
        if not method.is_complete():
            return Outcome.PARTLY_DONE
        publish_shard(work, method.prompts(engine), timings)
    return Outcome.DONE


def _answered(method: Method, work: Work, engine: Engine, attempt: Attempt) -> tuple[bool, Mapping[str, Any]]:
    """Answer what is missing; return whether all of it is, and what it took."""
    pending = method.num_pending
    began, prefilled_s = time.perf_counter(), engine.counters.shared_prefill_s
    with RowSink(work, attempt, already=len(work.units) - pending) as sink:
        complete = method.answer(engine, sink)
    timings = {
        "generate_s": time.perf_counter() - began,
        "rows_generated": pending,
        "shared_prefill_s": engine.counters.shared_prefill_s - prefilled_s,
        **method.overhead(),
        "load_s": engine.info.load_s,
        "token_budget_fraction": engine.counters.token_budget_fraction,
        "peak_memory_bytes": peak_memory_bytes(),
        "accelerator_peak_bytes": _accelerator_peak_bytes(engine),
        **(attempt.meter.figures() if attempt.meter else {}),
    }
    attempt.note(timings=timings)
    work.story.note(timings)
    return complete, timings


def _accelerator_peak_bytes(engine: Engine) -> int | None:
    if not engine.info.device.startswith("cuda"):
        return None
    from aceslm.engine.devices import accelerator_peak_bytes

    return accelerator_peak_bytes()


def _engine_facts(engine: Engine) -> dict[str, object]:
    info = engine.info
    return {
        "engine": info.engine_effective,
        "device": info.device,
        "dtype": info.dtype,
        "quantization": info.quantization,
        "determinism": info.determinism,
        "footprint_bytes": info.footprint_bytes,
    }
