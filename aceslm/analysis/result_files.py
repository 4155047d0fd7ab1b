"""A folder of result files -> one frame of rows, each answer once.

    found = read_results_folder(Path("results"))
    found.rows, found.duplicates

A run directory, its exported CSV, and copies of either hold the same answers: they are told by their unit ids
(without those by model, task, mode, sample, seed and epoch) and counted once. Files that give different
answers to one of them are refused: no figure could say which is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aceslm.analysis.rows import CONTEXT, REQUIRED_COLUMNS, RESULT_COLUMNS, as_bit
from aceslm.analysis.summary import ShardCost, shard_cost
from aceslm.core.errors import DataError
from aceslm.core.parquet import read_table
from aceslm.core.paths import RunPaths
from aceslm.run.done import timings_of

if TYPE_CHECKING:
    import pandas as pd

_TEXTS = (
    *"model_id task_name mode variant sample_id context_id unit_id cell_id".split(),
    *"shard gold pred raw_output".split(),
)
_DEFAULTS = {"quantization": "none", "variant": "", "seed": 0, "epoch": 0}
_ANSWER = ["model_id", "task_name", "mode", "sample_id", *_DEFAULTS]  # what names an answer without a unit id
_FILE = "file"


@dataclass(frozen=True, slots=True)
class FoundRows:
    """The rows of a folder, each answer once; `duplicates` were left out.

    `costs` are those of the run directories by the names that their shards have in `rows`.
    """

    rows: pd.DataFrame
    duplicates: int
    costs: dict[str, ShardCost]


def read_results_folder(folder: Path) -> FoundRows:
    """Read every result CSV and Parquet file below `folder`.

    A file without the result columns is skipped, so is every `summary.csv`. Where a run directory holds
    `results.parquet`, its parts, shards and CSV twin are not read.

    Raises:
        DataError: no folder, no result file, one that cannot be read, or two that contradict each other.
    """
    import pandas as pd

    if not folder.is_dir():
        raise DataError(f"--input-dir {folder}: no such folder")
    costs: dict[str, ShardCost] = {}
    frames = [
        _with_costs(path, frame, costs).assign(**{_FILE: str(path)})
        for path in _result_files(folder)
        if (frame := _read_result_file(path)) is not None
    ]
    if not frames:
        wanted = " ".join(REQUIRED_COLUMNS)
        raise DataError(f"--input-dir {folder}: no CSV or Parquet file with the columns {wanted}")
    rows = pd.concat(frames, ignore_index=True)
    once = rows.loc[_first_places(rows)]
    return FoundRows(once.drop(columns=_FILE).reset_index(drop=True), len(rows) - len(once), costs)


def _first_places(rows: pd.DataFrame) -> list[int]:
    """Return the places of the rows that give an answer for the first time.

    Raises:
        DataError: two rows of one answer differ.
    """
    full = rows.reindex(columns=list(dict.fromkeys([*rows.columns, *_ANSWER, "unit_id"])))
    for name, default in _DEFAULTS.items():
        full[name] = full[name].astype(object).where(full[name].notna(), default)
    full["said"] = full["pred"].map(_text).where(full["pred"].notna(), "") if "pred" in full else ""
    full["correct"] = full["correct"].map(as_bit)
    full = full[full["sample_id"].notna()]
    named = full["unit_id"].notna()
    again: set[int] = set()
    for key in (["unit_id"], _ANSWER):
        part = full[named] if key == ["unit_id"] else full.drop(index=list(again))
        first = part.assign(place=part.index).groupby(key, sort=False)["place"].transform("first")
        later = first[first != first.index]
        if key == _ANSWER:  # two units with one name are answers under other settings: their cells differ
            later = later[~named[later.index] | ~named[later].to_numpy()]
        one, other = (full.loc[places, ["said", "correct"]].to_numpy() for places in (later, later.index))
        if (differs := (one != other).any(axis=1)).any():
            places = later.iloc[differs.argmax()], later.index[differs.argmax()]
            raise DataError(_contradiction(*(full.loc[place] for place in places)))
        again |= set(later.index)
    return [place for place in rows.index if place not in again]


def _text(pred: object) -> str:
    """Return a prediction as it compares: a program that read '32' as a number has written '32.0'."""
    try:
        return f"{float(str(pred)):g}"
    except ValueError:
        return str(pred)


def _contradiction(one: pd.Series[Any], other: pd.Series[Any]) -> str:
    where = f"sample '{one['sample_id']}' of task '{one['task_name']}' ({one['model_id']}, {one['mode']})"
    answers = " and ".join(
        f"'{row['said']}' ({'right' if row['correct'] else 'wrong'})" for row in (one, other)
    )
    files = f"in {one[_FILE]}" if one[_FILE] == other[_FILE] else f"in {one[_FILE]} and {other[_FILE]}"
    return (
        f"two answers to {where} of the same run contradict each other: {answers} {files}. Move one away, or "
        "summarise the folders apart"
    )


def _result_files(folder: Path) -> Iterator[Path]:
    """Yield the files that may hold rows: those of run directories first, for they know what rows cost."""
    merged = sorted(folder.rglob("results.parquet"))
    yield from merged
    runs = {path.parent for path in merged}
    for path in sorted(folder.rglob("*")):
        result = path.suffix in {".csv", ".parquet"} and not path.name.startswith((".", "summary."))
        if result and not runs & set(path.parents):
            yield path


def _read_result_file(path: Path) -> pd.DataFrame | None:
    import pandas as pd

    try:
        if path.suffix == ".csv":
            texts = dict.fromkeys(_TEXTS, str)
            frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])
        else:
            frame = read_table(path).to_pandas()
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: cannot be read as a result file: {error}") from None
    if not set(REQUIRED_COLUMNS) <= set(frame.columns):
        return None
    return frame[[column for column in frame.columns if column in (*RESULT_COLUMNS, CONTEXT)]]


def _with_costs(path: Path, frame: pd.DataFrame, costs: dict[str, ShardCost]) -> pd.DataFrame:
    """Return the rows of a run directory with shards named by their run, and note what these cost."""
    paths = RunPaths(path.parent)
    if path != paths.results or "shard" not in frame.columns:
        return frame
    for shard_id in frame["shard"].dropna().unique():
        if timings := timings_of(paths, shard_id):
            costs[f"{paths.root}/{shard_id}"] = shard_cost(timings)
    return frame.assign(shard=f"{paths.root}/" + frame["shard"].astype(str))
