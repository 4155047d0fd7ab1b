"""Rows of one model in two dtypes do not compare: what a run was begun in, and refusing to go on in another.

The dtype `auto` is chosen on the node, by its hardware: so workers look again once a model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from aceslm.core.errors import CorruptRun, MixedRun
from aceslm.core.parquet import read_table
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Cell, Shard
from aceslm.run.done import read_done
from aceslm.run.parts import part_files
from launch.ledger import WorkerOptions


def refuse_other_dtype(run: Run, cell: Cell, dtype: str) -> None:
    """Compare with the rows that the run has of this model.

    Raises:
        MixedRun: they were computed in another dtype.
    """
    before = recorded_dtype(run, cell)
    if before is not None and before != dtype:
        raise MixedRun(
            f"{run.paths.root}: the dtype of {cell.model.name} has changed since this run began ({before} -> "
            f"{dtype}): finish on hardware like that of the first rows, start afresh with --set "
            f"dtype={dtype}, or accept rows of both with --allow-mixed"
        )


def recorded_dtype(run: Run, cell: Cell) -> str | None:
    """Return the dtype of the rows that a run has of a cell's model; None where it has none yet."""
    alike = [shard for shard in run.shards if _kind(run.cell(shard.cell_id)) == _kind(cell)]
    folder = run.paths.shards
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()  # asked once, not a shard
    published = [shard for shard in alike if run.paths.done(shard.shard_id).name in names]
    found = chain(
        (_of_published(run.paths, shard.shard_id) for shard in published),
        (_of_part(path) for shard in alike for path in part_files(run.paths, shard.shard_id)),
    )
    return next((dtype for dtype in found if dtype), None)


def refuse_dtypes_here(run: Run, shards: Sequence[Shard], options: WorkerOptions) -> None:
    """Refuse before anything starts what workers on this machine would refuse.

    Raises:
        MixedRun: see `refuse_other_dtype`.
    """
    cells = {_kind(cell): cell for cell in (run.cell(shard.cell_id) for shard in shards)}
    for cell in cells.values():
        scripted = options.engine == "scripted" or cell.model.source == "scripted"
        if scripted or recorded_dtype(run, cell) is None:
            continue  # without rows there is no need to load torch
        from aceslm.engine.devices import choose_device, choose_dtype, dtype_name

        dtype = dtype_name(choose_dtype(cell.dtype, choose_device(options.device)))
        refuse_other_dtype(run, cell, dtype)


def _kind(cell: Cell) -> tuple[str, str, str, str]:
    return (cell.model.model_id, cell.model.revision, cell.quantization, cell.dtype)


def _of_published(paths: RunPaths, shard_id: str) -> str | None:
    try:
        done = read_done(paths, shard_id)
    except (CorruptRun, OSError):
        return None
    dtype = done.engine.get("dtype") if done else None
    return str(dtype) if dtype else None


def _of_part(path: Path) -> str | None:
    try:
        values = read_table(path, ["dtype"]).column("dtype").to_pylist()
    except (CorruptRun, FileNotFoundError):
        return None
    return next((str(value) for value in values if value), None)
