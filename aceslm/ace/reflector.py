"""The Reflector's part of a round: answers -> what is to be learnt from them.

answers, calls = reflected(evolution, playbook, answers)
"""

from __future__ import annotations

from dataclasses import replace

from aceslm.ace.evolution import REFLECTOR, Answer, Call, Evolution, call_of
from aceslm.ace.playbook.bullets import Playbook
from aceslm.ace.roles.messages import reflector_messages
from aceslm.ace.roles.parsing import parse_reflection
from aceslm.ace.roles.schemas import REFLECTOR_JSON, REFLECTOR_MAX_NEW_TOKENS
from aceslm.core.digests import digest
from aceslm.core.prompts import Prompt
from aceslm.tasks.prompt import noise_key


def reflected(
    evolution: Evolution, playbook: Playbook, answers: tuple[Answer, ...]
) -> tuple[tuple[Answer, ...], list[Call]]:
    """Reflect on what `ace.reflect` names; a later reflection that cannot be read leaves the earlier one."""
    ace = evolution.ace
    wanted = {"wrong": (False,), "all": (False, True), "none": ()}[ace.reflect]
    chosen = [n for n, one in enumerate(answers) if one.completion.error is None and one.correct in wanted]
    kept = list(answers)
    calls: list[Call] = []
    for turn in range(ace.reflection_rounds):
        prompts = [_prompt(evolution, playbook, kept[n], turn) for n in chosen]
        found = evolution.ask(prompts, REFLECTOR)
        for n, prompt in zip(chosen, prompts, strict=True):
            one, completion = kept[n], found[prompt.request_id]
            said = parse_reflection(completion.text, truncated=completion.finish_reason == "length")
            kept[n] = replace(
                one,
                reflection=said or one.reflection,
                reflection_ms=(one.reflection_ms or 0.0) + completion.latency_ms,
            )
            calls.append(call_of(REFLECTOR, playbook, one.unit, completion, parsed=said is not None))
    return tuple(kept), calls


def _prompt(evolution: Evolution, playbook: Playbook, answer: Answer, turn: int) -> Prompt:
    ace, unit = evolution.ace, answer.unit
    bullets = tuple(bullet for bullet in playbook.shown if bullet.bullet_id in answer.used)
    return Prompt(
        request_id=digest(unit.unit_id, REFLECTOR, turn, 0),
        messages=reflector_messages(
            answer.sample,
            answer.completion.text,
            labels=ace.labels,
            bullets=bullets,
            earlier=answer.reflection,
        ),
        max_new_tokens=REFLECTOR_MAX_NEW_TOKENS,
        json_schema=REFLECTOR_JSON if ace.constrained else None,
        noise_key=noise_key(evolution.cell.seed, answer.sample, unit.epoch, REFLECTOR, turn, 0),
    )
