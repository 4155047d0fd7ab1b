"""Published files of the five common shapes: from the file to a scored run with one import command each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Command

from aceslm.core.values import Sample
from aceslm.data import load_samples
from aceslm.data.importers import Columns, import_dataset


def write(path: Path, value: Any) -> Path:
    if path.suffix == ".csv":
        pd.DataFrame(value).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        pd.DataFrame(value).to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, value)) + "\n")
    else:
        path.write_text(json.dumps(value))
    return path


@pytest.fixture
def imported(aceslm: Command, tmp_path: Path) -> Any:
    """Import a file with one command, run it on the scripted engine, and return its samples."""

    def go(kind: str, path: Path, *options: str) -> tuple[list[Sample], str]:
        made = aceslm("data", "import", kind, path, "--output", "task.jsonl", *options)
        assert made.status == 0, made.err
        ran = aceslm(
            "run", "--model-id", "scripted", "--dataset-path", "task.jsonl", "--output-path", "r.csv"
        )
        assert ran.status == 0, ran.err
        samples = list(load_samples(tmp_path / "task.jsonl"))
        rows = pd.read_csv(tmp_path / "r.csv", dtype={"sample_id": str})
        assert sorted(rows["sample_id"]) == sorted(
            one.sample_id for one in samples if one.split in {"", "eval"}
        )
        assert "accuracy" in ran.out
        return samples, made.out

    return go


GSM8K = [
    {"question": "Natalia sold 48 clips, then half as many. How many in all?",
     "answer": "She sold 48/2 = <<48/2=24>>24 clips in May.\nIn all 48+24 = <<48+24=72>>72.\n#### 72"},
    {"question": "A robe takes 2 bolts of blue and half that of white. How many bolts?",
     "answer": "It takes 2/2=<<2/2=1>>1 bolt of white\nSo 2+1=<<2+1=3>>3 bolts\n#### 3"},
    {"question": "What did the house cost?",
     "answer": "Its value rose by 80,000*1.5=$<<80000*1.5=120000>>120,000.\n#### 1,120,000"},
]  # fmt: skip


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_rationale_with_its_answer_at_the_end(suffix: str, imported: Any, tmp_path: Path) -> None:
    path = write(tmp_path / f"train.{suffix}", GSM8K)
    samples, said = imported(suffix, path, "--answer-regex", "#### (.+)")
    assert [(one.answer, one.answer_type) for one in samples] == [
        ("72", "number"),
        ("3", "number"),
        ("1,120,000", "number"),
    ]
    assert "answer type: number (all 3 answers are numbers" in said


def test_a_rationale_without_the_option_is_refused_with_the_option_to_type(
    aceslm: Command, tmp_path: Path
) -> None:
    path = write(tmp_path / "train.jsonl", GSM8K)
    result = aceslm("data", "import", "jsonl", path, "--output", "t.jsonl")
    assert result.status == 2
    assert "3 of 3 answers are a text that ends in the answer (the first: line 1:" in result.err
    assert "--answer-regex '#### *(.+)'" in result.err
    assert not (tmp_path / "t.jsonl").exists()
    whole = aceslm("data", "import", "jsonl", path, "--output", "t.jsonl", "--answer-type", "span")
    assert whole.status == 0, whole.err


MEDMCQA = [
    {"id": "e9ad", "question": "Which vessel is an end artery?", "opa": "Coronary", "opb": "Iliac",
     "opc": "Renal", "opd": "Ulnar", "cop": 1, "exp": "x", "subject_name": "Anatomy"},
    {"id": "e3d3", "question": "Vitamin C deficiency causes?", "opa": "Rickets", "opb": "Beri-beri",
     "opc": "Pellagra", "opd": "Scurvy", "cop": 4, "exp": "Scurvy.", "subject_name": "Biochemistry"},
    {"id": "5c38", "question": "True about blood group AB?", "opa": "No antigen",
     "opb": "Universal recipient", "opc": "Universal donor", "opd": None, "cop": 2,
     "exp": "", "subject_name": "Pathology"},
]  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "columns", "base"),
    [
        ("jsonl", "opa,opb,opc,opd", ["--choice-base", "1"]),
        ("parquet", "op?", ["--answer-is", "index"]),
        ("csv", "opa,opb,opc,opd", []),
    ],
)
def test_choices_in_columns_of_their_own(
    suffix: str, columns: str, base: list[str], imported: Any, tmp_path: Path
) -> None:
    path = write(tmp_path / f"dev.{suffix}", MEDMCQA)
    options = ["--choices-columns", columns, "--answer-column", "cop", "--metadata-columns", "subject_name"]
    samples, said = imported(suffix, path, *options, *base)
    assert [one.answer for one in samples] == ["A", "D", "B"]
    assert samples[1].choices == ("Rickets", "Beri-beri", "Pellagra", "Scurvy")
    assert samples[2].choices == ("No antigen", "Universal recipient", "Universal donor")
    assert {one.answer_type for one in samples} == {"choice"}
    assert json.loads(samples[0].metadata)["subject_name"] == "Anatomy"
    assert "exp" not in samples[0].metadata
    assert ("read as index from 1 of a choice" in said) == (base != ["--choice-base", "1"])


PUBMED = {
    "2164": {"QUESTION": "Do mitochondria play a role?", "CONTEXTS": ["Cells die.", "We looked at leaves."],
             "LABELS": ["BACKGROUND", "RESULTS"], "final_decision": "yes"},
    "9488": {"QUESTION": "Is acuity tested well?", "CONTEXTS": ["Charts differ.", "We compared them.", ""],
             "LABELS": ["BACKGROUND", "METHODS", "RESULTS"], "final_decision": "no"},
    "1748": {"QUESTION": "Does it help?", "CONTEXTS": ["Some say so."], "final_decision": "maybe"},
}  # fmt: skip
PUBMED_OPTIONS = (
    "--question-column",
    "QUESTION",
    "--context-column",
    "CONTEXTS",
    "--answer-column",
    "final_decision",
)


@pytest.mark.parametrize("shape", ["by id", "list", "wrapped", "by column", "among others"])
def test_a_json_file_of_records_in_a_list_or_by_their_ids(shape: str, imported: Any, tmp_path: Path) -> None:
    rows = list(PUBMED.values())
    value, more = {
        "by id": (PUBMED, ["--id-column", "id"]),
        "list": (rows, []),
        "wrapped": ({"version": 1, "data": rows}, []),
        "by column": ({key: [row[key] for row in rows] for key in rows[2]}, []),
        "among others": ({"a": [{"x": 1}], "data": {"train": rows}}, ["--records", "data.train"]),
    }[shape]
    path = write(tmp_path / "ori_pqal.json", value)
    samples, _ = imported("json", path, *PUBMED_OPTIONS, "--labels", "yes,no,maybe", *more)
    assert [(one.answer, one.answer_type) for one in samples] == [
        *(("yes", "label"), ("no", "label"), ("maybe", "label")),
    ]
    assert {one.choices for one in samples} == {("yes", "no", "maybe")}
    assert samples[1].context == "Charts differ.\n\nWe compared them."
    if shape == "by id":
        assert [one.sample_id for one in samples] == list(PUBMED)


HOTPOT = [["Rome", ["Rome is old. ", "It lies on the Tiber."]], ["Paris", ["Paris is in France."]]]
JOINED = "Rome\nRome is old. It lies on the Tiber.\n\nParis\nParis is in France."


@pytest.mark.parametrize(
    ("context", "column", "expected"),
    [
        (["One.", "Two."], "context", "One.\n\nTwo."),
        ({"contexts": ["One.", "Two."], "labels": ["A", "B"]}, "context.contexts", "One.\n\nTwo."),
        (HOTPOT, "context", JOINED),
        ({"title": ["Rome", "Paris"], "sentences": [text for _, text in HOTPOT]}, "context", JOINED),
        ([{"idx": 0, "title": "Rome", "paragraph_text": "It is old.", "is_supporting": True}], "context",
         "Rome\nIt is old."),
        ([{"body": {"long": "One."}}, {"body": {"long": "Two."}}], "context.body.long", "One.\n\nTwo."),
        ([], "context", ""),
        ([["First.", "Second."], ["Third."]], "context", "First. Second.\n\nThird."),
        ([{"a": {"text": "One."}}], "context.0.a", "One."),
        ("[1, 2, 3]", "context", "[1, 2, 3]"),
        ('{"pulse": 80}', "context", '{"pulse": 80}'),
        ([1.0, 2.5], "context", "1, 2.5"),
    ],
)  # fmt: skip
def test_paragraphs_as_context(context: Any, column: str, expected: str, tmp_path: Path) -> None:
    rows = [{"question": f"Where {n}?", "answer": "in Rome", "context": context} for n in range(2)]
    path = write(tmp_path / "h.jsonl", rows)
    samples = import_dataset("jsonl", path, columns=Columns(context=column)).samples
    assert [one.context for one in samples] == [expected] * 2
    assert len({one.context_id for one in samples}) == 1
    assert bool(samples[0].context_id) == bool(expected)


def test_paragraphs_go_from_the_file_to_a_scored_run(imported: Any, tmp_path: Path) -> None:
    rows = [{"question": f"Where {n}?", "answer": "in Rome", "context": HOTPOT} for n in range(2)]
    samples, _ = imported("jsonl", write(tmp_path / "h.jsonl", rows), "--context-column", "context")
    assert {one.context for one in samples} == {JOINED}


@pytest.mark.parametrize("text", ['["One.", "Two."]', "['One.', \"Two.\"]"])
def test_paragraphs_in_a_csv_cell_are_paragraphs(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "h.csv", [{"question": "Where?", "answer": "in Rome", "context": text}])
    (sample,) = import_dataset("csv", path, columns=Columns(context="context")).samples
    assert sample.context == "One.\n\nTwo."


def test_objects_whose_text_has_no_known_name_are_refused_with_the_path_to_type(
    aceslm: Command, tmp_path: Path
) -> None:
    rows = [{"question": "Where?", "answer": "in Rome", "context": {"alpha": "x", "beta": "y"}}]
    path = write(tmp_path / "h.jsonl", rows)
    result = aceslm("data", "import", "jsonl", path, "--output", "t.jsonl", "--context-column", "context")
    assert result.status == 2
    assert "column 'context' holds objects with alpha, beta" in result.err
    assert "--context-column context.alpha" in result.err


AQUA = [
    {"question": "A ship's depth?", "options": ["A)21", "B)21.5", "C)22", "D)22.5", "E)23"],
     "rationale": "...", "correct": "E"},
    {"question": "Sixth of a half?", "options": ["A)1/12", "B)1/3", "C)3", "D)12", "E)None"],
     "rationale": "x", "correct": "A"},
]  # fmt: skip


@pytest.mark.parametrize(
    "style", ["{}){}", "{}. {}", "({}) {}", "[{}] {}", "{}: {}", "{} ) {}", "{} - {}", "{}.{}"]
)
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_letters_inside_the_options(case: Any, style: str, tmp_path: Path) -> None:
    rows = [
        {**row, "options": [style.format(case(text[0]), text[2:]) for text in row["options"]]} for row in AQUA
    ]
    columns = Columns(choices="options", answer="correct")
    for suffix in ("jsonl", "csv"):  # in the CSV as Python prints a list
        told = [{**row, "options": str(row["options"])} for row in rows] if suffix == "csv" else rows
        report = import_dataset(suffix, write(tmp_path / f"test.{suffix}", told), columns=columns)
        assert report.samples[0].choices == ("21", "21.5", "22", "22.5", "23")
        assert [one.answer for one in report.samples] == ["E", "A"]
        assert "letters in front of the options were taken off in 2 records" in " ".join(report.said)


def test_letters_inside_the_options_go_to_a_scored_run_also_where_json_lines_are_called_json(
    imported: Any, tmp_path: Path
) -> None:
    path = tmp_path / "test.json"
    path.write_text("\n".join(map(json.dumps, AQUA)))
    samples, _ = imported("json", path, "--choices-column", "options", "--answer-column", "correct")
    assert [one.answer for one in samples] == ["E", "A"]
