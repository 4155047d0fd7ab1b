"""Text generation behind one protocol. Importing this package imports neither torch nor transformers.

engine = load_engine(spec, quantization="none", dtype="auto", device="auto")
for completion in engine.generate(prompts, settings):
    ...
"""

from __future__ import annotations

from aceslm.core.engine import Engine
from aceslm.core.errors import ConfigError, nearest
from aceslm.core.values import ModelSpec

ENGINES = ("auto", "shared_prefix", "generate", "scripted")


def load_engine(
    model: ModelSpec,
    *,
    engine: str = "auto",
    quantization: str = "none",
    dtype: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    batch_fraction: float = 1.0,
) -> Engine:
    """Load a model into an engine.

    Args:
        engine: `auto` (scripted for the scripted model, else `shared_prefix`), `shared_prefix`, `generate`
            or `scripted`.
        quantization: `none`, `int8` or `nf4`.
        batch_size: prompts in flight at once; None chooses by device and free memory.
        batch_fraction: part of that, after attempts that ran out of memory.

    Raises:
        ModelUnavailable: not cached, gated, or its files do not load.
        EngineError: no such device, or no quantization backend for it.
    """
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine '{engine}'{nearest(engine, ENGINES)}")
    if engine == "scripted" or model.source == "scripted":
        from aceslm.engine.scripted import ScriptedEngine

        return ScriptedEngine()
    from aceslm.engine.generate import GenerateEngine
    from aceslm.engine.loading import load_model

    loaded = load_model(model, quantization, dtype, device)
    if engine == "generate":
        return GenerateEngine(loaded, batch_size, batch_fraction)
    from aceslm.engine.shared_prefix import SharedPrefixEngine

    return SharedPrefixEngine(loaded, batch_size, batch_fraction)
