"""The other way to answer a shard: a playbook evolves while it answers; step by step, resumable.

    method = EvolvePlaybook(work)             # UpstreamMissing before a model is loaded
    complete = method.answer(engine, sink)    # the steps that are not committed yet

A step is the unit of commitment: its rows (one part), its role calls and the next playbook version are
written first, `state.json` last (`evolution_journal`). What that does not name is thrown away and computed
again. Samples are answered before their gold answers may reach the Reflector; from the second epoch on they
are `seen`. One worker plays all steps in one shard. Of several each evolves from the playbook that the epoch
began with, in a folder of its own; a merge shard ends the epoch: its steps are the merge, the gate and, at
last, the comparison with the first version.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from aceslm.ace.evolution import GENERATOR, ROLES, Answer, Evolution, StepOutcome, Stopped
from aceslm.ace.gate import GateLedger
from aceslm.ace.generator import generator_prompts
from aceslm.ace.playbook.bullets import Playbook
from aceslm.ace.round import play_round
from aceslm.ace.validation import compared_with_first, gated
from aceslm.core.digests import digest
from aceslm.core.engine import Engine
from aceslm.core.errors import CorruptRun
from aceslm.core.files import STALE_LOCK_S, locked, seen_alive
from aceslm.core.parquet import read_results
from aceslm.core.record import Record
from aceslm.core.run import Run
from aceslm.core.values import Shard
from aceslm.run.evolution_state import State, StepNote
from aceslm.run.evolution_steps import (
    FINAL,
    GATE,
    MERGE,
    ROUND,
    Step,
    journal_of,
    merged,
    planned_steps,
    require_upstream,
    starting,
)
from aceslm.run.parts import part_files
from aceslm.run.rows import record_of
from aceslm.run.sink import RowSink
from aceslm.run.work import StopFlag, Work

log = logging.getLogger(__name__)

_SILENCE_S = 120.0  # beyond the time after which a lock is stale


class EvolvePlaybook:
    """Plays the steps of a shard that are not committed yet."""

    most_ranks: int | None = 1  # rounds follow one another: there is nothing to share out

    def __init__(self, work: Work) -> None:
        """Check what the shard builds on, and throw away what was not committed.

        Raises:
            UpstreamMissing: the epoch before is not merged yet, or a worker has not ended its share.
            CorruptRun: `state.json` is damaged.
        """
        self._work = work
        self._journal = journal_of(work.run.paths, work.cell, work.shard)
        require_upstream(work)
        self._steps = planned_steps(work)
        self._discard_uncommitted()
        state = self._journal.state()
        self._cursor = state.cursor if state else 0

    @staticmethod
    @contextmanager
    def alone(run: Run, shard: Shard, stop: StopFlag) -> Iterator[None]:
        """Keep a second task off the same evolution.

        Where the lock is held, this waits until its holder is known to live (then there is nothing to do
        here) or to be dead (then this one goes on in its place).

        Raises:
            Locked: another task evolves this playbook, or `stop` came first.
        """
        folder = journal_of(run.paths, run.cell(shard.cell_id), shard).folder
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / ".lock"
        lives = seen_alive(lock)
        purpose, patience_s = f"the evolution of {shard.cell_id}", STALE_LOCK_S + _SILENCE_S
        with locked(lock, purpose, patience_s, give_up=lambda: stop() or lives()):
            yield

    def begin(self, engine: Engine) -> None:
        """The playbook is read when the first step is played."""

    @property
    def num_finished(self) -> int:
        """Units of the shard that were answered before this attempt."""
        return sum(len(step.work) for step in self._steps[: self._cursor])

    def answer(self, engine: Engine, sink: RowSink) -> bool:
        """Play what is left; return whether all steps are committed.

        Raises:
            EngineError: the engine ended without an answer for every prompt.
            CorruptRun: a committed playbook version is not the one that `state.json` names.
        """
        work, evolution = self._work, self._evolution()
        state, playbook = self._resumed(evolution)
        for step in self._steps[state.cursor :]:
            if work.worker.stop() or work.is_published:
                return False
            try:
                outcome = self._play(evolution, state, playbook, step)
            except Stopped:
                return False
            role_s = evolution.spent.take()
            for answer in outcome.answers:
                sink.keep(_record(work, evolution.engine, answer, playbook.version))
            sink.flush(_answering_j(sink.attempt.joules(), role_s))
            playbook = outcome.playbook
            state = _after(state, step, outcome, role_s)
            self._journal.commit(state, playbook, _note(evolution, step, outcome), outcome.calls)
            sink.report()
        if state.ended:
            self._journal.close()
        return True

    def is_complete(self) -> bool:
        """Whether every unit is answered: where all steps are committed it is."""
        return True

    def prompts(self, engine: Engine) -> Iterator[tuple[str, str]]:
        """Yield digest and text of every Generator prompt, from the committed playbook versions."""
        cell, state = self._work.cell, self._journal.state()
        first = state.version - len(self._steps) if state else 0  # all steps are committed by now
        for number, step in enumerate(self._steps, start=first):
            if not step.work:
                continue
            playbook = self._journal.playbook(number)
            for prompt, _ in generator_prompts(cell, cell.playbook_settings, playbook, step.work):
                text = engine.render(prompt)
                yield digest(text), text

    def overhead(self) -> Mapping[str, Any]:
        """Return what evolving cost so far: seconds, calls and unreadable replies of each role.

        `relative_cost` is the time of one adapted sample relative to its answer alone.
        """
        state = self._journal.state()
        role_s = dict(state.role_s) if state else {}
        calls, failures = Counter[str](), Counter[str]()
        for call in self._journal.calls():
            calls[call.role] += 1
            failures[call.role] += call.parsed is False
        answering_s = role_s.get(GENERATOR, 0.0)
        ledger = {name: asdict(one) for name, one in state.ledger.items()} if state else {}
        return {
            "role_s": role_s,
            "role_calls": {role: calls[role] for role in ROLES},
            "parse_failures": {role: failures[role] for role in ROLES if role != GENERATOR},
            "validation": ledger,
            "relative_cost": sum(role_s.values()) / answering_s if answering_s else None,
        }

    def _evolution(self) -> Evolution:
        work = self._work
        place = "" if work.shard.worker is None else self._journal.folder.name
        return Evolution(
            work.cell,
            work.cell.playbook_settings,
            work.engine_for_role,
            work.worker.stop,
            work.validate,
            place,
        )

    def _resumed(self, evolution: Evolution) -> tuple[State, Playbook]:
        """Return what is committed; before the first step, what the evolution starts with."""
        state = self._journal.state()
        if state is None:
            playbook = starting(self._work, evolution)
            self._journal.start(playbook, evolution.engine.count_tokens(playbook.render()))
            seed, number = self._work.cell.seed, playbook.version
            state = State(seed, number, playbook.digest, playbook.next_number, accepted=number)
        return state, self._journal.committed(state)

    def _play(self, evolution: Evolution, state: State, playbook: Playbook, step: Step) -> StepOutcome:
        """Play one step.

        Raises:
            Stopped, EngineError, UpstreamMissing: see `answer`.
        """
        if step.kind == ROUND:
            return play_round(
                evolution, playbook, step.work, state.pending, curate=step.curate, scored=step.scored
            )
        if step.kind == MERGE:
            return StepOutcome(merged(self._work, evolution, playbook))
        if step.kind == GATE:
            before = self._journal.playbook(state.accepted)
            after, trial = gated(evolution, before, playbook)
        else:
            after, trial = compared_with_first(evolution, self._journal.playbook(0), playbook)
        log.info("%s, epoch %d: %s %s", self._work.cell.cell_id, step.epoch, step.kind, trial.reason)
        return StepOutcome(after, pending=state.pending, trial=trial)

    def _discard_uncommitted(self) -> None:
        """Delete the parts of rounds that were not committed: they are computed again."""
        work, state = self._work, self._journal.state()
        steps = self._steps[: state.cursor if state else 0]
        committed = {unit.unit_id for step in steps for unit, _ in step.work}
        held: set[str] = set()
        for path in part_files(work.run.paths, work.shard.shard_id):
            try:
                units = set(read_results(path, ["unit_id"]).column("unit_id").to_pylist())
            except CorruptRun as error:
                log.warning("%s", error)
                continue
            if units <= committed:
                held |= units
            else:
                path.unlink(missing_ok=True)
        if committed - held and not work.is_published:
            # a shard withdrawn as corrupt, or a damaged part: what was learnt from its rows goes with them
            log.warning("rows of committed rounds of %s are gone: it evolves again", work.cell.cell_id)
            self._journal.forget()
            for path in part_files(work.run.paths, work.shard.shard_id):
                path.unlink(missing_ok=True)


def _answering_j(joules: float | None, role_s: Mapping[str, float]) -> float | None:
    """Return what the answers of a step have of its energy: the Generator's share of the roles' time."""
    total_s = sum(role_s.values())
    return None if joules is None or not total_s else joules * role_s.get(GENERATOR, 0.0) / total_s


def _record(work: Work, engine: Engine, answer: Answer, version: int) -> Record:
    text = engine.render(answer.prompt)
    record = record_of(work, answer.unit, answer.completion, engine, digest(text))
    return replace(
        record,
        playbook_version=version,
        bullets_used=answer.used,
        seen=answer.unit.epoch > 0,
        reflected=answer.reflection_ms is not None,
        reflection_latency_ms=answer.reflection_ms,
    )


def _after(state: State, step: Step, outcome: StepOutcome, role_s: Mapping[str, float]) -> State:
    """Return the state with one more step in it."""
    playbook, trial = outcome.playbook, outcome.trial
    ledger = dict(state.ledger)
    if trial is not None:
        asked = ledger.get(trial.purpose, GateLedger())
        comparisons = len(trial.pairs)
        ledger[trial.purpose] = asked.after(trial.accepted, comparisons=comparisons, queries=trial.queries)
    total_s = dict(state.role_s)
    for role, seconds in role_s.items():
        total_s[role] = total_s.get(role, 0.0) + seconds
    return replace(
        state,
        version=playbook.version,
        playbook_digest=playbook.digest,
        next_number=playbook.next_number,
        accepted=playbook.version if step.kind in {GATE, FINAL} else state.accepted,
        cursor=state.cursor + 1,
        epoch=step.epoch,
        epochs=(*state.epochs, playbook.version) if step.ends_epoch else state.epochs,
        ended=step.ends,
        pending=outcome.pending,
        ledger=ledger,
        role_s=total_s,
    )


def _note(evolution: Evolution, step: Step, outcome: StepOutcome) -> StepNote:
    playbook, trial = outcome.playbook, outcome.trial
    return StepNote(
        version=playbook.version,
        kind=step.kind,
        epoch=step.epoch,
        tokens=evolution.engine.count_tokens(playbook.render()),
        bullets=len(playbook.shown),
        decision=trial.reason if trial else "",
        accepted=trial.accepted if trial else None,
    )
