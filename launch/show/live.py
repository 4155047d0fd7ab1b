"""A run's progress as a person sees it: a table a cell, live on a terminal, plain lines elsewhere.

with live_table() as show:
    while ...:
        show(run_status(run))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aceslm.analysis.spent import Spent
from aceslm.core.words import ShardState
from aceslm.results.status import CellStatus, RunStatus
from launch.show.console import err, note, print_table

_PLAIN_EVERY_S = 15.0
_STATES: tuple[ShardState, ...] = ("done", "running", "failed", "missing")
_SHORT_HEADERS = ("done", "run", "fail", "miss", "samples", "/s", "ETA", "acc.")
_BAR_WIDTH = 12
_WIDE = 120
_FRAME_LINES = 8  # title, header and three rules, what is left out, the line below, the cursor
# what is shown first where not all fits
_URGENT: tuple[ShardState, ...] = ("running", "failed", "missing", "done")


def print_status(status: RunStatus, costs: Mapping[str, Spent]) -> None:
    """Print a run's progress as a table, a row a cell; hours where something was spent."""
    has_gpus = any(spent.gpu_hours for spent in costs.values())
    headers = ["cell", *_STATES, "samples", "samples/s", "ETA", "accuracy", "core-h"]
    rows = []
    for cell in status.cells:
        spent = costs[cell.cell.cell_id]
        row = [cell.cell.cell_id, *_figures(cell), f"{spent.core_hours:,.3f}"]
        rows.append([*row, f"{spent.gpu_hours:,.3f}"] if has_gpus else row)
    headers += ["GPU-h"] if has_gpus else []
    print_table(f"{status.root}: {status.state}", headers, rows, numeric=len(headers) - 1)


@contextmanager
def live_table(console: Console | None = None) -> Iterator[Callable[[RunStatus], None]]:
    """Show a table that follows a run on a terminal; a line every few seconds elsewhere.

    Args:
        console: where to show it; stderr unless given.
    """
    console = console or err()
    if not console.is_terminal:
        yield Lines()
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:
        yield lambda status: live.update(LiveStatus(status), refresh=True)


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """One frame: as many cells as the terminal has lines for, those at work first."""

    status: RunStatus

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(1, (options.height or console.height) - _FRAME_LINES)
        shown = _most_urgent(self.status.cells, room)
        left_out = len(self.status.cells) - len(shown)
        more = [Text(f"and {left_out:,} cells more: aceslm status {self.status.root}")] if left_out else []
        line = Text(progress_line(self.status), overflow="ellipsis", no_wrap=True)
        yield Group(_table(self.status, shown, options.max_width), *more, line)


def _most_urgent(cells: Sequence[CellStatus], room: int) -> list[CellStatus]:
    """Return the cells that fit, in plan order, chosen by what they are at."""
    if len(cells) <= room:
        return list(cells)
    ranks = {cell.cell.cell_id: rank for rank, cell in enumerate(sorted(cells, key=_urgency))}
    return [cell for cell in cells if ranks[cell.cell.cell_id] < room]


def _urgency(cell: CellStatus) -> int:
    return next((rank for rank, state in enumerate(_URGENT) if cell.count(state)), len(_URGENT))


def _table(status: RunStatus, cells: Sequence[CellStatus], width: int) -> Table:
    title = Text(f"{status.root.name}: {status.state}", overflow="ellipsis", no_wrap=True)
    narrow = width < _WIDE  # without bar, lines and long headers the figures have room
    box = SIMPLE_HEAD if narrow else HEAVY_HEAD
    table = Table(title=title, title_justify="left", header_style="bold", box=box, collapse_padding=narrow)
    table.add_column("cell", no_wrap=True, overflow="ellipsis", ratio=1)
    if not narrow:
        table.add_column("", width=_BAR_WIDTH)
    for header in _SHORT_HEADERS if narrow else (*_STATES, "samples", "samples/s", "ETA", "accuracy"):
        table.add_column(header, justify="right", no_wrap=True)
    for cell in cells:
        bar = [] if narrow else [ProgressBar(cell.rows_total or 1, cell.rows_done, width=_BAR_WIDTH)]
        style = "red" if cell.count("failed") else ("green" if cell.is_complete else None)
        table.add_row(escape(_label(cell)), *bar, *_figures(cell), style=style)
    return table


def _label(cell: CellStatus) -> str:
    """Return a cell's name without what all the others say too: its digest, `none`, seed 0."""
    one = cell.cell
    parts = [one.model.name.rstrip("/").rsplit("/", 1)[-1], one.quantization, one.task_name, one.mode]
    parts += [one.variant, "adapt" if one.split == "adapt" else "", f"seed {one.seed}" if one.seed else ""]
    return " ".join(part for part in parts if part and part != "none")


def _figures(cell: CellStatus) -> list[str]:
    counts = [str(cell.count(state) or "-") for state in _STATES]
    rate = f"{cell.samples_per_s:.2f}" if cell.samples_per_s else "-"
    accuracy = "-" if cell.accuracy is None else f"{cell.accuracy:.3f}"
    eta = duration(cell.eta_s) if cell.rows_done < cell.rows_total else "-"
    return [*counts, f"{cell.rows_done:,}/{cell.rows_total:,}", rate, eta, accuracy]


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
class Lines:
    """Progress where there is no terminal: a line every few seconds."""

    _last: float = field(default_factory=time.monotonic)

    def __call__(self, status: RunStatus) -> None:
        if time.monotonic() - self._last >= _PLAIN_EVERY_S:
            self._last = time.monotonic()
            note(progress_line(status))
