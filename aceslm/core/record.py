"""One result row: the columns of `results.parquet`, declared once.

The Parquet schema (`aceslm.core.parquet`) is derived from the annotations of `Record`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """One result row: the columns of `results.parquet`, in this order.

    The first thirteen keep the names of the prototype's CSV files. A sample that fails is a row with
    `error` set and `correct = 0`: it stays in the denominator.
    """

    model_id: str
    task_name: str
    domain: str
    mode: str
    sample_id: str
    gold: str
    pred: str | None
    latency_ms: float | None
    question: str
    context: str
    correct: int
    reflection_latency_ms: float | None
    reflected: bool | None
    unit_id: str
    cell_id: str
    shard: str
    seed: int
    epoch: int
    split: str | None
    context_id: str | None
    quantization: str
    dtype: str | None
    device: str | None
    engine: str | None
    model_revision: str
    answer_type: str
    choices: tuple[str, ...]
    choice_permutation: tuple[int, ...]
    scale: str | None
    predicted_scale: str | None
    exact_match: float | None
    f1: float | None
    score: float | None
    raw_output: str | None
    parsed: bool
    error: str | None
    prompt_digest: str | None
    prompt_tokens: int | None
    output_tokens: int | None
    finish_reason: str | None
    truncated: bool | None
    ttft_ms: float | None
    prefill_ms: float | None
    decode_ms: float | None
    batch_size: int | None
    batch_ms: float | None
    min_margin: float | None
    playbook_version: int | None = None
    bullets_used: tuple[str, ...] = ()
    seen: bool | None = None
    energy_j: float | None = None
    attempt: str = ""
    variant: str | None = None
