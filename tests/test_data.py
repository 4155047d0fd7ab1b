from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from aceslm.core.errors import CorruptRun, DataError
from aceslm.core.values import ANSWER_TYPES, Sample
from aceslm.data import load_samples, read_snapshot, select_split, task_digest, write_samples

GOOD = {"id": "a", "question": "Why?", "answer": "because"}


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_the_same_samples_in_any_format_have_one_digest(tmp_path: Path) -> None:
    import pandas as pd

    rows = [
        {**GOOD, "choices": ["x", "because"], "context": 'c, "q"\nline', "split": "eval"},
        {**GOOD, "id": "b", "answer": "x", "choices": ["x", "y"], "split": "eval"},
    ]
    json_file = write(tmp_path / "t.json", rows)
    jsonl = write(tmp_path / "t.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n\n")
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "question", "answer", "choices", "context", "split"])
        writer.writeheader()
        writer.writerows({**row, "choices": json.dumps(row["choices"])} for row in rows)
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    digests = {
        task_digest(load_samples(path))
        for path in (json_file, jsonl, tmp_path / "t.csv", tmp_path / "t.parquet")
    }
    assert len(digests) == 1
    changed = load_samples(write(tmp_path / "u.json", [rows[0], {**rows[1], "answer": "y"}]))
    assert task_digest(changed) not in digests


@pytest.mark.parametrize(("task", "count"), [("tatqa_tiny", 3), ("medqa_tiny", 3), ("iot_tiny", 5)])
def test_the_tiny_tasks_that_ship_are_valid(task: str, count: int) -> None:
    assert len(load_samples(ROOT / "data" / "tasks" / f"{task}.json")) == count


def test_choices_may_be_a_mapping_from_letters(tmp_path: Path) -> None:
    rows = [{**GOOD, "choices": {"B": "no", "A": "because"}, "answer": "because"}]
    (sample,) = load_samples(write(tmp_path / "t.json", rows))
    assert (sample.answer_type, sample.choices, sample.answer) == ("choice", ("because", "no"), "A")


def test_several_gold_spans_survive(tmp_path: Path) -> None:
    (sample,) = load_samples(write(tmp_path / "t.json", [{**GOOD, "answer": ["a, b", "c"]}]))
    assert json.loads(sample.answer) == ["a, b", "c"]


def test_a_split_is_chosen_and_a_task_without_splits_is_whole() -> None:
    samples = [Sample(str(n), "q", "a", split=split) for n, split in enumerate(["adapt", "eval", "eval"])]
    assert [sample.sample_id for sample in select_split(samples, "eval")] == ["1", "2"]
    assert len(select_split([replace(sample, split="") for sample in samples], "eval")) == 3
    with pytest.raises(DataError, match="split 'validate'"):
        select_split(samples, "validate")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.lists(
        st.builds(
            Sample,
            sample_id=texts,
            question=texts,
            answer=texts,
            context=texts,
            choices=st.lists(texts, max_size=3).map(tuple),
            answer_type=st.sampled_from(ANSWER_TYPES),
            metadata=texts,
        ),
        max_size=4,
    )
)
def test_a_snapshot_gives_back_exactly_what_was_written(samples: list[Sample]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.parquet"
        write_samples(samples, path)
        assert read_snapshot(path) == tuple(samples)


def test_a_flipped_byte_in_a_snapshot_is_found(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write_samples([Sample(str(n), f"question {n} " * 20, "a") for n in range(50)], path)
    raw = bytearray(path.read_bytes())
    raw[200] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(CorruptRun):
        read_snapshot(path)


BAD_FILES: list[tuple[str, Any, str]] = [
    ("t.json", '[{"id": 1,\n "question": }]', r"t\.json:2: broken JSON"),
    ("t.json", {"id": 1}, "expected a list of samples, found an object"),
    ("t.json", [], "holds no samples"),
    ("t.json", ["text"], "record 1: expected an object"),
    ("t.json", [{"id": "a", "question": "q"}], "record 1: key 'answer' is missing"),
    ("t.json", [{"id": "a", "question": "q", "anwser": "x"}], r"'answer' is missing \(found: anwser\)"),
    ("t.json", [GOOD, GOOD], "record 2: id 'a' was already used by record 1"),
    ("t.json", [{**GOOD, "question": "  "}], "key 'question' is empty"),
    ("t.json", [{**GOOD, "question": ["q"]}], "key 'question': expected a text, found a list"),
    ("t.json", [{**GOOD, "contxt": "c"}], r"unknown key 'contxt' \(did you mean 'context'\?\)"),
    ("t.json", [{**GOOD, "answer_type": "choise"}], r"did you mean 'choice'\?"),
    ("t.json", [{**GOOD, "answer_type": "choice"}], "needs the key 'choices'"),
    ("t.json", [{**GOOD, "answer_type": "number"}], "'because' is not a number"),
    ("t.json", [{**GOOD, "choices": ["x", "y"]}], "neither a letter A to B nor the text of a choice"),
    ("t.json", [{**GOOD, "choices": ["x"]}], "expected at least 2 choices, found 1"),
    ("t.json", [{**GOOD, "choices": ["x", "X "]}], "two choices are equal"),
    ("t.json", [{**GOOD, "choices": "xy"}], "key 'choices': expected a list"),
    ("t.json", [{**GOOD, "split": "test"}], "'test' is not one of them"),
    ("t.json", [{**GOOD, "answer": True}], "ambiguous"),
    ("t.json", [{**GOOD, "answer": []}], "empty list"),
    ("t.json", '[{"id": "a", "question": "q", "answer": NaN}]', "not a number one can score"),
    ("t.jsonl", '{"id": 1}\n{"id"', r"line 1: key 'question' is missing"),
    ("t.jsonl", json.dumps(GOOD) + '\n{"id"', r"t\.jsonl:2: broken JSON"),
    ("t.csv", "id,question\na,b\n", "key 'answer' is missing"),
    ("t.csv", "id,question,answer\na,b,c,d\n", "record 1: has more columns"),
    ("t.csv", "id,question,answer,choices\na,b,c,x|y\n", "expected JSON text"),
    ("t.parquet", "not parquet", "not a readable Parquet file"),
    ("t.txt", "x", r"ends in \.csv, \.json, \.jsonl, \.parquet, not '\.txt'"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_a_bad_task_file_names_file_record_and_key(
    tmp_path: Path, name: str, content: Any, message: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as caught:
        load_samples(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path / "medqa.json", [GOOD])
    with pytest.raises(DataError, match=r"no such file \(did you mean 'medqa\.json'"):
        load_samples(tmp_path / "medqaa.json")


def test_a_file_that_is_not_utf8_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(b'[{"id": "\xff"}]')
    with pytest.raises(DataError, match="not UTF-8"):
        load_samples(tmp_path / "t.json")
