"""Forward passes over packed tokens: prefill of prefix nodes and rows, and decode steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from aceslm.engine.attention.decode import DecodePlan, SlotGrid, SlotRun
from aceslm.engine.attention.kv_cache import KVStore, SlotCache, StepPlaces, rounded
from aceslm.engine.attention.partial import PieceKernels
from aceslm.engine.attention.plan import Block, Read
from aceslm.engine.attention.prefill import Earlier, PackedSpan, PrefillPlan, Write
from aceslm.engine.scheduler import Chunk, pack_passes

# On the CPU fewer rows than this take another path through matrix products: in fp32 the last bits differ.
MIN_CPU_ROWS = 8
MIN_RUN, MAX_RUNS = 8, 4


@dataclass(frozen=True, slots=True)
class Fill:
    """New tokens to prefill: those of a prefix node (`slot` -1) or of a row in a slot.

    `start` is the position of the first token; `path` are the blocks in front of it.
    """

    tokens: Sequence[int]
    start: int
    path: tuple[Block, ...]
    target: KVStore | SlotCache
    slot: int = -1


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """One row of a decode step: its newest token, drafts behind it, the blocks in front, what is stored.

    `shared` and `stored` count the row's tokens in blocks and in its slot.
    """

    tokens: Sequence[int]
    shared: int
    stored: int
    path: tuple[Block, ...] = ()


_DUMMY = DecodeRow((0,), 0, 0)


class PackedModel:
    """A loaded model that runs packed passes."""

    def __init__(self, model: Any, device: torch.device, kernels: PieceKernels, pass_tokens: int) -> None:
        self._model = model
        self._device = device
        self._kernels = kernels
        self.pass_tokens = pass_tokens
        self.min_rows = MIN_CPU_ROWS if device.type == "cpu" else 1

    def prefill(self, fills: Sequence[Fill]) -> torch.Tensor:
        """Prefill; return the logits (len(fills), vocabulary) after each last token."""
        found: list[torch.Tensor] = []
        for chunks in pack_passes([len(fill.tokens) for fill in fills], self.pass_tokens):
            out = self._pass(fills, chunks)
            ends = [n for n, chunk in enumerate(chunks) if chunk.stop == len(fills[chunk.item].tokens)]
            found.append(out[ends])
        return torch.cat(found)

    def decode(self, rows: Sequence[DecodeRow], cache: SlotCache) -> torch.Tensor:
        """Run one step for the rows in slots 0, 1, ...; return logits (all their tokens, vocabulary)."""
        wanted = sum(len(row.tokens) for row in rows)
        padded = [*rows, *[_DUMMY] * (min(self.min_rows, cache.slots) - len(rows))]
        slots = [slot for slot, row in enumerate(padded) for _ in row.tokens]
        places = [row.stored + n for row in padded for n in range(len(row.tokens))]
        positions = [row.shared + row.stored + n for row in padded for n in range(len(row.tokens))]
        tokens = [token for row in padded for token in row.tokens]
        numbers = torch.tensor([tokens, positions, places, slots], device=self._device)
        width = max(len(row.tokens) for row in padded)
        seen = [[row.stored + min(n, len(row.tokens) - 1) + 1 for n in range(width)] for row in padded]
        plan = DecodePlan(
            kernels=self._kernels,
            positions=numbers[1],
            reads=self._decode_reads(rows, padded),
            cache=cache,
            places=StepPlaces(numbers[3], numbers[2]),
            visible=torch.tensor(seen, device=self._device),
            runs=_runs([row[-1] for row in seen], cache.length),
            grid=self._grid(padded, width) if width > 1 else None,
        )
        return self._forward(numbers[0], plan, None)[:wanted]

    def _grid(self, rows: Sequence[DecodeRow], width: int) -> SlotGrid:
        cells: list[list[int]] = []
        of_token: list[int] = []
        first = 0
        for number, row in enumerate(rows):
            count = len(row.tokens)
            cells.append([first + min(n, count - 1) for n in range(width)])
            of_token.extend(number * width + n for n in range(count))
            first += count
        return SlotGrid(torch.tensor(cells, device=self._device), torch.tensor(of_token, device=self._device))

    def _decode_reads(self, rows: Sequence[DecodeRow], padded: Sequence[DecodeRow]) -> list[Read]:
        """Return for each block the tokens of the rows below it; None where that is all of them."""
        users: dict[int, list[int]] = {}
        blocks: dict[int, Block] = {}
        first = 0
        for row in rows:
            for block in row.path:
                blocks[id(block)] = block
                users.setdefault(id(block), []).extend(range(first, first + len(row.tokens)))
            first += len(row.tokens)
        # dummy rows may read what all real rows read: their output is dropped
        return [
            Read(blocks[key], None if len(tokens) == first else torch.tensor(tokens, device=self._device))
            for key, tokens in users.items()
        ]

    def _pass(self, fills: Sequence[Fill], chunks: Sequence[Chunk]) -> torch.Tensor:
        tokens: list[int] = []
        positions: list[int] = []
        writes: list[Write] = []
        spans: list[PackedSpan] = []
        ends: list[int] = []
        for chunk in chunks:
            fill = fills[chunk.item]
            first = len(tokens)
            tokens.extend(fill.tokens[chunk.start : chunk.stop])
            positions.extend(range(fill.start + chunk.start, fill.start + chunk.stop))
            earlier = Earlier(fill.target, fill.slot, chunk.start) if chunk.start else None
            spans.append(PackedSpan(first, len(tokens), earlier))
            writes.append(Write(fill.target, fill.slot, chunk.start, first, len(tokens)))
            ends.append(len(tokens) - 1)
        if (missing := self.min_rows - len(tokens)) > 0:
            spans.append(PackedSpan(len(tokens), self.min_rows))
            positions.extend([0] * missing)
            tokens.extend([tokens[-1]] * missing)
        plan = PrefillPlan(
            kernels=self._kernels,
            positions=torch.tensor(positions, device=self._device),
            writes=writes,
            reads=_reads(
                [(fills[chunk.item].path, span) for chunk, span in zip(chunks, spans, strict=False)]
            ),
            spans=spans,
        )
        keep = torch.tensor(ends, device=self._device)
        return self._forward(torch.tensor(tokens, device=self._device), plan, keep)

    def _forward(
        self, tokens: torch.Tensor, plan: PrefillPlan | DecodePlan, keep: torch.Tensor | None
    ) -> torch.Tensor:
        """Return logits (kept tokens, vocabulary); only kept tokens go through the LM head."""
        out = self._model(
            input_ids=tokens[None],
            position_ids=plan.positions[None],
            use_cache=False,
            logits_to_keep=0 if keep is None else keep,
            pieces=plan,
        )
        logits: torch.Tensor = out.logits[0]
        return logits


def _runs(lengths: Sequence[int], most: int) -> list[SlotRun]:
    """Cut the slots into a few runs of neighbours, so that short rows do not attend to long rows' places."""
    size = max(MIN_RUN, -(-len(lengths) // MAX_RUNS))
    runs: list[SlotRun] = []
    for start in range(0, len(lengths), size):
        longest = min(most, rounded(max(lengths[start : start + size])))
        if runs and runs[-1].longest == longest:
            runs[-1] = SlotRun(runs[-1].start, min(start + size, len(lengths)), longest)
        else:
            runs.append(SlotRun(start, min(start + size, len(lengths)), longest))
    return runs


def _reads(spans: Sequence[tuple[tuple[Block, ...], PackedSpan]]) -> list[Read]:
    """Return one read for each run of neighbouring spans below the same block."""
    reads: list[Read] = []
    runs: dict[int, tuple[Block, int, int]] = {}
    for path, span in spans:
        for block in path:
            run = runs.get(id(block))
            if run is not None and run[2] == span.start:
                runs[id(block)] = (block, run[1], span.stop)
                continue
            if run is not None:
                reads.append(Read(block, slice(run[1], run[2])))
            runs[id(block)] = (block, span.start, span.stop)
    reads.extend(Read(block, slice(start, stop)) for block, start, stop in runs.values())
    return reads
