from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Command

from aceslm.analysis.comparisons import NO_EVIDENCE, Comparison, ComparisonTable, compare_modes
from aceslm.analysis.page import SummaryPage, markdown
from aceslm.analysis.statistics.paired import holm
from aceslm.analysis.summary import summarize
from aceslm.analysis.verdicts import TreatmentVerdict, verdict_lines, verdicts


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


def test_a_learnt_mode_is_compared_with_baseline_scaffold_and_every_control() -> None:
    modes = ("baseline", "ace_frozen", "scaffold", "ace", "ace_shuffled", "ace_placebo")
    table = compare(*(rows(mode, [1, 0, 1]) for mode in modes))
    references = {
        "baseline": [],
        "scaffold": ["baseline"],
        "ace": ["baseline", "scaffold", "ace_shuffled", "ace_placebo"],
        "ace_frozen": ["baseline", "scaffold", "ace_shuffled", "ace_placebo"],
        "ace_shuffled": ["baseline", "scaffold"],
        "ace_placebo": ["baseline", "scaffold"],
    }
    assert sorted(names(table.fresh)) == sorted(
        f"{mode} - {name}" for mode, known in references.items() for name in known
    )
    assert table.notes == ()


def test_a_variant_is_compared_with_the_control_of_its_own_settings() -> None:
    frames = [
        rows(mode, [1, 0, 1], variant=variant)
        for mode in ("ace_frozen", "ace_placebo")
        for variant in ("big", "small")
    ]
    alone = rows("ace_neutral", [1, 0, 1], variant="only")
    table = compare(rows("scaffold", [1, 0, 1]), *frames, alone)
    assert {name for name in names(table.fresh) if name.startswith("ace_frozen")} == {
        f"ace_frozen ({variant}) - {control}"
        for variant in ("big", "small")
        for control in ("scaffold", f"ace_placebo ({variant})", "ace_neutral (only)")
    }


def verdict(table: ComparisonTable, treatment: str = "ace") -> TreatmentVerdict:
    (found,) = [one for one in verdicts(table.fresh) if one.closest.treatment == treatment]
    return found


def mode_rows(name: str, share: float, count: int = 60) -> pd.DataFrame:
    return rows(name, [1] * round(share * count) + [0] * (count - round(share * count)))


def test_a_scaffold_worse_than_the_baseline_makes_no_gain() -> None:
    table = compare(mode_rows("baseline", 0.6), mode_rows("scaffold", 0.2), mode_rows("ace", 0.6))
    assert next(one for one in table.fresh if one.reference == "scaffold").verdict == "ace above scaffold"
    found = verdict(table)
    assert (found.words, found.evidence) == (NO_EVIDENCE, False)
    assert found.closest.reference == "baseline"
    assert "is better" not in " ".join(line for line, _ in verdict_lines(table.fresh) if "ace minus" in line)


@pytest.mark.parametrize(("baseline", "scaffold"), [(0.2, 0.3), (0.3, 0.2)])
def test_the_verdict_names_the_better_of_baseline_and_scaffold(baseline: float, scaffold: float) -> None:
    table = compare(mode_rows("baseline", baseline), mode_rows("scaffold", scaffold), mode_rows("ace", 0.9))
    name = "scaffold" if scaffold > baseline else "baseline"
    assert verdict(table).words == f"ace is better than {name}, the better of baseline and scaffold"
    (line,) = [line for line, evidence in verdict_lines(table.fresh) if evidence and "ace minus" in line]
    assert "ace minus baseline +0." in line
    assert "ace minus scaffold +0." in line


def test_a_mode_worse_than_one_of_both_is_not_better() -> None:
    table = compare(mode_rows("baseline", 0.9), mode_rows("scaffold", 0.1), mode_rows("ace", 0.5))
    assert verdict(table).words == "baseline is better than ace"


