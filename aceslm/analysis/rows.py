"""Result rows as figures need them, brought to one form.

    frame = read_rows(paths.results)          # of a merged run; any folder: `aceslm.analysis.result_files`
    rows = scored_rows(frame)

The same columns come from a merged run and from the prototype's CSVs; what a writer left out is filled in.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aceslm.core.contexts import context_name
from aceslm.core.parquet import read_table, result_schema

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
    "unit_id",
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
CONTEXT = "context"  # read only where a row has no context id
ACCURACY, SCORE = "accuracy", "score"


def read_rows(path: Path) -> pd.DataFrame:
    """Read the columns that figures need of a merged run's results; contexts without an id get one.

    Raises:
        CorruptRun: the file is truncated or damaged.
    """
    stored = set(result_schema().names)
    table = read_table(path, [name for name in RESULT_COLUMNS if name in stored])
    frame: pd.DataFrame = table.to_pandas()
    if frame["context_id"].isna().any():
        frame["context_id"] = context_names(
            frame.assign(**{CONTEXT: read_table(path, [CONTEXT]).to_pandas()[CONTEXT]})
        )
    return frame


def scored_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that count for an accuracy, in one form.

    Rows of the `adapt` split are left out. `correct` becomes 0 or 1 (a failed row is 0 and stays),
    `context_id` a key that is always there (a sample without a context is its own), `seen` a bool. `headline`
    is what the task is judged by and `metric` says what that is: `score` (token F1) where the task has span
    answers, else `accuracy`.

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
    frame["metric"] = _metrics(frame)
    score = frame["score"].where(frame["metric"].eq(SCORE)).astype(float)
    frame["headline"] = score.fillna(frame["correct"])
    sample = frame["sample_id"].where(
        frame["sample_id"].notna(), frame.index.to_series().map("row {}".format)
    )
    names = context_names(frame)
    own, named = sample.map("sample {}".format), names.map("context {}".format)
    frame["context_id"] = named.where(names.ne(""), own)
    return frame


def context_names(frame: pd.DataFrame) -> pd.Series[Any]:
    """Return the context of each row: its id, else a digest of its text, "" for none."""
    ids = _filled(frame["context_id"], "").map(str)
    if CONTEXT not in frame.columns or ids.ne("").all():
        return ids
    texts = _filled(frame[CONTEXT], "").map(str)
    digests = {text: context_name("", text) for text in texts[ids.eq("")].unique()}
    return ids.where(ids.ne(""), texts.map(digests))


def _metrics(frame: pd.DataFrame) -> pd.Series[Any]:
    """Return each row's headline: the score of tasks with span answers, where all their rows have one."""
    spans = frame["answer_type"].eq("span").groupby(frame["task_name"]).transform("any")
    scored = frame["score"].notna().groupby(frame["task_name"]).transform("all")
    return (spans & scored).map({True: SCORE, False: ACCURACY})


def as_bit(value: Any) -> int:
    """Read a yes/no column of any writer: 1, 1.0, True, "true"."""
    if isinstance(value, str):
        return int(value.strip().lower() in {"1", "1.0", "true", "yes"})
    return int(value == 1)


def _filled(column: pd.Series[Any], value: str) -> pd.Series[Any]:
    return column.astype(object).where(column.notna(), value)
