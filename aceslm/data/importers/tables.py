"""The files that hold a table: CSV, JSONL, JSON, Parquet, on disk or at hf://datasets/ORG/NAME/FILE -> rows.

for where, cells in rows_of("jsonl", "mine.jsonl", Columns()):
    ...                                    # where: file and record; cells: column -> value
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from aceslm.core.errors import AceslmError, DataError, nearest
from aceslm.data.formats import kind_of
from aceslm.data.importers.base import Columns, Raw, json_object

HUB = "hf://"

Rows = Iterator[tuple[str, Raw]]


def rows_of(kind: str, src: Path | str, columns: Columns) -> Rows:
    """Yield the rows of a table.

    Args:
        kind: csv, jsonl, json or parquet.

    Raises:
        DataError: no such file, or a broken one; names line or record.
    """
    with _opened(src) as file:
        yield from _READERS[kind](str(src), file, columns)


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


def _csv_rows(name: str, file: IO[bytes], columns: Columns) -> Rows:
    with _text(file) as text:
        reader = csv.reader(text, strict=True, delimiter="\t" if name.endswith(".tsv") else ",")
        try:
            header: list[str] | None = None
            number = 0
            for cells in reader:
                if not cells:
                    continue
                if header is None:
                    header = cells if columns.header else [f"c{n}" for n in range(1, len(cells) + 1)]
                    _check_header(name, header)
                    if columns.header:
                        continue
                number += 1
                if len(cells) > len(header):
                    line = "header line" if columns.header else "first record"
                    raise DataError(f"{name}: record {number}: has more columns than the {line}")
                filled: list[str | None] = [*cells, *[None] * (len(header) - len(cells))]
                yield f"{name}: record {number}", dict(zip(header, filled, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{name}: line {reader.line_num}: broken CSV: {error}") from None


def _check_header(name: str, header: Sequence[str]) -> None:
    twice = [column for column, number in Counter(header).items() if number > 1]
    if twice:
        raise DataError(
            f"{name}: line 1: the column '{twice[0]}' stands there twice: rename one (is it no header "
            "line? then --no-header: the columns are c1, c2, ...)"
        )


def _jsonl_rows(name: str, file: IO[bytes], columns: Columns) -> Rows:
    number = 0
    try:
        with _text(file) as lines:
            for number, line in enumerate(lines, start=1):
                if number == 1 and line.lstrip().startswith("["):
                    raise DataError(
                        f"{name}: is a JSON array, not JSON lines: aceslm data import json {name} ..."
                    )
                if line.strip():
                    yield f"{name}: line {number}", json_object(name, number, line)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: line {number + 1}: not UTF-8 text ({error.reason})") from None


def _json_rows(name: str, file: IO[bytes], columns: Columns) -> Rows:
    """Read a list of records, a mapping id -> record, a list inside an object, or JSON lines called .json."""
    try:
        text = file.read().decode("utf-8-sig")
        value = json.loads(text)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not UTF-8 text ({error.reason})") from None
    except json.JSONDecodeError as error:
        if error.msg != "Extra data" or not text.lstrip().startswith("{"):
            raise DataError(f"{name}: line {error.lineno}: broken JSON: {error.msg}") from None
        yield from _jsonl_rows(name, io.BytesIO(text.encode()), columns)
        return
    if isinstance(found := _records(name, value, columns.records), dict):
        for key, row in found.items():
            yield f"{name}: record '{key}'", {"id": key, **row}
        return
    for number, row in enumerate(found, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{name}: record {number}: expected an object, found {kind_of(row)}")
        yield f"{name}: record {number}", row


def _records(name: str, value: Any, key: str | None) -> list[Any] | dict[str, Raw]:
    """Return the records of a JSON file: a list, or by their ids."""
    if key is not None:
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                known = nearest(part, value) if isinstance(value, dict) else ""
                raise DataError(f"{name}: no key '{part}' (--records {key}){known}")
            value = value[part]
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or not value:
        raise DataError(f"{name}: expected a list of records, or an object of them, found {kind_of(value)}")
    columns = [one for one in value.values() if isinstance(one, list) and not any(map(_is_record, one))]
    if len(columns) == len(value) and len(set(map(len, columns))) == 1:  # a list for each column
        return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    lists = [part for part, one in value.items() if isinstance(one, list) and one and _is_record(one[0])]
    if all(isinstance(one, dict) for one in value.values()):
        return value
    if len(lists) == 1:
        inner: list[Any] = value[lists[0]]
        return inner
    raise DataError(
        f"{name}: an object with {', '.join(map(str, value))}: say which of them holds the records, for "
        f"example --records {next(iter(lists or value))}"
    )


def _is_record(value: Any) -> bool:
    return isinstance(value, dict)


def _parquet_rows(name: str, file: IO[bytes], columns: Columns) -> Rows:
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


_READERS: Mapping[str, Callable[[str, IO[bytes], Columns], Rows]] = {
    "csv": _csv_rows,
    "jsonl": _jsonl_rows,
    "json": _json_rows,
    "parquet": _parquet_rows,
}
