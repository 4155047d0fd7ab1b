"""Attention of a decode step: one new token a row, or one and its drafts, behind shared blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from aceslm.engine.attention.kv_cache import SlotCache, StepPlaces
from aceslm.engine.attention.partial import Piece, explicit_piece, merge
from aceslm.engine.attention.plan import LayerCall, Mask, PassPlan, Read


@dataclass(frozen=True, slots=True)
class SlotGrid:
    """The tokens of a decode step by row, for rows with several (drafts).

    `cells` (rows, width) are token numbers; rows with fewer repeat their last. `of_token` (tokens,) finds a
    token's cell in the flattened grid.
    """

    cells: torch.Tensor
    of_token: torch.Tensor


@dataclass(frozen=True, slots=True)
class SlotRun:
    """Neighbouring slots `start` to `stop`, none of which holds more than `longest` tokens."""

    start: int
    stop: int
    longest: int


@dataclass(slots=True, kw_only=True)
class DecodePlan(PassPlan):
    """New tokens of the rows in slots 0 to n-1: one each, or, with a grid, one and its drafts.

    `visible` (rows, width) counts the own tokens that each cell sees, itself included.
    """

    cache: SlotCache
    places: StepPlaces
    visible: torch.Tensor
    runs: Sequence[SlotRun]
    grid: SlotGrid | None = None

    def attend(self, layer: LayerCall, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Piece:
        """Return the piece over all visible keys: out (tokens, kv_heads, groups, dim)."""
        self.cache.write_step(layer.index, self.places, k[0], v[0])
        queries = q[0].transpose(0, 1).unflatten(1, (k.shape[1], -1))  # type: ignore[no-untyped-call]
        whole = self._own(layer, queries)
        for read in self.reads:
            whole = self._read(layer, read, queries, whole)
        return whole

    def _own(self, layer: LayerCall, q: torch.Tensor) -> Piece:
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

    def _by_runs(self, layer: LayerCall, q: torch.Tensor) -> Piece:
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

    def _read(self, layer: LayerCall, read: Read, q: torch.Tensor, whole: Piece) -> Piece:
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

    def _own_mask(self, window: int | None, run: SlotRun, q: torch.Tensor) -> torch.Tensor:
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
