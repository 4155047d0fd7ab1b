"""Grid -> local launch -> shards -> merged results, with the scripted engine."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import Command, only_run
from shards import merged, work_shard

from aceslm.core.errors import CorruptRun, EngineError
from aceslm.core.parquet import read_results, result_schema, write_table
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.engine.scripted import ScriptedEngine
from aceslm.plan.files import load_plans, read_run
from aceslm.results import merge
from aceslm.results.status import run_status
from aceslm.run import attempt_files, parts
from aceslm.run.attempts import attempt_on
from aceslm.run.shard import Outcome
from aceslm.run.work import FlushPolicy, StopFlag
from launch.prepare.run import prepare, write_run

TIMINGS = ["latency_ms", "ttft_ms", "prefill_ms", "decode_ms", "batch_ms", "batch_size", "attempt"]


def content(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run / "results.parquet").drop(columns=TIMINGS)


def planned(folder: Path, task: Path, **grid: Any) -> RunPaths:
    """Write a run over one task file, without running it."""
    from aceslm.config.grid import GridConfig

    values = {"models": ["scripted"], "tasks": [str(task)], "modes": ["baseline"], "shard_size": 1000, **grid}
    prepared = prepare(GridConfig.model_validate(values), folder / "results")
    write_run(prepared)
    return prepared.paths


def run_first(paths: RunPaths, job: str = "j1", **options: Any) -> Outcome:
    (plan, *_) = load_plans(paths)
    return work_shard(paths, plan, plan.shards[0], lambda _: ScriptedEngine(), AttemptName(job), **options)


def test_a_local_run_satisfies_the_contract_of_the_run_directory(
    aceslm: Command, grid_file: Path, tmp_path: Path
) -> None:
    result = aceslm("submit", grid_file, "--cluster", "local")
    assert result.status == 0, result.err
    run = only_run(tmp_path)
    assert yaml.safe_load((run / "config.yaml").read_text())["shard_size"] == 2
    plan = json.loads((run / "plans" / "0001.json").read_text())
    assert len(plan["shards"]) == 14
    intent = json.loads((run / "submissions" / "0001.intent.json").read_text())
    assert sorted(name for task in intent["tasks"] for name in task) == sorted(
        shard["shard_id"] for shard in plan["shards"]
    )
    jobs = json.loads((run / "submissions" / "0001.jobs.json").read_text())
    assert jobs["environment"]["packages"]["pyarrow"]
    for shard in plan["shards"]:
        name = shard["shard_id"]
        done = json.loads((run / "shards" / f"{name}.done.json").read_text())
        assert (run / "shards" / done["file"]).stat().st_size == done["bytes"]
        assert (run / "prompts" / f"{name}.parquet").exists()
        assert not (run / "parts" / name).exists()
        (started,) = (run / "attempts" / name).glob("*.started.json")
        (ended,) = (run / "attempts" / name).glob("*.ended.json")
        assert json.loads(started.read_text())["provenance"]["code"]
        assert json.loads(ended.read_text())["class"] == "done"
    coverage = json.loads((run / "coverage.json").read_text())
    assert coverage["complete"]
    assert coverage["units_found"] == 22
    assert list((tmp_path / "logs" / run.name / "0001").glob("*.out"))
    assert not [path for path in run.rglob("*") if path.name.endswith(".tmp") or path.name == ".lock"]


def test_results_have_the_one_schema_and_stand_in_plan_order(
    aceslm: Command, grid_file: Path, tmp_path: Path
) -> None:
    assert aceslm("submit", grid_file, "--cluster", "debug").status == 0
    run = only_run(tmp_path)
    assert pq.read_schema(run / "results.parquet").equals(result_schema())
    frame = pd.read_parquet(run / "results.parquet")
    expected = [
        f"{task}-tiny-{n}"
        for task, count in (("tatqa", 3), ("medqa", 3), ("iot", 5))
        for _ in ("baseline", "scaffold")
        for n in range(1, count + 1)
    ]
    assert frame["sample_id"].tolist() == expected
    first = "model_id task_name domain mode sample_id gold pred latency_ms question context correct"
    assert " ".join(frame.columns[:11]) == first
    csv = pd.read_csv(run / "results.csv", keep_default_na=False)
    assert csv["sample_id"].tolist() == expected
    assert json.loads(csv["choices"][6])[2] == "Vitamin C"
    summary = (run / "summary.csv").read_text().splitlines()
    assert summary[0].startswith("model_id,task_name,mode,epoch,accuracy,avg_latency_ms,num_samples")
    assert len(summary) == 7


@pytest.mark.slow
def test_local_and_debug_give_the_same_rows(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    aceslm("submit", grid_file, "--cluster", "local", "--workers", "2", "--output-dir", tmp_path / "a")
    aceslm("submit", grid_file, "--cluster", "debug", "--output-dir", tmp_path / "b")
    (a,), (b,) = (tmp_path / "a").glob("*-*"), (tmp_path / "b").glob("*-*")
    pd.testing.assert_frame_equal(content(a), content(b))


def test_a_second_submit_computes_nothing_again(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    aceslm("submit", grid_file, "--cluster", "debug")
    before = sorted((only_run(tmp_path) / "attempts").rglob("*"))
    again = aceslm("submit", grid_file, "--cluster", "debug")
    assert again.status == 0
    assert "already done" in again.err
    assert sorted((only_run(tmp_path) / "attempts").rglob("*")) == before


def test_a_pilot_with_a_limit_is_not_computed_again(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    aceslm("submit", grid_file, "--cluster", "debug", "--limit", "2")
    run = only_run(tmp_path)
    pilot = {path.name: path.read_bytes() for path in (run / "shards").iterdir()}
    assert aceslm("submit", grid_file, "--cluster", "debug").status == 0
    assert only_run(tmp_path) == run
    assert len(pd.read_parquet(run / "results.parquet")) == 22
    assert {name: (run / "shards" / name).read_bytes() for name in pilot} == pilot


def test_a_rehearsal_never_passes_for_the_real_model(
    aceslm: Command, grid_file: Path, tmp_path: Path
) -> None:
    aceslm(
        "submit", grid_file, "--cluster", "debug", "--model-id", "smollm2-135m-gguf", "--engine", "scripted"
    )
    frame = pd.read_parquet(only_run(tmp_path) / "results.parquet")
    assert frame["model_id"].str.endswith(" (scripted)").all()
    assert frame["model_revision"].eq("scripted").all()


def test_a_dry_run_writes_nothing(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = aceslm("submit", grid_file, "--dry-run")
    assert result.status == 0
    assert "22 new samples" in result.out
    assert sorted(tmp_path.rglob("*")) == before


def test_filters_and_overrides_narrow_a_grid(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    aceslm(
        "submit",
        grid_file,
        "--cluster=debug",
        "--task-name=medqa_tiny",
        "--mode=baseline",
        "--set",
        "limit=2",
    )
    assert len(pd.read_parquet(only_run(tmp_path) / "results.parquet")) == 2


def test_a_failing_row_is_a_row_and_stays_in_the_denominator(
    aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACESLM_SCRIPTED_FAIL", "scurvy")
    assert aceslm("submit", grid_file, "--cluster", "debug").status == 0
    frame = pd.read_parquet(only_run(tmp_path) / "results.parquet")
    failed = frame[frame["error"].fillna("").str.contains("told to fail")]
    assert failed["sample_id"].tolist() == ["medqa-tiny-1"] * 2
    assert failed["correct"].tolist() == [0, 0]
    summary = pd.read_csv(only_run(tmp_path) / "summary.csv").set_index(["task_name", "mode"])
    assert summary.loc[("medqa_tiny", "baseline"), "num_samples"] == 3
    assert summary.loc[("medqa_tiny", "baseline"), "errors"] == 1


def test_a_broken_shard_is_named_the_rest_is_merged_as_partial_and_retry_completes_it(
    aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACESLM_SCRIPTED_RAISE", "scurvy")
    result = aceslm("submit", grid_file, "--cluster", "local")
    run = only_run(tmp_path)
    assert result.status == 1
    assert f"aceslm retry results/{run.name}" in result.err
    assert "told to break at 'scurvy'" in result.err
    assert (run / "summary.md").read_text().splitlines()[2].startswith("> **PARTIAL")
    assert not json.loads((run / "coverage.json").read_text())["complete"]
    logs = aceslm("logs", f"results/{run.name}", "--failed")
    assert "EngineError" in logs.out
    status = json.loads(aceslm("status", f"results/{run.name}", "--json").out)
    assert {shard["state"] for shard in status["shards"]} == {"done", "failed"}
    assert {shard["last_class"] for shard in status["shards"] if shard["state"] == "failed"} == {"code"}
    monkeypatch.delenv("ACESLM_SCRIPTED_RAISE")
    assert aceslm("retry", f"results/{run.name}", "--cluster", "debug").status == 0
    assert len(pd.read_parquet(run / "results.parquet")) == 22
    assert "PARTIAL" not in (run / "summary.md").read_text()


def test_a_flipped_byte_in_a_shard_is_found_named_and_repaired(
    aceslm: Command, grid_file: Path, tmp_path: Path
) -> None:
    aceslm("submit", grid_file, "--cluster", "debug")
    run = only_run(tmp_path)
    undisturbed = content(run)
    victim = sorted((run / "shards").glob("*.parquet"))[3]
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 3] ^= 0x01
    victim.write_bytes(raw)
    shard = victim.name.split(".")[0]
    result = aceslm("aggregate", f"results/{run.name}")
    assert result.status == 1
    assert f"shard {shard}: the bytes of {victim.name} differ from their checksum" in result.err
    assert shard in json.loads((run / "coverage.json").read_text())["corrupt"]
    repaired = aceslm("retry", f"results/{run.name}", "--cluster", "debug")
    assert repaired.status == 0, repaired.err
    assert f"{shard} is computed again" in repaired.err
    pd.testing.assert_frame_equal(content(run), undisturbed)


def test_a_run_directory_copied_elsewhere_can_be_aggregated(
    aceslm: Command, grid_file: Path, tmp_path: Path
) -> None:
    import shutil

    aceslm("submit", grid_file, "--cluster", "debug")
    run = only_run(tmp_path)
    shutil.copytree(run, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "results")
    (tmp_path / "elsewhere" / "results.parquet").unlink()
    assert aceslm("aggregate", "elsewhere").status == 0
    assert len(pd.read_parquet(tmp_path / "elsewhere" / "results.parquet")) == 22


def test_finished_rows_are_read_back_and_not_computed_again(tmp_path: Path, many_samples: Path) -> None:
    paths = planned(tmp_path, many_samples)
    stop = StopFlag()

    class Interrupted(ScriptedEngine):
        def generate(self, prompts: Any, settings: Any, should_stop: Any = None) -> Any:
            for n, completion in enumerate(super().generate(prompts, settings, should_stop)):
                stop.reason = "preempted" if n == 24 else None
                yield completion

    (plan,) = load_plans(paths)
    policy = FlushPolicy(rows=10)
    shard = plan.shards[0]
    outcome = work_shard(
        paths, plan, shard, lambda _: Interrupted(), AttemptName("j1"), policy=policy, stop=stop
    )
    assert outcome is Outcome.STOPPED
    assert sum(read_results(part).num_rows for part in paths.parts(shard.shard_id).iterdir()) == 25
    ended = json.loads(paths.ended(shard.shard_id, AttemptName("j1")).read_text())
    assert (ended["class"], ended["rows_done"]) == ("preempted", 25)
    asked = []

    class Counting(ScriptedEngine):
        def generate(self, prompts: Any, settings: Any, should_stop: Any = None) -> Any:
            asked.extend(prompts)
            return super().generate(prompts, settings, should_stop)

    assert work_shard(paths, plan, shard, lambda _: Counting(), AttemptName("j2")) is Outcome.DONE
    assert len(asked) == 35
    rows = read_results(next(paths.shards.glob("*.parquet")))
    assert rows.column("attempt").to_pylist().count("j1_0-r0") == 25
    assert rows.column("sample_id").to_pylist() == [f"s{n:03d}" for n in range(60)]


def test_a_truncated_part_is_computed_again(tmp_path: Path, many_samples: Path) -> None:
    paths = planned(tmp_path, many_samples)
    stop = StopFlag()

    class Interrupted(ScriptedEngine):
        def generate(self, prompts: Any, settings: Any, should_stop: Any = None) -> Any:
            for n, completion in enumerate(super().generate(prompts, settings, should_stop)):
                stop.reason = "preempted" if n == 30 else None
                yield completion

    (plan,) = load_plans(paths)
    shard = plan.shards[0]
    work_shard(
        paths, plan, shard, lambda _: Interrupted(), AttemptName("j"), policy=FlushPolicy(rows=8), stop=stop
    )
    part = sorted(paths.parts(shard.shard_id).iterdir())[1]
    part.write_bytes(part.read_bytes()[:-20])
    assert work_shard(paths, plan, shard, lambda _: ScriptedEngine(), AttemptName("k")) is Outcome.DONE
    assert merged(paths).complete


def test_two_workers_on_one_shard_end_in_the_same_result_as_one(
    tmp_path: Path, many_samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = planned(tmp_path / "alone", many_samples)
    run_first(alone)
    merged(alone)
    monkeypatch.setenv("ACESLM_SCRIPTED_DELAY_S", "0.002")
    shared = planned(tmp_path / "shared", many_samples)
    outcomes: list[Outcome] = []
    workers = [
        threading.Thread(
            target=lambda n=n: outcomes.append(run_first(shared, f"j{n}", policy=FlushPolicy(rows=7)))
        )
        for n in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert Outcome.DONE in outcomes
    assert set(outcomes) <= {Outcome.DONE, Outcome.ALREADY_DONE}
    assert len(outcomes) == 4
    coverage = merged(shared)
    assert coverage.complete
    pd.testing.assert_frame_equal(content(alone.root), content(shared.root))
    assert len(list(shared.shards.glob("*.parquet"))) == 1
    assert run_status(read_run(shared)).is_complete


def stopped_after(rows: int, stop: StopFlag) -> ScriptedEngine:
    class Interrupted(ScriptedEngine):
        def generate(self, prompts: Any, settings: Any, should_stop: Any = None) -> Any:
            for n, completion in enumerate(super().generate(prompts, settings, should_stop), start=1):
                stop.reason = "preempted" if n == rows else None
                yield completion

    return Interrupted()


def test_a_second_try_of_the_same_name_overwrites_no_part(tmp_path: Path, many_samples: Path) -> None:
    paths = planned(tmp_path, many_samples)
    (plan,) = load_plans(paths)
    (shard,) = plan.shards
    stop = StopFlag()
    engine = stopped_after(25, stop)
    work_shard(paths, plan, shard, lambda _: engine, AttemptName("w7"), stop=stop)
    assert run_first(paths, "w7") is Outcome.DONE
    assert merged(paths).complete


def test_rows_are_not_mixed_up_when_workers_go_on_while_they_are_merged(
    tmp_path: Path, many_samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = planned(tmp_path, many_samples, shard_size=5)
    (plan,) = load_plans(paths)
    assert len(plan.shards) > merge._CACHED_SHARDS
    for shard in plan.shards:
        stop = StopFlag()
        engine = stopped_after(3, stop)
        work_shard(paths, plan, shard, lambda _, e=engine: e, AttemptName("j"), stop=stop)
    add, seen = merge._CellRows.add, []

    def add_then_work_goes_on(self: Any, shard: Any, census: Any, *, is_replaced: bool) -> None:
        add(self, shard, census, is_replaced=is_replaced)
        seen.append(shard)
        if len(seen) == len(plan.shards):
            for other in plan.shards:
                work_shard(paths, plan, other, lambda _: ScriptedEngine(), AttemptName("a"))

    monkeypatch.setattr(merge._CellRows, "add", add_then_work_goes_on)
    coverage = merged(paths)
    found = content(paths.root)["sample_id"].tolist()
    assert len(found) == coverage.units_found == 36
    assert found == sorted(set(found))
    monkeypatch.undo()
    assert merged(paths).complete


def test_units_that_two_workers_answered_differently_are_counted(tmp_path: Path, many_samples: Path) -> None:
    paths = planned(tmp_path, many_samples)
    (plan,) = load_plans(paths)
    (shard,) = plan.shards
    stop = StopFlag()
    engine = stopped_after(25, stop)
    work_shard(paths, plan, shard, lambda _: engine, AttemptName("j"), stop=stop)
    part = paths.part(shard.shard_id, AttemptName("j"), 1)
    rows = read_results(part)
    position = rows.schema.get_field_index("pred")
    other = rows.set_column(position, rows.schema.field(position), pa.array(["other"] * len(rows)))
    write_table(other.slice(0, 4), paths.part(shard.shard_id, AttemptName("k"), 1))
    run_first(paths, "l")
    coverage = merged(paths)
    assert (coverage.duplicates, coverage.conflicts) == (4, 4)


def test_status_reads_on_when_an_attempt_ends_under_it(
    tmp_path: Path, many_samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = planned(tmp_path, many_samples)
    (plan,) = load_plans(paths)
    shard_id = plan.shards[0].shard_id
    with attempt_on(paths, shard_id, AttemptName("j")) as attempt:
        attempt.progress(3, 60, 3)
        read = attempt_files.read_json

        def read_late(path: Path) -> Any:
            if path.name.endswith(".progress.json"):
                path.unlink(missing_ok=True)
            return read(path)

        monkeypatch.setattr(attempt_files, "read_json", read_late)
        assert run_status(read_run(paths)).state == "running"


def test_a_worker_whose_parts_the_finisher_deletes_ends_in_peace(
    tmp_path: Path, many_samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = planned(tmp_path, many_samples)
    write = parts.write_table

    def write_late(table: Any, path: Path) -> None:
        if path.name.startswith("part-slow"):
            assert run_first(paths, "fast") is Outcome.DONE
            raise FileNotFoundError(path)
        write(table, path)

    monkeypatch.setattr(parts, "write_table", write_late)
    assert run_first(paths, "slow") is Outcome.DONE
    monkeypatch.undo()
    assert merged(paths).complete


def test_a_finisher_whose_twin_has_removed_their_file_ends_cleanly(
    tmp_path: Path, many_samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two losers with the same rows share one file name; the first to lose removes it."""
    paths = planned(tmp_path, many_samples)
    run_first(paths, "winner")
    (done,) = paths.shards.glob("*.done.json")
    winner = done.read_text()
    done.unlink()
    real = Path.replace

    def replace_and_lose(source: Path, target: Path) -> Path:
        moved = real(source, target)
        if target.parent == paths.shards and target.suffix == ".parquet":
            target.unlink()
            done.write_text(winner)
        return moved

    monkeypatch.setattr(Path, "replace", replace_and_lose)
    assert run_first(paths, "loser") is Outcome.DONE
    monkeypatch.undo()
    assert merged(paths).complete


