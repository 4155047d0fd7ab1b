"""Importers: small fixtures in the published formats always run; the published files, where they are."""

from __future__ import annotations

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT, Command

from aceslm.core.errors import DataError, UsageError
from aceslm.core.values import Sample
from aceslm.data import load_samples, task_digest
from aceslm.data.importers import IMPORTERS, Columns, ImportReport, import_dataset, write_task
from aceslm.data.importers.ai4i import RULES
from aceslm.data.importers.nab import render
from aceslm.data.importers.summary import dropped_summaries, split_summaries
from aceslm.data.importers.tatqa import markdown_table

PUBLIC = Path(os.environ.get("ACESLM_DATA") or ROOT.parent / "shared" / "data")


def published(name: str) -> Path:
    if not (PUBLIC / name).exists():
        pytest.skip(f"the published files are not here: {PUBLIC / name} (set ACESLM_DATA)")
    return PUBLIC / name


def metadata(sample: Sample) -> dict[str, Any]:
    return json.loads(sample.metadata)


def by_split(report: ImportReport) -> dict[str, int]:
    return dict(Counter(sample.split for sample in report.samples))


# ---- fixtures in the published formats


def tatqa_context(uid: str) -> dict[str, Any]:
    def question(name: str, kind: str, answer: Any, scale: str = "", derivation: str = "") -> dict[str, Any]:
        return {
            "uid": f"{uid}-{name}",
            "order": 1,
            "question": f"{name}?",
            "answer": answer,
            "derivation": derivation,
            "answer_type": kind,
            "answer_from": "table",
            "rel_paragraphs": [],
            "req_comparison": False,
            "scale": scale,
        }

    return {
        "table": {
            "uid": uid,
            "table": [["", "", "2019", ""], ["", "", "", ""], ["Sales|net", "", "$  5", "7 "]],
        },
        "paragraphs": [
            {"uid": "b", "order": 2, "text": "Second."},
            {"uid": "a", "order": 1, "text": "First (in millions)."},
        ],
        "questions": [
            question("span", "span", ["$5"], "million"),
            question("spans", "multi-span", ["cash", "debt", ""]),
            question("change", "arithmetic", -12.6, "percent", "(44.1-56.7)/56.7"),
            question("count", "count", "2"),
        ],
    }


def tatqa_folder(folder: Path) -> Path:
    dev = [tatqa_context(f"dev{n}") for n in range(10)]
    gold = [tatqa_context(f"gold{n}") for n in range(3)]
    (folder / "tatqa_dataset_dev.json").write_text(json.dumps(dev))
    (folder / "tatqa_dataset_test_gold.json").write_text(json.dumps(gold))
    return folder


def medqa_folder(folder: Path) -> Path:
    options = {"A": "Aspirin", "B": "Heparin", "C": "B", "D": "None of these"}
    dev = [
        {
            "id": n,
            "question": f"Which drug {n}?",
            "context": ["A man is ill.", "He coughs."],
            "options": options,
            "answer": "B",
            "answer_idx": "C",
            "facts": ["1. invented by a model"],
        }
        for n in range(5)
    ]
    test = [
        {
            "question": "Which?",
            "options": options,
            "answer": "Aspirin",
            "answer_idx": "A",
            "meta_info": "step1",
        }
    ]
    (folder / "mediq_dev.jsonl").write_text("\n".join(map(json.dumps, dev)))
    (folder / "phrases_test.jsonl").write_text("\n".join(map(json.dumps, test)))
    return folder


