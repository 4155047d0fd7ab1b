"""What can be timed side by side: this library's engines, two of transformers' ways, and vLLM.

    contenders = load_contenders(spec, ["shared_prefix", "generate"], LoadOptions())
    run = contenders["generate"].run(prompts, GenerationSettings())     # run.wall_s, run.answers

All are loaded at once, so that their repeats can be interleaved; each holds its own weights.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aceslm.bench.contender import Contender, TimedRun
from aceslm.core.engine import Engine, never
from aceslm.core.errors import UsageError, WorkError, nearest
from aceslm.core.prompts import Prompt
from aceslm.core.values import GenerationSettings, ModelSpec
from aceslm.engine import ENGINES, load_engine

# transformers drives these: slow on long prefixes, so that they may be given fewer repeats and samples
BASELINES = ("generate", "generate_loop", "continuous")


VLLM = ("vllm", "vllm_warm")


CONTENDERS = (*(name for name in ENGINES if name != "auto"), "generate_loop", "continuous", *VLLM)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How the engines are loaded; `vllm_python` is a Python that can import vllm."""

    quantization: str = "none"
    dtype: str = "auto"
    device: str = "auto"
    batch_size: int | None = None
    vllm_python: Path | None = None


class LocalContender:
    """An engine in this process; its wall time includes rendering and tokenizing."""

    keeps_prefix = False

    def __init__(self, engine: Engine, *, samples: bool = True) -> None:
        self.engine = engine
        self.info = engine.info
        self.samples = samples

    def run(self, prompts: Sequence[Prompt], settings: GenerationSettings) -> TimedRun:
        """Answer all prompts."""
        began = time.perf_counter()
        completions = list(self.engine.generate(prompts, settings, never))
        wall_s = time.perf_counter() - began
        errors = [completion.error for completion in completions if completion.error]
        if errors or len(completions) < len(prompts):
            why = errors[0] if errors else "no answer"
            unanswered = len(prompts) - len(completions) + len(errors)
            raise WorkError(
                f"{self.info.engine}: {unanswered} of {len(prompts)} prompts failed ({why}); "
                "try --quick, another --workload or a smaller --batch-size"
            )
        answers = {done.request_id: done.token_ids or done.text for done in completions}
        return TimedRun(wall_s, answers, sum(done.output_tokens for done in completions))

    def close(self) -> None:
        """Free the model's memory."""
        self.engine.close()


def check_names(names: Sequence[str], options: LoadOptions) -> None:
    """Refuse what cannot be loaded, before anything is.

    Raises:
        UsageError: an unknown or repeated name; vLLM without a Python, alone or quantized.
    """
    for name in names:
        if name not in CONTENDERS:
            raise UsageError(f"--engine: '{name}' is not one of them{nearest(name, CONTENDERS)}")
    if len(set(names)) < len(names):
        raise UsageError(f"--engine: {', '.join(names)} names one twice")
    if not set(names) & set(VLLM):
        return
    if options.vllm_python is None:
        raise UsageError("--engine vllm needs --vllm-python PATH, a Python that can import vllm")
    if not options.vllm_python.is_file():
        raise UsageError(f"--vllm-python {options.vllm_python}: no such file")
    if set(names) <= set(VLLM):
        raise UsageError("--engine vllm takes its dtype from an engine beside it: name one more --engine")
    if options.quantization != "none":
        raise UsageError("--engine vllm is timed without quantization only; leave it out")


def load_contenders(spec: ModelSpec, names: Sequence[str], options: LoadOptions) -> dict[str, Contender]:
    """Load engines whose names were checked, vLLM last: in the dtype that the first one found.

    Raises:
        ModelUnavailable, EngineError: it does not load.
    """
    loaded: dict[str, Contender] = {}
    try:
        for name in names:
            if name not in VLLM:
                loaded[name] = _local(spec, name, options)
        if set(names) & set(VLLM) and options.vllm_python is not None:
            from aceslm.bench.vllm_client import load_vllm

            both = load_vllm(spec, options.vllm_python, next(iter(loaded.values())).info.dtype)
            loaded |= {name: contender for name, contender in both.items() if name in names}
    except BaseException:
        close_all(loaded)
        raise
    return {name: loaded[name] for name in names}


def close_all(contenders: Mapping[str, Contender]) -> None:
    """Close every contender."""
    for contender in contenders.values():
        contender.close()


def _local(spec: ModelSpec, name: str, options: LoadOptions) -> LocalContender:
    if name == "continuous" and spec.source != "scripted":
        from aceslm.engine.continuous import ContinuousEngine
        from aceslm.engine.loading import load_model

        loaded = load_model(spec, options.quantization, options.dtype, options.device)
        return LocalContender(ContinuousEngine(loaded), samples=False)
    looped = name == "generate_loop"
    engine = load_engine(
        spec,
        engine="generate" if looped or name == "continuous" else name,
        quantization=options.quantization,
        dtype=options.dtype,
        device=options.device,
        batch_size=1 if looped else options.batch_size,
    )
    return LocalContender(engine)
