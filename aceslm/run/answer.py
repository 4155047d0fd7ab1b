"""The plain way to answer a shard: every unit by itself, behind the playbook that its cell carries, if any.

    method = AnswerUnits(work)                # UpstreamMissing before a model is loaded
    complete = method.answer(engine, sink)    # rows of what is missing
    method.prompts(engine)                    # digest and text of every prompt, for the published shard

The playbook stays as it is, whatever is answered: `ace_frozen` carries the adaptation's last version,
`ace_shuffled` another task's bullets in its place, `ace_neutral` sentences that help with nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from aceslm.ace.controls import length_matched, neutral
from aceslm.ace.generator import generator_prompts
from aceslm.ace.playbook import codec
from aceslm.ace.playbook.bullets import Playbook
from aceslm.ace.roles.messages import citations, used_bullets
from aceslm.core.digests import digest
from aceslm.core.engine import Engine
from aceslm.core.errors import EngineError, UpstreamMissing
from aceslm.core.prompts import Completion, Prompt
from aceslm.core.record import Record
from aceslm.core.run import Run
from aceslm.core.values import Cell, Shard, Unit
from aceslm.core.words import PLAYBOOK_MODES
from aceslm.run.evolution_journal import final_playbook
from aceslm.run.parts import finished_units
from aceslm.run.rows import record_of
from aceslm.run.sink import RowSink
from aceslm.run.work import StopFlag, Work
from aceslm.tasks.prompt import prompt_for


@dataclass(frozen=True, slots=True)
class CarriedSources:
    """The finished playbooks that a cell's own is made of."""

    adapted: Playbook
    donor: Playbook | None = None


@dataclass(frozen=True, slots=True)
class UnitPrompt:
    """One unit's prompt; `retrieved` are the bullets ranked by its question."""

    unit: Unit
    prompt: Prompt
    retrieved: tuple[str, ...] = ()


class AnswerUnits:
    """Answers the units of a shard that have no row yet, each by itself."""

    most_ranks: int | None = None

    def __init__(self, work: Work) -> None:
        """Look up the playbook that the cell carries.

        Raises:
            UpstreamMissing: it has not ended evolving.
        """
        self._work = work
        self._sources = find_sources(work.run, work.cell)
        worker = work.worker
        finished = finished_units(work.run.paths, work.shard.shard_id, {unit.unit_id for unit in work.units})
        mine = work.units[worker.name.rank :: worker.num_ranks]
        self._pending = [unit for unit in mine if unit.unit_id not in finished]
        self._num_finished = len(finished)
        self._playbook: Playbook | None = None

    @staticmethod
    def alone(run: Run, shard: Shard, stop: StopFlag) -> AbstractContextManager[None]:
        """Two workers on the same units are harmless."""
        return nullcontext()

    def begin(self, engine: Engine) -> None:
        """Make the playbook that stands in the prompts: controls are matched in the engine's tokens."""
        self._playbook = carry(self._work.cell, self._sources, engine.count_tokens)

    @property
    def num_finished(self) -> int:
        """Units of the shard that were answered before this attempt, by whichever rank."""
        return self._num_finished

    def answer(self, engine: Engine, sink: RowSink) -> bool:
        """Answer and record what is missing; return whether every unit of it has a row now.

        Raises:
            EngineError: the engine ended without an answer for every prompt.
        """
        asked = asked_prompts(self._work, self._pending, self._playbook)
        by_request = {one.prompt.request_id: one for one in asked}

        def should_stop() -> bool:
            return self._work.worker.stop() or sink.finished_elsewhere

        for completion in self._completions(engine, asked, should_stop):
            one = by_request.pop(completion.request_id)
            # the digest of the exact text that the model saw
            record = record_of(self._work, one.unit, completion, engine, digest(engine.render(one.prompt)))
            sink.append(record if self._playbook is None else _carrying(record, self._playbook, one))
        if by_request and not should_stop():
            raise EngineError(f"the engine returned no answer for {len(by_request)} of {len(asked)} prompts")
        return not by_request

    def is_complete(self) -> bool:
        """Whether all ranks together have answered every unit."""
        if self._work.worker.num_ranks == 1:
            return True
        wanted = {unit.unit_id for unit in self._work.units}
        found = finished_units(self._work.run.paths, self._work.shard.shard_id, wanted)
        return self._work.is_published or len(found) == len(wanted)

    def prompts(self, engine: Engine) -> Iterator[tuple[str, str]]:
        """Yield digest and text of every prompt of the shard."""
        for one in asked_prompts(self._work, self._work.units, self._playbook):
            text = engine.render(one.prompt)
            yield digest(text), text

    def overhead(self) -> Mapping[str, Any]:
        """Return what came on top of the answers: nothing."""
        return {}

    def _completions(
        self, engine: Engine, asked: Sequence[UnitPrompt], should_stop: Callable[[], bool]
    ) -> Iterator[Completion]:
        if asked:
            prompts = [one.prompt for one in asked]
            yield from engine.generate(prompts, self._work.cell.generation, should_stop)


