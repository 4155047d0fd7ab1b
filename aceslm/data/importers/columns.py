"""Any table by column mapping: CSV, JSONL, JSON or Parquet -> records in the task format.

    found = read_table("jsonl", Path("test.jsonl"), ImportOptions(columns=Columns(answer_regex="#### (.+)")))

Rows are read one by one (`tables`, `cells`); answer type and golds are decided for the file (`golds`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from aceslm.core.errors import DataError, UsageError, nearest
from aceslm.data.importers import golds
from aceslm.data.importers.base import Columns, Found, ImportOptions, Raw
from aceslm.data.importers.cells import (
    ABSENT,
    UnusableError,
    cell,
    context_of,
    is_empty,
    options_from_cells,
    options_of,
    text_of,
)
from aceslm.data.importers.golds import TableRecord
from aceslm.data.importers.ids import content_ids
from aceslm.data.importers.splits import named_split, shares_of, splits_by_context
from aceslm.data.importers.tables import rows_of
from aceslm.data.parsing import answer_text
from aceslm.data.readings import Options

LICENCE = "not stated: see the source"

_ONE_COLUMN = (
    *(
        "question",
        "answer",
        "id",
        "context",
        "choices",
        "context_id",
        "split",
        "scale",
        "answer_type",
        "domain",
    ),
)


def read_table(kind: str, src: Path | str, options: ImportOptions) -> Found:
    """Read a table: kind csv, jsonl, json or parquet.

    Raises:
        UsageError: options that exclude each other.
        DataError: a broken file, a column that is not there, or a file that can be read in two ways.
    """
    check_options(kind, options)
    found = Found()
    rows = list(rows_of(kind, src, options.columns))
    found.totals["rows"] = len(rows)
    columns = _known_columns(kind, rows, options.columns)
    records = []
    for where, cells in rows:
        try:
            records.append(_record(where, cells, columns))
        except UnusableError as error:
            found.dropped.append((where, str(error)))
    records = golds.without_letters(records, found)
    records = golds.extracted(records, columns, found)
    if records:
        records = golds.typed(records, str(src), options, found)
        records = golds.resolved(records, str(src), options, found)
    found.rows = [(one.where, _raw(one)) for one in records]
    if columns.id is None:
        content_ids(found, "q")
    _give_splits(found, options)
    return found


read_csv, read_jsonl, read_json, read_parquet = (
    partial(read_table, kind) for kind in ("csv", "jsonl", "json", "parquet")
)


def check_options(kind: str, options: ImportOptions) -> None:
    """Raise UsageError where options exclude each other, or mean nothing without another."""
    columns = options.columns
    given = [
        name
        for name, value in (
            ("--choices-column", columns.choices),
            ("--choices-columns", columns.choices_columns),
            ("--labels", columns.labels),
        )
        if value
    ]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other: the choices stand in one place")
    for name, value in (("--choice-base", columns.choice_base), ("--answer-is", columns.answer_is)):
        if value is not None and not given:
            raise UsageError(
                f"{name} {value}: an answer can only name a choice where there are choices: add "
                "--choices-column, --choices-columns or --labels"
            )
    known = ("letter", "text", "index")
    if columns.answer_is is not None and columns.answer_is not in known:
        raise UsageError(
            f"--answer-is: '{columns.answer_is}' is not one of them{nearest(columns.answer_is, known)}"
        )
    if columns.choice_base is not None and columns.answer_is not in {None, "index"}:
        raise UsageError(
            f"--choice-base counts numbers, --answer-is {columns.answer_is} reads none: leave one out"
        )
    splits = [options.split != "auto", columns.split is not None, options.split_by_context is not None]
    if sum(splits) > 1:
        raise UsageError("--split, --split-column and --split-by-context exclude each other: give one")
    if not columns.header and kind != "csv":
        raise UsageError(f"--no-header: only CSV files have header lines, not {kind}")
    if columns.records is not None and kind != "json":
        raise UsageError(f"--records: only JSON files have keys, not {kind}")
    if columns.answer_regex is not None:
        golds.answer_pattern(columns.answer_regex)
    if options.split_by_context is not None:
        shares_of(options.split_by_context)


def used_options(options: ImportOptions) -> list[str]:
    """Return the options of tables that were given, as a user typed them."""
    flags = {
        "header": "--no-header",
        "choices_columns": "--choices-columns",
        "metadata": "--metadata-columns",
    }
    plain = {"labels", "choice_base", "answer_is", "answer_regex", "records"}
    default, given = Columns(), []
    for one in fields(Columns):
        if getattr(options.columns, one.name) != getattr(default, one.name):
            dashed = one.name.replace("_", "-")
            given.append(flags.get(one.name, f"--{dashed}" if one.name in plain else f"--{dashed}-column"))
    given += ["--answer-type"] * (options.answer_type is not None)
    return given + ["--split-by-context"] * (options.split_by_context is not None)


def _known_columns(kind: str, rows: Sequence[tuple[str, Raw]], columns: Columns) -> Columns:
    """Return the mapping with patterns and numbers filled in; each column must be there in some record."""
    if not rows:
        return columns
    where, names = rows[0][0], list(dict.fromkeys(str(name) for _, cells in rows for name in cells))

    def full(name: str) -> str:
        return f"c{name}" if not columns.header and name.isdecimal() else name

    changes: dict[str, Any] = {
        key: full(name) for key in _ONE_COLUMN if (name := getattr(columns, key)) is not None
    }
    for key in ("choices_columns", "metadata"):
        patterns = map(full, getattr(columns, key))
        changes[key] = tuple(name for pattern in patterns for name in _matching(pattern, names))
    columns = replace(columns, **changes)
    wanted = [(f"--{key.replace('_', '-')}-column", getattr(columns, key)) for key in _ONE_COLUMN]
    wanted += [("--choices-columns", one) for one in columns.choices_columns]
    wanted += [("--metadata-columns", one) for one in columns.metadata]
    for flag, column in wanted:
        if column is not None and all(cell(cells, column) is ABSENT for _, cells in rows):
            hint = "; a file without a header line: --no-header" if kind == "csv" and columns.header else ""
            raise DataError(f"{where}: no column '{column}' ({flag}){nearest(column, names)}{hint}")
    return columns


def _matching(pattern: str, names: Sequence[str]) -> list[str]:
    if pattern in names or not set(pattern) & set("*?["):
        return [pattern]
    return [name for name in names if fnmatchcase(name, pattern)] or [pattern]


def _record(where: str, cells: Mapping[str, Any], columns: Columns) -> TableRecord:
    """Return what one row says.

    Raises:
        UnusableError: no sample can be made of it, and why.
    """

    def plain(name: str) -> str | None:
        column = getattr(columns, name)
        value = None if column is None else cell(cells, column)
        return None if is_empty(value) else text_of(value, name.replace("_", " ")).strip()

    values = {
        name: plain(name) for name in ("question", "id", "context_id", "scale", "domain", "answer_type")
    }
    if values["question"] is None or (columns.id is not None and values["id"] is None):
        raise UnusableError("no question" if values["question"] is None else "no id")
    context = cell(cells, columns.context) if columns.context is not None else None
    raw: Raw = {key: value for key, value in values.items() if value is not None and key != "answer_type"}
    raw["context"] = context_of(context, columns.context or "")
    raw["split"] = named_split(where, plain("split"))
    raw["metadata"] = {
        name: json.loads(json.dumps(value, default=str))
        for name in columns.metadata
        if not is_empty(value := cell(cells, name))
    }
    return TableRecord(
        where,
        _answer(where, cells, columns.answer),
        _options(cells, columns),
        raw,
        values["answer_type"] or "",
    )


def _answer(where: str, cells: Mapping[str, Any], column: str) -> str:
    value = cell(cells, column)
    if is_empty(value):
        raise UnusableError("no answer")
    if isinstance(value, bool):
        value = "yes" if value else "no"
    try:
        return answer_text(where, value)
    except DataError as error:
        raise UnusableError(str(error).removeprefix(f"{where}: ")) from None


def _options(cells: Mapping[str, Any], columns: Columns) -> Options | None:
    if columns.labels:
        return Options.lettered(columns.labels)
    if columns.choices_columns:
        found = options_from_cells([cell(cells, name) for name in columns.choices_columns])
    elif columns.choices is not None and not is_empty(value := cell(cells, columns.choices)):
        found = options_of(value)
    else:
        return None
    return found if found.texts else None


def _raw(one: TableRecord) -> Raw:
    raw = {**one.raw, "answer": one.answer, "answer_type": one.answer_type}
    if one.options is None or one.answer_type not in {"choice", "label"}:
        return raw
    return {**raw, "choices": list(one.options.texts), "answer_is": "text"}


def _give_splits(found: Found, options: ImportOptions) -> None:
    if options.split_by_context is not None:
        splits = splits_by_context(found.rows, shares_of(options.split_by_context), options.seed)
        found.rows = [
            (where, {**raw, "split": split}) for (where, raw), split in zip(found.rows, splits, strict=True)
        ]
        found.said.append(
            f"splits: whole contexts, {options.split_by_context}, the rest eval (seed {options.seed})"
        )
    elif options.split != "auto":
        found.rows = [(where, {**raw, "split": options.split}) for where, raw in found.rows]