def formula_folder(folder: Path) -> Path:
    text = 'Use formula Current Ratio to answer the question. Question: "Find it.". Answer:'
    for part, target in (("train_subset", "2.0"), ("val_subset", "-15000000.0"), ("test", "not given")):
        rows = [{"context": text, "target": "1.5"}, {"context": text, "target": target}]
        (folder / f"formula_{part}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


AI4I_COLUMNS = [
    *(
        "UDI",
        "Product ID",
        "Type",
        "Air temperature [K]",
        "Process temperature [K]",
        "Rotational speed [rpm]",
    ),
    *("Torque [Nm]", "Tool wear [min]", "Machine failure", "TWF", "HDF", "PWF", "OSF", "RNF"),
]


def ai4i_file(folder: Path, rows: list[str] | None = None) -> Path:
    flags = ["0,0,0,0,0,0"] * 40 + ["1,0,1,0,0,0"] * 10 + ["1,0,0,1,0,0"] * 6 + ["0,0,0,0,0,1", "1,0,0,1,1,0"]
    flags.append("1,0,0,0,0,0")
    lines = rows or [f"{n},M{n},M,298.1,308.6,1551,42.8,{n},{flag}" for n, flag in enumerate(flags, 1)]
    path = folder / "ai4i.csv"
    path.write_text("\ufeff" + "\n".join([",".join(AI4I_COLUMNS), *lines]) + "\n", encoding="utf-8")
    return path


def nab_folder(folder: Path, series: int = 10, points: int = 100) -> Path:
    """Series of one value a minute; values 22 to 33 of each are an anomaly."""
    began = datetime(2014, 4, 1)
    labels = {}
    for number in range(series):
        name = f"real/series_{number}.csv"
        times = [began + timedelta(minutes=minute) for minute in range(points)]
        lines = [f"{time},{50.0 if 22 <= i < 34 else float(i % 5)}" for i, time in enumerate(times)]
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["timestamp,value", *lines]) + "\n")
        labels[name] = [[f"{times[22]}.000000", f"{times[33]}.000000"]]
    (folder / "labels").mkdir()
    (folder / "labels" / "combined_windows.json").write_text(json.dumps(labels))
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    "tatqa": tatqa_folder,
    "medqa": medqa_folder,
    "formula": formula_folder,
    "ai4i": ai4i_file,
    "nab": nab_folder,
}


