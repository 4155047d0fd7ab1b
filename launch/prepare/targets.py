"""Where the cells of a grid will run, as far as that is known before: to compare with what was measured."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

from aceslm.config.cluster import ClusterProfile
from aceslm.core.machine import hardware
from aceslm.core.run import Run
from aceslm.core.values import Cell, Resources
from aceslm.run.workload import workload_of
from launch.ledger import WorkerOptions
from launch.prepare.rates import Rate, RateOf, Target, TargetOf, measured_rates
from launch.prepare.workers import cores_of_a_worker, gpu_name, num_gpus


def here(options: WorkerOptions, workers: int = 1) -> TargetOf:
    """Return where a pool on this machine, or this very process, runs a cell."""

    def target_of(cell: Cell, _: Resources) -> Target:
        device = _device(cell, options, "cuda" if num_gpus() else "mps" if _is_apple() else "cpu")
        mine = hardware(device, gpu_name() if device == "cuda" else None)
        cores = mine.cores if workers == 1 else cores_of_a_worker(workers)
        return Target(mine.device, cores, mine.name, mine.site)

    return target_of


def on_slurm(profile: ClusterProfile, options: WorkerOptions) -> TargetOf:
    """Return where array tasks of this profile run a cell: which CPU or GPU that is, only Slurm knows."""

    def target_of(cell: Cell, planned: Resources) -> Target:
        asked = at_site(planned, profile)
        device = _device(cell, options, "cuda" if asked.gpus else "cpu")
        return Target(device, asked.cpus, None, site_of(profile))

    return target_of


def at_site(asked: Resources, profile: ClusterProfile) -> Resources:
    """Return resources with what the profile says in their place."""
    figures = {one.name: getattr(profile, one.name) for one in fields(Resources)}
    return replace(asked, **{key: figure for key, figure in figures.items() if figure is not None})


def site_of(profile: ClusterProfile) -> str:
    """Return in words what a profile asks the scheduler for: a rate measured there is of no other place."""
    ranks = f"{profile.ranks_per_task} ranks" if profile.ranks_per_task > 1 else None
    partition = profile.partition or "default partition"
    return ", ".join(filter(None, [partition, profile.constraint, profile.gres, ranks]))


def rate_finder(
    results: Path, target_of: TargetOf, engine: str, resources: Mapping[str, Resources]
) -> RateOf:
    """Return what finds a cell's rate among all that was measured below `results`.

    Args:
        resources: model name -> what one of its tasks asks for.
    """
    rates = measured_rates(results)

    def rate_of(cell: Cell) -> Rate | None:
        target = target_of(cell, resources.get(cell.model.name, Resources()))
        return rates.comparable(workload_of(cell, engine), target)

    return rate_of


def rates_of_run(run: Run, profile: ClusterProfile, options: WorkerOptions) -> RateOf:
    """Return what finds the rate of a run's cells on the nodes that a profile asks for."""
    resources = {cell.model.name: run.resources(cell.model.name) for cell in run.cells}
    return rate_finder(run.paths.root.parent, on_slurm(profile, options), options.engine, resources)


def _device(cell: Cell, options: WorkerOptions, auto: str) -> str:
    if workload_of(cell, options.engine).engine == "scripted":
        return "none"
    return auto if options.device == "auto" else options.device.partition(":")[0]


def _is_apple() -> bool:
    return platform.system() == "Darwin" and platform.machine() == "arm64"
