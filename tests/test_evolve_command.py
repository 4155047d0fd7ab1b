"""`aceslm evolve`, and `aceslm run` with a playbook file."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import Command, only_run
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


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "seeds=[0, 1]",
            "--set seeds=...: evolve shows how one playbook evolves, and these would be 2",
        ),
        ("seeds=[0, 1, 2]", "would be 3"),
        ("quantization=[none, int8]", "--set quantization=..."),
        ("models=[scripted, smollm2-135m]", "--set models=..."),
        (
            "variants=[{label: a, ace: {round_size: 2}}, {label: b, ace: {round_size: 3}}]",
            "--set variants=...",
        ),
        (
            "modes=[baseline]",
            "--set modes=[baseline]: evolve shows how a playbook evolves: put 'ace' among them",
        ),
        ("modes=[scaffold, ace_frozen]", "put 'ace' among them"),
        ("tasks=[iot_tiny, medqa_tiny]", "--set tasks=...: `aceslm evolve` has one task"),
    ],
)
def test_settings_that_make_no_playbook_or_several_are_refused_before_any_work(
    aceslm: Command, tmp_path: Path, override: str, words: str
) -> None:
    result = aceslm(*EVOLVE, "--task-name", "iot_tiny", "--epochs", "1", "--set", override)
    assert result.status == 2, result.err
    assert words in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("override", "modes"),
    [
        ("seeds=[5]", ["baseline", "scaffold", "ace"]),
        ("modes=[ace]", ["ace"]),
        ("modes=[ace, scaffold]", ["ace", "scaffold"]),
        ("variants=[{label: a, ace: {round_size: 2}}]", ["baseline", "scaffold", "ace"]),
        ("name=mine", ["baseline", "scaffold", "ace"]),
        ("ace.workers=2", ["baseline", "scaffold", "ace"]),
    ],
)
def test_settings_that_leave_one_playbook_are_shown(
    aceslm: Command, tmp_path: Path, override: str, modes: list[str]
) -> None:
    command = (*EVOLVE, "--task-name", "iot_tiny", "--epochs", "1", "--json", "--set", override)
    result = aceslm(*command)
    assert result.status == 0, result.err
    assert [line["mode"] for line in json.loads(result.out)] == modes
    assert only_run(tmp_path).name.startswith("mine-" if override == "name=mine" else "evolve-")


@pytest.mark.parametrize("modes", ["[baseline, ace, ace_frozen]", "[ace, ace_neutral]", "[ace, ace_placebo]"])
def test_modes_that_carry_a_playbook_have_their_lines(aceslm: Command, tmp_path: Path, modes: str) -> None:
    task = ("--dataset-path", split_task(tmp_path, "t"), "--domain", "finance", "--epochs", "1", "--json")
    result = aceslm(*EVOLVE, *task, "--set", f"modes={modes}")
    assert result.status == 0, result.err
    shown = {line["mode"] for line in json.loads(result.out)}
    assert shown == {*modes.strip("[]").split(", "), "ace_frozen"}
