"""Shards that evolve a playbook: rounds, the merge of several workers, the gate; step by step, resumable.

    discard_uncommitted(work)
    complete = answer_by_rounds(work, engine_for_role, attempt, stop)

A step is the unit of commitment: its rows (one part), its role calls and the next playbook version are
written first, `state.json` last (`evolution_journal`). What that does not name is thrown away and computed
again. Samples are answered before their gold answers may reach the Reflector; from the second epoch on they
are `seen`. One worker plays all steps in one shard. Of several each evolves from the playbook that the epoch
began with, in a folder of its own; a merge shard ends the epoch: its steps are the merge, the gate and, at
last, the comparison with the first version.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from aceslm.ace.evolution import GENERATOR, Answer, Evolution, StepOutcome, Stopped
from aceslm.ace.gate import GateLedger
from aceslm.ace.generator import generator_prompts
from aceslm.ace.playbook.bullets import Playbook
from aceslm.ace.round import play_round
from aceslm.ace.validation import compared_with_first, gated
from aceslm.core.ace_config import AceConfig
from aceslm.core.digests import digest
from aceslm.core.engine import Engine
from aceslm.core.errors import CorruptRun
from aceslm.core.files import STALE_LOCK_S, locked, seen_alive
from aceslm.core.parquet import read_results
from aceslm.core.paths import RunPaths
from aceslm.core.record import Record
from aceslm.core.values import Cell, Shard
from aceslm.run.attempts import Attempt
from aceslm.run.evolution_journal import Journal, State, StepNote
from aceslm.run.evolution_steps import (
    FINAL,
    GATE,
    MERGE,
    ROUND,
    Step,
    journal_of,
    merged,
    planned_steps,
    starting,
)
from aceslm.run.parts import PartWriter, part_files
from aceslm.run.rows import record_of
from aceslm.run.work import Work

log = logging.getLogger(__name__)

_SILENCE_S = 120.0  # beyond the time after which a lock is stale

EngineForRole = Callable[[str], Engine]


@contextmanager
def alone(
    paths: RunPaths, cell: Cell, shard: Shard, stop: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Keep a second task off the same evolution; cells that do not evolve need no such care.

    Where the lock is held, this waits until its holder is known to live (then there is nothing to do here) or
    to be dead (then this one goes on in its place).

    Raises:
        Locked: another task evolves this playbook, or `stop` came first.
    """
    if not cell.evolves:
        yield
        return
    folder = journal_of(paths, cell, shard).folder
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    lives = seen_alive(lock)
    patience_s = STALE_LOCK_S + _SILENCE_S
    purpose = f"the evolution of {cell.cell_id}"
    with locked(lock, purpose, patience_s, give_up=lambda: stop() or lives()):
        yield


def answer_by_rounds(
    work: Work, engine_for_role: EngineForRole, attempt: Attempt, stop: Callable[[], bool]
) -> bool:
    """Play the steps of a shard that are not committed yet; return whether all are.

    Raises:
        EngineError: the engine ended without an answer for every prompt.
        CorruptRun: a committed playbook version is not the one that `state.json` names.
        UpstreamMissing: what the shard builds on is not there.
    """
    evolution = _evolution(work, engine_for_role, stop)
    journal = _journal(work)
    steps = planned_steps(work)
    state, playbook = _resumed(work, evolution, journal)
    done = sum(len(step.work) for step in steps[: state.cursor])
    generated = 0
    attempt.progress(done, len(work.units), generated)
    for step in steps[state.cursor :]:
        if stop() or work.paths.done(work.shard.shard_id).exists():
            return False
        try:
            played = _play(work, evolution, journal, state, playbook, step)
        except Stopped:
            return False
        joules = _answering_j(attempt.joules(), played)
        _write_rows(work, evolution.engine, played.answers, playbook.version, joules)
        playbook = played.playbook
        state = _after(state, step, played)
        journal.commit(state, playbook, _note(evolution, step, played), played.calls)
        generated += len(step.work)
        attempt.note(rows_done=done + generated)
        attempt.progress(done + generated, len(work.units), generated)
        work.story.progress(done + generated)
    if state.ended:
        journal.close()
    return True


def final_playbook(paths: RunPaths, cell: Cell, epoch: int = 0) -> Playbook | None:
    """Return the playbook that an evolution ended with; None while it has not ended.

    Args:
        epoch: the epoch, from 1, whose playbook is wanted in its place.

    Raises:
        CorruptRun: the version is not the one that `state.json` names.
    """
    journal = Journal(paths.playbooks(cell.cell_id))
    state = journal.state()
    if state is None or not state.ended:
        return None
    return journal.playbook(state.epochs[epoch - 1]) if epoch else journal.committed(state)


