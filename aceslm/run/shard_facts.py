"""What a shard's finisher notes: its engine, what it spent, what its rate belongs to."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from aceslm.ace.evolution import GENERATOR, ROLES
from aceslm.core.engine import Engine
from aceslm.core.values import Cell
from aceslm.run.attempts import peak_memory_bytes
from aceslm.run.energy import EnergyMeter
from aceslm.run.evolution_steps import journal_of
from aceslm.run.work import Work
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


def spent(work: Work, engine: Engine, meter: EnergyMeter) -> dict[str, object]:
    """Return what was spent so far beside the time of the answers."""
    return {
        **(_overhead(work) if work.cell.evolves else {}),
        "load_s": engine.info.load_s,
        "token_budget_fraction": engine.counters.token_budget_fraction,
        "peak_memory_bytes": peak_memory_bytes(),
        "accelerator_peak_bytes": _accelerator_peak_bytes(engine),
        **meter.figures(),
    }


def _overhead(work: Work) -> dict[str, Any]:
    """Return what evolving cost so far: seconds, calls and unreadable replies of each role.

    `relative_cost` is the time of one adapted sample relative to its answer alone.
    """
    journal = journal_of(work.paths, work.cell, work.shard)
    state = journal.state()
    role_s = dict(state.role_s) if state else {}
    calls, failures = Counter[str](), Counter[str]()
    for call in journal.calls():
        calls[call.role] += 1
        failures[call.role] += call.parsed is False
    answering_s = role_s.get(GENERATOR, 0.0)
    return {
        "role_s": role_s,
        "role_calls": {role: calls[role] for role in ROLES},
        "parse_failures": {role: failures[role] for role in ROLES if role != GENERATOR},
        "validation": {name: asdict(ledger) for name, ledger in state.ledger.items()} if state else {},
        "relative_cost": sum(role_s.values()) / answering_s if answering_s else None,
    }


def _accelerator_peak_bytes(engine: Engine) -> int | None:
    if not engine.info.device.startswith("cuda"):
        return None
    from aceslm.engine.devices import accelerator_peak_bytes

    return accelerator_peak_bytes()
