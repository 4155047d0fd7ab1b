"""Proof, at load time, that the attention plan drives this very model: its logits against its own forward.

Two rows of random tokens behind one prefix are prefilled and decoded in packed passes, with a prefix node, a
chunked row and a full batch of slots, and compared with plain forward passes over the unpadded rows. Sliding
windows are narrowed for the proof, so that they matter at its lengths.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from aceslm.engine.attention.interface import ATTENTION_NAME, Unsupported
from aceslm.engine.attention.kv_cache import KVStore, SlotCache
from aceslm.engine.attention.plan import Block
from aceslm.engine.checks import refuse_wrong_numbers
from aceslm.engine.loading import LoadedModel
from aceslm.engine.model_runner import DecodeRow, Fill, PackedModel

log = logging.getLogger(__name__)

_PREFIX, _OWN, _STEPS, _WINDOW = 14, (9, 5), 4, 6
# Relative difference of centred logits. Wrong attention differs by about 1; rounding by far less, except that
# int8 rounds activations: one flip grows through the layers (0.32 was seen in fp32 on a model of 30 layers).
_EXACT, _ROUNDED, _ROUNDED_INT8 = 1e-3, 0.15, 0.6


@dataclass(frozen=True, slots=True)
class _Probe:
    prefix: list[int]
    rows: list[list[int]]  # own tokens of each row, those that are decoded included


def prove(loaded: LoadedModel, packed: PackedModel) -> tuple[str | None, int]:
    """Return why packed passes do not fit this model (None: they do) and a token's bytes of keys and values.

    The model is left with the packed attention if it is supported, with its own if not.

    Raises:
        BrokenModel: the model's own logits are no numbers.
    """
    model = loaded.model
    own = model.config._attn_implementation
    probe = _probe(loaded)
    with torch.inference_mode(), _narrow_windows(model):
        wanted = [_plain_logits(model, loaded.device, probe.prefix + row) for row in probe.rows]
        refuse_wrong_numbers(loaded.spec, torch.cat(wanted), loaded.dtype)
        try:
            model.set_attn_implementation(ATTENTION_NAME)
            logits, token_bytes = _packed_logits(packed, probe, loaded.device)
        except Unsupported as error:
            model.set_attn_implementation(own)
            return f"{error} is not driven through the attention interface alone", 0
        except Exception as error:  # any architecture may fail in its own way
            model.set_attn_implementation(own)
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", 0
    worst = max(_difference(got, whole[-_STEPS - 1 :]) for got, whole in zip(logits, wanted, strict=True))
    if not worst <= _tolerance(loaded):
        model.set_attn_implementation(own)
        return f"its logits differ by {worst:.2g} of their spread", 0
    log.debug("packed passes reproduce the model's own logits within %.2g of their spread", worst)
    return None, token_bytes


def _tolerance(loaded: LoadedModel) -> float:
    if loaded.quantization == "int8":
        return _ROUNDED_INT8
    return _EXACT if loaded.dtype == torch.float32 and loaded.quantization == "none" else _ROUNDED


def head_dim(model: Any) -> int:
    """Return the dimension of an attention head."""
    config = model.config.get_text_config()
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _probe(loaded: LoadedModel) -> _Probe:
    vocabulary = loaded.model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return [int(token) for token in torch.randint(0, vocabulary, (count,), generator=generator)]

    return _Probe(tokens(_PREFIX), [tokens(own + _STEPS) for own in _OWN])


def _plain_logits(model: Any, device: torch.device, ids: list[int]) -> torch.Tensor:
    out = model(input_ids=torch.tensor([ids], device=device), use_cache=False)
    logits: torch.Tensor = out.logits[0].float()
    return logits


def _packed_logits(
    packed: PackedModel, probe: _Probe, device: torch.device
) -> tuple[list[torch.Tensor], int]:
    """Return each row's logits at its last own token and at every decoded one."""
    usual, packed.pass_tokens = packed.pass_tokens, 8  # rows and the prefix are cut into chunks
    try:
        block = Block(0, _PREFIX, KVStore(_PREFIX))
        packed.prefill([Fill(probe.prefix, 0, (), block.store)])
        cache = SlotCache(8, max(_OWN) + _STEPS + 1)
        fills = [
            Fill(row[:own], _PREFIX, (block,), cache, slot)
            for slot, (row, own) in enumerate(zip(probe.rows, _OWN, strict=True))
        ]
        first = packed.prefill(fills)
        found = [[first[slot]] for slot in range(len(_OWN))]
        twin = Block(0, _PREFIX, block.store)  # read by some of the rows, to prove that way too
        paths = [(block,), (twin,)]
        for start, stop in ((0, 1), (1, _STEPS)):  # one token a row, then several
            steps = [
                DecodeRow(row[own + start : own + stop], _PREFIX, own + start, path)
                for row, own, path in zip(probe.rows, _OWN, paths, strict=True)
            ]
            logits = packed.decode(steps, cache)
            for slot in range(len(_OWN)):
                found[slot].extend(logits[slot * (stop - start) : (slot + 1) * (stop - start)])
        return [torch.stack(row).float() for row in found], block.store.nbytes // _PREFIX
    finally:
        packed.pass_tokens = usual


def _difference(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return how far logits differ, as a part of their spread; infinite where any of them is no number."""
    if got.shape != wanted.shape or not bool((got.isfinite() & wanted.isfinite()).all()):
        return float("inf")
    centred = wanted - wanted.mean(dim=-1, keepdim=True)
    difference = float((got - wanted).norm() / centred.norm().clamp_min(1e-12))
    return difference if math.isfinite(difference) else float("inf")  # a NaN hides from `max` and from `<`


@contextmanager
def _narrow_windows(model: Any) -> Iterator[None]:
    """Let sliding windows span a few tokens, in the configuration and in the layers that copied it."""
    changed: list[tuple[Any, int]] = []
    for holder in (model.config, model.config.get_text_config(), *model.modules()):
        size = getattr(holder, "sliding_window", None)
        if isinstance(size, int) and not isinstance(size, bool) and size > _WINDOW:
            changed.append((holder, size))
            holder.sliding_window = _WINDOW
    try:
        yield
    finally:
        for holder, size in reversed(changed):
            holder.sliding_window = size
