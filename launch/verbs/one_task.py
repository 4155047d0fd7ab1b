"""What `run` and `evolve` share: a grid of one task, given by name or as a file, and rows as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from aceslm.config.grid import GridConfig
    from launch.prepare.tasks import LoadedTask


def one_task_grid(
    verb: str, values: dict[str, Any], task_name: str | None, dataset_path: Path | None, domain: str | None
) -> tuple[GridConfig, LoadedTask | None]:
    """Return the grid of one task, and the task where it comes from a file.

    Raises:
        UsageError: neither or both of `--task-name` and `--dataset-path`, or a bad value.
    """
    from aceslm.config.grid import GridConfig
    from aceslm.config.strict_yaml import parse
    from aceslm.core.errors import UsageError
    from launch.prepare.tasks import load_task_file

    if "tasks" in values:
        raise UsageError(f"--set tasks=...: `aceslm {verb}` has one task, --task-name or --dataset-path")
    if (task_name is None) == (dataset_path is None):
        raise UsageError("give either --task-name (see `aceslm tasks`) or --dataset-path FILE --domain NAME")
    task = load_task_file(dataset_path, domain) if dataset_path else None
    name = task.table.task_name if task else task_name
    return parse(GridConfig, {"name": verb, **values, "tasks": [name]}, f"aceslm {verb}"), task


def check_output(path: Path | None) -> None:
    """Raise UsageError unless rows can be written in the format that the name asks for."""
    from aceslm.core.errors import UsageError

    if path is not None and path.suffix not in {".csv", ".parquet"}:
        raise UsageError(f"--output-path {path}: the name must end in .csv or .parquet")


def export(rows: pd.DataFrame, path: Path) -> None:
    """Write rows as CSV or Parquet, atomically.

    Raises:
        WorkError: the file cannot be written.
    """
    from aceslm.core.errors import WorkError
    from aceslm.core.files import replacing

    try:
        with replacing(path) as partial:
            if path.suffix == ".csv":
                rows.to_csv(partial, index=False)
            else:
                rows.to_parquet(partial, index=False)
    except OSError as error:
        raise WorkError(f"cannot write {path}: {error.strerror or error}") from None
