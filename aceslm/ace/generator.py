"""The Generator: units -> prompts -> scored answers. One prompt builder and one scorer for all uses.

answers, calls = answer(evolution, playbook, work)
outcomes = validated(evolution, playbook, samples, key=("gate", 7, 0))    # sample id -> score
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aceslm.ace.evolution import GENERATOR, VALIDATION, Answer, Call, Evolution, call_of
from aceslm.ace.playbook.bullets import Playbook, render_bullets
from aceslm.ace.playbook.exemplars import ExemplarIndex, turns_of
from aceslm.ace.playbook.retrieval import BulletIndex
from aceslm.ace.roles.messages import citations, used_bullets
from aceslm.core.ace_config import AceConfig
from aceslm.core.digests import digest
from aceslm.core.prompts import Completion, Prompt
from aceslm.core.values import Cell, Sample, Unit
from aceslm.tasks import judge
from aceslm.tasks.prompt import noise_key, prompt_for


def generator_prompts(
    cell: Cell, ace: AceConfig, playbook: Playbook, work: Sequence[tuple[Unit, Sample]]
) -> list[tuple[Prompt, tuple[str, ...]]]:
    """Return prompt and retrieved bullet ids of each unit: the prompt builder of every mode."""
    text = playbook.render()
    index = BulletIndex(playbook.shown) if ace.retrieve_top_k else None
    exemplars = ExemplarIndex(playbook.exemplars if ace.exemplars else ())
    found = []
    for unit, sample in work:
        bullets = index.top_k(sample.question, ace.retrieve_top_k) if index else ()
        nearest = exemplars.nearest(sample.question, ace.exemplars)
        prompt = prompt_for(cell, sample, unit, text, render_bullets(bullets), turns_of(nearest))
        found.append((prompt, tuple(bullet.bullet_id for bullet in bullets)))
    return found


def answer(
    evolution: Evolution,
    playbook: Playbook,
    work: Sequence[tuple[Unit, Sample]],
) -> tuple[tuple[Answer, ...], list[Call]]:
    """Answer and score the units of one round.

    Raises:
        Stopped, EngineError: as `Evolution.ask`.
    """
    asked = generator_prompts(evolution.cell, evolution.ace, playbook, work)
    found = evolution.ask([prompt for prompt, _ in asked], GENERATOR)
    shown = {bullet.bullet_id for bullet in playbook.shown}
    answers, calls = [], []
    for (unit, sample), (prompt, retrieved) in zip(work, asked, strict=True):
        completion = found[prompt.request_id]
        cited = citations(completion.text, playbook)
        used = used_bullets(shown, cited=cited, retrieved=retrieved)
        correct = is_correct(sample, completion)
        answers.append(Answer(unit, sample, prompt, completion, correct, cited, used))
        calls.append(call_of(GENERATOR, playbook, unit, completion))
    return tuple(answers), calls


def validated(
    evolution: Evolution,
    playbook: Playbook,
    samples: Sequence[Sample],
    *,
    key: Sequence[object],
) -> dict[str, float]:
    """Return sample id -> what `ace.gate_on` names, for samples that are asked in order to judge a playbook.

    Args:
        key: purpose, step and candidate; with cell, worker and sample it names each request. Candidates of
            one step draw the same noise: they are compared.
    """
    cell = evolution.cell
    work = [(cell.unit(sample.sample_id, 0), sample) for sample in samples]
    prompts = [
        replace(
            prompt,
            request_id=digest(cell.cell_id, evolution.place, *key, sample.sample_id),
            noise_key=noise_key(cell.seed, sample, VALIDATION, *key[:2]),
        )
        for (prompt, _), sample in zip(
            generator_prompts(cell, evolution.ace, playbook, work), samples, strict=True
        )
    ]
    found = evolution.ask(prompts, VALIDATION)
    return {
        sample.sample_id: scored(sample, found[prompt.request_id], evolution.ace)
        for sample, prompt in zip(samples, prompts, strict=True)
    }


def scored(sample: Sample, completion: Completion, ace: AceConfig) -> float:
    """Return an answer's score as `ace.gate_on` wants it; 0 for one that failed or cannot be read."""
    verdict = judge(sample, completion.text)
    if completion.error is not None or not verdict.parsed:
        return 0.0
    return verdict.score if ace.gate_on == "score" else float(verdict.correct)


def is_correct(sample: Sample, completion: Completion) -> bool:
    """Say whether an answer counts as right; one that failed or cannot be read does not."""
    verdict = judge(sample, completion.text)
    return completion.error is None and verdict.parsed and bool(verdict.correct)


def answer_read(sample: Sample, completion: Completion) -> str:
    """Return what the parser read in an answer; "" where it read nothing."""
    return judge(sample, completion.text).pred or ""
