"""A run directory as one value: where its files lie, and its plans, read once.

    run = read_run(RunPaths(Path("results/quickstart-1a2b3c4d")))      # aceslm.plan.files
    run.cell(shard.cell_id), run.task(cell.task_digest), run.shard("c000-p01-s0000")

What is done, running or missing is not in it: that moves while a run works, and its own readers tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from aceslm.core.paths import RunPaths
from aceslm.core.values import Cell, Plan, Resources, Shard, TaskTable


@dataclass(frozen=True)
class Run:
    """The files and plans of one run; `plans` in order, at least one.

    Cells stand in the first plan, in the order of the results. A later plan adds shards, and may know more
    samples of a task.
    """

    paths: RunPaths
    plans: tuple[Plan, ...]

    @property
    def name(self) -> str:
        """The name of the run directory."""
        return self.paths.root.name

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.plans[0].cells

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The shards of all plans, in order."""
        return tuple(shard for plan in self.plans for shard in plan.shards)

    @cached_property
    def replaced(self) -> frozenset[str]:
        """The shards whose units later ones took over."""
        return frozenset(name for shard in self.shards for name in shard.replaces)

    @property
    def greedy(self) -> bool:
        """Whether every cell decodes greedily."""
        return all(cell.generation.temperature == 0 for cell in self.cells)

    def cell(self, cell_id: str) -> Cell:
        return self._cells[cell_id]

    def shard(self, shard_id: str) -> Shard:
        return self._shards[shard_id]

    def task(self, task_digest: str) -> TaskTable:
        """Return a task's table as the last plan has it."""
        return self._tasks[task_digest]

    def resources(self, model_name: str) -> Resources:
        """Return what a task of a model asks for, as first planned."""
        asked = (plan.resources[model_name] for plan in self.plans if model_name in plan.resources)
        return next(asked, Resources())

    def shards_of(self, cell_id: str) -> tuple[Shard, ...]:
        """Return the shards of one cell, in order."""
        return self._shards_of.get(cell_id, ())

    @cached_property
    def _cells(self) -> Mapping[str, Cell]:
        return {cell.cell_id: cell for cell in self.cells}

    @cached_property
    def _shards(self) -> Mapping[str, Shard]:
        return {shard.shard_id: shard for shard in self.shards}

    @cached_property
    def _tasks(self) -> Mapping[str, TaskTable]:
        return {task.task_digest: task for plan in self.plans for task in plan.tasks}

    @cached_property
    def _shards_of(self) -> Mapping[str, tuple[Shard, ...]]:
        found: dict[str, list[Shard]] = {}
        for shard in self.shards:
            found.setdefault(shard.cell_id, []).append(shard)
        return {cell_id: tuple(shards) for cell_id, shards in found.items()}
