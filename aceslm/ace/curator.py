"""The Curator's part of a round: lessons -> deltas -> the next playbook; of several candidates the best.

    made = curated(evolution, playbook, lessons, epoch, golds)
    made.playbook, made.calls, made.trial

With `ace.candidates` above 1 so many replies are sampled to every prompt (the noise is keyed by the
candidate), each makes a playbook of its own, all are asked the same validation questions, and the best is
taken only if it gains: a weak Curator proposes, measurement selects. Else the round leaves only its credits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aceslm.ace.evolution import CURATOR, Call, Evolution, Lesson, call_of
from aceslm.ace.gate import Trial
from aceslm.ace.leakage import GoldIndex, leak_refusal
from aceslm.ace.playbook.bullets import ACTIVE, CANDIDATE, Playbook
from aceslm.ace.playbook.deltas import Delta, Refuse, allow, apply, first_refusal
from aceslm.ace.playbook.limits import PlaybookLimits, maintain
from aceslm.ace.roles.messages import LESSONS_PER_CURATION, curator_messages, echo_refusal
from aceslm.ace.roles.parsing import parse_curation
from aceslm.ace.roles.schemas import CURATOR_JSON, CURATOR_MAX_NEW_TOKENS
from aceslm.ace.validation import best_candidate
from aceslm.core.digests import digest
from aceslm.core.prompts import Completion, Prompt
from aceslm.core.values import GenerationSettings, Unit
from aceslm.tasks.prompt import noise_key

Groups = Sequence[Sequence[Lesson]]


@dataclass(frozen=True, slots=True)
class Curated:
    """What a curation made: the playbook after upkeep, every call, and how candidates were compared."""

    playbook: Playbook
    calls: tuple[Call, ...]
    trial: Trial | None = None


def curated(
    evolution: Evolution,
    playbook: Playbook,
    lessons: Sequence[Lesson],
    epoch: int,
    golds: GoldIndex,
) -> Curated:
    """Ask the Curator about a few lessons a prompt, all in one batch; apply what it says in that order.

    Args:
        golds: what no lesson may carry.

    Raises:
        Stopped, EngineError: as `Evolution.ask`.
    """
    size = LESSONS_PER_CURATION
    groups = [lessons[start : start + size] for start in range(0, len(lessons), size)]
    count = evolution.ace.candidates
    prompts = [_prompts(evolution, playbook, groups, candidate) for candidate in range(count)]
    settings = _settings(evolution)
    found = evolution.ask([prompt for some in prompts for prompt in some], CURATOR, settings=settings)
    refuse = first_refusal(leak_refusal(golds) if evolution.ace.labels else allow, echo_refusal)
    proposed: list[Playbook] = []
    calls: list[Call] = []
    for candidate in range(count):
        replies = [found[prompt.request_id] for prompt in prompts[candidate]]
        grown, made = _applied(evolution, playbook, groups, replies, refuse, candidate, epoch)
        proposed.append(kept_small(evolution, grown))
        calls += made
    if count == 1:
        return Curated(proposed[0], tuple(calls))
    kept = kept_small(evolution, playbook)
    chosen, trial = best_candidate(evolution, kept, proposed)
    return Curated(kept if chosen is None else proposed[chosen], tuple(calls), trial)


def kept_small(evolution: Evolution, playbook: Playbook) -> Playbook:
    """Return the playbook within its limits: dedup, pruning, capacity, token budget."""
    ace = evolution.ace
    limits = PlaybookLimits(
        dedup_similarity=ace.dedup_similarity,
        unused_rounds=ace.prune_unused_rounds,
        capacity=ace.capacity,
        token_budget=ace.token_budget,
    )
    count_tokens = evolution.engine.count_tokens
    return maintain(playbook, limits, round_number=playbook.version + 1, count_tokens=count_tokens).playbook


def _prompts(evolution: Evolution, playbook: Playbook, groups: Groups, candidate: int) -> list[Prompt]:
    shown = playbook.render()
    seed, place = evolution.cell.seed, evolution.place
    return [
        Prompt(
            request_id=digest(group[0].unit_id, CURATOR, 0, candidate),
            messages=curator_messages(evolution.cell.domain, shown, [lesson.text for lesson in group]),
            max_new_tokens=CURATOR_MAX_NEW_TOKENS,
            json_schema=CURATOR_JSON if evolution.ace.constrained else None,
            # a Curator is asked about a round, not about one question
            noise_key=noise_key(seed, None, place, playbook.version + 1, CURATOR, number, candidate),
        )
        for number, group in enumerate(groups)
    ]


def _settings(evolution: Evolution) -> GenerationSettings:
    """Return the cell's settings; candidates are sampled, as greedy replies would all be the same."""
    settings = evolution.cell.generation
    if evolution.ace.candidates == 1 or settings.temperature:
        return settings
    return replace(settings, temperature=evolution.ace.candidate_temperature)


def _applied(
    evolution: Evolution,
    playbook: Playbook,
    groups: Groups,
    replies: Sequence[Completion],
    refuse: Refuse,
    candidate: int,
    epoch: int,
) -> tuple[Playbook, list[Call]]:
    calls = []
    for group, completion in zip(groups, replies, strict=True):
        said = parse_curation(completion.text, truncated=completion.finish_reason == "length")
        deltas: Sequence[Delta] = said.deltas if said else ()
        outcome = apply(
            playbook,
            deltas,
            round_number=playbook.version + 1,
            source_units=[lesson.unit_id for lesson in group],
            status=CANDIDATE if evolution.ace.gate else ACTIVE,
            refuse=refuse,
        )
        playbook = outcome.playbook
        unit = Unit(group[0].unit_id, evolution.cell.cell_id, "", epoch)
        calls.append(
            call_of(
                CURATOR,
                playbook,
                unit,
                completion,
                parsed=said is not None,
                candidate=candidate,
                deltas=deltas,
                outcome=outcome,
            )
        )
    return playbook, calls