# ---- what holds for every kind


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_written_reads_back_the_same_and_has_the_same_bytes_twice(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    source = MAKERS[kind](tmp_path)
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    report = import_dataset(kind, source, window=10)
    write_task(report.samples, first)
    write_task(import_dataset(kind, source, window=10).samples, second)
    assert load_samples(first) == report.samples
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("kind", MAKERS)
def test_the_same_data_in_another_folder_have_the_same_digest(kind: str, tmp_path: Path) -> None:
    digests = set()
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        digests.add(task_digest(import_dataset(kind, MAKERS[kind](tmp_path / name), window=10).samples))
    assert len(digests) == 1


@pytest.mark.parametrize("kind", MAKERS)
def test_every_sample_says_where_it_came_from_and_under_which_licence(kind: str, tmp_path: Path) -> None:
    report = import_dataset(kind, MAKERS[kind](tmp_path), window=10)
    origins = {(metadata(sample)["source"], metadata(sample)["licence"]) for sample in report.samples}
    assert origins == {(report.source, report.licence)}
    assert IMPORTERS[kind].source == report.source


@pytest.mark.parametrize("kind", MAKERS)
def test_a_named_split_takes_everything(kind: str, tmp_path: Path) -> None:
    report = import_dataset(kind, MAKERS[kind](tmp_path), split="validate", window=10)
    assert set(by_split(report)) == {"validate"}


@pytest.mark.parametrize("kind", ["tatqa", "ai4i", "nab"])
def test_another_seed_gives_other_splits_of_the_same_records(kind: str, tmp_path: Path) -> None:
    source = MAKERS[kind](tmp_path)
    reports = [import_dataset(kind, source, seed=seed, balance=False, window=10) for seed in (0, 1)]
    splits = [{sample.sample_id: sample.split for sample in report.samples} for report in reports]
    assert splits[0].keys() == splits[1].keys()
    assert splits[0] != splits[1]


def test_an_unknown_kind_or_split_names_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'tatqa'"):
        import_dataset("tat-qa", tmp_path)
    with pytest.raises(UsageError, match="did you mean 'validate'"):
        import_dataset("tatqa", tmp_path, split="validation")


# ---- TAT-QA


def test_a_tatqa_table_is_compact_markdown_followed_by_its_paragraphs_in_order(tmp_path: Path) -> None:
    sample = import_dataset("tatqa", tatqa_folder(tmp_path)).samples[0]
    assert sample.context == (
        "| | 2019 | |\n|---|---|---|\n| Sales\\|net | $ 5 | 7 |\n\nFirst (in millions).\n\nSecond."
    )
    assert markdown_table([]) == ""


def test_tatqa_gold_is_kept_as_published(tmp_path: Path) -> None:
    samples = import_dataset("tatqa", tatqa_folder(tmp_path)).samples[:4]
    assert [(s.answer_type, s.answer, s.scale) for s in samples] == [
        ("span", "$5", "million"),
        ("span", '["cash", "debt", ""]', ""),
        ("span", "-12.6", "percent"),
        ("span", "2", ""),
    ]
    assert [metadata(s)["answer_type"] for s in samples] == ["span", "multi-span", "arithmetic", "count"]
    assert metadata(samples[2])["derivation"] == "(44.1-56.7)/56.7"
    assert metadata(samples[2])["answer_from"] == "table"


def test_tatqa_dev_is_divided_by_table_and_the_test_file_is_evaluated(tmp_path: Path) -> None:
    report = import_dataset("tatqa", tatqa_folder(tmp_path))
    assert by_split(report) == {"adapt": 24, "validate": 16, "eval": 12}
    places = {(sample.context_id, sample.split) for sample in report.samples}
    assert len(places) == 13
    assert {context for context, split in places if split == "eval"} == {"gold0", "gold1", "gold2"}


def test_a_table_in_two_splits_is_refused(tmp_path: Path) -> None:
    tatqa_folder(tmp_path)
    (tmp_path / "tatqa_dataset_train.json").write_text(json.dumps([tatqa_context("gold1")]))
    for context in (shared := json.loads((tmp_path / "tatqa_dataset_train.json").read_text())):
        for question in context["questions"]:
            question["uid"] += "-again"
    (tmp_path / "tatqa_dataset_train.json").write_text(json.dumps(shared))
    with pytest.raises(DataError, match="context 'gold1' would be in two splits"):
        import_dataset("tatqa", tmp_path)


def test_a_tatqa_context_that_shares_a_paragraph_with_what_is_learnt_from_is_not_scored(
    tmp_path: Path,
) -> None:
    shared = "Revenue recognised in the period was restated after the acquisition of a subsidiary."
    for name, uids in (("dev", ["a", "b"]), ("test_gold", ["x", "y"])):
        contexts = [tatqa_context(uid) for uid in uids]
        contexts[0]["paragraphs"][1]["text"] = shared if name == "dev" else shared.upper().replace(" ", "  ")
        (tmp_path / f"tatqa_dataset_{name}.json").write_text(json.dumps(contexts))
    report = import_dataset("tatqa", tmp_path)
    assert {one.context_id for one in report.samples} == {"a", "b", "y"}
    assert [reason for _, reason in report.dropped] == [
        "its context shares text with one of the adapt or validate split"
    ] * 4
    alone = import_dataset("tatqa", tmp_path / "tatqa_dataset_test_gold.json")
    assert {one.context_id for one in alone.samples} == {"x", "y"}


def test_only_one_published_type_may_be_kept_and_the_samples_do_not_show_it(tmp_path: Path) -> None:
    report = import_dataset("tatqa", tatqa_folder(tmp_path), only="span")
    assert {metadata(one)["answer_type"] for one in report.samples} == {"span", "multi-span"}
    assert len(report.samples) + len(report.dropped) == 52
    assert {reason for _, reason in report.dropped} == {"published as arithmetic", "published as count"}
    computed = import_dataset("tatqa", tatqa_folder(tmp_path), only="number")
    assert {metadata(one)["answer_type"] for one in computed.samples} == {"arithmetic", "count"}
    with pytest.raises(UsageError, match="did you mean 'span'"):
        import_dataset("tatqa", tatqa_folder(tmp_path), only="spam")


def test_a_file_whose_name_says_no_role_needs_a_split(tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_text(json.dumps([tatqa_context("a")]))
    with pytest.raises(DataError, match="give --split adapt, validate or eval"):
        import_dataset("tatqa", path)
    assert by_split(import_dataset("tatqa", path, split="eval")) == {"eval": 4}


# ---- MedQA and Formula


def test_medqa_joins_the_case_to_its_question_and_keeps_the_published_order(tmp_path: Path) -> None:
    report = import_dataset("medqa", medqa_folder(tmp_path))
    dev, test = report.samples[0], report.samples[-1]
    assert dev.question == "A man is ill. He coughs. Which drug 0?"
    assert dev.choices == ("Aspirin", "Heparin", "B", "None of these")
    assert dev.answer == "C"  # although the option's text is another's letter
    assert "invented" not in str(dev)
    assert (test.answer, test.split, metadata(test)["exam"]) == ("A", "eval", "step1")
    assert by_split(report) == {"adapt": 3, "validate": 2, "eval": 1}


def test_formula_splits_as_shipped_and_a_target_that_is_no_number_is_dropped_with_its_reason(
    tmp_path: Path,
) -> None:
    report = import_dataset("formula", formula_folder(tmp_path))
    assert by_split(report) == {"adapt": 2, "validate": 2, "eval": 1}
    assert [sample.answer for sample in report.samples] == ["1.5", "2.0", "1.5", "-15000000.0", "1.5"]
    assert report.samples[0].question.endswith('Question: "Find it.".')
    assert metadata(report.samples[0])["formula"] == "Current Ratio"
    ((where, reason),) = report.dropped
    assert where.endswith("formula_test.jsonl: line 2")
    assert "'not given' is not a number" in reason


# ---- AI4I


def test_ai4i_rows_become_label_questions_with_their_rule(tmp_path: Path) -> None:
    report = import_dataset("ai4i", ai4i_file(tmp_path))
    sample = next(sample for sample in report.samples if sample.answer == "heat dissipation")
    assert sample.choices == ("none", "tool wear", "heat dissipation", "power", "overstrain", "random")
    assert sample.context.splitlines()[:2] == ["Product quality: M (medium)", "Air temperature: 298.1 K"]
    assert metadata(sample)["rule"] == RULES["heat dissipation"]
    assert "8.6" in RULES["heat dissipation"]


def test_ai4i_balances_in_every_split_and_lists_all_that_it_leaves_out(tmp_path: Path) -> None:
    report = import_dataset("ai4i", ai4i_file(tmp_path))
    for summary in split_summaries(report):
        assert summary.labels["none"] <= summary.labels["heat dissipation"]
    assert len(report.samples) + len(report.dropped) == report.totals["rows"] == 59
    reasons = {row.reason: row.records for row in dropped_summaries(report)}
    assert reasons["several failure modes at once"] == 1
    assert reasons["a failure without a published mode"] == 1
    everything = import_dataset("ai4i", ai4i_file(tmp_path), balance=False)
    assert len(everything.samples) == 57
    capped = import_dataset("ai4i", ai4i_file(tmp_path), per_label=1)
    assert all(set(summary.labels.values()) == {1} for summary in split_summaries(capped))


# ---- NAB


def test_nab_blocks_that_hold_half_an_anomaly_are_anomalous_and_blocks_that_touch_one_are_dropped(
    tmp_path: Path,
) -> None:
    report = import_dataset("nab", nab_folder(tmp_path, series=1), window=10, balance=False, split="eval")
    labels = {sample.sample_id[-5:]: sample.answer for sample in report.samples}
    # values 22..33: eight of them in the block at 20, four in the block at 30
    assert labels["00020"] == "anomalous"
    assert "00030" not in labels
    assert Counter(labels.values()) == {"normal": 8, "anomalous": 1}
    ((where, reason),) = report.dropped
    assert where.endswith("values 31 to 40")
    assert reason == "only touches an anomaly window"
    assert report.totals == {"series": 1, "points": 100, "windows": 1}


def test_nab_splits_are_by_series_and_blocks_never_overlap(tmp_path: Path) -> None:
    report = import_dataset("nab", nab_folder(tmp_path), window=10, balance=False)
    series = {(sample.context_id, sample.split) for sample in report.samples}
    assert Counter(split for _, split in series) == {"eval": 5, "adapt": 3, "validate": 2}
    assert len(series) == 10
    spans = sorted((s.context_id, metadata(s)["from"], metadata(s)["to"]) for s in report.samples)
    for (name, _, end), (next_name, start, _) in pairwise(spans):
        assert name != next_name or end < start


def test_a_rendered_block_shows_its_spike_and_only_the_past() -> None:
    values = [1.0] * 96
    values[41] = 1234567.0
    text = render(values, [0.0, 2.0])
    assert "Earlier values: count 2, mean 1, standard deviation 1, min 0, max 2" in text
    shown = text.rpartition(": ")[2].split(", ")
    assert len(shown) == 24
    assert shown.count("1.235e+06") == 1
    assert render([1.0], []).startswith("Earlier values: none\n")


# ---- tables by column mapping

ROWS: list[dict[str, Any]] = [
    {"q": "Is it so?", "gold": "no", "key": "r1", "text": "It is not.", "options": ["yes", "no"]},
    {"q": "And this?", "gold": "yes", "key": "r2", "text": "It is.", "options": ["yes", "no"]},
    {"q": "", "gold": "yes", "key": "r3", "text": "", "options": ["yes", "no"]},
    {"q": "Out of the options?", "gold": "maybe", "key": "r4", "text": "", "options": ["yes", "no"]},
]
MAPPING = Columns(question="q", answer="gold", id="key", context="text", choices="options")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows({**row, "options": json.dumps(row["options"])} for row in rows)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_any_table_is_imported_by_its_columns(kind: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / f"mine.{kind}", ROWS)
    report = import_dataset(kind, path, columns=MAPPING, domain="medical", split="eval")
    first = report.samples[0]
    assert (first.sample_id, first.question, first.answer, first.choices, first.context, first.domain) == (
        *("r1", "Is it so?", "B", ("yes", "no"), "It is not.", "medical"),
    )
    assert metadata(first)["source"] == f"mine.{kind}"
    assert len(report.samples) == 2
    assert report.dropped[0][1] == "no question"
    assert "'maybe'" in report.dropped[1][1]


def test_answers_may_be_numbers_of_choices_and_ids_may_be_missing(tmp_path: Path) -> None:
    rows = [
        {"question": "Which?", "answer": 1, "choices": {"text": ["x", "y"], "label": ["A", "B"]}},
        {"question": "Which?", "answer": 2, "choices": {"text": ["x", "y"], "label": ["A", "B"]}},
    ]
    path = write_rows(tmp_path / "mine.jsonl", rows)
    report = import_dataset("jsonl", path, columns=Columns(choices="choices", choice_base=0))
    assert [(s.sample_id[:2], s.answer, s.split) for s in report.samples] == [("q-", "B", "")]
    assert report.dropped[0][1] == "answer: there is no choice number 2"


def test_a_missing_column_names_the_option_and_the_nearest_column(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "mine.csv", ROWS)
    with pytest.raises(DataError, match=r"no column 'golds' \(--answer-column\) \(did you mean 'gold'\?\)"):
        import_dataset("csv", path, columns=Columns(question="q", answer="golds"))


def test_a_hub_dataset_that_cannot_be_reached_is_one_clear_error() -> None:
    with pytest.raises(DataError, match=r"hf://datasets/a/b/c\.csv: cannot be read: .*node with internet"):
        import_dataset("csv", "hf://datasets/a/b/c.csv")


def test_a_hub_file_is_read_through_the_hub_s_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "mine.parquet", ROWS)
    asked = []

    def open_(_: Any, name: str, mode: str) -> Any:
        asked.append((name, mode))
        return path.open("rb")

    monkeypatch.setattr("huggingface_hub.HfFileSystem.open", open_)
    report = import_dataset("parquet", "hf://datasets/a/b/c.parquet", columns=MAPPING)
    assert asked == [("hf://datasets/a/b/c.parquet", "rb")]
    assert (len(report.samples), report.source) == (2, "hf://datasets/a/b/c.parquet")


# ---- broken sources


def broken(kind: str, folder: Path) -> tuple[Path, str]:
    """Return a broken source, and the pattern that its error must match: file, record, what is wrong."""
    if kind == "tatqa":
        contexts = [tatqa_context("a"), tatqa_context("b")]
        del contexts[1]["questions"][2]["scale"]
        path = folder / "tatqa_dev.json"
        path.write_text(json.dumps(contexts))
        return path, r"tatqa_dev\.json: context 2, question 3: key 'scale' is missing"
    if kind == "medqa":
        medqa_folder(folder)
        path = folder / "mediq_dev.jsonl"
        path.write_text(path.read_text().replace('"answer_idx": "C"', '"answer_idx": "E"', 1))
        return path, r"mediq_dev\.jsonl: line 1: key 'answer_idx': 'E' is not one of A, B, C, D"
    if kind == "formula":
        path = folder / "formula_test.jsonl"
        path.write_text('{"context": "c", "target": "1"}\n{"context": "c", "tar')
        return path, r"formula_test\.jsonl: line 2: broken JSON"
    if kind == "ai4i":
        path = ai4i_file(
            folder, ["1,M1,M,298.1,308.6,1551,42.8,0,0,0,0,0,0,0", "2,M2,M,?,1,1,1,1,0,0,0,0,0,0"]
        )
        return path, r"ai4i\.csv: record 2: column 'Air temperature \[K\]': '\?' is not a number"
    path = nab_folder(folder, series=1) / "data" / "real" / "series_0.csv"
    path.write_text(path.read_text().replace("2014-04-01 00:02:00,2.0", "2014-04-01 00:02:00,nan"))
    return folder, r"series_0\.csv: record 3: not 'time,number'"


@pytest.mark.parametrize("kind", MAKERS)
def test_a_broken_source_names_file_and_record(kind: str, tmp_path: Path) -> None:
    source, message = broken(kind, tmp_path)
    with pytest.raises(DataError, match=message):
        import_dataset(kind, source)


@pytest.mark.parametrize("kind", [*MAKERS, "csv", "jsonl", "parquet"])
def test_a_source_that_is_not_there_or_is_not_text_is_a_data_error(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent"):
        import_dataset(kind, tmp_path / "absent")
    noise = tmp_path / "noise_test.bin"
    noise.write_bytes(b"\xff\xfe\x00PAR1\x80" * 40)
    with pytest.raises(DataError, match="noise_test"):
        import_dataset(kind, noise)


def test_a_table_of_which_nothing_can_be_used_is_an_error_that_quotes_the_first_reason(
    tmp_path: Path,
) -> None:
    path = write_rows(tmp_path / "mine.csv", [ROWS[2], ROWS[3]])
    with pytest.raises(DataError, match=r"no usable record, 2 dropped; the first: .*record 1: no question"):
        import_dataset("csv", path, columns=MAPPING)


# ---- the verb


def test_the_verb_writes_the_task_and_prints_what_it_holds(aceslm: Command, tmp_path: Path) -> None:
    result = aceslm("data", "import", "formula", formula_folder(tmp_path), "--output", "f.jsonl")
    assert result.status == 0, result.err
    assert "6 questions" in result.out
    assert "is not a number" in result.out
    assert len(load_samples(tmp_path / "f.jsonl")) == 5
    assert aceslm("submit", "--help").status == 0


def test_the_verb_counts_tokens_and_prints_json(aceslm: Command, tmp_path: Path) -> None:
    from tiny_models import tiny_tokenizer

    tiny_tokenizer().save_pretrained(tmp_path / "tok")
    folder = tatqa_folder(tmp_path)
    result = aceslm(
        "data", "import", "tatqa", folder, "--output", "t.parquet", "--tokenizer", "tok", "--json"
    )
    assert result.status == 0, result.err
    value = json.loads(result.out)
    assert [row["records"] for row in value["splits"]] == [24, 16, 12]
    assert all(row["tokens_p99"] >= row["tokens_p50"] > row["words_p50"] for row in value["splits"])
    assert (value["dropped_records"], value["licence"]) == ([], "CC BY 4.0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tatqa", "x", "--output", "t.csv"], "must end in .jsonl or .parquet"),
        (["tatqq", "x", "--output", "t.jsonl"], "did you mean 'tatqa'"),
        (["tatqa", "x", "--output", "t.jsonl"], "x: no such file or folder"),
        (["nab", "hf://datasets/a/b", "--output", "t.jsonl"], "nab reads the published files"),
    ],
)
def test_wrong_usage_of_the_verb_is_one_line_and_status_2(
    aceslm: Command, arguments: list[str], message: str
) -> None:
    result = aceslm("data", "import", *arguments)
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1


