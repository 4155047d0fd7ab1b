"""What a person reads first: the summary page in Markdown, and the table as CSV.

write_page(SummaryPage(title, summary, comparisons=compare_modes(frame)), csv_path, markdown_path)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aceslm.analysis.comparisons import ComparisonTable
from aceslm.analysis.evolved_playbooks import (
    EVOLUTION_FOOTNOTE,
    EVOLUTION_HEADERS,
    Figures,
    evolution_rows,
)
from aceslm.analysis.tables import (
    COMPARISON_FOOTNOTE,
    COST_FOOTNOTE,
    FOOTNOTE,
    markdown_columns,
    said_columns,
    table_rows,
)
from aceslm.analysis.verdicts import verdict_lines
from aceslm.core.files import replacing

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class SummaryPage:
    """What stands on a summary page; `primary` are the sentences of the declared comparison."""

    title: str
    summary: pd.DataFrame
    note: str | None = None
    comparisons: ComparisonTable | None = None
    primary: Sequence[str] = ()
    evolutions: Sequence[Figures] = ()
    costs: Sequence[str] = ()


def write_page(page: SummaryPage, csv_path: Path, markdown_path: Path) -> None:
    """Write the summary as CSV, and the whole page as Markdown, atomically."""
    with replacing(csv_path) as partial:
        page.summary.to_csv(partial, index=False)
    with replacing(markdown_path) as partial:
        partial.write_text(markdown(page), encoding="utf-8")


def markdown(page: SummaryPage) -> str:
    """Return the page in Markdown; what it does not hold has no heading."""
    lines = [f"# {page.title}", ""]
    if page.note:
        lines += [f"> **{page.note}**", ""]
    if page.primary:
        lines += ["## Primary comparison", "", *(f"- {line}" for line in page.primary), ""]
    columns = markdown_columns(page.summary)
    lines += [*_table(columns, table_rows(page.summary, columns)), "", FOOTNOTE, ""]
    if page.comparisons is not None:
        lines += _comparison_lines(page.comparisons)
    if page.evolutions:
        rows = evolution_rows(page.evolutions)
        lines += ["## Evolving playbooks", "", *_table(EVOLUTION_HEADERS, rows), "", EVOLUTION_FOOTNOTE, ""]
    if page.costs:
        lines += ["## Cost", "", *(f"- {line}" for line in page.costs), "", COST_FOOTNOTE, ""]
    return "\n".join(lines)


def _comparison_lines(table: ComparisonTable) -> list[str]:
    lines = ["## Comparisons", ""]
    if not table.fresh and not table.seen:
        lines += ["None: no two modes answered the same samples.", ""]
    if table.fresh:
        lines += [*(f"- {line}" for line, _ in verdict_lines(table.fresh)), ""]
        lines += [*_table(*said_columns(table.fresh)), "", COMPARISON_FOOTNOTE, ""]
    if table.seen:
        lines += ["### On samples that were seen before", ""]
        lines += ["Their gold answers had already been learnt from: no evidence about new questions.", ""]
        lines += [*_table(*said_columns(table.seen)), ""]
    if table.notes:
        lines += [*(f"- {note}" for note in table.notes), ""]
    return lines


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
