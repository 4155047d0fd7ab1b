"""Writing samples in the task format, so that `load_samples` gives exactly them back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aceslm.core.errors import UsageError
from aceslm.core.files import replacing
from aceslm.core.values import Sample
from aceslm.data.parsing import GOLD_READINGS, OPTIONAL_KEYS, REQUIRED_KEYS
from aceslm.data.readings import Options, Reading

SUFFIXES = (".jsonl", ".parquet")


def check_output(path: Path) -> None:
    """Raise UsageError unless the file's name says a format that is written."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--output {path}: its name must end in {' or '.join(SUFFIXES)}")


def write_task(samples: Sequence[Sample], path: Path) -> None:
    """Write samples as JSONL or Parquet, by the suffix, atomically; the same samples give the same bytes.

    Raises:
        UsageError: another suffix, or the file cannot be written.
    """
    check_output(path)
    try:
        if path.suffix.lower() == ".jsonl":
            with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
                for sample in samples:
                    filled = {key: value for key, value in _record(sample).items() if value}
                    file.write(json.dumps(filled, ensure_ascii=False) + "\n")
        else:
            _write_parquet(samples, path)
    except OSError as error:
        raise UsageError(f"--output {path}: cannot be written: {error.strerror}") from None


def _write_parquet(samples: Sequence[Sample], path: Path) -> None:
    import pyarrow as pa

    from aceslm.core.parquet import write_table

    lists = pa.list_(pa.string())
    keys = (*REQUIRED_KEYS, *OPTIONAL_KEYS)
    schema = pa.schema([(key, lists if key == "choices" else pa.string()) for key in keys])
    write_table(pa.Table.from_pylist([_record(sample) for sample in samples], schema=schema), path)


def _record(sample: Sample) -> dict[str, Any]:
    values = {**asdict(sample), "id": sample.sample_id, "choices": list(sample.choices), "answer_is": None}
    if sample.answer_type == "choice":
        # the text, not the letter; where the text is itself the letter of another option, it says so
        position = ord(sample.answer) - ord("A")
        values["answer"] = sample.choices[position]
        if Reading(GOLD_READINGS).position(values["answer"], Options.lettered(sample.choices)) != position:
            values["answer_is"] = "text"
    return {key: values[key] for key in (*REQUIRED_KEYS, *OPTIONAL_KEYS)}
