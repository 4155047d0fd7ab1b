"""Cluster profile + plan -> arrays: which shards are a task, which tasks an array, how many run at once.

plan = layout(run, shards, profile, rate_of)
plan.tasks, plan.arrays, plan.num_waiting
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from aceslm.config.cluster import ClusterProfile
from aceslm.core.errors import LaunchError, nearest
from aceslm.core.run import Run
from aceslm.core.values import Resources, Shard
from aceslm.plan.shards import levels
from launch.prepare.rates import Rate, RateOf
from launch.prepare.targets import at_site
from launch.slurm import client as slurm

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class ArrayPlan:
    """One array of a submission: the tasks `first .. first + count - 1` of its index map.

    `parallel` is this array's share of `max_parallel`; `after` are the positions of the arrays that must end
    before this one may start: those that hold what its shards need, and the one before in its chain where
    there are more arrays than the budget has slots.
    """

    first: int
    count: int
    resources: Resources
    parallel: int
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskGroup:
    """Tasks of one stage that ask for the same resources."""

    resources: Resources
    tasks: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Tasks and arrays of one submission, before any name or folder is chosen."""

    tasks: tuple[tuple[str, ...], ...]
    arrays: tuple[ArrayPlan, ...]
    num_waiting: int


def layout(run: Run, shards: Sequence[Shard], profile: ClusterProfile, rate_of: RateOf) -> Layout:
    """Decide tasks and arrays; what exceeds `max_submitted` waits for the next wave.

    A time limit is twice what measured rates say, where there are any, and never more than was asked for.
    """
    limit = profile.max_array_size or slurm.max_array_size()
    groups = make_tasks(run, shards, profile, rate_of)
    room = profile.max_submitted or sum(len(group.tasks) for group in groups)
    kept, waiting = [], 0
    for group in groups:
        kept.append(replace(group, tasks=group.tasks[:room]))
        waiting += len(group.tasks) - len(kept[-1].tasks)
        room -= len(kept[-1].tasks)
    kept = [group for group in kept if group.tasks]
    flat = tuple(task for group in kept for task in group.tasks)
    needs = {shard.shard_id: shard.needs for shard in shards}
    return Layout(flat, tuple(make_arrays(kept, profile, limit, needs)), waiting)


def make_tasks(
    run: Run, shards: Sequence[Shard], profile: ClusterProfile, rate_of: RateOf
) -> list[TaskGroup]:
    """Group shards by stage and resources, and pack those that share a model into tasks; stages in order."""
    stages = levels(shards)
    rates = {name: rate_of(run.cell(name)) for name in {shard.cell_id for shard in shards}}
    largest: dict[Rate, int] = {}
    for shard in (shard for shard in shards if shard.step == "answer"):
        if rate := rates[shard.cell_id]:
            largest[rate] = max(largest.get(rate, 0), shard.num_units)
    groups: dict[tuple[int, Resources], dict[tuple[str, ...], list[str]]] = {}
    for shard in sorted(shards, key=lambda one: stages[one.shard_id]):
        cell = run.cell(shard.cell_id)
        asked = at_site(run.resources(cell.model.name), profile)
        rate = rates[shard.cell_id]
        if rate and shard.step == "answer":  # rates say nothing about roles
            samples = largest[rate] * profile.shards_per_task
            asked = replace(asked, time_min=rate.time_min(samples, cap=asked.time_min))
        place = (stages[shard.shard_id], asked)
        model = (cell.model.model_id, cell.model.revision, cell.quantization, cell.dtype)
        groups.setdefault(place, {}).setdefault(model, []).append(shard.shard_id)
    size = profile.shards_per_task
    return [
        TaskGroup(resources, tuple(task for names in models.values() for task in _chunks(names, size)))
        for (_, resources), models in groups.items()
    ]


def _chunks(names: Sequence[_Item], size: int) -> list[tuple[_Item, ...]]:
    return [tuple(names[start : start + size]) for start in range(0, len(names), size)]


def make_arrays(
    groups: Sequence[TaskGroup],
    profile: ClusterProfile,
    array_limit: int,
    needs: Mapping[str, Sequence[str]] | None = None,
) -> list[ArrayPlan]:
    """Split each group at the site's largest array and divide `max_parallel` over all arrays.

    Args:
        needs: shard -> the shards that must have ended before it starts.
    """
    pieces = [(group.resources, tasks) for group in groups for tasks in _chunks(group.tasks, array_limit)]
    held = {name: n for n, (_, tasks) in enumerate(pieces) for task in tasks for name in task}
    shares, chain = _shares([len(tasks) for _, tasks in pieces], profile.max_parallel)
    arrays: list[ArrayPlan] = []
    for n, (resources, tasks) in enumerate(pieces):
        wanted = {need for task in tasks for name in task for need in (needs or {}).get(name, ())}
        after = {held[need] for need in wanted if need in held} | chain[n]
        first = arrays[-1].first + arrays[-1].count if arrays else 0
        arrays.append(ArrayPlan(first, len(tasks), resources, shares[n], tuple(sorted(after))))
    return arrays


def _shares(counts: Sequence[int], budget: int | None) -> tuple[list[int], list[set[int]]]:
    """Return each array's `%N`, and the array it must wait for, if any; together never more than `budget`."""
    none: list[set[int]] = [set() for _ in counts]
    if budget is None or sum(counts) <= budget:
        return list(counts), none
    if len(counts) > budget:
        # More arrays than slots: `budget` chains of arrays, each array one task at a time.
        return [1] * len(counts), [{n - budget} if n >= budget else set() for n in range(len(counts))]
    shares = [1] * len(counts)
    for _ in range(budget - len(counts)):
        hungriest = max(range(len(counts)), key=lambda n: (counts[n] - shares[n]) / shares[n])
        if shares[hungriest] < counts[hungriest]:
            shares[hungriest] += 1
    return shares, none


def check_limits(arrays: Sequence[ArrayPlan], profile: ClusterProfile) -> None:
    """Find requests that Slurm would accept and never run.

    Raises:
        LaunchError: unknown partition, more time, CPUs or memory than any of its nodes has.
    """
    limits = slurm.partition_limits(profile.partition)
    if limits is None:
        known = nearest(profile.partition or "", slurm.partitions())
        raise LaunchError(f"partition '{profile.partition}' does not exist{known}")
    for array in arrays:
        asked = array.resources
        ranks = profile.ranks_per_task
        if limits.max_time_min is not None and asked.time_min > limits.max_time_min:
            raise LaunchError(
                f"time_min {asked.time_min} is over the partition's limit of {limits.max_time_min} min: "
                "such a job would wait for ever; lower time_min in the profile or in `resources`"
            )
        if asked.cpus * ranks > limits.cpus_per_node:
            have = limits.cpus_per_node
            raise LaunchError(f"cpus {asked.cpus} x {ranks} ranks is more than a node has ({have})")
        if asked.mem_gb * 1024 > limits.mem_mb_per_node:
            raise LaunchError(f"mem_gb {asked.mem_gb} is more than a node has ({limits.mem_mb_per_node} MB)")
    nodes = profile.sbatch.get("nodes", 1)
    if int(str(nodes).split("-", maxsplit=1)[0]) > limits.nodes:
        raise LaunchError(f"nodes {nodes} is more than the partition has ({limits.nodes})")
