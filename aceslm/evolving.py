"""A shard of mode `ace`: its units answered round by round while the playbook grows.

    discard_uncommitted(work)
    complete = answer_by_rounds(work, engine, attempt, stop)

A round is the unit of commitment. Its rows (one part), its role calls and the next playbook version are
written first, `state.json` last: what `state.json` does not name is thrown away and computed again. Samples
are answered before their gold answers may reach the Reflector; from the second epoch on they are `seen`.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from aceslm.ace import codec
from aceslm.ace.asking import GENERATOR, ROLES, Answer, Evolution, Lesson, Played, Stopped
from aceslm.ace.playbook import Playbook
from aceslm.ace.rounds import generator_prompts, play_round, rounds_of
from aceslm.ace_config import AceConfig
from aceslm.attempts import Attempt
from aceslm.digests import digest
from aceslm.engine import Engine
from aceslm.errors import CorruptRun
from aceslm.parquet import read_results
from aceslm.parts import PartWriter, part_files
from aceslm.paths import RunPaths
from aceslm.records import Cell, Record, Sample, Unit
from aceslm.rows import Work, record_of
from aceslm.store import locked, read_json, replacing, write_json

log = logging.getLogger(__name__)

_NO_STATE: Mapping[str, Any] = {"round": 0, "playbook_digest": Playbook().digest, "pending": [], "role_s": {}}


@dataclass(frozen=True, slots=True)
class Round:
    """One planned round: its number (from 1), its units, and the samples whose golds came before it."""

    number: int
    work: tuple[tuple[Unit, Sample], ...]
    scored: tuple[Sample, ...]


@contextmanager
def alone(paths: RunPaths, cell: Cell) -> Iterator[None]:
    """Keep a second worker off the same evolution; cells that do not evolve need no such care.

    Raises:
        Locked: another worker evolves this playbook.
    """
    if not cell.evolves:
        yield
        return
    folder = paths.playbooks(cell.cell_id)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", f"the evolution of {cell.cell_id}"):
        yield


def answer_by_rounds(work: Work, engine: Engine, attempt: Attempt, stop: Callable[[], bool]) -> bool:
    """Play the rounds that are not committed yet; return whether all are.

    Raises:
        EngineError: the engine ended without an answer for every prompt.
        CorruptRun: a committed playbook version is not the one that `state.json` names.
    """
    ace = AceConfig.model_validate(work.cell.ace)
    planned = planned_rounds(work)
    state = dict(_state(work))
    playbook = _committed(work, state)
    evolution = Evolution(work.cell, ace, engine, stop)
    done = sum(len(one.work) for one in planned[: state["round"]])
    generated = 0
    attempt.progress(done, len(work.units), generated)
    for one in planned[state["round"] :]:
        if stop() or work.paths.done(work.shard.shard_id).exists():
            return False
        curate = one.number % ace.curate_every == 0 or one.number == len(planned)
        pending = [Lesson(*lesson) for lesson in state["pending"]]
        try:
            played = play_round(evolution, playbook, one.work, pending, curate=curate, scored=one.scored)
        except Stopped:
            return False
        state = _commit(work, engine, played, state, is_last=one.number == len(planned))
        playbook = played.playbook
        generated += len(one.work)
        attempt.note(rows_done=done + generated)
        attempt.progress(done + generated, len(work.units), generated)
    return True


def planned_rounds(work: Work) -> tuple[Round, ...]:
    """Return all rounds of a shard in order: epoch by epoch, whole contexts together."""
    ace = AceConfig.model_validate(work.cell.ace)
    rounds: list[Round] = []
    scored: dict[str, Sample] = {}
    for epoch in sorted({unit.epoch for unit in work.units}):
        units = {unit.sample_id: unit for unit in work.units if unit.epoch == epoch}
        for members in rounds_of((work.samples[name] for name in units), ace.round_size):
            pairs = tuple((units[sample.sample_id], sample) for sample in members)
            rounds.append(Round(len(rounds) + 1, pairs, tuple(scored.values())))
            scored |= {sample.sample_id: sample for sample in members}
    return tuple(rounds)


def discard_uncommitted(work: Work) -> None:
    """Delete the parts of rounds that were not committed: a later attempt computes them again."""
    rounds = planned_rounds(work)[: _state(work)["round"]]
    committed = {unit.unit_id for one in rounds for unit, _ in one.work}
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
        (_folder(work) / "state.json").unlink(missing_ok=True)
        for path in part_files(work.paths, work.shard.shard_id):
            path.unlink(missing_ok=True)


def evolved_prompts(work: Work, engine: Engine) -> Iterator[tuple[str, str]]:
    """Yield digest and text of every Generator prompt, from the committed playbook versions."""
    ace = AceConfig.model_validate(work.cell.ace)
    for one in planned_rounds(work):
        playbook = codec.load(_version(work, one.number - 1))
        for prompt, _ in generator_prompts(work.cell, ace, playbook, one.work):
            text = engine.render(prompt)
            yield digest(text), text


def final_playbook(paths: RunPaths, cell: Cell) -> Playbook | None:
    """Return the playbook that an evolution ended with; None while it has not ended.

    Raises:
        CorruptRun: the version is not the one that `state.json` names.
    """
    folder = paths.playbooks(cell.cell_id)
    if not (folder / "state.json").exists():
        return None
    state = read_json(folder / "state.json")
    if not state.get("ended"):
        return None
    playbook = codec.load(folder / f"v{state['round']:04d}.jsonl")
    if playbook.digest != state["playbook_digest"]:
        raise CorruptRun(f"{folder}: the last version is not the playbook that state.json names; restore it")
    return playbook


def overhead(work: Work) -> dict[str, Any]:
    """Return what evolving cost so far: seconds, calls and unreadable replies of each role.

    `relative_cost` is the time of one adapted sample relative to its answer alone.
    """
    role_s: dict[str, float] = dict(_state(work)["role_s"])
    calls, failures = Counter[str](), Counter[str]()
    for path in sorted(_folder(work).glob("v*.calls.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            call = json.loads(line)
            calls[call["role"]] += 1
            failures[call["role"]] += call["parsed"] is False
    answering_s = role_s.get(GENERATOR, 0.0)
    return {
        "role_s": role_s,
        "role_calls": {role: calls[role] for role in ROLES},
        "parse_failures": {role: failures[role] for role in ROLES if role != GENERATOR},
        "relative_cost": sum(role_s.values()) / answering_s if answering_s else None,
    }


def _commit(
    work: Work, engine: Engine, played: Played, state: Mapping[str, Any], *, is_last: bool
) -> dict[str, Any]:
    """Write one round: rows, calls, version, and `state.json` last."""
    number = played.playbook.version
    folder = _folder(work)
    folder.mkdir(parents=True, exist_ok=True)
    if number == 1:
        codec.save(_version(work, 0), Playbook())
    writer = PartWriter(work.paths, work.shard.shard_id, work.attempt)
    for answer in played.answers:
        writer.append(_record(work, engine, answer, number - 1))
    writer.flush()
    with replacing(folder / f"v{number:04d}.calls.jsonl") as partial:
        lines = [json.dumps(asdict(call), ensure_ascii=True) + "\n" for call in played.calls]
        partial.write_text("".join(lines), encoding="utf-8")
    codec.save(_version(work, number), played.playbook)
    spent = state["role_s"]
    after = {
        "round": number,
        "ended": is_last,
        "epoch": played.answers[0].unit.epoch,
        "next_number": played.playbook.next_number,
        "playbook_digest": played.playbook.digest,
        "pending": [[lesson.unit_id, lesson.text] for lesson in played.pending],
        "role_s": {role: spent.get(role, 0.0) + seconds for role, seconds in played.role_s.items()},
    }
    write_json(folder / "state.json", after)
    return after


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


def _state(work: Work) -> Mapping[str, Any]:
    path = _folder(work) / "state.json"
    if not path.exists():
        return _NO_STATE
    state: dict[str, Any] = read_json(path)
    return state


def _committed(work: Work, state: Mapping[str, Any]) -> Playbook:
    playbook = codec.load(_version(work, state["round"])) if state["round"] else Playbook()
    if playbook.digest != state["playbook_digest"] or playbook.version != state["round"]:
        raise CorruptRun(
            f"{_version(work, state['round'])}: is not the playbook that state.json names; restore it"
        )
    return playbook


def _version(work: Work, number: int) -> Path:
    return _folder(work) / f"v{number:04d}.jsonl"


def _folder(work: Work) -> Path:
    return work.paths.playbooks(work.cell.cell_id)
