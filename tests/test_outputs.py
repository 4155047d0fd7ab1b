"""What a command writes never replaces what it reads, nor a file that is somebody else's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from conftest import Command, only_run

from aceslm.ace.playbook import codec
from aceslm.ace.playbook.bullets import Playbook
from aceslm.core.errors import UsageError
from launch.prepare.outputs import column_names, refuse_foreign, refuse_inputs

CSV = "id,question,answer\n1,What is 1 + 1?,2\n2,What is 2 + 2?,4\n"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "sums.csv"
    path.write_text(CSV)
    return path


def run(aceslm: Command, dataset: Path, output: str | Path, *more: str | Path) -> tuple[int, str]:
    result = aceslm(
        "run", "--model-id", "scripted", "--dataset-path", dataset, "--output-path", output, *more
    )
    return result.status, result.err


NAMES = ["sums.csv", "./sums.csv", "x/../sums.csv", "link.csv", "hard.csv", "linked/sums.csv", "ABSOLUTE"]


@pytest.mark.parametrize("name", NAMES)
def test_rows_never_replace_the_dataset_whatever_it_is_called(
    name: str, aceslm: Command, dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "link.csv").symlink_to(dataset)
    os.link(dataset, tmp_path / "hard.csv")
    (tmp_path / "linked").symlink_to(tmp_path)
    output = str(dataset) if name == "ABSOLUTE" else name
    status, err = run(aceslm, dataset, output)
    assert status == 2
    assert (
        f"--output-path {Path(output)} is what is read (--dataset-path {dataset}) and would be replaced"
        in err
    )
    assert dataset.read_text() == CSV
    assert not (tmp_path / "results").exists()


def test_the_output_is_told_from_a_dataset_that_is_a_link_to_it(
    aceslm: Command, dataset: Path, tmp_path: Path
) -> None:
    link = tmp_path / "task.csv"
    link.symlink_to(dataset)
    assert run(aceslm, link, "sums.csv")[0] == 2
    assert dataset.read_text() == CSV


def test_rows_never_replace_the_file_of_a_task_given_by_name(aceslm: Command, dataset: Path) -> None:
    result = aceslm("run", "--model-id", "scripted", "--task-name", "sums.csv", "--output-path", "sums.csv")
    assert result.status == 2
    assert "is what is read (--task-name sums.csv)" in result.err
    assert dataset.read_text() == CSV


def test_a_playbook_is_not_written_over_the_dataset_or_the_rows(
    aceslm: Command, dataset: Path, tmp_path: Path
) -> None:
    ace = ("--mode", "ace", "--playbook-path")
    status, err = run(aceslm, dataset, "out.csv", *ace, dataset)
    assert status == 2
    assert "--playbook-path" in err
    assert run(aceslm, dataset, "out.csv", *ace, tmp_path / "out.csv")[0] == 2
    assert dataset.read_text() == CSV
    assert not (tmp_path / "results").exists()


def test_rows_are_not_written_into_a_file_of_a_run(aceslm: Command, dataset: Path, tmp_path: Path) -> None:
    assert run(aceslm, dataset, "out.csv")[0] == 0
    results = only_run(tmp_path) / "results.parquet"
    before = results.read_bytes()
    status, err = run(aceslm, dataset, results)
    assert status == 2
    assert f"is a file of the run {results.parent.name}" in err
    assert results.read_bytes() == before


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_replace_rows_and_nothing_else(
    suffix: str, aceslm: Command, dataset: Path, tmp_path: Path
) -> None:
    output = tmp_path / f"out{suffix}"
    assert run(aceslm, dataset, output)[0] == 0
    assert run(aceslm, dataset, output)[0] == 0  # our own rows
    output.write_bytes(b"")
    assert run(aceslm, dataset, output)[0] == 0  # an empty file, as mktemp makes it
    for content in (b"name,phone\nA,1\n", b"\x00\x01\x02", b"not a table"):
        output.write_bytes(content)
        status, err = run(aceslm, dataset, output)
        assert status == 2
        assert "exists and does not hold result rows: give another name, or move it away first" in err
        assert output.read_bytes() == content


def test_rows_of_the_prototype_are_replaced(aceslm: Command, dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    output.write_text("model_id,task_name,mode,sample_id,gold,pred,correct,latency_ms\n")
    assert run(aceslm, dataset, output)[0] == 0


@pytest.mark.parametrize("folder_or_file", ["folder", "file"])
def test_an_output_that_cannot_be_made_is_said_before_the_work(
    folder_or_file: str, aceslm: Command, dataset: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    if folder_or_file == "folder":
        output.mkdir()
    else:
        output.write_text("")
        output = output / "below.csv"
    status, err = run(aceslm, dataset, output)
    assert status == 2
    assert "folder" in err
    assert not (tmp_path / "results").exists()


def test_evolve_replaces_neither_its_dataset_nor_its_playbook_nor_a_foreign_file(
    aceslm: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    (folder / "playbooks").mkdir(parents=True)
    dataset, given = folder / "epoch_1.csv", folder / "playbooks" / "v0000.jsonl"
    dataset.write_text(CSV)
    evolve = ("evolve", "--model-id", "scripted", "--output-dir", folder, "--epochs", "1")
    result = aceslm(*evolve, "--dataset-path", dataset)
    assert result.status == 2
    assert "epoch_1.csv is what is read (--dataset-path" in result.err
    result = aceslm(*evolve, "--task-name", "iot_tiny")
    assert result.status == 2
    assert "epoch_1.csv exists and does not hold result rows" in result.err
    assert dataset.read_text() == CSV
    dataset.unlink()
    codec.save(given, Playbook())
    result = aceslm(*evolve, "--task-name", "iot_tiny", "--set", f"ace.playbook={given}")
    assert result.status == 2
    assert "v0000.jsonl is what is read (ace.playbook" in result.err
    given.write_text('{"mine": 1}')
    result = aceslm(*evolve, "--task-name", "iot_tiny")
    assert result.status == 2
    assert "v0000.jsonl exists and does not hold a playbook" in result.err
    assert not (tmp_path / "results").exists()


def test_evolve_says_which_files_in_its_folder_are_of_an_earlier_evolution(
    aceslm: Command, tmp_path: Path
) -> None:
    evolve = ("evolve", "--model-id", "scripted", "--task-name", "iot_tiny", "--output-dir", "out")
    assert aceslm(*evolve, "--epochs", "2").status == 0
    for path in (tmp_path / "out").rglob("*.*"):
        os.utime(path, (1e9, 1e9))
    result = aceslm(*evolve, "--epochs", "1")
    assert result.status == 0
    assert "of an earlier evolution, and left as they were: out/epoch_2.csv" in result.err
    assert "epoch_1.csv" not in result.err


def test_a_summary_replaces_a_summary_and_nothing_else(
    aceslm: Command, dataset: Path, tmp_path: Path
) -> None:
    assert run(aceslm, dataset, "rows/out.csv")[0] == 0
    rows = (tmp_path / "rows" / "out.csv").read_text()
    summarize = ("summarize", "--input-dir", "rows")
    result = aceslm(*summarize, "--output-path", "rows/out.csv")
    assert result.status == 2
    assert "--output-path rows/out.csv exists and does not hold a summary" in result.err
    assert (tmp_path / "rows" / "out.csv").read_text() == rows
    for _ in range(2):
        assert aceslm(*summarize).status == 0
    (tmp_path / "README.md").write_text("# My notes\n")
    result = aceslm(*summarize, "--output-path", "README.csv")
    assert result.status == 2
    assert "README.md exists and does not hold the page of a summary" in result.err
    assert (tmp_path / "README.md").read_text() == "# My notes\n"
    assert not (tmp_path / "README.csv").exists()
    result = aceslm(*summarize, "--output-path", "summary.md")
    assert result.status == 2
    assert "must end in .csv" in result.err


def test_the_summary_of_a_run_directory_may_be_made_again(
    aceslm: Command, dataset: Path, tmp_path: Path
) -> None:
    assert run(aceslm, dataset, "out.csv")[0] == 0
    assert aceslm("summarize", "--input-dir", only_run(tmp_path)).status == 0


def test_a_merged_playbook_replaces_none_of_those_it_is_made_of(aceslm: Command, tmp_path: Path) -> None:
    for name in ("one.jsonl", "two.jsonl", "base.jsonl", "other.jsonl"):
        codec.save(tmp_path / name, Playbook())
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "two.jsonl")
    merge = ("playbook", "merge", "one.jsonl", "two.jsonl", "--base", "base.jsonl", "--output")
    for name in ("one.jsonl", "./two.jsonl", "link.jsonl", "base.jsonl"):
        result = aceslm(*merge, name)
        assert result.status == 2
        assert f"--output {Path(name)} is what is read" in result.err
    assert aceslm(*merge, "other.jsonl").status == 0
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": 1, "question": "q", "answer": "a"}))
    result = aceslm(*merge, "rows.jsonl")
    assert result.status == 2
    assert "--output rows.jsonl exists and does not hold a playbook" in result.err


def test_a_report_replaces_a_page_and_nothing_else(aceslm: Command, dataset: Path, tmp_path: Path) -> None:
    assert run(aceslm, dataset, "out.csv")[0] == 0
    folder = only_run(tmp_path)
    for output in ("page.html", "page.html", folder / "report.html"):
        assert aceslm("report", folder, "--output", output).status == 0
    for output in (dataset, folder / "results.csv", folder / "config.yaml"):
        before = output.read_bytes()
        assert aceslm("report", folder, "--output", output).status == 2
        assert output.read_bytes() == before


def test_a_file_inside_a_folder_that_is_read_is_not_replaced(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.jsonl").write_text("{}")
    with pytest.raises(UsageError, match=r"is a file of SRC \(SRC .*source\)"):
        refuse_inputs("--output", source / "train.jsonl", {"SRC": source, "--other": None})
    refuse_inputs("--output", source / "new.jsonl", {"SRC": source})
    refuse_inputs("--output", tmp_path / "new.jsonl", {"SRC": source})


def test_two_names_for_a_file_that_is_not_there_yet_are_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError):
        refuse_inputs(
            "--output", tmp_path / "a" / ".." / "new.csv", {"--playbook-path": tmp_path / "new.csv"}
        )


def test_columns_are_read_of_csv_and_parquet_alike(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1], "b, c": ["x"]})
    frame.to_csv(tmp_path / "f.csv", index=False, encoding="utf-8-sig")
    frame.to_parquet(tmp_path / "f.parquet")
    for name in ("f.csv", "f.parquet"):
        assert column_names(tmp_path / name) == {"a", "b, c"}
    assert column_names(tmp_path / "absent.csv") == set()
    refuse_foreign("--output", tmp_path / "absent.csv", lambda _: False, "rows")
