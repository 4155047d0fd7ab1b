"""Attention in pieces: each piece returns its output and log-sum-exp, and pieces merge exactly.

Softmax over the union of two key sets is the average of the two softmaxes, weighted by the sums of their
exponentials (the identity behind FlashAttention, Dao et al. 2022, and cascade inference). A device's own
flash kernel computes a piece where it can; what it cannot (soft-capped scores, rows that see no key of the
piece) goes through explicit products in float32.

Shapes: q (batch, heads, queries, dim); k, v (batch, heads, keys, dim); out as q; lse (batch, heads, queries),
float32. Masks are additive, in q's dtype, and broadcast to (batch, heads, queries, keys).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

log = logging.getLogger(__name__)

_SCORES_AT_ONCE = 1 << 25  # explicit products keep at most this many float32 scores at a time


@dataclass(frozen=True, slots=True)
class Piece:
    """The result of attention over some of the keys."""

    out: torch.Tensor
    lse: torch.Tensor


Kernel = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, bool, float],
    tuple[torch.Tensor, torch.Tensor],
]


def explicit_piece(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float,
    softcap: float | None = None,
) -> Piece:
    """Attention over one set of keys by plain products in float32; works everywhere.

    A query that sees no key gets out 0 and lse -inf. The soft cap is applied before the mask (Gemma 2).
    """
    queries = q.shape[2]
    rows = max(1, _SCORES_AT_ONCE // max(1, q.shape[0] * q.shape[1] * k.shape[2]))
    outs, sums = [], []
    keys, values = k.float().transpose(-1, -2), v.float()
    for start in range(0, queries, rows):
        stop = min(start + rows, queries)
        scores = torch.matmul(q[:, :, start:stop].float(), keys) * scale
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        if mask is not None:
            scores = scores + (mask if mask.shape[2] == 1 else mask[:, :, start:stop])
        if causal:
            later = torch.ones(stop - start, k.shape[2], dtype=torch.bool, device=q.device).triu_(start + 1)
            scores = scores.masked_fill(later, -torch.inf)
        lse = scores.logsumexp(dim=-1)
        weights = torch.exp(scores - lse.clamp_min(torch.finfo(torch.float32).min).unsqueeze(-1))
        outs.append(torch.matmul(weights, values).to(q.dtype))
        sums.append(lse)
    return Piece(torch.cat(outs, dim=2), torch.cat(sums, dim=2))


def merge(first: Piece, second: Piece) -> Piece:
    """Merge two pieces of the same queries into attention over both key sets; exact.

    Every query sees a key of `first`; of `second` it may see none.
    """
    weight = torch.sigmoid(second.lse - first.lse).unsqueeze(-1).to(first.out.dtype)
    return Piece(torch.lerp(first.out, second.out, weight), torch.logaddexp(first.lse, second.lse))


def with_sinks(piece: Piece, sinks: torch.Tensor) -> torch.Tensor:
    """Return the output with a learned sink logit a head in the denominator (gpt-oss), added once.

    Args:
        sinks: broadcasts to piece.lse.
    """
    return piece.out * torch.sigmoid(piece.lse - sinks.float()).unsqueeze(-1).to(piece.out.dtype)


@dataclass(frozen=True, slots=True)
class PieceKernels:
    """The kernels of one device and dtype, chosen by what reproduces `explicit_piece` there.

    `plain` runs unmasked and causal pieces, `masked` pieces with an additive mask under which every query
    sees a key. None: explicit products.
    """

    plain: Kernel | None
    masked: Kernel | None
    name: str

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        *,
        mask: torch.Tensor | None = None,
        causal: bool = False,
        scale: float,
        softcap: float | None = None,
    ) -> Piece:
        """Attend to one piece; with a mask every query must see at least one key."""
        kernel = self.plain if mask is None else self.masked
        if kernel is None or softcap is not None or q.shape[-1] != v.shape[-1]:
            return explicit_piece(q, k, v, mask=mask, causal=causal, scale=scale, softcap=softcap)
        return Piece(*kernel(q, k, v, mask, causal, scale))


def choose_kernels(device: torch.device, dtype: torch.dtype, head_dim: int) -> PieceKernels:
    """Return the fastest kernels that agree with explicit products on this device."""
    plain, masked, names = None, None, []
    for name, kernel, takes_mask in _CANDIDATES.get(device.type, ()):
        if plain is None and _agrees(kernel, device, dtype, head_dim, masked=False):
            plain = kernel
            names.append(name)
        if masked is None and takes_mask and _agrees(kernel, device, dtype, head_dim, masked=True):
            masked = kernel
            names.append(name)
    log.debug("attention pieces on %s %s: %s", device, dtype, ", ".join(dict.fromkeys(names)) or "explicit")
    return PieceKernels(plain, masked, "+".join(dict.fromkeys(names)) or "explicit")


def _cpu_flash(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, causal, attn_mask=mask, scale=scale
    )
    return out, lse


def _cuda_flash(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    found = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False, scale=scale)
    return found[0], found[1][..., : q.shape[2]]


def _cuda_efficient(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    if mask is not None:
        mask = mask.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    found = torch.ops.aten._scaled_dot_product_efficient_attention(
        q, k, v, mask, True, 0.0, causal, scale=scale
    )
    return found[0], found[1][..., : q.shape[2]]


_CANDIDATES: dict[str, tuple[tuple[str, Kernel, bool], ...]] = {
    "cpu": (("flash-cpu", _cpu_flash, True),),
    "cuda": (("flash", _cuda_flash, False), ("efficient", _cuda_efficient, True)),
}


def _agrees(kernel: Kernel, device: torch.device, dtype: torch.dtype, head_dim: int, *, masked: bool) -> bool:
    """Return whether a kernel reproduces explicit products, causal or masked, on a small random problem."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 24, head_dim, generator=generator).to(device, dtype) for _ in range(3))
    mask = None
    if masked:
        hidden = torch.rand(2, 1, 1, 24, generator=generator) < 0.5
        hidden[..., 0] = False
        mask = torch.zeros(2, 1, 1, 24).masked_fill_(hidden, -torch.inf).to(device, dtype)
    scale = head_dim**-0.5
    wanted = explicit_piece(q, k, v, mask=mask, causal=not masked, scale=scale)
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    try:
        out, lse = kernel(q, k, v, mask, not masked, scale)
        return bool(
            torch.allclose(out.float(), wanted.out.float(), atol=tolerance)
            and torch.allclose(lse.float(), wanted.lse, atol=tolerance)
        )
    except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
        log.debug("attention kernel not usable on %s: %s", device, error)
        return False
