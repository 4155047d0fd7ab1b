"""Splits and balance: seeded, and the same on every machine.

Units are ordered by a digest of (seed, key), not by a random generator, and dealt out like cards; so the
result depends neither on the order of a file nor on a library's version.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from aceslm.core.digests import digest
from aceslm.core.errors import DataError, UsageError, nearest
from aceslm.core.values import SPLITS
from aceslm.data.importers.base import Found, ImportOptions

SPLIT_OPTIONS = ("auto", *SPLITS)

_DEV = ("adapt", "validate", "adapt", "validate", "adapt")  # 60 : 40
_WHOLE = ("eval", "adapt", "eval", "validate", "eval", "adapt", "eval", "validate", "eval", "adapt")
_ROLES: Mapping[str, tuple[str, ...]] = {
    "test": ("eval",),
    "dev": _DEV,
    "train": ("adapt",),
    "val": ("validate",),
    "valid": ("validate",),
    "validation": ("validate",),
}


def check_split(split: str) -> None:
    """Raise UsageError unless `split` is one of the options."""
    if split not in SPLIT_OPTIONS:
        raise UsageError(f"--split: '{split}' is not one of them{nearest(split, SPLIT_OPTIONS)}")


def file_role(stem: str) -> str:
    """Return what a published file is for, by its name: test, dev, train, val; or the stem itself.

    >>> file_role("tatqa_dataset_test_gold")
    'test'
    """
    words = re.split(r"[^a-z]+", stem.lower())
    return next((role for role in _ROLES if role in words), stem)


def splits_by_name(name: str, stem: str, units: Sequence[str], options: ImportOptions) -> dict[str, str]:
    """Return unit (a context or a record) -> split, following the role in a published file's name.

    A dev file is divided 60 : 40 into adapt and validate, whole units at a time.

    Raises:
        DataError: `--split auto`, and the name does not say what the file is for.
    """
    if options.split != "auto":
        return dict.fromkeys(units, options.split)
    cycle = _ROLES.get(file_role(stem))
    if cycle is None:
        raise DataError(
            f"{name}: its name says neither train, dev, val nor test: give --split adapt, validate or eval"
        )
    return _dealt([("", unit) for unit in units], cycle, options.seed)


def splits_by_stratum(units: Mapping[str, str], options: ImportOptions) -> dict[str, str]:
    """Return unit -> split for a dataset that has none: eval 5 : adapt 3 : validate 2 in every stratum.

    Args:
        units: unit -> stratum.
    """
    if options.split != "auto":
        return dict.fromkeys(units, options.split)
    return _dealt([(stratum, unit) for unit, stratum in units.items()], _WHOLE, options.seed)


def balance(found: Found, options: ImportOptions) -> Found:
    """Return `found` with at most so many records of one label in one split; the rest become dropped."""
    if options.per_label is None and not options.balance:
        return found
    groups: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (_, raw) in enumerate(found.rows):
        groups[raw["split"]][raw["answer"]].append(index)
    kept: set[int] = set()
    for labels in groups.values():
        cap = options.per_label or _second(labels)
        for indices in labels.values():
            kept.update(sorted(indices, key=lambda i: digest(options.seed, found.rows[i][1]["id"]))[:cap])
    reason = "not drawn: the labels are balanced"
    left = [(where, reason) for index, (where, _) in enumerate(found.rows) if index not in kept]
    rows = [row for index, row in enumerate(found.rows) if index in kept]
    return Found(rows, [*found.dropped, *left], found.totals)


def contexts_in_two_splits(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the context ids that stand in more than one split, given (context id, split) pairs."""
    counts = Counter(context for context, _ in set(pairs) if context)
    return sorted(context for context, number in counts.items() if number > 1)


def _dealt(units: Sequence[tuple[str, str]], cycle: Sequence[str], seed: int) -> dict[str, str]:
    ordered = sorted(set(units), key=lambda pair: (pair[0], digest(seed, pair[1])))
    return {unit: cycle[index % len(cycle)] for index, (_, unit) in enumerate(ordered)}


def _second(labels: Mapping[str, Sequence[int]]) -> int:
    sizes = sorted((len(indices) for indices in labels.values()), reverse=True)
    return sizes[min(1, len(sizes) - 1)]
