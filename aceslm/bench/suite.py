"""The whole benchmark: load, time each workload, probe, check; one value with all figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aceslm.bench.checks import Determinism, check_determinism
from aceslm.bench.contender import Contender
from aceslm.bench.contenders import VLLM, LoadOptions, check_names, close_all, load_contenders
from aceslm.bench.roofline import Encode, Roofline, probe
from aceslm.bench.timing import Repeats, Report, WorkloadTiming, time_workload
from aceslm.bench.workloads import QUICK_SCALE, CountTokens, make_workload
from aceslm.core.engine import EngineInfo
from aceslm.core.values import ModelSpec
from aceslm.engine import ENGINES, load_engine

DEFAULT_ENGINES = tuple(name for name in ("shared_prefix", "generate") if name in ENGINES)
_CHECK_SCALE = 1 / 3  # 16 prompts with two shared levels, short enough to be answered one by one

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What one engine is, and how its probe and its self-check came out.

    `roofline` is None where its prefix cache was kept or there is no model.
    """

    info: EngineInfo
    roofline: Roofline | None
    determinism: Determinism


@dataclass(frozen=True, slots=True)
class BenchResult:
    """All figures of one benchmark. `hardware` is empty without a model."""

    spec: ModelSpec
    workloads: tuple[WorkloadTiming, ...]
    engines: Mapping[str, EngineReport]
    hardware: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return `workloads`, `hardware` and `model` as JSON values."""
        model = {"name": self.spec.name, "model_id": self.spec.model_id, "revision": self.spec.revision}
        return {
            "workloads": [asdict(timing) for timing in self.workloads],
            "hardware": dict(self.hardware),
            "model": {**model, "engines": {name: asdict(report) for name, report in self.engines.items()}},
        }


def engine_names(wanted: Sequence[str] | None, options: LoadOptions) -> tuple[str, ...]:
    """Return the engines to time: the wanted or the default, and vLLM's two where its Python is given."""
    names = tuple(wanted or DEFAULT_ENGINES)
    if options.vllm_python is not None and not set(names) & set(VLLM):
        names += VLLM
    return names


def run_bench(
    spec: ModelSpec,
    workloads: Sequence[str],
    engines: Sequence[str],
    options: LoadOptions,
    plan: Repeats,
    progress: Progress,
) -> BenchResult:
    """Load every engine, time them on every workload in turns, probe and check each.

    Raises:
        UsageError: an unknown workload or engine.
        ModelUnavailable, EngineError, WorkError: an engine does not load or does not answer.
    """
    check_names(engines, options)
    encode, count_tokens = _tokens(spec)
    for name in workloads:
        make_workload(name, count_tokens, key="warm-up", scale=QUICK_SCALE)  # refused before anything loads
    runs = sum(1 + plan.of(name, engines[0]) for name in engines)
    report = _counted(progress, 1 + runs * len(workloads) + 2 * len(engines))
    report("loading the engines")
    contenders = load_contenders(spec, engines, options)
    try:
        timings = [time_workload(name, contenders, plan, encode, count_tokens, report) for name in workloads]
        hardware, reports = _examine(spec, contenders, plan, encode, count_tokens, report)
    finally:
        close_all(contenders)
    return BenchResult(spec, tuple(timings), reports, hardware)


def _examine(
    spec: ModelSpec,
    contenders: Mapping[str, Contender],
    plan: Repeats,
    encode: Encode,
    count_tokens: CountTokens,
    report: Report,
) -> tuple[dict[str, Any], dict[str, EngineReport]]:
    """Measure the device, then probe and check every engine."""
    hardware = shape = None
    if spec.source != "scripted":
        from aceslm.engine.hardware import measure_hardware, model_shape

        here = next(contender.info for name, contender in contenders.items() if name not in VLLM)
        hardware, shape = measure_hardware(here.device, here.dtype), model_shape(spec)
    first = next(iter(contenders))
    scale = max(_CHECK_SCALE * plan.scale, QUICK_SCALE)
    asked = make_workload("contexts", count_tokens, key="check", scale=scale).prompts
    reports = {}
    for name, contender in contenders.items():
        report(f"probe: {name}")
        roofline = None
        if hardware is not None and shape is not None and not contender.keeps_prefix:
            repeats = plan.of(name, first)
            roofline = probe(
                contender, shape, hardware, encode, count_tokens, repeats=repeats, scale=plan.scale
            )
        report(f"self-check: {name}")
        reports[name] = EngineReport(contender.info, roofline, check_determinism(contender, asked))
    return (asdict(hardware) if hardware else {}), reports


def _tokens(spec: ModelSpec) -> tuple[Encode, CountTokens]:
    """Return how a model encodes prompts and counts tokens; the scripted one sees bytes and counts words."""
    if spec.source == "scripted":
        engine = load_engine(spec)
        return (lambda prompt: engine.render(prompt).encode()), engine.count_tokens
    from aceslm.engine.chat_template import Prompter
    from aceslm.engine.loading import load_tokenizer

    prompter = Prompter(load_tokenizer(spec), spec)
    return prompter.encode, prompter.count_tokens


def _counted(progress: Progress, total: int) -> Report:
    done = iter(range(total + 1))
    return lambda line: progress(next(done), total, line)
