"""Keys and values in preallocated memory: a `KVStore` for each shared prefix, one `SlotCache` for the batch.

Layers appear at their first write, on the layer's own device and in
its own shape, so models over several devices and with unequal layers need nothing special. Nothing is ever
concatenated: a step writes its new tokens into their places and reads the rest as a view.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

ROUND_TOKENS = 32


@dataclass(slots=True)
class KVStore:
    """Places for `tokens` keys and values a layer: (kv_heads, tokens, dim) each."""

    tokens: int
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def write(self, layer: int, offset: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write (kv_heads, n, dim) keys and values from place `offset` on."""
        stored = self.layers.get(layer)
        if stored is None:
            own_keys, own_values = (
                part.new_empty((part.shape[0], self.tokens, part.shape[2])) for part in (keys, values)
            )
            stored = self.layers[layer] = (own_keys, own_values)
        stop = offset + keys.shape[1]
        stored[0][:, offset:stop] = keys
        stored[1][:, offset:stop] = values

    def read(self, layer: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first `stop` keys and values as (1, kv_heads, stop, dim) views."""
        keys, values = self.layers[layer]
        return keys[None, :, :stop], values[None, :, :stop]

    @property
    def nbytes(self) -> int:
        """Memory of all layers."""
        return sum(part.nbytes for stored in self.layers.values() for part in stored)


@dataclass(slots=True)
class SlotCache:
    """The own tokens of the rows in flight, a slot of up to `length` tokens each.

    A layer's keys and values are (slots, kv_heads, length, dim).
    """

    slots: int
    length: int
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def write_span(
        self, layer: int, slot: int, offset: int, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        """Write (kv_heads, n, dim) keys and values of one slot from place `offset` on."""
        stop = offset + keys.shape[1]
        for own, new in zip(self._layer(layer, keys, values), (keys, values), strict=True):
            own[slot, :, offset:stop] = new

    def write_step(self, layer: int, step: StepPlaces, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write a step's tokens: keys and values (kv_heads, tokens, dim)."""
        for own, new in zip(self._layer(layer, keys, values), (keys, values), strict=True):
            rows = new.transpose(0, 1).reshape(-1, new.shape[-1])
            own.view(-1, own.shape[-1]).index_copy_(0, step.of(own), rows)

    def read(self, layer: int, first: int, last: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first `stop` tokens of slots `first` to `last` as (slots, kv_heads, stop, dim) views."""
        keys, values = self.layers[layer]
        return keys[first:last, :, :stop], values[first:last, :, :stop]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy one slot's first `tokens` tokens over another's."""
        for stored in self.layers.values():
            for part in stored:
                part[target, :, :tokens] = part[source, :, :tokens]

    def resized(self, slots: int, length: int, rows: int) -> SlotCache:
        """Return a cache of another shape with the tokens of the first `rows` slots."""
        other = SlotCache(slots, length)
        kept = min(length, self.length)
        for layer, stored in self.layers.items():
            fresh = []
            for part in stored:
                new = part.new_zeros((slots, part.shape[1], length, part.shape[3]))
                new[:rows, :, :kept] = part[:rows, :, :kept]
                fresh.append(new)
            other.layers[layer] = (fresh[0], fresh[1])
        return other

    @property
    def nbytes(self) -> int:
        """Memory of all layers."""
        return sum(part.nbytes for stored in self.layers.values() for part in stored)

    def _layer(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a layer's memory, made at its first write of (kv_heads, n, dim) tokens."""
        stored = self.layers.get(layer)
        if stored is None:
            # zeros, not empty: masked places must hold numbers, 0 * NaN is NaN
            own_keys, own_values = (
                part.new_zeros((self.slots, part.shape[0], self.length, part.shape[-1]))
                for part in (keys, values)
            )
            stored = self.layers[layer] = (own_keys, own_values)
        return stored


@dataclass(slots=True)
class StepPlaces:
    """The slot and place of each token of a decode step.

    Flat row indices are made once for each layer shape.
    """

    slots: torch.Tensor
    places: torch.Tensor
    _flat: dict[tuple[Any, ...], torch.Tensor] = field(default_factory=dict)

    def of(self, part: torch.Tensor) -> torch.Tensor:
        """Return (tokens x kv_heads) row indices into a layer seen as (slots x kv_heads x length, dim)."""
        key = (part.shape, part.device)
        if key not in self._flat:
            _, heads, length, _ = part.shape
            slots, places = self.slots.to(part.device), self.places.to(part.device)
            rows = slots[:, None] * heads + torch.arange(heads, device=part.device)
            self._flat[key] = (rows * length + places[:, None]).flatten()
        return self._flat[key]


def rounded(tokens: int) -> int:
    """Round up to a multiple of ROUND_TOKENS."""
    return -(-tokens // ROUND_TOKENS) * ROUND_TOKENS
