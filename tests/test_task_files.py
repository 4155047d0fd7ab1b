"""Task files in a grid: names of their own, splits that are all there or none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Command, only_run

from aceslm.config.grid import GridConfig
from aceslm.core.errors import ConfigError, DataError
from launch.prepare.run import prepare
from launch.prepare.tasks import load_tasks


def task_file(path: Path, count: int = 2, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    where = "/".join(path.parts[-3:])
    rows = [
        {"id": f"s{n}", "question": f"Question {n} of {where}?", "answer": f"word {n}", **more}
        for n in range(count)
    ]
    path.write_text(json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows)))
    return path


def names(files: Sequence[Path]) -> list[str]:
    return [task.tables.name for task in load_tasks([str(path) for path in files])]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/test.json", "b/test.json"], ["a/test", "b/test"]),
        (["a/x/test.json", "b/x/test.json", "a/y/test.json"], ["a/x/test", "b/x/test", "y/test"]),
        (["a/test.json", "a/test.jsonl"], ["a/test.json", "a/test.jsonl"]),
        (["a/test.json", "a/dev.json"], ["test", "dev"]),
        (["a/test.json", "b/test.json", "c/other.json"], ["a/test", "b/test", "other"]),
    ],
)
def test_files_of_one_stem_are_told_apart_by_their_folders(
    paths: list[str], expected: list[str], tmp_path: Path
) -> None:
    assert names([task_file(tmp_path / path) for path in paths]) == expected


def test_a_file_named_like_a_registered_task_is_told_apart_from_it(tmp_path: Path) -> None:
    mine = task_file(tmp_path / "mine" / "medqa_tiny.json")
    loaded = load_tasks(["medqa_tiny", str(mine)])
    assert [task.tables.name for task in loaded] == ["medqa_tiny", "mine/medqa_tiny"]


def test_all_splits_of_a_task_have_its_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        path = task_file(tmp_path / folder / "test.json", 4)
        rows = json.loads(path.read_text())
        splits = ("adapt", "adapt", "validate", "eval")
        path.write_text(json.dumps([{**row, "split": s} for row, s in zip(rows, splits, strict=True)]))
    loaded = load_tasks([str(tmp_path / folder / "test.json") for folder in ("a", "b")])
    assert [{table.task_name for table in task.tables.tables} for task in loaded] == [{"a/test"}, {"b/test"}]


def test_two_files_of_one_stem_are_two_rows_of_the_summary(aceslm: Command, tmp_path: Path) -> None:
    files = [str(task_file(tmp_path / folder / "test.json")) for folder in ("a", "b")]
    grid = tmp_path / "grid.yaml"
    grid.write_text(f"models: [scripted]\ntasks: {json.dumps(files)}\nmodes: [baseline]\n")
    assert aceslm("submit", grid, "--cluster", "debug").status == 0
    summary = pd.read_csv(only_run(tmp_path) / "summary.csv")
    assert summary[["task_name", "num_samples"]].values.tolist() == [["a/test", 2], ["b/test", 2]]


def test_the_same_samples_under_two_names_are_refused(tmp_path: Path) -> None:
    path = task_file(tmp_path / "a.json")
    copy = tmp_path / "b.json"
    copy.write_text(path.read_text())
    grid = {"models": ["scripted"], "tasks": [str(path), str(copy)], "modes": ["baseline"]}
    with pytest.raises(ConfigError, match=r"a\.json' and '.*b\.json' hold the same samples"):
        prepare(GridConfig.model_validate(grid), tmp_path / "results")


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("empty", [None, "", "  "])
@pytest.mark.parametrize("place", [0, 2])
def test_a_sample_without_a_split_beside_samples_with_one_is_refused(
    suffix: str, empty: str | None, place: int, tmp_path: Path
) -> None:
    rows = [{"id": f"s{n}", "question": f"Q {n}?", "answer": f"word {n}", "split": "eval"} for n in range(3)]
    rows[place] = {**rows[place], "split": empty}  # type: ignore[dict-item]
    path = tmp_path / f"mine{suffix}"
    if suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
    word = "line" if suffix == ".jsonl" else "record"
    with pytest.raises(DataError) as caught:
        load_tasks([str(path)])
    message = str(caught.value)
    assert f"{path}: {word} {place + 1}: has no split" in message
    assert "adapt, validate or eval" in message


def test_the_records_without_a_split_are_counted(tmp_path: Path) -> None:
    path = task_file(tmp_path / "mine.json", 5)
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([{**row, "split": "adapt"} if n == 1 else row for n, row in enumerate(rows)]))
    with pytest.raises(DataError, match=r"record 1: has no split, .* \(4 such records\)"):
        load_tasks([str(path)])


def test_a_task_whose_splits_leave_nothing_to_score_names_itself(tmp_path: Path) -> None:
    path = task_file(tmp_path / "mine.json", 5, split="adapt")
    with pytest.raises(DataError, match=r"task 'mine': .*split 'eval'"):
        load_tasks([str(path)])
