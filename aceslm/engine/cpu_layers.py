"""Faster layers for bf16 on the CPU, from PyTorch's own oneDNN operators.

`F.linear` lays its weights out anew at every call; weights reordered once for small batches save that (decode
and prefill take about half the time in matrix products). A gated MLP computes its activation and product
inside the matrix products. Each replaced module first has to reproduce the original on random input; what
does not stays as it is. The arithmetic is the same, its rounding may differ.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)

_ROWS_HINT = 32  # the layout that oneDNN picks for this many rows also wins for thousands
_TOLERANCE = 0.02


class PackedLinear(nn.Module):
    """A linear layer whose weight is stored in oneDNN's blocked layout."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        # not a parameter: an opaque tensor, which only the operators below can read
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS_HINT)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features)."""
        return _linear(x, self, "none")


class JoinedProjections:
    """Query, key and value projections as a single product; the first call computes all three."""

    def __init__(self, linears: Sequence[nn.Linear]) -> None:
        joined = nn.Linear(linears[0].in_features, sum(linear.out_features for linear in linears), bias=False)
        joined.weight = nn.Parameter(torch.cat([linear.weight for linear in linears]), requires_grad=False)
        if linears[0].bias is not None:
            joined.bias = nn.Parameter(torch.cat([linear.bias for linear in linears]), requires_grad=False)
        self._whole = PackedLinear(joined)
        self.in_features = joined.in_features
        self._sizes = [linear.out_features for linear in linears]
        self._last: tuple[torch.Tensor, tuple[torch.Tensor, ...]] | None = None

    def part(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """Return one projection of `x`."""
        if self._last is None or self._last[0] is not x:
            self._last = x, self._whole(x).split(self._sizes, dim=-1)
        found = self._last[1][number]
        if number == len(self._sizes) - 1:
            self._last = None
        return found


class JoinedPart(nn.Module):
    """One of several joined projections, in the place of the layer it was."""

    def __init__(self, joined: JoinedProjections, number: int) -> None:
        super().__init__()
        self._joined, self._number = joined, number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features of this part), a view."""
        return self._joined.part(self._number, x)


class PackedGatedMLP(nn.Module):
    """down(act(gate(x)) * up(x)) with activation and product fused into the matrix products."""

    def __init__(self, gate: PackedLinear, up: PackedLinear, down: PackedLinear, activation: str) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = gate, up, down
        self._activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., hidden) -> (..., hidden)."""
        gated = _linear(x, self.gate_proj, self._activation)
        up = self.up_proj
        product = torch.ops.mkldnn._linear_pointwise.binary(x, gated, up.weight, up.bias, "mul")
        return _linear(product, self.down_proj, "none")


def keep_freed_memory() -> bool:
    """Let glibc keep what it frees: giving large blocks back costs a page fault per 4 KiB at their next use.

    Returns whether it could be set (mallopt(3); other C libraries have no such switch).
    """
    if not sys.platform.startswith("linux"):
        return False
    m_trim_threshold, m_mmap_threshold = -1, -3
    try:
        libc = ctypes.CDLL(None)
        return bool(libc.mallopt(m_mmap_threshold, 1 << 30) and libc.mallopt(m_trim_threshold, (1 << 31) - 1))
    except (AttributeError, OSError):
        return False


def use_fast_layers(model: Any) -> int:
    """Replace what can be replaced in a bf16 model on the CPU; return how many modules were."""
    if not (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    ):
        return 0
    replaced = 0
    with torch.no_grad():
        for module in list(model.modules()):
            replaced += _join(module)
        for parent, name, module in list(_children(model)):
            if type(module) is nn.Linear:
                replaced += _replace(parent, name, module, PackedLinear(module), module.in_features)
        for parent, name, module in list(_children(model)):
            if (faster := _fused(module)) is not None:
                replaced += _replace(parent, name, module, faster, faster.gate_proj.in_features)
    log.debug("%d layers run through oneDNN's packed operators", replaced)
    return replaced


def _join(attention: nn.Module) -> int:
    """Join the query, key and value projections of an attention module, where it has them."""
    names = ("q_proj", "k_proj", "v_proj")
    linears = [getattr(attention, name, None) for name in names]
    if not all(type(linear) is nn.Linear for linear in linears):
        return 0
    if len({(linear.in_features, linear.bias is None) for linear in linears}) > 1:  # type: ignore[union-attr]
        return 0
    joined = JoinedProjections(linears)  # type: ignore[arg-type]
    replaced = 0
    for number, (name, linear) in enumerate(zip(names, linears, strict=True)):
        replaced += _replace(attention, name, linear, JoinedPart(joined, number), joined.in_features)  # type: ignore[arg-type]
    return replaced


def _linear(x: torch.Tensor, layer: PackedLinear, activation: str) -> torch.Tensor:
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, activation, [], "")
    return out


def _children(model: Any) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for parent in model.modules():
        for name, child in parent.named_children():
            yield parent, name, child


def _fused(module: nn.Module) -> PackedGatedMLP | None:
    """Return the twin of a gated MLP with packed weights."""
    gate, up, down = (getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj"))
    activation = _activation(module)
    packed = (
        isinstance(gate, PackedLinear) and isinstance(up, PackedLinear) and isinstance(down, PackedLinear)
    )
    return PackedGatedMLP(gate, up, down, activation) if activation and packed else None  # type: ignore[arg-type]


def _activation(module: nn.Module) -> str | None:
    kind = type(getattr(module, "act_fn", None)).__name__
    return "swish" if kind in ("SiLU", "SiLUActivation") else None


def _replace(parent: nn.Module, name: str, old: nn.Module, new: nn.Module, width: int) -> int:
    """Put `new` in the place of `old` if both give the same on random input."""
    x = torch.randn(4, width, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    try:
        wanted, got = old(x).float(), new(x).float()
    except (RuntimeError, TypeError, AttributeError) as error:
        log.debug("%s stays as it is: %s", type(old).__name__, error)
        return 0
    if got.shape != wanted.shape or (got - wanted).norm() > _TOLERANCE * wanted.norm():
        return 0
    setattr(parent, name, new)
    return 1
