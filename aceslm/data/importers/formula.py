"""The finance formulas of the ACE paper (a subset of FinLoRA's): one number from a formula and its inputs."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from aceslm.data.importers.base import Found, ImportOptions, Raw, json_lines, need, source_files
from aceslm.data.importers.ids import numbered_ids
from aceslm.data.importers.splits import splits_by_name

SOURCE = "Formula (ACE, from FinLoRA), https://github.com/ace-agent/ace"
LICENCE = "Apache-2.0 (repository); FinLoRA: OpenMDW-1.0"
FILES = ("*train*.jsonl", "*val*.jsonl", "*test*.jsonl")

_NAME = re.compile(r"Use formula (.+?) to answer the question")


def read(src: Path, options: ImportOptions) -> Found:
    """Read the published files: the prompt as it is (its closing "Answer:" aside), and the target."""
    found, seen = Found(), Counter[str]()
    for path in source_files(src, FILES):
        rows = numbered_ids([(where, _row(where, raw)) for where, raw in json_lines(path)], "formula", seen)
        splits = splits_by_name(str(path), path.stem, [row["id"] for _, row in rows], options)
        found.rows += [(where, {**row, "split": splits[row["id"]]}) for where, row in rows]
    found.totals["questions"] = len(found.rows)
    return found


def _row(where: str, raw: Raw) -> Raw:
    prompt: str = need(where, raw, "context", str)
    name = _NAME.search(prompt)
    return {
        "question": prompt.strip().removesuffix("Answer:").rstrip(),
        "answer": need(where, raw, "target", str, int, float),
        "answer_type": "number",
        "metadata": {"formula": name[1]} if name else {},
    }
