"""Where the cells of a grid will run, as far as that is known before: to compare with what was measured."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from aceslm.config.cluster import ClusterProfile, cluster_profile
from aceslm.core.machine import hardware
from aceslm.core.paths import RunPaths
from aceslm.core.values import Cell, Plan
from aceslm.run.workload import workload_of
from launch.ledger import WorkerOptions
from launch.prepare.rates import Rate, RateOf, Target, Where, measured_rates
from launch.submit.arrays import site_of, task_defaults
from launch.submit.local import cores_of_a_worker, num_gpus, visible_gpus


def where_of(
    cluster: str, profile: str = "local", options: WorkerOptions | None = None, workers: int | None = None
) -> Where:
    """Return where a cluster runs a cell."""
    options = options or WorkerOptions()
    if cluster == "slurm":
        return on_slurm(cluster_profile(profile), options)
    pool = workers or cluster_profile("local").workers or max(1, num_gpus())
    return here(options, pool if cluster == "local" else 1)


def here(options: WorkerOptions, workers: int = 1) -> Where:
    """Return where a pool on this machine, or this very process, runs a cell."""

    def where(cell: Cell, _: Mapping[str, Any]) -> Target:
        device = _device(cell, options, "cuda" if num_gpus() else "mps" if _is_apple() else "cpu")
        mine = hardware(device, _gpu_name() if device == "cuda" else None)
        cores = mine.cores if workers == 1 else cores_of_a_worker(workers)
        return Target(mine.device, cores, mine.name, mine.site)

    return where


def on_slurm(profile: ClusterProfile, options: WorkerOptions) -> Where:
    """Return where array tasks of this profile run a cell: which CPU or GPU that is, only Slurm knows."""

    def where(cell: Cell, planned: Mapping[str, Any]) -> Target:
        asked = task_defaults(profile, planned)
        device = _device(cell, options, "cuda" if asked["gpus"] else "cpu")
        return Target(device, asked["cpus"], None, site_of(profile))

    return where


def rate_finder(
    results: Path, where: Where, engine: str, resources: Mapping[str, Mapping[str, Any]]
) -> RateOf:
    """Return what finds a cell's rate among all that was measured below `results`.

    Args:
        resources: model name -> what one of its tasks asks for.
    """
    rates = measured_rates(results)

    def rate_of(cell: Cell) -> Rate | None:
        target = where(cell, resources.get(cell.model.name, {}))
        return rates.comparable(workload_of(cell, engine), target)

    return rate_of


def rates_of_run(
    paths: RunPaths, plans: Sequence[Plan], profile: ClusterProfile, options: WorkerOptions
) -> RateOf:
    """Return what finds the rate of a run's cells on the nodes that a profile asks for."""
    resources = {name: asked for plan in reversed(plans) for name, asked in plan.resources.items()}
    return rate_finder(paths.root.parent, on_slurm(profile, options), options.engine, resources)


def _device(cell: Cell, options: WorkerOptions, auto: str) -> str:
    if workload_of(cell, options.engine).engine == "scripted":
        return "none"
    return auto if options.device == "auto" else options.device.partition(":")[0]


def _is_apple() -> bool:
    return platform.system() == "Darwin" and platform.machine() == "arm64"


@cache
def _gpu_name() -> str | None:
    """Return the name of the first GPU that this process may use, without importing torch."""
    first = next(iter(visible_gpus() or ()), "0")
    command = ["nvidia-smi", f"--id={first}", "--query-gpu=name", "--format=csv,noheader"]
    try:
        named = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return named.stdout.strip() or None if named.returncode == 0 else None
