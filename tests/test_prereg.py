"""The declared comparison: written once, before the rows, with what had been scored by then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import report_runs
from test_ace_frozen import ACE, split_task
from test_comparisons import rows as comparison_rows

from aceslm.analysis.extensions import looked_at
from aceslm.analysis.preregistration import Declaration, primary_sentences, read_declaration
from aceslm.analysis.rows import read_rows
from aceslm.analysis.scored_before import scored_before
from aceslm.config.grid import GridConfig
from aceslm.core.digests import question_digest
from aceslm.core.errors import ConfigError, CorruptRun, RunError
from aceslm.core.files import read_json, write_json
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Plan, TaskTable
from aceslm.plan.files import load_plans, read_run
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


def outcome_of(paths: RunPaths) -> list[str]:
    return [line for line, _ in primary_sentences(read_run(paths), read_rows(paths.results))]


def test_the_declared_comparison_stands_in_front_of_the_summary_and_is_judged_alone(tmp_path: Path) -> None:
    paths = ran(prepared(tmp_path, **primary(tmp_path)))
    merge_and_show(paths, as_json_=False)
    summary = paths.summary_md.read_text()
    assert summary.index("## Primary comparison") < summary.index("| model |")
    declared, outcome = outcome_of(paths)
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
    assert "exploratory, 12 rows of this run were scored before it was declared" in outcome_of(paths)[0]


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


MODES = ("baseline", "scaffold", "ace_frozen")


def declared(folder: Path, count: int, **facts: Any) -> tuple[RunPaths, list[Plan]]:
    """A run directory of one task that declared its first `count` samples, with a plan over more of them."""
    cells = tuple(report_runs.cell_of(mode, task="t", split="eval") for mode in MODES)
    ids = tuple(f"s{number:03d}" for number in range(100))
    plan = Plan(1, "r", cells, (), (TaskTable("t", "t1", "finance", "eval", ids),))
    paths = RunPaths(folder / "r-1")
    made = Declaration("t", "ace_frozen", count, 1.8e9, "abc", 0, {})
    write_json(paths.prereg, asdict(replace(made, **facts)))
    return paths, [plan]


def answers(share: dict[str, list[int]], model: str = "m") -> pd.DataFrame:
    return pd.concat(
        [
            comparison_rows(mode, bits, model_id=model, sample_id=[f"s{n:03d}" for n in range(len(bits))])
            for mode, bits in share.items()
        ],
        ignore_index=True,
    )


def bits(right: int, count: int) -> list[int]:
    return [1] * right + [0] * (count - right)


def test_an_extended_run_is_judged_on_the_samples_it_was_declared_on(tmp_path: Path) -> None:
    """Twenty samples show nothing; eighty more would, and were added by somebody who had seen the twenty."""
    paths, plans = declared(tmp_path, 20)
    first = {"baseline": bits(5, 20), "scaffold": bits(5, 20), "ace_frozen": bits(7, 20)}
    assert len(primary_sentences(Run(paths, tuple(plans)), answers(first))) == 2
    later = {mode: known + [int(mode == "ace_frozen")] * 80 for mode, known in first.items()}
    said = primary_sentences(Run(paths, tuple(plans)), answers(later))
    assert "Extended after 20 samples were declared: the 80 that were added are not judged" in said[1][0]
    assert "skip=20" in said[1][0]
    assert "n = 20 in 20 contexts: no evidence of a difference" in said[2][0]
    assert not any(evidence for _, evidence in said)


def test_the_declared_treatment_must_beat_the_better_of_baseline_and_scaffold(tmp_path: Path) -> None:
    paths, plans = declared(tmp_path, 60)
    worse = {"baseline": bits(40, 60), "scaffold": bits(5, 60), "ace_frozen": bits(40, 60)}
    (_, (line, evidence)) = primary_sentences(Run(paths, tuple(plans)), answers(worse))
    assert "ace_frozen minus baseline (the better of baseline and scaffold) on t" in line
    assert "minus scaffold +0.583" in line
    assert line.endswith("no evidence of a difference.")
    assert not evidence
    better = {"baseline": bits(20, 60), "scaffold": bits(25, 60), "ace_frozen": bits(50, 60)}
    (_, (line, evidence)) = primary_sentences(Run(paths, tuple(plans)), answers(better))
    assert line.endswith("ace_frozen is better than scaffold, the better of baseline and scaffold.")
    assert evidence


def test_eight_models_under_one_declaration_share_holms_correction(tmp_path: Path) -> None:
    paths, plans = declared(tmp_path, 60)
    one = {"baseline": bits(20, 60), "scaffold": bits(20, 60), "ace_frozen": bits(27, 60)}
    ((_, _), (line, evidence)) = primary_sentences(Run(paths, tuple(plans)), answers(one))
    assert "p = 0.0156, n = 60" in line
    assert evidence
    frames = [answers(one, f"m{number}") for number in range(8)]
    said = primary_sentences(Run(paths, tuple(plans)), pd.concat(frames, ignore_index=True))[1:]
    assert len(said) == 8
    assert all("p = 0.0156, 0.1250 by Holm over 8 of them" in line for line, _ in said)
    assert not any(evidence for _, evidence in said)


def test_a_comparison_declared_after_its_rows_is_no_evidence(tmp_path: Path) -> None:
    paths, plans = declared(tmp_path, 60, rows_before=12)
    better = {"baseline": bits(20, 60), "scaffold": bits(20, 60), "ace_frozen": bits(50, 60)}
    assert not any(evidence for _, evidence in primary_sentences(Run(paths, tuple(plans)), answers(better)))


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("", "is not JSON"),
        ('{"task": "t", "treat', "is not JSON"),
        ("[]", "holds a list, not the keys task, treatment"),
        ("{}", "lacks the key 'task'"),
        (None, "has the unknown key 'extra'"),
        ("wrong", "key 'num_samples' holds 'many'"),
    ],
)
def test_a_damaged_declaration_says_what_is_damaged_and_what_helps(
    tmp_path: Path, damage: str | None, fault: str
) -> None:
    paths, plans = declared(tmp_path, 60)
    value = read_json(paths.prereg)
    if damage is None:
        damage = json.dumps({**value, "extra": 1})
    elif damage == "wrong":
        damage = json.dumps({**value, "num_samples": "many"})
    paths.prereg.write_text(damage)
    with pytest.raises(CorruptRun) as caught:
        primary_sentences(Run(paths, tuple(plans)), answers({"baseline": [1], "ace_frozen": [1]}))
    message = str(caught.value)
    assert message.startswith(f"{paths.prereg}: {fault}")
    assert "restore it from a copy of the run directory" in message
    assert f"aceslm aggregate {paths.root}" in message
    assert "move it away and run" not in message


def test_a_raised_limit_is_said_in_the_table_of_an_undeclared_run(tmp_path: Path) -> None:
    ran(prepared(tmp_path, limit=2))
    paths = ran(prepared(tmp_path))
    merge_and_show(paths, as_json_=False)
    assert looked_at(load_plans(paths)) == {"t0": 2}
    words = "t0: extended after 2 samples had been looked at"
    assert words in paths.summary_md.read_text()
    assert words in paths.report.read_text()


def test_what_is_planned_again_is_no_extension(tmp_path: Path) -> None:
    write_run(prepared(tmp_path))
    plans = load_plans(RunPaths(next((tmp_path / "results").glob("grid-*"))))
    again = replace(plans[0], number=2, shards=tuple(replace(one, shard_id="x") for one in plans[0].shards))
    assert looked_at([*plans, again]) == {}


def test_what_follows_a_pilot_is_no_extension_and_a_raised_limit_after_it_is(tmp_path: Path) -> None:
    write_run(prepared(tmp_path, limit=2))
    (pilot,) = load_plans(RunPaths(next((tmp_path / "results").glob("grid-*"))))
    pilot = replace(pilot, is_pilot=True)
    whole = replace(pilot, is_pilot=False, shards=(replace(pilot.shards[0], ranges=((2, 4),)),))
    more = replace(whole, shards=(replace(pilot.shards[0], ranges=((4, 6),)),))
    assert looked_at([pilot, whole]) == {}
    assert looked_at([pilot, whole, more]) == {"t0": 4}


def test_a_record_of_looks_that_cannot_be_read_costs_a_merge_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = ran(prepared(tmp_path, limit=2))
    paths.looks.parent.mkdir(exist_ok=True)
    paths.looks.write_text('{"run": "x", "sample_ids": ["a"]}')
    merge_and_show(paths, as_json_=False)
    assert paths.report.exists()
    assert "of another version" in caplog.text
