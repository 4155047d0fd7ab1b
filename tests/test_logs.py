"""Logs are JSON lines that name shard and unit, without keys; the command reads them again."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Command, only_run

from aceslm.core.errors import BrokenModel, EngineError
from aceslm.core.logs import HIDDEN, ConsoleLines, JsonLines, about, redacted
from launch.node.log_files import read_lines, rendered


def line_of(message: str, **extra: Any) -> Any:
    record = logging.getLogger("aceslm.x").makeRecord("aceslm.x", 20, "f", 1, message, (), None, extra=extra)
    return json.loads(JsonLines().format(record))


def test_a_line_says_time_level_and_what_it_is_about() -> None:
    with about(shard="c000-p01-0003", attempt="7_0-r0"):
        line = line_of("hello", unit="u1")
    assert line["time"].endswith("+00:00")
    assert (line["level"], line["logger"], line["message"]) == ("INFO", "aceslm.x", "hello")
    assert (line["shard"], line["attempt"], line["unit"]) == ("c000-p01-0003", "7_0-r0", "u1")
    assert set(line_of("outside")) == {"time", "level", "logger", "message"}


def test_a_terminal_shows_the_message_of_an_error_and_the_traceback_of_a_bug() -> None:
    def shown(error: Exception) -> str:
        log = logging.getLogger("aceslm.x")
        return ConsoleLines().format(
            log.makeRecord("x", 40, "f", 1, "failed", (), (type(error), error, None))
        )

    assert shown(EngineError("no such device")) == "ERROR x: failed: no such device"
    assert shown(BrokenModel("cut off")) == "ERROR x: failed"  # the command ends with it
    assert "ZeroDivisionError" in shown(ZeroDivisionError("division by zero"))


@pytest.mark.parametrize(
    "secret",
    ["hf_AbCdEfGhIjKlMnOpQrStUv", "sk-AbCdEfGhIjKlMnOpQrStUv", "ghp_AbCdEfGhIjKlMnOpQrStUv"],
)
def test_what_looks_like_a_key_is_hidden(secret: str) -> None:
    assert redacted(f"401 for {secret}.") == f"401 for {HIDDEN}."


def test_keys_of_the_environment_and_of_addresses_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "plainlookingvalue")
    assert "plainlooking" not in line_of("refused: plainlookingvalue")["message"]
    assert redacted("see https://me:secret@host/x") == f"see https://{HIDDEN}@host/x"
    assert redacted("Authorization: Bearer abc.def") == f"Authorization: Bearer {HIDDEN}"
    assert redacted("monkeys and tokens") == "monkeys and tokens"


@pytest.mark.parametrize("cluster", ["local", "debug"])
def test_a_task_has_one_file_of_json_lines_with_shard_and_unit(
    cluster: str, aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACESLM_SCRIPTED_FAIL", "scurvy")
    assert aceslm("submit", grid_file, "--cluster", cluster).status == 0
    run = only_run(tmp_path)
    (file,) = (tmp_path / "logs" / run.name / "0001").glob("*.out")
    lines = [line for line in read_lines(file) if "level" in line]
    assert {line["shard"] for line in lines if "done" in line["message"]} == {
        path.name.split(".")[0] for path in (run / "shards").glob("*.done.json")
    }
    failed = pd.read_parquet(run / "results.parquet").query("error == error")
    failed = failed[failed["error"].str.contains("told to fail")]
    units = {line["unit"]: line["shard"] for line in lines if "unit" in line}
    assert units == dict(zip(failed["unit_id"], failed["shard"], strict=True))
    shard = failed["shard"].iloc[0]
    shown = aceslm("logs", f"results/{run.name}", "--shard", shard).out
    assert (
        f"no answer to sample medqa-tiny-1: the scripted engine was told to fail at 'scurvy'  [shard={shard}"
        in (shown)
    )
    as_json = json.loads(aceslm("logs", f"results/{run.name}", "--shard", shard, "--json").out)
    assert {line.get("shard") for line in as_json["lines"]} <= {None, shard}
    (listed,) = json.loads(aceslm("logs", f"results/{run.name}", "--json").out)
    assert (Path(listed["file"]).name, listed["errors"]) == (file.name, 0)
    assert listed["lines"] >= len(lines)


def test_the_root_logger_is_left_as_it_was(aceslm: Command, grid_file: Path) -> None:
    before = (logging.getLogger().level, list(logging.getLogger().handlers))
    aceslm("submit", grid_file, "--cluster", "debug")
    assert (logging.getLogger().level, list(logging.getLogger().handlers)) == before


def test_failed_shards_are_told_with_class_traceback_and_log(
    aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACESLM_SCRIPTED_RAISE", "scurvy")
    aceslm("submit", grid_file, "--cluster", "local")
    run = only_run(tmp_path)
    stories = json.loads(aceslm("logs", f"results/{run.name}", "--failed", "--json").out)
    assert {story["class"] for story in stories} == {"code"}
    for story in stories:
        assert "EngineError" in story["traceback"]
        (error,) = [line for line in story["log"] if line.get("shard") and line["level"] == "ERROR"]
        assert "told to break" in error["traceback"]
    text = aceslm("logs", f"results/{run.name}", "--failed").out
    assert text.count("== c") == len(stories)
    assert "   aceslm.core.errors.EngineError" in text


def test_a_shard_that_died_without_a_trace_shows_the_end_of_its_log(
    aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACESLM_SCRIPTED_RAISE", "scurvy")
    aceslm("submit", grid_file, "--cluster", "local")
    run = only_run(tmp_path)
    for path in (run / "attempts").glob("*/*.ended.json"):
        if json.loads(path.read_text())["class"] == "code":
            path.unlink()
    text = aceslm("logs", f"results/{run.name}", "--failed").out
    assert "no traceback: killed, node lost, or out of memory" in text
    assert "told to break" in text


def test_lines_of_others_are_shown_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "x.out"
    path.write_text('submitit INFO - starting\n{"time": "2026-01-01T10:00:00.000+00:00", "level": "WARN')
    assert [rendered(line) for line in read_lines(path)] == path.read_text().splitlines()


def test_a_key_in_an_error_reaches_neither_log_nor_attempt(
    aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACESLM_SCRIPTED_RAISE", "vitamin causes")  # stands in the error's message
    monkeypatch.setenv("WANDB_API_KEY", "vitamin causes")
    aceslm("submit", grid_file, "--cluster", "debug")
    run = only_run(tmp_path)
    kept = [*(run / "attempts").rglob("*.ended.json"), *(tmp_path / "logs").rglob("*.out")]
    assert any(HIDDEN in path.read_text() for path in kept)
    assert not [path for path in kept if "vitamin causes" in path.read_text()]
