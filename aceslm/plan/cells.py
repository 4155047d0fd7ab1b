"""A grid and what its names mean -> cells: every point that is answered, and the adaptations they need.

    cells = expand(grid, models, tasks, givens)

Pure. A cell's id is a digest over all that decides its results. `ace_frozen` and the control modes carry the
playbook of an adaptation: a cell of mode `ace` on the `adapt` split, shared by all cells that name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from aceslm.ace.roles.messages import role_digest
from aceslm.ace.validation import check_divisible
from aceslm.config.grid import GridConfig, Variant
from aceslm.core.digests import digest
from aceslm.core.errors import ConfigError
from aceslm.core.values import Cell, ModelSpec, TaskTable
from aceslm.core.words import PLAYBOOK_MODES, Mode
from aceslm.plan.identity import Givens, GridPoint, GridTask, cell_of

# What `ace:` says about files, names and sizes stands in an identity by what it stands for.
_BY_CONTENT = frozenset(
    {"playbook", "frozen_playbook", "reflector_model", "curator_model", "shuffled_from", "held_out"}
    | {"adapt_samples", "validate_samples"}
)


ROLE_MODEL_KEYS = {"reflector": "reflector_model", "curator": "curator_model"}


def expand(
    grid: GridConfig,
    models: Sequence[ModelSpec],
    tasks: Sequence[GridTask],
    givens: Givens | None = None,
) -> tuple[Cell, ...]:
    """Return the cells of a grid in order: model, quantization, task, mode, variant, seed.

    An adaptation stands before the first cell that needs it. Under greedy decoding a mode without a playbook
    is answered once, for the first seed: the other seeds change no prompt and no order.

    Raises:
        ConfigError: seeds that would only copy results, a split that a mode needs and the task lacks, or a
            cell that comes twice.
    """
    givens = givens or Givens()
    _refuse_copies(grid)
    cells: dict[str, Cell] = {}
    for model in models:
        for quantization in grid.quantization:
            for task in tasks:
                found = _cells_of(grid, model, quantization, task, tasks, givens)
                for cell in found:
                    if cell.cell_id in cells and not is_adaptation(cell):
                        raise ConfigError(_twice(cell, cells[cell.cell_id]))
                    cells[cell.cell_id] = cell
    return tuple(cells.values())


def run_digest(cells: Iterable[Cell]) -> str:
    """Return the digest that names a run: over its cells, in any order."""
    return digest(sorted(cell.cell_id for cell in cells), length=8)


def is_adaptation(cell: Cell) -> bool:
    """Return whether a cell only evolves a playbook for others: its rows never enter an accuracy."""
    return cell.evolves and cell.split == "adapt"


def _cells_of(
    grid: GridConfig,
    model: ModelSpec,
    quantization: str,
    task: GridTask,
    tasks: Sequence[GridTask],
    givens: Givens,
) -> Iterator[Cell]:
    for mode in grid.modes:
        with_playbook = mode in PLAYBOOK_MODES
        for variant in grid.variants if with_playbook and grid.variants else (Variant(),):
            for seed in _seeds(grid, variant, with_playbook):
                point = GridPoint(grid, model, quantization, seed, variant, givens)
                if not with_playbook:
                    yield cell_of(point, task.scored, mode)
                elif mode == "ace":
                    yield _evolving(point, task.scored, task)
                else:
                    yield from _carriers(point, task, mode, tasks)


def _seeds(grid: GridConfig, variant: Variant, with_playbook: bool) -> tuple[int, ...]:
    if with_playbook:
        return variant.seeds or grid.seeds
    return grid.seeds if grid.generation.temperature > 0 else grid.seeds[:1]


def _carriers(point: GridPoint, task: GridTask, mode: Mode, tasks: Sequence[GridTask]) -> Iterator[Cell]:
    """Yield a cell whose prompts carry a finished playbook, after the adaptations that it needs."""
    adaptation = donor = None
    given = point.givens.playbooks[point.ace.frozen_playbook] if point.ace.frozen_playbook else ""
    if mode == "ace_placebo":
        adaptation = _adaptation(point, task, task.placebo, mode)
    elif not given:
        adaptation = _adaptation(point, task, task.adapt, mode)
    if mode == "ace_shuffled":
        other = _donor(point, task, tasks)
        donor = _adaptation(point, other, other.adapt, mode)
    yield from (cell for cell in (adaptation, donor) if cell)
    carried = {
        "adaptation": adaptation.cell_id if adaptation else "",
        "donor": donor.cell_id if donor else "",
        "initial_playbook": given if adaptation is None else "",
    }
    identity = {**carried, "retrieve_top_k": point.ace.retrieve_top_k, "exemplars": point.ace.exemplars}
    if mode == "ace_frozen" and adaptation and point.ace.held_out == "each":
        for epoch in range(1, point.ace.epochs):  # the last one's is the final playbook
            which = {"adaptation_epoch": epoch}
            yield cell_of(point, task.scored, mode, {"playbook": identity | which}, **carried, **which)
    yield cell_of(point, task.scored, mode, {"playbook": identity}, **carried)


def _adaptation(point: GridPoint, task: GridTask, table: TaskTable | None, mode: str) -> Cell:
    if table is None:
        raise ConfigError(
            f"mode '{mode}' evolves a playbook on the 'adapt' split, and task '{task.name}' has none: give "
            "its samples a split (adapt, eval), or use mode 'ace', which streams over all samples"
        )
    return _evolving(point, table, task)


def _donor(point: GridPoint, task: GridTask, tasks: Sequence[GridTask]) -> GridTask:
    """Return the task whose playbook stands in: `ace.shuffled_from`, else the next one of the grid."""
    wanted = point.ace.shuffled_from
    if wanted is not None:
        found = next((one for one in (*tasks, *point.givens.donors) if one.name == wanted), None)
        if found is None or found.name == task.name:
            raise ConfigError(f"ace.shuffled_from: '{wanted}' is not another task than '{task.name}'")
        return found
    place = next(n for n, one in enumerate(tasks) if one.name == task.name)
    others = [one for one in (*tasks[place + 1 :], *tasks[:place]) if one.adapt]
    if not others:
        raise ConfigError(
            f"mode 'ace_shuffled' takes the playbook of another task than '{task.name}', and this grid has "
            "none with an 'adapt' split: add one to `tasks`, or name one with ace.shuffled_from"
        )
    return others[0]


def _evolving(point: GridPoint, table: TaskTable, task: GridTask) -> Cell:
    """Return the cell that evolves a playbook over the samples of `table`."""
    ace = point.ace
    measured = ace.gate or ace.candidates > 1
    if measured and task.validate is None:
        key = "gate" if ace.gate else "candidates"
        raise ConfigError(
            f"ace.{key} asks the 'validate' split, and task '{task.name}' has none: give some samples that "
            f"split, or leave ace.{key} out"
        )
    roles = {
        role: point.givens.role_models[name]
        for role, key in ROLE_MODEL_KEYS.items()
        if (name := getattr(ace, key)) is not None
    }
    validate = task.validate if measured else None
    if validate:
        check_divisible(ace, task.name, _contexts(validate, ace.validate_samples))
    limit = ace.adapt_samples if table.split == "adapt" else point.grid.limit
    start = point.givens.playbooks[ace.playbook] if ace.playbook else ""
    identity = {
        "ace": ace.model_dump(mode="json", exclude=set(_BY_CONTENT)),
        "role_prompts": role_digest(),
        "role_models": {role: [model.model_id, model.revision] for role, model in roles.items()},
        "initial_playbook": start,
        # order and number of the samples decide what is learnt
        "sample_ids": table.sample_ids[:limit],
        "validate": [validate.task_digest, ace.validate_samples] if validate else None,
    }
    return cell_of(
        point,
        table,
        "ace",
        {"evolution": identity},
        epochs=ace.epochs,
        validate_digest=validate.task_digest if validate else "",
        initial_playbook=start,
        role_models=roles,
    )


def _contexts(table: TaskTable, limit: int | None) -> set[str]:
    names = table.context_ids or ("",) * len(table.sample_ids)
    return {name or one for name, one in zip(names[:limit], table.sample_ids[:limit], strict=True)}


def _twice(cell: Cell, other: Cell) -> str:
    if cell.variant or other.variant:
        return (
            f"variants '{other.variant}' and '{cell.variant}' give the same cell ({cell.mode}, seed "
            f"{cell.seed}): change a setting or the seeds of one"
        )
    return (
        f"model '{cell.model.name}' on task '{cell.task_name}' is in this grid twice under two names "
        f"(the other model name is '{other.model.name}'): list it once"
    )


def _refuse_copies(grid: GridConfig) -> None:
    greedy = grid.generation.temperature == 0
    if len(grid.seeds) > 1 and greedy and not set(grid.modes) & PLAYBOOK_MODES:
        raise ConfigError(
            f"seeds {list(grid.seeds)} under greedy decoding would be copies of one result: "
            "give one seed, or set generation.temperature above 0"
        )
