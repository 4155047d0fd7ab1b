"""The one comparison that a run is for, declared before its rows are scored: `prereg.json`.

    declare(paths, declaration(paths, "tatqa_span", "ace_frozen", questions, commit))  # once
    sentences = primary_sentences(run, frame)     # of a merged run

A comparison that was chosen after the results were seen says little. A declared one is judged apart from the
table, whose other comparisons remain exploratory. It is one test, whatever the run holds of it: the treatment
must beat the better of baseline and scaffold, Holm's correction runs over the models and quantizations that
it was declared for, and it is judged on the samples that it was declared on. What a raised limit adds later
was decided on by somebody who had seen the first answers: it stays out. The declaration also counts which
of its samples earlier runs of the same results folder have scored (`scored_before`): a claim wants questions
that no choice was tuned on (Nosek et al. 2018, "The preregistration revolution").
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from aceslm.analysis.comparisons import compare_modes
from aceslm.analysis.extensions import declared_ids
from aceslm.analysis.scored_before import scored_before
from aceslm.analysis.statistics.paired import holm
from aceslm.analysis.statistics.sign_flips import ALPHA
from aceslm.analysis.verdicts import TreatmentVerdict, measured, verdicts
from aceslm.core.errors import ConfigError, CorruptRun
from aceslm.core.files import create_json
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Plan
from aceslm.plan.cells import is_adaptation
from aceslm.plan.files import load_plans
from aceslm.run.done import is_published
from aceslm.run.parts import read_parts

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Declaration:
    """What was declared, when, and what had been seen by then.

    `treatment` is a mode, with its variant in brackets where the grid compares several; its references are
    baseline and scaffold. `num_samples` are those to be scored, from the front of the task. `rows_before`
    counts rows that this run had already published; `scored_before`: other run -> how many of these samples
    it has scored.
    """

    task: str
    treatment: str
    num_samples: int
    declared_at: float
    commit: str
    rows_before: int
    scored_before: Mapping[str, int]


def declare(paths: RunPaths, made: Declaration) -> Declaration:
    """Write a declaration once, and return the one that counts.

    Raises:
        ConfigError: this run has declared another comparison.
        CorruptRun: the file that is there is damaged.
    """
    if create_json(paths.prereg, asdict(made)):
        return made
    known = read_declaration(paths) or made
    if (known.task, known.treatment) != (made.task, made.treatment):
        raise ConfigError(
            f"primary: this run declared '{known.treatment}' on '{known.task}' on {_day(known)}, and that "
            f"stays ({paths.prereg}); another claim wants other questions, for example with "
            f"skip={known.num_samples}"
        )
    return known


def read_declaration(paths: RunPaths) -> Declaration | None:
    """Return what a run has declared; None where nothing was.

    Raises:
        CorruptRun: the file is damaged.
    """
    try:
        value = json.loads(paths.prereg.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise CorruptRun(_damaged(paths, f"is not JSON ({error})")) from None
    if fault := _fault(value):
        raise CorruptRun(_damaged(paths, fault))
    return Declaration(**value)


def declaration(
    paths: RunPaths, task: str, treatment: str, questions: Sequence[str], commit: str
) -> Declaration:
    """Return a declaration as of now; reads the plans of this run and of those beside it.

    Args:
        questions: the digests of the questions to be scored (`digests.question_digest`).
    """
    return Declaration(
        task=task,
        treatment=treatment,
        num_samples=len(questions),
        declared_at=time.time(),
        commit=commit,
        rows_before=sum(_rows(paths, plan) for plan in load_plans(paths)),
        scored_before=scored_before(paths, questions),
    )


def primary_sentences(run: Run, frame: pd.DataFrame) -> list[tuple[str, bool]]:
    """Say what a run declared and what came of it: sentences, each with whether it is evidence.

    Args:
        frame: the run's merged rows.

    Raises:
        CorruptRun: the declaration is damaged.
    """
    made = read_declaration(run.paths)
    if made is None:
        return []
    said = [(f"Declared on {_day(made)} at commit {made.commit}: {_standing(made)}.", False)]
    of_task = frame[frame["task_name"].eq(made.task)]
    declared = of_task["sample_id"].isin(declared_ids(run.plans, made.task, made.num_samples))
    added = of_task.loc[~declared & of_task["split"].ne("adapt"), "sample_id"].nunique()
    if added:
        said.append(
            (
                f"Extended after {made.num_samples:,} samples were declared: the {added:,} that were added "
                "are not judged here. A claim on them wants a declaration of its own "
                f"(skip={made.num_samples}).",
                False,
            )
        )
    found = primary_of(made, verdicts(compare_modes(of_task[declared], greedy=run.greedy).fresh))
    if not found:
        said.append((f"Not there yet: {made.treatment} on {made.task} and its reference.", False))
    adjusted = holm([one.p_value for one in found])
    clean = not made.rows_before
    return said + [
        (_outcome(one, p, len(found)), clean and p <= ALPHA) for one, p in zip(found, adjusted, strict=True)
    ]


def primary_of(declared: Declaration, found: Sequence[TreatmentVerdict]) -> tuple[TreatmentVerdict, ...]:
    """Return what is said of the declared treatment: once for each model and quantization of the run."""
    return tuple(
        one
        for one in found
        if one.closest.task_name == declared.task
        and one.closest.treatment == declared.treatment
        and one.closest.epoch == 0
    )


def _outcome(one: TreatmentVerdict, adjusted: float, count: int) -> str:
    row = one.closest
    result, where = row.result, f"{row.model_id.rpartition('/')[2]}, {row.quantization}"
    better = f" ({one.better_reference.partition(', ')[2]})" if len(one.rows) > 1 else ""
    rest = [f"minus {other.reference} {measured(other)}" for other in one.rows if other is not row]
    holm_words = f", {adjusted:.4f} by Holm over {count} of them" if count > 1 else ""
    tested = f"p = {one.p_value:.4f}{holm_words}"
    return (
        f"{row.treatment} minus {row.reference}{better} on {row.task_name} ({where}): "
        f"{'; '.join([measured(row), *rest])}; {tested}, n = {result.num_samples:,} in "
        f"{result.num_contexts:,} contexts: {one.said(adjusted)}."
    )


def _standing(declared: Declaration) -> str:
    if declared.rows_before:
        return f"exploratory, {declared.rows_before:,} rows of this run were scored before it was declared"
    if declared.scored_before:
        runs = ", ".join(f"{name} ({count:,})" for name, count in declared.scored_before.items())
        some = f"some of its {declared.num_samples:,} samples"
        return f"before any row, but runs beside it had scored {some}: {runs}"
    return f"before any row, on {declared.num_samples:,} samples that no run beside it had scored"


def _day(declared: Declaration) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(declared.declared_at))


def _fault(value: Any) -> str:
    """Return what is wrong with the value of a declaration; "" where nothing is."""
    kinds = {
        "task": str,
        "treatment": str,
        "num_samples": int,
        "declared_at": int | float,
        "commit": str,
        "rows_before": int,
        "scored_before": dict,
    }
    if not isinstance(value, dict):
        return f"holds a {type(value).__name__}, not the keys {', '.join(kinds)}"
    if missing := [name for name in kinds if name not in value]:
        return f"lacks the key '{missing[0]}'"
    if unknown := [name for name in value if name not in kinds]:
        return f"has the unknown key '{unknown[0]}'"
    wrong = [name for name, kind in kinds.items() if not isinstance(value[name], kind)]
    return f"key '{wrong[0]}' holds {value[wrong[0]]!r}" if wrong else ""


def _damaged(paths: RunPaths, fault: str) -> str:
    return (
        f"{paths.prereg}: {fault}. It is the record of what was declared before the rows, and no command can "
        "make it again: restore it from a copy of the run directory. Without one, delete it and run "
        f"`aceslm aggregate {paths.root}`: the run then counts as one that declared nothing"
    )


def _rows(paths: RunPaths, plan: Plan) -> int:
    """Count the rows that are there to be scored; those of unfinished shards too."""
    return sum(
        shard.num_units
        if is_published(paths, shard.shard_id)
        else len(set(read_parts(paths, shard.shard_id, ["unit_id"]).column("unit_id").to_pylist()))
        for shard in plan.shards
        if not is_adaptation(plan.cell(shard.cell_id))
    )
