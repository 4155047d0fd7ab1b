"""What a person sees: tables, progress, one-line errors. Plain lines where there is no terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def out() -> Console:
    """Return the console for results (stdout)."""
    width = None if sys.stdout.isatty() else 200
    return Console(width=width, highlight=False, soft_wrap=not sys.stdout.isatty())


def err() -> Console:
    """Return the console for progress and errors (stderr)."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print one plain line on stdout."""
    print(text)  # noqa: T201


def note(text: str) -> None:
    """Print one line on stderr."""
    err().print(escape(text))


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    say(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], numeric: int = 0) -> None:
    """Print a table; the last `numeric` columns are right-aligned. Cell texts are shown literally.

    Where the terminal is too narrow, a row becomes a line of texts and, below it, one of figures: names
    stay whole.
    """
    console = out()
    table = Table(title=escape(title), title_justify="left", header_style="bold")
    for index, header in enumerate(headers):
        right = index >= len(headers) - numeric
        table.add_column(header, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    unlimited = console.options.update(width=sum(len(cell) + 9 for row in (headers, *rows) for cell in row))
    if console.measure(table, options=unlimited).maximum <= console.width:
        console.print(table)
        return
    console.print(title, style="bold", markup=False)
    _print_stacked(console, headers, rows, numeric)


def _print_stacked(
    console: Console, headers: Sequence[str], rows: Sequence[Sequence[str]], numeric: int
) -> None:
    """Print each row on two lines: texts, then figures in aligned columns; headers once, above."""
    numeric = numeric if numeric > 1 else 0  # a line for a single figure is one too many
    texts = len(headers) - numeric
    widths = [max(len(row[n]) for row in (headers, *rows)) for n in range(texts, len(headers))]
    for number, row in enumerate((headers, *rows)):
        label = "  ".join(cell for cell in row[:texts] if cell)
        figures = "  ".join(cell.rjust(width) for cell, width in zip(row[texts:], widths, strict=True))
        console.print(label, style="bold" if number == 0 else "", markup=False, soft_wrap=True)
        if numeric:
            console.print(f"    {figures}", style="bold" if number == 0 else "", markup=False, soft_wrap=True)


@contextmanager
def steps(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show which step of how many is under way: a bar on a terminal, a line each elsewhere."""
    console = err()
    if not console.is_terminal:
        yield lambda done, total, line: note(f"{label} {done + 1}/{total}: {line}")
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(escape(label), total=None)
        yield lambda done, total, line: bar.update(
            task, total=total, completed=done, description=escape(line)
        )
