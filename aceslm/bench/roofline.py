"""How near an engine comes to the device: prefill against matrix products, decode against memory.

A probe, the same for every engine: eight prompts behind one prefix, once with 1 new token and once with 33,
on different texts of the same lengths. Only what is necessary counts: a prefix that prompts share is
computed and read once, padding not at all. An engine that computes it once a prompt shows a low share.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from aceslm.bench.contender import Contender
from aceslm.bench.workloads import CountTokens, make_workload
from aceslm.core.prompts import Prompt
from aceslm.core.values import GenerationSettings
from aceslm.engine.hardware import MeasuredDevice, ModelShape

ROWS = 8
_NEW_TOKENS = 33
_DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}

Encode = Callable[[Prompt], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Necessary:
    """The tokens of a prefix tree: how many, and how many (token, visible token) pairs attention has."""

    tokens: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Roofline:
    """One engine's probe. Shares are of the measured peaks: 1.0 is the device's limit.

    A decode step is None where the machine was too restless: more new tokens took no longer."""

    rows: int
    prefill_s: float
    prefill_flop: int
    prefill_mfu: float
    decode_step_s: float | None
    decode_bytes_per_step: int
    decode_bandwidth_share: float | None


def necessary(rows: Sequence[Sequence[int]]) -> Necessary:
    """Count the distinct prefixes of token-id rows; each is one token to compute.

    >>> necessary([[5, 6, 7], [5, 6, 8]])
    Necessary(tokens=4, pairs=9)
    """
    tokens = pairs = 0
    before: Sequence[int] = ()
    for row in sorted(map(tuple, rows)):
        shared = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(before, row, strict=False)))
        tokens += len(row) - shared
        pairs += (len(row) * (len(row) + 1) - shared * (shared + 1)) // 2
        before = row
    return Necessary(tokens, pairs)


def prefill_flop(shape: ModelShape, rows: Sequence[Sequence[int]]) -> int:
    """Return the operations that prompts need up to their first new token.

    2 x body weights x tokens + 4 x layers x attention width x pairs + 2 x head weights x rows: a weight is
    one multiplication and one addition a token, a pair one of each for scores and for values, and only a
    row's last token goes through the LM head.
    """
    needed = necessary(rows)
    attention = 4 * shape.layers * shape.attention_width * needed.pairs
    return 2 * shape.body_weights * needed.tokens + attention + 2 * shape.head_weights * len(rows)


def decode_bytes_per_step(
    shape: ModelShape, rows: Sequence[Sequence[int]], new_tokens: int, dtype: str, weight_bytes: int
) -> int:
    """Return the bytes that an average decode step must read.

    weight bytes + 2 x layers x kv width x dtype bytes x (tokens of the prefix tree + rows x new tokens / 2).
    """
    token_bytes = 2 * shape.layers * shape.kv_width * _DTYPE_BYTES[dtype]
    held = necessary(rows).tokens + len(rows) * new_tokens // 2
    return weight_bytes + token_bytes * held


def weight_bytes(shape: ModelShape, dtype: str, quantization: str, footprint_bytes: int) -> int:
    """Return the bytes of weights that a step reads: all but an input table of its own.

    Quantized weights are taken from the measured footprint, others from the configuration.
    """
    if quantization == "none":
        return (shape.body_weights + shape.head_weights) * _DTYPE_BYTES[dtype]
    return footprint_bytes - shape.input_table * _DTYPE_BYTES[dtype]


def probe(
    contender: Contender,
    shape: ModelShape,
    hardware: MeasuredDevice,
    encode: Encode,
    count_tokens: CountTokens,
    *,
    repeats: int,
    scale: float,
) -> Roofline:
    """Time the probe and relate it to the measured peaks.

    prefill MFU = prefill_flop / median wall of 1 new token / GEMM peak;
    step = (median wall of 33 new tokens - that of 1) / 32;
    bandwidth share = decode_bytes_per_step / step / copy bandwidth.
    """

    def median_s(new_tokens: int) -> float:
        walls = []
        for repeat in range(repeats):
            prompts = _prompts(count_tokens, f"{new_tokens} new, {repeat}", new_tokens, scale)
            walls.append(contender.run(prompts, GenerationSettings()).wall_s)
        return statistics.median(walls)

    rows = [encode(prompt) for prompt in _prompts(count_tokens, "1 new, 0", 1, scale)]
    info = contender.info
    read = decode_bytes_per_step(
        shape,
        rows,
        _NEW_TOKENS,
        hardware.dtype,
        weight_bytes(shape, hardware.dtype, info.quantization, info.footprint_bytes),
    )
    flop = prefill_flop(shape, rows)
    prefill_s = median_s(1)
    decode_s = median_s(_NEW_TOKENS) - prefill_s
    step_s = decode_s / (_NEW_TOKENS - 1) if decode_s > 0 else None
    return Roofline(
        rows=len(rows),
        prefill_s=prefill_s,
        prefill_flop=flop,
        prefill_mfu=flop / prefill_s / hardware.gemm_flop_per_s,
        decode_step_s=step_s,
        decode_bytes_per_step=read,
        decode_bandwidth_share=read / step_s / hardware.copy_bytes_per_s if step_s else None,
    )


def _prompts(count_tokens: CountTokens, key: str, new_tokens: int, scale: float) -> tuple[Prompt, ...]:
    prompts = make_workload("ace", count_tokens, key=f"probe {key}", scale=scale).prompts[:ROWS]
    return tuple(replace(prompt, max_new_tokens=new_tokens) for prompt in prompts)
