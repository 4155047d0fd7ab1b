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

from aceslm.ace.asking import CURATOR, GENERATOR, REFLECTOR, ROLES, Answer, Call, Evolution, Lesson, Played
from aceslm.ace.deltas import Applied, Delta, Tag, allow, apply, first_refusal
from aceslm.ace.leakage import GoldIndex, leak_refusal
from aceslm.ace.parsing import parse_curation, parse_reflection
from aceslm.ace.playbook import Playbook, render_bullets
from aceslm.ace.retrieval import BulletIndex
from aceslm.ace.roles import (
    LESSONS_PER_CURATION,
    citations,
    credit,
    curator_messages,
    echo_refusal,
    reflector_messages,
    used_bullets,
)
from aceslm.ace.schemas import (
    CURATOR_JSON,
    CURATOR_MAX_NEW_TOKENS,
    REFLECTOR_JSON,
    REFLECTOR_MAX_NEW_TOKENS,
)
from aceslm.ace.upkeep import Limits, maintain
from aceslm.ace_config import AceConfig
from aceslm.digests import digest
from aceslm.records import Cell, Completion, Prompt, Sample, Unit
from aceslm.rows import prompt_for
from aceslm.tasks import judge


def rounds_of(samples: Iterable[Sample], round_size: int) -> tuple[tuple[Sample, ...], ...]:
    """Cut samples into rounds of about `round_size`; the questions of one context stay in one round.

    Contexts come in the order of their first question. A context larger than `round_size` is a round.
    """
    contexts: dict[tuple[bool, str], list[Sample]] = {}
    for sample in samples:
        key = (True, sample.context_id) if sample.context_id else (False, sample.sample_id)
        contexts.setdefault(key, []).append(sample)
    rounds: list[list[Sample]] = []
    for members in contexts.values():
        if rounds and len(rounds[-1]) + len(members) <= round_size:
            rounds[-1] += members
        else:
            rounds.append(list(members))
    return tuple(tuple(members) for members in rounds)


def generator_prompts(
    cell: Cell, ace: AceConfig, playbook: Playbook, work: Sequence[tuple[Unit, Sample]]
) -> list[tuple[Prompt, tuple[str, ...]]]:
    """Return prompt and retrieved bullet ids of each unit: the prompt builder of every mode."""
    text = playbook.render()
    index = BulletIndex(playbook.shown) if ace.retrieve_top_k else None
    found = []
    for unit, sample in work:
        bullets = index.top_k(sample.question, ace.retrieve_top_k) if index else ()
        prompt = prompt_for(cell, sample, unit, text, render_bullets(bullets))
        found.append((prompt, tuple(bullet.bullet_id for bullet in bullets)))
    return found


def play_round(
    evolution: Evolution,
    playbook: Playbook,
    work: Sequence[tuple[Unit, Sample]],
    pending: Sequence[Lesson],
    *,
    curate: bool,
    scored: Iterable[Sample],
) -> Played:
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
    answers, calls = _answer(evolution, playbook, work, role_s)
    answers, reflector_calls = _reflect(evolution, playbook, answers, role_s)
    calls += reflector_calls
    labels = evolution.ace.labels
    tags: list[Tag] = []
    for one in answers:
        correct = one.correct if labels else None
        tags += credit(one.used, correct=correct, cited=one.cited, reflection=one.reflection)
    grown = apply(playbook, tags, round_number=number).playbook
    lessons = (*pending, *(Lesson(a.unit.unit_id, a.reflection.lesson) for a in answers if a.reflection))
    if curate:
        known = (*scored, *(sample for _, sample in work)) if labels else ()
        grown, curator_calls = _curate(evolution, grown, lessons, GoldIndex.of(known), role_s)
        calls += curator_calls
        lessons = ()
    kept = maintain(
        grown, _limits(evolution.ace), round_number=number, count_tokens=evolution.engine.count_tokens
    )
    return Played(kept.playbook.advanced(), answers, lessons, tuple(calls), role_s)


