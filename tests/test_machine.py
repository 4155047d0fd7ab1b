"""What a process may use of its machine: cores, memory, ranks; from files and environments made up here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from aceslm.core import machine
from aceslm.run import attempts

GIB = 1 << 30
V2 = "41 31 0:38 {root} /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
V1 = "35 31 0:32 {root} /sys/fs/cgroup/{name} rw,relatime shared:9 - cgroup cgroup rw,{name}\n"


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 32 cores and 100 GiB free, without a scheduler."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "ACESLM_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)), raising=False)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=100 * GIB))


def files(root: Path, contents: Mapping[str, object]) -> Path:
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n" if not str(text).endswith("\n") else str(text))
    return root


def v2(root: Path, own: str, contents: Mapping[str, object], *, mounted: str = "/") -> Path:
    about = {"proc/self/cgroup": f"0::{own}\n", "proc/self/mountinfo": V2.format(root=mounted)}
    return files(root, {**about, **{f"sys/fs/cgroup/{name}": text for name, text in contents.items()}})


def v1(root: Path, own: str, contents: Mapping[str, object], *, mounted: str = "/") -> Path:
    groups = f"4:memory:{own}\n3:cpu,cpuacct:{own}\n1:name=systemd:/\n0::/\n"
    mounts = V1.format(root=mounted, name="memory") + V1.format(root=mounted, name="cpu,cpuacct")
    about = {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts}
    return files(root, {**about, **{f"sys/fs/cgroup/{name}": text for name, text in contents.items()}})


def test_free_memory_is_what_the_cgroup_leaves_file_cache_not_counted(tmp_path: Path) -> None:
    root = v2(
        tmp_path,
        "/job_7/step_0",
        {
            "job_7/step_0/memory.max": 16 * GIB,
            "job_7/step_0/memory.high": "max",
            "job_7/step_0/memory.current": 12 * GIB,
            "job_7/step_0/memory.stat": f"anon {4 * GIB}\ninactive_file {5 * GIB}\nactive_file {3 * GIB}\n",
        },
    )
    assert machine.free_memory_bytes(root) == 12 * GIB


@pytest.mark.parametrize(
    ("levels", "free"),
    [
        ({"": ("max", "max", 90), "job": (32, "max", 10), "job/step": ("max", "max", 9)}, 22),
        ({"": (64, "max", 60), "job": (32, "max", 10), "job/step": (8, "max", 1)}, 4),
        ({"job": (32, 16, 10), "job/step": ("max", 12, 10)}, 2),
        ({"job": (32, "max", 40)}, 0),
        ({"job": (500, "max", 10)}, 100),
        ({}, 100),
    ],
)
def test_the_tightest_of_nested_limits_counts(tmp_path: Path, levels: dict[str, tuple], free: int) -> None:
    def size(value: object) -> object:
        return value if isinstance(value, str) else int(value) * GIB  # type: ignore[call-overload]

    contents = {}
    for folder, (most, high, now) in levels.items():
        place = f"{folder}/" if folder else ""
        contents |= {
            f"{place}memory.max": size(most),
            f"{place}memory.high": size(high),
            f"{place}memory.current": size(now),
        }
    assert machine.free_memory_bytes(v2(tmp_path, "/job/step", contents)) == free * GIB


def test_version_1_of_cgroups_limits_too_with_what_its_ancestors_allow(tmp_path: Path) -> None:
    unlimited = 9223372036854771712
    root = v1(
        tmp_path,
        "/slurm/uid_1/job_2",
        {
            "memory/slurm/uid_1/job_2/memory.limit_in_bytes": unlimited,
            "memory/slurm/uid_1/job_2/memory.usage_in_bytes": 6 * GIB,
            "memory/slurm/uid_1/job_2/memory.stat": (
                f"inactive_file 1\nhierarchical_memory_limit {20 * GIB}\n"
                f"total_inactive_file {1 * GIB}\ntotal_active_file {1 * GIB}\n"
            ),
        },
    )
    assert machine.free_memory_bytes(root) == 16 * GIB
    files(root, {"sys/fs/cgroup/memory/slurm/memory.limit_in_bytes": 8 * GIB})
    files(root, {"sys/fs/cgroup/memory/slurm/memory.usage_in_bytes": 7 * GIB})
    assert machine.free_memory_bytes(root) == 1 * GIB


@pytest.mark.parametrize("make", [v1, v2])
def test_a_container_that_sees_its_own_group_as_the_mount_is_limited(tmp_path: Path, make: object) -> None:
    """Docker shows `/docker/<id>` in /proc/self/cgroup and mounts that folder at /sys/fs/cgroup."""
    contents = (
        {"memory/memory.limit_in_bytes": 4 * GIB, "memory/memory.usage_in_bytes": GIB}
        if make is v1
        else {"memory.max": 4 * GIB, "memory.current": GIB}
    )
    root = make(tmp_path, "/docker/abc", contents, mounted="/docker/abc")  # type: ignore[operator]
    assert machine.free_memory_bytes(root) == 3 * GIB


@pytest.mark.parametrize("text", ["", "nonsense\n", "0::\n", "0::/../..\n", "4:memory\n"])
def test_an_odd_or_missing_cgroup_file_limits_nothing(tmp_path: Path, text: str) -> None:
    root = files(tmp_path, {"proc/self/cgroup": text, "proc/self/mountinfo": "1 2 x\n\n"})
    assert machine.free_memory_bytes(root) == 100 * GIB
    assert machine.free_memory_bytes(tmp_path / "nowhere") == 100 * GIB
    assert machine.available_cores({}, root) == 32


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({"job/cpu.max": "400000 100000"}, 4),
        ({"job/cpu.max": "250000 100000"}, 2),
        ({"job/cpu.max": "50000 100000"}, 1),
        ({"job/cpu.max": "max 100000"}, 32),
        ({"cpu.max": "800000 100000", "job/cpu.max": "max 100000"}, 8),
        ({"job/cpu.max": "1600000 200000", "job/step/cpu.max": "300000 100000"}, 3),
        ({"job/cpu.max": "broken"}, 32),
    ],
)
def test_a_quota_of_any_level_limits_the_cores(tmp_path: Path, quotas: dict[str, str], cores: int) -> None:
    assert machine.available_cores({}, v2(tmp_path, "/job/step", quotas)) == cores


def test_a_quota_of_version_1_limits_the_cores(tmp_path: Path) -> None:
    own = "cpu,cpuacct/job/"
    root = v1(tmp_path, "/job", {f"{own}cpu.cfs_quota_us": 600000, f"{own}cpu.cfs_period_us": 100000})
    assert machine.available_cores({}, root) == 6
    files(root, {f"sys/fs/cgroup/{own}cpu.cfs_quota_us": -1})
    assert machine.available_cores({}, root) == 32


@pytest.mark.parametrize(
    ("environment", "cores"),
    [
        ({}, 32),
        ({"SLURM_CPUS_PER_TASK": "8"}, 8),
        ({"SLURM_CPUS_PER_TASK": "8", "ACESLM_CORES": "3"}, 3),
        ({"SLURM_CPUS_PER_TASK": "64"}, 32),
        ({"SLURM_CPUS_PER_TASK": "0"}, 32),
        ({"ACESLM_CORES": "many"}, 32),
    ],
)
def test_the_scheduler_and_the_pool_limit_the_cores(
    tmp_path: Path, environment: dict[str, str], cores: int
) -> None:
    assert machine.available_cores(environment, tmp_path) == cores


def test_all_counters_of_cores_are_one_also_where_affinity_is_not_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from aceslm.core.files import read_json
    from aceslm.core.paths import AttemptName, RunPaths
    from aceslm.engine import devices
    from launch.prepare.workers import cores_of_a_worker

    monkeypatch.delattr(os, "sched_getaffinity")  # macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert machine.available_cores({}, tmp_path) == 10
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    counted = machine.available_cores()
    assert counted == min(6, counted)
    assert devices.available_cores() == counted
    assert cores_of_a_worker(2) == max(1, counted // 2)
    paths, name = RunPaths(tmp_path), AttemptName("j")
    with attempts.attempt_on(paths, "s", name):
        pass
    assert read_json(paths.started("s", name))["cpus"] == counted


REAL_STEP = {"SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}


@pytest.mark.parametrize(
    ("environment", "ranks"),
    [
        ({}, (0, 1)),
        ({**REAL_STEP, "SLURM_PROCID": "3"}, (3, 4)),
        ({**REAL_STEP, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, (0, 1)),
        # `salloc -n 4`: a shell of the allocation, no step
        ({"SLURM_JOB_ID": "9", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4"}, (0, 1)),
        # `sbatch -n 4` without srun: the batch script is task 0 of no step
        ({"SLURM_JOB_ID": "9", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, (0, 1)),
        # salloc's interactive step, and the batch step where it has a number: reserved numbers
        ({**REAL_STEP, "SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967290"}, (0, 1)),
        ({**REAL_STEP, "SLURM_PROCID": "0", "SLURM_STEP_ID": "4294967291"}, (0, 1)),
        # a step's size without a rank in it, or a rank outside it
        (REAL_STEP, (0, 1)),
        ({**REAL_STEP, "SLURM_PROCID": "7"}, (0, 1)),
        ({**REAL_STEP, "SLURM_PROCID": "x"}, (0, 1)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEPID": "11"}, (2, 4)),
    ],
)
def test_ranks_are_those_of_a_step_that_srun_made(
    environment: dict[str, str], ranks: tuple[int, int]
) -> None:
    found = machine.step_ranks(environment)
    assert (found.rank, found.num_ranks) == ranks


def test_a_place_in_an_allocation_without_a_step_answers_every_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    from launch.ledger import Intent, WorkerOptions
    from launch.node import place as worker

    monkeypatch.setattr(worker, "_watch_signals", lambda *_: None)
    monkeypatch.setattr(worker.slurm, "job_end_epoch_s", lambda _: 1e12)
    intent = Intent(1, "t", "slurm", (("s",),), WorkerOptions(), "c", "h", 1, 0.0)
    for name, value in {"SLURM_JOB_ID": "9", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    place = worker.slurm_place(intent)
    assert (place.name.rank, place.num_ranks) == (0, 1)
    for name, value in {**REAL_STEP, "SLURM_PROCID": "2"}.items():
        monkeypatch.setenv(name, value)
    place = worker.slurm_place(intent)
    assert (place.name.rank, place.num_ranks) == (2, 4)


@pytest.mark.parametrize(
    ("environment", "gpus"),
    [
        ({**REAL_STEP, "SLURM_PROCID": "1", "SLURM_JOB_GPUS": "0,1,2,3"}, 1.0),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_GPUS": "0,1,2,3"}, 4.0),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 2.0),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_gpus_of_a_job_are_shared_by_the_ranks_of_a_step_only(
    environment: dict[str, str], gpus: float
) -> None:
    assert machine.allocated_gpus(environment) == gpus
