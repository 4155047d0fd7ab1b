"""Interleaved repeats over several engines; medians, rates and ratios.

The engines take turns within every repeat, so that a machine that slows down or speeds up meets them all.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aceslm.bench.checks import GREEDY, equal_answers
from aceslm.bench.contender import Contender, TimedRun
from aceslm.bench.contenders import BASELINES
from aceslm.bench.roofline import Encode, necessary
from aceslm.bench.workloads import QUICK_SCALE, CountTokens, make_workload, spread

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Repeats:
    """How often, and on how many prompts. The `baseline_` limits hold for transformers' ways of generating
    (`BASELINES`) unless one is the engine that the others are compared with.
    """

    repeats: int = 3
    baseline_repeats: int | None = None
    baseline_samples: int | None = None
    scale: float = 1.0

    def of(self, name: str, first: str) -> int:
        """Return the repeats of an engine."""
        limited = self.baseline_repeats is not None and _is_baseline(name, first)
        return self.baseline_repeats or 1 if limited else self.repeats

    def samples_of(self, name: str, first: str) -> int | None:
        """Return how many prompts an engine gets; None: all."""
        return self.baseline_samples if _is_baseline(name, first) else None


@dataclass(frozen=True, slots=True)
class EngineTiming:
    """One engine on one workload. `wall_s` is the median of `wall_s_each`; rates are of that median."""

    wall_s: float
    wall_s_each: tuple[float, ...]
    repeats: int
    samples: int
    samples_per_s: float
    prompt_tokens_per_s: float
    new_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class WorkloadTiming:
    """All engines on one workload.

    `ratios` are samples/s of the first engine over those of each other one: "shared_prefix/generate": 8.4
    says that shared_prefix is 8.4 times as fast. `equal_answers` are fractions of identical greedy answers.
    `distinct_prompt_tokens` counts what is left when shared prefixes count once.
    """

    workload: str
    description: str
    prompts: int
    prompt_tokens: int
    distinct_prompt_tokens: int
    new_tokens: int
    engines: Mapping[str, EngineTiming]
    ratios: Mapping[str, float]
    equal_answers: Mapping[str, float]
    notes: tuple[str, ...]


def time_workload(
    name: str,
    contenders: Mapping[str, Contender],
    plan: Repeats,
    encode: Encode,
    count_tokens: CountTokens,
    report: Report,
) -> WorkloadTiming:
    """Warm every engine up on a small variant, then time them in turns; texts differ in every repeat.

    Raises:
        UsageError: no such workload.
        WorkError: an engine does not answer a prompt.
    """
    names = list(contenders)
    small = make_workload(name, count_tokens, key="warm-up", scale=plan.scale * QUICK_SCALE)
    for engine, contender in contenders.items():
        report(f"{name}: {engine} warms up")
        contender.run(small.prompts, GREEDY)
    runs: dict[str, list[TimedRun]] = {engine: [] for engine in names}
    workloads = [
        make_workload(name, count_tokens, key=f"repeat {repeat}", scale=plan.scale)
        for repeat in range(max(plan.of(engine, names[0]) for engine in names))
    ]
    for repeat, workload in enumerate(workloads):
        for engine, contender in contenders.items():
            if repeat < plan.of(engine, names[0]):
                report(f"{name}: {engine}, repeat {repeat + 1}")
                prompts = spread(workload, plan.samples_of(engine, names[0]))
                runs[engine].append(contender.run(prompts, GREEDY))
    tokens = {prompt.request_id: encode(prompt) for prompt in workloads[0].prompts}
    timings = {engine: _timing(runs[engine], tokens) for engine in names}
    return WorkloadTiming(
        workload=name,
        description=workloads[0].description,
        prompts=len(tokens),
        prompt_tokens=sum(map(len, tokens.values())),
        distinct_prompt_tokens=necessary(list(tokens.values())).tokens,
        new_tokens=sum(prompt.max_new_tokens for prompt in workloads[0].prompts),
        engines=timings,
        ratios=ratios(timings),
        equal_answers=_equalities({engine: runs[engine][0] for engine in names}),
        notes=_notes(timings, len(tokens)),
    )


def ratios(timings: Mapping[str, EngineTiming]) -> dict[str, float]:
    """Return `first/other` for every engine but the first: how many times as fast the first is, in samples/s.

    With equal samples that is the ratio of the median wall times.
    """
    first, *others = timings
    return {
        f"{first}/{other}": timings[first].samples_per_s / timings[other].samples_per_s for other in others
    }


def _timing(runs: Sequence[TimedRun], tokens: Mapping[str, Sequence[int]]) -> EngineTiming:
    """Rates count the prompt tokens of the first repeat; the others differ by a word."""
    walls = tuple(run.wall_s for run in runs)
    wall_s = statistics.median(walls)
    samples = len(runs[0].answers)
    prompt_tokens = sum(len(tokens[name]) for name in runs[0].answers)
    return EngineTiming(
        wall_s=wall_s,
        wall_s_each=walls,
        repeats=len(walls),
        samples=samples,
        samples_per_s=samples / wall_s,
        prompt_tokens_per_s=prompt_tokens / wall_s,
        new_tokens_per_s=runs[0].output_tokens / wall_s,
    )


def _equalities(runs: Mapping[str, TimedRun]) -> dict[str, float]:
    """Compare every engine's answers with those of `generate`, else of the first engine."""
    reference = "generate" if "generate" in runs else next(iter(runs))
    return {
        f"{name}/{reference}": equal_answers(run.answers, runs[reference].answers)
        for name, run in runs.items()
        if name != reference
    }


def _notes(timings: Mapping[str, EngineTiming], prompts: int) -> tuple[str, ...]:
    return tuple(
        f"{name} answered {timing.samples} of {prompts} prompts, spread evenly: its ratio compares samples/s"
        for name, timing in timings.items()
        if timing.samples < prompts
    )


def _is_baseline(name: str, first: str) -> bool:
    return name in BASELINES and name != first
