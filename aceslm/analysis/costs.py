"""What a run has cost, and when its adaptations have paid off: as values of `costs.json`, and in words.

    values = cost_values(spent, points)      # of spent.cell_costs and break_even.break_evens
    lines = cost_lines(run, spent, points)

Hours are wall time x allocated cores or GPUs, from the files of the attempts: so also without a scheduler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from aceslm.analysis.break_even import BreakEven
from aceslm.analysis.spent import Spent, whole_cost
from aceslm.core.run import Run
from aceslm.core.values import Cell
from aceslm.plan.cells import is_adaptation


def cost_values(spent: Mapping[str, Spent], points: Sequence[BreakEven]) -> dict[str, Any]:
    """Return what `costs.json` holds."""
    return {
        "cells": {cell_id: asdict(one) for cell_id, one in spent.items()},
        "break_even": [
            {
                **asdict(point),
                "gain": point.gain,
                "questions": point.questions,
                "extra_per_correct": point.extra_per_correct(),
            }
            for point in points
        ],
    }


def cost_lines(run: Run, spent: Mapping[str, Spent], points: Sequence[BreakEven]) -> list[str]:
    """Return the run's cost in words: all of it, what was lost, what adaptations took, break-evens."""
    cells = {cell.cell_id: cell for cell in run.cells}
    whole = whole_cost(spent)
    lines = [f"All attempts took {_hours(whole.core_hours, whole.gpu_hours)}, {_joules(whole.energy_j)}."]
    if whole.failed_core_hours:
        lost = _hours(whole.failed_core_hours, whole.failed_gpu_hours)
        lines.append(f"Of this {lost} went into attempts that failed and whose rows were lost.")
    if whole.uncounted_attempts:
        one = whole.uncounted_attempts == 1
        lines.append(
            f"{whole.uncounted_attempts} {'attempt is' if one else 'attempts are'} not in these hours: files "
            "that tell of them are damaged or missing (coverage.json names them)."
        )
    lines += [
        f"Adaptation of {_name(cell)}: {_hours(spent[cell_id].core_hours, spent[cell_id].gpu_hours)}."
        for cell_id, cell in cells.items()
        if is_adaptation(cell)
    ]
    return lines + [
        point.sentence(_name(cells[point.cell_id]), cells[point.reference_cell_id].mode) for point in points
    ]


def _name(cell: Cell) -> str:
    mode = f"{cell.mode} ({cell.variant})" if cell.variant else cell.mode
    seed = f", seed {cell.seed}" if cell.seed else ""
    quantization = "" if cell.quantization == "none" else f" {cell.quantization}"
    return f"{mode} on {cell.task_name} by {cell.model.name}{quantization}{seed}"


def _hours(cores: float, gpus: float) -> str:
    return f"{cores:,.3g} core-hours" + (f" and {gpus:,.3g} GPU-hours" if gpus else "")


def _joules(energy_j: float | None) -> str:
    return "energy not measured" if energy_j is None else f"{energy_j:,.0f} J"
