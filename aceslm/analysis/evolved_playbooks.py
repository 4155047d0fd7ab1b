"""What became of every playbook of a run, and what evolving it cost: for summaries, the terminal and JSON.

    found = evolution_figures(run, timings)    # one a cell that evolved a playbook to its end
    lines = evolution_rows(found)              # short texts, in the order of EVOLUTION_HEADERS

Everything comes from the run directory's files. Gold answers of scored samples are looked at here, after the
fact, to count leaks; nothing that evolves a playbook sees these figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from statistics import fmean

from aceslm.ace.evolution import CURATOR, GENERATOR, REFLECTOR, ROLES, VALIDATION
from aceslm.ace.measures import (
    citation_rate,
    compare_versions,
    gold_leaks,
    published_rules,
    redundancy,
    rule_recovery,
)
from aceslm.ace.roles.messages import citations
from aceslm.core.run import Run
from aceslm.core.values import Cell, Sample
from aceslm.data import read_snapshot
from aceslm.run.done import Timings
from aceslm.run.evolution_journal import Journal
from aceslm.run.evolution_state import State

EVOLUTION_HEADERS = (
    "evolution",
    "seed",
    "bullets",
    "exemplars",
    "tokens",
    "churn",
    "survival",
    "redundancy",
    "cited",
    "leaks",
    "rules",
    "generator : reflector : curator : validation",
    "calls",
    "unreadable",
    "cost of a sample",
)
EVOLUTION_FOOTNOTE = (
    "Churn and survival: mean over epochs. Cited: share of answers that cite a bullet. Leaks: bullets that "
    "carry the gold answer of a scored sample. Rules: share of the published thresholds that some bullet "
    "states. Then each role's share of the time, all calls, unreadable replies of Reflector : Curator, and "
    "the engine's time for an adapted sample relative to one that is answered without a playbook."
)


@dataclass(frozen=True, slots=True)
class Figures:
    """One evolution that has ended.

    `role_share` sums to 1 over the roles and validation. `relative_cost` is the engine's time per adapted
    sample over that of the baseline (without one: the scaffold) in the same place of the grid; None where
    neither was run. `rules` is None where the task has no published rules.
    """

    cell_id: str
    task_name: str
    split: str
    variant: str
    seed: int
    version: int
    bullets: int
    quarantined: int
    exemplars: int
    tokens: int
    churn: float
    survival: float
    redundancy: float
    citation_rate: float
    gold_leaks: int
    rules: float | None
    role_s: Mapping[str, float]
    role_share: Mapping[str, float]
    calls: Mapping[str, int]
    parse_failures: Mapping[str, int]
    relative_cost: float | None


def evolution_figures(run: Run, timings: Timings) -> list[Figures]:
    """Return the figures of every evolution that has ended, in plan order.

    Args:
        timings: shard id -> what its finisher has measured.
    """
    scored_of = cache(partial(_scored_samples, run))  # seeds and variants share their samples
    found = []
    for cell in run.cells:
        journal = Journal(run.paths.playbooks(cell.cell_id))
        state = journal.state() if cell.evolves else None
        if state is not None and state.ended:
            reference_s = _reference_s(run, cell, timings)
            found.append(_figures(cell, journal, state, scored_of(cell.task_name), reference_s))
    return found


def evolution_rows(found: Sequence[Figures]) -> list[list[str]]:
    """Return figures as short texts, in the order of `EVOLUTION_HEADERS`."""
    return [
        [
            " ".join(filter(None, [one.task_name, one.variant, "(adapt)" if one.split == "adapt" else ""])),
            str(one.seed),
            f"{one.bullets}" + (f" (+{one.quarantined} refused)" if one.quarantined else ""),
            str(one.exemplars),
            f"{one.tokens:,}",
            f"{one.churn:.2f}",
            f"{one.survival:.2f}",
            f"{one.redundancy:.2f}",
            f"{one.citation_rate:.0%}",
            str(one.gold_leaks),
            "-" if one.rules is None else f"{one.rules:.0%}",
            " : ".join(f"{one.role_share.get(role, 0.0):.0%}" for role in (*ROLES, VALIDATION)),
            f"{sum(one.calls.values()):,}",
            " : ".join(str(one.parse_failures.get(role, 0)) for role in (REFLECTOR, CURATOR)),
            "-" if one.relative_cost is None else f"{one.relative_cost:.1f} x",
        ]
        for one in found
    ]


def _figures(
    cell: Cell, journal: Journal, state: State, scored: Sequence[Sample], reference_s: float | None
) -> Figures:
    playbook = journal.committed(state)
    stages = [journal.playbook(number) for number in (0, *state.epochs)]
    changes = [compare_versions(*pair) for pair in pairwise(stages)]
    calls = journal.calls()
    rules = rule_recovery(playbook, published_rules(scored))
    role_s = journal.role_s()
    total_s = sum(role_s.values())
    adapted = sum(call.role == GENERATOR for call in calls)
    return Figures(
        cell_id=cell.cell_id,
        task_name=cell.task_name,
        split=cell.split,
        variant=cell.variant,
        seed=cell.seed,
        version=playbook.version,
        bullets=len(playbook.shown),
        quarantined=len(playbook.quarantined),
        exemplars=len(playbook.exemplars),
        tokens=journal.steps()[-1].tokens,
        churn=fmean([change.churn for change in changes]) if changes else 0.0,
        survival=fmean([change.survival for change in changes]) if changes else 1.0,
        redundancy=redundancy(playbook.shown),
        citation_rate=citation_rate(list(_cited(journal))),
        gold_leaks=len(gold_leaks(playbook, scored)),
        rules=fmean(rules.values()) if rules else None,
        role_s=role_s,
        role_share={role: seconds / total_s for role, seconds in role_s.items()} if total_s else {},
        calls=dict(Counter(call.role for call in calls)),
        parse_failures=dict(Counter(call.role for call in calls if call.parsed is False)),
        relative_cost=total_s / adapted / reference_s if adapted and reference_s else None,
    )


def _cited(journal: Journal) -> Iterator[tuple[str, ...]]:
    """Yield the bullets that each answer cites, of the version that it was given.

    A worker's answers are read in its own journal: the merge gives what it learnt other ids.
    """
    for one in journal.shares() or [journal]:
        version = cache(one.playbook)
        for call in one.calls():
            if call.role == GENERATOR:
                yield citations(call.raw_output, version(call.round - 1))


def _scored_samples(run: Run, task_name: str) -> list[Sample]:
    """Return the samples of a task that enter an accuracy."""
    tables = {
        table.task_digest
        for plan in run.plans
        for table in plan.tasks
        if table.task_name == task_name and table.split not in {"adapt", "validate"}
    }
    return [sample for name in sorted(tables) for sample in read_snapshot(run.paths.task(name))]


def _reference_s(run: Run, cell: Cell, timings: Timings) -> float | None:
    """Return the engine's seconds per sample without a playbook, in the same place of the grid."""
    for mode in ("baseline", "scaffold"):
        same = {
            other.cell_id
            for other in run.cells
            if other.mode == mode
            and (other.model, other.quantization, other.task_name)
            == (cell.model, cell.quantization, cell.task_name)
        }
        shards = [shard for name in sorted(same) for shard in run.shards_of(name)]
        took = [timings[shard.shard_id] for shard in shards if shard.shard_id in timings]
        if rows := sum(one.get("rows_generated", 0) for one in took):
            return float(sum(one.get("generate_s", 0.0) for one in took) / rows)
    return None
