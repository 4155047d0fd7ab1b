"""What a forward pass over packed tokens may attend to: the part that prefill and decode share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from aceslm.engine.attention.kv_cache import KVStore
from aceslm.engine.attention.partial import PieceKernels

# What a window leaves of a block: None all of it, False nothing, else an additive mask.
Mask = Literal[False] | torch.Tensor | None


@dataclass(frozen=True, slots=True)
class Block:
    """The stored tokens of one node of the prefix tree; the first of them has position `start`."""

    start: int
    stop: int
    store: KVStore


@dataclass(frozen=True, slots=True)
class Read:
    """Queries that attend to all of a block. `rows` None: all of them, else a slice (prefill) or indices."""

    block: Block
    rows: slice | torch.Tensor | None


@dataclass(frozen=True, slots=True)
class LayerCall:
    """What one layer's call brought beside the plan."""

    index: int
    scale: float
    window: int | None
    softcap: float | None


@dataclass(slots=True, kw_only=True)
class PassPlan:
    """What both kinds of pass share. `positions` (tokens,) are absolute.

    Tensors move to a layer's device once.
    """

    kernels: PieceKernels
    positions: torch.Tensor
    reads: Sequence[Read]
    _moved: dict[tuple[str, int], torch.Tensor] = field(default_factory=dict)
    _masks: dict[tuple[Any, ...], Mask] = field(default_factory=dict)

    def on(self, device: torch.device, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the plan on a device (models over several devices ask for more than one)."""
        if tensor.device == device:
            return tensor
        key = (str(device), id(tensor))
        if key not in self._moved:
            self._moved[key] = tensor.to(device)
        return self._moved[key]

    def window_mask(self, read: Read, window: int | None, queries: torch.Tensor) -> Mask:
        """Return what a sliding window leaves of a block.

        Args:
            queries: positions of the reading queries (n,). The mask is (1, 1, n, block tokens), float32.
        """
        if window is None:
            return None
        first, last = int(queries.min()), int(queries.max())
        if last - read.block.start < window:
            return None
        if first - (read.block.stop - 1) >= window:
            return False
        keys = torch.arange(read.block.start, read.block.stop, device=queries.device)
        hidden = queries[:, None] - keys[None, :] >= window
        return torch.zeros(hidden.shape, device=queries.device).masked_fill_(hidden, -torch.inf)[None, None]
