"""The attention function behind the shared-prefix engine, driven by a plan that travels as a forward kwarg.

A forward pass sees one packed row of tokens: no padding, no batch dimension. The plan says what each token
may attend to: shared prefix blocks (read by many rows at once), the row's own earlier tokens, itself. It is
registered with transformers' attention interface, so every architecture that goes through the interface
and handles its tokens one by one elsewhere is driven by its own modelling code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import AttentionInterface

from aceslm.engine.kv_cache import KVStore, SlotCache, StepPlaces
from aceslm.engine.pieces import Piece, PieceKernels, explicit_piece, merge, with_sinks

ATTENTION_NAME = "aceslm_pieces"


# What a window leaves of a block: None all of it, False nothing, else an additive mask.
Mask = Literal[False] | torch.Tensor | None


class Unsupported(Exception):
    """This architecture does something with attention that the plan cannot express."""


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
class Earlier:
    """The first `count` tokens of a block's store, or of a slot, written by earlier chunks."""

    cache: KVStore | SlotCache
    slot: int
    count: int


@dataclass(frozen=True, slots=True)
class Span:
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
class Plan:
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

    def window_mask(
        self, read: Read, window: int | None, queries: torch.Tensor
    ) -> torch.Tensor | bool | None:
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


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one layer's call brought beside the plan."""

    index: int
    scale: float
    window: int | None
    softcap: float | None


