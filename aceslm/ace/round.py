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
from dataclasses import replace

from aceslm.ace.curator import curated, kept_small
from aceslm.ace.evolution import (
    REFLECTOR,
    ROLES,
    Answer,
    Call,
    Evolution,
    Lesson,
    StepOutcome,
    call_of,
)
from aceslm.ace.generator import answer, answer_read
from aceslm.ace.leakage import GoldIndex
from aceslm.ace.playbook.bullets import Playbook
from aceslm.ace.playbook.deltas import Tag, apply
from aceslm.ace.playbook.exemplars import joined, solved
from aceslm.ace.roles.messages import credit, reflector_messages
from aceslm.ace.roles.parsing import parse_reflection
from aceslm.ace.roles.schemas import REFLECTOR_JSON, REFLECTOR_MAX_NEW_TOKENS
from aceslm.core.ace_config import AceConfig
from aceslm.core.contexts import context_key
from aceslm.core.digests import digest
from aceslm.core.prompts import Prompt
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
    role_s = dict.fromkeys(ROLES, 0.0)
    number = playbook.version + 1
    answers, calls = answer(evolution, playbook, work, role_s)
    answers, reflector_calls = _reflect(evolution, playbook, answers, role_s)
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
        return StepOutcome(kept.advanced(), role_s, answers, lessons, tuple(calls))
    known = (*scored, *(sample for _, sample in work)) if labels else ()
    made = curated(evolution, grown, lessons, work[0][0].epoch, GoldIndex.of(known), role_s)
    calls += made.calls
    return StepOutcome(made.playbook.advanced(), role_s, answers, (), tuple(calls), made.trial)


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


def _reflect(
    evolution: Evolution, playbook: Playbook, answers: tuple[Answer, ...], role_s: dict[str, float]
) -> tuple[tuple[Answer, ...], list[Call]]:
    """Reflect on what `ace.reflect` names; a later reflection that cannot be read leaves the earlier one."""
    ace = evolution.ace
    wanted = {"wrong": (False,), "all": (False, True), "none": ()}[ace.reflect]
    chosen = [n for n, one in enumerate(answers) if one.completion.error is None and one.correct in wanted]
    reflected = list(answers)
    calls: list[Call] = []
    for turn in range(ace.reflection_rounds):
        prompts = [_reflector_prompt(ace, playbook, reflected[n], turn) for n in chosen]
        found = evolution.ask(prompts, role_s, REFLECTOR)
        for n, prompt in zip(chosen, prompts, strict=True):
            one, completion = reflected[n], found[prompt.request_id]
            said = parse_reflection(completion.text, truncated=completion.finish_reason == "length")
            reflected[n] = replace(
                one,
                reflection=said or one.reflection,
                reflection_ms=(one.reflection_ms or 0.0) + completion.latency_ms,
            )
            calls.append(call_of(REFLECTOR, playbook, one.unit, completion, parsed=said is not None))
    return tuple(reflected), calls


def _reflector_prompt(ace: AceConfig, playbook: Playbook, answer: Answer, turn: int) -> Prompt:
    bullets = tuple(bullet for bullet in playbook.shown if bullet.bullet_id in answer.used)
    return Prompt(
        request_id=digest(answer.unit.unit_id, REFLECTOR, turn, 0),
        messages=reflector_messages(
            answer.sample,
            answer.completion.text,
            labels=ace.labels,
            bullets=bullets,
            earlier=answer.reflection,
        ),
        max_new_tokens=REFLECTOR_MAX_NEW_TOKENS,
        json_schema=REFLECTOR_JSON if ace.constrained else None,
    )


def _by_context(samples: Iterable[Sample]) -> dict[tuple[bool, str], list[Sample]]:
    contexts: dict[tuple[bool, str], list[Sample]] = {}
    for sample in samples:
        contexts.setdefault(context_key(sample), []).append(sample)
    return contexts
