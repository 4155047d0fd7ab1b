"""Any table by column mapping: CSV, JSONL or Parquet, on disk or at hf://datasets/ORG/NAME/FILE."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from aceslm.core.errors import AceslmError, DataError, nearest
from aceslm.data.importers.base import Columns, Found, ImportOptions, Raw, json_object

HUB = "hf://"
LICENCE = "not stated: see the source"

Rows = Iterator[tuple[str, Raw]]


def read_csv(src: Path | str, options: ImportOptions) -> Found:
    """Read a CSV file with a header line, row by row."""
    return _read(src, options, _csv_rows)


def read_jsonl(src: Path | str, options: ImportOptions) -> Found:
    """Read a file with one JSON object a line."""
    return _read(src, options, _jsonl_rows)


def read_parquet(src: Path | str, options: ImportOptions) -> Found:
    """Read a Parquet file, batch by batch."""
    return _read(src, options, _parquet_rows)


class _UnusableError(Exception):
    """A cell that no sample can be made of; the record is dropped, and this is why."""


def _read(src: Path | str, options: ImportOptions, reader: Callable[[str, IO[bytes]], Rows]) -> Found:
    found = Found()
    stem = str(src).rpartition("/")[2].partition(".")[0]
    split = "" if options.split == "auto" else options.split
    with _opened(src) as file:
        for number, (where, cells) in enumerate(reader(str(src), file)):
            if number == 0:
                _check_columns(where, cells, options.columns)
            try:
                row = {"id": f"{stem}-{number:06d}", **_row(cells, options)}
            except _UnusableError as error:
                found.dropped.append((where, str(error)))
            else:
                found.rows.append((where, {**row, "split": split}))
    found.totals["rows"] = len(found.rows) + len(found.dropped)
    return found


def _named(columns: Columns) -> dict[str, str]:
    keys = ("id", "question", "answer", "context", "choices")
    return {key: name for key in keys if (name := getattr(columns, key)) is not None}


def _check_columns(where: str, cells: Mapping[str, Any], columns: Columns) -> None:
    """Only the first record must have them all: JSONL may leave out what is empty."""
    for key, column in _named(columns).items():
        if column not in cells:
            known = nearest(column, map(str, cells))
            raise DataError(f"{where}: no column '{column}' (--{key}-column){known}")


def _row(cells: Mapping[str, Any], options: ImportOptions) -> Raw:
    row: Raw = {key: cells.get(column) for key, column in _named(options.columns).items()}
    for key in ("id", "question", "answer"):
        if key in row and _is_empty(row[key]):
            raise _UnusableError(f"no {key}")
    if "choices" in row:
        row["choices"] = _choices(row["choices"])
        if options.columns.choice_base is not None:
            row["answer"] = _numbered(row["answer"], row["choices"], options.columns.choice_base)
    if isinstance(row.get("context"), list | dict):
        row["context"] = json.dumps(row["context"], ensure_ascii=False)
    return {**row, "answer_type": options.answer_type}


def _choices(value: Any) -> Any:
    """Read choices: a list, a mapping letter -> text, either as JSON text, or the hub's {"text": [...]}."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise _UnusableError('choices: neither a list nor JSON text such as ["yes", "no"]') from None
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        return value["text"]
    return value or None


def _numbered(answer: Any, choices: Any, base: int) -> Any:
    """Return the text of the choice that an answer names by its number."""
    texts = list(choices.values()) if isinstance(choices, dict) else choices or []
    try:
        index = int(answer) - base
    except (TypeError, ValueError):
        raise _UnusableError(f"answer: {answer!r} is not the number of a choice") from None
    if not 0 <= index < len(texts):
        raise _UnusableError(f"answer: there is no choice number {answer}")
    return texts[index]


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or value == []


@contextmanager
def _opened(src: Path | str) -> Iterator[IO[bytes]]:
    try:
        if str(src).startswith(HUB):
            with _opened_on_hub(str(src)) as remote:
                yield remote
        else:
            with Path(src).open("rb") as file:
                yield file
    except FileNotFoundError:
        raise DataError(f"{src}: no such file") from None
    except OSError as error:
        raise DataError(f"{src}: cannot be read: {error.strerror or error}") from None


@contextmanager
def _opened_on_hub(src: str) -> Iterator[IO[bytes]]:
    from huggingface_hub import HfFileSystem

    try:
        with HfFileSystem().open(src, "rb") as remote:
            yield remote
    except (FileNotFoundError, AceslmError):
        raise
    except Exception as error:  # the hub's client raises many kinds, of several libraries
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"{src}: cannot be read: {lines[0]}; run this on a node with internet, without HF_HUB_OFFLINE (a "
            "gated dataset needs HF_TOKEN), or download the file and give its path"
        ) from None


def _csv_rows(name: str, file: IO[bytes]) -> Rows:
    with _text(file) as text:
        reader = csv.DictReader(text, strict=True)
        try:
            for number, row in enumerate(reader, start=1):
                if None in row:
                    raise DataError(f"{name}: record {number}: has more columns than the header line")
                yield f"{name}: record {number}", row
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{name}: line {reader.line_num}: broken CSV: {error}") from None


def _jsonl_rows(name: str, file: IO[bytes]) -> Rows:
    number = 0
    try:
        with _text(file) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{name}: line {number}", json_object(name, number, line)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: line {number + 1}: not UTF-8 text ({error.reason})") from None


def _parquet_rows(name: str, file: IO[bytes]) -> Rows:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    number = 0
    try:
        for batch in pq.ParquetFile(file, page_checksum_verification=True).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{name}: record {number}", row
    except ArrowException as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{name}: not readable Parquet after record {number}: {reason}") from None


def _text(file: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
