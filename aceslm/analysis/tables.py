"""Summaries and comparisons as a person reads them: Markdown pages and terminal tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aceslm.analysis.comparisons import Comparison
from aceslm.analysis.rows import ACCURACY, SCORE
from aceslm.analysis.statistics.paired import PairedResult
from aceslm.analysis.statistics.sign_flips import ALPHA

if TYPE_CHECKING:
    import pandas as pd

FOOTNOTE = (
    "Intervals are 95 %: Wilson's, over contexts where these hold several questions, else with the mid-P "
    "interval. The score is token F1, the headline of tasks with span answers. Failed and unparsed samples "
    "count as wrong."
)
COMPARISON_FOOTNOTE = (
    "A difference is that of two means on the same samples, seeds averaged: of token F1 where a task has "
    "span answers, else of accuracy. Its p is a two-sided sign-flip test over contexts, its 95 % interval "
    "the inversion of that test: 0 is outside exactly where p <= 0.05. Holm's method adjusts p over all "
    f"comparisons of the table, judged at {ALPHA}; exact match beside token F1, and McNemar (samples that "
    "only the first : only the second mode got right, exact p), stand by themselves. A mode is better only "
    "if it is above both baseline and scaffold."
)
COST_FOOTNOTE = (
    "Hours are wall time x allocated cores or GPUs over all attempts; a row of the table has its share by "
    "its samples. Joules are those of the answers, where the hardware counts them. Core-seconds and "
    "GPU-seconds are seconds of the engine at work x devices, loading left out."
)
COMPARISON_HEADERS = (
    "task",
    "model",
    "quant",
    "epoch",
    "comparison",
    "of",
    "difference [95 %]",
    "p",
    "Holm p",
    "exact match [95 %]",
    "McNemar",
    "n",
    "clusters",
    "verdict",
)


def table_rows(summary: pd.DataFrame, columns: Sequence[str] | None = None) -> list[list[str]]:
    """Return the summary's rows as short texts, in the order of `TABLE` (only `columns` of it, if given)."""
    shows = [show for header, show in TABLE if columns is None or header in columns]
    return [[show(row) for show in shows] for row in _records(summary)]


def _records(summary: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in summary.to_dict("records")]


def markdown_columns(summary: pd.DataFrame) -> list[str]:
    """Return the columns of `TABLE` that say something about these rows."""
    empty = {header for header, name in _OPTIONAL.items() if summary[name].isna().all()}
    if not summary["seen"].any():
        empty.add("seen")  # most runs see a question once
    if not any(isinstance(label, str) and label for label in summary["variant"]):
        empty.add("variant")
    if not _twice(summary):
        empty.add("cell")
    return [header for header, _ in TABLE if header not in empty]


def _twice(summary: pd.DataFrame) -> bool:
    """Whether two lines are told apart by nothing but their cell: runs with other settings."""
    keys = ["model_id", "quantization", "task_name", "mode", "variant", "seed", "epoch", "seen"]
    return bool(summary.duplicated(keys).any())


def terminal_columns(summary: pd.DataFrame) -> list[str]:
    """Return the columns of `TABLE` that a terminal has room for; axes with one value say nothing."""
    varying = {
        "quant": "quantization",
        "variant": "variant",
        "seed": "seed",
        "epoch": "epoch",
        "seen": "seen",
    }
    hidden = {header for header, name in varying.items() if summary[name].nunique() <= 1}
    hidden |= {"p50 ms", "p99 ms", "tokens/s", *(_OPTIONAL.keys() - {"score [95 %]"})}
    hidden |= {"score [95 %]"} if summary["score_low"].isna().all() else set()
    hidden |= set() if _twice(summary) else {"cell"}
    return [header for header, _ in TABLE if header not in hidden]