def test_the_p_of_better_than_both_is_the_larger_one() -> None:
    table = compare(mode_rows("baseline", 0.3), mode_rows("scaffold", 0.5), mode_rows("ace", 0.6))
    p_values = {one.reference: one.result.p_value for one in table.fresh if one.treatment == "ace"}
    assert verdict(table).p_value == max(p_values.values()) == p_values["scaffold"]
    assert verdict(table).holm_p == max(one.holm_p for one in table.fresh if one.treatment == "ace")


def test_controls_do_not_decide_and_are_named() -> None:
    frames = [mode_rows("baseline", 0.2), mode_rows("scaffold", 0.2), mode_rows("ace", 0.9)]
    found = verdict(compare(*frames, mode_rows("ace_placebo", 0.85), mode_rows("ace_neutral", 0.2)))
    assert found.evidence
    assert found.control_words == (
        "Of the controls it is above ace_neutral and not shown to be above ace_placebo."
    )


def test_what_was_added_after_a_look_is_exploratory() -> None:
    frames = [mode_rows("baseline", 0.2), mode_rows("ace", 0.9)]
    table = compare(*frames, extended={"t": 20})
    assert not table.fresh[0].evidence
    assert table.fresh[0].verdict == "ace above baseline (exploratory: extended after 20 samples)"
    assert verdict(table).words == "exploratory, extended after 20 samples"
    assert "t: extended after 20 samples had been looked at" in table.notes[0]
    other = compare(*frames, extended={"another task": 20})
    assert verdict(other).evidence


def span_rows(mode: str, scores: Sequence[float], **columns: Any) -> pd.DataFrame:
    exact = [int(score == 1) for score in scores]
    return rows(mode, exact, answer_type="span", score=list(scores), **columns)


def test_span_tasks_are_compared_by_their_score_with_exact_match_beside_it() -> None:
    table = compare(span_rows("scaffold", [0.1] * 30), span_rows("ace", [0.6] * 29 + [1.0]))
    one = table.fresh[0]
    assert one.metric == "score"
    assert one.result.difference == pytest.approx((29 * 0.5 + 0.9) / 30)
    assert one.result.p_value < 0.001
    assert one.exact is not None
    assert (one.exact.difference, one.exact.p_value) == (pytest.approx(1 / 30), 1.0)
    assert one.verdict == "ace above scaffold"


def test_only_a_task_with_span_answers_and_a_score_in_every_row_is_judged_by_it() -> None:
    choice = compare(
        span_rows("scaffold", [0.2, 1.0]).assign(answer_type="choice"),
        span_rows("ace", [1.0, 1.0]).assign(answer_type="choice"),
    )
    assert (choice.fresh[0].metric, choice.fresh[0].exact) == ("accuracy", None)
    mixed = compare(
        span_rows("scaffold", [0.2, 1.0]).assign(answer_type=["number", "span"]),
        span_rows("ace", [1.0, 1.0]).assign(answer_type=["number", "span"]),
    )
    assert mixed.fresh[0].metric == "score"
    unscored = compare(span_rows("scaffold", [0.2, 1.0]), span_rows("ace", [1.0, 1.0]).assign(score=None))
    assert unscored.fresh[0].metric == "accuracy"


def test_questions_about_one_text_are_not_independent_without_context_ids_either() -> None:
    texts = [f"Table {number // 10}." for number in range(40)]
    for context_id in (None, "", float("nan")):
        missing = [
            rows(mode, [bit] * 40, context=texts, context_id=context_id)
            for mode, bit in (("scaffold", 0), ("ace", 1))
        ]
        assert compare(*missing).fresh[0].result.num_contexts == 4
    none = [rows(mode, [bit] * 40, context="  ") for mode, bit in (("scaffold", 0), ("ace", 1))]
    assert compare(*none).fresh[0].result.num_contexts == 40
    summary = summarize(rows("ace", [1, 0] * 20, context=texts))
    assert summary["num_contexts"].tolist() == [4]


