"""What a run has cost, cell by cell, and after how many questions an adaptation has paid off.

    spent = cell_costs(paths, plans)              # cell id -> hours and joules over all attempts
    lines = break_evens(paths, plans, frame)      # one for every cell whose prompts carry a playbook

Hours are wall time x allocated cores or GPUs, from the files of the attempts: so also without a scheduler.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aceslm.analysis.rows import as_bit
from aceslm.core.paths import RunPaths
from aceslm.core.values import Cell, Plan, Shard
from aceslm.run.attempt_files import AttemptRecord, End, Start, read_attempts
from aceslm.run.done import timings_of
from aceslm.run.failures import KEPT_CLASSES

if TYPE_CHECKING:
    import pandas as pd

_REFERENCES = ("scaffold", "baseline")
_ADAPTED = ("ace", "ace_frozen")  # the other modes with a playbook are controls
_GENERATOR = "generator"


@dataclass(frozen=True, slots=True)
class Spent:
    """What all attempts at a cell took; `failed_*` is the part of attempts that ended without keeping rows.

    `energy_j` is None unless every attempt that ended was measured. `uncounted_attempts` have ended too, but
    their files are damaged or missing: their hours are not in these.
    """

    core_hours: float = 0.0
    gpu_hours: float = 0.0
    failed_core_hours: float = 0.0
    failed_gpu_hours: float = 0.0
    energy_j: float | None = None
    uncounted_attempts: int = 0

    def __add__(self, other: Spent) -> Spent:
        known = self.energy_j is not None and other.energy_j is not None
        return Spent(
            self.core_hours + other.core_hours,
            self.gpu_hours + other.gpu_hours,
            self.failed_core_hours + other.failed_core_hours,
            self.failed_gpu_hours + other.failed_gpu_hours,
            (self.energy_j or 0.0) + (other.energy_j or 0.0) if known else None,
            self.uncounted_attempts + other.uncounted_attempts,
        )


@dataclass(frozen=True, slots=True)
class BreakEven:
    """When the adaptation behind one cell has paid off, against a reference without a playbook.

    With A = `adaptation` (device-seconds, once), c = `answer` and c0 = `reference_answer` (device-seconds of
    one answer with and without the playbook) and g = the gain in accuracy:

    - `questions` = A / (`share` x c): from so many questions on, the adaptation has cost at most `share` of
      what answering them cost. None where g <= 0: it never pays off.
    - `extra_per_correct(n)` = (A / n + c - c0) / g: what one additional correct answer has cost more after n
      questions; with ever more of them (c - c0) / g.

    Device-seconds are seconds of the engine at work x GPUs, or x cores where the cell had no GPU; loading the
    model is not in them. Of a cell that evolves while it answers, A is what its Reflector, Curator and
    validation took; of a frozen playbook everything that its adaptation took, answers included.
    """

    cell_id: str
    reference_cell_id: str
    unit: str
    adaptation: float
    answer: float
    reference_answer: float
    accuracy: float
    reference_accuracy: float
    share: float = 1.0

    @property
    def gain(self) -> float:
        return self.accuracy - self.reference_accuracy

    @property
    def questions(self) -> float | None:
        return self.adaptation / (self.share * self.answer) if self.gain > 0 and self.answer else None

    def extra_per_correct(self, questions: float | None = None) -> float | None:
        """Return what an additional correct answer costs more after so many questions; None: ever more."""
        if self.gain <= 0:
            return None
        once = self.adaptation / questions if questions else 0.0
        return (once + self.answer - self.reference_answer) / self.gain

    def sentence(self, name: str, reference: str) -> str:
        """Say it in words."""
        cost = f"the adaptation took {self.adaptation:,.1f} {self.unit}"
        accuracies = f"accuracy {self.accuracy:.3f} against {self.reference_accuracy:.3f}"
        if self.questions is None:
            return f"{name} over {reference}: never pays off, {accuracies}; {cost}."
        times = "as much as" if self.share == 1 else f"{self.share:g} x"
        return (
            f"{name} over {reference}: {cost}, {times} answering {self.questions:,.0f} questions "
            f"({self.answer:,.3g} each, {self.reference_answer:,.3g} without the playbook). {accuracies}: "
            f"an additional correct answer costs {self.extra_per_correct(self.questions):,.3g} {self.unit} "
            f"more after so many, {self.extra_per_correct():,.3g} with ever more questions. Whether the gain "
            "is real, the comparisons say."
        )


def cell_costs(paths: RunPaths, plans: Sequence[Plan]) -> dict[str, Spent]:
    """Add up what the ended attempts at each cell took; one still at work counts when it has ended."""
    found: dict[str, list[Spent]] = {cell.cell_id: [] for cell in plans[0].cells}
    for shard in (shard for plan in plans for shard in plan.shards):
        found[shard.cell_id] += [_spent(one) for one in read_attempts(paths, shard.shard_id)]
    return {cell_id: total(attempts) for cell_id, attempts in found.items()}


def total(costs: Sequence[Spent]) -> Spent:
    """Add costs up; the energy of nothing at all is not known."""
    return sum(costs, Spent(energy_j=0.0)) if costs else Spent()


def break_evens(paths: RunPaths, plans: Sequence[Plan], frame: pd.DataFrame) -> list[BreakEven]:
    """Return the break-even of every cell that carries or evolves a playbook and has a reference.

    Args:
        frame: result rows with `cell_id`, `correct` and `seen`; only rows that were not seen count.
    """
    cells = _Cells(paths, plans, frame)
    found = []
    for cell in plans[0].cells:
        reference = cells.reference(cell)
        if cell.mode not in _ADAPTED or cell.split == "adapt" or reference is None:
            continue
        mine, theirs, once = cells.answering(cell), cells.answering(reference), cells.adaptation(cell)
        if mine is None or theirs is None or once is None or not mine.unit == theirs.unit == once.unit:
            continue
        if not {cell.cell_id, reference.cell_id} <= cells.accuracies.keys():
            continue
        found.append(
            BreakEven(
                cell_id=cell.cell_id,
                reference_cell_id=reference.cell_id,
                unit=mine.unit,
                adaptation=once.seconds,
                answer=mine.seconds,
                reference_answer=theirs.seconds,
                accuracy=cells.accuracies[cell.cell_id],
                reference_accuracy=cells.accuracies[reference.cell_id],
            )
        )
    return found


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


def cost_lines(plans: Sequence[Plan], spent: Mapping[str, Spent], points: Sequence[BreakEven]) -> list[str]:
    """Return the run's cost in words: all of it, what was lost, what adaptations took, break-evens."""
    cells = {cell.cell_id: cell for cell in plans[0].cells}
    whole = total([one for one in spent.values() if one != Spent()])
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
        if cell.evolves and cell.split == "adapt"
    ]
    return lines + [
        point.sentence(_name(cells[point.cell_id]), cells[point.reference_cell_id].mode) for point in points
    ]


