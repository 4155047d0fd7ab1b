"""All figures of a merged run, computed once: for the tables, the terminal, the report and W&B.

analysed = analyse(run)
write_tables(run, analysed, note=None)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from aceslm.analysis.break_even import BreakEven, break_evens
from aceslm.analysis.comparisons import ComparisonTable, compare_modes
from aceslm.analysis.costs import cost_lines, cost_values
from aceslm.analysis.evolved_playbooks import Figures, evolution_figures
from aceslm.analysis.extensions import looked_at
from aceslm.analysis.page import SummaryPage, write_page
from aceslm.analysis.preregistration import primary_sentences
from aceslm.analysis.rows import read_rows
from aceslm.analysis.spent import Spent, cell_costs
from aceslm.analysis.summary import shard_cost, summarize
from aceslm.core.files import write_json
from aceslm.core.run import Run
from aceslm.run.done import all_timings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Analysed:
    """The figures of one aggregation.

    Attributes:
        rows: the merged rows, without their texts.
        summary: one line a group (`analysis.summary`).
        primary: sentences of the declared comparison, each with whether it is evidence.
        spent: cell id -> hours and joules.
        costs: the run's cost in words.
    """

    rows: pd.DataFrame
    summary: pd.DataFrame
    comparisons: ComparisonTable
    primary: tuple[tuple[str, bool], ...]
    spent: Mapping[str, Spent]
    break_evens: tuple[BreakEven, ...]
    costs: tuple[str, ...]
    evolutions: tuple[Figures, ...]


def analyse(run: Run) -> Analysed:
    """Compute the figures of a run whose shards are merged.

    Raises:
        CorruptRun: a merged file, a playbook's journal or the declaration is damaged.
    """
    rows = read_rows(run.paths.results)
    timings = all_timings(run)
    spent, points = cell_costs(run), tuple(break_evens(run, rows, timings))
    took = {name: shard_cost(one) for name, one in timings.items()}
    return Analysed(
        rows=rows,
        summary=summarize(rows, took, spent),
        comparisons=compare_modes(rows, greedy=run.greedy, extended=looked_at(run.plans)),
        primary=tuple(primary_sentences(run, rows)),
        spent=spent,
        break_evens=points,
        costs=tuple(cost_lines(run, spent, points)),
        evolutions=tuple(evolution_figures(run, timings)),
    )


def write_tables(run: Run, analysed: Analysed, note: str | None) -> None:
    """Write summary, costs and what became of playbooks; `note` stands at the head of the page."""
    paths = run.paths
    write_json(paths.costs, cost_values(analysed.spent, analysed.break_evens))
    if analysed.evolutions:
        write_json(paths.evolutions, [asdict(one) for one in analysed.evolutions])
    page = SummaryPage(
        title=run.name,
        summary=analysed.summary,
        note=note,
        comparisons=analysed.comparisons,
        primary=[line for line, _ in analysed.primary],
        evolutions=analysed.evolutions,
        costs=analysed.costs,
    )
    write_page(page, paths.summary_csv, paths.summary_md)