@pytest.mark.slow
def test_fifty_comparisons_take_seconds() -> None:
    rng = np.random.default_rng(5)
    frames = [
        span_rows(mode, rng.uniform(size=120).round(3).tolist(), model_id=f"m{model}")
        for model in range(17)
        for mode in ("baseline", "scaffold", "ace")
    ]
    began = time.perf_counter()
    table = compare(*frames)
    assert len(table.fresh) == 51
    assert time.perf_counter() - began < 60  # measured: 10 s on a busy core


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
    said = {one.treatment: one.verdict for one in table.fresh if one.reference == "scaffold"}
    assert said == {
        "ace": "ace above scaffold",
        "ace_frozen": "ace_frozen below scaffold",
        "ace_shuffled": NO_EVIDENCE,
    }
    found = next(one.result for one in table.fresh if one.treatment == "ace")
    assert found.difference == pytest.approx(better.mean() - scaffold.mean())
    assert 0 < found.interval.low < found.difference < found.interval.high


def test_holm_runs_over_all_comparisons_of_the_table() -> None:
    rng = np.random.default_rng(3)
    frames = [
        rows(mode, (rng.uniform(size=30) < rate).astype(int).tolist(), task_name=task)
        for task in ("t", "u", "v")
        for mode, rate in (("baseline", 0.2), ("scaffold", 0.4), ("ace", 0.7))
    ]
    table = compare(*frames)
    assert len(table.fresh) == 9
    assert [one.holm_p for one in table.fresh] == holm([one.result.p_value for one in table.fresh])
    assert any(one.holm_p > one.result.p_value for one in table.fresh)


def test_a_difference_within_few_tables_is_no_evidence() -> None:
    contexts = np.repeat(np.arange(4), 10)
    table = compare(
        rows("scaffold", [0] * 40, context_id=contexts), rows("ace", [1] * 40, context_id=contexts)
    )
    assert (table.fresh[0].result.num_samples, table.fresh[0].result.num_contexts) == (40, 4)
    assert table.fresh[0].verdict == f"{NO_EVIDENCE} (too few contexts to show one)"
    assert compare(rows("scaffold", [0] * 40), rows("ace", [1] * 40)).fresh[0].verdict == "ace above scaffold"


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
    page = markdown(SummaryPage("x", summarize(frame), comparisons=compare_modes(frame)))
    line = next(line for line in page.splitlines() if "ace - scaffold" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert page.index("## Comparisons") < page.index(line)
    assert cells[4:6] == ["ace - scaffold", "accuracy"]
    assert cells[6].startswith("+0.833 [+0.")
    assert cells[7:] == ["0.002", "0.002", "10 : 0, p 0.002", "12", "12", "ace above scaffold"]
    assert "ace is better than scaffold (Holm p 0.002)" in page


def test_the_page_shows_the_score_with_its_interval_and_exact_match_beside_it() -> None:
    frame = pd.concat([span_rows("scaffold", [0.1] * 30), span_rows("ace", [0.6] * 29 + [1.0])])
    summary = summarize(frame)
    assert summary["metric"].tolist() == ["score", "score"]
    assert (summary["score_low"] <= summary["mean_score"]).all()
    page = markdown(SummaryPage("x", summary, comparisons=compare_modes(frame)))
    head = next(line for line in page.splitlines() if "score [95 %]" in line)
    assert head.index("score [95 %]") < head.index("accuracy [95 %]")
    line = next(line for line in page.splitlines() if "| ace - scaffold |" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[5] == "token F1"
    assert re.fullmatch(r"\+0\.033 \[-0\.\d{3}, \+0\.\d{3}\], p 1\.000", cells[9])
    assert "in token F1, on 30 samples: ace is better than scaffold" in page


def test_both_commands_write_comparisons(aceslm: Command, grid_file: Path) -> None:
    aceslm("submit", grid_file, "--cluster", "debug")
    run = next(Path("results").glob("*-*"))
    page = (run / "summary.md").read_text(encoding="utf-8")
    assert page.count("scaffold - baseline") == 3
    aceslm("summarize", "--input-dir", "results", "--output-path", "all.csv")
    assert Path("all.md").read_text(encoding="utf-8").count("scaffold - baseline") == 3
    assert (pd.read_csv(run / "summary.csv")["peak_memory_bytes"] > 10_000_000).all()
