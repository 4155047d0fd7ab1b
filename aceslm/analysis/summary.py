"""Result rows -> one line per (model, quantization, task, mode, variant, seed, epoch, seen, cell).

The same function serves a merged run and any folder of result files, the prototype's CSVs included.
Rows of the `adapt` split never enter an accuracy; rows whose sample was seen before have their own line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aceslm.analysis.rows import SCORE, scored_rows
from aceslm.analysis.spent import Spent
from aceslm.analysis.statistics.intervals import accuracy_interval, mean_interval
from aceslm.analysis.statistics.labels import macro_f1, matthews
from aceslm.analysis.statistics.latency import latency_summary

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

GROUP_COLUMNS = (*"model_id quantization task_name mode variant seed epoch seen cell_id metric".split(),)
SUMMARY_COLUMNS = (
    "model_id",
    "task_name",
    "mode",
    "epoch",
    "accuracy",
    "avg_latency_ms",
    "num_samples",
    "quantization",
    "variant",
    "seed",
    "seen",
    "accuracy_low",
    "accuracy_high",
    "num_contexts",
    "metric",
    "mean_score",
    "score_low",
    "score_high",
    "scale_accuracy",
    "similarity",
    "macro_f1",
    "mcc",
    "p50_latency_ms",
    "p95_latency_ms",
    "p99_latency_ms",
    "amortised_ms",
    "prefill_ms",
    "decode_ms",
    "p50_ttft_ms",
    "reflection_ms",
    "samples_per_s",
    "tokens_per_s",
    "peak_memory_bytes",
    "accelerator_peak_bytes",
    "errors",
    "parse_failures",
    "core_hours",
    "gpu_hours",
    "failed_core_hours",
    "failed_gpu_hours",
    "energy_j",
    "energy_per_correct_j",
    "cell_id",
)


@dataclass(frozen=True, slots=True)
class ShardCost:
    """What a shard's finisher noted; None: not known.

    `resident` and `accelerator` are the most memory that its process held, in bytes. `row_s` is its engine's
    time over the rows that it answered, shared prefills included.
    """

    resident: int | None = None
    accelerator: int | None = None
    row_s: float | None = None


def shard_cost(timings: Mapping[str, Any]) -> ShardCost:
    """Return what a finisher noted in its `done.json`."""
    rows = timings.get("rows_generated")
    return ShardCost(
        timings.get("peak_memory_bytes"),
        timings.get("accelerator_peak_bytes"),
        timings["generate_s"] / rows if rows else None,
    )


def summarize(
    frame: pd.DataFrame,
    costs: Mapping[str, ShardCost] | None = None,
    spent: Mapping[str, Spent] | None = None,
) -> pd.DataFrame:
    """Return one row per group of `GROUP_COLUMNS`, in order of first appearance.

    Args:
        frame: result rows with at least `rows.REQUIRED_COLUMNS`.
        costs: shard id -> what it cost, where that is known.
        spent: cell id -> what all attempts at it took; a row has its share of its cell's by its samples.
    """
    import pandas as pd

    scored = scored_rows(frame)
    rows_of_cell = scored["cell_id"].value_counts().to_dict()
    groups = scored.groupby(list(GROUP_COLUMNS), sort=False, dropna=False)
    rows = [
        {
            **dict(zip(GROUP_COLUMNS, key, strict=True)),
            **_figures(group, costs or {}),
            **_peaks(group, costs or {}),
            **_hours(group, spent or {}, rows_of_cell),
            **_energy(group),
        }
        for key, group in groups
    ]
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def _figures(group: pd.DataFrame, costs: Mapping[str, ShardCost]) -> dict[str, Any]:
    n = len(group)
    unparsed = group["parsed"].map(_is_no) & group["raw_output"].notna()
    return {
        **accuracy_figures(group),
        **_latency_figures(group, costs),
        "errors": int((group["error"].notna() & ~unparsed).sum()),
        "parse_failures": int(unparsed.sum()),
        "num_samples": n,
    }


def accuracy_figures(rows: pd.DataFrame) -> dict[str, Any]:
    """Return how right some rows are, with 95 % intervals; `score_low` and `score_high` only for a headline.

    Args:
        rows: result rows with at least `rows.REQUIRED_COLUMNS`, brought to one form or not.
    """
    group = rows if "metric" in rows.columns else scored_rows(rows)
    correct, contexts = group["correct"].tolist(), group["context_id"].tolist()
    interval = accuracy_interval(correct, contexts)
    figures = {
        "accuracy": sum(correct) / len(correct),
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "num_contexts": len(set(contexts)),
        **_score_figures(group),
        "similarity": _mean(_numbers(group["similarity"])),
    }
    if group["scale"].notna().any():
        figures["scale_accuracy"] = float(_texts(group["scale"]).eq(_texts(group["predicted_scale"])).mean())
    if group["answer_type"].eq("label").all():
        gold = group["gold"].astype(str).tolist()
        pred = [None if missing else str(label) for label, missing in _labels(group["pred"])]
        figures |= {"macro_f1": macro_f1(gold, pred), "mcc": matthews(gold, pred)}
    return figures


def _score_figures(group: pd.DataFrame) -> dict[str, Any]:
    """Return the mean score; its interval where the score is what the task is judged by."""
    figures = {"mean_score": _mean(_numbers(group["score"]))}
    if group["metric"].eq(SCORE).all():
        interval = mean_interval(_numbers(group["score"]), group["context_id"].tolist())
        figures |= {"score_low": interval.low, "score_high": interval.high}
    return figures


def _latency_figures(group: pd.DataFrame, costs: Mapping[str, ShardCost]) -> dict[str, Any]:
    n = len(group)
    latency = latency_summary(_numbers(group["latency_ms"]))
    busy_s = _busy_s(group, costs)
    tokens = _numbers(group["output_tokens"]).sum()
    return {
        "avg_latency_ms": latency.mean,
        "p50_latency_ms": latency.p50,
        "p95_latency_ms": latency.p95,
        "p99_latency_ms": latency.p99,
        "amortised_ms": busy_s * 1000 / n if busy_s else None,
        "prefill_ms": _mean(_numbers(group["prefill_ms"])),
        "decode_ms": _mean(_numbers(group["decode_ms"])),
        "p50_ttft_ms": latency_summary(_numbers(group["ttft_ms"])).p50,
        "reflection_ms": _mean(_numbers(group["reflection_latency_ms"])),
        "samples_per_s": n / busy_s if busy_s else None,
        "tokens_per_s": float(tokens) / busy_s if busy_s and tokens else None,
    }


def _peaks(group: pd.DataFrame, costs: Mapping[str, ShardCost]) -> dict[str, int | None]:
    """Return the highest peak over the shards of a group."""
    shards = [costs[shard] for shard in group["shard"].unique() if shard in costs]
    resident = [peak.resident for peak in shards if peak.resident is not None]
    accelerator = [peak.accelerator for peak in shards if peak.accelerator is not None]
    return {
        "peak_memory_bytes": max(resident, default=None),
        "accelerator_peak_bytes": max(accelerator, default=None),
    }


def _hours(
    group: pd.DataFrame, spent: Mapping[str, Spent], rows_of_cell: Mapping[Any, int]
) -> dict[str, float | None]:
    """Return the group's share of what its cells took: by its part of their rows."""
    names = ("core_hours", "gpu_hours", "failed_core_hours", "failed_gpu_hours")
    shares = {
        str(cell_id): count / rows_of_cell[cell_id]
        for cell_id, count in group["cell_id"].value_counts().items()
    }
    if not shares or not shares.keys() <= spent.keys():
        return dict.fromkeys(names)
    return {
        name: sum(getattr(spent[cell_id], name) * share for cell_id, share in shares.items())
        for name in names
    }