def find_sources(run: Run, cell: Cell) -> CarriedSources | None:
    """Return the finished playbooks that a cell carries; None for a mode that carries none.

    Raises:
        UpstreamMissing: an adaptation has not ended.
        CorruptRun: its last version is not what it committed.
    """
    if cell.mode not in PLAYBOOK_MODES or cell.evolves:
        return None
    donor = _final(run, cell.donor) if cell.donor else None
    if cell.adaptation:
        return CarriedSources(_final(run, cell.adaptation, cell.adaptation_epoch), donor)
    return CarriedSources(codec.load(run.paths.initial_playbook(cell.initial_playbook)), donor)


def carry(cell: Cell, sources: CarriedSources | None, count_tokens: Callable[[str], int]) -> Playbook | None:
    """Return the playbook that stands in a cell's prompts; None for a mode that carries none."""
    if sources is None:
        return None
    if sources.donor is not None:
        return length_matched(sources.adapted, sources.donor, count_tokens).playbook
    if cell.mode == "ace_neutral":
        return neutral(sources.adapted, count_tokens).playbook
    return sources.adapted


def asked_prompts(work: Work, units: Sequence[Unit], playbook: Playbook | None) -> list[UnitPrompt]:
    """Return the prompt of each unit, behind the playbook that its cell carries."""
    if playbook is None:
        return [UnitPrompt(unit, prompt_for(work.cell, work.samples[unit.sample_id], unit)) for unit in units]
    ace = work.cell.playbook_settings
    pairs = [(unit, work.samples[unit.sample_id]) for unit in units]
    made = generator_prompts(work.cell, ace, playbook, pairs)
    return [UnitPrompt(unit, prompt, bullets) for unit, (prompt, bullets) in zip(units, made, strict=True)]


def bullets_used(playbook: Playbook, asked: UnitPrompt, reply: str) -> tuple[str, ...]:
    """Return the bullets that a reply cites, and those that were ranked for its question."""
    shown = {bullet.bullet_id for bullet in playbook.shown}
    return used_bullets(shown, cited=citations(reply, playbook), retrieved=asked.retrieved)


def _final(run: Run, cell_id: str, epoch: int = 0) -> Playbook:
    """Return what an ended evolution ended with; with `epoch` what that epoch (from 1) ended with."""
    playbook = final_playbook(run.paths, run.cell(cell_id), epoch)
    if playbook is None:
        raise UpstreamMissing(
            f"the playbook of {cell_id} has not ended evolving: aceslm retry {run.paths.root}"
        )
    return playbook


def _carrying(record: Record, playbook: Playbook, asked: UnitPrompt) -> Record:
    """Add to a row what its prompt carried; the playbook never learnt from a sample that it answers."""
    used = bullets_used(playbook, asked, record.raw_output or "")
    return replace(record, playbook_version=playbook.version, bullets_used=used, seen=False)
