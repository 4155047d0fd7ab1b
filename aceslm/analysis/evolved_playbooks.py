"""What became of every playbook of a run, and what evolving it cost: for summaries, the terminal and JSON.

    found = evolution_figures(run)    # one a cell that evolved a playbook to its end
    lines = evolution_rows(found)     # short texts, in the order of EVOLUTION_HEADERS

Everything comes from the run directory's files. Gold answers of scored samples are looked at here, after the
fact, to count leaks; nothing that evolves a playbook sees these figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from aceslm.ace.evolution import CURATOR, GENERATOR, REFLECTOR, ROLES, VALIDATION, Call
from aceslm.ace.measures import (
    citation_rate,
    compare_versions,
    gold_leaks,
    published_rules,
    redundancy,
    rule_recovery,
)
from aceslm.ace.playbook.bullets import Playbook
from aceslm.ace.roles.messages import citations
from aceslm.core.run import Run
from aceslm.core.values import Cell, Sample
from aceslm.data import read_snapshot
from aceslm.run.done import timings_of
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


def evolution_figures(run: Run) -> list[Figures]:
    """Return the figures of every evolution that has ended, in plan order."""
    found = []
    for cell in run.cells:
        journal = Journal(run.paths.playbooks(cell.cell_id))
        state = journal.state() if cell.evolves else None
        if state is not None and state.ended:
            found.append(_figures(run, cell, journal, state))
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


def _figures(run: Run, cell: Cell, journal: Journal, state: State) -> Figures:
    playbook = journal.committed(state)
    stages = [journal.playbook(number) for number in (0, *state.epochs)]
    changes = [compare_versions(*pair) for pair in pairwise(stages)]
    calls = journal.calls()
    scored = _scored_samples(run, cell)
    rules = rule_recovery(playbook, published_rules(scored))
    role_s = _role_s(journal, state)
    total_s = sum(role_s.values())
    adapted = sum(call.role == GENERATOR for call in calls)
    reference_s = _reference_s(run, cell)
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
        citation_rate=citation_rate(list(_cited(journal, calls, playbook))),
        gold_leaks=len(gold_leaks(playbook, scored)),
        rules=fmean(rules.values()) if rules else None,
        role_s=role_s,
        role_share={role: seconds / total_s for role, seconds in role_s.items()} if total_s else {},
        calls=dict(Counter(call.role for call in calls)),
        parse_failures=dict(Counter(call.role for call in calls if call.parsed is False)),
        relative_cost=total_s / adapted / reference_s if adapted and reference_s else None,
    )


def _role_s(journal: Journal, state: State) -> dict[str, float]:
    """Return the seconds of each role, those of all workers included."""
    total: Counter[str] = Counter()
    shares = [Journal(folder).state() for folder in sorted(journal.folder.glob("e[0-9]*-w[0-9]*"))]
    for one in (state, *shares):
        total.update(dict(one.role_s) if one else {})
    return dict(total)


def _cited(journal: Journal, calls: Sequence[Call], last: Playbook) -> Iterator[tuple[str, ...]]:
    """Yield the bullets that each answer cites, of the version that it was given (workers': of the last)."""
    versions: dict[int, Playbook] = {}
    for call in calls:
        if call.role != GENERATOR:
            continue
        number = call.round - 1
        if number not in versions:
            versions[number] = journal.playbook(number) if journal.version(number).exists() else last
        yield citations(call.raw_output, versions[number])


def _scored_samples(run: Run, cell: Cell) -> list[Sample]:
    """Return the samples of a cell's task that enter an accuracy."""
    tables = {
        table.task_digest
        for plan in run.plans
        for table in plan.tasks
        if table.task_name == cell.task_name and table.split not in {"adapt", "validate"}
    }
    return [sample for name in sorted(tables) for sample in read_snapshot(run.paths.task(name))]


def _reference_s(run: Run, cell: Cell) -> float | None:
    """Return the engine's seconds per sample without a playbook, in the same place of the grid."""
    for mode in ("baseline", "scaffold"):
        same = {
            other.cell_id
            for other in run.cells
            if other.mode == mode
            and (other.model, other.quantization, other.task_name)
            == (cell.model, cell.quantization, cell.task_name)
        }
        rows, seconds = 0, 0.0
        for shard in (shard for name in sorted(same) for shard in run.shards_of(name)):
            timings = timings_of(run.paths, shard.shard_id)
            rows += timings.get("rows_generated", 0)
            seconds += timings.get("generate_s", 0.0)
        if rows:
            return seconds / rows
    return None
