"""Half-open ranges of unit indices: what is wanted, what is left, and cutting it up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aceslm.core.values import Cell, Unit

Ranges = tuple[tuple[int, int], ...]


def as_ranges(indices: Iterable[int]) -> Ranges:
    """Return ascending indices as half-open ranges.

    >>> as_ranges([0, 1, 4])
    ((0, 2), (4, 5))
    """
    ranges: list[tuple[int, int]] = []
    for index in indices:
        if ranges and ranges[-1][1] == index:
            ranges[-1] = (ranges[-1][0], index + 1)
        else:
            ranges.append((index, index + 1))
    return tuple(ranges)


def unit_at(cell: Cell, sample_ids: Sequence[str], index: int) -> Unit:
    """Return the unit at `index` of a cell's epoch-major order."""
    epoch, position = divmod(index, len(sample_ids))
    return cell.unit(sample_ids[position], epoch)


def wanted_ranges(num_samples: int, epochs: int, limit: int | None) -> Ranges:
    """Return the unit ranges that a limit asks for: the first `limit` samples of every epoch."""
    count = num_samples if limit is None else min(limit, num_samples)
    if count == num_samples:
        return ((0, epochs * num_samples),)
    return tuple((epoch * num_samples, epoch * num_samples + count) for epoch in range(epochs))


def subtract(wanted: Iterable[tuple[int, int]], covered: Iterable[tuple[int, int]]) -> Ranges:
    """Return the parts of `wanted` that no range of `covered` holds.

    >>> subtract([(0, 10)], [(2, 4), (8, 12)])
    ((0, 2), (4, 8))
    """
    remaining = list(wanted)
    for low, high in covered:
        cut: list[tuple[int, int]] = []
        for start, stop in remaining:
            cut += [(start, min(stop, low)), (max(start, high), stop)]
        remaining = [(start, stop) for start, stop in cut if start < stop]
    return tuple(sorted(remaining))


def chunks(ranges: Iterable[tuple[int, int]], size: int) -> list[Ranges]:
    """Cut ranges into consecutive pieces of at most `size` units each."""
    pieces: list[Ranges] = []
    for start, stop in ranges:
        pieces += [((low, min(low + size, stop)),) for low in range(start, stop, size)]
    return pieces
