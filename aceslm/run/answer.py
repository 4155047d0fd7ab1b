"""Finished playbooks in prompts: what `ace_frozen` and the control modes answer with.

    sources = find_sources(paths, plan, cell)           # before a model is loaded; UpstreamMissing
    carried = carry(cell, sources, engine.count_tokens)
    asked = asked_prompts(work, carried)                # unit -> prompt, and the bullets ranked for it

The playbook stays as it is, whatever is answered: `ace_frozen` carries the adaptation's last version,
`ace_shuffled` another task's bullets in its place, `ace_neutral` sentences that help with nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aceslm.ace.controls import length_matched, neutral
from aceslm.ace.generator import generator_prompts
from aceslm.ace.playbook import codec
from aceslm.ace.playbook.bullets import Playbook
from aceslm.ace.roles.messages import citations, used_bullets
from aceslm.core.errors import UpstreamMissing
from aceslm.core.paths import RunPaths
from aceslm.core.prompts import Prompt
from aceslm.core.values import Cell, Plan, Unit
from aceslm.core.words import PLAYBOOK_MODES
from aceslm.run.evolve import final_playbook
from aceslm.run.work import Work
from aceslm.tasks.prompt import prompt_for


@dataclass(frozen=True, slots=True)
class CarriedSources:
    """The finished playbooks that a cell's own is made of."""

    adapted: Playbook
    donor: Playbook | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One unit's prompt; `retrieved` are the bullets ranked by its question."""

    unit: Unit
    prompt: Prompt
    retrieved: tuple[str, ...] = ()


def find_sources(paths: RunPaths, plan: Plan, cell: Cell) -> CarriedSources | None:
    """Return the finished playbooks that a cell carries; None for a mode that carries none.

    Raises:
        UpstreamMissing: an adaptation has not ended.
        CorruptRun: its last version is not what it committed.
    """
    if cell.mode not in PLAYBOOK_MODES or cell.evolves:
        return None
    donor = _final(paths, plan, cell.donor) if cell.donor else None
    if cell.adaptation:
        return CarriedSources(_final(paths, plan, cell.adaptation, cell.adaptation_epoch), donor)
    return CarriedSources(codec.load(paths.initial_playbook(cell.initial_playbook)), donor)


def carry(cell: Cell, sources: CarriedSources | None, count_tokens: Callable[[str], int]) -> Playbook | None:
    """Return the playbook that stands in a cell's prompts; None for a mode that carries none."""
    if sources is None:
        return None
    if sources.donor is not None:
        return length_matched(sources.adapted, sources.donor, count_tokens).playbook
    if cell.mode == "ace_neutral":
        return neutral(sources.adapted, count_tokens).playbook
    return sources.adapted


def asked_prompts(work: Work, units: Sequence[Unit], playbook: Playbook | None) -> list[Asked]:
    """Return the prompt of each unit, behind the playbook that its cell carries."""
    if playbook is None:
        return [Asked(unit, prompt_for(work.cell, work.samples[unit.sample_id], unit)) for unit in units]
    ace = work.cell.playbook_settings
    pairs = [(unit, work.samples[unit.sample_id]) for unit in units]
    made = generator_prompts(work.cell, ace, playbook, pairs)
    return [Asked(unit, prompt, bullets) for unit, (prompt, bullets) in zip(units, made, strict=True)]


def bullets_used(playbook: Playbook, asked: Asked, reply: str) -> tuple[str, ...]:
    """Return the bullets that a reply cites, and those that were ranked for its question."""
    shown = {bullet.bullet_id for bullet in playbook.shown}
    return used_bullets(shown, cited=citations(reply, playbook), retrieved=asked.retrieved)


def _final(paths: RunPaths, plan: Plan, cell_id: str, epoch: int = 0) -> Playbook:
    """Return what an ended evolution ended with; with `epoch` what that epoch (from 1) ended with."""
    playbook = final_playbook(paths, plan.cell(cell_id), epoch)
    if playbook is None:
        raise UpstreamMissing(f"the playbook of {cell_id} has not ended evolving: aceslm retry {paths.root}")
    return playbook
