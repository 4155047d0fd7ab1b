"""Two kinds of plots as inline SVG: marks in labelled rows, and points over two axes.

    rows_chart([Row("baseline", (Mark(0.4, low=0.3, high=0.5),))], Axis("accuracy", 0, 1))
    xy_chart([Series("ace", 2, (Point(0, 0.4), Point(1, 0.5)))], Axis("epoch", 0, 1), Axis("accuracy", 0, 1))

Colours come from the page's style sheet (classes `c0` to `c7`), so a plot follows the theme and prints. All
texts are escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 600
_GUTTER, _RIGHT, _ROW, _HEADING, _BOTTOM = 150, 18, 24, 26, 44
_LEFT, _HEIGHT, _TOP = 54, 230, 14
_DOT = 4.5
_MAX_LABEL = 22
_MAX_DOTS = 60  # of a joined line


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis in the plot's own units; `log` needs a positive range, `whole` ticks at integers only."""

    label: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def share(self, value: float) -> float:
        """Return where `value` lies: 0 at `low`, 1 at `high`."""
        if self.log:
            low, high, value = (math.log10(max(one, 1e-9)) for one in (self.low, self.high, value))
        else:
            low, high = self.low, self.high
        return (value - low) / (high - low) if high > low else 0.5

    def ticks(self) -> list[float]:
        if not self.log:
            return _linear_ticks(self.low, self.high, whole=self.whole)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1, 2, 5) if self.high / self.low < 300 else (1,)
        return [step * 10.0**k for k in decades for step in steps if self.low <= step * 10.0**k <= self.high]


@dataclass(frozen=True, slots=True)
class Mark:
    """One value of a row. `low`/`high` make a whisker, `inner` a box, `bar` a bar from the axis' start."""

    value: float
    low: float | None = None
    high: float | None = None
    inner: tuple[float, float] | None = None
    series: int = 0
    text: str = ""
    bar: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled row of marks; without marks it is a heading."""

    label: str
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Point:
    """One point; `hollow` marks what must not be read as evidence."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    text: str = ""
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one colour, joined by a line where they are an order."""

    label: str
    series: int
    points: tuple[Point, ...]
    joined: bool = True


def axis_over(label: str, values: Sequence[float], *, zero: bool = False, whole: bool = False) -> Axis:
    """Return an axis that holds all `values`, logarithmic where positive ones span more than a decade."""
    low, high = min(values), max(values)
    if not zero and not whole and low > 0 and high / low > 10:
        return Axis(label, low * 0.8, high * 1.25, log=True)
    if zero:
        low = min(low, 0.0)
    pad = (high - low or abs(high) or 1.0) * 0.06
    floor = low - pad if low < 0 else max(0.0, low - pad)
    return Axis(
        label, low if zero or whole else floor, high if whole and high > low else high + pad, whole=whole
    )


def rows_chart(title: str, rows: Sequence[Row], axis: Axis) -> str:
    """Return a plot with one line per row and a horizontal axis."""
    height = sum(_ROW if row.marks else _HEADING for row in rows)
    body, top = [], float(_TOP)
    for row in rows:
        size = _ROW if row.marks else _HEADING
        middle = top + size / 2
        body.append(_row_label(row, middle))
        for number, mark in enumerate(row.marks):
            offset = (number - (len(row.marks) - 1) / 2) * min(7.0, (_ROW - 10) / max(1, len(row.marks)))
            body += _mark(mark, _x_in_rows(axis), middle + offset)
        top += size
    bottom = _TOP + height
    grid = [_vertical(_x_in_rows(axis)(tick), _TOP, bottom, format_tick(tick)) for tick in axis.ticks()]
    label = _text(_x_in_rows(axis).middle, bottom + 36, axis.label, "axis", "middle")
    return _svg(title, bottom + _BOTTOM, [*grid, *body, label])


def xy_chart(title: str, series: Sequence[Series], x: Axis, y: Axis) -> str:
    """Return a plot of points over two axes."""
    bottom = _TOP + _HEIGHT
    across = _Extent(x, _LEFT, WIDTH - _RIGHT)
    up = _Extent(y, bottom, _TOP)
    body = [_vertical(across(tick), _TOP, bottom, format_tick(tick)) for tick in x.ticks()]
    for tick in y.ticks():
        body.append(_line("grid", (_LEFT, WIDTH - _RIGHT), (up(tick), up(tick))))
        body.append(_text(_LEFT - 8, up(tick) + 4, format_tick(tick), "tick", "end"))
    for one in series:
        body += _series(one, across, up)
    body.append(_text(across.middle, bottom + 36, x.label, "axis", "middle"))
    body.append(
        f'<text class="axis" text-anchor="middle" transform="translate(14 {up.middle:.0f}) rotate(-90)">'
        f"{escape(y.label)}</text>"
    )
    return _svg(title, bottom + _BOTTOM, body)


def format_tick(value: float) -> str:
    """Return a number as an axis shows it: 0.25, 40, 1.5k, 2M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:.6g}"