@dataclass(frozen=True, slots=True)
class _Seconds:
    seconds: float
    unit: str


@dataclass(frozen=True)
class _Cells:
    """The cells of a run with what their finished shards took."""

    paths: RunPaths
    plans: Sequence[Plan]
    frame: pd.DataFrame

    @cached_property
    def accuracies(self) -> Mapping[str, float]:
        """Cell id -> accuracy on samples that no gold answer was learnt from."""
        fresh = self.frame[~self.frame["seen"].map(as_bit).astype(bool)]
        correct = fresh["correct"].map(as_bit)
        return {str(name): float(value) for name, value in correct.groupby(fresh["cell_id"]).mean().items()}

    def reference(self, cell: Cell) -> Cell | None:
        """Return the cell without a playbook to compare with, of the same seed if there is one."""
        same = [
            one
            for one in self.plans[0].cells
            if one.mode in _REFERENCES
            and (one.model, one.quantization, one.dtype, one.task_digest, one.split)
            == (cell.model, cell.quantization, cell.dtype, cell.task_digest, cell.split)
        ]
        ranked = sorted(same, key=lambda one: (_REFERENCES.index(one.mode), one.seed != cell.seed))
        return ranked[0] if ranked else None

    def answering(self, cell: Cell) -> _Seconds | None:
        """Return the device-seconds of one answer; None where no shard is done."""
        spent = rows = 0.0
        unit = ""
        for shard, timings in self._done(cell):
            devices, unit = _devices(self.paths, shard)
            seconds = _role_s(timings)[_GENERATOR] if cell.evolves else timings["generate_s"]
            spent += devices * seconds
            rows += shard.num_units if cell.evolves else timings["rows_generated"]
        return _Seconds(spent / rows, unit) if rows else None

    def adaptation(self, cell: Cell) -> _Seconds | None:
        """Return the device-seconds of the evolution behind a cell; None where it is not done."""
        source = cell if cell.evolves else next((one for one in self._sources(cell)), None)
        if source is None:
            return None
        spent, unit = 0.0, ""
        for shard, timings in self._done(source):
            devices, unit = _devices(self.paths, shard)
            roles = _role_s(timings)
            spent += devices * (sum(roles.values()) - (roles[_GENERATOR] if cell.evolves else 0.0))
        return _Seconds(spent, unit) if unit else None

    def _sources(self, cell: Cell) -> Iterator[Cell]:
        yield from (one for one in self.plans[0].cells if one.cell_id == (cell.donor or cell.adaptation))

    def _done(self, cell: Cell) -> Iterator[tuple[Shard, Mapping[str, Any]]]:
        for shard in (shard for plan in self.plans for shard in plan.shards if shard.cell_id == cell.cell_id):
            if timings := timings_of(self.paths, shard.shard_id):
                yield shard, timings


