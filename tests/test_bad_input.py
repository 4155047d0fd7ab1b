"""What a user sees after wrong input: one line that names the place and the way out, and the exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Command
from tiny_models import CHAT_TEMPLATE

GRID = "models: [scripted]\ntasks: [medqa_tiny]\nmodes: [baseline]\n"
SUBMIT = ("submit", "grid.yaml", "--cluster", "debug")


def grid(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "grid.yaml").write_text(text) and None


def task(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "t.json").write_text(text) and None


def nothing(_: Path) -> None:
    pass


def model_folder_without_weights(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")


def model_folder_with_pickled_weights(folder: Path) -> None:
    model_folder_without_weights(folder)
    (folder / "model" / "pytorch_model.bin").write_bytes(b"x")
    (folder / "model" / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def run_directory_with_a_broken_plan(folder: Path) -> None:
    (folder / "results" / "x" / "plans").mkdir(parents=True)
    (folder / "results" / "x" / "plans" / "0001.json").write_text("{")


def run_directory_of_another_version(folder: Path) -> None:
    run_directory_with_a_broken_plan(folder)
    (folder / "results" / "x" / "plans" / "0001.json").write_text('{"number": 1}')


def plain_folder(folder: Path) -> None:
    (folder / "plain").mkdir()


def results_is_a_file(folder: Path) -> None:
    grid(GRID)(folder)
    (folder / "results").write_text("")


RUN = ("run", "--model-id", "scripted", "--task-name", "medqa_tiny")

WRONG: dict[str, tuple[Callable[[Path], None], tuple[str, ...], int, str]] = {
    # configuration
    "no such grid": (
        grid(GRID),
        ("submit", "grids.yaml"),
        2,
        "grids.yaml: no such file (did you mean 'grid.yaml'?)",
    ),
    "broken YAML": (grid("models: [a\ntasks: b"), SUBMIT, 2, "grid.yaml:2: not valid YAML"),
    "not a mapping": (grid("- a"), SUBMIT, 2, "grid.yaml: expected `key: value` lines, found list"),
    "unknown key": (
        grid(GRID + "shardsize: 3"),
        SUBMIT,
        2,
        "unknown key 'shardsize' (did you mean 'shard_size'?)",
    ),
    "unknown nested key": (
        grid(GRID + "generation: {temprature: 1}"),
        SUBMIT,
        2,
        "unknown key 'generation.temprature' (did you mean 'temperature'?)",
    ),
    "missing key": (
        grid("models: [scripted]\nmodes: [baseline]"),
        SUBMIT,
        2,
        "grid.yaml: key 'tasks' is missing",
    ),
    "empty list": (grid(GRID.replace("[scripted]", "[]")), SUBMIT, 2, "key 'models': "),
    "wrong type": (grid(GRID + "limit: many"), SUBMIT, 2, "key 'limit': Input should be a valid integer"),
    "negative limit": (grid(GRID + "limit: -1"), SUBMIT, 2, "key 'limit': "),
    "unknown mode": (grid(GRID.replace("baseline", "basline")), SUBMIT, 2, "did you mean 'baseline'?"),
    "no adapt split": (
        grid(GRID.replace("baseline", "ace_frozen")),
        SUBMIT,
        2,
        "task 'medqa_tiny' has none: give its samples a split (adapt, eval), or use mode 'ace'",
    ),
    "no playbook file": (
        grid(GRID.replace("baseline", "ace") + "ace: {playbook: none.jsonl}"),
        SUBMIT,
        2,
        "ace.playbook: there is no file none.jsonl",
    ),
    "variant without a label": (
        grid(GRID.replace("baseline", "ace") + "variants: [{ace: {gate: true}}]"),
        SUBMIT,
        2,
        "each entry of 'variants' needs a label of its own",
    ),
    "unknown key of a variant": (
        grid(GRID.replace("baseline", "ace") + "variants: [{label: a, ace: {gates: true}}]"),
        SUBMIT,
        2,
        "variant 'a': unknown key 'gates' (did you mean 'gate'?)",
    ),
    "unknown quantization": (grid(GRID + "quantization: [int4]"), SUBMIT, 2, "'int4' is not one of them"),
    "repeated value": (grid(GRID + "seeds: [1, 1]"), SUBMIT, 2, "key 'seeds': 1 is listed twice"),
    "copies": (grid(GRID + "seeds: [0, 1]"), SUBMIT, 2, "would be copies of one result"),
    "bad name": (grid(GRID + "name: ../up"), SUBMIT, 2, "key 'name'"),
    "bad override": (grid(GRID), (*SUBMIT, "--set", "limit"), 2, "--set limit: expected key=value"),
    "unknown override": (grid(GRID), (*SUBMIT, "--set", "ace.epoch=2"), 2, "did you mean 'epochs'?"),
    "override into a value": (
        grid(GRID + "limit: 3"),
        (*SUBMIT, "--set", "limit.x=1"),
        2,
        "'limit' holds a value",
    ),
    # models
    "unknown model": (grid(GRID), (*SUBMIT, "--model-id", "phi3-min"), 2, "did you mean 'phi3-mini'?"),
    "unknown model in a rehearsal": (
        grid(GRID),
        (*SUBMIT, "--model-id", "phi3-min", "--engine", "scripted"),
        2,
        "did you mean 'phi3-mini'?",
    ),
    "hub model not fetched": (
        grid(GRID),
        (*SUBMIT, "--model-id", "qwen3-0.6b"),
        1,
        "aceslm prestage --model-id qwen3-0.6b",
    ),
    "gated model not fetched": (grid(GRID), (*SUBMIT, "--model-id", "llama-3.2-1b"), 1, "set HF_TOKEN first"),
    "embedded model not fetched": (
        grid(GRID),
        (*SUBMIT, "--model-id", "smollm2-135m-gguf"),
        1,
        "is not in the cache yet: aceslm prestage --model-id smollm2-135m-gguf",
    ),
    "no such model folder": (
        grid(GRID),
        (*SUBMIT, "--model-id", "./model"),
        2,
        "model folder ./model does not exist",
    ),
    "model folder without weights": (
        model_folder_without_weights,
        (*RUN[:1], "--model-id", "model", *RUN[3:]),
        2,
        "has no .safetensors file",
    ),
    "model folder with pickled weights only": (
        model_folder_with_pickled_weights,
        (*RUN[:1], "--model-id", "./model", *RUN[3:]),
        2,
        "has no .safetensors file",
    ),
    "model folder without config": (
        plain_folder,
        ("run", "--model-id", "plain", *RUN[3:]),
        2,
        "no config.json",
    ),
    # tasks and data
    "unknown task": (grid(GRID), (*SUBMIT, "--task-name", "medqa_tin"), 2, "did you mean 'medqa_tiny'?"),
    "no such task file": (
        nothing,
        ("run", "--model-id", "scripted", "--dataset-path", "t.json"),
        2,
        "no such file",
    ),
    "broken task file": (
        task('[{"id": 1,\n}]'),
        ("run", "--model-id", "scripted", "--dataset-path", "t.json"),
        2,
        "t.json:2: broken JSON",
    ),
    "task without answers": (
        task('[{"id": 1, "question": "q"}]'),
        ("run", "--model-id", "scripted", "--dataset-path", "t.json"),
        2,
        "t.json: record 1: key 'answer' is missing",
    ),
    # options
    "neither task nor file": (nothing, ("run", "--model-id", "scripted"), 2, "either --task-name"),
    "both task and file": (nothing, (*RUN, "--dataset-path", "t.json"), 2, "either --task-name"),
    "bad output name": (nothing, (*RUN, "--output-path", "out.xlsx"), 2, "must end in .csv or .parquet"),
    "unknown cluster": (
        grid(GRID),
        ("submit", "grid.yaml", "--cluster", "slrum"),
        2,
        "did you mean 'slurm'?",
    ),
    "unknown engine": (grid(GRID), (*SUBMIT, "--engine", "generat"), 2, "did you mean 'generate'?"),
    "unknown option": (nothing, ("run", "--modle-id", "x"), 2, "--modle-id"),
    "bad log level": (nothing, ("models", "--log-level", "loud"), 2, "'loud' is not one of debug"),
    "nothing to prestage": (nothing, ("prestage",), 2, "aceslm prestage configs/quickstart.yaml"),
    # run directories
    "no such run": (
        nothing,
        ("status", "results/none"),
        1,
        "results/none does not exist: `aceslm status` lists",
    ),
    "not a run": (
        plain_folder,
        ("aggregate", "plain"),
        1,
        "plain is not a run directory (no plans/0001.json)",
    ),
    "broken plan": (run_directory_with_a_broken_plan, ("retry", "results/x"), 1, "0001.json: not valid JSON"),
    "plan of another version": (
        run_directory_of_another_version,
        ("status", "results/x"),
        1,
        "this is not a plan of this version",
    ),
    "results is a file": (results_is_a_file, SUBMIT, 1, "cannot make the run directory"),
    "nothing to summarise": (
        plain_folder,
        ("summarize", "--input-dir", "plain"),
        2,
        "no CSV or Parquet file with",
    ),
    "no folder to summarise": (nothing, ("summarize", "--input-dir", "absent"), 2, "no such folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gets_one_clear_line(
    case: str, aceslm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("ACESLM_CACHE", str(tmp_path / "cache"))
    prepare, command, status, message = WRONG[case]
    prepare(tmp_path)
    result = aceslm(*command)
    shown = " ".join(result.err.replace("│", " ").split())
    assert message in shown
    assert result.status == status
    assert "Traceback" not in result.err
    lines = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(lines) <= 1
    assert not list((tmp_path / "results").glob("*/submissions")) if (tmp_path / "results").is_dir() else True


def test_debug_shows_the_traceback(aceslm: Command) -> None:
    assert "Traceback" in aceslm("status", "results/none", "--debug").err


def test_a_token_never_reaches_files_or_output(
    aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    monkeypatch.setenv("WANDB_API_KEY", "wandbsecret")
    result = aceslm("submit", grid_file, "--cluster", "local", "--log-level", "debug")
    assert "secret" not in result.out + result.err
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"secret" not in path.read_bytes(), path


def test_json_output_is_json(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    submitted = aceslm("submit", grid_file, "--cluster", "debug", "--json")
    assert len(json.loads(submitted.out)) == 6
    for verb in (["models"], ["tasks"], ["status"], ["summarize", "--input-dir", "results"]):
        json.loads(aceslm(*verb, "--json").out)
