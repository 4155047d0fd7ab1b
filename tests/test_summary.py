from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Command, only_run
from statsmodels.stats.proportion import proportion_confint

from aceslm.analysis.page import SummaryPage, markdown
from aceslm.analysis.statistics.accuracy import proportion_interval, wilson_interval
from aceslm.analysis.statistics.latency import latency_summary
from aceslm.analysis.summary import ShardCost, summarize

PROTOTYPE = (
    "model_id,task_name,domain,mode,sample_id,gold,pred,latency_ms,question,context,correct\n"
    "m,t,finance,baseline,1,a,a,100,q,,True\nm,t,finance,baseline,2,a,b,300,q,,False\n"
    "m,t,finance,ace,1,a,a,500,q,,1\n"
)


def test_the_prototypes_csv_files_are_summarised(aceslm: Command, tmp_path: Path) -> None:
    folder = tmp_path / "old" / "deep"
    folder.mkdir(parents=True)
    (folder / "results_1.csv").write_text(PROTOTYPE)
    (folder / "notes.csv").write_text("a,b\n1,2\n")
    result = aceslm("summarize", "--input-dir", tmp_path / "old")
    assert result.status == 0
    summary = pd.read_csv(tmp_path / "old" / "summary.csv")
    assert list(summary.columns[:7]) == [
        "model_id", "task_name", "mode", "epoch", "accuracy", "avg_latency_ms", "num_samples",
    ]  # fmt: skip
    assert summary["accuracy"].tolist() == [0.5, 1.0]
    assert summary["avg_latency_ms"].tolist() == [200, 500]
    assert summary["samples_per_s"].tolist() == [5.0, 2.0]
    page = (tmp_path / "old" / "summary.md").read_text()
    assert (
        "| ace - baseline | accuracy | +0.000 [-1.000, +1.000] | 1.000 | 1.000 | 0 : 0, p 1.000 | 1 |" in page
    )
    assert "1 left out that only one of them has" in page
    assert aceslm("summarize", "--input-dir", tmp_path / "old").status == 0
    assert pd.read_csv(tmp_path / "old" / "summary.csv")["num_samples"].tolist() == [2, 1]


def test_a_run_directory_is_read_once(aceslm: Command, grid_file: Path) -> None:
    aceslm("submit", grid_file, "--cluster", "debug")
    aceslm("summarize", "--input-dir", "results", "--output-path", "all.csv")
    assert pd.read_csv("all.csv")["num_samples"].sum() == 22


def test_copies_of_a_run_count_once_and_cost_what_the_run_says(aceslm: Command, many_samples: Path) -> None:
    """The run, its exported CSV, copies of its Parquet file and of all of it, and notes without unit ids."""
    run = ("run", "--model-id", "scripted", "--dataset-path", many_samples, "--domain", "sums")
    aceslm(*run, "--output-path", "results/export.csv")
    root = only_run(Path())
    shutil.copyfile(root / "results.parquet", "results/copy.parquet")
    shutil.copytree(root, "results/moved")
    rows = pd.read_csv("results/export.csv")
    rows.drop(columns="unit_id").to_csv("results/without_units.csv", index=False)
    result = aceslm("summarize", "--input-dir", "results", "--output-path", "all.csv")
    assert "240 rows were there twice (copies of the same answers) and count once" in result.err
    assert "240 rows were there twice" in Path("all.md").read_text()
    once, again = pd.read_csv(root / "summary.csv"), pd.read_csv("all.csv")
    assert again["num_samples"].tolist() == [60]
    same = ["accuracy", "accuracy_low", "samples_per_s", "amortised_ms"]
    assert again[same].iloc[0].tolist() == pytest.approx(once[same].iloc[0].tolist())


def test_an_exported_file_alone_has_the_samples_a_second_of_its_run_or_none(
    aceslm: Command, many_samples: Path
) -> None:
    run = ("run", "--model-id", "scripted", "--dataset-path", many_samples, "--domain", "sums")
    aceslm(*run, "--output-path", "alone/export.csv")
    rate = pd.read_csv(only_run(Path()) / "summary.csv")["samples_per_s"].tolist()
    aceslm("summarize", "--input-dir", "alone")
    assert pd.read_csv("alone/summary.csv")["samples_per_s"].tolist() == pytest.approx(rate)
    rows = pd.read_csv("alone/export.csv").assign(batch_ms=None, batch_size=8)  # rows that overlapped
    rows.to_csv("alone/export.csv", index=False)
    aceslm("summarize", "--input-dir", "alone")
    summary = pd.read_csv("alone/summary.csv")
    assert summary[["samples_per_s", "tokens_per_s", "amortised_ms"]].isna().all(axis=None)


