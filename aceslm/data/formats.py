"""The files that hold task records: JSON, JSONL, CSV, Parquet -> raw records with their places."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aceslm.core.errors import DataError, nearest

Row = tuple[str, Any]  # where the record stands in the file, and its raw value


def read_records(path: Path) -> Iterator[Row]:
    """Yield the records of a task file in order.

    Raises:
        DataError: no such file, another suffix, or a broken file; names the line or record.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: a task file ends in {', '.join(sorted(_READERS))}, not '{path.suffix}'")
    if not path.is_file():
        raise DataError(f"{path}: no such file{_similar(path)}")
    return reader(path)


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true/false", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")


def _read_json(path: Path) -> Iterator[Row]:
    try:
        value = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: broken JSON: {error.msg}") from None
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list of samples, found {kind_of(value)}")
    for number, row in enumerate(value, start=1):
        yield f"record {number}", row


def _read_jsonl(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: broken JSON: {error.msg}") from None


def _read_csv(path: Path) -> Iterator[Row]:
    reader = csv.DictReader(_text(path).splitlines(keepends=True), strict=True)
    try:
        for number, row in enumerate(reader, start=1):
            if None in row:
                raise DataError(f"{path}: record {number}: has more columns than the header line")
            present = {key: value for key, value in row.items() if value not in ("", None)}
            if "choices" in present:
                present["choices"] = _json_cell(path, number, present["choices"])
            yield f"record {number}", present
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: broken CSV: {error}") from None


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        table = pq.read_table(path, page_checksum_verification=True, partitioning=None)
    except (OSError, ArrowException) as error:
        raise DataError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"record {number}", {key: value for key, value in row.items() if value is not None}


_READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _json_cell(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise DataError(
            f"{path}: record {number}: key 'choices': expected JSON text such as "
            f'["yes", "no"], found {text!r}'
        ) from None


def _similar(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    names = [found.name for found in path.parent.iterdir() if found.suffix in _READERS]
    return nearest(path.name, names) if len(names) <= 200 else ""
