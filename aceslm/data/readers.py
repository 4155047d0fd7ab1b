"""Readers of the task format: JSON, JSONL, CSV, Parquet -> Sample.

Required keys: `id question answer`. Optional: `context domain choices answer_type scale split context_id
metadata`. An `answer` may be a text, a number, or a list of texts (several spans: kept as JSON text).
`choices` is a list of texts or a mapping letter -> text (JSON text in CSV).

Every fault is a DataError with file, record and key.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aceslm.core.errors import DataError, nearest
from aceslm.core.values import ANSWER_TYPES, SPLITS, Sample

REQUIRED_KEYS = ("id", "question", "answer")
OPTIONAL_KEYS = ("context", "domain", "choices", "answer_type", "scale", "split", "context_id", "metadata")

Row = tuple[str, Any]  # where the record stands in the file, and its raw value


def load_samples(
    path: Path, *, domain: str | None = None, answer_type: str | None = None
) -> tuple[Sample, ...]:
    """Read and validate a task file.

    Args:
        domain: for samples that do not name one.
        answer_type: for samples that do not name one; without it, it is inferred from choices and answer.

    Raises:
        DataError: names file, record and key.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: a task file ends in {', '.join(sorted(_READERS))}, not '{path.suffix}'")
    if not path.is_file():
        raise DataError(f"{path}: no such file{_similar(path)}")
    samples: dict[str, Sample] = {}
    places: dict[str, str] = {}
    for place, raw in reader(path):
        sample = parse_sample(f"{path}: {place}", raw, domain, answer_type)
        if sample.sample_id in samples:
            first = places[sample.sample_id]
            raise DataError(f"{path}: {place}: id '{sample.sample_id}' was already used by {first}")
        samples[sample.sample_id] = sample
        places[sample.sample_id] = place
    if not samples:
        raise DataError(f"{path}: holds no samples")
    return tuple(samples.values())


def _read_json(path: Path) -> Iterator[Row]:
    try:
        value = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: broken JSON: {error.msg}") from None
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list of samples, found {_kind(value)}")
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


def parse_sample(where: str, raw: Any, domain: str | None = None, answer_type: str | None = None) -> Sample:
    """Return the sample that a raw record in the task format describes.

    Args:
        where: file and record, for messages.

    Raises:
        DataError: names `where` and the key.
    """
    if not isinstance(raw, dict):
        raise DataError(f"{where}: expected an object with {', '.join(REQUIRED_KEYS)}, found {_kind(raw)}")
    _check_keys(where, raw)
    choices = _choices(where, raw.get("choices"))
    answer = _answer(where, raw["answer"])
    kind = _answer_type(where, raw.get("answer_type") or answer_type, choices, answer)
    split = _string(where, raw, "split")
    if split and split not in SPLITS:
        raise DataError(f"{where}: key 'split': '{split}' is not one of them{nearest(split, SPLITS)}")
    metadata = raw.get("metadata", "")
    sample = Sample(
        sample_id=_required(where, raw, "id"),
        question=_required(where, raw, "question"),
        answer=_gold_letter(where, answer, choices) if kind == "choice" else answer,
        context=_string(where, raw, "context"),
        domain=_string(where, raw, "domain") or domain or "",
        choices=choices,
        answer_type=kind,
        scale=_string(where, raw, "scale"),
        split=split,
        context_id=_string(where, raw, "context_id"),
        metadata=metadata
        if isinstance(metadata, str)
        else json.dumps(metadata, sort_keys=True, ensure_ascii=False),
    )
    if kind == "label" and choices and answer.strip().lower() not in {c.strip().lower() for c in choices}:
        raise DataError(
            f"{where}: key 'answer': '{answer}' is not one of the choices{nearest(answer, choices)}"
        )
    return sample


