"""Launching, as far as it can be said without a Slurm: arrays, budgets, scripts, sizes, classes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, Command, only_run
from hypothesis import given
from hypothesis import strategies as st

from aceslm.config.cluster import ClusterProfile, cluster_profile
from aceslm.config.grid import GridConfig
from aceslm.core.errors import ConfigError
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Resources, Shard
from aceslm.plan.files import load_plans, read_run
from aceslm.run.done import unfinished
from launch.prepare.rates import no_rate
from launch.prepare.retry import split_shards
from launch.prepare.run import prepare, write_run
from launch.slurm import client as slurm
from launch.slurm import reconcile
from launch.submit.arrays import Layout, TaskGroup, layout, make_arrays
from launch.submit.sbatch import parameters, sbatch_text

SMALL = Resources(gpus=1, cpus=2, mem_gb=3, time_min=30)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 20), st.integers(1, 9))
def test_together_the_arrays_never_exceed_the_parallel_budget(
    sizes: list[int], budget: int, array_limit: int
) -> None:
    groups = [
        TaskGroup(Resources(time_min=n), tuple((f"g{n}s{one}",) for one in range(size)))
        for n, size in enumerate(sizes)
    ]
    arrays = make_arrays(groups, ClusterProfile(max_parallel=budget), array_limit)
    assert sum(array.count for array in arrays) == sum(sizes)
    assert [array.first for array in arrays] == [sum(a.count for a in arrays[:n]) for n in range(len(arrays))]
    assert all(array.count <= array_limit and 1 <= array.parallel <= array.count for array in arrays)
    # an array that waits for another one runs when that has ended: count each chain once
    roots = [array for array in arrays if not array.after]
    assert sum(array.parallel for array in roots) <= budget


def test_without_a_budget_every_task_may_run_at_once() -> None:
    (array,) = make_arrays([TaskGroup(SMALL, tuple((str(n),) for n in range(7)))], ClusterProfile(), 100)
    assert (array.count, array.parallel, array.after) == (7, 7, ())


def test_the_script_says_what_the_profile_asks_for() -> None:
    profile = ClusterProfile(
        partition="gpu",
        account="me",
        qos="high",
        constraint="a100",
        setup=("module load x",),
        environment={"HF_HOME": "/a b"},
        sbatch={"exclusive": True, "hint": "nomultithread"},
        python="apptainer exec image.sif python",
        srun_args=("--gpu-bind=single:1",),
    )
    text = sbatch_text(parameters(SMALL, profile, "name", parallel=2), Path("/logs"), 5, profile)
    for line in (
        "#SBATCH --array=0-4%2",
        "#SBATCH --partition=gpu",
        "#SBATCH --account=me",
        "#SBATCH --qos=high",
        "#SBATCH --constraint=a100",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --mem=3GB",
        "#SBATCH --time=30",
        "#SBATCH --hold",
        "#SBATCH --requeue",
        "#SBATCH --exclusive",
        "#SBATCH --hint=nomultithread",
        "#SBATCH --kill-on-invalid-dep=yes",
        "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",
        "export HF_HUB_OFFLINE=1",
        "export HF_HOME='/a b'",
        "module load x",
    ):
        assert line in text.splitlines()
    assert "--gpu-bind=single:1 apptainer exec image.sif python -u -m submitit.core._submit /logs" in text
    assert "wckey" not in text


def test_gres_replaces_gpus_and_a_cpu_job_asks_for_none() -> None:
    typed = ClusterProfile(gres="gpu:h100:1")
    assert "gpus_per_node" not in parameters(SMALL, typed, "n")
    assert parameters(SMALL, typed, "n")["gres"] == "gpu:h100:1"
    assert "gres" not in parameters(replace(SMALL, gpus=0), typed, "n")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs" / "clusters").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_profile_that_ships_is_valid(path: Path) -> None:
    assert cluster_profile(path.stem).description


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cpu-only'"):
        cluster_profile("cpuonly")


def test_a_dry_run_needs_no_slurm_and_shows_scripts_map_and_cost(
    aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    profile = tmp_path / "site.yaml"
    profile.write_text("partition: gpu\nmax_array_size: 5\nmax_parallel: 3\n")
    result = aceslm("submit", grid_file, "--cluster", "slurm", "--profile", profile, "--dry-run")
    assert result.status == 0, result.err
    assert result.out.count("#SBATCH --array=") == 3
    assert "#SBATCH --array=0-4%1" in result.out
    assert "#   4: c002-p01-0000" in result.out
    assert "--dependency='afterany:<arrays>'" in result.out
    assert "cost (requested): at most 0.0 GPU-hours, 2.3 core-hours in 14 tasks" in result.out
    refused = aceslm("submit", grid_file, "--cluster", "slurm", "--profile", profile)
    assert refused.status == 1
    assert "no sbatch on this machine" in refused.err


def test_auto_runs_here_when_no_controller_answers(
    aceslm: Command, grid_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = aceslm("submit", grid_file, "--limit", "1")
    assert "no Slurm controller answers, running on this machine" in result.err
    assert result.status == 0


def test_a_pilot_measures_one_small_shard_and_plans_the_rest_by_it(
    aceslm: Command, many_samples: Path, tmp_path: Path
) -> None:
    (tmp_path / "grid.yaml").write_text(
        f"models: [scripted]\ntasks: ['{many_samples}']\nmodes: [baseline, scaffold]\nshard_minutes: 60\n"
    )
    result = aceslm("submit", "grid.yaml", "--cluster", "debug", "--pilot")
    assert result.status == 0, result.err
    plans = load_plans(RunPaths(only_run(tmp_path)))
    assert [shard.num_units for shard in plans[0].shards] == [16]
    assert [shard.num_units for shard in plans[1].shards] == [44, 60]


def test_what_exceeds_max_submitted_waits() -> None:
    made: Layout = layout(*_planned_parts(9), ClusterProfile(max_submitted=4), no_rate)
    assert len(made.tasks) == 4
    assert made.num_waiting == 5


def test_shards_of_one_model_are_packed_into_tasks() -> None:
    made = layout(*_planned_parts(9), ClusterProfile(shards_per_task=4), no_rate)
    assert [len(task) for task in made.tasks] == [4, 4, 1]


def _planned_parts(shards: int) -> tuple[Run, Sequence[Shard]]:
    from aceslm.core.values import ModelSpec, TaskTable
    from aceslm.plan.cells import expand
    from aceslm.plan.identity import GridTask
    from aceslm.plan.shards import next_plan

    task = TaskTable("t", "d", "x", "", tuple(str(n) for n in range(shards)))
    grid = GridConfig(models=("m",), tasks=("t",), modes=("baseline",), shard_size=1)
    plan = next_plan(grid, expand(grid, [ModelSpec("m", "m", "r")], [GridTask(task)]), [task], [])
    assert plan is not None
    return Run(RunPaths(Path("results/r")), (plan,)), plan.shards


def test_splitting_spreads_only_what_is_left(tmp_path: Path, many_samples: Path) -> None:
    grid = GridConfig(models=("scripted",), tasks=(str(many_samples),), modes=("baseline",), shard_size=60)
    prepared = prepare(grid, tmp_path / "results")
    run, made = split_shards(write_run(prepared), prepared.run.shards, 4)
    assert [shard.num_units for shard in made] == [15, 15, 15, 15]
    assert unfinished(run) == made
    assert run == read_run(prepared.paths)


def test_an_attempt_that_died_is_classified_by_accounting_or_unknown() -> None:
    runs = [
        slurm.Accounted("42_3", "NODE_FAIL", 10, 2, "n1"),
        slurm.Accounted("42_3", "OUT_OF_MEMORY", 20, 2, "n2"),
        slurm.Accounted("7", "FAILED", 5, 1, "n1"),
    ]
    assert reconcile._classify("42_3-r0", runs) == ("node", 10.0)
    assert reconcile._classify("42_3-r1-p2", runs) == ("oom", 20.0)
    assert reconcile._classify("42_3-r2", runs) == ("unknown", None)
    assert reconcile._classify("7_0-r0", runs) == ("unknown", 5.0)
    assert reconcile._classify("42_3-r0", None) == ("unknown", None)


def test_memory_trouble_halves_the_batch_of_the_next_attempt(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    folder = paths.attempts("s")
    folder.mkdir(parents=True)
    for n, failure in enumerate(["oom", "preempted", "unknown"]):
        (folder / f"j_0-r{n}.ended.json").write_text(json.dumps({"class": failure}))
    assert reconcile.memory_fraction(paths, "s") == 0.25
    assert reconcile.memory_fraction(paths, "other") == 1.0


def test_the_environment_of_the_launcher_does_not_reach_sbatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "wrong")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    # a user's habits for squeue would hide queued tasks, which would then be submitted twice
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    monkeypatch.setenv("SACCT_FEDERATION", "1")
    with slurm.clean_environment():
        assert not [
            name
            for name in os.environ
            if name.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_")) and name != "SLURM_CONF"
        ]
        assert os.environ["SLURM_CONF"] == "/etc/slurm.conf"
    assert os.environ["SBATCH_PARTITION"] == "wrong"


@pytest.mark.parametrize(
    ("text", "minutes"), [("1-00:00:00", 1440), ("2:00", 2), ("12:30:00", 750), ("infinite", None)]
)
def test_slurms_times_are_read(text: str, minutes: int | None) -> None:
    assert slurm._minutes(text) == minutes


def test_work_runs_one_shard_of_a_planned_run(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    planned = aceslm("submit", grid_file, "--cluster", "local", "--plan-only")
    run = only_run(tmp_path)
    assert planned.out.strip() == f"results/{run.name}: 14 shards"
    assert "c001-p01-0000: done" in aceslm("work", f"results/{run.name}", "--index", "2").out
    assert [path.name for path in (run / "shards").glob("*.done.json")] == ["c001-p01-0000.done.json"]
    assert aceslm("work", f"results/{run.name}", "--index", "14").status == 2


def test_status_adds_up_what_was_spent(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    aceslm("submit", grid_file, "--cluster", "debug")
    run = only_run(tmp_path)
    path = next(run.glob("attempts/*/*.ended.json"))
    end = json.loads(path.read_text())
    path.write_text(json.dumps({**end, "wall_s": 7200.0, "class": "node"}))
    started = path.with_name(path.name.replace("ended", "started"))
    started.write_text(json.dumps({**json.loads(started.read_text()), "gpus": 2, "cpus": 4}))
    out = aceslm("status", f"results/{run.name}").out
    assert "4.00 GPU-hours, of them wasted 8.00 core-hours, 4.00 GPU-hours" in out
    assert "source: files" in out


def test_the_log_of_a_shard_is_found(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    aceslm("submit", grid_file, "--cluster", "local")
    run = only_run(tmp_path)
    assert (
        "shard c000-p01-0001: done" in aceslm("logs", f"results/{run.name}", "--shard", "c000-p01-0001").out
    )
    assert aceslm("logs", f"results/{run.name}", "--shard", "c9").status == 2


def test_require_clean_refuses_uncommitted_changes(
    aceslm: Command, grid_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.ledger.provenance", lambda: {"commit": "c", "dirty": "d"})
    refused = aceslm("submit", grid_file, "--cluster", "debug", "--require-clean")
    assert refused.status == 1
    assert "uncommitted changes" in refused.err


def test_doctor_prints_a_line_a_check_with_the_fix(
    aceslm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACESLM_CACHE", str(tmp_path / "empty"))
    result = aceslm("doctor")
    names = [line.split()[1] for line in result.out.splitlines()]
    assert names[:4] == ["python", "torch", "cores", "bitsandbytes"]
    assert "aceslm prestage --model-id smollm2-135m-gguf" in result.out


def test_sbatch_scripts_ask_for_what_the_array_needs() -> None:
    text = (ROOT / "sbatch" / "shards.sbatch").read_text()
    assert "#SBATCH --requeue" in text
    assert "#SBATCH --signal=USR2@" in text
