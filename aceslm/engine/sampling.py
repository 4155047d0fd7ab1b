"""Choosing tokens: greedy, or sampled with noise keyed by (noise key, position).

Sampling is argmax(log p + Gumbel noise), which draws from p exactly (Gumbel 1954; Maddison et al. 2014).
The noise comes from a counter-based generator keyed by the prompt's noise key, one block a position, so an
answer does not depend on the batch, the shard, the limit or the resume it fell into.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from aceslm.core.values import GenerationSettings


def gumbel_noise(key: str, position: int, vocab_size: int) -> torch.Tensor:
    """Return `vocab_size` standard Gumbel values (float32) for one token of one reply."""
    noise = np.empty(vocab_size, dtype=np.float32)
    _fill_with_noise(noise, key, position)
    return torch.from_numpy(noise)


def filtered_logits(logits: torch.Tensor, settings: GenerationSettings) -> torch.Tensor:
    """Return temperature-scaled logits with everything outside top-k, top-p and min-p at -inf.

    Args:
        logits: (rows, vocabulary), float32.
    """
    scores = logits / settings.temperature
    if settings.top_k:
        kth = scores.topk(min(settings.top_k, scores.shape[-1]), dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < kth, -torch.inf)
    if settings.top_p < 1.0:
        ordered, order = scores.sort(dim=-1, descending=True, stable=True)
        before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
        drop = torch.zeros_like(scores, dtype=torch.bool).scatter(1, order, before >= settings.top_p)
        scores = scores.masked_fill(drop, -torch.inf)
    if settings.min_p > 0.0:
        probabilities = scores.softmax(dim=-1)
        floor = settings.min_p * probabilities.amax(dim=-1, keepdim=True)
        scores = scores.masked_fill(probabilities < floor, -torch.inf)
    return scores


def penalised(logits: torch.Tensor, seen: Sequence[torch.Tensor], penalty: float) -> torch.Tensor:
    """Apply the repetition penalty (Keskar et al. 2019) to the tokens each row has seen.

    Args:
        logits: (rows, vocabulary); seen: one tensor of token ids a row, prompt included.
    """
    if penalty == 1.0:
        return logits
    result = logits.clone()
    for row, tokens in enumerate(seen):
        ids = torch.unique(tokens)
        values = result[row, ids]
        result[row, ids] = torch.where(values > 0, values / penalty, values * penalty)
    return result


def sampling_scores(
    logits: torch.Tensor, noise_keys: Sequence[str], positions: Sequence[int], settings: GenerationSettings
) -> torch.Tensor:
    """Return scores whose argmax is the chosen token: the logits themselves when greedy.

    Args:
        logits: (rows, vocabulary); noise_keys, positions: one a row.
    """
    if settings.temperature == 0.0:
        return logits
    scores = filtered_logits(logits.float(), settings)
    noise = np.empty(tuple(logits.shape), dtype=np.float32)
    for row, name, position in zip(noise, noise_keys, positions, strict=True):
        _fill_with_noise(row, name, position)
    return scores.add_(torch.from_numpy(noise).to(scores.device))


def _fill_with_noise(row: np.ndarray, name: str, position: int) -> None:
    """Fill a row with -log(-log(uniform)), in place: the copies would cost as much as the logarithms."""
    key = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, position]))
    generator.random(out=row, dtype=np.float32)
    np.clip(row, np.finfo(np.float32).tiny, 1 - 2**-24, out=row)
    for _ in range(2):
        np.log(row, out=row)
        np.negative(row, out=row)
