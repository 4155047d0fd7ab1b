from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Command

from aceslm.analysis.comparisons import NO_EVIDENCE, Comparison, ComparisonTable, compare_modes
from aceslm.analysis.statistics.paired import holm
from aceslm.analysis.summary import summarize
from aceslm.analysis.tables import markdown


def rows(mode: str, correct: Sequence[int], **columns: Any) -> pd.DataFrame:
    """Result rows of one mode; the outputs tell seeds apart."""
    frame = pd.DataFrame(
        {
            "model_id": "m",
            "quantization": "none",
            "task_name": "t",
            "mode": mode,
            "seed": 0,
            "epoch": 0,
            "split": "eval",
            "sample_id": [f"s{number:05d}" for number in range(len(correct))],
            "correct": correct,
            "pred": [f"{mode} {bit}" for bit in correct],
            "latency_ms": 1.0,
        }
    )
    return frame.assign(**columns)


def compare(*frames: pd.DataFrame, **options: Any) -> ComparisonTable:
    return compare_modes(pd.concat(frames, ignore_index=True), **options)


def names(table: Sequence[Comparison]) -> list[str]:
    return [f"{one.treatment} - {one.reference}" for one in table]


def test_the_claim_is_ace_minus_scaffold() -> None:
    modes = ("baseline", "ace_frozen", "scaffold", "ace", "ace_shuffled")
    table = compare(*(rows(mode, [1, 0, 1]) for mode in modes))
    assert set(names(table.fresh)) == {
        "scaffold - baseline",
        "ace - scaffold",
        "ace_frozen - scaffold",
        "ace_shuffled - scaffold",
    }
    assert table.notes == ()


def test_without_a_scaffold_the_baseline_is_the_reference() -> None:
    assert names(compare(rows("baseline", [1, 0]), rows("ace", [1, 1])).fresh) == ["ace - baseline"]
    assert compare(rows("ace", [1, 0]), rows("ace_frozen", [1, 1])).fresh == ()


def test_models_quantizations_tasks_and_epochs_are_compared_each_for_itself() -> None:
    frames = [
        rows(mode, [1, 0, int(mode == "ace")], model_id=model, quantization=quantization, task_name=task)
        for mode in ("scaffold", "ace")
        for model in ("m", "n")
        for quantization in ("none", "nf4")
        for task in ("t", "u")
    ]
    later = [rows(mode, [1, 1, 1], epoch=1) for mode in ("scaffold", "ace")]
    table = compare(*frames, *later)
    places = {(one.model_id, one.quantization, one.task_name, one.epoch) for one in table.fresh}
    assert len(table.fresh) == len(places) == 9
    assert all(one.result.num_samples == 3 for one in table.fresh)


def test_a_planted_difference_is_found_and_named() -> None:
    rng = np.random.default_rng(1)
    scaffold = (rng.uniform(size=300) < 0.5).astype(int)
    better = np.where(rng.uniform(size=300) < 0.25, 1, scaffold)
    worse = np.where(rng.uniform(size=300) < 0.25, 0, scaffold)
    noise = (rng.uniform(size=300) < 0.5).astype(int)
    table = compare(
        rows("scaffold", scaffold.tolist()),
        rows("ace", better.tolist()),
        rows("ace_frozen", worse.tolist()),
        rows("ace_shuffled", noise.tolist()),
    )
    verdicts = {one.treatment: one.verdict for one in table.fresh}
    assert verdicts == {
        "ace": "ace is better",
        "ace_frozen": "scaffold is better",
        "ace_shuffled": NO_EVIDENCE,
    }
    found = next(one.result for one in table.fresh if one.treatment == "ace")
    assert found.difference == pytest.approx(better.mean() - scaffold.mean())
    assert found.interval is not None
    assert 0 < found.interval.low < found.difference < found.interval.high


def test_holm_runs_over_all_comparisons_of_the_table() -> None:
    rng = np.random.default_rng(3)
    frames = [
        rows(mode, (rng.uniform(size=30) < rate).astype(int).tolist(), task_name=task)
        for task in ("t", "u", "v")
        for mode, rate in (("baseline", 0.2), ("scaffold", 0.4), ("ace", 0.7))
    ]
    table = compare(*frames)
    assert len(table.fresh) == 6
    assert [one.holm_p for one in table.fresh] == holm([one.result.p_value for one in table.fresh])
    assert any(one.holm_p > one.result.p_value for one in table.fresh)


def test_a_difference_within_few_tables_is_no_evidence() -> None:
    contexts = np.repeat(np.arange(4), 10)
    table = compare(
        rows("scaffold", [0] * 40, context_id=contexts), rows("ace", [1] * 40, context_id=contexts)
    )
    assert (table.fresh[0].result.num_samples, table.fresh[0].result.num_contexts) == (40, 4)
    assert table.fresh[0].verdict == f"{NO_EVIDENCE} (too few contexts to show one)"
    assert compare(rows("scaffold", [0] * 40), rows("ace", [1] * 40)).fresh[0].verdict == "ace is better"


