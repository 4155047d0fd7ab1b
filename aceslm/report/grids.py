"""The tables of the page. An axis with one value has no column: the head of the page names it.

for table in summary_grids(summary): table.title, table.headers, table.rows
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aceslm.analysis.comparisons import ComparisonTable
from aceslm.analysis.evolved_playbooks import EVOLUTION_HEADERS, Figures, evolution_rows
from aceslm.analysis.tables import (
    COMPARISON_HEADERS,
    comparison_rows,
    markdown_columns,
    table_rows,
)

if TYPE_CHECKING:
    import pandas as pd

_AXES = ("evolution", "model", "quant", "task", "mode", "variant", "seed", "epoch", "seen", "cell")
_ALWAYS = ("evolution", "task", "mode")
_ANSWERS = ("score [95 %]", "accuracy [95 %]", "macro-F1", "MCC", "n", "errors", "unparsed")


@dataclass(frozen=True, slots=True)
class Grid:
    """One table of short texts; the columns from `first_number` on are figures."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    first_number: int


def summary_grids(summary: pd.DataFrame) -> list[Grid]:
    """Return what the cells answered, and what it took."""
    columns = markdown_columns(summary)
    rows = table_rows(summary, columns)
    took = [name for name in columns if name not in _ANSWERS]
    answered = [name for name in columns if name in _AXES or name in _ANSWERS]
    titles = (("Accuracy of every cell", answered), ("Time, memory and hours of every cell", took))
    return [_grid(title, columns, rows, names) for title, names in titles]


def comparison_grids(table: ComparisonTable) -> list[Grid]:
    """Return the comparisons on samples not seen before, and those on seen ones; only what there is."""
    titles = (("All comparisons", table.fresh), ("On samples that were seen before", table.seen))
    return [
        _grid(title, COMPARISON_HEADERS, comparison_rows(found), COMPARISON_HEADERS)
        for title, found in titles
        if found
    ]


def evolution_grid(found: Sequence[Figures]) -> Grid | None:
    """Return what became of every playbook, None where none evolved."""
    rows = evolution_rows(found)
    return (
        _grid("What became of every playbook", EVOLUTION_HEADERS, rows, EVOLUTION_HEADERS) if rows else None
    )


def _grid(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[str]) -> Grid:
    """Return the columns `names` of a table, without axes that have one value."""
    kept = [n for n, header in enumerate(headers) if header in names and _says_something(header, n, rows)]
    shown = tuple(headers[n] for n in kept)
    first = next((n for n, name in enumerate(shown) if name not in _AXES), len(shown))
    return Grid(title, shown, tuple(tuple(row[n] for n in kept) for row in rows), first)


def _says_something(header: str, column: int, rows: Sequence[Sequence[str]]) -> bool:
    values = {row[column] for row in rows}
    return (header not in _AXES and values != {"-"}) or header in _ALWAYS or len(values) > 1
