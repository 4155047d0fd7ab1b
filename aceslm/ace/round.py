"""One round of evolution: answer, score, reflect, curate, apply. The unit of commitment.

    played = play_round(evolution, playbook, work, pending, curate=True, scored=samples_scored_before)
    played.playbook      # the next version
    played.answers       # one per unit, in the order given
    played.calls         # every role call with what came of it

Pure but for the engine. The playbook stays as it is while the round is answered; the gold answers of the
round's samples are looked at only after all of them were answered. Asked twice, a round gives the same again
where the engine does: that is how a killed round is recomputed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aceslm.ace.curator import curated, kept_small
from aceslm.ace.evolution import (
    Answer,
    Evolution,
    Lesson,
    StepOutcome,
)
from aceslm.ace.generator import answer, answer_read
from aceslm.ace.leakage import GoldIndex
from aceslm.ace.playbook.bullets import Playbook
from aceslm.ace.playbook.deltas import Tag, apply
from aceslm.ace.playbook.exemplars import joined, solved
from aceslm.ace.reflector import reflected
from aceslm.ace.roles.messages import credit
from aceslm.core.contexts import context_key
from aceslm.core.digests import digest
from aceslm.core.values import Sample, Unit


def in_seed_order(samples: Iterable[Sample], seed: int) -> tuple[Sample, ...]:
    """Return the samples with their contexts permuted by `seed`; 0 keeps the published order.

    Within a context nothing moves. The order of one context relative to another does not depend on which
    others there are.
    """
    contexts = _by_context(samples)
    names = sorted(contexts, key=lambda name: digest("order", seed, *name)) if seed else list(contexts)
    return tuple(sample for name in names for sample in contexts[name])


def rounds_of(samples: Iterable[Sample], round_size: int) -> tuple[tuple[Sample, ...], ...]:
    """Cut samples into rounds of about `round_size`; the questions of one context stay in one round.

    Contexts come in the order of their first question. A context larger than `round_size` is a round.
    """
    rounds: list[list[Sample]] = []
    for members in _by_context(samples).values():
        if rounds and len(rounds[-1]) + len(members) <= round_size:
            rounds[-1] += members
        else:
            rounds.append(list(members))
    return tuple(tuple(members) for members in rounds)


def play_round(
    evolution: Evolution,
    playbook: Playbook,
    work: Sequence[tuple[Unit, Sample]],
    pending: Sequence[Lesson],
    *,
    curate: bool,
    scored: Iterable[Sample],
) -> StepOutcome:
    """Play one round with `playbook` and return the next version with all that led to it.

    Args:
        pending: lessons of earlier rounds that were not curated yet.
        curate: curate at the end of this round; else its lessons wait too.
        scored: samples of earlier rounds: their golds, and those of `work`, must not enter a lesson.

    Raises:
        Stopped, EngineError: as `Evolution.ask`.
    """
    number = playbook.version + 1
    answers, calls = answer(evolution, playbook, work)
    answers, reflector_calls = reflected(evolution, playbook, answers)
    calls += reflector_calls
    labels = evolution.ace.labels
    tags: list[Tag] = []
    for one in answers:
        correct = one.correct if labels else None
        tags += credit(one.used, correct=correct, cited=one.cited, reflection=one.reflection)
    grown = _with_solved(evolution, apply(playbook, tags, round_number=number).playbook, answers)
    lessons = (*pending, *(Lesson(a.unit.unit_id, a.reflection.lesson) for a in answers if a.reflection))
    if not curate:
        kept = kept_small(evolution, grown)
        return StepOutcome(kept.advanced(), answers, lessons, tuple(calls))
    known = (*scored, *(sample for _, sample in work)) if labels else ()
    made = curated(evolution, grown, lessons, work[0][0].epoch, GoldIndex.of(known))
    calls += made.calls
    return StepOutcome(made.playbook.advanced(), answers, (), tuple(calls), made.trial)


def _with_solved(evolution: Evolution, playbook: Playbook, answers: Sequence[Answer]) -> Playbook:
    """Return the playbook with the round's right answers as exemplars, where the grid asks for them."""
    if not evolution.ace.exemplars:
        return playbook
    number = playbook.version + 1
    found = (
        solved(one.unit.unit_id, one.sample.question, answer_read(one.sample, one.completion), number)
        for one in answers
        if one.correct and one.sample.answer_type != "choice"  # a letter says nothing without its options
    )
    return playbook.with_exemplars(joined(playbook.exemplars, filter(None, found)))


def _by_context(samples: Iterable[Sample]) -> dict[tuple[bool, str], list[Sample]]:
    contexts: dict[tuple[bool, str], list[Sample]] = {}
    for sample in samples:
        contexts.setdefault(context_key(sample), []).append(sample)
    return contexts
