"""The records of a table -> golds that are read alike in all of them.

    records = without_letters(records, found)        # "A) 21", "B) 22" -> 21, 22
    records = extracted(records, regex, found)       # "... #### 18" -> 18
    records = typed(records, src, options, found)    # one answer type, from the whole file
    records = resolved(records, src, options, found) # letters, numbers and texts of choices -> texts

`found` takes what is dropped on the way, and what is to be said about the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aceslm.core.errors import DataError, UsageError
from aceslm.data.answer_types import Asked, infer_answer_type, refuse_rationales
from aceslm.data.importers.base import Columns, Found, ImportOptions, Raw
from aceslm.data.readings import ALL_READINGS, ALLOWED, FROM_0, FROM_1, Gold, Options, choose_reading

_FEW_ANSWERS = 20  # so many different answers may be labels, whatever the number of records
_MAX_HINTED = 200  # more different answers than that are no labels that one would list in a prompt


@dataclass(frozen=True, slots=True)
class TableRecord:
    """One usable row of a table, its gold as written. `raw` has what needs no decision (task format)."""

    where: str
    answer: str
    options: Options | None
    raw: Raw
    answer_type: str = ""


def without_letters(records: Sequence[TableRecord], found: Found) -> list[TableRecord]:
    """Take the letters off options that carry them; they then are what the answers name.

    Decided for the file: where few records seem to have letters, they are part of the text ("B. cereus").
    """
    with_options = [one for one in records if one.options is not None]
    stripped = {id(one): one.options.without_letters() for one in with_options if one.options is not None}
    count = sum(options is not None for options in stripped.values())
    if not count or 2 * count < len(with_options):
        return list(records)
    kept = []
    for one in records:
        options = stripped.get(id(one))
        if one.options is not None and options is None and one.options.some_lettered:
            found.dropped.append((one.where, "choices: some carry letters and some do not, or not in order"))
            continue
        kept.append(one if options is None else replace(one, options=options))
    found.said.append(f"choices: the letters in front of the options were taken off in {count:,} records")
    return kept


def extracted(records: Sequence[TableRecord], columns: Columns, found: Found) -> list[TableRecord]:
    """Return the records with what `--answer-regex` finds in their answers; the others are dropped."""
    if columns.answer_regex is None:
        return list(records)
    pattern = answer_pattern(columns.answer_regex)
    kept = []
    for one in records:
        matches = list(pattern.finditer(one.answer))
        answer = next((group for group in matches[-1].groups() if group), "").strip() if matches else ""
        if answer:
            kept.append(replace(one, answer=answer))
        else:
            reason = "extracts nothing from it" if matches else "matches nothing in it"
            found.dropped.append((one.where, f"answer: --answer-regex {reason}"))
    found.said.append(f"answers: --answer-regex found one in {len(kept):,} of {len(records):,} records")
    return kept


def answer_pattern(regex: str) -> re.Pattern[str]:
    """Return a user's expression, checked.

    Raises:
        UsageError: it is none, or it has no group.
    """
    try:
        pattern = re.compile(regex, re.MULTILINE)
    except re.error as error:
        place = f" at character {error.pos + 1}" if error.pos is not None else ""
        raise UsageError(f"--answer-regex '{regex}': no regular expression: {error.msg}{place}") from None
    if not pattern.groups:
        raise UsageError(
            f"--answer-regex '{regex}': put brackets around what is the answer, for example '#### (.+)'"
        )
    return pattern


def typed(
    records: Sequence[TableRecord], src: str, options: ImportOptions, found: Found
) -> list[TableRecord]:
    """Return the records with answer types: the record's own, the one that was asked for, the file's."""
    columns = options.columns
    asked = [Asked(one.where, one.answer, one.options is not None) for one in records if not one.answer_type]
    wanted = options.answer_type or ("label" if columns.labels else None)
    if columns.answer_regex is None and wanted != "span":
        how = "add --answer-regex '{regex}' (or --answer-type span to ask for the whole text)"
        refuse_rationales(src, asked, how)
    if asked and wanted is None:
        kind = infer_answer_type(src, asked, "give --answer-type")
        wanted = kind.name
        found.said.append(f"answer type: {kind.name} ({kind.reason}; --answer-type says otherwise)")
        different = len({one.answer.strip().lower() for one in asked})
        if kind.name != "choice" and 2 <= different <= _MAX_HINTED and 5 * different <= len(asked):
            how = "--answer-type label" if kind.name == "span" else "--labels a,b,c with --choice-base 0 or 1"
            found.said.append(f"answers: only {different} different ones: {how} would ask for one of them")
    return [replace(one, answer_type=one.answer_type or wanted or "span") for one in records]


def resolved(
    records: Sequence[TableRecord], src: str, options: ImportOptions, found: Found
) -> list[TableRecord]:
    """Return the records with golds as texts: of the choice that each names, where there are choices."""
    columns = options.columns
    records = _with_labels(records, src, found)
    golds = [Gold(one.where, one.answer, one.options) for one in records if one.options is not None]
    allowed = ALLOWED[columns.answer_is] if columns.answer_is else ALL_READINGS
    if columns.choice_base is not None:
        allowed = (FROM_1,) if columns.choice_base else (FROM_0,)
    how = "give --answer-is letter, text or index, or --choice-base 0 or 1"
    reading = choose_reading(src, golds, allowed, how)
    if golds and len(allowed) > 1:
        found.said.append(f"answers: read as {' or '.join(reading.ways)} of a choice")
    kept = []
    for one in records:
        if one.options is None:
            kept.append(one)
            continue
        position = reading.position(one.answer, one.options)
        if position is None:
            found.dropped.append((one.where, _names_none(one.answer, reading.ways)))
            continue
        kept.append(replace(one, answer=one.options.texts[position]))
    return kept


def _names_none(answer: str, ways: Sequence[str]) -> str:
    if set(ways) <= {FROM_0, FROM_1}:
        if answer.strip().lstrip("-").isdecimal():
            return f"answer: there is no choice number {answer}"
        return f"answer: {answer!r} is not the number of a choice"
    return f"answer: '{answer}' is not the {' or '.join(ways)} of a choice"


def _with_labels(records: Sequence[TableRecord], src: str, found: Found) -> list[TableRecord]:
    """Give label questions without choices the different answers of the file as their labels."""
    bare = [one for one in records if one.answer_type == "label" and one.options is None]
    if not bare:
        return list(records)
    labels: dict[str, str] = {}
    for text in sorted(one.answer.strip() for one in bare):
        labels.setdefault(" ".join(text.lower().split()), text)
    if len(labels) > _FEW_ANSWERS and 2 * len(labels) > len(bare):
        raise DataError(
            f"{src}: {len(labels):,} different answers in {len(bare):,} records are no labels: give "
            "--labels, --choices-column, or another --answer-type"
        )
    options = Options.lettered(list(labels.values()))
    found.said.append(f"labels: the {len(labels):,} different answers of the file (--labels names others)")
    return [
        replace(one, options=options) if one.answer_type == "label" and one.options is None else one
        for one in records
    ]