@dataclass(frozen=True, slots=True)
class _Extent:
    """An axis laid over pixels."""

    axis: Axis
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        share = min(1.0, max(0.0, self.axis.share(value)))
        return self.start + share * (self.stop - self.start)

    @property
    def middle(self) -> float:
        return (self.start + self.stop) / 2


def _x_in_rows(axis: Axis) -> _Extent:
    return _Extent(axis, _GUTTER, WIDTH - _RIGHT)


def _linear_ticks(low: float, high: float, *, whole: bool) -> list[float]:
    rough = (high - low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    if whole:
        step = max(1.0, float(round(step)))
    first = math.ceil(low / step - 1e-9)
    count = math.floor((high - low) / step + 1e-9) + 2
    return [round((first + n) * step, 10) for n in range(count) if (first + n) * step <= high + step * 1e-9]


def _mark(mark: Mark, x: _Extent, y: float) -> Iterator[str]:
    yield f'<g class="c{mark.series}"><title>{escape(mark.text)}</title>'
    if mark.bar:
        yield _box("bar", (x.start, x(mark.value)), y, height=14)
    else:
        if mark.low is not None and mark.high is not None:
            yield _line("whisker", (x(mark.low), x(mark.high)), (y, y))
        if mark.inner is not None:
            yield _box("box", (x(mark.inner[0]), x(mark.inner[1])), y, height=10)
        yield _dot("dot", x(mark.value), y)
    yield "</g>"


def _series(series: Series, across: _Extent, up: _Extent) -> Iterator[str]:
    yield f'<g class="c{series.series}">'
    if series.joined and len(series.points) > 1:
        path = " ".join(f"{across(point.x):.1f},{up(point.y):.1f}" for point in series.points)
        yield f'<polyline class="line" points="{path}"/>'
    few = len(series.points) <= _MAX_DOTS
    for point in series.points:
        x, y = across(point.x), up(point.y)
        if point.low is not None and point.high is not None:
            yield _line("whisker", (x, x), (up(point.low), up(point.high)))
        if few or not series.joined:
            yield _dot("dot hollow" if point.hollow else "dot", x, y, point.text)
    yield "</g>"


def _line(kind: str, x: tuple[float, float], y: tuple[float, float]) -> str:
    return f'<line class="{kind}" x1="{x[0]:.1f}" x2="{x[1]:.1f}" y1="{y[0]:.1f}" y2="{y[1]:.1f}"/>'


def _box(kind: str, x: tuple[float, float], middle: float, height: float) -> str:
    width = max(1.0, x[1] - x[0])
    top = middle - height / 2
    return f'<rect class="{kind}" x="{x[0]:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height}" rx="2"/>'


def _dot(kind: str, x: float, y: float, text: str = "") -> str:
    title = f"<title>{escape(text)}</title>" if text else ""
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{_DOT}">{title}</circle>'


def _row_label(row: Row, middle: float) -> str:
    if not row.marks:
        return _text(0, middle + 5, row.label, "heading", "start")
    short = row.label if len(row.label) <= _MAX_LABEL else row.label[: _MAX_LABEL - 1] + "…"
    return _text(_GUTTER - 10, middle + 4, short, "label", "end", full=row.label)


def _vertical(x: float, top: float, bottom: float, label: str) -> str:
    return _line("grid", (x, x), (top, bottom)) + _text(x, bottom + 17, label, "tick", "middle")


def _text(x: float, y: float, text: str, kind: str, anchor: str, full: str = "") -> str:
    title = f"<title>{escape(full)}</title>" if full and full != text else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{title}{escape(text)}</text>'


def _svg(title: str, height: float, body: Sequence[str]) -> str:
    head = f'<svg class="plot" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
    return head + "".join(body) + "</svg>"
