"""Shard sizes and time limits come from comparable measurements, else from what was asked for; it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, only_run

from aceslm.config.cluster import ClusterProfile
from aceslm.config.grid import GridConfig
from aceslm.core.machine import Hardware, hardware
from aceslm.core.values import Resources
from aceslm.plan.shards import DEFAULT_SHARD_SIZE
from aceslm.run.workload import Workload
from launch.ledger import WorkerOptions
from launch.prepare.rates import Rate, Rates, Target, measured_rates
from launch.prepare.run import Prepared, prepare
from launch.prepare.targets import here, on_slurm, site_of
from launch.submit.arrays import layout

WORK = Workload("org/m", "none", "auto", "shared_prefix", "tatqa", None, "plain")
A100 = Hardware("cuda", "NVIDIA A100-SXM4-80GB", 8, "gpu")
LAPTOP = Hardware("cpu", "Some laptop's CPU", 8)
DONE = {"file": "s.parquet", "rows": 60, "bytes": 1, "sha256": "x", "schema_version": 1}


def test_a_rate_makes_sizes_and_limits() -> None:
    assert Rate(2.0, 30.0).shard_size(30) == 3600
    assert Rate(2.0, 30.0).time_min(3600, None) == 61
    assert Rate(2.0, 30.0).time_min(3600, 45) == 45


@pytest.mark.parametrize(
    "change",
    [
        {"model_id": "org/other"},
        {"quantization": "nf4"},
        {"dtype": "float32"},
        {"engine": "generate"},
        {"task": "medqa"},
        {"max_new_tokens": 8},
        {"kind": "carrying"},
        {"kind": "evolving"},
    ],
    ids=str,
)
def test_the_rate_of_other_work_says_nothing(change: dict[str, Any]) -> None:
    rates = Rates({(WORK, A100): Rate(5.0, 1.0)})
    target = Target("cuda", 8, None, "gpu")
    assert rates.comparable(WORK, target) == Rate(5.0, 1.0)
    assert rates.comparable(replace(WORK, **change), target) is None


@pytest.mark.parametrize(
    "target",
    [
        Target("cpu", 8, None, "gpu"),
        Target("cuda", 4, None, "gpu"),
        Target("cuda", 8, None, "gpu, a100"),
        Target("cuda", 8, None, ""),
        Target("cuda", 8, "NVIDIA L4", "gpu"),
        Target("mps", 8, "NVIDIA A100-SXM4-80GB", "gpu"),
    ],
    ids=str,
)
def test_the_rate_of_other_hardware_says_nothing(target: Target) -> None:
    assert Rates({(WORK, A100): Rate(5.0, 1.0)}).comparable(WORK, target) is None
    assert Rates({(WORK, LAPTOP): Rate(5.0, 1.0)}).comparable(WORK, target) is None


def test_where_a_partition_has_several_kinds_of_nodes_the_slowest_counts() -> None:
    fast, slow = Rate(9.0, 1.0, "fast"), Rate(3.0, 1.0, "slow")
    rates = Rates({(WORK, A100): fast, (WORK, replace(A100, name="Tesla T4")): slow})
    assert rates.comparable(WORK, Target("cuda", 8, None, "gpu")) == slow
    assert rates.comparable(WORK, Target("cuda", 8, A100.name, "gpu")) == fast


Measure = Callable[..., None]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Write a finished shard of some work on some hardware, 60 rows in 30 seconds."""

    def write(work: Workload, hardware: Hardware, number: int = 0, **timings: Any) -> None:
        folder = tmp_path / "results" / "earlier-1" / "shards"
        folder.mkdir(parents=True, exist_ok=True)
        taken = {"rows_generated": 60, "generate_s": 30.0, "load_s": 5.0, **timings}
        done: dict[str, Any] = {
            **DONE,
            "timings": taken,
            "workload": asdict(work),
            "hardware": asdict(hardware),
        }
        (folder / f"s{number}.done.json").write_text(json.dumps(done))

    return write


