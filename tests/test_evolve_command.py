"""`aceslm evolve`, and `aceslm run` with a playbook file."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from conftest import Command
from test_ace_frozen import split_task

from aceslm.ace.playbook import codec
from aceslm.ace.playbook.bullets import Playbook

EVOLVE = ("evolve", "--model-id", "scripted", "--set", "ace.reflect=all", "--set", "ace.round_size=4")


def test_an_epoch_is_a_file_the_versions_stand_beside_them_and_a_second_call_computes_nothing(
    aceslm: Command, tmp_path: Path
) -> None:
    command = (*EVOLVE, "--task-name", "iot_tiny", "--epochs", "2", "--output-dir", "out")
    result = aceslm(*command)
    assert result.status == 0, result.err
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "epoch_0.csv",
        "epoch_1.csv",
        "epoch_2.csv",
        "playbooks",
    ]
    epochs = [pd.read_csv(Path("out", f"epoch_{n}.csv")) for n in range(3)]
    assert [set(frame["mode"]) for frame in epochs] == [{"baseline"}, {"ace"}, {"ace"}]
    assert [len(frame) for frame in epochs] == [5, 5, 5]
    last = sorted(Path("out", "playbooks").iterdir())[-1]
    assert codec.load(last).shown
    assert "seen" in result.out
    again = aceslm(*command)
    assert "already complete" in again.err
    assert again.out == result.out


def test_a_task_with_splits_gets_the_held_out_curve(aceslm: Command, tmp_path: Path) -> None:
    result = aceslm(*EVOLVE, "--dataset-path", split_task(tmp_path, "t"), "--domain", "finance", "--json")
    assert result.status == 0, result.err
    lines = json.loads(result.out)
    modes = ["baseline", "scaffold", *["ace"] * 3, *["ace_frozen"] * 3]
    assert [line["mode"] for line in lines] == modes
    curve = [line for line in lines if line["mode"] == "ace_frozen"]
    assert [line["epoch"] for line in curve] == ["1", "2", "3"]
    assert {line["num_samples"] for line in lines} == {6}
    assert lines[2]["bullets"] > 0
    assert lines[2]["playbook_tokens"] > 0


def test_a_given_playbook_has_a_line_without_an_epoch(aceslm: Command, tmp_path: Path) -> None:
    codec.save(Path("mine.jsonl"), Playbook())
    task = ("--dataset-path", split_task(tmp_path, "t"), "--domain", "finance", "--epochs", "1", "--json")
    result = aceslm(*EVOLVE, *task, "--set", "ace.frozen_playbook=mine.jsonl")
    assert result.status == 0, result.err
    assert [(line["mode"], line["epoch"]) for line in json.loads(result.out)][-1] == ("ace_frozen", "-")


def test_run_starts_with_the_playbook_file_and_writes_the_last_version_back(
    aceslm: Command, tmp_path: Path
) -> None:
    command = ("run", "--model-id", "scripted", "--task-name", "iot_tiny", "--mode", "ace")
    first = aceslm(*command, "--playbook-path", "mine.jsonl")
    assert first.status == 0, first.err
    grown = codec.load(Path("mine.jsonl"))
    assert grown.shown
    assert aceslm(*command, "--playbook-path", "mine.jsonl").status == 0
    again = codec.load(Path("mine.jsonl"))
    assert {bullet.bullet_id for bullet in grown.shown} <= {bullet.bullet_id for bullet in again.shown}
    assert again.digest != grown.digest  # from an empty start it would learn the same again
    frozen = aceslm(*command[:-1], "ace_frozen", "--playbook-path", "mine.jsonl", "--output-path", "f.csv")
    assert frozen.status == 0, frozen.err
    assert len(pd.read_csv("f.csv")) == 5
    refused = aceslm(*command[:-1], "baseline", "--playbook-path", "mine.jsonl")
    assert refused.status == 2
    assert "--mode ace or ace_frozen, not with 'baseline'" in refused.err
    missing = aceslm(*command[:-1], "ace_frozen", "--playbook-path", "none.jsonl")
    assert missing.status == 2
    assert "ace.frozen_playbook: there is no file none.jsonl" in missing.err
