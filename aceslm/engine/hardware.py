"""What a device can do, measured, and what a model asks of it, counted: the two halves of a roofline.

peak = measure_hardware("cpu", "bfloat16")      # seconds to run; GEMM FLOP/s and copy bytes/s
shape = model_shape(spec)                       # no weights are loaded
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from aceslm.core.machine import available_cores, cpu_name
from aceslm.core.values import ModelSpec
from aceslm.engine.devices import follow_cores
from aceslm.engine.loading import locate

# rows, columns, inner length of products x @ w.T: squares, and tall ones as a packed prefill has them
_PRODUCTS = {
    "cpu": ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 1536, 576), (4096, 4096, 1024)),
    "other": ((4096, 4096, 4096), (8192, 8192, 8192), (32768, 4096, 4096)),
}
_COPY_BYTES = {"cpu": 256 << 20, "other": 1 << 30}  # several times the last-level cache
_TRIES = 5


@dataclass(frozen=True, slots=True)
class MeasuredDevice:
    """Measured peaks: `gemm_flop_per_s` at `dtype`, `copy_bytes_per_s` (read plus written)."""

    device: str
    name: str
    cores: int
    torch: str
    dtype: str
    gemm_flop_per_s: float
    gemm_shape: tuple[int, int, int]
    copy_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What one token costs a dense decoder, from its configuration.

    `body_weights` are the entries of all matrices except embedding and LM head; `head_weights` those of the
    LM head. `input_table` is the embedding's entries where the LM head does not share them. Per layer,
    `attention_width` is query heads x head size, `kv_width` key heads x head size.
    """

    layers: int
    body_weights: int
    head_weights: int
    input_table: int
    attention_width: int
    kv_width: int


def measure_hardware(device: str, dtype: str) -> MeasuredDevice:
    """Measure a device: the fastest of a few matrix products, each tried five times, and a large copy.

    Formulas: 2 x rows x columns x inner / seconds; 2 x bytes / seconds (read and written).

    Args:
        device: `cpu`, `cuda`, `cuda:1`, `mps`, as `EngineInfo.device` has it.
        dtype: `bfloat16`, `float16` or `float32`.
    """
    follow_cores()
    target, kind = torch.device(device), getattr(torch, dtype)
    key = "cpu" if target.type == "cpu" else "other"
    rates = {shape: _gemm_flop_per_s(shape, target, kind) for shape in _PRODUCTS[key]}
    best = max(rates, key=lambda shape: rates[shape])
    source = torch.ones(_COPY_BYTES[key], dtype=torch.uint8, device=target)
    sink = torch.zeros_like(source)
    copy_s = _fastest_s(lambda: sink.copy_(source), target)
    return MeasuredDevice(
        device=device,
        name=_name(target),
        cores=available_cores(),
        torch=str(torch.__version__),
        dtype=dtype,
        gemm_flop_per_s=rates[best],
        gemm_shape=best,
        copy_bytes_per_s=2 * source.numel() / copy_s,
    )


def model_shape(spec: ModelSpec) -> ModelShape:
    """Count a model's weights on the meta device: nothing is allocated or read but its configuration.

    Raises:
        ModelUnavailable: the model is not on this machine.
    """
    place, revision = locate(spec)
    pinned = {"revision": revision} if revision else {}
    config = transformers.AutoConfig.from_pretrained(
        place, trust_remote_code=spec.trust_remote_code, **pinned
    )
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            config, trust_remote_code=spec.trust_remote_code
        )
    text = config.get_text_config()
    tables = [module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    head = model.get_output_embeddings()
    head_weight = head.weight if head is not None else tables[0]
    apart = {id(table) for table in tables} | {id(head_weight)}
    matrices = [weight for weight in model.parameters() if weight.ndim > 1 and id(weight) not in apart]
    heads = text.num_attention_heads
    head_size = getattr(text, "head_dim", None) or text.hidden_size // heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    return ModelShape(
        layers=text.num_hidden_layers,
        body_weights=sum(weight.numel() for weight in matrices),
        head_weights=head_weight.numel(),
        input_table=sum(table.numel() for table in tables if table is not head_weight),
        attention_width=heads * head_size,
        kv_width=kv_heads * head_size,
    )


def _gemm_flop_per_s(shape: tuple[int, int, int], device: torch.device, dtype: torch.dtype) -> float:
    rows, columns, inner = shape
    left = torch.ones(rows, inner, dtype=dtype, device=device)
    right = torch.ones(columns, inner, dtype=dtype, device=device)
    return 2 * rows * columns * inner / _fastest_s(lambda: torch.nn.functional.linear(left, right), device)


def _fastest_s(work: Callable[[], Any], device: torch.device) -> float:
    """Return the shortest of a few wall times, after one untimed call."""
    seconds = []
    with torch.inference_mode():
        for _ in range(_TRIES + 1):
            _wait_for(device)
            began = time.perf_counter()
            work()
            _wait_for(device)
            seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return cpu_name()