@dataclass(slots=True, kw_only=True)
class PrefillPlan(Plan):
    """Packed spans of new tokens."""

    spans: Sequence[Span] = ()
    writes: Sequence[Write] = ()

    def attend(self, layer: _Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Piece:
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

    def _own(self, layer: _Layer, span: Span, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Piece:
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
        self, layer: _Layer, span: Span, earlier: Earlier, q: torch.Tensor, own: Piece
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

    def _read(self, layer: _Layer, read: Read, q: torch.Tensor, whole: Piece) -> Piece:
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
        layer: _Layer,
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


@dataclass(frozen=True, slots=True)
class Grid:
    """The tokens of a decode step by row, for rows with several (drafts).

    `cells` (rows, width) are token numbers; rows with fewer repeat their last. `of_token` (tokens,) finds a
    token's cell in the flattened grid.
    """

    cells: torch.Tensor
    of_token: torch.Tensor


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring slots `start` to `stop`, none of which holds more than `longest` tokens."""

    start: int
    stop: int
    longest: int


@dataclass(slots=True, kw_only=True)
class DecodePlan(Plan):
    """New tokens of the rows in slots 0 to n-1: one each, or, with a grid, one and its drafts.

    `visible` (rows, width) counts the own tokens that each cell sees, itself included.
    """

    cache: SlotCache
    places: StepPlaces
    visible: torch.Tensor
    runs: Sequence[Run]
    grid: Grid | None = None

    def attend(self, layer: _Layer, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Piece:
        """Return the piece over all visible keys: out (tokens, kv_heads, groups, dim)."""
        self.cache.write_step(layer.index, self.places, k[0], v[0])
        queries = q[0].transpose(0, 1).unflatten(1, (k.shape[1], -1))  # type: ignore[no-untyped-call]
        whole = self._own(layer, queries)
        for read in self.reads:
            whole = self._read(layer, read, queries, whole)
        return whole

    def _own(self, layer: _Layer, q: torch.Tensor) -> Piece:
        """Attend to the rows' own tokens."""
        rows, width = self.visible.shape
        if self.grid is None:
            return self._by_runs(layer, q)
        cells = self.on(q.device, self.grid.cells).flatten()
        spread = q[cells].view(rows, width, *q.shape[1:]).permute(0, 2, 1, 3, 4).flatten(2, 3)
        piece = self._by_runs(layer, spread)
        shape = (rows, q.shape[1], width, q.shape[2])
        of_token = self.on(q.device, self.grid.of_token)
        out = piece.out.reshape(*shape, -1).transpose(1, 2).flatten(0, 1)[of_token]
        return Piece(out, piece.lse.reshape(shape).transpose(1, 2).flatten(0, 1)[of_token])

    def _by_runs(self, layer: _Layer, q: torch.Tensor) -> Piece:
        """Attend run by run, to no more places than a run needs; q is (rows, kv_heads, queries, dim)."""
        pieces = []
        for run in self.runs:
            keys, values = self.cache.read(layer.index, run.start, run.stop, run.longest)
            mask = self._own_mask(layer.window, run, q)
            pieces.append(
                self.kernels(
                    q[run.start : run.stop], keys, values, mask=mask, scale=layer.scale, softcap=layer.softcap
                )
            )
        if len(pieces) == 1:
            return pieces[0]
        return Piece(torch.cat([piece.out for piece in pieces]), torch.cat([piece.lse for piece in pieces]))

    def _read(self, layer: _Layer, read: Read, q: torch.Tensor, whole: Piece) -> Piece:
        rows = None if read.rows is None else self.on(q.device, read.rows)  # type: ignore[arg-type]
        mask = self._read_mask(layer.window, read, q.shape[2])
        if mask is False:
            return whole
        mine = whole if rows is None else Piece(whole.out[rows], whole.lse[rows])
        chosen = q if rows is None else q[rows]
        size, heads, groups, dim = chosen.shape
        queries = chosen.transpose(0, 1).reshape(1, heads, size * groups, dim)
        keys, values = read.block.store.read(layer.index, read.block.stop - read.block.start)
        if mask is None:
            piece = self.kernels(queries, keys, values, scale=layer.scale, softcap=layer.softcap)
        else:
            mask = self.on(q.device, mask)
            piece = explicit_piece(queries, keys, values, mask=mask, scale=layer.scale, softcap=layer.softcap)
        shared = Piece(
            piece.out[0].view(heads, size, groups, -1).transpose(0, 1),
            piece.lse[0].view(heads, size, groups).transpose(0, 1),
        )
        merged = merge(mine, shared)
        if rows is None:
            return merged
        whole.out[rows] = merged.out
        whole.lse[rows] = merged.lse
        return whole

    def _read_mask(self, window: int | None, read: Read, groups: int) -> Mask:
        key = (id(read), window)
        if key not in self._masks:
            positions = self.positions if read.rows is None else self.positions[read.rows]
            mask = self.window_mask(read, window, positions)
            if isinstance(mask, torch.Tensor):
                mask = mask.repeat_interleave(groups, dim=2)
            self._masks[key] = mask
        return self._masks[key]

    def _own_mask(self, window: int | None, run: Run, q: torch.Tensor) -> torch.Tensor:
        """A cell sees its row's tokens up to itself, within the window.

        Returns (rows of the run, 1, 1 or width x groups, longest).
        """
        key = ("own", window, run.start, str(q.device))
        mask = self._masks.get(key)
        if not isinstance(mask, torch.Tensor):
            visible = self.on(q.device, self.visible)[run.start : run.stop, :, None]
            places = torch.arange(run.longest, device=q.device)
            hidden = places >= visible
            if window is not None:
                hidden |= places < visible - window
            mask = torch.zeros(hidden.shape, dtype=q.dtype, device=q.device).masked_fill_(hidden, -torch.inf)
            if self.grid is not None:
                mask = mask.repeat_interleave(q.shape[2] // self.visible.shape[1], dim=1)
            self._masks[key] = mask = mask[:, None]
        return mask


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    pieces: PrefillPlan | DecodePlan | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The function that transformers calls in every layer; returns (1, tokens, heads, dim)."""
    index = getattr(module, "layer_idx", None)
    if pieces is None or index is None or attention_mask is not None or key.shape[0] != 1:
        raise Unsupported(type(module).__name__)
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    layer = _Layer(int(index), scale, sliding_window or None, softcap or None)
    piece = pieces.attend(layer, query, key, value)
    decode = isinstance(pieces, DecodePlan)
    out = piece.out
    if s_aux is not None:
        sinks = s_aux.view(1, key.shape[1], -1) if decode else s_aux.view(key.shape[1], -1, 1)
        out = with_sinks(piece, sinks)
    if decode:
        return out.reshape(1, out.shape[0], query.shape[1], -1), None
    return out.flatten(0, 1).transpose(0, 1).unsqueeze(0), None


def register() -> None:
    """Make the attention function known to transformers under ATTENTION_NAME; no mask is built for it."""
    AttentionInterface.register(ATTENTION_NAME, _attention)
