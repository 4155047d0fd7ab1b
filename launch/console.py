"""What a person sees: tables, progress, one-line errors. Plain lines where there is no terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aceslm.status import RunStatus

_PLAIN_EVERY_S = 15.0
_STATES = ("done", "running", "failed", "missing")


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


def print_status(status: RunStatus) -> None:
    """Print a run's progress as a table, a row a cell."""
    rows = []
    for cell in status.cells:
        counts = [str(cell.count(state)) for state in _STATES]
        rate = f"{cell.samples_per_s:.2f}" if cell.samples_per_s else "-"
        rows.append([cell.cell.cell_id, *counts, f"{cell.rows_done:,}/{cell.rows_total:,}", rate])
    print_table(f"{status.root}: {status.state}", ["cell", *_STATES, "samples", "samples/s"], rows, numeric=6)


def status_table(status: RunStatus) -> Table:
    """Return a run's progress as a table, a row a cell."""
    table = Table(title=escape(f"{status.root}: {status.state}"), title_justify="left", header_style="bold")
    table.add_column("cell", overflow="fold")
    for header in (*_STATES, "samples", "samples/s"):
        table.add_column(header, justify="right")
    for cell in status.cells:
        counts = [str(cell.count(state)) for state in _STATES]
        rate = f"{cell.samples_per_s:.2f}" if cell.samples_per_s else "-"
        rows = f"{cell.rows_done:,}/{cell.rows_total:,}"
        table.add_row(escape(cell.cell.cell_id), *counts, rows, rate)
    return table


@contextmanager
def live_table() -> Iterator[Callable[[RunStatus], None]]:
    """Show a table that follows a run on a terminal; a line every few seconds elsewhere."""
    console = err()
    if not console.is_terminal:
        yield Progress()
        return
    from rich.console import Group
    from rich.live import Live

    with Live(console=console, refresh_per_second=2) as live:
        yield lambda status: live.update(Group(status_table(status), progress_line(status)))


def duration(seconds: float | None) -> str:
    """Return a duration as a person would write it.

    >>> duration(3725)
    '1 h 02 min'
    """
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def progress_line(status: RunStatus) -> str:
    """Return a run's progress as one line."""
    failed = f", {status.count('failed')} shards failed" if status.count("failed") else ""
    rate = f", {status.samples_per_s:.2f} samples/s" if status.samples_per_s else ""
    eta = f", ETA {duration(status.eta_s)}" if status.eta_s is not None else ""
    return f"{status.rows_done:,}/{status.rows_total:,} samples{rate}{eta}{failed}"


@dataclass(slots=True)
class Progress:
    """A progress bar on a terminal, a line every few seconds elsewhere."""

    bar: Any = None
    task: Any = None
    _last: float = field(default_factory=time.monotonic)

    def __call__(self, status: RunStatus) -> None:
        if self.bar is not None:
            self.bar.update(
                self.task, total=status.rows_total, completed=status.rows_done, line=progress_line(status)
            )
        elif time.monotonic() - self._last >= _PLAIN_EVERY_S:
            self._last = time.monotonic()
            note(progress_line(status))


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """Show progress while work is done."""
    console = err()
    if not console.is_terminal:
        yield Progress()
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[line]}"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        yield Progress(bar, bar.add_task(escape(label), total=None, line=""))


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
