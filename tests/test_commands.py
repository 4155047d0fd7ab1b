"""Every row of the README's prototype-command table, and the verbs a user types first."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT, Command
from rich.console import Console

from launch.show import console

PROTOTYPE_COLUMNS = (
    "model_id task_name domain mode sample_id gold pred latency_ms question context correct "
    "reflection_latency_ms reflected"
).split()


def readme_commands() -> list[str]:
    """Return the commands of the prototype table."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| prototype |") :].split("\n\n")[0]
    return re.findall(r"`(aceslm [^`]+)`", table)


def test_the_table_names_every_prototype_command() -> None:
    verbs = [command.split()[1] for command in readme_commands()]
    assert verbs == ["run", "submit", "evolve", "summarize", "submit"]


@pytest.mark.slow
@pytest.mark.parametrize("command", readme_commands())
def test_each_command_of_the_prototype_table_runs(
    command: str, aceslm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("configs", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    aceslm("run", "--model-id", "scripted", "--task-name", "iot_tiny")
    words = shlex.split(command)[1:]
    if words[0] == "submit":
        words += ["--engine", "scripted", "--cluster", "debug"]
    if words[0] in {"run", "evolve"}:
        words[words.index("--model-id") + 1] = "scripted"
    result = aceslm(*words)
    assert result.status == 0, result.err


def test_run_writes_the_prototypes_columns_and_prints_accuracy_and_latency(
    aceslm: Command, tmp_path: Path
) -> None:
    result = aceslm(
        "run", "--model-id", "scripted", "--dataset-path", ROOT / "data/tasks/medqa_tiny.json",
        "--domain", "medical", "--mode", "baseline", "--output-path", "out.csv", "--limit", "3",
    )  # fmt: skip
    assert result.status == 0, result.err
    assert re.search(r"accuracy \d\.\d{3} \(\d/3\)  mean latency [\d.]+ ms", result.out)
    frame = pd.read_csv(tmp_path / "out.csv")
    assert list(frame.columns[:13]) == PROTOTYPE_COLUMNS
    assert frame["domain"].tolist() == ["medical"] * 3


def test_run_exports_only_the_samples_that_were_asked_for(aceslm: Command, tmp_path: Path) -> None:
    base = ("run", "--model-id", "scripted", "--task-name", "iot_tiny")
    aceslm(*base, "--limit", "4")
    result = aceslm(*base, "--limit", "2", "--output-path", "two.parquet")
    assert "already complete" in result.err
    assert "--fresh to redo" in result.err
    assert len(pd.read_parquet(tmp_path / "two.parquet")) == 2


def test_fresh_computes_again_and_keeps_the_old_rows(aceslm: Command, tmp_path: Path) -> None:
    base = ("run", "--model-id", "scripted", "--task-name", "iot_tiny")
    aceslm(*base)
    assert "already complete" not in aceslm(*base, "--fresh").err
    assert len(list((tmp_path / "results").glob("run-*.old/results.parquet"))) == 1


def test_status_lists_the_runs_and_says_what_to_type_when_there_are_none(
    aceslm: Command, grid_file: Path
) -> None:
    assert "aceslm submit configs/quickstart.yaml" in aceslm("status").out
    aceslm("submit", grid_file, "--cluster", "debug")
    assert "22/22 samples" in aceslm("status").out


@pytest.mark.parametrize(
    "verb",
    ["run", "submit", "status", "logs", "retry", "aggregate", "summarize", "prestage", "models", "tasks"],
)
def test_every_verb_has_help_with_an_example(verb: str, aceslm: Command) -> None:
    result = aceslm(verb, "--help")
    assert result.status == 0
    assert f"Example: aceslm {verb}" in " ".join(result.out.split())
    assert "--log-level" in result.out


def test_the_registries_are_listed(aceslm: Command) -> None:
    assert "microsoft/Phi-3-mini-4k-instruct" in aceslm("models").out
    assert "data/tasks/iot_tiny.json" in aceslm("tasks").out


def test_cell_text_is_shown_literally(aceslm: Command, tmp_path: Path) -> None:
    rows = "model_id,task_name,mode,correct,latency_ms\nm,[red]x[/red],baseline,1,1\n"
    (tmp_path / "r.csv").write_text(rows)
    assert "[red]x[/red]" in aceslm("summarize", "--input-dir", tmp_path).out.replace("\n", "")


def test_a_dataset_that_is_not_imported_says_how(
    aceslm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "root" / "data").mkdir()
    (tmp_path / "root" / "data" / "tasks").symlink_to(ROOT / "data" / "tasks")
    monkeypatch.setenv("ACESLM_ROOT", str(tmp_path / "root"))
    result = aceslm("run", "--model-id", "scripted", "--task-name", "medqa")
    assert result.status == 2
    assert "aceslm data import medqa FOLDER --output" in result.err
    assert "not imported" in aceslm("tasks").out


def test_names_stay_whole_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "HuggingFaceTB/SmolLM2-360M-Instruct-a-long-name"
    narrow = Console(width=60, file=io.StringIO(), highlight=False)
    monkeypatch.setattr(console, "out", lambda: narrow)
    console.print_table("t", ["model", "mode", "mean ms", "n"], [[name, "[b]", "1,695", "3"]], numeric=2)
    lines = narrow.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert f"{name}  [b]" in lines
    head, figures = lines[2], lines[4]
    assert (head.index(" ms") + 3, len(head)) == (figures.index("1,695") + 5, len(figures))


def test_a_table_that_fits_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Console(width=60, file=io.StringIO(), highlight=False)
    monkeypatch.setattr(console, "out", lambda: wide)
    console.print_table("t", ["model", "n"], [["m", "3"]], numeric=1)
    assert "│ m     │ 3 │" in wide.file.getvalue()  # type: ignore[attr-defined]


def test_help_is_wrapped_by_the_terminal_not_by_the_source(
    aceslm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert (
        "never computed twice, and what is queued or running is not submitted again."
        in aceslm("submit", "--help").out
    )


def test_run_in_mode_ace_never_pools_answers_before_and_after_learning(aceslm: Command) -> None:
    result = aceslm("run", "--model-id", "scripted", "--task-name", "medqa_tiny", "--mode", "ace")
    assert result.status == 0, result.err
    told = re.findall(r"(epoch \d(?: \(seen\))?): accuracy \d\.\d{3} \(\d/3\)", result.out)
    assert told == ["epoch 0", "epoch 1 (seen)", "epoch 2 (seen)"]