def test_an_engine_that_forgets_a_prompt_breaks_the_run(tmp_path: Path, many_samples: Path) -> None:
    class Forgetful(ScriptedEngine):
        def generate(self, prompts: Any, settings: Any, should_stop: Any = None) -> Any:
            return super().generate(prompts[:-2], settings, should_stop)

    paths = planned(tmp_path, many_samples)
    (plan,) = load_plans(paths)
    with pytest.raises(EngineError, match="no answer for 2 of 60 prompts"):
        work_shard(paths, plan, plan.shards[0], lambda _: Forgetful(), AttemptName("j"))
    assert not paths.done(plan.shards[0].shard_id).exists()


def test_a_merge_of_split_shards_keeps_the_order_and_counts_duplicates(
    tmp_path: Path, many_samples: Path
) -> None:
    from dataclasses import replace

    from aceslm.core.values import Shard
    from aceslm.plan.files import save_plan

    paths = planned(tmp_path, many_samples)
    stop = StopFlag()

    class Interrupted(ScriptedEngine):
        def generate(self, prompts: Any, settings: Any, should_stop: Any = None) -> Any:
            for n, completion in enumerate(super().generate(prompts, settings, should_stop)):
                stop.reason = "preempted" if n == 19 else None
                yield completion

    (plan,) = load_plans(paths)
    old = plan.shards[0]
    work_shard(paths, plan, old, lambda _: Interrupted(), AttemptName("j"), stop=stop)
    halves = tuple(
        Shard(f"c000-p02-{n:04d}", old.cell_id, ranges, replaces=(old.shard_id,))
        for n, ranges in enumerate([((40, 60), (0, 10)), ((5, 40),)])
    )
    save_plan(paths, replace(plan, number=2, shards=halves))
    second = load_plans(paths)[1]
    for shard in second.shards:
        work_shard(paths, second, shard, lambda _: ScriptedEngine(), AttemptName("k"))
    coverage = merged(paths)
    assert coverage.complete
    assert coverage.duplicates == 20 + 5
    assert coverage.conflicts == 0
    assert content(paths.root)["sample_id"].tolist() == [f"s{n:03d}" for n in range(60)]


def test_changed_code_is_refused_unless_mixing_is_allowed(
    aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1")
    monkeypatch.setattr("launch.ledger.code_digest", lambda: "other")
    refused = aceslm("submit", grid_file, "--cluster", "debug")
    assert refused.status == 1
    assert "the code of aceslm has changed" in refused.err
    assert "--allow-mixed" in refused.err
    assert aceslm("submit", grid_file, "--cluster", "debug", "--allow-mixed").status == 0


def test_a_results_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(CorruptRun, match="its columns are not those of schema version"):
        read_results(tmp_path / "x.parquet")
