"""Any table by its columns: ids, contexts, splits, what a column may be called, what is refused."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Command

from aceslm.core.errors import DataError, UsageError
from aceslm.data import load_samples
from aceslm.data.importers import Columns, import_dataset, write_task
from aceslm.data.importers.base import ImportReport
from aceslm.data.importers.splits import shares_of


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def bring(folder: Path, rows: list[dict[str, Any]], name: str = "mine", **options: Any) -> ImportReport:
    return import_dataset("jsonl", lines(folder / f"{name}.jsonl", rows), **options)


def asked(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"question": f"Question {n}?", "answer": f"word {n}", **more} for n in range(count)]


# ---- ids


def test_ids_are_made_from_what_is_asked_not_from_the_file(tmp_path: Path) -> None:
    rows = [{**row, "context": f"Text {n}."} for n, row in enumerate(asked(4))]
    columns = Columns(context="context")
    first = [one.sample_id for one in bring(tmp_path, rows, columns=columns).samples]
    renamed = [one.sample_id for one in bring(tmp_path, rows, "other", columns=columns).samples]
    reversed_ = [one.sample_id for one in bring(tmp_path, rows[::-1], columns=columns).samples]
    corrected = bring(tmp_path, [{**row, "answer": "another"} for row in rows], columns=columns)
    assert first == renamed == reversed_[::-1] == [one.sample_id for one in corrected.samples]
    assert len(set(first)) == 4
    others = [{**row, "question": f"Other {n}?"} for n, row in enumerate(rows)]
    assert not set(first) & {one.sample_id for one in bring(tmp_path, others, columns=columns).samples}
    assert not set(first) & {one.sample_id for one in bring(tmp_path, rows).samples}  # without its context


@pytest.mark.parametrize("kind", ["medqa", "formula"])
def test_ids_of_published_sets_do_not_come_from_the_file_s_name(kind: str, tmp_path: Path) -> None:
    rows: dict[str, list[dict[str, Any]]] = {
        "medqa": [
            {"question": "Which?", "options": {"A": "x", "B": "y"}, "answer_idx": "A"},
            {"question": "Which?", "options": {"A": "x", "B": "y"}, "answer_idx": "B"},
        ],
        "formula": [
            {"context": "Use it. Answer:", "target": "1"},
            {"context": "Use it. Answer:", "target": "2"},
        ],
    }
    ids = [
        [
            one.sample_id
            for one in import_dataset(
                kind, lines(tmp_path / f"{name}.jsonl", rows[kind]), split="eval"
            ).samples
        ]
        for name in ("a_test", "b_dev")
    ]
    assert ids[0] == ids[1]
    assert ids[0][1] == f"{ids[0][0]}-2"  # the same question twice stays twice, as published


def test_repeats_of_a_record_are_dropped_named_and_counted(tmp_path: Path) -> None:
    rows = asked(3)
    rows += [rows[0], {**rows[1], "question": " question  1? "}, {**rows[2], "answer": "something else"}]
    report = bring(tmp_path, rows)
    assert [one.answer for one in report.samples] == ["word 0", "word 1", "word 2", "something else"]
    assert report.samples[3].sample_id == f"{report.samples[2].sample_id}-2"
    path = tmp_path / "mine.jsonl"
    assert report.dropped == (
        (f"{path}: line 4 (as line 1)", "repeats an earlier record"),
        (f"{path}: line 5 (as line 2)", "repeats an earlier record"),
    )
    assert report.totals == {"rows": 6}


def test_a_column_of_ids_is_kept_and_an_id_twice_is_refused_with_the_way_out(tmp_path: Path) -> None:
    rows = [{**row, "key": f"k{n}"} for n, row in enumerate(asked(2))]
    assert [one.sample_id for one in bring(tmp_path, rows, columns=Columns(id="key")).samples] == ["k0", "k1"]
    with pytest.raises(DataError, match=r"line 2: id 'k0' was already used: without --id-column"):
        bring(tmp_path, [{**row, "key": "k0"} for row in rows], columns=Columns(id="key"))


# ---- columns


def test_every_key_of_the_task_format_has_a_column(tmp_path: Path) -> None:
    rows = [
        {
            "q": "How much?", "gold": "12", "text": "It was 12.", "doc": "d1", "part": part,
            "unit": "million", "kind": "number", "field": "finance", "page": 3,
            "when": None, "notes": {"a": [1]},
        }
        for part in ("train", "eval")
    ]  # fmt: skip
    rows[1] |= {"q": "How many?", "doc": "d2", "text": "It was twelve."}
    columns = Columns(
        question="q", answer="gold", context="text", context_id="doc", split="part", scale="unit",
        answer_type="kind", domain="field", metadata=("page", "when", "notes"),
    )  # fmt: skip
    report = bring(tmp_path, rows, columns=columns)
    one = report.samples[0]
    assert (one.context_id, one.split, one.scale, one.answer_type, one.domain) == (
        *("d1", "adapt", "million", "number", "finance"),
    )
    metadata = json.loads(one.metadata)
    assert (metadata["page"], metadata["notes"], "when" in metadata) == (3, {"a": [1]}, False)
    assert report.samples[1].split == "eval"


def test_the_options_of_the_verb_reach_the_columns(aceslm: Command, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("what,gold,unit,split,page\nA?,12,million,adapt,3\nB?,13,million,eval,4\n")
    result = aceslm(
        *("data", "import", "csv", path, "--output", "t.jsonl", "--question-column", "what"),
        *("--answer-column", "gold", "--scale-column", "unit", "--split-column", "split"),
        *("--metadata-columns", "page"),
    )
    assert result.status == 0, result.err
    assert "answer type: number" in result.out
    found = load_samples(tmp_path / "t.jsonl")
    assert [(one.scale, one.split, json.loads(one.metadata)["page"]) for one in found] == [
        *(("million", "adapt", "3"), ("million", "eval", "4")),
    ]
    said = aceslm("data", "import", "csv", path, "--output", "t.jsonl", "--question-column", "what",
                  "--answer-column", "gold", "--json")  # fmt: skip
    assert json.loads(said.out)["said"][0].startswith("answer type: number")


def test_a_csv_without_a_header_line_is_read_by_numbers_and_refused_without_the_option(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("Is it so?,no\nAnd this?,yes\n")
    for question, answer in (("c1", "c2"), ("1", "2")):
        report = import_dataset("csv", path, columns=Columns(question=question, answer=answer, header=False))
        assert [(one.question, one.answer) for one in report.samples] == [
            *(("Is it so?", "no"), ("And this?", "yes")),
        ]
        assert report.samples[0].sample_id.startswith("q-")
    with pytest.raises(DataError, match=r"no column 'question' .* without a header line: --no-header"):
        import_dataset("csv", path)
    with pytest.raises(DataError, match=r"no column 'c3' \(--answer-column\) \(known: c1, c2\)"):
        import_dataset("csv", path, columns=Columns(question="c1", answer="c3", header=False))
    with pytest.raises(UsageError, match="--no-header: only CSV files"):
        bring(tmp_path, asked(1), columns=Columns(header=False))


def test_choices_of_a_headerless_csv_stand_in_numbered_columns(tmp_path: Path) -> None:
    path = tmp_path / "mmlu_test.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["Find it.", "x", "y", "z", "w", "B"], ["And?", "1", "2", "3", "4", "D"]])
    columns = Columns(question="1", answer="6", choices_columns=("2", "3", "4", "5"), header=False)
    samples = import_dataset("csv", path, columns=columns).samples
    assert [(one.choices, one.answer) for one in samples] == [
        *((("x", "y", "z", "w"), "B"), (("1", "2", "3", "4"), "D")),
    ]


def test_a_column_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("question,answer,answer\na,b,c\n")
    with pytest.raises(DataError, match=r"line 1: the column 'answer' stands there twice"):
        import_dataset("csv", path)


def test_a_column_may_be_missing_in_some_records_but_not_in_all(tmp_path: Path) -> None:
    rows = asked(3)
    rows[1]["text"] = "A context."
    samples = bring(tmp_path, rows, columns=Columns(context="text")).samples
    assert [one.context for one in samples] == ["", "A context.", ""]
    with pytest.raises(DataError, match=r"no column 'texts' \(--context-column\) \(did you mean 'text'"):
        bring(tmp_path, rows, columns=Columns(context="texts"))


def test_paths_lead_into_objects_and_lists(tmp_path: Path) -> None:
    rows = [
        {"q": {"stem": f"Which {n}?", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}]},
         "answers": {"text": ["B", "A"]}, "a.b": "literal"}
        for n in range(2)
    ]  # fmt: skip
    columns = Columns(question="q.stem", answer="answers.text.0", choices="q.choices", metadata=("a.b",))
    samples = bring(tmp_path, rows, columns=columns).samples
    assert [(one.question, one.choices, one.answer) for one in samples] == [
        *(("Which 0?", ("x", "y"), "B"), ("Which 1?", ("x", "y"), "B")),
    ]
    assert json.loads(samples[0].metadata)["a.b"] == "literal"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "expected a list of records, or an object of them, found a text"),
        ({"a": [{"x": 1}], "b": [{"x": 1}]}, "an object with a, b: say which .* --records a"),
        ({"a": 1}, "--records a"),
        ([1], "record 1: expected an object"),
        ({}, "found an object"),
    ],
)
def test_a_json_file_of_another_shape_is_refused_in_words(value: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=message):
        import_dataset("json", path)


def test_broken_json_names_its_line_and_an_array_given_as_lines_names_the_kind(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('[{"question": 1},\n {"question" 2}]')
    with pytest.raises(DataError, match=r"mine\.json: line 2: broken JSON"):
        import_dataset("json", path)
    path.write_text(json.dumps(asked(2), indent=1))
    with pytest.raises(DataError, match="is a JSON array, not JSON lines: aceslm data import json"):
        import_dataset("jsonl", path)
    with pytest.raises(DataError, match=r"no key 'dat' \(--records dat\)"):
        import_dataset("json", path, columns=Columns(records="dat"))


def test_options_of_tables_are_refused_for_published_sets(tmp_path: Path) -> None:
    for options, flag in (
        ({"columns": Columns(choice_base=1)}, "--choice-base"),
        ({"columns": Columns(context_id="x")}, "--context-id-column"),
        ({"columns": Columns(choices_columns=("x",))}, "--choices-columns"),
        ({"answer_type": "span"}, "--answer-type"),
        ({"split_by_context": "adapt=0.5"}, "--split-by-context"),
    ):
        with pytest.raises(UsageError, match=f"{flag}: medqa has columns of its own"):
            import_dataset("medqa", tmp_path, **options)


# ---- contexts and splits


def table(contexts: int = 20, questions: int = 3, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "question": f"Question {n} of {c}?",
            "answer": f"word {n}",
            "context": f"Report {c} says so.",
            **more,
        }
        for c in range(contexts)
        for n in range(questions)
    ]


CONTEXT = Columns(context="context")


def test_questions_about_one_text_have_one_context(tmp_path: Path) -> None:
    rows = table()
    rows[1]["context"] = " Report 0  says so.\n"
    samples = bring(tmp_path, rows, columns=CONTEXT).samples
    assert sorted(Counter(one.context_id for one in samples).values()) == [3] * 20
    named = bring(tmp_path, table(doc="d"), columns=Columns(context="context", context_id="doc")).samples
    assert {one.context_id for one in named} == {"d"}


def test_a_task_file_without_context_ids_has_them_by_its_texts(tmp_path: Path) -> None:
    rows = [{**row, "id": f"s{n}"} for n, row in enumerate(table())]
    samples = load_samples(lines(tmp_path / "t.jsonl", rows))
    assert sorted(Counter(one.context_id for one in samples).values()) == [3] * 20
    assert [one.context_id for one in load_samples(lines(tmp_path / "u.jsonl", [
        {"id": f"s{n}", **row} for n, row in enumerate(asked(2))
    ]))] == ["", ""]  # fmt: skip


def by_context(report: ImportReport) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one in report.samples:
        found.setdefault(one.context, set()).add(one.split)
    return found


def test_whole_contexts_are_dealt_to_splits_by_a_seed(tmp_path: Path) -> None:
    shares = "adapt=0.3,validate=0.2"
    report = bring(tmp_path, table(), columns=CONTEXT, split_by_context=shares)
    splits = by_context(report)
    assert all(len(one) == 1 for one in splits.values())
    assert Counter(next(iter(one)) for one in splits.values()) == {"adapt": 6, "validate": 4, "eval": 10}
    shuffled = by_context(bring(tmp_path, table()[::-1], "other", columns=CONTEXT, split_by_context=shares))
    assert shuffled == splits
    other = by_context(bring(tmp_path, table(), columns=CONTEXT, split_by_context=shares, seed=1))
    assert other != splits
    assert any(
        "whole contexts, adapt=0.3,validate=0.2, the rest eval (seed 0)" in line for line in report.said
    )


def test_contexts_of_one_text_or_of_one_id_never_stand_in_two_splits(tmp_path: Path) -> None:
    rows = [{**row, "doc": f"d{n}"} for n, row in enumerate(table())]  # an id each, three share a text
    columns = Columns(context="context", context_id="doc")
    splits = by_context(bring(tmp_path, rows, columns=columns, split_by_context="adapt=0.5"))
    assert all(len(one) == 1 for one in splits.values())
    chained = [
        {**row, "context": f"{row['context']} Page {n}.", "doc": f"d{n // 30}"} for n, row in enumerate(rows)
    ]
    report = bring(tmp_path, chained, columns=columns, split_by_context="adapt=0.5")
    assert {(one.context_id, one.split) for one in report.samples} in (
        {("d0", "adapt"), ("d1", "eval")},
        {("d1", "adapt"), ("d0", "eval")},
    )


def test_questions_without_a_context_are_dealt_one_by_one_and_equal_ones_together(tmp_path: Path) -> None:
    rows = asked(20) + [{**row, "answer": "another"} for row in asked(20)]
    report = bring(tmp_path, rows, split_by_context="validate=0.5")
    splits: dict[str, set[str]] = {}
    for one in report.samples:
        splits.setdefault(one.question, set()).add(one.split)
    assert all(len(found) == 1 for found in splits.values())
    assert Counter(one.split for one in report.samples) == {"validate": 20, "eval": 20}


def test_an_imported_table_goes_to_ace_frozen_without_joining_files(aceslm: Command, tmp_path: Path) -> None:
    path = lines(tmp_path / "mine.jsonl", table(10))
    made = aceslm("data", "import", "jsonl", path, "--output", "task.parquet", "--context-column", "context",
                  "--split-by-context", "adapt=0.3,validate=0.2")  # fmt: skip
    assert made.status == 0, made.err
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "models: [scripted]\ntasks: [task.parquet]\nmodes: [scaffold, ace_frozen]\nace: {gate: true}\n"
    )
    ran = aceslm("submit", grid, "--cluster", "debug")
    assert ran.status == 0, ran.err
    (results,) = tmp_path.glob("results/grid-*/results.parquet")
    frame = pd.read_parquet(results)
    scored = frame[frame["split"] == "eval"]
    assert scored.groupby("mode")["context_id"].nunique().to_dict() == {"ace_frozen": 5, "scaffold": 5}


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ("adapt=0.3,valid=0.2", r"split 'valid' is not one of them \(did you mean 'validate'"),
        ("adapt=0.3,adapt=0.2", "split 'adapt' stands there twice"),
        ("adapt=half", r"the share of 'adapt' is a number between 0 and 1"),
        ("adapt", "the share of 'adapt' is a number"),
        ("adapt=30", "between 0 and 1"),
        ("adapt=nan", "between 0 and 1"),
        ("adapt=0.5,validate=0.5", "leave 0 of the contexts for eval"),
        ("adapt=0.3,eval=0.5", "leave 0.7 of the contexts for eval"),
        ("", "split '' is not one of them"),
    ],
)
def test_shares_that_make_no_splits_are_refused(shares: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shares_of(shares)


def test_shares_may_name_eval(tmp_path: Path) -> None:
    assert shares_of("adapt=0.3, validate=0.2, eval=0.5") == {"adapt": 0.3, "validate": 0.2}


def test_too_few_contexts_for_a_share_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 contexts are too few for a validate of 0\.1"):
        bring(tmp_path, table(3), columns=CONTEXT, split_by_context="adapt=0.3,validate=0.1")


def test_a_column_of_splits_is_read_as_published_and_must_be_filled(tmp_path: Path) -> None:
    rows = asked(4)
    for row, part in zip(rows, ("train", "Dev", "validation", "test"), strict=True):
        row["part"] = part
    report = bring(tmp_path, rows, columns=Columns(split="part"))
    assert [one.split for one in report.samples] == ["adapt", "validate", "validate", "eval"]
    with pytest.raises(DataError, match=r"line 2: split 'tset' is not one of them \(did you mean 'test'"):
        bring(tmp_path, [rows[0], {**rows[1], "part": "tset"}], columns=Columns(split="part"))
    for empty in ("", None):
        with pytest.raises(DataError, match=r"line 2: has no split, while others have one \('adapt'\)"):
            bring(tmp_path, [rows[0], {**rows[1], "part": empty}], columns=Columns(split="part"))
    with pytest.raises(DataError, match=r"context '.*' would be in two splits"):
        bring(
            tmp_path, [{**row, "text": "One."} for row in rows], columns=Columns(split="part", context="text")
        )
    for more in ({"split": "eval"}, {"split_by_context": "adapt=0.5"}):
        with pytest.raises(UsageError, match="exclude each other: give one"):
            bring(tmp_path, rows, columns=Columns(split="part"), **more)


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    report = bring(tmp_path, table(5), columns=CONTEXT, split_by_context="adapt=0.4")
    for name in ("t.jsonl", "t.parquet"):
        write_task(report.samples, tmp_path / name)
        assert load_samples(tmp_path / name) == report.samples
