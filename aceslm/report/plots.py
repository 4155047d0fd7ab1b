"""The plots of the page, from the summary and the scored rows.

    figures = draw_all(summary, frame, books)

Rows of the `adapt` split are not among them; accuracies on samples that were seen before are drawn hollow,
and only in the learning curve.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aceslm.analysis.rows import ACCURACY, SCORE, scored_rows
from aceslm.report.playbooks import Book
from aceslm.report.svg import Axis, Mark, Point, Row, Series, axis_over, rows_chart, xy_chart

if TYPE_CHECKING:
    import pandas as pd

MODES = (*"baseline scaffold ace ace_frozen ace_shuffled ace_neutral ace_placebo".split(),)
_COLOURS = 8
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Line = Mapping[str, Any]  # one row of the summary


@dataclass(frozen=True, slots=True)
class Figure:
    """One plot. `note` says how to read it; `legend` are colour class and name."""

    kind: str
    title: str
    note: str
    svg: str
    legend: tuple[tuple[str, str], ...] = ()


def draw_all(summary: pd.DataFrame, frame: pd.DataFrame, books: Sequence[Book]) -> list[Figure]:
    """Return all plots that the rows have something for."""
    lines: list[Line] = [
        {str(key): value for key, value in row.items()} for row in summary.to_dict("records")
    ]
    fresh = [line for line in lines if not line["seen"]]
    tasks = list(dict.fromkeys(line["task_name"] for line in lines))
    figures = [_accuracy(task, [line for line in fresh if line["task_name"] == task]) for task in tasks]
    for task in tasks:
        figures += _learning(task, [line for line in lines if line["task_name"] == task])
    figures += _latency(frame)
    figures += _throughput(lines)
    figures += _memory(lines)
    for task in tasks:
        figures += _cost(task, [line for line in fresh if line["task_name"] == task])
    figures += _growth(books)
    return [figure for figure in figures if figure.svg]


def mode_name(line: Line) -> str:
    """Return the mode, with its variant where it has one."""
    variant = line.get("variant")
    return f"{line['mode']} · {variant}" if isinstance(variant, str) and variant else str(line["mode"])


def short(model_id: object) -> str:
    return str(model_id).rstrip("/").rsplit("/", 1)[-1]


def _accuracy(task: str, lines: Sequence[Line]) -> Figure:
    rows = list(_grouped_rows(lines, _accuracy_mark))
    name = _headline_name(lines)
    what = "Share of correct answers" if name == ACCURACY else "Mean token F1"
    note = f"{what} with its 95 % interval; failed and unparsed answers count as wrong."
    axis = Axis(name, 0.0, 1.0)
    title = f"{name[0].upper()}{name[1:]} by mode: {task}"
    return Figure("accuracy", title, note, rows_chart(title, rows, axis) if rows else "", _legend(lines))


def _accuracy_mark(line: Line) -> Mark:
    value, low, high = _headline(line)
    text = f"{_where(line)}: {value:.3f} [{low:.3f}, {high:.3f}], n = {line['num_samples']:,}"
    return Mark(value, low, high, series=colour(line["mode"]), text=text)


def _learning(task: str, lines: Sequence[Line]) -> Iterator[Figure]:
    series = []
    for key, members in _groups(lines, ("model_id", "quantization", "mode", "variant", "seed")):
        if len({line["epoch"] for line in members}) > 1:
            ordered = sorted(members, key=lambda line: (line["epoch"], bool(line["seen"])))
            points = tuple(_epoch_point(line) for line in ordered)
            series.append(Series(str(key), colour(members[0]["mode"]), points))
    if not series:
        return
    last = max(point.x for one in series for point in one.points)
    title = f"Learning curve by epoch: {task}"
    note = (
        "Filled: answered before the sample was learnt from. Hollow: the playbook had already learnt from "
        "these samples, no evidence about new questions."
    )
    y = Axis(_headline_name(lines), 0.0, 1.0)
    chart = xy_chart(title, series, Axis("epoch", -0.2, last + 0.2, whole=True), y)
    yield Figure("learning", title, note, chart, _legend(lines, {one.series for one in series}))


def _epoch_point(line: Line) -> Point:
    seen = bool(line["seen"])
    value, low, high = _headline(line)
    text = f"{_where(line)}, epoch {line['epoch']}: {value:.3f}{' (seen)' if seen else ''}"
    return Point(line["epoch"], value, low, high, text, seen)


def _headline(line: Line) -> tuple[float, float, float]:
    """Return what the task is judged by, with its interval."""
    names = ("accuracy", "accuracy_low", "accuracy_high")
    if line["metric"] == SCORE:
        names = ("mean_score", "score_low", "score_high")
    value, low, high = (float(line[name]) for name in names)
    return value, low, high


def _headline_name(lines: Sequence[Line]) -> str:
    return "token F1" if any(line["metric"] == SCORE for line in lines) else ACCURACY


def _latency(frame: pd.DataFrame) -> Iterator[Figure]:
    rows = scored_rows(frame)
    rows = rows[rows["latency_ms"].notna()]
    keys = ["task_name", "model_id", "quantization", "mode", "variant"]
    rows = rows.assign(variant=rows["variant"].fillna("") if "variant" in rows else "")
    for task, of_task in rows.groupby("task_name", sort=False):
        found: list[dict[str, Any]] = []
        for key, group in of_task.groupby(keys, sort=False):
            values = group["latency_ms"].quantile(list(_QUANTILES)).tolist()
            found.append(dict(zip(keys, key, strict=True)) | {"values": values, "n": len(group)})
        axis = axis_over("ms per sample", [value for line in found for value in line["values"]])
        title = f"Latency: {task}"
        note = (
            "Dot: median; box: half of all samples; whiskers: 5 % to 95 %. From a sample's admission to its "
            "last token."
        )
        chart = rows_chart(title, list(_grouped_rows(found, _latency_mark)), axis)
        yield Figure("latency", title, note, chart, _legend(found))


def _latency_mark(line: Line) -> Mark:
    low, left, median, right, high = line["values"]
    text = f"{_where(line)}: median {median:,.0f} ms ({low:,.0f} to {high:,.0f}), n = {line['n']:,}"
    return Mark(median, low, high, (left, right), colour(line["mode"]), text)


def _throughput(lines: Sequence[Line]) -> Iterator[Figure]:
    found = []
    for _, members in _groups(lines, ("model_id", "quantization", "mode", "variant")):
        timed = [line for line in members if _is_number(line["samples_per_s"]) and line["samples_per_s"] > 0]
        if timed:
            seconds = sum(line["num_samples"] / line["samples_per_s"] for line in timed)
            rate = sum(line["num_samples"] for line in timed) / seconds
            found.append({**members[0], "rate": rate, "seed": ""})
    if not found:
        return
    title = "Throughput by quantization"
    rows = list(
        _grouped_rows(
            found, lambda line: _bar(line, line["rate"], f"{line['rate']:.2f} samples/s"), by_model=True
        )
    )
    axis = axis_over("samples/s, over all tasks", [line["rate"] for line in found], zero=True)
    note = (
        "Engine time shared between samples counts once; for modes that evolve, the calls of all roles are "
        "in it."
    )
    yield Figure("throughput", title, note, rows_chart(title, rows, axis), _legend(found))


def _memory(lines: Sequence[Line]) -> Iterator[Figure]:
    for column, what in (("peak_memory_bytes", "process"), ("accelerator_peak_bytes", "accelerator")):
        found = []
        for _, members in _groups(lines, ("model_id", "quantization")):
            peaks = [line[column] for line in members if _is_number(line[column])]
            if peaks:
                found.append({**members[0], "peak": max(peaks) / 1e6, "mode": "", "variant": "", "seed": ""})
        if found:
            title = f"Peak memory by quantization ({what})"
            marks = _grouped_rows(
                found, lambda line: _bar(line, line["peak"], f"{line['peak']:,.0f} MB"), by_model=True
            )
            axis = axis_over("MB", [line["peak"] for line in found], zero=True)
            yield Figure(
                "memory",
                title,
                "The most that a worker's process held.",
                rows_chart(title, list(marks), axis),
            )


def _bar(line: Line, value: float, says: str) -> Mark:
    return Mark(value, series=colour(line["mode"]), text=f"{_where(line)}: {says}", bar=True)


def _cost(task: str, lines: Sequence[Line]) -> Iterator[Figure]:
    series = []
    for line in lines:
        cost, (value, low, high) = line["amortised_ms"], _headline(line)
        if _is_number(cost):
            text = f"{_where(line)}: {cost:,.0f} ms per sample, {_headline_name([line])} {value:.3f}"
            point = Point(cost, value, low, high, text)
            series.append(Series(mode_name(line), colour(line["mode"]), (point,), joined=False))
    if not series:
        return
    title = f"Cost against {_headline_name(lines)}: {task}"
    x = axis_over("engine time per sample, ms", [one.points[0].x for one in series])
    note = "Left and up is better. The time of all roles is in it, that of shared prefixes once."
    yield Figure(
        "cost", title, note, xy_chart(title, series, x, Axis(_headline_name(lines), 0.0, 1.0)), _legend(lines)
    )


def _growth(books: Sequence[Book]) -> Iterator[Figure]:
    books = [book for book in books if len(book.growth) > 1]
    if not books:
        return
    series = [
        Series(
            book.name,
            number % _COLOURS,
            tuple(
                Point(
                    one.version,
                    one.shown,
                    text=f"{book.name}, version {one.version}: {one.shown} bullets, {one.chars:,} characters",
                )
                for one in book.growth
            ),
        )
        for number, book in enumerate(books)
    ]
    points = [point for one in series for point in one.points]
    x = axis_over("version (round)", [point.x for point in points], whole=True)
    y = axis_over("bullets shown", [point.y for point in points], zero=True)
    title = "Playbook growth"
    legend = tuple((f"c{one.series}", one.label) for one in series)
    yield Figure(
        "growth",
        title,
        "Bullets that prompts carry, after each round.",
        xy_chart(title, series, x, y),
        legend,
    )


def _grouped_rows(lines: Sequence[Line], mark: Any, *, by_model: bool = False) -> Iterator[Row]:
    """Yield a row per mode with one mark a seed, headed by model and quantization where there are several."""
    places = list(_groups(lines, ("model_id",) if by_model else ("model_id", "quantization")))
    for _, members in places:
        if len(places) > 1 or by_model:
            first = members[0]
            yield Row(short(first["model_id"]) + ("" if by_model else f" · {first['quantization']}"))
        for _, of_mode in _groups(members, ("quantization", "mode", "variant")):
            words = [of_mode[0]["quantization"]] if by_model else []
            words += [mode_name(of_mode[0])] if of_mode[0]["mode"] else []
            yield Row(" · ".join(words), tuple(mark(line) for line in of_mode))


def colour(mode: object) -> int:
    """Return the mode's colour number, the same in every plot."""
    return MODES.index(str(mode)) if str(mode) in MODES else len(MODES)


def _legend(lines: Sequence[Line], only: set[int] | None = None) -> tuple[tuple[str, str], ...]:
    modes = dict.fromkeys(str(line["mode"]) for line in lines)
    return tuple((f"c{colour(mode)}", mode) for mode in modes if only is None or colour(mode) in only)


def _groups(lines: Sequence[Line], keys: Sequence[str]) -> Iterator[tuple[tuple[str, ...], list[Line]]]:
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        groups.setdefault(tuple(str(line.get(key, "")) for key in keys), []).append(line)
    yield from groups.items()


def _where(line: Line) -> str:
    seed = line.get("seed", "")
    words = [
        mode_name(line),
        short(line["model_id"]),
        line["quantization"],
        f"seed {seed}" if seed != "" else "",
    ]
    return ", ".join(str(word) for word in words if word)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)
