"""What a file asks for, and what its golds mean: decided once for the file, said, or refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from aceslm.core.errors import DataError, UsageError
from aceslm.data import load_samples
from aceslm.data.importers import Columns, import_dataset, write_task
from aceslm.data.importers.base import ImportReport
from aceslm.tasks import build_messages


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def asked(golds: list[Any], **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"s{n}", "question": f"Q {n}?", "answer": gold, **more} for n, gold in enumerate(golds)]


def bring(folder: Path, rows: list[dict[str, Any]], **options: Any) -> ImportReport:
    return import_dataset("jsonl", lines(folder / "mine.jsonl", rows), **options)


# ---- answer types

GOLDS: list[tuple[list[Any], str]] = [
    (["$1,200", 3.5, "12%"], "number"),
    (["because", "it fell", "in Rome"], "span"),
    (["because", "1999", "in Rome"], "span"),
    ([["a", "b"], "c", "d"], "span"),
]


@pytest.mark.parametrize(("golds", "kind"), GOLDS)
@pytest.mark.parametrize("way", ["load", "import"])
def test_a_file_has_one_answer_type(way: str, golds: list[Any], kind: str, tmp_path: Path) -> None:
    rows = asked(golds)
    samples = (
        load_samples(lines(tmp_path / "t.jsonl", rows)) if way == "load" else bring(tmp_path, rows).samples
    )
    assert {one.answer_type for one in samples} == {kind}


@pytest.mark.parametrize("golds", [["1", "2", "none"], ["1", "2", "3", "a", "b"], ["1", "Paris"]])
@pytest.mark.parametrize("way", ["load", "import"])
def test_golds_of_which_most_are_numbers_are_refused_with_what_to_type(
    way: str, golds: list[str], tmp_path: Path
) -> None:
    with pytest.raises(
        DataError, match=r"answers are numbers and the others are not .* span: give"
    ) as caught:
        if way == "load":
            load_samples(lines(tmp_path / "t.jsonl", asked(golds)))
        else:
            bring(tmp_path, asked(golds))
    assert ("--answer-type" if way == "import" else "the key answer_type") in str(caught.value)
    first = next(n for n, gold in enumerate(golds, start=1) if not gold.isdigit())
    assert f"line {first}: '{golds[first - 1]}'" in str(caught.value)


@pytest.mark.parametrize("way", ["load", "import"])
def test_choices_in_some_records_only_are_refused(way: str, tmp_path: Path) -> None:
    rows = asked(["a", "b", "c"])
    rows[0]["choices"] = rows[2]["choices"] = ["a", "b", "c"]
    with pytest.raises(DataError, match=r"2 of 3 records have choices .* \(the first: line 2\)"):
        if way == "load":
            load_samples(lines(tmp_path / "t.jsonl", rows))
        else:
            bring(tmp_path, rows, columns=Columns(choices="choices"))
    if way == "import":
        report = bring(tmp_path, rows, columns=Columns(choices="choices"), answer_type="choice")
        assert (len(report.samples), report.dropped[0][1]) == (
            2,
            "answer_type 'choice' needs the key 'choices'",
        )
        report = bring(tmp_path, rows, columns=Columns(choices="choices"), answer_type="span")
        assert [(one.answer, one.choices) for one in report.samples] == [("a", ()), ("b", ()), ("c", ())]


def test_records_may_each_name_their_own_answer_type(tmp_path: Path) -> None:
    rows = asked(["18", "because", "a"])
    rows[2]["choices"] = ["a", "b"]
    for row, kind in zip(rows, ("number", "span", "label"), strict=True):
        row["answer_type"] = kind
    samples = load_samples(lines(tmp_path / "t.jsonl", rows))
    assert [one.answer_type for one in samples] == ["number", "span", "label"]
    report = bring(tmp_path, rows, columns=Columns(answer_type="answer_type", choices="choices"))
    assert [one.answer_type for one in report.samples] == ["number", "span", "label"]


def prompts(rows: list[dict[str, Any]], path: Path) -> list[Any]:
    return [build_messages(one, "") for one in load_samples(lines(path, rows))]


@pytest.mark.parametrize(
    ("golds", "corrected"),
    [
        (["18", "7", "9", "11"], "twelve"),
        (["18", "7", "9", "11"], "#### 18"),
        (["because", "it fell", "rain", "so"], "18"),
        (["because", "1", "2", "so", "x"], "3"),
    ],
)
def test_correcting_one_gold_never_silently_changes_what_is_asked(
    golds: list[str], corrected: str, tmp_path: Path
) -> None:
    before = prompts(asked(golds), tmp_path / "t.jsonl")
    try:
        after = prompts(asked([corrected, *golds[1:]]), tmp_path / "t.jsonl")
    except DataError as error:
        assert "answer_type" in str(error)
    else:
        assert before == after


def test_what_was_inferred_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aceslm.data"):
        load_samples(lines(tmp_path / "t.jsonl", asked(["1", "2"])))
    assert "t.jsonl: answer type number (all 2 answers are numbers)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "aceslm.data"):
        load_samples(lines(tmp_path / "t.jsonl", asked(["1", "2"], answer_type="span")))
    assert caplog.text == ""
    assert bring(tmp_path, asked(["so", "2", "x"])).said[0] == (
        "answer type: span (2 of 3 answers are no numbers; --answer-type says otherwise)"
    )
    few = bring(tmp_path, asked(["yes", "no"] * 8)).said
    assert any("--answer-type label would ask for one of them" in line for line in few)


def test_an_unknown_answer_type_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--answer-type: 'numbr' is no answer type \(did you mean 'number'"):
        bring(tmp_path, asked(["1"]), answer_type="numbr")


# ---- answers inside longer texts

RATIONALES = [
    ("She sold 24 clips in May.\nSo she sold 72.\n#### 72", "#### *(.+)", "72"),
    ("Therefore the total is $\\boxed{72}$.", r"\\boxed\{(.+)\}", "72"),
    ("We add both numbers and get more.\nThe answer is 72", "(?i)answer", "72"),
    ("Adding the two months gives the sum. Final answer: 72", "(?i)answer", "72"),
]


@pytest.mark.parametrize(("text", "regex", "answer"), RATIONALES)
@pytest.mark.parametrize("kind", [None, "number"])
def test_a_text_that_ends_in_its_answer_is_refused_with_what_extracts_it(
    kind: str | None, text: str, regex: str, answer: str, tmp_path: Path
) -> None:
    rows = asked([text, text.replace("72", "5"), "none of this"])
    with pytest.raises(DataError, match=r"2 of 3 answers are a text that ends in the answer") as caught:
        bring(tmp_path, rows, answer_type=kind)
    typed = str(caught.value).partition("--answer-regex '")[2].partition("'")[0]
    assert typed.startswith(regex)
    report = bring(tmp_path, rows, columns=Columns(answer_regex=typed))
    assert [one.answer for one in report.samples] == [answer, answer.replace("72", "5")]
    assert report.dropped == (
        (f"{tmp_path}/mine.jsonl: line 3", "answer: --answer-regex matches nothing in it"),
    )
    assert "found one in 2 of 3 records" in report.said[0]


def test_a_task_file_of_rationales_is_refused_with_the_import_to_type(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", asked(["so 9 * 2 = 18\n#### 18", "it is 4.\n#### 4"]))
    with pytest.raises(
        DataError, match=r"aceslm data import jsonl .*t\.jsonl --answer-regex '#### \*\(\.\+\)'"
    ):
        load_samples(path)
    lines(path, asked(["so 9 * 2 = 18\n#### 18"], answer_type="span"))
    assert load_samples(path)[0].answer_type == "span"


@pytest.mark.parametrize("answer", ["the answer of the board", "Answer: 12", "see page 4", "about # 5"])
def test_a_short_answer_is_no_rationale(answer: str, tmp_path: Path) -> None:
    assert load_samples(lines(tmp_path / "t.jsonl", asked([answer])))


@pytest.mark.parametrize(
    ("regex", "message"),
    [
        ("#### (.+", r"--answer-regex '#### \(\.\+': no regular expression: .* at character 6"),
        ("#### .+", r"put brackets around what is the answer"),
        ("[", "no regular expression"),
    ],
)
def test_a_bad_expression_says_what_is_wrong_with_it(regex: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        bring(tmp_path, asked(["x"]), columns=Columns(answer_regex=regex))


def test_the_last_match_counts_and_the_first_group_that_took_part(tmp_path: Path) -> None:
    rows = asked(["#### 1 no\n#### 2", "it is: 7", "####  "])
    columns = Columns(answer_regex=r"^#### *(.*)|: (.+)")
    report = bring(tmp_path, rows, columns=columns)
    assert [one.answer for one in report.samples] == ["2", "7"]
    assert [reason for _, reason in report.dropped] == ["answer: --answer-regex extracts nothing from it"]


def test_an_expression_that_matches_nowhere_is_an_error_that_names_the_first_record(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 dropped; the first: .*line 1: answer: --answer-regex matches"):
        bring(tmp_path, asked(["x", "y"]), columns=Columns(answer_regex="#### (.+)"))


# ---- letters, texts and numbers of choices

BLOOD = ["A", "B", "AB", "O"]


def groups(answers: list[Any], choices: Any = BLOOD, **more: Any) -> list[dict[str, Any]]:
    return asked(answers, choices=choices, **more)


def golds(folder: Path, rows: list[dict[str, Any]], **columns: Any) -> list[str]:
    report = bring(folder, rows, columns=Columns(choices="choices", **columns))
    return [one.choices[ord(one.answer) - ord("A")] for one in report.samples]


ORDERS: list[tuple[list[Any], Any, list[str]]] = [
    (["B", "AB", "O"], ["O", "B", "A", "AB"], ["B", "AB", "O"]),  # some can only be texts
    (["B", "D", "C"], ["O", "A", "AB", "B"], ["A", "B", "AB"]),  # some can only be letters
    (["A", "B"], ["A", "B", "O"], ["A", "B"]),  # both ways it is the same
    (["x", "B", "y"], ["x", "y", "z"], ["x", "y", "y"]),  # a mixed column without a contradiction
    ([1, 4, 2], ["x", "y", "z", "w"], ["x", "w", "y"]),
    ([0, 3, 2], ["x", "y", "z", "w"], ["x", "w", "z"]),
    (["0", "3"], ["x", "y", "z", "w"], ["x", "w"]),
    ([1.0, 4.0], ["x", "y", "z", "w"], ["x", "w"]),
    (["4", "8", "2"], ["2", "4", "6", "8"], ["4", "8", "2"]),
    (["b", "(C)", "D."], ["x", "y", "z", "w"], ["y", "z", "w"]),
    (["B", "D"], {"A": "x", "B": "y", "C": "z", "D": "w"}, ["y", "w"]),
    (["2", "4"], {"text": ["x", "y", "z", "w"], "label": ["1", "2", "3", "4"]}, ["y", "w"]),
    (["C", "A"], [{"key": "A", "value": "x"}, {"key": "B", "value": "y"}, {"key": "C", "value": "z"}],
     ["z", "x"]),
    (["A) x", "B) y"], ["A) x", "B) y"], ["x", "y"]),
    (["2", "1"], ["1) x", "2) y"], ["y", "x"]),
    (["A", "B"], ["B) y", "A) x"], ["x", "y"]),  # by their letters, not by their places
    (["B. cereus", "A. flavus"], ["B. cereus", "E. coli", "A. flavus"], ["B. cereus", "A. flavus"]),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "choices", "expected"), ORDERS)
def test_what_golds_mean_is_read_from_the_whole_column(
    answers: list[Any], choices: Any, expected: list[str], tmp_path: Path
) -> None:
    assert golds(tmp_path, groups(answers, choices)) == expected


AMBIGUOUS: list[tuple[list[Any], list[str]]] = [
    (["B", "A"], ["O", "A", "B", "AB"]),  # letters or blood groups
    (["AB", "B", "D"], ["O", "A", "B", "AB"]),  # one can only be a text, one only a letter
    ([1, 2], ["x", "y", "z", "w"]),  # from 0 or from 1
    ([0, 4, 2], ["x", "y", "z", "w"]),
]


@pytest.mark.parametrize(("answers", "choices"), AMBIGUOUS)
def test_golds_that_can_be_read_in_two_ways_are_refused_with_what_to_type(
    answers: list[Any], choices: list[str], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"cannot be told from the file: in line \d, .* give --answer-is"):
        golds(tmp_path, groups(answers, choices))


def test_what_golds_mean_can_be_said(tmp_path: Path) -> None:
    rows = groups(["B", "A"], ["O", "A", "B", "AB"])
    assert golds(tmp_path, rows, answer_is="letter") == ["A", "O"]
    assert golds(tmp_path, rows, answer_is="text") == ["B", "A"]
    assert golds(tmp_path, groups([1, 2]), choice_base=0) == ["B", "AB"]
    assert golds(tmp_path, groups([1, 2]), choice_base=1) == ["A", "B"]
    assert golds(tmp_path, groups([0, 2]), answer_is="index") == ["A", "AB"]


def test_an_import_whose_texts_are_letters_reads_back_the_same(tmp_path: Path) -> None:
    report = bring(
        tmp_path,
        groups(["B", "A"], ["O", "A", "B", "AB"]),
        columns=Columns(choices="choices", answer_is="text"),
    )
    assert [one.answer for one in report.samples] == ["C", "B"]
    for name in ("t.jsonl", "t.parquet"):
        write_task(report.samples, tmp_path / name)
        assert load_samples(tmp_path / name) == report.samples


def test_a_task_file_with_such_golds_is_refused_with_the_key_to_give(tmp_path: Path) -> None:
    rows = groups(["B", "A"], ["O", "A", "B", "AB"])
    path = lines(tmp_path / "t.jsonl", rows)
    with pytest.raises(DataError, match=r"line 1, 'B' is .* give the records the key answer_is"):
        load_samples(path)
    lines(path, [{**row, "answer_is": "letter"} for row in rows])
    assert [one.answer for one in load_samples(path)] == ["B", "A"]
    lines(path, [{**row, "answer_is": "txt"} for row in rows])
    with pytest.raises(DataError, match=r"key 'answer_is': 'txt' is not one of them \(did you mean 'text'"):
        load_samples(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"choice_base": 1}, "--choice-base 1: an answer can only name a choice where there are choices"),
        ({"answer_is": "letter"}, "--answer-is letter: an answer can only name"),
        ({"choices": "choices", "answer_is": "number"}, "is not one of them"),
        ({"choices": "choices", "choice_base": 0, "answer_is": "letter"}, "leave one out"),
        ({"choices": "choices", "labels": ("a", "b")}, "--choices-column and --labels exclude each other"),
        ({"choices": "choices", "choices_columns": ("a", "b")}, "exclude each other"),
    ],
)
def test_options_that_mean_nothing_together_are_refused(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        bring(tmp_path, groups(["A"]), columns=Columns(**columns))


def test_an_answer_that_names_no_choice_is_dropped_and_counted(tmp_path: Path) -> None:
    report = bring(
        tmp_path, groups(["B", "C", "Q", "D"], ["x", "y", "z", "w"]), columns=Columns(choices="choices")
    )
    assert len(report.samples) == 3
    assert report.dropped[0][1] == "answer: 'Q' is not the letter of a choice"
    report = bring(tmp_path, groups([1, 4, -1, 9]), columns=Columns(choices="choices"))
    assert [reason for _, reason in report.dropped] == [
        "answer: there is no choice number -1",
        "answer: there is no choice number 9",
    ]


def test_options_that_carry_letters_in_part_are_dropped_from_a_file_that_has_letters(tmp_path: Path) -> None:
    rows = groups(["A", "B", "A"], ["A) x", "B) y"])
    rows[1]["choices"] = ["A) x", "y"]
    report = bring(tmp_path, rows, columns=Columns(choices="choices"))
    assert len(report.samples) == 2
    assert report.dropped[0][1] == "choices: some carry letters and some do not, or not in order"


def test_letters_that_few_records_seem_to_carry_are_part_of_the_text(tmp_path: Path) -> None:
    rows = groups(["A. flavus", "x", "y"], ["x", "y"])
    rows[0]["choices"] = ["A. flavus", "B. cereus"]
    assert golds(tmp_path, rows) == ["A. flavus", "x", "y"]


def test_a_task_file_whose_choices_carry_letters_is_refused_with_the_import_to_type(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", groups(["A", "B"], ["A) x", "B) y"]))
    with pytest.raises(DataError, match=r"2 of 2 records carry letters of their own \('A\) x'\)") as caught:
        load_samples(path)
    assert f"aceslm data import jsonl {path} --choices-column choices" in str(caught.value)
    report = import_dataset("jsonl", path, columns=Columns(choices="choices"))
    assert [(one.choices, one.answer) for one in report.samples] == [(("x", "y"), "A"), (("x", "y"), "B")]


def test_a_few_numbers_as_answers_are_said_to_look_like_labels(tmp_path: Path) -> None:
    said = bring(tmp_path, asked([0, 1] * 8)).said
    assert any("--labels a,b,c with --choice-base 0 or 1 would ask for one of them" in line for line in said)


# ---- labels and many choices


def test_there_may_be_more_labels_than_letters(tmp_path: Path) -> None:
    names = [f"intent_{n}" for n in range(77)]
    rows = asked([names[n % 77] for n in range(154)])
    report = bring(tmp_path, rows, answer_type="label")
    assert report.samples[0].choices == tuple(sorted(names))
    assert report.said[0] == "labels: the 77 different answers of the file (--labels names others)"
    write_task(report.samples, tmp_path / "t.jsonl")
    assert load_samples(tmp_path / "t.jsonl") == report.samples
    given = bring(tmp_path, rows[:3], columns=Columns(labels=tuple(names)))
    assert [one.answer for one in given.samples] == names[:3]
    by_number = bring(tmp_path, asked([0, 76]), columns=Columns(labels=tuple(names), choice_base=0))
    assert [one.answer for one in by_number.samples] == ["intent_0", "intent_76"]


def test_answers_that_are_all_different_are_no_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="25 different answers in 25 records are no labels"):
        bring(tmp_path, asked([f"text {n}" for n in range(25)]), answer_type="label")


@pytest.mark.parametrize("way", ["load", "import"])
def test_more_choices_than_letters_are_refused_with_what_has_no_limit(way: str, tmp_path: Path) -> None:
    rows = asked(["c5", "c29"], choices=[f"c{n}" for n in range(30)])
    with pytest.raises(DataError, match=r"30 choices, but the letters end at Z \(26\): answer_type 'label'"):
        if way == "load":
            load_samples(lines(tmp_path / "t.jsonl", rows))
        else:
            bring(tmp_path, rows, columns=Columns(choices="choices"))
    labels = load_samples(lines(tmp_path / "t.jsonl", [{**row, "answer_type": "label"} for row in rows]))
    assert [one.answer for one in labels] == ["c5", "c29"]