def test_answers_that_contradict_each_other_are_refused(aceslm: Command, many_samples: Path) -> None:
    run = ("run", "--model-id", "scripted", "--dataset-path", many_samples, "--domain", "sums")
    aceslm(*run, "--output-path", "results/export.csv")
    rows = pd.read_csv("results/export.csv", dtype=str)
    for changed in (rows.assign(pred="another"), rows.drop(columns="unit_id").assign(pred="another")):
        changed.to_csv("results/export.csv", index=False)
        result = aceslm("summarize", "--input-dir", "results")
        assert result.status == 2
        assert "two answers to sample 's000' of task 'sums'" in result.err
        assert "'another'" in result.err
        assert "results/export.csv" in result.err
        assert "summarise the folders apart" in result.err


def test_the_same_sample_under_other_settings_is_another_line(aceslm: Command, many_samples: Path) -> None:
    run = ("run", "--model-id", "scripted", "--dataset-path", many_samples, "--domain", "sums")
    aceslm(*run)
    aceslm(*run, "--max-new-tokens", "7")
    aceslm("summarize", "--input-dir", "results", "--output-path", "all.csv")
    summary = pd.read_csv("all.csv")
    assert summary["num_samples"].tolist() == [60, 60]
    assert summary["cell_id"].nunique() == 2
    head = next(line for line in Path("all.md").read_text().splitlines() if line.startswith("| model"))
    assert "| cell |" in head


def test_texts_of_a_csv_file_stay_texts(aceslm: Command) -> None:
    """'007', 'NA' and '1.50' are predictions, not numbers or nothing: copies of them are copies."""
    Path("old").mkdir()
    head = "model_id,task_name,mode,sample_id,gold,pred,latency_ms,correct"
    rows = [f"m,t,baseline,00{n},x,{pred},1,0" for n, pred in enumerate(["007", "NA", "1.50", "None"])]
    Path("old/a.csv").write_text("\n".join([head, *rows]))
    Path("old/b.csv").write_text("\n".join([head, *rows, "m,t,baseline,9,x,y,1,1"]))
    result = aceslm("summarize", "--input-dir", "old")
    assert result.status == 0, result.err
    assert pd.read_csv("old/summary.csv")["num_samples"].tolist() == [5]
    Path("old/b.csv").write_text("\n".join([head, "m,t,baseline,001,x,,1,0"]))
    assert aceslm("summarize", "--input-dir", "old").status == 2


def test_rows_of_the_adapt_split_never_enter_an_accuracy() -> None:
    frame = pd.DataFrame(
        {
            "model_id": "m",
            "task_name": "t",
            "mode": "ace_frozen",
            "correct": [1, 1, 0],
            "latency_ms": 1.0,
            "split": ["adapt", "adapt", "eval"],
        }
    )
    summary = summarize(frame)
    assert summary["num_samples"].tolist() == [1]
    assert summary["accuracy"].tolist() == [0.0]


