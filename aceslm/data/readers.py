"""Readers of the task format: JSON, JSONL, CSV, Parquet -> Sample.

    samples = load_samples(Path("mine.jsonl"), domain="finance")

Required keys: `id question answer`. Optional: `context domain choices answer_type answer_is scale split
context_id metadata`. An `answer` may be a text, a number, or a list of texts (several spans: kept as JSON
text). `choices` is a list of texts or a mapping letter -> text (JSON text in CSV); `answer_is` says, where it
is needed, whether the answer is a choice's `letter` or its `text`.

What a record leaves out is decided once for the whole file: the answer type, and how golds name their choice.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from aceslm.core.errors import DataError
from aceslm.core.values import Sample
from aceslm.data.answer_types import Asked, infer_answer_type, refuse_rationales
from aceslm.data.formats import read_records
from aceslm.data.parsing import GOLD_READINGS, Draft, draft, settled
from aceslm.data.readings import TEXT, Gold, Reading, choose_reading

log = logging.getLogger(__name__)


def load_samples(
    path: Path, *, domain: str | None = None, answer_type: str | None = None
) -> tuple[Sample, ...]:
    """Read and validate a task file.

    Args:
        domain: for samples that do not name one.
        answer_type: for samples that do not name one; without it, it is inferred from the whole file.

    Raises:
        DataError: names file, record and key.
    """
    drafts: dict[str, Draft] = {}
    for place, raw in read_records(path):
        found = draft(f"{path}: {place}", raw, domain)
        known = drafts.setdefault(found.sample.sample_id, found)
        if known is not found:
            first = known.where.removeprefix(f"{path}: ")
            raise DataError(f"{found.where}: id '{found.sample.sample_id}' was already used by {first}")
    if not drafts:
        raise DataError(f"{path}: holds no samples")
    check_splits([(found.where, found.sample.split) for found in drafts.values()])
    kind = answer_type or _answer_type(path, list(drafts.values()))
    reading = _reading(path, kind, list(drafts.values()))
    return tuple(settled(found, found.sample.answer_type or kind, reading) for found in drafts.values())


def check_splits(splits: Sequence[tuple[str, str]]) -> None:
    """Refuse a file in which some samples have a split and some do not: they would belong to none.

    Args:
        splits: where each sample stands, and its split.

    Raises:
        DataError: names the first such record.
    """
    without = [where for where, split in splits if not split]
    if not without or len(without) == len(splits):
        return
    other = next(split for _, split in splits if split)
    more = f" ({len(without):,} such records)" if len(without) > 1 else ""
    raise DataError(
        f"{without[0]}: has no split, while others have one ('{other}'){more}: give it adapt, validate or "
        "eval, or leave the split out of every record"
    )


def _answer_type(path: Path, drafts: Sequence[Draft]) -> str:
    """Return the answer type of the records that name none ("" where each names its own)."""
    asked = [
        Asked(found.where, found.sample.answer, bool(found.sample.choices))
        for found in drafts
        if not found.sample.answer_type
    ]
    if not asked:
        return ""
    bare = [one for one in asked if not one.has_choices]
    refuse_rationales(
        str(path),
        bare,
        f"aceslm data import {path.suffix[1:]} {path} --answer-regex '{{regex}}' --output FILE extracts it; "
        "the key answer_type with 'span' asks for the whole text",
    )
    kind = infer_answer_type(str(path), asked, "give the records the key answer_type")
    log.info("%s: answer type %s (%s)", path, kind.name, kind.reason)
    return kind.name


def _reading(path: Path, kind: str, drafts: Sequence[Draft]) -> Reading:
    golds = [
        Gold(found.where, found.sample.answer, found.options)
        for found in drafts
        if (found.sample.answer_type or kind) == "choice" and found.sample.choices and not found.answer_is
    ]
    lettered = [one for one in golds if one.options.without_letters() is not None]
    if lettered and 2 * len(lettered) >= len(golds):
        raise DataError(
            f"{path}: the choices of {len(lettered):,} of {len(golds):,} records carry letters of their own "
            f"('{lettered[0].options.texts[0]}'), and the prompt shuffles and letters them: aceslm data "
            f"import {path.suffix[1:]} {path} --choices-column choices --output FILE takes them off"
        )
    how = "give the records the key answer_is ('letter' or 'text')"
    return choose_reading(str(path), golds, (TEXT, *GOLD_READINGS[:1]), how)
