"""What `run` and `evolve` share: a grid of one task, given by name or as a file, and rows as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from aceslm.config.grid import GridConfig
    from aceslm.core.run import Run
    from launch.ledger import WorkerOptions
    from launch.prepare.tasks import LoadedTask
    from launch.verbs.groups import ModelChoice, TaskChoice


def one_task_grid(
    verb: str, values: dict[str, Any], choice: TaskChoice
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
    if (choice.task_name is None) == (choice.dataset_path is None):
        raise UsageError("give either --task-name (see `aceslm tasks`) or --dataset-path FILE --domain NAME")
    task = load_task_file(choice.dataset_path, choice.domain) if choice.dataset_path else None
    name = task.table.task_name if task else choice.task_name
    return parse(GridConfig, {"name": verb, **values, "tasks": [name]}, f"aceslm {verb}"), task


def answer_here(run: Run, options: WorkerOptions, allow_mixed: bool) -> bool:
    """Run what is missing in this process and show how it goes; return whether anything was."""
    from launch.show.live import live_table
    from launch.submit.local import LocalLauncher

    launcher = LocalLauncher("debug", options=options, allow_mixed=allow_mixed)
    with live_table() as show:
        started = launcher.start(run)
        launcher.wait(run, show)
    return started is not None


def check_output(path: Path | None, inputs: Mapping[str, Path | None]) -> None:
    """Refuse an `--output-path` before any work: its format, or a file that has to stay.

    Raises:
        UsageError: says why.
    """
    from aceslm.core.errors import UsageError
    from launch.prepare.outputs import refuse_run_files

    if path is None:
        return
    if path.suffix not in {".csv", ".parquet"}:
        raise UsageError(f"--output-path {path}: the name must end in .csv or .parquet")
    refuse_run_files("--output-path", path)
    check_rows_file("--output-path", path, inputs)


def check_rows_file(option: str, path: Path, inputs: Mapping[str, Path | None]) -> None:
    """Raise UsageError where rows would replace an input, or a file that holds no rows."""
    from aceslm.analysis.rows import REQUIRED_COLUMNS
    from launch.prepare.outputs import holds_columns, refuse_foreign, refuse_inputs

    refuse_inputs(option, path, inputs)
    refuse_foreign(option, path, holds_columns(*REQUIRED_COLUMNS), "result rows")


def task_inputs(model: ModelChoice, task: TaskChoice) -> dict[str, Path | None]:
    """Return the files and folders that a task is answered from, by what names them."""
    from aceslm.config.folders import repository_root
    from aceslm.config.registry import task_registry

    entry = task_registry().get(task.task_name or "")
    path = repository_root() / entry.path if entry else Path(task.task_name) if task.task_name else None
    folder = Path(model.model_id).expanduser()
    return {
        "--dataset-path": task.dataset_path,
        "--task-name": path,
        "--model-id": folder if folder.is_dir() else None,
    }


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