def comparison_rows(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Return comparisons as short texts, in the order of the Markdown table's columns."""
    return [_comparison_row(comparison) for comparison in comparisons]


def _comparison_row(comparison: Comparison) -> list[str]:
    result, exact = comparison.result, comparison.exact
    paired = (exact or result).mcnemar
    counts = f"{paired.only_treatment} : {paired.only_reference}, p {_p(paired.p_value)}" if paired else "-"
    return [
        comparison.task_name,
        _short(comparison.model_id),
        comparison.quantization,
        str(comparison.epoch),
        f"{comparison.treatment} - {comparison.reference}",
        "accuracy" if comparison.metric == ACCURACY else "token F1",
        _difference(result),
        _p(result.p_value),
        _p(comparison.holm_p),
        f"{_difference(exact)}, p {_p(exact.p_value)}" if exact else "-",
        counts,
        f"{result.num_samples:,}",
        f"{result.num_contexts:,}",
        comparison.verdict,
    ]


def _difference(result: PairedResult) -> str:
    return f"{result.difference:+.3f} [{result.interval.low:+.3f}, {result.interval.high:+.3f}]"


def said_columns(comparisons: Sequence[Comparison]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows without columns that say nothing about these comparisons."""
    rows = comparison_rows(comparisons)
    kept = [n for n in range(len(COMPARISON_HEADERS)) if any(row[n] != "-" for row in rows)]
    return [COMPARISON_HEADERS[n] for n in kept], [[row[n] for n in kept] for row in rows]


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _short(model_id: object) -> str:
    return str(model_id).rstrip("/").rsplit("/", 1)[-1]


def _number(name: str, digits: int = 1, unit: float = 1) -> Callable[[dict[str, Any]], str]:
    def show(row: dict[str, Any]) -> str:
        value = row[name]
        return "-" if value is None or math.isnan(value) else f"{value / unit:,.{digits}f}"

    return show


def _accuracy(row: dict[str, Any]) -> str:
    return f"{row['accuracy']:.3f} [{row['accuracy_low']:.3f}, {row['accuracy_high']:.3f}]"


def _score(row: dict[str, Any]) -> str:
    """Return the score where the task is judged by it; elsewhere it is the accuracy again."""
    if row["metric"] != SCORE:
        return "-"
    return f"{row['mean_score']:.3f} [{row['score_low']:.3f}, {row['score_high']:.3f}]"


def _cell(row: dict[str, Any]) -> str:
    return str(row["cell_id"]).rsplit("-", 1)[-1]


# Figures that only some rows have.
_OPTIONAL = {
    "score [95 %]": "score_low",
    "macro-F1": "macro_f1",
    "MCC": "mcc",
    "prefill ms": "prefill_ms",
    "decode ms": "decode_ms",
    "TTFT p50 ms": "p50_ttft_ms",
    "reflection ms": "reflection_ms",
    "amortised ms": "amortised_ms",
    "peak MB": "peak_memory_bytes",
    "accelerator MB": "accelerator_peak_bytes",
    "core-h": "core_hours",
    "GPU-h": "gpu_hours",
    "J": "energy_j",
    "J/correct": "energy_per_correct_j",
}

TABLE: Sequence[tuple[str, Callable[[dict[str, Any]], str]]] = (
    ("model", lambda row: _short(row["model_id"])),
    ("quant", lambda row: str(row["quantization"])),
    ("task", lambda row: str(row["task_name"])),
    ("mode", lambda row: str(row["mode"])),
    ("variant", lambda row: row["variant"] if isinstance(row["variant"], str) else ""),
    ("seed", lambda row: str(row["seed"])),
    ("epoch", lambda row: str(row["epoch"])),
    ("seen", lambda row: "seen" if row["seen"] else "-"),
    ("cell", _cell),
    ("score [95 %]", _score),
    ("accuracy [95 %]", _accuracy),
    ("macro-F1", _number("macro_f1", 3)),
    ("MCC", _number("mcc", 3)),
    ("n", _number("num_samples", 0)),
    ("mean ms", _number("avg_latency_ms", 0)),
    ("p50 ms", _number("p50_latency_ms", 0)),
    ("p95 ms", _number("p95_latency_ms", 0)),
    ("p99 ms", _number("p99_latency_ms", 0)),
    ("prefill ms", _number("prefill_ms", 0)),
    ("decode ms", _number("decode_ms", 0)),
    ("TTFT p50 ms", _number("p50_ttft_ms", 0)),
    ("reflection ms", _number("reflection_ms", 0)),
    ("amortised ms", _number("amortised_ms", 1)),
    ("samples/s", _number("samples_per_s", 2)),
    ("tokens/s", _number("tokens_per_s", 1)),
    ("peak MB", _number("peak_memory_bytes", 0, 1e6)),
    ("accelerator MB", _number("accelerator_peak_bytes", 0, 1e6)),
    ("core-h", _number("core_hours", 3)),
    ("GPU-h", _number("gpu_hours", 3)),
    ("J", _number("energy_j", 0)),
    ("J/correct", _number("energy_per_correct_j", 1)),
    ("errors", _number("errors", 0)),
    ("unparsed", _number("parse_failures", 0)),
)
