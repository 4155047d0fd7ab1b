"""After how many questions an adaptation has paid off.

for point in break_evens(run, frame, timings): point.questions, point.extra_per_correct(1000)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aceslm.ace.evolution import GENERATOR
from aceslm.analysis.comparisons import LEARNT
from aceslm.analysis.rows import as_bit
from aceslm.analysis.spent import ended_attempts, gpus_of
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Cell, Shard
from aceslm.plan.cells import is_adaptation
from aceslm.run.done import Timings
from aceslm.run.evolution_steps import journal_of

if TYPE_CHECKING:
    import pandas as pd

_REFERENCES = ("scaffold", "baseline")


@dataclass(frozen=True, slots=True)
class BreakEven:
    """When the adaptation behind one cell has paid off, against a reference without a playbook.

    With A = `adaptation` (device-seconds, once), c = `answer` and c0 = `reference_answer` (device-seconds of
    one answer with and without the playbook) and g = the gain in accuracy:

    - `questions` = A / c: from so many questions on, the adaptation has cost no more than answering them.
      None where g <= 0: it never pays off.
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

    @property
    def gain(self) -> float:
        return self.accuracy - self.reference_accuracy

    @property
    def questions(self) -> float | None:
        return self.adaptation / self.answer if self.gain > 0 and self.answer else None

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
        return (
            f"{name} over {reference}: {cost}, as much as answering {self.questions:,.0f} questions "
            f"({self.answer:,.3g} each, {self.reference_answer:,.3g} without the playbook). {accuracies}: "
            f"an additional correct answer costs {self.extra_per_correct(self.questions):,.3g} {self.unit} "
            f"more after so many, {self.extra_per_correct():,.3g} with ever more questions. Whether the gain "
            "is real, the comparisons say."
        )


def break_evens(run: Run, frame: pd.DataFrame, timings: Timings) -> list[BreakEven]:
    """Return the break-even of every cell that carries or evolves a playbook and has a reference.

    The playbooks of single epochs (`held_out: each`) have none: what they cost is a part of an evolution.

    Args:
        frame: result rows with `cell_id`, `correct` and `seen`; only rows that were not seen count.
        timings: shard id -> what its finisher has measured.
    """
    cells = _Cells(run, frame, timings)
    found = []
    for cell in run.cells:
        reference = cells.reference(cell)
        if cell.mode not in LEARNT or is_adaptation(cell) or cell.adaptation_epoch or reference is None:
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
    timings: Timings

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
        """Return the device-seconds of one answer; None where no shard is done, or devices differ."""
        done = self._done(cell)
        if cell.evolves:
            spent = self._added((shard, _role_s(timings)[GENERATOR]) for shard, timings in done)
            rows = sum(shard.num_units for shard, _ in done)
        else:
            spent = self._added((shard, timings.get("generate_s", 0.0)) for shard, timings in done)
            rows = sum(timings.get("rows_generated", 0) for _, timings in done)
        return _Seconds(spent.seconds / rows, spent.unit) if spent and rows else None

    def adaptation(self, cell: Cell) -> _Seconds | None:
        """Return the device-seconds of the evolution behind a cell; None where it has not ended.

        Shards of one journal tell what it took up to their end: the last one's figures are those of all.
        """
        source = cell if cell.evolves else self.run.cell(cell.adaptation) if cell.adaptation else None
        if source is None or len(done := self._done(source)) < len(self.run.shards_of(source.cell_id)):
            return None
        last = {journal_of(self.run.paths, source, shard).folder: (shard, timings) for shard, timings in done}
        answers = {GENERATOR} if cell.evolves else set()
        return self._added(
            (shard, sum(seconds for role, seconds in _role_s(timings).items() if role not in answers))
            for shard, timings in last.values()
        )

    def _done(self, cell: Cell) -> list[tuple[Shard, Mapping[str, Any]]]:
        shards = self.run.shards_of(cell.cell_id)
        return [(shard, found) for shard in shards if (found := self.timings.get(shard.shard_id))]

    def _added(self, spent: Iterable[tuple[Shard, float]]) -> _Seconds | None:
        """Add up seconds x devices; None where they are of two kinds, or an attempt's files are lost."""
        found = [(seconds, _devices(self.run.paths, shard)) for shard, seconds in spent]
        units = {unit for _, (_, unit) in found}
        if len(units) != 1 or "" in units:
            return None
        return _Seconds(sum(seconds * count for seconds, (count, _) in found), *units)


def _role_s(timings: Mapping[str, Any]) -> Mapping[str, float]:
    return {GENERATOR: 0.0, **timings.get("role_s", {})}


def _devices(paths: RunPaths, shard: Shard) -> tuple[float, str]:
    """Return how many devices the attempt that finished a shard had, and their unit; "" where none tells."""
    attempts = [(start, end) for start, end in ended_attempts(paths, shard) if end.failure == "done"]
    if not attempts:
        return 0.0, ""
    start, end = max(attempts, key=lambda pair: pair[1].ended_at or 0.0)
    gpus = gpus_of(start, end)
    return (gpus, "GPU-seconds") if gpus else (start.cpus, "core-seconds")
