"""Do answers depend on company, and do two engines answer alike? Fractions of identical answers.

Neither has to be 1: in bf16 the two best tokens are often closer than the rounding, which depends on the
shapes of the matrix products, and from the first flipped token on two answers differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aceslm.bench.contender import Contender, TimedRun
from aceslm.core.prompts import Prompt
from aceslm.core.values import GenerationSettings

GREEDY = GenerationSettings()
SAMPLED = GenerationSettings(temperature=1.0)


@dataclass(frozen=True, slots=True)
class Determinism:
    """The fraction of prompts answered alone as in one batch; `sampled` is None where only greedy can be."""

    prompts: int
    greedy: float
    sampled: float | None


def check_determinism(contender: Contender, prompts: Sequence[Prompt]) -> Determinism:
    """Answer prompts one by one and in one batch, greedy and at temperature 1, and compare."""
    sampled = _alone_as_together(contender, prompts, SAMPLED) if contender.samples else None
    return Determinism(len(prompts), _alone_as_together(contender, prompts, GREEDY), sampled)


def equal_answers(first: Mapping[str, object], second: Mapping[str, object]) -> float:
    """Return the fraction of the prompts that both answered where the answers are the same."""
    both = first.keys() & second.keys()
    return sum(first[name] == second[name] for name in both) / len(both)


def _alone_as_together(
    contender: Contender, prompts: Sequence[Prompt], settings: GenerationSettings
) -> float:
    together: TimedRun = contender.run(prompts, settings)
    alone: dict[str, object] = {}
    for prompt in prompts:
        alone |= contender.run([prompt], settings).answers
    return equal_answers(alone, together.answers)
