"""What an engine is asked and what it returns: Message, Prompt, Completion."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to an engine.

    `request_id` names the completion. `noise_key` keys the sampling noise ("" is the request id): equal keys
    give equal noise wherever and with whomever the request is batched. `json_schema` (JSON text), where set,
    constrains the reply. `ignore_eos` answers exactly `max_new_tokens` tokens, end tokens included.
    """

    request_id: str
    messages: tuple[Message, ...]
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    json_schema: str | None = None
    ignore_eos: bool = False
    noise_key: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine returns for one prompt, in any order.

    `finish_reason` is `stop` (end token or stop string), `length`, or `error` (then `error` says why and
    `text` is empty). Times are milliseconds of this request from its admission (its batch or its slot),
    queueing excluded. `batch_ms` is the wall time of the batch it was admitted with, where batches exist.
    `batch_size` is the number of rows active at admission.
    """

    request_id: str
    text: str
    token_ids: tuple[int, ...] = ()
    finish_reason: str = "stop"
    error: str | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    latency_ms: float = 0.0
    ttft_ms: float | None = None
    prefill_ms: float | None = None
    decode_ms: float | None = None
    batch_size: int | None = None
    batch_ms: float | None = None
    truncated: bool = False
    min_margin: float | None = None
