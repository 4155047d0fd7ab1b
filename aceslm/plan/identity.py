"""One point of a grid -> its cell, whose id is a digest over all that decides its results."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from aceslm import tasks as task_types
from aceslm.config.grid import GridConfig, Variant
from aceslm.core.ace_config import AceConfig
from aceslm.core.digests import digest
from aceslm.core.values import Cell, ModelSpec, TaskTable
from aceslm.core.words import PLAYBOOK_MODES, Mode


@dataclass(frozen=True, slots=True)
class GridTask:
    """A task as a grid uses it: the samples that are scored, and the other splits where it has them.

    `placebo` is `adapt` with the gold answers passed around among its samples.
    """

    scored: TaskTable
    adapt: TaskTable | None = None
    validate: TaskTable | None = None
    placebo: TaskTable | None = None

    @property
    def name(self) -> str:
        return self.scored.task_name

    @property
    def tables(self) -> tuple[TaskTable, ...]:
        return tuple(one for one in (self.scored, self.adapt, self.validate, self.placebo) if one)


@dataclass(frozen=True, slots=True)
class Givens:
    """What a grid names beyond models and tasks, looked up.

    `role_models`: name -> model. `playbooks`: file name -> digest of its content. `donors`: tasks that
    only lend a playbook (`ace.shuffled_from`).
    """

    role_models: Mapping[str, ModelSpec] = field(default_factory=dict)
    playbooks: Mapping[str, str] = field(default_factory=dict)
    donors: Sequence[GridTask] = ()


@dataclass(frozen=True, slots=True)
class GridPoint:
    """What a cell shares with those beside it in the grid."""

    grid: GridConfig
    model: ModelSpec
    quantization: str
    seed: int
    variant: Variant
    givens: Givens

    @property
    def ace(self) -> AceConfig:
        return self.variant.settings(self.grid.ace)


def cell_of(
    point: GridPoint, table: TaskTable, mode: Mode, more: Mapping[str, Any] | None = None, **fields: Any
) -> Cell:
    grid, model = point.grid, point.model
    generation = grid.generation.settings()
    dtype = model.dtype if grid.dtype == "auto" else grid.dtype
    identity: dict[str, Any] = {
        "model": [model.revision] if model.source == "folder" else [model.model_id, model.revision],
        "chat_template_args": dict(model.chat_template_args),
        "context_window": model.context_window,  # what is longer becomes a row with an error
        "quantization": point.quantization,
        "dtype": dtype,
        "generation": asdict(generation),
        "default_max_new_tokens": dict(task_types.DEFAULT_MAX_NEW_TOKENS),
        "prompt_version": task_types.PROMPT_VERSION,
        "task": table.task_digest,
        "split": table.split,
        "mode": mode,
        "seed": point.seed,
        **(more or {}),
    }
    ace = point.ace if mode in PLAYBOOK_MODES else None
    epoch = fields.get("adaptation_epoch")
    variant = "-".join(filter(None, [point.variant.label, f"epoch-{epoch}" if epoch else ""]))
    return Cell(
        cell_id=f"{_slug(point, table, mode, variant)}-{digest(identity, length=12)}",
        model=model,
        quantization=point.quantization,
        dtype=dtype,
        task_name=table.task_name,
        domain=table.domain,
        split=table.split,
        task_digest=table.task_digest,
        mode=mode,
        seed=point.seed,
        epochs=fields.pop("epochs", 1),
        generation=generation,
        ace=ace,
        variant=variant,
        **fields,
    )


def _slug(point: GridPoint, table: TaskTable, mode: str, variant: str) -> str:
    stage = ["adapt"] if table.split == "adapt" else []
    parts = [point.model.name.rstrip("/").rsplit("/", 1)[-1], point.quantization, table.task_name, mode]
    parts += [*stage, variant, f"s{point.seed}"]
    return re.sub(r"[^a-z0-9]+", "-", "-".join(filter(None, parts)).lower()).strip("-")[:80]
