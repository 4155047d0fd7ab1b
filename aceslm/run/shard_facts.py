"""What a shard's finisher notes: its engine, what it spent, what its rate belongs to."""

from __future__ import annotations

from typing import Any

from aceslm.core.engine import Engine
from aceslm.core.values import Cell
from aceslm.run.attempts import peak_memory_bytes
from aceslm.run.energy import EnergyMeter
from aceslm.run.workload import rate_facts


def engine_facts(engine: Engine) -> dict[str, Any]:
    """Return what actually ran."""
    info = engine.info
    return {
        "engine": info.engine_effective,
        "device": info.device,
        "dtype": info.dtype,
        "quantization": info.quantization,
        "determinism": info.determinism,
        "footprint_bytes": info.footprint_bytes,
    }


def done_facts(cell: Cell, engine: Engine) -> dict[str, Any]:
    """Return what `done.json` says beside rows and timings."""
    return {"engine": engine_facts(engine), **rate_facts(cell, engine.info)}


def spent(engine: Engine, meter: EnergyMeter) -> dict[str, object]:
    """Return what was spent so far beside the time of the answers."""
    return {
        "load_s": engine.info.load_s,
        "token_budget_fraction": engine.counters.token_budget_fraction,
        "peak_memory_bytes": peak_memory_bytes(),
        "accelerator_peak_bytes": _accelerator_peak_bytes(engine),
        **meter.figures(),
    }


def _accelerator_peak_bytes(engine: Engine) -> int | None:
    if not engine.info.device.startswith("cuda"):
        return None
    from aceslm.engine.devices import accelerator_peak_bytes

    return accelerator_peak_bytes()
