"""What a measured rate belongs to: which work on which hardware. In `done.json`, for the planner.

    facts = rate_facts(cell, engine.info)        # {"workload": {...}, "hardware": {...}}

A rate says something about other work only where both are the same: another GPU, another answer length or a
playbook in front changes it many times over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aceslm.core.engine import EngineInfo
from aceslm.core.machine import Hardware, hardware
from aceslm.core.values import Cell


@dataclass(frozen=True, slots=True)
class Workload:
    """What is computed. `kind` is `plain`, `carrying` (a finished playbook in each prompt) or `evolving`.

    `max_new_tokens` None is the answer type's own; `task` stands for its prompts' and answers' length.
    """

    model_id: str
    quantization: str
    dtype: str
    engine: str
    task: str
    max_new_tokens: int | None
    kind: str


def workload_of(cell: Cell, engine: str) -> Workload:
    """Return a cell's workload; `engine` is what was asked for (`auto` stands for what it chooses)."""
    if engine == "auto":
        engine = "scripted" if cell.model.source == "scripted" else "shared_prefix"
    carries = cell.adaptation or cell.donor or cell.initial_playbook
    return Workload(
        model_id=cell.model.model_id,
        quantization=cell.quantization,
        dtype=cell.dtype,
        engine=engine,
        task=cell.task_name,
        max_new_tokens=cell.generation.max_new_tokens,
        kind="evolving" if cell.evolves else "carrying" if carries else "plain",
    )


def rate_facts(cell: Cell, info: EngineInfo) -> dict[str, Any]:
    """Return what the rate of a shard belongs to."""
    name = None
    if info.device.startswith("cuda"):
        from aceslm.engine.devices import gpu_name

        name = gpu_name(info.device)
    return {
        "workload": asdict(workload_of(cell, info.engine)),
        "hardware": asdict(hardware(info.device, name)),
    }


def read_facts(facts: Mapping[str, Any]) -> tuple[Workload, Hardware] | None:
    """Read back what `rate_facts` wrote; None where it is missing, damaged or of another version."""
    try:
        return Workload(**facts["workload"]), Hardware(**facts["hardware"])
    except (KeyError, TypeError):
        return None
