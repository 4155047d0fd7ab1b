"""Where results go: never over what they were made from, nor over a file that is somebody else's.

    refuse_inputs("--output-path", path, {"--dataset-path": dataset})
    refuse_foreign("--output-path", path, holds_columns(*REQUIRED_COLUMNS), "result rows")

Asked before any work. What this project wrote itself is replaced without a word: the same command twice is
no mistake.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

from aceslm.core.errors import UsageError


def refuse_inputs(option: str, output: Path, inputs: Mapping[str, Path | None]) -> None:
    """Refuse an output that is one of the inputs, by whatever name, or a file inside a folder of them.

    Args:
        option: of the output; inputs: by their options, None where one was not given.

    Raises:
        UsageError: names both.
    """
    for name, path in inputs.items():
        if path is None:
            continue
        inside = output.exists() and path.is_dir() and path.resolve() in output.resolve().parents
        if inside or _is_same(output, path):
            where = f"a file of {name}" if inside else "what is read"
            raise UsageError(
                f"{option} {output} is {where} ({name} {path}) and would be replaced: give another name"
            )


def refuse_foreign(option: str, output: Path, is_ours: Callable[[Path], bool], what: str) -> None:
    """Refuse an output that exists and is not what the command writes there; an empty file may be filled.

    Args:
        what: the command writes.

    Raises:
        UsageError: a folder, a file of a run directory, or a file with something else in it.
    """
    if output.is_dir():
        raise UsageError(f"{option} {output} is a folder: give the name of a file")
    if (parent := next((one for one in output.parents if one.exists()), None)) and not parent.is_dir():
        raise UsageError(f"{option} {output}: {parent} is a file, not a folder")
    if not output.exists() or output.stat().st_size == 0:
        return
    if not is_ours(output):
        raise UsageError(
            f"{option} {output} exists and does not hold {what}: give another name, or move it away first"
        )


def refuse_run_files(option: str, output: Path) -> None:
    """Refuse to replace a file of a run directory: others of its files say what is in it.

    Raises:
        UsageError: names the run.
    """
    run = next((one for one in output.resolve().parents if (one / "plans" / "0001.json").exists()), None)
    if run is not None and output.exists():
        raise UsageError(f"{option} {output} is a file of the run {run.name}: give a name outside of it")


def holds_columns(*columns: str, none_of: tuple[str, ...] = ()) -> Callable[[Path], bool]:
    """Return a test whether a CSV or Parquet file has these columns, and none of others."""

    def test(path: Path) -> bool:
        names = column_names(path)
        return set(columns) <= names and not names & set(none_of)

    return test


def column_names(path: Path) -> set[str]:
    """Return the columns of a CSV or Parquet file; none where it is neither."""
    from aceslm.core.errors import CorruptRun
    from aceslm.core.parquet import read_columns

    try:
        if path.suffix == ".parquet":
            return set(read_columns(path))
        with path.open(encoding="utf-8-sig", newline="") as file:
            return set(next(csv.reader(file), []))
    except (OSError, ValueError, csv.Error, CorruptRun):
        return set()


def _is_same(one: Path, other: Path) -> bool:
    """Whether two names lead to one file: over links, relative parts, and case where the disk ignores it."""
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there yet
        return one.resolve() == other.resolve()
