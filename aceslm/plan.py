"""Configuration and samples -> Plan: cells, shards, and what is still to be planned.

    cells = expand(grid, models, tasks)
    plan = next_plan(grid, cells, tasks, earlier=load_plans(paths))

Pure but for `load_plans` and `save_plan`. A plan is written once and never changed: a larger limit or a
split adds a further plan over the units that no earlier one covers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

from aceslm import tasks as task_types
from aceslm.ace.playbook import Playbook
from aceslm.ace.roles import role_digest
from aceslm.ace_config import AceConfig
from aceslm.config import GridConfig
from aceslm.digests import digest
from aceslm.errors import ConfigError, RunError
from aceslm.paths import RunPaths
from aceslm.records import Cell, ModelSpec, Plan, Shard, TaskTable, Unit
from aceslm.store import create_json, read_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

DEFAULT_SHARD_SIZE = 64
MAX_SHARDS = 4000  # more entries than this in one folder make a parallel file system slow

Ranges = tuple[tuple[int, int], ...]


def expand(grid: GridConfig, models: Sequence[ModelSpec], tasks: Sequence[TaskTable]) -> tuple[Cell, ...]:
    """Return the cells of a grid in order: model, quantization, task, mode, seed.

    Raises:
        ConfigError: a mode is not available, seeds would only copy results, or a cell comes twice.
    """
    _refuse_unavailable(grid)
    cells: dict[str, Cell] = {}
    for model, quantization, task, mode, seed in product(
        models, grid.quantization, tasks, grid.modes, grid.seeds
    ):
        cell = _cell(grid, model, quantization, task, mode, seed)
        if cell.cell_id in cells:
            raise ConfigError(
                f"model '{model.name}' on task '{task.task_name}' is in this grid twice under two names "
                f"(the other model name is '{cells[cell.cell_id].model.name}'): list it once"
            )
        cells[cell.cell_id] = cell
    return tuple(cells.values())


def run_digest(cells: Iterable[Cell]) -> str:
    """Return the digest that names a run: over its cells, in any order."""
    return digest(sorted(cell.cell_id for cell in cells), length=8)


def next_plan(
    grid: GridConfig,
    cells: Sequence[Cell],
    tasks: Sequence[TaskTable],
    earlier: Sequence[Plan],
    resources: Mapping[str, Mapping[str, Any]] | None = None,
    shard_sizes: Mapping[str, int] | None = None,
) -> Plan | None:
    """Return a plan over the wanted units that no earlier plan covers; None when there are none.

    Args:
        shard_sizes: cell id -> samples a shard, where it was measured; a size of 0 leaves the cell out.
    """
    number = len(earlier) + 1
    ordered = earlier[0].cells if earlier else tuple(cells)
    by_digest = {task.task_digest: task for task in tasks}
    shards: list[Shard] = []
    for index, cell in enumerate(ordered):
        wanted = wanted_ranges(len(by_digest[cell.task_digest].sample_ids), cell.epochs, grid.limit)
        covered = [part for plan in earlier for shard in shards_of(plan, cell) for part in shard.ranges]
        size = (shard_sizes or {}).get(cell.cell_id, grid.shard_size or DEFAULT_SHARD_SIZE)
        missing = subtract(wanted, covered)
        pieces = chunks(missing, size) if size else []
        if cell.evolves:  # each round needs the one before: one shard
            pieces = [missing] if missing else []
        shards += [
            Shard(f"c{index:03d}-p{number:02d}-{n:04d}", cell.cell_id, ranges)
            for n, ranges in enumerate(pieces)
        ]
    if not shards:
        return None
    if len(shards) > MAX_SHARDS:
        size = max(shard.num_units for shard in shards) * -(-len(shards) // MAX_SHARDS)
        raise ConfigError(
            f"this grid makes {len(shards):,} shards, more than {MAX_SHARDS:,}: --set shard_size={size}"
        )
    return Plan(number, grid.name, ordered, tuple(shards), tuple(tasks), resources or {})


def shards_of(plan: Plan, cell: Cell) -> list[Shard]:
    """Return the shards of one cell."""
    return [shard for shard in plan.shards if shard.cell_id == cell.cell_id]


def unit_at(cell: Cell, sample_ids: Sequence[str], index: int) -> Unit:
    """Return the unit at `index` of a cell's epoch-major order."""
    epoch, position = divmod(index, len(sample_ids))
    return cell.unit(sample_ids[position], epoch)


def wanted_ranges(num_samples: int, epochs: int, limit: int | None) -> Ranges:
    """Return the unit ranges that a limit asks for: the first `limit` samples of every epoch."""
    count = num_samples if limit is None else min(limit, num_samples)
    if count == num_samples:
        return ((0, epochs * num_samples),)
    return tuple((epoch * num_samples, epoch * num_samples + count) for epoch in range(epochs))


def subtract(wanted: Iterable[tuple[int, int]], covered: Iterable[tuple[int, int]]) -> Ranges:
    """Return the parts of `wanted` that no range of `covered` holds.

    >>> subtract([(0, 10)], [(2, 4), (8, 12)])
    ((0, 2), (4, 8))
    """
    remaining = list(wanted)
    for low, high in covered:
        cut: list[tuple[int, int]] = []
        for start, stop in remaining:
            cut += [(start, min(stop, low)), (max(start, high), stop)]
        remaining = [(start, stop) for start, stop in cut if start < stop]
    return tuple(sorted(remaining))


