"""The one door to Parquet: the result schema, checksummed writing, verified reading.

The schema is derived once from `records.Record`. Page checksums are written and verified: without them a
flipped byte inside a page reads back silently wrong.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aceslm.core.errors import CorruptRun
from aceslm.core.files import replacing
from aceslm.core.record import Record

SCHEMA_VERSION = 2
ROW_GROUP_ROWS = 2000

_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


@cache
def result_schema() -> pa.Schema:
    """Return the Arrow schema of result rows, derived from `Record`'s annotations."""
    hints = typing.get_type_hints(Record)
    columns = [_column(field.name, hints[field.name]) for field in fields(Record)]
    return pa.schema(columns, metadata={"aceslm_schema_version": str(SCHEMA_VERSION)})


def records_table(records: Sequence[Record]) -> pa.Table:
    """Return `records` as an Arrow table with the result schema."""
    schema = result_schema()
    columns = []
    for column in schema:
        values = [_clean(getattr(record, column.name)) for record in records]
        columns.append(pa.array(values, type=column.type))
    return pa.Table.from_arrays(columns, schema=schema)


def write_table(table: pa.Table, path: Path) -> None:
    """Write `table` atomically, with page checksums."""
    with replacing(path) as partial:
        pq.write_table(
            table,
            partial,
            row_group_size=ROW_GROUP_ROWS,
            compression="zstd",
            write_page_checksum=True,
        )


def table_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a streaming writer with the house's settings; the caller wraps it in `replacing`."""
    return pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, verifying page checksums.

    Raises:
        CorruptRun: the file is truncated, damaged, or not Parquet.
    """
    try:
        return pq.read_table(
            path,
            columns=list(columns) if columns is not None else None,
            page_checksum_verification=True,
            partitioning=None,
        )
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorruptRun(f"{path}: cannot be read back: {reason}") from None


def read_columns(path: Path) -> list[str]:
    """Return the names of a Parquet file's columns.

    Raises:
        CorruptRun: the file is truncated, damaged, or not Parquet.
    """
    try:
        return list(pq.read_schema(path).names)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise CorruptRun(f"{path}: cannot be read back: {error}") from None


def read_results(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a file of result rows and check that it has this version's schema.

    Raises:
        CorruptRun: damaged, or of another schema version.
    """
    table = read_table(path, columns)
    wanted = result_schema()
    if columns is not None:
        wanted = pa.schema([wanted.field(name) for name in columns])
    if not table.schema.equals(wanted):
        raise CorruptRun(f"{path}: its columns are not those of schema version {SCHEMA_VERSION}")
    return table.replace_schema_metadata(result_schema().metadata) if columns is None else table


def iter_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file in order as dicts, a row group in memory at a time, checksums verified.

    Raises:
        CorruptRun: the file is truncated, damaged, or not Parquet.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(ROW_GROUP_ROWS, columns=list(columns) if columns else None):
                yield from batch.to_pylist()
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise CorruptRun(f"{path}: cannot be read back: {error}") from None


def write_prompts(texts: Iterable[tuple[str, str]], path: Path) -> None:
    """Write (prompt digest, text) pairs, deduplicated and sorted by digest."""
    unique = sorted(dict(texts).items())
    columns = {
        "prompt_digest": pa.array([key for key, _ in unique], pa.string()),
        "text": pa.array([_clean(text) for _, text in unique], pa.string()),
    }
    write_table(pa.table(columns), path)


def write_values(kind: type, values: Sequence[Any], path: Path) -> None:
    """Write frozen values of one dataclass as a table, with the columns that its annotations declare."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    schema = pa.schema([_column(name, hints[name]) for name in names])
    columns = [pa.array([_clean(getattr(value, one.name)) for value in values], one.type) for one in schema]
    write_table(pa.Table.from_arrays(columns, schema=schema), path)


def _column(name: str, hint: Any) -> pa.Field:
    nullable = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        nullable = True
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if typing.get_origin(hint) is tuple:
        return pa.field(name, pa.list_(_SCALARS[typing.get_args(hint)[0]]), nullable=False)
    return pa.field(name, _SCALARS[hint], nullable=nullable)


def _clean(value: Any) -> Any:
    """Replace lone surrogates (broken JSON escapes in a task file), which UTF-8 cannot hold."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, tuple):
        return [_clean(item) for item in value]
    return value
