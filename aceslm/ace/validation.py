"""What is asked of the `validate` split while a playbook evolves: candidates, the gate, the last comparison.

    chosen, trial = best_candidate(evolution, before, candidates)     # once a round
    playbook, trial = gated(evolution, accepted, candidate)           # once an epoch
    playbook, trial = compared_with_first(evolution, first, last)     # once, at the end

The same prompt builder, parser and scorer as for every other answer. Candidates are compared on questions of
other contexts than the gate's, which would else only see again what selection has fitted. A playbook with the
very text of the one before it is not asked: it would be compared with itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from aceslm.ace.evolution import Evolution
from aceslm.ace.gate import Trial, compare, decide, draw_minibatch, select_candidate, settle
from aceslm.ace.generator import validated
from aceslm.ace.playbook.bullets import Playbook
from aceslm.core.ace_config import AceConfig
from aceslm.core.contexts import context_key
from aceslm.core.digests import digest
from aceslm.core.errors import ConfigError
from aceslm.core.values import Sample

GATE, SELECT, FINAL = PURPOSES = ("gate", "select", "final")
SELECT_SHARE = 110 / 180  # select 110, gate 70: as TAT-QA's validation questions are divided


@dataclass(frozen=True, slots=True)
class ValidationHalves:
    """The `validate` split, divided by context where candidates and the gate both ask it."""

    select: tuple[Sample, ...]
    gate: tuple[Sample, ...]


def divided(samples: Sequence[Sample], ace: AceConfig) -> ValidationHalves:
    """Return which samples candidates and which the gate may ask; the division is the same for every seed."""
    if not (ace.gate and ace.candidates > 1):
        return ValidationHalves(tuple(samples), tuple(samples))
    contexts: dict[tuple[bool, str], list[Sample]] = {}
    for sample in samples:
        contexts.setdefault(context_key(sample), []).append(sample)
    chosen: set[tuple[bool, str]] = set()
    count = 0
    for name in sorted(contexts, key=lambda key: digest("validate", key[1]))[:-1]:
        if count and count + len(contexts[name]) > SELECT_SHARE * len(samples):
            continue
        chosen.add(name)
        count += len(contexts[name])
    select = tuple(one for one in samples if context_key(one) in chosen)
    return ValidationHalves(select, tuple(one for one in samples if context_key(one) not in chosen))


def check_divisible(ace: AceConfig, task_name: str, contexts: Collection[str]) -> None:
    """Refuse to divide one context.

    Args:
        contexts: the contexts of the `validate` samples that may be asked.

    Raises:
        ConfigError: names the keys, the task, and what to do.
    """
    if ace.gate and ace.candidates > 1 and len(contexts) < 2:
        raise ConfigError(
            f"keys 'ace.gate' and 'ace.candidates': the 'validate' split of task '{task_name}' is one "
            "context, which the two cannot share: add another, or say --set ace.candidates=1"
        )


def best_candidate(
    evolution: Evolution, before: Playbook, candidates: Sequence[Playbook]
) -> tuple[int | None, Trial]:
    """Return the index of the candidate that gains most over `before` (None: none gains), and the trial.

    Raises:
        Stopped, EngineError: as `Evolution.ask`.
    """
    step = before.version + 1
    samples = draw_minibatch(
        divided(evolution.validate, evolution.ace).select,
        evolution.ace.gate_samples,
        seed=evolution.cell.seed,
        round_number=step,
        purpose=SELECT,
    )
    outcomes, queries = _outcomes(evolution, [before, *candidates], samples, (SELECT, step))
    selection = select_candidate(outcomes[0], outcomes[1:])
    nets = ", ".join(f"{pairs.net:+.4g}" for pairs in selection.pairs)
    word = "none taken" if selection.index is None else f"candidate {selection.index} taken"
    reason = f"{word}: net {nets} of {len(samples)}"
    return selection.index, Trial(SELECT, selection.index is not None, selection.pairs, queries, reason)


def gated(evolution: Evolution, accepted: Playbook, candidate: Playbook) -> tuple[Playbook, Trial]:
    """Return what the gate makes of an epoch's playbook, as the next version.

    Args:
        accepted: the version that the gate accepted last (at first the one that evolution started with).

    Raises:
        Stopped, EngineError: as `Evolution.ask`.
    """
    samples = draw_minibatch(
        divided(evolution.validate, evolution.ace).gate,
        evolution.ace.gate_samples,
        seed=evolution.cell.seed,
        round_number=candidate.version + 1,
        purpose=GATE,
    )
    return _settled(evolution, GATE, accepted, candidate, samples, evolution.ace.gate_threshold)


def compared_with_first(evolution: Evolution, first: Playbook, last: Playbook) -> tuple[Playbook, Trial]:
    """Return the last version, or the first again where that one is better on the whole `validate` split.

    So no evolution ends below its starting point there.

    Raises:
        Stopped, EngineError: as `Evolution.ask`.
    """
    return _settled(evolution, FINAL, first, last, evolution.validate, 0.0)


def _settled(
    evolution: Evolution,
    purpose: str,
    before: Playbook,
    candidate: Playbook,
    samples: Sequence[Sample],
    threshold: float,
) -> tuple[Playbook, Trial]:
    step = candidate.version + 1
    outcomes, queries = _outcomes(evolution, [before, candidate], samples, (purpose, step))
    old, new = outcomes
    pairs = compare(old, new, {sample.sample_id: context_key(sample) for sample in samples})
    decision = decide(pairs, threshold)
    playbook = settle(before, candidate, accepted=decision.accepted).advanced()
    return playbook, Trial(purpose, decision.accepted, (pairs,), queries, decision.reason)


def _outcomes(
    evolution: Evolution,
    playbooks: Sequence[Playbook],
    samples: Sequence[Sample],
    key: tuple[str, int],
) -> tuple[list[dict[str, float]], int]:
    """Return each playbook's outcomes and the number of answers asked for; equal texts are asked once."""
    texts = [(playbook.render(), *playbook.exemplars) for playbook in playbooks]
    known: dict[tuple[object, ...], dict[str, float]] = {}
    if set(texts) == {texts[0]}:  # nothing to compare: nothing is asked
        known[texts[0]] = {sample.sample_id: 0.0 for sample in samples}
        return [known[text] for text in texts], 0
    for number, (text, playbook) in enumerate(zip(texts, playbooks, strict=True)):
        if text not in known:
            known[text] = validated(evolution, playbook, samples, key=(*key, number))
    return [known[text] for text in texts], len(known) * len(samples)
