"""Keys and values in preallocated memory: one `KVStore` a shared prefix, one for all slots of the batch.

A store holds `tokens` places a layer. Layers appear at their first write, on the layer's own device and in
its own shape, so models over several devices and with unequal layers need nothing special. Nothing is ever
concatenated: a step writes its new tokens into their places and reads the rest as a view.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

ROUND_TOKENS = 32


@dataclass(slots=True)
class KVStore:
    """Places for `tokens` keys and values a layer: (tokens, kv_heads, dim) each."""

    tokens: int
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def write(self, layer: int, places: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write (n, kv_heads, dim) keys and values to `places` (n,)."""
        stored = self.layers.get(layer)
        if stored is None:
            # zeros, not empty: masked places must hold numbers, 0 * NaN is NaN
            stored = tuple(part.new_zeros((self.tokens, *part.shape[1:])) for part in (keys, values))  # type: ignore[assignment]
            self.layers[layer] = stored  # type: ignore[assignment]
        stored[0].index_copy_(0, places, keys)  # type: ignore[index]
        stored[1].index_copy_(0, places, values)  # type: ignore[index]

    def read(self, layer: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first `stop` keys and values as (1, kv_heads, stop, dim) views."""
        keys, values = self.layers[layer]
        return keys[:stop].transpose(0, 1).unsqueeze(0), values[:stop].transpose(0, 1).unsqueeze(0)

    @property
    def nbytes(self) -> int:
        """Memory of all layers."""
        return sum(part.nbytes for stored in self.layers.values() for part in stored)


@dataclass(slots=True)
class SlotCache:
    """The own tokens of the rows in flight: `slots` rows of up to `length` tokens each, in one store."""

    slots: int
    length: int
    store: KVStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = KVStore(self.slots * self.length)

    def read(self, layer: int, rows: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first `stop` tokens of the first `rows` slots as (rows, kv_heads, stop, dim) views."""
        keys, values = (
            part.unflatten(0, (self.slots, self.length))[:rows, :stop].transpose(1, 2)
            for part in self.store.layers[layer]
        )
        return keys, values

    def read_slot(self, layer: int, slot: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first `stop` tokens of one slot as (1, kv_heads, stop, dim) views."""
        first = slot * self.length
        keys, values = self.store.layers[layer]
        return (
            keys[first : first + stop].transpose(0, 1).unsqueeze(0),
            values[first : first + stop].transpose(0, 1).unsqueeze(0),
        )

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy one slot's first `tokens` tokens over another's."""
        for stored in self.store.layers.values():
            for part in stored:
                rows = part.unflatten(0, (self.slots, self.length))
                rows[target, :tokens] = rows[source, :tokens]

    def resized(self, slots: int, length: int, lengths: list[int]) -> SlotCache:
        """Return a cache of another shape that holds the first `len(lengths)` slots' tokens."""
        other = SlotCache(slots, length)
        for layer, stored in self.store.layers.items():
            fresh = tuple(part.new_zeros((slots * length, *part.shape[1:])) for part in stored)
            for old, new in zip(stored, fresh, strict=True):
                source = old.unflatten(0, (self.slots, self.length))
                target = new.unflatten(0, (slots, length))
                for slot, tokens in enumerate(lengths):
                    target[slot, :tokens] = source[slot, :tokens]
            other.store.layers[layer] = (fresh[0], fresh[1])
        return other


def rounded(tokens: int) -> int:
    """Round up to a multiple of ROUND_TOKENS."""
    return -(-tokens // ROUND_TOKENS) * ROUND_TOKENS
