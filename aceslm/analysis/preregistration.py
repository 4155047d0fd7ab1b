"""The one comparison that a run is for, declared before its rows are scored: `prereg.json`.

    declare(paths, declaration(paths, "tatqa_span", "ace_frozen", questions, commit))  # once
    lines = primary_outcome(paths)                     # of a merged run

A comparison that was chosen after the results were seen says little. A declared one is judged alone, without
a correction; all others of the table remain exploratory and share Holm's. The declaration also counts which
of its samples earlier runs of the same results folder have scored (`scored_before`): a claim wants questions
that no choice was tuned on (Nosek et al. 2018, "The preregistration revolution").
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from aceslm.analysis.comparisons import ALPHA, NO_EVIDENCE, Comparison, compare_modes
from aceslm.analysis.rows import RESULT_COLUMNS
from aceslm.analysis.scored_before import scored_before
from aceslm.core.errors import ConfigError, CorruptRun
from aceslm.core.files import create_json, read_json
from aceslm.core.parquet import read_table, result_schema
from aceslm.core.paths import RunPaths
from aceslm.core.values import Plan
from aceslm.plan.cells import is_adaptation
from aceslm.plan.files import load_plans


@dataclass(frozen=True, slots=True)
class Declaration:
    """What was declared, when, and what had been seen by then.

    `treatment` is a mode, with its variant in brackets where the grid compares several; its reference is the
    scaffold, else the baseline. `num_samples` are those to be scored. `rows_before` counts rows that this run
    had already published; `scored_before`: other run -> how many of these samples it has scored.
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
    if not paths.prereg.exists():
        return None
    try:
        return Declaration(**read_json(paths.prereg))
    except (TypeError, json.JSONDecodeError) as error:
        raise CorruptRun(f"{paths.prereg} is damaged ({error}): restore it from a copy") from None


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
        rows_before=sum(_published(paths, plan) for plan in load_plans(paths)),
        scored_before=scored_before(paths, questions),
    )


def primary_of(declared: Declaration, comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Return the declared comparison in a table: one for each model and quantization of the run."""
    return tuple(
        one
        for one in comparisons
        if one.task_name == declared.task and one.treatment == declared.treatment and one.epoch == 0
    )


def primary_sentences(declared: Declaration, comparisons: Sequence[Comparison]) -> list[tuple[str, bool]]:
    """Say what was declared and what came of it: sentences, each with whether it is evidence."""
    said = [(f"Declared on {_day(declared)} at commit {declared.commit}: {_standing(declared)}.", False)]
    found = primary_of(declared, comparisons)
    if not found:
        said.append((f"Not there yet: {declared.treatment} on {declared.task} and its reference.", False))
    return said + [(_outcome(one), one.result.p_value <= ALPHA) for one in found]


def primary_outcome(paths: RunPaths) -> list[str]:
    """Return the sentences of a merged run's declared comparison; none where nothing was declared."""
    declared = read_declaration(paths)
    if declared is None:
        return []
    stored = [name for name in RESULT_COLUMNS if name in result_schema().names]
    greedy = all(cell.generation.temperature == 0 for plan in load_plans(paths)[:1] for cell in plan.cells)
    table = compare_modes(read_table(paths.results, stored).to_pandas(), greedy=greedy)
    return [sentence for sentence, _ in primary_sentences(declared, table.fresh)]


def _outcome(one: Comparison) -> str:
    result = one.result
    bounds = f" [{result.interval.low:+.3f}, {result.interval.high:+.3f}]" if result.interval else ""
    verdict = NO_EVIDENCE
    if result.p_value <= ALPHA:
        verdict = f"{one.treatment if result.difference > 0 else one.reference} is better"
    return (
        f"{one.treatment} minus {one.reference} on {one.task_name} ({one.model_id.rpartition('/')[2]}, "
        f"{one.quantization}): {result.difference:+.3f}{bounds}, p = {result.p_value:.4f} by itself, "
        f"n = {result.num_samples:,} in {result.num_contexts:,} contexts: {verdict}."
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


def _published(paths: RunPaths, plan: Plan) -> int:
    return sum(
        shard.num_units
        for shard in plan.shards
        if not is_adaptation(plan.cell(shard.cell_id)) and paths.done(shard.shard_id).exists()
    )
