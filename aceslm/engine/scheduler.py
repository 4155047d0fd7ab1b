"""Scheduling in plain Python, apart from torch: who is admitted, how prefill is packed, how big a slot is.

shape = slot_shape(needs, budget_tokens=200_000, max_slots=128)
queue = AdmissionQueue(needs, refill_at=shape.slots // 8)
for pass_ in pack_passes([700, 90, 5000], 2048): ...
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from aceslm.engine.prefix_tree import PrefixTree


@dataclass(frozen=True, slots=True)
class SlotShape:
    """How many rows are in flight, and the own tokens each has room for."""

    slots: int
    length: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens `start` to `stop` of item number `item`."""

    item: int
    start: int
    stop: int


def slot_shape(needs: Sequence[int], budget_tokens: int, max_slots: int, round_to: int = 32) -> SlotShape:
    """Return the slots for rows that need `needs` own tokens each, the answer included.

    At least one slot, however small the budget: a row that does not fit memory alone fails there.
    """
    length = -(-max(needs) // round_to) * round_to
    return SlotShape(max(1, min(len(needs), max_slots, budget_tokens // length)), length)


def pack_passes(lengths: Sequence[int], pass_tokens: int) -> list[list[Chunk]]:
    """Pack items into forward passes of at most `pass_tokens` tokens, in order, without padding.

    An item is cut only where it is longer than a whole pass; its chunks follow each other.
    """
    passes: list[list[Chunk]] = [[]]
    room = pass_tokens
    for item, length in enumerate(lengths):
        if length > room and room < pass_tokens:
            passes.append([])
            room = pass_tokens
        start = 0
        while start < length:
            if room == 0:
                passes.append([])
                room = pass_tokens
            stop = min(length, start + room)
            passes[-1].append(Chunk(item, start, stop))
            room -= stop - start
            start = stop
    return [chunks for chunks in passes if chunks]


class AdmissionQueue:
    """Rows that wait, in the order of the prefix tree; gives out as many as slots are free.

    Prefill of few tokens wastes the device, so free slots are refilled `refill_at` at a time, or when nothing
    is in flight, or when the rest of the queue fits.
    """

    def __init__(self, order: Sequence[int]) -> None:
        self._waiting = deque(order)

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting(self) -> tuple[int, ...]:
        return tuple(self._waiting)

    def take(self, free: int, in_flight: int) -> list[int]:
        """Return the rows to admit now."""
        refill_at = max(1, (free + in_flight) // 8)
        if not self._waiting or free == 0:
            return []
        if in_flight and free < min(refill_at, len(self._waiting)):
            return []
        return [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]

    def put_back(self, rows: Sequence[int]) -> None:
        """Return rows to the front, in their order: they are answered from the start again."""
        self._waiting.extendleft(reversed(rows))


def users_of_nodes(tree: PrefixTree) -> list[int]:
    """Return how many prompts lie below each node: a node's memory goes when its last row is answered."""
    users = [0] * len(tree.nodes)
    for prompt in range(len(tree.leaf_of)):
        for node in tree.path(prompt):
            users[node] += 1
    return users