def test_failed_rows_stay_in_the_denominator() -> None:
    failed = {"error": ["out of memory", None, None, None], "parsed": [False, True, True, True]}
    table = compare(rows("scaffold", [1, 1, 0, 0]), rows("ace", [0, 1, 1, 0]).assign(**failed))
    assert table.fresh[0].result.num_samples == 4
    assert table.fresh[0].result.difference == 0.0


def test_rows_of_the_adapt_split_never_enter_a_comparison() -> None:
    table = compare(
        rows("scaffold", [1, 0]),
        rows("ace_frozen", [1, 0]),
        rows("ace_frozen", [1, 1, 1], split="adapt", sample_id=["a1", "a2", "a3"]),
    )
    assert table.fresh[0].result.num_samples == 2
    assert table.notes == ()


def test_a_copy_under_greedy_decoding_is_refused_not_pooled() -> None:
    copy = [rows("scaffold", [1, 0, 1, 0], seed=seed) for seed in (0, 1, 2)]
    table = compare(*copy, rows("ace", [1, 1, 1, 0]))
    assert table.fresh == compare(copy[0], rows("ace", [1, 1, 1, 0])).fresh
    assert table.fresh[0].result.mcnemar is not None
    assert [note.partition(": ")[2] for note in table.notes] == [
        f"scaffold: seed {seed} is a copy of seed 0 (greedy decoding, the same outputs): refused, not pooled"
        for seed in (1, 2)
    ]


def test_seeds_that_differ_are_averaged() -> None:
    seeds = [rows("ace", [1, bit, 0, 1], seed=bit) for bit in (0, 1)]
    table = compare(rows("scaffold", [1, 0, 0, 0]), *seeds)
    assert table.notes == ()
    assert table.fresh[0].result.difference == pytest.approx((0 + 0.5 + 0 + 1) / 4)
    assert table.fresh[0].result.mcnemar is None


def test_equal_answers_with_different_words_are_no_copy() -> None:
    seeds = [rows("ace", [1, 0], seed=seed, raw_output=[f"A {seed}", "B"]) for seed in (0, 1)]
    assert compare(rows("scaffold", [1, 0]), *seeds).notes == ()


def test_sampled_outputs_may_agree_by_chance() -> None:
    seeds = [rows("ace", [1, 0], seed=seed) for seed in (0, 1)]
    assert compare(rows("scaffold", [1, 0]), *seeds, greedy=False).notes == ()


def test_samples_that_only_one_mode_has_are_left_out_and_named() -> None:
    table = compare(rows("scaffold", [1, 0, 0]), rows("ace", [1, 1, 0, 1, 1]))
    assert table.fresh[0].result.num_samples == 3
    assert table.notes == (
        "t, m, none, epoch 0: ace and scaffold: 3 samples paired, 2 left out that only one of them has",
    )


def test_two_runs_in_one_folder_are_not_pooled() -> None:
    table = compare(rows("scaffold", [1, 0]), rows("ace", [1, 0]), rows("ace", [0, 1]))
    assert table.fresh == ()
    assert "the same samples are there more than once" in table.notes[0]


def test_rows_marked_seen_are_reported_apart() -> None:
    table = compare(
        rows("scaffold", [0] * 10),
        rows("ace", [0] * 10, seen=False),
        rows("ace", [1] * 10, epoch=1, seen=True),
    )
    assert [(one.epoch, one.result.difference) for one in table.fresh] == [(0, 0.0)]
    assert [(one.epoch, one.result.difference) for one in table.seen] == [(1, 1.0)]
    assert table.seen[0].holm_p == table.seen[0].result.p_value


def test_seen_rows_of_one_epoch_have_a_line_of_their_own() -> None:
    summary = summarize(rows("ace", [1, 1, 0], seen=[True, True, False]))
    assert summary[["seen", "accuracy", "num_samples"]].to_numpy().tolist() == [
        [True, 1.0, 2],
        [False, 0.0, 1],
    ]


def test_rows_without_sample_ids_are_not_compared() -> None:
    table = compare(*(rows(mode, [1, 0]).drop(columns="sample_id") for mode in ("scaffold", "ace")))
    assert table == ComparisonTable((), (), ())


def test_the_page_says_it_in_words() -> None:
    frame = pd.concat([rows("scaffold", [0] * 12), rows("ace", [1] * 10 + [0] * 2)], ignore_index=True)
    page = markdown(summarize(frame), "x", comparisons=compare_modes(frame))
    line = next(line for line in page.splitlines() if "ace - scaffold" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert page.index("## Comparisons") < page.index(line)
    assert cells[4] == "ace - scaffold"
    assert cells[5].startswith("+0.833 [+0.")
    assert cells[6:] == ["0.002", "0.002", "10 : 0, p 0.002", "12", "12", "ace is better"]


def test_both_commands_write_comparisons(aceslm: Command, grid_file: Path) -> None:
    aceslm("submit", grid_file, "--cluster", "debug")
    run = next(Path("results").glob("*-*"))
    page = (run / "summary.md").read_text(encoding="utf-8")
    assert page.count("scaffold - baseline") == 3
    aceslm("summarize", "--input-dir", "results", "--output-path", "all.csv")
    assert Path("all.md").read_text(encoding="utf-8").count("scaffold - baseline") == 3
    assert (pd.read_csv(run / "summary.csv")["peak_memory_bytes"] > 10_000_000).all()
