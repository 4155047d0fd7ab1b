"""What this process may use of its machine: cores, memory, GPUs, ranks; counted here and nowhere else.

    available_cores()      # affinity, the scheduler's share, the pool's, cgroup quotas: the smallest
    free_memory_bytes()    # of the machine and of every cgroup around this process: the smallest
    step_ranks()           # which of the processes that one srun started this is

Environments and the root of the file system are arguments, for tests.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

_ROOT = Path("/")
_CORE_SHARES = ("ACESLM_CORES", "SLURM_CPUS_PER_TASK")  # the local pool's, the scheduler's
_RESERVED_STEPS = 0xFFFFFFF0  # batch, interactive and extern steps have numbers from here on
_FILE_CACHE = {2: ("inactive_file", "active_file"), 1: ("total_inactive_file", "total_active_file")}


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of the `num_ranks` processes of one task this is."""

    rank: int = 0
    num_ranks: int = 1


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a process computes on. `device` is cpu, cuda, mps or none; `name` that of the GPU or the CPU.

    `site` is what a scheduler was asked for (partition, constraint, generic resources); empty without one.
    """

    device: str
    name: str
    cores: int
    site: str = ""

    def __str__(self) -> str:
        cores = f"{self.cores} core" + ("" if self.cores == 1 else "s")
        return ", ".join(filter(None, [self.name, cores, self.site]))


def hardware(device: str, name: str | None = None, environment: Mapping[str, str] = os.environ) -> Hardware:
    """Return what this process computes on.

    Args:
        device: as an engine names it; a GPU's number does not matter.
        name: of the GPU, where it is one.
    """
    site = environment.get("ACESLM_SITE", environment.get("SLURM_JOB_PARTITION", ""))
    return Hardware(device.partition(":")[0], name or cpu_name(), available_cores(environment), site)


def available_cores(environment: Mapping[str, str] = os.environ, root: Path = _ROOT) -> int:
    """Return the cores that this process may use, at least 1."""
    limits = [_affinity(), *_quota_cores(root)]
    limits += [count for name in _CORE_SHARES if (count := _count(environment.get(name)))]
    return max(1, min(limits))


def machine_cores() -> int:
    """Return the cores that this machine has, whoever may use them."""
    return os.cpu_count() or 1


def usable_cpus() -> list[int]:
    """Return the numbers of the CPUs that this process may run on, as many as `available_cores()`."""
    if hasattr(os, "sched_getaffinity"):
        numbers = sorted(os.sched_getaffinity(0))
    else:  # macOS does not bind processes
        numbers = list(range(machine_cores()))
    return numbers[: available_cores()]


def cpu_name(root: Path = _ROOT) -> str:
    """Return the CPU's model."""
    for line in _read(root / "proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def free_memory_bytes(root: Path = _ROOT) -> int:
    """Return the memory that this process may still take: what is left of the machine and of its cgroups.

    File cache counts as free: the kernel gives it up before it refuses memory.
    """
    return max(0, min([int(psutil.virtual_memory().available), *_memory_left(root)]))


def step_ranks(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Return this process's rank among those of the step that srun started it in.

    The number of tasks that an allocation was asked for (`salloc -n 4`) makes no rank: without a step of that
    many processes one process has all the work.
    """
    step = _number(environment.get("SLURM_STEP_ID", environment.get("SLURM_STEPID")))
    rank, size = (_number(environment.get(name)) for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))
    if step is None or step >= _RESERVED_STEPS or rank is None or size is None or rank >= size:
        return Ranks()
    return Ranks(rank, size)


def allocated_gpus(environment: Mapping[str, str] = os.environ) -> float:
    """Return this process's GPUs: the ranks of a task share those of its job."""
    of_job = environment.get("SLURM_JOB_GPUS")
    listed = of_job or environment.get("CUDA_VISIBLE_DEVICES") or ""
    count = len([name for name in listed.split(",") if name.strip() not in {"", "-1"}])
    return count / step_ranks(environment).num_ranks if of_job else float(count)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return machine_cores()


def _quota_cores(root: Path) -> Iterator[int]:
    """Yield the whole cores that each CPU quota around this process allows."""
    for version, folder in _groups("cpu", root):
        if version == 2:
            quota, _, period = _read(folder / "cpu.max").partition(" ")
        else:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        allowed, every = _number(quota), _number(period)
        if allowed and every:
            yield max(1, allowed // every)


def _memory_left(root: Path) -> Iterator[int]:
    """Yield what each memory limit around this process leaves, in bytes."""
    for version, folder in _groups("memory", root):
        lines = _read(folder / "memory.stat").splitlines()
        stat = {name: value for name, _, value in (line.partition(" ") for line in lines)}
        if version == 2:
            limits = [_read(folder / "memory.max"), _read(folder / "memory.high")]
            used = _number(_read(folder / "memory.current"))
        else:
            limits = [_read(folder / "memory.limit_in_bytes"), stat.get("hierarchical_memory_limit", "")]
            used = _number(_read(folder / "memory.usage_in_bytes"))
        known = [limit for text in limits if (limit := _number(text)) is not None]
        if known and used is not None:
            cache = sum(_number(stat.get(name)) or 0 for name in _FILE_CACHE[version])
            yield min(known) - max(0, used - cache)


def _groups(controller: str, root: Path) -> Iterator[tuple[int, Path]]:
    """Yield version and folder of every cgroup around this process that `controller` may limit.

    A container may see its own group as the top of the mount (`root` field of mountinfo): paths are taken
    relative to that. Where both versions are mounted, both are looked at.
    """
    own = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (number == "0" and not controllers) or controller in controllers.split(","):
            own[2 if not controllers else 1] = path
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        version = {"cgroup": 1, "cgroup2": 2}.get(kind[0])
        if version not in own or (version == 1 and controller not in kind[2].split(",")):
            continue
        top = root / fields[4].lstrip("/")
        yield from ((version, folder) for folder in _upwards(top, fields[3], own[version]))


def _upwards(top: Path, mounted: str, own: str) -> Iterator[Path]:
    """Yield the folders from a group up to the mount's top; the top alone where the group is not below it."""
    inside = Path("/", own).parts[1:]
    above = Path("/", mounted).parts[1:]
    if inside[: len(above)] != above or ".." in inside:
        yield top
        return
    below = inside[len(above) :]
    for length in range(len(below), -1, -1):
        yield top.joinpath(*below[:length])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str | None) -> int | None:
    """Read a whole number that is not negative; anything else (`max`, -1, nothing) is None."""
    return int(text) if text and text.strip().isascii() and text.strip().isdigit() else None


def _count(text: str | None) -> int:
    return _number(text) or 0