def _name(cell: Cell) -> str:
    mode = f"{cell.mode} ({cell.variant})" if cell.variant else cell.mode
    seed = f", seed {cell.seed}" if cell.seed else ""
    quantization = "" if cell.quantization == "none" else f" {cell.quantization}"
    return f"{mode} on {cell.task_name} by {cell.model.name}{quantization}{seed}"


def _hours(cores: float, gpus: float) -> str:
    return f"{cores:,.3g} core-hours" + (f" and {gpus:,.3g} GPU-hours" if gpus else "")


def _joules(energy_j: float | None) -> str:
    return "energy not measured" if energy_j is None else f"{energy_j:,.0f} J"


def _role_s(timings: Mapping[str, Any]) -> Mapping[str, float]:
    return {_GENERATOR: 0.0, **timings.get("role_s", {})}


def _ended(paths: RunPaths, shard: Shard) -> Iterator[tuple[Start, End]]:
    """Yield the attempts that ended and of which both files can be read."""
    for one in read_attempts(paths, shard.shard_id):
        if one.start and one.end:
            yield one.start, one.end


def _spent(attempt: AttemptRecord) -> Spent:
    start, end = attempt.start, attempt.end
    if start is None or end is None:
        return Spent(energy_j=0.0, uncounted_attempts=int(attempt.has_ended or not attempt.is_running))
    cores, gpus = end.wall_h * start.cpus, end.wall_h * _gpus(start, end)
    lost = end.failure not in KEPT_CLASSES
    return Spent(cores, gpus, cores if lost else 0.0, gpus if lost else 0.0, end.energy_j)


def _gpus(start: Start, end: End) -> float:
    """Return the GPUs of an attempt; one that computed on a GPU which no variable named had one."""
    return start.gpus or float(str(end.engine.get("device", "")).startswith("cuda"))


def _devices(paths: RunPaths, shard: Shard) -> tuple[float, str]:
    """Return how many devices the attempt that finished a shard had, and in which unit its seconds count."""
    attempts = [(start, end) for start, end in _ended(paths, shard) if end.failure == "done"]
    if not attempts:
        return 1.0, "core-seconds"
    start, end = max(attempts, key=lambda pair: pair[1].ended_at or 0.0)
    gpus = _gpus(start, end)
    return (gpus, "GPU-seconds") if gpus else (start.cpus, "core-seconds")
