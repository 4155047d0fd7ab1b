"""The declared comparison: written once, before the rows, with what had been scored by then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_ace_frozen import ACE, split_task

from aceslm.analysis.preregistration import primary_outcome, read_declaration
from aceslm.analysis.scored_before import scored_before
from aceslm.config.grid import GridConfig
from aceslm.core.digests import question_digest
from aceslm.core.errors import ConfigError, RunError
from aceslm.core.paths import RunPaths
from launch.prepare.run import Prepared, narrow, prepare, write_run
from launch.submit.local import LocalLauncher
from launch.verbs.results import merge_and_show


def prepared(folder: Path, **values: Any) -> Prepared:
    grid = {
        "models": ["scripted"],
        "tasks": [str(split_task(folder, "t0"))],
        "modes": ["scaffold", "ace_frozen"],
        "ace": ACE,
        "shard_size": 3,
        **values,
    }
    return prepare(GridConfig.model_validate(grid), folder / "results")


def primary(folder: Path, **values: Any) -> dict[str, Any]:
    return {"primary": {"task": str(folder / "t0.json"), "mode": "ace_frozen", **values}}


def asked_before(made: Prepared) -> dict[str, int]:
    """Return which runs have scored how many of the questions that a run would score."""
    samples = made.tasks[0].samples
    return scored_before(made.paths, [question_digest(s.question, s.context, s.choices) for s in samples])


def ran(made: Prepared) -> RunPaths:
    run, launcher = write_run(made), LocalLauncher("debug")
    launcher.start(run)
    launcher.wait(run, lambda _: None)
    return made.paths


def test_the_declared_comparison_stands_in_front_of_the_summary_and_is_judged_alone(tmp_path: Path) -> None:
    paths = ran(prepared(tmp_path, **primary(tmp_path)))
    merge_and_show(paths, as_json_=False)
    summary = paths.summary_md.read_text()
    assert summary.index("## Primary comparison") < summary.index("| model |")
    declared, outcome = primary_outcome(paths)
    assert "before any row, on 6 samples that no run beside it had scored" in declared
    assert "ace_frozen minus scaffold on t0" in outcome
    assert "n = 6 in 3 contexts" in outcome
    assert outcome in summary
    assert outcome in paths.report.read_text()


def test_a_declaration_is_never_changed(tmp_path: Path) -> None:
    modes = ["scaffold", "ace_frozen", "ace_neutral"]
    write_run(prepared(tmp_path, modes=modes, **primary(tmp_path)))
    again = prepared(tmp_path, modes=modes, **primary(tmp_path, mode="ace_neutral"))
    with pytest.raises(ConfigError, match=r"declared 'ace_frozen' on 't0' on .* another claim wants other"):
        write_run(again)
    known = read_declaration(again.paths)
    assert known is not None
    assert known.treatment == "ace_frozen"


def test_a_comparison_declared_after_the_rows_is_called_exploratory(tmp_path: Path) -> None:
    ran(prepared(tmp_path))
    paths = ran(prepared(tmp_path, **primary(tmp_path)))
    merge_and_show(paths, as_json_=False)
    assert "exploratory, 12 rows of this run were scored before it was declared" in primary_outcome(paths)[0]


def test_a_declaration_counts_which_of_its_samples_other_runs_have_scored(tmp_path: Path) -> None:
    earlier = ran(prepared(tmp_path, modes=["baseline"], limit=4))
    made = prepared(tmp_path, **primary(tmp_path))
    write_run(made)
    known = read_declaration(made.paths)
    assert known is not None
    assert known.scored_before == {earlier.root.name: 4}


def test_what_a_merge_has_shown_is_counted_when_its_run_is_gone(tmp_path: Path) -> None:
    earlier = ran(prepared(tmp_path, modes=["baseline"], limit=4))
    merge_and_show(earlier, as_json_=False)
    shutil.rmtree(earlier.root)
    assert asked_before(prepared(tmp_path, **primary(tmp_path))) == {earlier.root.name: 4}


@pytest.mark.parametrize("damaged", ["not json", "{}", '{"questions": 3}', '{"sample_ids": ["s1"]}', ""])
@pytest.mark.parametrize("gone", [False, True])
def test_a_damaged_record_of_looks_says_which_file_and_how_to_go_on(
    tmp_path: Path, damaged: str, gone: bool
) -> None:
    earlier = ran(prepared(tmp_path, modes=["baseline"], limit=4))
    merge_and_show(earlier, as_json_=False)
    if gone:
        shutil.rmtree(earlier.root)
    earlier.looks.write_text(damaged)
    made = prepared(tmp_path, **primary(tmp_path))
    with pytest.raises(RunError) as caught:
        asked_before(made)
    assert str(earlier.looks) in str(caught.value)
    assert "run the command again" not in str(caught.value)
    if gone:
        assert "its run is gone too" in str(caught.value)
        return
    assert f"delete it and type `aceslm aggregate {earlier.root}`" in str(caught.value)
    earlier.looks.unlink()
    merge_and_show(earlier, as_json_=False)
    assert asked_before(made) == {earlier.root.name: 4}


def rewritten(path: Path, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """Write a task file again under another name, each record changed."""
    other = path.parent / name
    other.write_text(json.dumps([change(record) for record in json.loads(path.read_text())]))
    return other


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"id": "other-{id}"},
        {"answer": "corrected"},
        {"context_id": ""},
        {"question": " {question}  "},
        {"scale": "million", "metadata": "{{}}"},
    ],
)
def test_neither_another_file_name_nor_other_ids_or_golds_make_a_question_fresh(
    tmp_path: Path, change: dict[str, str]
) -> None:
    earlier = ran(prepared(tmp_path, modes=["baseline"], limit=4))
    merge_and_show(earlier, as_json_=False)
    renamed = rewritten(
        tmp_path / "t0.json",
        "fresh.json",
        lambda one: {**one, **{key: text.format(**one) for key, text in change.items()}},
    )
    made = prepared(tmp_path, tasks=[str(renamed)])
    assert asked_before(made) == {earlier.root.name: 4}
    shutil.rmtree(earlier.root)
    assert asked_before(made) == {earlier.root.name: 4}


@pytest.mark.parametrize("change", [{"question": "Another: {question}"}, {"context": "Table of another."}])
def test_equal_ids_of_other_questions_are_no_looks(tmp_path: Path, change: dict[str, str]) -> None:
    ran(prepared(tmp_path, modes=["baseline"], limit=4))
    (tmp_path / "b").mkdir()
    other = rewritten(
        tmp_path / "t0.json",
        "b/t0.json",
        lambda one: {**one, **{key: text.format(**one) for key, text in change.items()}},
    )
    assert asked_before(prepared(tmp_path, tasks=[str(other)])) == {}


def test_a_run_whose_samples_are_gone_is_not_counted_as_one_that_scored_nothing(tmp_path: Path) -> None:
    earlier = ran(prepared(tmp_path, modes=["baseline"], limit=4))
    for path in earlier.root.glob("tasks/*.parquet"):
        path.unlink()
    with pytest.raises(RunError, match=r"tasks/.*\.parquet: the samples of this run are missing or damaged"):
        asked_before(prepared(tmp_path, **primary(tmp_path)))
    merge_and_show(earlier, as_json_=False)  # a merge goes without
    assert not earlier.looks.exists()


def test_skipped_samples_are_left_out_with_the_rest_of_their_context(tmp_path: Path) -> None:
    ran(prepared(tmp_path, modes=["baseline"], limit=1))
    made = prepared(tmp_path, skip=1, **primary(tmp_path))  # eval samples come in contexts of two
    assert made.tasks[0].table.sample_ids == ("t014", "t015", "t016", "t017")
    write_run(made)
    known = read_declaration(made.paths)
    assert known is not None
    assert (known.num_samples, known.scored_before) == (4, {})


def test_a_submission_without_the_declared_task_says_how_to_go_on(tmp_path: Path) -> None:
    grid = prepared(tmp_path, **primary(tmp_path)).grid
    with pytest.raises(ConfigError, match="run the whole grid, or add --set primary=null"):
        prepare(narrow(grid, modes=["scaffold"]), tmp_path / "results")


def test_skipping_everything_says_how_many_samples_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="skip: task 't0' has only 6 samples to score"):
        prepared(tmp_path, skip=6)


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"primary": {"task": "other"}}, "primary.task: 'other' is not in this grid"),
        ({"primary": {"task": "t", "mode": "ace"}}, "primary.mode: 'ace' is not in this grid"),
        ({"primary": {"task": "t", "variant": "x"}}, "primary.variant: 'x' is not in this grid"),
        ({"primary": {"task": "t"}, "modes": ["ace_frozen"]}, "needs a reference: add 'scaffold'"),
    ],
)
def test_a_primary_comparison_that_the_grid_cannot_make_is_refused(
    values: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        GridConfig.model_validate(
            {"models": ["m"], "tasks": ["t"], "modes": ["scaffold", "ace_frozen"], **values}
        )
