"""Result rows as figures need them: read from any folder of result files, and brought to one form.

The same columns come from a merged run and from the prototype's CSVs; what a writer left out is filled in.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aceslm.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

REQUIRED_COLUMNS = ("model_id", "task_name", "mode", "correct", "latency_ms")
OPTIONAL_COLUMNS = (
    "quantization",
    "variant",
    "seed",
    "epoch",
    "split",
    "seen",
    "shard",
    "cell_id",
    "sample_id",
    "context_id",
    "answer_type",
    "gold",
    "pred",
    "score",
    "similarity",
    "scale",
    "predicted_scale",
    "error",
    "parsed",
    "raw_output",
    "batch_size",
    "batch_ms",
    "output_tokens",
    "ttft_ms",
    "prefill_ms",
    "decode_ms",
    "reflection_latency_ms",
    "energy_j",
)
RESULT_COLUMNS = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)


def scored_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that count for an accuracy, in one form.

    Rows of the `adapt` split are left out. `correct` becomes 0 or 1 (a failed row is 0 and stays),
    `context_id` a key that is always there (a sample without a context is its own), `seen` a bool.

    Args:
        frame: result rows with at least `REQUIRED_COLUMNS`.
    """
    frame = frame.reindex(columns=list(dict.fromkeys([*RESULT_COLUMNS, *frame.columns])))
    frame = frame[frame["split"].ne("adapt") | frame["split"].isna()].reset_index(drop=True)
    frame["quantization"] = _filled(frame["quantization"], "none")
    frame["variant"] = _filled(frame["variant"], "")
    frame["seed"] = frame["seed"].fillna(0).astype(int)
    frame["epoch"] = frame["epoch"].fillna(0).astype(int)
    frame["seen"] = frame["seen"].map(as_bit).astype(bool)
    frame["correct"] = frame["correct"].map(as_bit).astype(int)
    frame["sample_id"] = frame["sample_id"].map(str, na_action="ignore")
    sample = frame["sample_id"].where(
        frame["sample_id"].notna(), frame.index.to_series().map("row {}".format)
    )
    has_context = frame["context_id"].notna() & frame["context_id"].ne("")
    own, named = sample.map("sample {}".format), frame["context_id"].map("context {}".format)
    frame["context_id"] = named.where(has_context, own)
    return frame


def as_bit(value: Any) -> int:
    """Read a yes/no column of any writer: 1, 1.0, True, "true"."""
    if isinstance(value, str):
        return int(value.strip().lower() in {"1", "1.0", "true", "yes"})
    return int(value == 1)


def read_results_folder(folder: Path) -> pd.DataFrame:
    """Read every result CSV and Parquet file below `folder` into one frame.

    A file without the result columns is skipped, so is every `summary.csv`. Where a run directory holds
    `results.parquet`, its parts, shards and CSV twin are not read a second time.

    Raises:
        DataError: no folder, no result file, or a file that cannot be read.
    """
    import pandas as pd

    if not folder.is_dir():
        raise DataError(f"--input-dir {folder}: no such folder")
    frames = [frame for path in _result_files(folder) if (frame := _read_result_file(path)) is not None]
    if not frames:
        wanted = " ".join(REQUIRED_COLUMNS)
        raise DataError(f"--input-dir {folder}: no CSV or Parquet file with the columns {wanted}")
    return pd.concat(frames, ignore_index=True)


def _filled(column: pd.Series[Any], value: str) -> pd.Series[Any]:
    return column.astype(object).where(column.notna(), value)


def _result_files(folder: Path) -> Iterable[Path]:
    runs = {path.parent for path in folder.rglob("results.parquet")}
    for path in sorted(folder.rglob("*")):
        if path.suffix not in {".csv", ".parquet"} or path.name.startswith((".", "summary.")):
            continue
        run = next((parent for parent in path.parents if parent in runs), None)
        if run is None or path == run / "results.parquet":
            yield path


def _read_result_file(path: Path) -> pd.DataFrame | None:
    import pandas as pd

    from aceslm.core.parquet import read_table

    try:
        frame = pd.read_csv(path) if path.suffix == ".csv" else read_table(path).to_pandas()
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: cannot be read as a result file: {error}") from None
    if not set(REQUIRED_COLUMNS) <= set(frame.columns):
        return None
    return frame[[column for column in frame.columns if column in RESULT_COLUMNS]]