def _check_keys(where: str, raw: Mapping[str, Any]) -> None:
    for key in REQUIRED_KEYS:
        if raw.get(key) is None:
            raise DataError(f"{where}: key '{key}' is missing{_misspelt(key, raw)}")
    for key in raw:
        if key not in REQUIRED_KEYS and key not in OPTIONAL_KEYS:
            raise DataError(
                f"{where}: unknown key '{key}'{nearest(str(key), (*REQUIRED_KEYS, *OPTIONAL_KEYS))}"
            )


def _misspelt(key: str, raw: Mapping[str, Any]) -> str:
    strangers = [str(name) for name in raw if name not in REQUIRED_KEYS and name not in OPTIONAL_KEYS]
    return f" (found: {', '.join(strangers)})" if strangers else ""


def _required(where: str, raw: Mapping[str, Any], key: str) -> str:
    value = raw[key]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: key '{key}': expected a text, found {_kind(value)}")
    text = str(value)
    if not text.strip():
        raise DataError(f"{where}: key '{key}' is empty")
    return text


def _string(where: str, raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: key '{key}': expected a text, found {_kind(value)}")
    return str(value)


def _answer(where: str, value: Any) -> str:
    if isinstance(value, bool):
        raise DataError(f'{where}: key \'answer\': true/false is ambiguous; write the words "yes"/"no"')
    if isinstance(value, list | tuple):
        spans = [_answer(where, item) for item in value]
        if not spans:
            raise DataError(f"{where}: key 'answer' is an empty list")
        return spans[0] if len(spans) == 1 else json.dumps(spans, ensure_ascii=False)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DataError(f"{where}: key 'answer': {value} is not a number one can score")
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if not isinstance(value, str | int):
        raise DataError(f"{where}: key 'answer': expected a text, a number or a list, found {_kind(value)}")
    if not str(value).strip():
        raise DataError(f"{where}: key 'answer' is empty")
    return str(value)


def _choices(where: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, dict):
        value = [value[letter] for letter in sorted(value)]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str | int | float) for item in value):
        raise DataError(f"{where}: key 'choices': expected a list of texts, found {_kind(value)}")
    choices = tuple(str(item) for item in value)
    if choices and not 2 <= len(choices) <= 26:
        raise DataError(f"{where}: key 'choices': expected 2 to 26 choices, found {len(choices)}")
    folded = [choice.strip().lower() for choice in choices]
    if "" in folded or len(set(folded)) < len(folded):
        raise DataError(f"{where}: key 'choices': two choices are equal, or one is empty")
    return choices


def _answer_type(where: str, given: Any, choices: tuple[str, ...], answer: str) -> str:
    from aceslm.tasks.text import parse_number

    if given is None:
        if choices:
            return "choice"
        return "number" if parse_number(answer) is not None else "span"
    if given not in ANSWER_TYPES:
        raise DataError(
            f"{where}: key 'answer_type': '{given}' is not one of them{nearest(str(given), ANSWER_TYPES)}"
        )
    if given in {"choice", "label"} and not choices:
        raise DataError(f"{where}: answer_type '{given}' needs the key 'choices'")
    if given == "number" and parse_number(answer) is None:
        raise DataError(f"{where}: key 'answer': '{answer}' is not a number, as answer_type 'number' needs")
    return str(given)


def _gold_letter(where: str, answer: str, choices: tuple[str, ...]) -> str:
    """Return the letter of the gold choice, in published order; the answer may be the letter or the text."""
    folded = answer.strip().lower()
    for index, choice in enumerate(choices):
        if folded == choice.strip().lower():
            return chr(ord("A") + index)
    letter = answer.strip().rstrip(".)").lstrip("(").upper()
    if len(letter) == 1 and 0 <= ord(letter) - ord("A") < len(choices):
        return letter
    raise DataError(
        f"{where}: key 'answer': '{answer}' is neither a letter A to {chr(ord('A') + len(choices) - 1)} "
        "nor the text of a choice"
    )


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true/false", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")


def _similar(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    names = [found.name for found in path.parent.iterdir() if found.suffix in _READERS]
    return nearest(path.name, names) if len(names) <= 200 else ""