def chunks(ranges: Iterable[tuple[int, int]], size: int) -> list[Ranges]:
    """Cut ranges into consecutive pieces of at most `size` units each."""
    pieces: list[Ranges] = []
    for start, stop in ranges:
        pieces += [((low, min(low + size, stop)),) for low in range(start, stop, size)]
    return pieces


def save_plan(paths: RunPaths, plan: Plan) -> None:
    """Write a plan; an existing plan of that number is never changed."""
    path = paths.plan(plan.number)
    if not create_json(path, asdict(plan)):
        raise RunError(f"{path} exists already: another `aceslm submit` is planning this run; try again")


def load_plans(paths: RunPaths) -> tuple[Plan, ...]:
    """Read all plans of a run in order; an empty tuple where there is none.

    Raises:
        RunError: a plan does not read back.
    """
    files = sorted(paths.plans.glob("[0-9]*.json")) if paths.plans.is_dir() else []
    plans = []
    for number, path in enumerate(files, start=1):
        if path != paths.plan(number):
            raise RunError(f"{paths.plan(number)} is missing, though {path.name} is there: restore it")
        plans.append(_plan_from_json(read_json(path), str(path)))
    return tuple(plans)


def require_plans(paths: RunPaths) -> tuple[Plan, ...]:
    """Like `load_plans`, but a folder without a plan is an error that says what a run directory is."""
    plans = load_plans(paths)
    if not plans:
        what = "is not a run directory (no plans/0001.json)" if paths.root.is_dir() else "does not exist"
        raise RunError(f"{paths.root} {what}: `aceslm status` lists the runs")
    return plans


def unfinished(paths: RunPaths, plans: Sequence[Plan]) -> list[Shard]:
    """Return the shards that have no done file and are not replaced by a later plan."""
    replaced = {name for plan in plans for shard in plan.shards for name in shard.replaces}
    return [
        shard
        for plan in plans
        for shard in plan.shards
        if shard.shard_id not in replaced and not paths.done(shard.shard_id).exists()
    ]


def _cell(
    grid: GridConfig, model: ModelSpec, quantization: str, task: TaskTable, mode: str, seed: int
) -> Cell:
    generation = grid.generation.settings()
    dtype = model.dtype if grid.dtype == "auto" else grid.dtype
    identity: dict[str, Any] = {
        "model": [model.revision] if model.source == "folder" else [model.model_id, model.revision],
        "chat_template_args": dict(model.chat_template_args),
        "context_window": model.context_window,  # what is longer becomes a row with an error
        "quantization": quantization,
        "dtype": dtype,
        "generation": asdict(generation),
        "default_max_new_tokens": dict(task_types.DEFAULT_MAX_NEW_TOKENS),
        "prompt_version": task_types.PROMPT_VERSION,
        "task": task.task_digest,
        "split": task.split,
        "mode": mode,
        "seed": seed,
    }
    evolves = mode == "ace"
    ace = grid.ace.model_dump(mode="json") if evolves else {}
    if evolves:  # order and number of the samples decide what is learnt
        identity["ace"] = [ace, role_digest(), Playbook().digest, task.sample_ids[: grid.limit]]
    parts = [model.name.rstrip("/").rsplit("/", 1)[-1], quantization, task.task_name, mode, f"s{seed}"]
    slug = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")[:80]
    return Cell(
        cell_id=f"{slug}-{digest(identity, length=12)}",
        model=model,
        quantization=quantization,
        dtype=dtype,
        task_name=task.task_name,
        domain=task.domain,
        split=task.split,
        task_digest=task.task_digest,
        mode=mode,
        seed=seed,
        epochs=grid.ace.epochs if evolves else 1,
        generation=generation,
        ace=ace,
    )


def _refuse_unavailable(grid: GridConfig) -> None:
    missing = [mode for mode in grid.modes if mode in {"ace_frozen", "ace_shuffled"}]
    if missing:
        raise ConfigError(f"mode '{missing[0]}' is not available yet (available: baseline, scaffold, ace)")
    if "ace" in grid.modes:
        _refuse_unavailable_ace(grid.ace)
    if len(grid.seeds) > 1 and grid.generation.temperature == 0:
        raise ConfigError(
            f"seeds {list(grid.seeds)} under greedy decoding would be copies of one result: "
            "give one seed, or set generation.temperature above 0"
        )


def _refuse_unavailable_ace(ace: AceConfig) -> None:
    defaults = AceConfig()
    for key in ("reflector_model", "curator_model", "playbook", "gate", "candidates", "workers"):
        if getattr(ace, key) != getattr(defaults, key):
            raise ConfigError(f"key 'ace.{key}' is not available yet: leave it out")
    if not ace.labels and ace.reflect == "wrong":
        raise ConfigError(
            "ace.reflect 'wrong' needs gold answers: with ace.labels false say --set ace.reflect=all"
        )


@cache
def _plan_adapter() -> TypeAdapter[Plan]:
    from pydantic import TypeAdapter

    return TypeAdapter(Plan)


def _plan_from_json(value: Any, where: str) -> Plan:
    from pydantic import ValidationError

    try:
        return _plan_adapter().validate_python(value)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise RunError(f"{where}: key '{key}': {fault['msg']}; this is not a plan of this version") from None
