"""AI4I 2020 predictive maintenance (Matzka 2020, UCI 601): synthetic, with published failure rules."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from aceslm.core.errors import DataError
from aceslm.data.importers.base import Found, ImportOptions, Raw, source_files
from aceslm.data.importers.splits import balance, splits_by_stratum

SOURCE = "AI4I 2020, UCI Machine Learning Repository, id 601"
LICENCE = "CC BY 4.0"
FILES = ("*.csv",)

QUESTION = "Which failure mode, if any, does this reading of a milling machine show?"
MODES: Mapping[str, str] = {
    "TWF": "tool wear",
    "HDF": "heat dissipation",
    "PWF": "power",
    "OSF": "overstrain",
    "RNF": "random",
}
LABELS = ("none", *MODES.values())
RULES: Mapping[str, str] = {
    "none": "no failure rule holds",
    "tool wear": "the tool fails or is replaced at a tool wear between 200 and 240 min",
    "heat dissipation": "process minus air temperature below 8.6 K and rotational speed below 1380 rpm",
    "power": "torque times rotational speed in rad/s below 3500 W or above 9000 W",
    "overstrain": "tool wear times torque above 11000 (L), 12000 (M) or 13000 (H) min Nm",
    "random": "a chance of 0.1 %, whatever the process parameters",
}

_QUALITY = {"L": "L (low)", "M": "M (medium)", "H": "H (high)"}
_FEATURES = {
    "Air temperature [K]": ("Air temperature", "K"),
    "Process temperature [K]": ("Process temperature", "K"),
    "Rotational speed [rpm]": ("Rotational speed", "rpm"),
    "Torque [Nm]": ("Torque", "Nm"),
    "Tool wear [min]": ("Tool wear", "min"),
}
_NEEDED = ("UDI", "Type", *_FEATURES, "Machine failure", *MODES)


def read(src: Path, options: ImportOptions) -> Found:
    """Read the table; a row becomes a label question. Rows with no single published mode are dropped."""
    found = Found(totals=dict.fromkeys(("rows", "failures", *MODES), 0))
    for path in source_files(src, FILES):
        for where, cells in _table(path):
            _count(found.totals, where, cells)
            modes = [mode for mode in MODES if cells[mode] == "1"]
            if len(modes) > 1:
                found.dropped.append((where, "several failure modes at once"))
            elif not modes and cells["Machine failure"] == "1":
                found.dropped.append((where, "a failure without a published mode"))
            else:
                found.rows.append((where, _row(where, cells, modes)))
    splits = splits_by_stratum({raw["id"]: raw["answer"] for _, raw in found.rows}, options)
    found.rows = [(where, {**raw, "split": splits[raw["id"]]}) for where, raw in found.rows]
    return balance(found, options)


def _table(path: Path) -> list[tuple[str, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: line 1: the columns {', '.join(missing)} are missing")
            rows = [(f"{path}: record {number}", row) for number, row in enumerate(reader, start=1)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: broken CSV: {error}") from None
    for where, row in rows:
        absent = [name for name in _NEEDED if row[name] in ("", None)]
        if absent:
            raise DataError(f"{where}: column '{absent[0]}' is empty")
    return rows


def _count(totals: dict[str, int], where: str, cells: Mapping[str, str]) -> None:
    totals["rows"] += 1
    for name, key in (("Machine failure", "failures"), *((mode, mode) for mode in MODES)):
        if cells[name] not in {"0", "1"}:
            raise DataError(f"{where}: column '{name}': expected 0 or 1, found '{cells[name]}'")
        totals[key] += int(cells[name])


def _row(where: str, cells: Mapping[str, str], modes: list[str]) -> Raw:
    if cells["Type"] not in _QUALITY:
        raise DataError(f"{where}: column 'Type': expected L, M or H, found '{cells['Type']}'")
    lines = [f"Product quality: {_QUALITY[cells['Type']]}"]
    for column, (name, unit) in _FEATURES.items():
        try:
            float(cells[column])
        except ValueError:
            raise DataError(f"{where}: column '{column}': '{cells[column]}' is not a number") from None
        lines.append(f"{name}: {cells[column]} {unit}")
    label = MODES[modes[0]] if modes else "none"
    return {
        "id": f"ai4i-{cells['UDI']}",
        "question": QUESTION,
        "context": "\n".join(lines),
        "answer": label,
        "answer_type": "label",
        "choices": list(LABELS),
        "metadata": {"rule": RULES[label], "machine_failure": int(cells["Machine failure"])},
    }
