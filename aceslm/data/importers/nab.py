"""The Numenta Anomaly Benchmark: series of values with labelled anomaly windows -> blocks, normal or not.

A block is `window` consecutive values; blocks do not overlap. It is anomalous when it holds at least half of
an anomaly window, or when at least half of it lies in one; so every published window has a block. A block
that only touches a window is ambiguous and dropped.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from aceslm.core.errors import DataError
from aceslm.data.importers.base import Found, ImportOptions, Raw, json_file
from aceslm.data.importers.splits import balance, splits_by_stratum

SOURCE = "Numenta Anomaly Benchmark, https://github.com/numenta/NAB"
LICENCE = "MIT"
QUESTION = "Is the latest part of this series normal or anomalous?"
LABELS = ("normal", "anomalous")
WINDOWS_FILE = "labels/combined_windows.json"
SHOWN_VALUES = 24

_time = datetime.fromisoformat

Interval = tuple[datetime, datetime]
Series = tuple[list[datetime], list[float]]


def read(src: Path, options: ImportOptions) -> Found:
    """Read a checkout of NAB (`data/`, `labels/`). Splits are by series, every category in every split."""
    labels = _labels(src / WINDOWS_FILE)
    splits = splits_by_stratum({name: name.partition("/")[0] for name in labels}, options)
    found = Found(totals={"series": len(labels), "points": 0, "windows": sum(map(len, labels.values()))})
    for name, windows in sorted(labels.items()):
        path = src / "data" / name
        times, values = _series(path)
        found.totals["points"] += len(values)
        inside = [[low <= time <= high for time in times] for low, high in windows]
        for start in range(0, len(values), options.window):
            block = slice(start, start + options.window)
            where = f"{path}: values {start + 1} to {min(block.stop, len(values))}"
            label = _label(len(values[block]), options.window, [(sum(w[block]), sum(w)) for w in inside])
            if label not in LABELS:
                found.dropped.append((where, label))
                continue
            row = _row(name, times[block], values[block], values[:start], label)
            found.rows.append((where, {**row, "split": splits[name]}))
    return balance(found, options)


def _label(size: int, full: int, overlaps: Sequence[tuple[int, int]]) -> str:
    """Return a label, or the reason why there is none. `overlaps`: (values in the block, in the window)."""
    if size < full:
        return "the rest of a series, shorter than a block"
    if any(shared and (2 * shared >= window or 2 * shared >= size) for shared, window in overlaps):
        return "anomalous"
    return "only touches an anomaly window" if any(shared for shared, _ in overlaps) else "normal"


def _row(
    name: str, times: Sequence[datetime], values: Sequence[float], before: Sequence[float], label: str
) -> Raw:
    return {
        "id": f"nab-{name.removesuffix('.csv')}-{len(before):05d}",
        "question": QUESTION,
        "context": render(values, before),
        "answer": label,
        "answer_type": "label",
        "choices": list(LABELS),
        "context_id": name,
        "metadata": {"series": name, "from": times[0].isoformat(), "to": times[-1].isoformat()},
    }


def render(values: Sequence[float], before: Sequence[float]) -> str:
    """Return a block as text: figures of the series so far and of the block, then about 24 of its values.

    Of every stretch the value furthest from the block's mean is shown, so that a spike cannot fall between.
    """
    mean = float(np.mean(values))
    step = math.ceil(len(values) / SHOWN_VALUES)
    stretches = [values[start : start + step] for start in range(0, len(values), step)]
    shown = [max(stretch, key=lambda value: abs(value - mean)) for stretch in stretches]
    earlier = _figures(before) if before else "none"
    return (
        f"Earlier values: {earlier}\nLatest values: {_figures(values)}\n"
        f"Latest values in order (the most extreme of every {step}): {', '.join(f'{v:.4g}' for v in shown)}"
    )


def _figures(values: Sequence[float]) -> str:
    return (
        f"count {len(values)}, mean {np.mean(values):.4g}, standard deviation {np.std(values):.4g}, "
        f"min {min(values):.4g}, max {max(values):.4g}"
    )


def _labels(path: Path) -> dict[str, list[Interval]]:
    value = json_file(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected an object: series -> windows, found a {type(value).__name__}")
    labels = {}
    for name, windows in value.items():
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise DataError(f"{path}: '{name}': a series lies below data/")
        try:
            labels[name] = [(_time(low), _time(high)) for low, high in windows]
        except (TypeError, ValueError):
            raise DataError(f"{path}: '{name}': expected a list of [from, to] times") from None
    return labels


def _series(path: Path) -> Series:
    times: list[datetime] = []
    values: list[float] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            if next(reader, None) != ["timestamp", "value"]:
                raise DataError(f"{path}: line 1: expected the columns timestamp,value")
            for time, value in reader:
                number = float(value)
                if not math.isfinite(number):
                    raise ValueError(f"'{value}'")
                times.append(_time(time))
                values.append(number)
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: record {len(values) + 1}: not 'time,number': {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return times, values
