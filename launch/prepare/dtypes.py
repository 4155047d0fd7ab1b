"""Rows of one model in two dtypes do not compare: what a run was begun in, and refusing to go on in another.

The dtype `auto` is chosen on the node, by its hardware: so workers look again once a model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from aceslm.core.errors import CorruptRun, MixedRun
from aceslm.core.parquet import read_table
from aceslm.core.paths import RunPaths
from aceslm.core.values import Cell, Plan, Shard
from aceslm.run.parts import part_files
from aceslm.run.published import facts_of
from launch.ledger import WorkerOptions


def refuse_other_dtype(paths: RunPaths, plans: Sequence[Plan], cell: Cell, dtype: str) -> None:
    """Compare with the rows that the run has of this model.

    Raises:
        MixedRun: they were computed in another dtype.
    """
    before = recorded_dtype(paths, plans, cell)
    if before is not None and before != dtype:
        raise MixedRun(
            f"{paths.root}: the dtype of {cell.model.name} has changed since this run began ({before} -> "
            f"{dtype}): finish on hardware like that of the first rows, start afresh with --set "
            f"dtype={dtype}, or accept rows of both with --allow-mixed"
        )


def recorded_dtype(paths: RunPaths, plans: Sequence[Plan], cell: Cell) -> str | None:
    """Return the dtype of the rows that a run has of a cell's model; None where it has none yet."""
    alike = [
        shard for plan in plans for shard in plan.shards if _kind(plan.cell(shard.cell_id)) == _kind(cell)
    ]
    names = {path.name for path in paths.shards.iterdir()} if paths.shards.is_dir() else set()
    for shard in alike:
        done = paths.done(shard.shard_id)
        if done.name in names and (dtype := facts_of(done, "engine").get("dtype")):
            return str(dtype)
    for shard in alike:
        for path in part_files(paths, shard.shard_id):
            if dtype := _dtype_of(paths, path.name, shard):
                return dtype
    return None


def refuse_dtypes_here(
    paths: RunPaths, plans: Sequence[Plan], shards: Sequence[Shard], options: WorkerOptions
) -> None:
    """Refuse before anything starts what workers on this machine would refuse.

    Raises:
        MixedRun: see `refuse_other_dtype`.
    """
    cells = {_kind(cell): cell for cell in (plans[0].cell(shard.cell_id) for shard in shards)}
    for cell in cells.values():
        scripted = options.engine == "scripted" or cell.model.source == "scripted"
        if scripted or recorded_dtype(paths, plans, cell) is None:
            continue  # without rows there is no need to load torch
        from aceslm.engine.devices import choose_device, choose_dtype, dtype_name

        dtype = dtype_name(choose_dtype(cell.dtype, choose_device(options.device)))
        refuse_other_dtype(paths, plans, cell, dtype)


def _kind(cell: Cell) -> tuple[str, str, str, str]:
    return (cell.model.model_id, cell.model.revision, cell.quantization, cell.dtype)


def _dtype_of(paths: RunPaths, name: str, shard: Shard) -> str | None:
    try:
        values = read_table(paths.parts(shard.shard_id) / name, ["dtype"]).column("dtype").to_pylist()
    except (CorruptRun, FileNotFoundError):
        return None
    return next((str(value) for value in values if value), None)