def discard_uncommitted(work: Work) -> None:
    """Delete the parts of rounds that were not committed: a later attempt computes them again."""
    journal = _journal(work)
    state = journal.state()
    steps = planned_steps(work)[: state.cursor if state else 0]
    committed = {unit.unit_id for step in steps for unit, _ in step.work}
    held: set[str] = set()
    for path in part_files(work.paths, work.shard.shard_id):
        try:
            units = set(read_results(path, ["unit_id"]).column("unit_id").to_pylist())
        except CorruptRun as error:
            log.warning("%s", error)
            continue
        if units <= committed:
            held |= units
        else:
            path.unlink(missing_ok=True)
    if committed - held and not work.paths.done(work.shard.shard_id).exists():
        # a shard withdrawn as corrupt, or a damaged part: what was learnt from its rows goes with them
        log.warning("rows of committed rounds of %s are gone: it evolves again", work.cell.cell_id)
        journal.forget()
        for path in part_files(work.paths, work.shard.shard_id):
            path.unlink(missing_ok=True)


def evolved_prompts(work: Work, engine: Engine) -> Iterator[tuple[str, str]]:
    """Yield digest and text of every Generator prompt, from the committed playbook versions."""
    ace = AceConfig.model_validate(work.cell.ace)
    journal = _journal(work)
    steps = planned_steps(work)
    state = journal.state()
    first = state.version - len(steps) if state else 0  # all steps are committed by now
    for number, step in enumerate(steps, start=first):
        if not step.work:
            continue
        for prompt, _ in generator_prompts(work.cell, ace, journal.playbook(number), step.work):
            text = engine.render(prompt)
            yield digest(text), text


def _answering_j(joules: float | None, played: StepOutcome) -> float | None:
    """Return what the answers of a step have of its energy: the Generator's share of the roles' time."""
    total_s = sum(played.role_s.values())
    return None if joules is None or not total_s else joules * played.role_s.get(GENERATOR, 0.0) / total_s


def _write_rows(
    work: Work, engine: Engine, answers: Sequence[Answer], version: int, joules: float | None
) -> None:
    writer = PartWriter(work.paths, work.shard.shard_id, work.attempt)
    for answer in answers:
        record = _record(work, engine, answer, version)
        writer.append(record)
        work.story.row(record)
    writer.flush(joules)
    work.story.spent(joules)


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


def _evolution(work: Work, engine_for_role: EngineForRole, stop: Callable[[], bool]) -> Evolution:
    ace = AceConfig.model_validate(work.cell.ace)
    place = "" if work.shard.worker is None else _journal(work).folder.name
    return Evolution(work.cell, ace, engine_for_role, stop, work.validate, place)


def _resumed(work: Work, evolution: Evolution, journal: Journal) -> tuple[State, Playbook]:
    """Return what is committed; before the first step, what the evolution starts with."""
    state = journal.state()
    if state is None:
        playbook = starting(work, evolution)
        journal.start(playbook, evolution.engine.count_tokens(playbook.render()))
        state = State(
            work.cell.seed, playbook.version, playbook.digest, playbook.next_number, playbook.version
        )
    return state, journal.committed(state)


def _play(
    work: Work, evolution: Evolution, journal: Journal, state: State, playbook: Playbook, step: Step
) -> StepOutcome:
    """Play one step.

    Raises:
        Stopped, EngineError, UpstreamMissing: see `answer_by_rounds`.
    """
    if step.kind == ROUND:
        return play_round(
            evolution, playbook, step.work, state.pending, curate=step.curate, scored=step.scored
        )
    if step.kind == MERGE:
        return StepOutcome(merged(work, evolution, playbook), {})
    role_s: dict[str, float] = {}
    if step.kind == GATE:
        before = journal.playbook(state.accepted)
        after, trial = gated(evolution, before, playbook, role_s)
    else:
        after, trial = compared_with_first(evolution, journal.playbook(0), playbook, role_s)
    log.info("%s, epoch %d: %s %s", work.cell.cell_id, step.epoch, step.kind, trial.reason)
    return StepOutcome(after, role_s, pending=state.pending, trial=trial)


def _after(state: State, step: Step, played: StepOutcome) -> State:
    """Return the state with one more step in it."""
    playbook, trial = played.playbook, played.trial
    ledger = dict(state.ledger)
    if trial is not None:
        asked = ledger.get(trial.purpose, GateLedger())
        comparisons = len(trial.pairs)
        ledger[trial.purpose] = asked.after(trial.accepted, comparisons=comparisons, queries=trial.queries)
    role_s = dict(state.role_s)
    for role, seconds in played.role_s.items():
        role_s[role] = role_s.get(role, 0.0) + seconds
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
        pending=played.pending,
        ledger=ledger,
        role_s=role_s,
    )


def _note(evolution: Evolution, step: Step, played: StepOutcome) -> StepNote:
    playbook, trial = played.playbook, played.trial
    return StepNote(
        version=playbook.version,
        kind=step.kind,
        epoch=step.epoch,
        tokens=evolution.engine.count_tokens(playbook.render()),
        bullets=len(playbook.shown),
        decision=trial.reason if trial else "",
        accepted=trial.accepted if trial else None,
    )


def _journal(work: Work) -> Journal:
    return journal_of(work.paths, work.cell, work.shard)