# ---- the published files


def test_the_published_tatqa_files_are_complete_and_share_no_table() -> None:
    dev = import_dataset("tatqa", published("tatqa/tatqa_dataset_dev.json"))
    gold = import_dataset("tatqa", published("tatqa/tatqa_dataset_test_gold.json"))
    assert (len(dev.samples), len(gold.samples)) == (1668, 1663)
    assert (dev.totals["contexts"], gold.totals["contexts"]) == (278, 277)
    assert dev.dropped == gold.dropped == ()
    kinds = Counter(metadata(sample)["answer_type"] for sample in dev.samples)
    assert kinds == {"arithmetic": 718, "span": 701, "multi-span": 217, "count": 32}
    contexts = {
        split: {s.context_id for s in (*dev.samples, *gold.samples) if s.split == split}
        for split in ("adapt", "validate", "eval")
    }
    assert {split: len(ids) for split, ids in contexts.items()} == {
        "adapt": 167,
        "validate": 111,
        "eval": 277,
    }
    assert len(set.union(*contexts.values())) == 555
    tables = [{s.context for s in r.samples} for r in (dev, gold)]
    assert not tables[0] & tables[1]


def test_the_published_medqa_and_formula_files_are_complete() -> None:
    medqa = import_dataset("medqa", published("medqa"))
    assert by_split(medqa) == {"adapt": 763, "validate": 509, "eval": 1273}
    formula = import_dataset("formula", published("formula"))
    assert by_split(formula) == {"adapt": 500, "validate": 300, "eval": 200}
    assert medqa.dropped == formula.dropped == ()


