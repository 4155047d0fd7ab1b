"""MedQA-USMLE (Jin et al., 2021), four options, in the packagings of MIRAGE (test) and mediQ (dev)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from aceslm.core.errors import DataError
from aceslm.data.importers.base import Found, ImportOptions, Raw, json_lines, need, source_files
from aceslm.data.importers.ids import numbered_ids
from aceslm.data.importers.splits import splits_by_name

SOURCE = "MedQA-USMLE, https://github.com/jind11/MedQA"
LICENCE = "MIT (mediQ packaging of the dev file: CC BY 4.0)"
FILES = ("*train*.jsonl", "*dev*.jsonl", "*test*.jsonl")


def read(src: Path, options: ImportOptions) -> Found:
    """Read MedQA files. Option order is kept as published; fields that a model generated are ignored."""
    found, seen = Found(), Counter[str]()
    for path in source_files(src, FILES):
        rows = numbered_ids([(where, _row(where, raw)) for where, raw in json_lines(path)], "medqa", seen)
        splits = splits_by_name(str(path), path.stem, [row["id"] for _, row in rows], options)
        found.rows += [(where, {**row, "split": splits[row["id"]]}) for where, row in rows]
    found.totals["questions"] = len(found.rows)
    return found


def _row(where: str, raw: Raw) -> Raw:
    options: dict[str, Any] = need(where, raw, "options", dict)
    letter = need(where, raw, "answer_idx", str)
    if letter not in options:
        raise DataError(f"{where}: key 'answer_idx': '{letter}' is not one of {', '.join(options)}")
    sentences = need(where, raw, "context", list) if "context" in raw else []
    if not all(isinstance(sentence, str) for sentence in sentences):
        raise DataError(f"{where}: key 'context': expected a list of sentences")
    question = " ".join([*sentences, need(where, raw, "question", str)])
    return {
        "question": question,
        "answer": options[letter],
        "answer_type": "choice",
        "choices": list(options.values()),
        "answer_is": "text",
        "metadata": {"exam": raw["meta_info"]} if isinstance(raw.get("meta_info"), str) else {},
    }
