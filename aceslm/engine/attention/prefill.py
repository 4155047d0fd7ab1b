"""Attention of a prefill pass: packed spans of new tokens, causal among themselves, behind shared blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from aceslm.engine.attention.kv_cache import KVStore, SlotCache
from aceslm.engine.attention.partial import Piece, explicit_piece, merge
from aceslm.engine.attention.plan import LayerCall, PassPlan, Read


@dataclass(frozen=True, slots=True)
class Earlier:
    """The first `count` tokens of a block's store, or of a slot, written by earlier chunks."""

    cache: KVStore | SlotCache
    slot: int
    count: int


@dataclass(frozen=True, slots=True)
class PackedSpan:
    """New tokens `start` to `stop` of the packed row, causal among themselves, after `earlier` ones."""

    start: int
    stop: int
    earlier: Earlier | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """Packed tokens `start` to `stop` go to a prefix's store, or to a slot, from place `offset` on."""

    target: KVStore | SlotCache
    slot: int
    offset: int
    start: int
    stop: int


@dataclass(slots=True, kw_only=True)
class PrefillPlan(PassPlan):
    """Packed spans of new tokens."""

    spans: Sequence[PackedSpan] = ()
    writes: Sequence[Write] = ()

    def attend(self, layer: LayerCall, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Piece:
        """Return the piece over all visible keys: out (kv_heads, groups, tokens, dim)."""
        for write in self.writes:
            keys, values = k[0, :, write.start : write.stop], v[0, :, write.start : write.stop]
            if isinstance(write.target, SlotCache):
                write.target.write_span(layer.index, write.slot, write.offset, keys, values)
            else:
                write.target.write(layer.index, write.offset, keys, values)
        heads = k.shape[1]
        grouped = q[0].unflatten(0, (heads, -1))  # type: ignore[no-untyped-call]
        whole = Piece(
            torch.empty(*grouped.shape[:3], v.shape[-1], dtype=q.dtype, device=q.device),
            torch.empty(grouped.shape[:3], dtype=torch.float32, device=q.device),
        )
        for span in self.spans:
            own = self._own(layer, span, grouped, k, v)
            whole.out[:, :, span.start : span.stop] = own.out
            whole.lse[:, :, span.start : span.stop] = own.lse
        for read in self.reads:
            whole = self._read(layer, read, grouped, whole)
        return whole

    def _own(
        self, layer: LayerCall, span: PackedSpan, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
    ) -> Piece:
        size = span.stop - span.start
        queries = q[:, :, span.start : span.stop].transpose(0, 1)
        groups = queries.shape[0]
        keys, values = (part[:, :, span.start : span.stop].expand(groups, -1, -1, -1) for part in (k, v))
        mask = self._band(size, layer.window, q) if layer.window is not None and size > layer.window else None
        piece = self.kernels(
            queries, keys, values, mask=mask, causal=mask is None, scale=layer.scale, softcap=layer.softcap
        )
        own = Piece(piece.out.transpose(0, 1), piece.lse.transpose(0, 1))
        return own if span.earlier is None else self._with_earlier(layer, span, span.earlier, q, own)

    def _with_earlier(
        self, layer: LayerCall, span: PackedSpan, earlier: Earlier, q: torch.Tensor, own: Piece
    ) -> Piece:
        """Merge in what earlier chunks of the same row or node have written."""
        cache, slot, count = earlier.cache, earlier.slot, earlier.count
        if isinstance(cache, SlotCache):
            keys, values = cache.read(layer.index, slot, slot + 1, count)
        else:
            keys, values = cache.read(layer.index, count)
        size = span.stop - span.start
        queries = q[:, :, span.start : span.stop].reshape(1, q.shape[0], -1, q.shape[-1])
        mask = None
        if layer.window is not None and count + size > layer.window:
            ages = torch.arange(count, count + size, device=q.device)[:, None] - torch.arange(
                count, device=q.device
            )
            mask = torch.zeros(ages.shape, device=q.device).masked_fill_(ages >= layer.window, -torch.inf)
            mask = mask.repeat(q.shape[1], 1)[None, None]
        return merge(own, self._shared(layer, queries, keys, values, mask, own))

    def _read(self, layer: LayerCall, read: Read, q: torch.Tensor, whole: Piece) -> Piece:
        rows = read.rows if isinstance(read.rows, slice) else slice(0, q.shape[2])
        key = (id(read), layer.window)
        if key not in self._masks:
            made = self.window_mask(read, layer.window, self.positions[rows])
            if isinstance(made, torch.Tensor):
                made = made.repeat(1, 1, q.shape[1], 1)
            self._masks[key] = made
        mask = self._masks[key]
        if mask is False:
            return whole
        queries = q[:, :, rows].reshape(1, q.shape[0], -1, q.shape[-1])
        keys, values = read.block.store.read(layer.index, read.block.stop - read.block.start)
        mine = Piece(whole.out[:, :, rows], whole.lse[:, :, rows])
        shared = self._shared(layer, queries, keys, values, mask, mine)
        merged = merge(mine, shared)
        if rows == slice(0, q.shape[2]):
            return merged
        whole.out[:, :, rows] = merged.out
        whole.lse[:, :, rows] = merged.lse
        return whole

    def _shared(
        self,
        layer: LayerCall,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None,
        like: Piece,
    ) -> Piece:
        """Attend to keys that lie before all queries; return the piece in the shape of `like`."""
        if mask is None:
            piece = self.kernels(queries, keys, values, scale=layer.scale, softcap=layer.softcap)
        else:  # some queries may see none of these keys
            mask = self.on(queries.device, mask)
            piece = explicit_piece(queries, keys, values, mask=mask, scale=layer.scale, softcap=layer.softcap)
        return Piece(piece.out[0].view(like.out.shape), piece.lse[0].view(like.lse.shape))

    def _band(self, size: int, window: int, q: torch.Tensor) -> torch.Tensor:
        """Return the causal mask of a span longer than the sliding window."""
        key = ("band", size, window, str(q.device))
        mask = self._masks.get(key)
        if not isinstance(mask, torch.Tensor):
            ages = torch.arange(size, device=q.device)[:, None] - torch.arange(size, device=q.device)
            hidden = (ages < 0) | (ages >= window)
            mask = torch.zeros(hidden.shape, dtype=q.dtype, device=q.device).masked_fill_(hidden, -torch.inf)
            self._masks[key] = mask = mask[None, None]
        return mask
