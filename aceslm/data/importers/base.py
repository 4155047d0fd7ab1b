"""What every importer shares: options, the report, checked access to raw records, source files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aceslm.core.errors import DataError
from aceslm.core.values import Sample

Raw = dict[str, Any]  # a record in the task format, not yet validated


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a table hold what; `question` and `answer` are needed. A name may be a dotted path.

    Attributes:
        choices: one column with all choices; `choices_columns`: a column each (patterns such as `op*` too).
        labels: the same choices for every record.
        choice_base: the answer is the number of a choice, counted from 0 or 1.
        answer_is: how answers name their choice (`letter`, `text`, `index`); decided by the file if None.
        answer_regex: what extracts the answer from a longer text: its first group, where it last matches.
        header: whether a CSV file has a header line; else its columns are c1, c2, ...
        records: the key of a JSON object under which its records stand.
    """

    question: str = "question"
    answer: str = "answer"
    id: str | None = None
    context: str | None = None
    choices: str | None = None
    choice_base: int | None = None
    choices_columns: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    answer_is: str | None = None
    answer_regex: str | None = None
    context_id: str | None = None
    split: str | None = None
    scale: str | None = None
    answer_type: str | None = None
    domain: str | None = None
    metadata: tuple[str, ...] = ()
    header: bool = True
    records: str | None = None


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a user may choose.

    `split` is `adapt`, `validate`, `eval`, or `auto` (what suits the dataset). `per_label` caps the records
    of one label in one split; with `balance` and no cap, the most frequent label is cut to the second.
    `window` is the number of values in a window of a series. `only` keeps the records of one answer type.
    `split_by_context` (tables) deals whole contexts to splits, as in `adapt=0.3,validate=0.2`.
    """

    split: str = "auto"
    seed: int = 0
    per_label: int | None = None
    balance: bool = True
    window: int = 96
    columns: Columns = field(default_factory=Columns)
    answer_type: str | None = None
    domain: str | None = None
    only: str | None = None
    split_by_context: str | None = None


@dataclass(slots=True)
class Found:
    """What a source holds: records with their place, what was left out and why, and totals of the source.

    `said`: what was decided from the file as a whole, for the user to read.
    """

    rows: list[tuple[str, Raw]] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """An imported dataset. `dropped` has (file and record, reason) for all that is not in `samples`.

    `totals` counts the source itself (rows, failures, windows), to be compared with what was published.
    """

    samples: tuple[Sample, ...]
    dropped: tuple[tuple[str, str], ...]
    licence: str
    source: str
    totals: Mapping[str, int]
    said: tuple[str, ...] = ()


def source_files(src: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Return `src` itself, or the files of a folder that match the patterns, in the patterns' order.

    Raises:
        DataError: no such file, or none in the folder.
    """
    if src.is_file():
        return [src]
    if not src.is_dir():
        raise DataError(f"{src}: no such file or folder")
    files = list(dict.fromkeys(path for pattern in patterns for path in sorted(src.glob(pattern))))
    if not files:
        raise DataError(f"{src}: holds none of {', '.join(patterns)}; give the file itself")
    return files


def json_lines(path: Path) -> Iterator[tuple[str, Raw]]:
    """Stream the objects of a JSONL file with their places.

    Raises:
        DataError: not UTF-8, not JSON, not an object; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}: line {number}", json_object(path, number, line)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def json_object(path: Path | str, number: int, line: str) -> Raw:
    """Return one line of JSON as an object, or raise DataError naming the line."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {number}: broken JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: line {number}: expected an object, found a {type(value).__name__}")
    return value


def json_file(path: Path) -> Any:
    """Return the value of a JSON file.

    Raises:
        DataError: not readable, not JSON; names the line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {error.lineno}: broken JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def need(where: str, raw: Any, key: str, *kinds: type) -> Any:
    """Return `raw[key]`, checked to be one of `kinds`.

    Raises:
        DataError: the record is not an object, lacks the key, or holds something else there.
    """
    wanted = " or ".join(kind.__name__ for kind in kinds)
    if not isinstance(raw, dict):
        raise DataError(f"{where}: expected an object with '{key}', found a {type(raw).__name__}")
    if key not in raw:
        raise DataError(f"{where}: key '{key}' is missing (found: {', '.join(map(str, raw))})")
    value = raw[key]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise DataError(f"{where}: key '{key}': expected {wanted}, found a {type(value).__name__}")
    return value