def _energy(group: pd.DataFrame) -> dict[str, float | None]:
    """Return the joules of a group's answers; unknown where any of them is."""
    if group["energy_j"].isna().any():
        return {"energy_j": None, "energy_per_correct_j": None}
    joules, correct = float(group["energy_j"].sum()), int(group["correct"].sum())
    return {"energy_j": joules, "energy_per_correct_j": joules / correct if correct else None}


def _busy_s(group: pd.DataFrame, costs: Mapping[str, ShardCost]) -> float | None:
    """Return the engine's busy time: each row's share of its batch, or of its shard where rows overlap.

    A row that was answered without company took its latency. None where what rows shared is not known: a
    file of rows that overlapped does not say, the run directory that it comes from does.
    """
    active = group["batch_size"].astype(float)
    of_batch = group["batch_ms"].astype(float) / active
    row_ms = {name: cost.row_s * 1000 for name, cost in costs.items() if cost.row_s is not None}
    of_shard = group["shard"].map(row_ms).astype(float)
    alone = group["latency_ms"].astype(float).where(active.fillna(1.0) <= 1.0)
    busy = of_batch.fillna(of_shard).fillna(alone)
    if (busy.isna() & group["latency_ms"].notna()).any():
        return None
    return float(busy.sum()) / 1000


def _numbers(column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """Return the values of a column that are there."""
    return column.dropna().to_numpy(dtype=float)


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    return float(values.mean()) if values.size else None


def _texts(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column of texts with missing values as empty text."""
    return column.astype(object).where(column.notna(), "")


def _labels(column: pd.Series[Any]) -> zip[tuple[Any, bool]]:
    return zip(column.tolist(), column.isna().tolist(), strict=True)


def _is_no(value: Any) -> bool:
    """Whether `parsed` says no; a missing value says nothing."""
    return value is False or value == 0 or str(value).lower() == "false"
