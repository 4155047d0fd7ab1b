"""TAT-QA (Zhu et al., ACL 2021): questions about tables and paragraphs of financial reports."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aceslm.core.errors import DataError, nearest
from aceslm.data.importers.base import Found, ImportOptions, Raw, json_file, need, source_files
from aceslm.data.importers.splits import splits_by_name

SOURCE = "TAT-QA, https://github.com/NExTplusplus/TAT-QA"
LICENCE = "CC BY 4.0"
FILES = ("*train*.json", "*dev*.json", "*test_gold*.json")

_RECOGNISED = 60  # characters: shorter passages are phrases that any report has
# What a published type is called in `only`. Every question has one answer type, "span": it tells neither the
# model nor the reader what its gold is.
_KINDS = {"span": "span", "multi-span": "span", "arithmetic": "number", "count": "number"}


def read(src: Path, options: ImportOptions) -> Found:
    """Read published TAT-QA files; a context is a table with its paragraphs.

    Contexts to be scored that share a table or a paragraph with one that is learnt from are left out: some
    reports stand in several files with another table of the same page.
    """
    found = Found()
    passages: dict[str, set[str]] = {}
    for path in source_files(src, FILES):
        contexts = json_file(path)
        if not isinstance(contexts, list):
            raise DataError(f"{path}: expected a list of contexts, found a {type(contexts).__name__}")
        places = [f"{path}: context {number}" for number in range(1, len(contexts) + 1)]
        keys = [_table_id(where, raw) for where, raw in zip(places, contexts, strict=True)]
        splits = splits_by_name(str(path), path.stem, keys, options)
        for where, key, raw in zip(places, keys, contexts, strict=True):
            questions = need(where, raw, "questions", list)
            text = _context(where, raw)
            passages[key] = _passages(text)
            for number, question in enumerate(questions, start=1):
                place = f"{where}, question {number}"
                row = _row(place, question)
                found.rows.append((place, {**row, "context": text, "context_id": key, "split": splits[key]}))
        found.totals["contexts"] = found.totals.get("contexts", 0) + len(contexts)
    found.totals["questions"] = len(found.rows)
    return _only(_without_known_text(found, passages), options.only)


def _only(found: Found, kind: str | None) -> Found:
    """Drop the questions of other published types; `span` is multi-span too, `number` what is computed."""
    if kind is None:
        return found
    published = {place: str(row["metadata"]["answer_type"]) for place, row in found.rows}
    kept = [(place, row) for place, row in found.rows if _KINDS[published[place]] == kind]
    places = {place for place, _ in kept}
    dropped = [(place, f"published as {published[place]}") for place, _ in found.rows if place not in places]
    return Found(kept, [*found.dropped, *dropped], found.totals)


def _passages(context: str) -> set[str]:
    """Return the table and the paragraphs of a context that are long enough to be recognised."""
    parts = (re.sub(r"\s+", " ", part).strip().lower() for part in context.split("\n\n"))
    return {part for part in parts if len(part) >= _RECOGNISED}


def _without_known_text(found: Found, passages: Mapping[str, set[str]]) -> Found:
    """Drop scored questions whose context shares a passage with one that is learnt or tuned on."""
    learnt = {row["context_id"] for _, row in found.rows if row["split"] != "eval"}
    known = set[str]().union(*(passages[key] for key in learnt))
    kept = [
        (where, row)
        for where, row in found.rows
        if row["context_id"] in learnt or not passages[row["context_id"]] & known
    ]
    places = {where for where, _ in kept}
    reason = "its context shares text with one of the adapt or validate split"
    dropped = [(where, reason) for where, _ in found.rows if where not in places]
    return Found(kept, [*found.dropped, *dropped], found.totals)


def markdown_table(cells: Sequence[Sequence[str]]) -> str:
    """Return a table as compact markdown: empty rows and columns left out, one space between words.

    >>> print(markdown_table([["", "2019"], ["", ""], ["Sales", "$ 5"]]))
    | | 2019 |
    |---|---|
    | Sales | $ 5 |
    """
    width = max((len(row) for row in cells), default=0)
    rows = [[_cell(cell) for cell in row] + [""] * (width - len(row)) for row in cells]
    rows = [row for row in rows if any(row)]
    columns = [index for index in range(width) if any(row[index] for row in rows)]
    lines = [
        "|" + "|".join(f" {row[index]} " if row[index] else " " for index in columns) + "|" for row in rows
    ]
    if lines:
        lines.insert(1, "|" + "---|" * len(columns))
    return "\n".join(lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", str(text)).strip().replace("|", "\\|")


def _table_id(where: str, raw: Any) -> str:
    return str(need(where, need(where, raw, "table", dict), "uid", str))


def _context(where: str, raw: Raw) -> str:
    cells = need(where, raw["table"], "table", list)
    if not all(isinstance(row, list) for row in cells):
        raise DataError(f"{where}: key 'table': expected rows of cells")
    paragraphs = need(where, raw, "paragraphs", list)
    ordered = sorted(paragraphs, key=lambda paragraph: int(need(where, paragraph, "order", int)))
    texts = [need(where, paragraph, "text", str).strip() for paragraph in ordered]
    return "\n\n".join(part for part in (markdown_table(cells), *texts) if part)


def _row(where: str, raw: Any) -> Raw:
    kind = need(where, raw, "answer_type", str)
    if kind not in _KINDS:
        raise DataError(f"{where}: key 'answer_type': '{kind}' is not one of them{nearest(kind, _KINDS)}")
    return {
        "id": need(where, raw, "uid", str),
        "question": need(where, raw, "question", str),
        "answer": _answer(where, raw, kind),
        "answer_type": "span",
        "scale": need(where, raw, "scale", str),
        "metadata": {
            "answer_type": kind,
            "answer_from": need(where, raw, "answer_from", str),
            "derivation": need(where, raw, "derivation", str),
        },
    }


def _answer(where: str, raw: Raw, kind: str) -> Any:
    """Gold as published: one span as text, several as a JSON list (one file has an empty span: kept)."""
    import json

    if _KINDS[kind] == "number":
        return need(where, raw, "answer", int, float, str)
    spans = need(where, raw, "answer", list)
    if not all(isinstance(span, str) for span in spans):
        raise DataError(f"{where}: key 'answer': expected a list of texts")
    return spans[0] if len(spans) == 1 else json.dumps(spans, ensure_ascii=False)
