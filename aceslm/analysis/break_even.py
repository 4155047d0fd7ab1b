"""After how many questions an adaptation has paid off.

for point in break_evens(run, frame): point.questions, point.extra_per_correct(1000)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aceslm.analysis.rows import as_bit
from aceslm.analysis.spent import ended_attempts, gpus_of
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Cell, Shard
from aceslm.run.done import timings_of

if TYPE_CHECKING:
    import pandas as pd

_REFERENCES = ("scaffold", "baseline")
_ADAPTED = ("ace", "ace_frozen")  # the other modes with a playbook are controls
_GENERATOR = "generator"


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


def break_evens(run: Run, frame: pd.DataFrame) -> list[BreakEven]:
    """Return the break-even of every cell that carries or evolves a playbook and has a reference.

    Args:
        frame: result rows with `cell_id`, `correct` and `seen`; only rows that were not seen count.
    """
    cells = _Cells(run, frame)
    found = []
    for cell in run.cells:
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


@dataclass(frozen=True, slots=True)
class _Seconds:
    seconds: float
    unit: str


@dataclass(frozen=True)
class _Cells:
    """The cells of a run with what their finished shards took."""

    run: Run
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
            for one in self.run.cells
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
            devices, unit = _devices(self.run.paths, shard)
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
            devices, unit = _devices(self.run.paths, shard)
            roles = _role_s(timings)
            spent += devices * (sum(roles.values()) - (roles[_GENERATOR] if cell.evolves else 0.0))
        return _Seconds(spent, unit) if unit else None

    def _sources(self, cell: Cell) -> Iterator[Cell]:
        yield from (one for one in self.run.cells if one.cell_id == (cell.donor or cell.adaptation))

    def _done(self, cell: Cell) -> Iterator[tuple[Shard, Mapping[str, Any]]]:
        for shard in self.run.shards_of(cell.cell_id):
            if timings := timings_of(self.run.paths, shard.shard_id):
                yield shard, timings


def _role_s(timings: Mapping[str, Any]) -> Mapping[str, float]:
    return {_GENERATOR: 0.0, **timings.get("role_s", {})}


def _devices(paths: RunPaths, shard: Shard) -> tuple[float, str]:
    """Return how many devices the attempt that finished a shard had, and in which unit its seconds count."""
    attempts = [(start, end) for start, end in ended_attempts(paths, shard) if end.failure == "done"]
    if not attempts:
        return 1.0, "core-seconds"
    start, end = max(attempts, key=lambda pair: pair[1].ended_at or 0.0)
    gpus = gpus_of(start, end)
    return (gpus, "GPU-seconds") if gpus else (start.cpus, "core-seconds")