def test_the_published_ai4i_counts_and_rules_hold() -> None:
    counts = {"rows": 10_000, "failures": 339, "TWF": 46, "HDF": 115, "PWF": 95, "OSF": 98, "RNF": 19}
    report = import_dataset("ai4i", published("ai4i2020"), balance=False)
    assert report.totals == counts
    assert (len(report.samples), len(report.dropped)) == (9967, 33)
    rounded = 0
    for sample in report.samples:
        values = dict(line.split(": ") for line in sample.context.splitlines())
        quality = values.pop("Product quality")[0]
        air, process, rpm, torque, wear = (float(value.split()[0]) for value in values.values())
        power = torque * rpm * 2 * math.pi / 60
        strain = {"L": 11_000, "M": 12_000, "H": 13_000}[quality]
        assert (not 3500 <= power <= 9000) == (sample.answer == "power")
        assert (wear * torque > strain) == (sample.answer == "overstrain")
        if round(process - air, 1) == 8.6:  # the table is rounded: it may have been just below
            rounded += sample.answer == "heat dissipation"
        else:
            hot = process - air < 8.6 and rpm < 1380
            assert hot == (sample.answer == "heat dissipation")
    assert rounded == 12
    assert len(import_dataset("ai4i", published("ai4i2020")).samples) == 430


@pytest.mark.slow
def test_every_published_nab_window_has_an_anomalous_block() -> None:
    report = import_dataset("nab", published("nab"), balance=False)
    assert report.totals == {"series": 58, "points": 365_558, "windows": 116}
    windows = json.loads((published("nab") / "labels" / "combined_windows.json").read_text())
    spans: dict[str, list[tuple[datetime, datetime]]] = {}
    for sample in report.samples:
        if sample.answer == "anomalous":
            span = (metadata(sample)["from"], metadata(sample)["to"])
            spans.setdefault(sample.context_id, []).append(tuple(map(datetime.fromisoformat, span)))  # type: ignore[arg-type]
    covered = [
        any(low <= end and start <= high for start, end in spans[name])
        for name, pairs in windows.items()
        for low, high in (map(datetime.fromisoformat, pair) for pair in pairs)
    ]
    assert (len(covered), sum(covered)) == (116, 116)
    assert len({(s.context_id, s.split) for s in report.samples}) == 58