def _answer(
    evolution: Evolution,
    playbook: Playbook,
    work: Sequence[tuple[Unit, Sample]],
    role_s: dict[str, float],
) -> tuple[tuple[Answer, ...], list[Call]]:
    asked = generator_prompts(evolution.cell, evolution.ace, playbook, work)
    found = evolution.ask([prompt for prompt, _ in asked], role_s, GENERATOR)
    shown = {bullet.bullet_id for bullet in playbook.shown}
    answers, calls = [], []
    for (unit, sample), (prompt, retrieved) in zip(work, asked, strict=True):
        completion = found[prompt.request_id]
        cited = citations(completion.text, playbook)
        used = used_bullets(shown, cited=cited, retrieved=retrieved)
        verdict = judge(sample, completion.text)
        correct = completion.error is None and verdict.parsed and bool(verdict.correct)
        answers.append(Answer(unit, sample, prompt, completion, correct, cited, used))
        calls.append(_call(GENERATOR, playbook, unit.unit_id, completion, parsed=None))
    return tuple(answers), calls


def _reflect(
    evolution: Evolution, playbook: Playbook, answers: tuple[Answer, ...], role_s: dict[str, float]
) -> tuple[tuple[Answer, ...], list[Call]]:
    """Reflect on what `ace.reflect` names; a later reflection that cannot be read leaves the earlier one."""
    ace = evolution.ace
    chosen = [
        n
        for n, one in enumerate(answers)
        if one.completion.error is None and (ace.reflect == "all" or not one.correct)
    ]
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
            calls.append(_call(REFLECTOR, playbook, one.unit.unit_id, completion, parsed=said is not None))
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


def _curate(
    evolution: Evolution,
    playbook: Playbook,
    lessons: Sequence[Lesson],
    golds: GoldIndex,
    role_s: dict[str, float],
) -> tuple[Playbook, list[Call]]:
    """Ask the Curator about a few lessons a prompt, all in one batch; apply what it says in that order."""
    size = LESSONS_PER_CURATION
    groups = [lessons[start : start + size] for start in range(0, len(lessons), size)]
    shown = playbook.render()
    prompts = [
        Prompt(
            request_id=digest(group[0].unit_id, CURATOR, 0, 0),
            messages=curator_messages(evolution.cell.domain, shown, [lesson.text for lesson in group]),
            max_new_tokens=CURATOR_MAX_NEW_TOKENS,
            json_schema=CURATOR_JSON if evolution.ace.constrained else None,
        )
        for group in groups
    ]
    found = evolution.ask(prompts, role_s, CURATOR)
    refuse = first_refusal(leak_refusal(golds) if evolution.ace.labels else allow, echo_refusal)
    calls = []
    for group, prompt in zip(groups, prompts, strict=True):
        completion = found[prompt.request_id]
        said = parse_curation(completion.text, truncated=completion.finish_reason == "length")
        deltas: tuple[Delta, ...] = said.deltas if said else ()
        units = [lesson.unit_id for lesson in group]
        outcome = apply(
            playbook, deltas, round_number=playbook.version + 1, source_units=units, refuse=refuse
        )
        playbook = outcome.playbook
        calls.append(_call(CURATOR, playbook, units[0], completion, parsed=said is not None, outcome=outcome))
    return playbook, calls


def _call(
    role: str,
    playbook: Playbook,
    unit_id: str,
    completion: Completion,
    *,
    parsed: bool | None,
    outcome: Applied | None = None,
) -> Call:
    return Call(
        role=role,
        round=playbook.version + 1,
        unit_id=unit_id,
        raw_output=completion.text,
        parsed=parsed,
        applied=len(outcome.applied) if outcome else 0,
        refused=len(outcome.refused) if outcome else 0,
        prompt_tokens=completion.prompt_tokens,
        output_tokens=completion.output_tokens,
        latency_ms=completion.latency_ms,
    )


def _limits(ace: AceConfig) -> Limits:
    return Limits(
        dedup_similarity=ace.dedup_similarity,
        unused_rounds=ace.prune_unused_rounds,
        capacity=ace.capacity,
        token_budget=ace.token_budget,
    )