def test_failed_and_unparsed_rows_are_counted_apart() -> None:
    frame = pd.DataFrame(
        {
            "model_id": "m",
            "task_name": "t",
            "mode": "baseline",
            "correct": [1, 0, 0],
            "latency_ms": [1.0, 2.0, None],
            "error": [None, "unparsed: no choice in the output", "too long"],
            "parsed": [True, False, False],
            "raw_output": ["A", "?", None],
        }
    )
    row = summarize(frame).iloc[0]
    assert (row["num_samples"], row["errors"], row["parse_failures"]) == (3, 1, 1)
    assert row["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (3, 10), (50, 100)])
def test_the_wilson_interval_is_statsmodels_and_holds_the_estimate(successes: int, n: int) -> None:
    interval = wilson_interval(successes, n)
    expected = proportion_confint(successes, n, alpha=0.05, method="wilson")
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert 0 <= interval.low <= successes / n <= interval.high <= 1


def test_no_samples_say_nothing() -> None:
    assert (wilson_interval(0, 0).low, wilson_interval(0, 0).high) == (0.0, 1.0)
    assert latency_summary(np.array([])).mean is None


def test_percentiles_are_those_of_the_values() -> None:
    summary = latency_summary(np.arange(1, 101, dtype=float))
    assert (summary.mean, summary.p50) == (50.5, 50.5)
    assert summary.p95 == pytest.approx(95.05)
    assert summary.p99 == pytest.approx(99.01)


def test_a_model_name_cannot_break_the_markdown_table() -> None:
    frame = pd.DataFrame(
        {"model_id": ["a|b"], "task_name": "t", "mode": "baseline", "correct": [1], "latency_ms": [1.0]}
    )
    table = [
        line for line in markdown(SummaryPage("x", summarize(frame))).splitlines() if line.startswith("|")
    ]
    assert "a\\|b" in table[2]


def label_rows(**columns: object) -> pd.DataFrame:
    frame = pd.DataFrame({"model_id": "m", "task_name": "t", "mode": "baseline", "correct": [1, 1, 0, 0]})
    return frame.assign(latency_ms=100.0, **columns)


def test_label_tasks_have_macro_f1_and_mcc() -> None:
    gold, pred = ["a", "a", "a", "b"], ["a", "a", "b", None]
    row = summarize(label_rows(answer_type="label", gold=gold, pred=pred)).iloc[0]
    assert row["macro_f1"] == pytest.approx((0.8 + 0.0) / 2)
    assert row["mcc"] == pytest.approx(1 / 60**0.5)
    assert summarize(label_rows(answer_type="choice", gold=gold, pred=pred))["macro_f1"].isna().all()
    assert "macro-F1" not in markdown(SummaryPage("x", summarize(label_rows(answer_type="choice"))))


def test_the_interval_is_wider_where_questions_share_a_table() -> None:
    apart = summarize(label_rows(context_id=["a", "b", "c", "d"])).iloc[0]
    shared = summarize(label_rows(context_id=["a", "a", "b", "b"])).iloc[0]
    assert (apart["num_contexts"], shared["num_contexts"]) == (4, 2)
    single = proportion_interval(2, 4)
    assert (apart["accuracy_low"], apart["accuracy_high"]) == (single.low, single.high)
    assert (shared["accuracy_low"], shared["accuracy_high"]) == (0.0, 1.0)
    missing = summarize(label_rows(context_id=[None, "", None, "d"])).iloc[0]
    assert missing["num_contexts"] == 4


def test_steps_and_the_shared_cost_of_a_batch_have_their_means() -> None:
    columns = {"prefill_ms": [10, 20, 30, None], "decode_ms": 40.0, "ttft_ms": [1, 2, 9, None]}
    columns["reflection_latency_ms"] = [None, 500, 700, None]
    row = summarize(label_rows(batch_ms=200.0, batch_size=4, **columns)).iloc[0]
    assert (row["prefill_ms"], row["decode_ms"], row["p50_ttft_ms"]) == (20, 40, 2)
    assert (row["avg_latency_ms"], row["amortised_ms"], row["reflection_ms"]) == (100, 50, 600)
    assert summarize(label_rows())["prefill_ms"].isna().all()


def test_rows_that_overlap_share_the_time_of_their_shard_prefixes_included() -> None:
    rows = {"shard": ["x", "x", "y", None], "batch_size": [4, 4, 4, 2]}
    row = summarize(label_rows(**rows), {"x": ShardCost(row_s=0.01), "y": ShardCost(row_s=0.03)}).iloc[0]
    assert row["avg_latency_ms"] == 100
    assert row["amortised_ms"] is None, "what the last row shared is not known"
    known = {"x": ShardCost(row_s=0.01), "y": ShardCost(row_s=0.03)}
    row = summarize(label_rows(shard=["x", "x", "y", None], batch_size=[4, 4, 4, 1]), known).iloc[0]
    assert row["amortised_ms"] == pytest.approx((10 + 10 + 30 + 100) / 4)
    assert row["samples_per_s"] == pytest.approx(4000 / 150)
    batched = summarize(label_rows(**rows, batch_ms=200.0), {"x": ShardCost(row_s=0.01)}).iloc[0]
    assert batched["amortised_ms"] == pytest.approx((50 + 50 + 50 + 100) / 4)


def test_the_peak_memory_is_the_highest_of_a_groups_shards() -> None:
    memory = {"x": ShardCost(5, None), "y": ShardCost(7, 3), "z": ShardCost(99, 99)}
    row = summarize(label_rows(shard=["x", "x", "y", None]), memory).iloc[0]
    assert (row["peak_memory_bytes"], row["accelerator_peak_bytes"]) == (7, 3)
    assert summarize(label_rows())["peak_memory_bytes"].isna().all()


def test_the_accelerators_peak_is_that_since_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from aceslm.engine.devices import accelerator_peak_bytes

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert accelerator_peak_bytes() is None
    peaks = [100, 30]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda index: peaks[index])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda index: peaks.__setitem__(index, 7))
    assert (accelerator_peak_bytes(), accelerator_peak_bytes()) == (130, 14)


def test_scale_accuracy_is_reported_where_gold_answers_have_scales() -> None:
    frame = pd.DataFrame(
        {
            "model_id": "m",
            "task_name": "tatqa",
            "mode": "baseline",
            "correct": [1, 0, 0, 0],
            "latency_ms": 1.0,
            "scale": ["million", "percent", None, None],
            "predicted_scale": ["million", None, None, "thousand"],
        }
    )
    assert summarize(frame)["scale_accuracy"].tolist() == [0.5]
    assert summarize(frame.assign(scale=None))["scale_accuracy"].isna().all()


def test_similarity_of_prediction_and_gold_is_summarised(aceslm: Command, tmp_path: Path) -> None:
    from tiny_models import save_tiny_llama

    model = save_tiny_llama(tmp_path / "model")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "r.csv").write_text(PROTOTYPE)
    result = aceslm("summarize", "--input-dir", tmp_path / "old", "--similarity", model)
    assert result.status == 0, result.err
    summary = pd.read_csv(tmp_path / "old" / "summary.csv")
    assert summary["similarity"].iloc[1] == 1.0
    assert summary["similarity"].iloc[0] < 1.0
