"""Rows in flight: admission into slots, decode steps, refill, and what happens when memory runs out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from aceslm.core.prompts import Completion
from aceslm.core.values import GenerationSettings
from aceslm.engine.attention.kv_cache import KVStore, SlotCache
from aceslm.engine.attention.plan import Block
from aceslm.engine.grammar.masks import Grammars
from aceslm.engine.loading import LoadedModel
from aceslm.engine.model_runner import DecodeRow, Fill, PackedModel
from aceslm.engine.prefix_tree import PrefixTree
from aceslm.engine.prompt_lookup import Drafter
from aceslm.engine.requests import Reply, Request, best_tokens, matcher_for, token_scores
from aceslm.engine.scheduler import AdmissionQueue, SlotShape, slot_shape, users_of_nodes


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Own tokens that fit in memory at once, and rows at once."""

    budget_tokens: int
    max_slots: int


@dataclass(slots=True)
class _RunningRow:
    """One request in a slot; `stored` own tokens are in the cache."""

    index: int
    reply: Reply
    shared: int
    stored: int
    path: tuple[Block, ...]
    drafter: Drafter | None = None


class Flight:
    """One call's requests on their way through the slots. `step()` until `unfinished` is false."""

    def __init__(
        self,
        packed: PackedModel,
        loaded: LoadedModel,
        requests: Sequence[Request],
        tree: PrefixTree,
        settings: GenerationSettings,
        grammars: Grammars | None,
        limits: BatchLimits,
    ) -> None:
        self._packed = packed
        self._loaded = loaded
        self._requests = requests
        self._tree = tree
        self._settings = settings
        self._grammars = grammars
        self._limits = limits
        self._ends = frozenset(loaded.eos_token_ids)
        self._queue = AdmissionQueue(tree.order)
        self._users = users_of_nodes(tree)
        self._blocks: dict[int, Block] = {}
        self._rows: list[_RunningRow | None] = []
        self._cache = self._new_cache()
        self._fitted_for = len(self._queue)
        self.shared_prefill_s = 0.0

    @property
    def unfinished(self) -> bool:
        return bool(len(self._queue) or self._in_flight())

    def adopt_roots(self, known: Mapping[tuple[int, ...], Block]) -> None:
        """Use keys and values that an earlier call has left: of whole roots, or of their beginning."""
        for index, node in enumerate(self._tree.nodes):
            if node.parent >= 0:
                continue
            for tokens, block in known.items():
                if tokens[: node.stop] == node.tokens:
                    self._blocks[index] = Block(0, node.stop, block.store)

    def roots(self) -> dict[tuple[int, ...], Block]:
        """Return the roots that are in memory, by their tokens."""
        return {
            node.tokens: self._blocks[index]
            for index, node in enumerate(self._tree.nodes)
            if node.parent < 0 and index in self._blocks
        }

    @torch.inference_mode()
    def step(self) -> list[Completion]:
        """Admit rows where slots are free, else decode one token of every row; return what finished."""
        in_flight = self._in_flight()
        self._fit_cache()
        slots = min(self._cache.slots, self._limits.max_slots)
        admitted = self._queue.take(slots - in_flight, in_flight)
        return self._admit(admitted) if admitted else self._decode()

    def start_again(self, limits: BatchLimits) -> list[Completion]:
        """Drop all memory and put the rows back: they get the same answers. A row that was alone fails."""
        rows = [row for row in self._rows if row is not None]
        self._rows = []
        self._blocks.clear()
        alone = len(rows) <= 1 and self._limits.max_slots <= 1
        self._limits = limits
        waiting = [row.index for row in rows]
        failed = (waiting or self._queue.take(1, 0)) if alone else []
        for index in failed:
            self._release(index)
        if not alone:
            self._queue.put_back(waiting)
        self._cache = self._new_cache()
        return [self._requests[index].out_of_memory() for index in failed]

    def _in_flight(self) -> int:
        return sum(row is not None for row in self._rows)

    def _own_need(self, index: int) -> int:
        return self._requests[index].need - self._tree.shared(index)

    def _shape(self) -> SlotShape:
        """Return the slots for the rows that remain, at least as many as a decode step is padded to."""
        needs = [self._own_need(index) for index in self._queue.waiting()]
        needs += [self._own_need(row.index) for row in self._rows if row is not None]
        shape = slot_shape(needs or [1], self._limits.budget_tokens, self._limits.max_slots)
        return SlotShape(max(shape.slots, self._packed.min_rows), shape.length)

    def _new_cache(self) -> SlotCache:
        shape = self._shape()
        return SlotCache(shape.slots, shape.length)

    def _fit_cache(self) -> None:
        """Reshape the cache when the rows that remain are so short that twice as many fit."""
        waiting = len(self._queue)
        if waiting in (0, self._fitted_for):
            return
        self._fitted_for = waiting
        shape = self._shape()
        if shape.slots >= 2 * self._cache.slots:
            self._compact()
            self._cache = self._cache.resized(shape.slots, shape.length, len(self._rows))

    def _admit(self, indices: Sequence[int]) -> list[Completion]:
        """Prefill the nodes that are missing, then the rows; choose their first tokens."""
        try:
            self._prefill_nodes(indices)
        except Exception:
            self._queue.put_back(indices)  # they have no slot yet: start_again() would not find them
            raise
        began_s = time.perf_counter()
        active = self._in_flight() + len(indices)
        fills, slots = [], []
        # all rows first: if memory runs out in between, start_again() finds them in their slots
        for index in sorted(indices, key=self._own_need, reverse=True):  # neighbours of like length: see Run
            request = self._requests[index]
            reply = Reply(
                request, matcher_for(request, self._grammars, self._loaded.eos_token_ids), began_s, active
            )
            shared = self._tree.shared(index)
            path = tuple(self._blocks[node] for node in self._tree.path(index))
            row = _RunningRow(index, reply, shared, len(request.ids) - shared, path)
            slot = self._place(row)
            slots.append(slot)
            fills.append(Fill(request.ids[shared:], shared, path, self._cache, slot))
        return self._choose(slots, self._packed.prefill(fills))

    def _place(self, row: _RunningRow) -> int:
        if None in self._rows:
            slot = self._rows.index(None)
            self._rows[slot] = row
            return slot
        self._rows.append(row)
        return len(self._rows) - 1

    def _prefill_nodes(self, indices: Sequence[int]) -> None:
        """Prefill missing nodes of these rows, level by level, siblings packed together."""
        began_s = time.perf_counter()
        levels: dict[int, list[int]] = {}
        for index in indices:
            for depth, number in enumerate(self._tree.path(index)):
                if number not in self._blocks and number not in levels.setdefault(depth, []):
                    levels[depth].append(number)
        for depth in sorted(levels):
            made, fills = {}, []
            for number in levels[depth]:
                node = self._tree.nodes[number]
                made[number] = Block(node.start, node.stop, KVStore(node.stop - node.start))
                fills.append(Fill(node.tokens, node.start, self._above(number), made[number].store))
            if fills:
                self._packed.prefill(fills)
                self._blocks.update(made)
        if levels:
            self.shared_prefill_s += time.perf_counter() - began_s

    def _above(self, number: int) -> tuple[Block, ...]:
        path: list[Block] = []
        parent = self._tree.nodes[number].parent
        while parent >= 0:
            path.append(self._blocks[parent])
            parent = self._tree.nodes[parent].parent
        return tuple(reversed(path))

    def _decode(self) -> list[Completion]:
        """Run one step; rows whose drafts the model chooses too move on by several tokens."""
        self._compact()
        rows = [row for row in self._rows if row is not None]
        drafts = [self._draft(row) for row in rows]
        steps = [
            DecodeRow([row.reply.tokens[-1], *draft], row.shared, row.stored, row.path)
            for row, draft in zip(rows, drafts, strict=True)
        ]
        logits = self._packed.decode(steps, self._cache)
        return self._choose(range(len(rows)), logits, drafts)

    def _draft(self, row: _RunningRow) -> list[int]:
        """Return guessed next tokens; none where a penalty or a grammar follows every token."""
        if row.reply.matcher or self._settings.repetition_penalty != 1.0:
            return []
        if row.drafter is None:
            row.drafter = Drafter([*row.reply.request.ids, *row.reply.tokens])
        return row.drafter.propose(row.reply.request.prompt.max_new_tokens - len(row.reply.tokens) - 1)

    def _choose(
        self, slots: Sequence[int], logits: torch.Tensor, drafts: Sequence[Sequence[int]] | None = None
    ) -> list[Completion]:
        """Choose the next tokens of the rows in `slots`; return the replies that end with them."""
        decoding, drafts = drafts is not None, drafts or [()] * len(slots)
        rows = [row for row in (self._rows[slot] for slot in slots) if row is not None]
        replies = [row.reply for row, draft in zip(rows, drafts, strict=True) for _ in range(1 + len(draft))]
        ahead = [n for draft in drafts for n in range(1 + len(draft))]
        chosen = best_tokens(token_scores(logits, replies, self._settings, self._grammars, ahead))
        finished, first = [], 0
        for slot, row, draft in zip(slots, rows, drafts, strict=True):
            mine = chosen[first : first + 1 + len(draft)]
            completion = self._follow(row, draft, mine, decoding)
            first += 1 + len(draft)
            if completion is not None:
                finished.append(completion)
                self._rows[slot] = None
                self._release(row.index)
        return finished

    def _follow(
        self, row: _RunningRow, draft: Sequence[int], chosen: Sequence[tuple[int, float]], decoding: bool
    ) -> Completion | None:
        """Take the chosen tokens for as long as the draft before them was right."""
        completion, taken = None, 0
        for number, (token, margin) in enumerate(chosen):
            if number and draft[number - 1] != chosen[number - 1][0]:
                break
            taken += 1
            completion = row.reply.follow(token, margin, self._ends, self._loaded.tokenizer)
            if completion is not None:
                break
            if row.drafter is not None:
                row.drafter.append(token)
        row.stored += taken if decoding else 0
        if row.drafter is not None:
            row.drafter.judge(draft, taken - 1)
        return completion

    def _compact(self) -> None:
        """Close the holes that finished rows have left: the last rows move into them."""
        while self._rows and None in self._rows:
            last = self._rows.pop()
            if last is None:
                continue
            hole = self._rows.index(None)
            self._cache.move(len(self._rows), hole, last.stored)
            self._rows[hole] = last

    def _release(self, index: int) -> None:
        """Forget nodes below the roots when their last row is answered."""
        for number in self._tree.path(index):
            self._users[number] -= 1
            if self._users[number] == 0 and self._tree.nodes[number].parent >= 0:
                self._blocks.pop(number, None)
