"""Splits and balance: seeded, and the same on every machine.

Units are ordered by a digest of (seed, key), not by a random generator, and dealt out like cards; so the
result depends neither on the order of a file nor on a library's version.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from aceslm.core.digests import context_digest, digest, question_digest
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
_PUBLISHED: Mapping[str, str] = {
    "train": "adapt",
    "training": "adapt",
    **dict.fromkeys(("dev", "val", "valid", "validation"), "validate"),
    "test": "eval",
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


def named_split(where: str, text: str | None) -> str:
    """Return the split that a cell names: adapt, validate, eval, or as published: train, dev, val, test.

    Raises:
        DataError: neither; names the record.
    """
    if text is None:
        return ""
    folded = text.strip().lower()
    if folded not in {*SPLITS, *_PUBLISHED}:
        raise DataError(
            f"{where}: split '{text}' is not one of them{nearest(folded, [*SPLITS, *_PUBLISHED])}"
        )
    return _PUBLISHED.get(folded, folded)


def shares_of(text: str) -> dict[str, float]:
    """Read `adapt=0.3,validate=0.2`: split -> share of the contexts; what is left is `eval`.

    Raises:
        UsageError: an unknown split, no share between 0 and 1, or nothing left to be scored.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name not in SPLITS or name in shares:
            reason = "stands there twice" if name in shares else f"is not one of them{nearest(name, SPLITS)}"
            raise UsageError(f"--split-by-context {text}: split '{name}' {reason}")
        try:
            shares[name] = float(number)
        except ValueError:
            shares[name] = math.nan
        if not 0 < shares[name] < 1:
            raise UsageError(
                f"--split-by-context {text}: the share of '{name}' is a number between 0 and 1: {name}=0.3"
            )
    left = 1 - sum(share for name, share in shares.items() if name != "eval")
    if left <= 1e-9 or abs(shares.get("eval", left) - left) > 1e-9:
        raise UsageError(
            f"--split-by-context {text}: the shares leave {left:.2g} of the contexts for eval (which "
            "takes the rest and need not be named)"
        )
    return {name: shares[name] for name in SPLITS if name in shares and name != "eval"}


def splits_by_context(
    rows: Sequence[tuple[str, Mapping[str, Any]]], shares: Mapping[str, float], seed: int
) -> list[str]:
    """Return the split of each record; records that share a context id or a context text stay together.

    Raises:
        DataError: too few contexts for the shares.
    """
    groups = _groups([raw for _, raw in rows])
    ordered = sorted(set(groups), key=lambda name: digest(seed, name))
    given: dict[str, str] = {}
    start, upto = 0, 0.0
    for split, share in [*shares.items(), ("eval", 1 - sum(shares.values()))]:
        upto += share
        stop = round(upto * len(ordered))
        if stop == start:
            raise DataError(
                f"--split-by-context: {len(ordered):,} contexts are too few for a {split} of {share:.2g}"
            )
        given |= dict.fromkeys(ordered[start:stop], split)
        start = stop
    return [given[name] for name in groups]


def _groups(raws: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name of each record's group: those joined by a context id or text, else by the question."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    firsts = []
    for raw in raws:
        names = [f"id {raw['context_id']}"] if raw.get("context_id") else []
        names += [f"text {context_digest(raw['context'])}"] if raw.get("context", "").strip() else []
        names = names or [f"question {question_digest(raw['question'], '', ())}"]
        ends = sorted(root(name) for name in names)
        for end in ends[1:]:
            parent[end] = ends[0]
        firsts.append(names[0])
    members: dict[str, str] = {}
    for name in sorted(parent):  # a group is called by its first name, whatever the order of the file
        members.setdefault(root(name), name)
    return [members[root(name)] for name in firsts]


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
    return Found(rows, [*found.dropped, *left], found.totals, found.said)


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