def test_rates_are_the_median_of_like_shards_only(measure: Measure, tmp_path: Path) -> None:
    for number, seconds in enumerate((30.0, 10.0, 20.0)):
        measure(WORK, A100, number, generate_s=seconds)
    measure(WORK, LAPTOP, 3, generate_s=600.0)
    measure(WORK, A100, 4, rows_generated=3)
    measure(WORK, A100, 5, generate_s=0.0)
    measure(WORK, A100, 6, generate_s="long")
    measure(replace(WORK, kind="evolving"), A100, 7)
    rates = measured_rates(tmp_path / "results")
    assert rates.measured == {
        (WORK, A100): Rate(3.0, 5.0, "NVIDIA A100-SXM4-80GB, 8 cores, gpu"),
        (WORK, LAPTOP): Rate(0.1, 5.0, "Some laptop's CPU, 8 cores"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "3",
        '{"timings": {}}',
        json.dumps(DONE),
        json.dumps({**DONE, "timings": []}),
        json.dumps({**DONE, "timings": {}, "workload": 1}),
        json.dumps({**DONE, "workload": asdict(WORK), "hardware": asdict(A100)}),
    ],
)
def test_a_done_file_without_these_facts_says_nothing(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "results" / "r" / "shards"
    folder.mkdir(parents=True)
    (folder / "s.done.json").write_text(text)
    assert measured_rates(tmp_path / "results").measured == {}


def planned(task: Path, folder: Path, **values: Any) -> Prepared:
    grid = {"models": ["scripted"], "tasks": [str(task)], "modes": ["scaffold"], "shard_minutes": 0.005}
    return prepare(GridConfig.model_validate({**grid, **values}), folder / "results")


def test_what_was_run_here_sizes_the_same_work_here_and_nothing_else(
    aceslm: Command, many_samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACESLM_SCRIPTED_DELAY_S", "0.01")
    aceslm("run", "--model-id", "scripted", "--dataset-path", many_samples)
    ((_, rate),) = measured_rates(tmp_path / "results").measured.items()
    assert 20 < rate.samples_per_s < 100

    def size(task: Path = many_samples, **values: Any) -> int:
        plan = planned(task, tmp_path, **values).plan
        assert plan is not None
        return plan.shards[0].num_units

    assert size() == rate.shard_size(0.005) < 60
    other = tmp_path / "other.json"
    other.write_text(many_samples.read_text())
    whole = min(60, DEFAULT_SHARD_SIZE)
    assert size(task=other) == whole
    assert size(generation={"max_new_tokens": 8}) == whole
    assert size(dtype="float32") == whole
    monkeypatch.setenv("ACESLM_CORES", "1")
    if hardware("none").cores != int(rate.hardware.split(", ")[-1].split()[0]):
        assert size() == whole


def grid_of(many_samples: Path, tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(f"models: [scripted]\ntasks: ['{many_samples}']\nmodes: [baseline, scaffold]\n")
    return path


def test_a_dry_run_says_that_sizes_and_cost_are_what_was_asked_for(
    aceslm: Command, many_samples: Path, tmp_path: Path
) -> None:
    (tmp_path / "site.yaml").write_text("partition: gpu\nmax_array_size: 50\n")
    aceslm("run", "--model-id", "scripted", "--dataset-path", many_samples)  # on this machine
    grid = grid_of(many_samples, tmp_path)
    result = aceslm("submit", grid, "--cluster", "slurm", "--profile", "site.yaml", "--dry-run")
    assert "cost (requested): at most" in result.out
    assert "shard sizes: requested; where nothing comparable was measured 64 samples each" in result.out
    assert "#SBATCH --time=10" in result.out
    fixed = aceslm("submit", grid, "--cluster", "local", "--dry-run", "--set", "shard_size=7")
    assert "shard sizes: requested (shard_size: 7)" in fixed.out


def test_a_dry_run_says_on_what_its_figures_were_measured(
    aceslm: Command, many_samples: Path, tmp_path: Path, measure: Measure
) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text("partition: gpu\nconstraint: a100\nmax_array_size: 50\ncpus: 4\n")
    site = site_of(ClusterProfile(partition="gpu", constraint="a100"))
    work = Workload("scripted", "none", "auto", "scripted", "sums", None, "plain")
    node = Hardware("none", "AMD EPYC 7742", 4, site)
    measure(work, node)
    grid = grid_of(many_samples, tmp_path)
    command = ("submit", grid, "--cluster", "slurm", "--profile", profile, "--dry-run")
    result = aceslm(*command)
    assert "cost (measured on AMD EPYC 7742, 4 cores, gpu, a100): at most" in result.out
    assert "shard sizes: measured on AMD EPYC 7742, 4 cores, gpu, a100, for 30 minutes each" in result.out
    assert "#SBATCH --time=5" in result.out
    assert "export ACESLM_SITE='gpu, a100'" in result.out
    mixed = aceslm(*command, "--task-name", "iot_tiny", "--task-name", str(many_samples))
    assert "for 2 of 4 cells, requested for the others" in mixed.out


def test_a_laptops_rate_lowers_no_time_limit_of_a_cluster(
    many_samples: Path, tmp_path: Path, measure: Measure
) -> None:
    work = Workload("scripted", "none", "auto", "scripted", "sums", None, "plain")
    profile = ClusterProfile(partition="gpu", cpus=8, max_array_size=50)
    measure(work, Hardware("none", "Some laptop's CPU", 8))
    prepared = planned(many_samples, tmp_path, shard_size=20)
    where = on_slurm(profile, WorkerOptions())

    def limit() -> int:
        rates = measured_rates(tmp_path / "results")
        made = layout(
            prepared.run,
            prepared.run.shards,
            profile,
            lambda cell: rates.comparable(work, where(cell, Resources())),
        )
        return made.arrays[0].resources.time_min

    assert limit() == 10
    measure(work, Hardware("none", "A node's CPU", 8, "gpu"))
    assert limit() == 5


def test_a_worker_writes_down_what_its_rate_belongs_to(
    aceslm: Command, many_samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACESLM_SITE", "gpu, a100")
    tokens = ("--max-new-tokens", "8")
    assert aceslm("run", "--model-id", "scripted", "--dataset-path", many_samples, *tokens).status == 0
    (done,) = only_run(tmp_path).glob("shards/*.done.json")
    facts = json.loads(done.read_text())
    assert facts["workload"] == asdict(
        Workload("scripted", "none", "auto", "scripted", many_samples.stem, 8, "plain")
    )
    assert facts["hardware"] == asdict(hardware("none"))
    assert facts["hardware"]["site"] == "gpu, a100"
    assert facts["engine"]["dtype"] == "none"


def test_a_pilot_leaves_evolutions_and_what_carries_their_playbooks_for_later(tmp_path: Path) -> None:
    from test_ace_frozen import split_task

    grid = GridConfig.model_validate(
        {
            "models": ["scripted"],
            "tasks": [str(split_task(tmp_path, "t"))],
            "modes": ["baseline", "scaffold", "ace", "ace_frozen"],
        }
    )
    first = prepare(grid, tmp_path / "results", pilot=True)
    assert first.plan is not None
    cells = {first.plan.cell(shard.cell_id).mode for shard in first.plan.shards}
    assert cells == {"baseline"}
    assert {shard.step for shard in first.plan.shards} == {"answer"}


def test_a_target_is_what_the_worker_will_find(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task = tmp_path / "t.json"
    task.write_text('[{"id": "1", "question": "q", "answer": "a"}]')
    (cell,) = planned(task, tmp_path).cells
    mine = hardware("none")
    assert here(WorkerOptions())(cell, Resources()).is_like(mine)
    assert not on_slurm(ClusterProfile(cpus=mine.cores), WorkerOptions())(cell, Resources()).is_like(mine)
    monkeypatch.setenv("ACESLM_SITE", "default partition")
    node = replace(hardware("none"), cores=3)
    assert on_slurm(ClusterProfile(cpus=3), WorkerOptions())(cell, Resources()).is_like(node)
    real = replace(cell, model=replace(cell.model, source="hub"))
    asked = on_slurm(ClusterProfile(), WorkerOptions())(real, Resources(gpus=1, cpus=6))
    assert (asked.device, asked.cores) == ("cuda", 6)
    assert on_slurm(ClusterProfile(), WorkerOptions(device="cpu"))(real, Resources(gpus=1)).device == "cpu"
