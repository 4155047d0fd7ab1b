"""What the head of the page says: what ran, how much of it is there, on what, and what differs.

Everything comes from the run directory's files, so a copied run says the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aceslm.analysis.spent import Spent, whole_cost
from aceslm.core.files import read_json
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Cell
from aceslm.report.plots import short
from aceslm.results.coverage import Coverage, explain
from aceslm.results.mixtures import all_attempts
from aceslm.run.attempt_files import End, Start


@dataclass(frozen=True, slots=True)
class Facts:
    """The head of the page. `partial` says what is missing and what to type; "" when all is there."""

    name: str
    partial: str
    tiles: tuple[tuple[str, str], ...]
    axes: tuple[tuple[str, str], ...]
    environment: tuple[tuple[str, str], ...]
    determinism: tuple[tuple[str, str], ...]
    mixtures: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


def read_facts(run: Run, costs: Mapping[str, Spent], errors: int, unparsed: int) -> Facts:
    """Read the facts of a merged run."""
    paths, cells = run.paths, run.cells
    coverage = read_json(paths.coverage, f"aceslm aggregate {paths.root} writes it again")
    starts, ends = _stories(run)
    spent = whole_cost(costs)
    tiles = [
        ("rows", f"{coverage['units_found']:,} of {coverage['units_planned']:,}"),
        ("cells", f"{len(cells):,}"),
        ("errors", f"{errors:,}"),
        ("unparsed", f"{unparsed:,}"),
        ("core-hours", f"{spent.core_hours:.2f}"),
    ]
    tiles += [("GPU-hours", f"{spent.gpu_hours:.2f}")] if spent.gpu_hours else []
    tiles += [("kilojoules", f"{spent.energy_j / 1000:,.1f}")] if spent.energy_j is not None else []
    return Facts(
        name=paths.root.resolve().name,
        partial=_partial(coverage, paths),
        tiles=tuple(tiles),
        axes=tuple(_axes(cells)),
        environment=tuple(_environment(starts, ends, coverage)),
        determinism=tuple(_determinism(ends)),
        mixtures=tuple((key, ", ".join(map(str, values))) for key, values in coverage["mixtures"].items()),
        warnings=tuple(_warnings(coverage)),
    )


def _partial(coverage: Mapping[str, Any], paths: RunPaths) -> str:
    if coverage["complete"]:
        return ""
    return f"Every figure covers only what is there: {explain(Coverage(**coverage), paths)}"


def _warnings(coverage: Mapping[str, Any]) -> Sequence[str]:
    found = []
    if coverage["duplicates"]:
        found.append(
            f"{coverage['duplicates']:,} units were computed twice, {coverage['conflicts']:,} of them with "
            "another prediction; the first is kept."
        )
    if coverage["mixtures"]:
        found.append("Rows of different versions or devices are mixed; the environment below lists them.")
    return found


def _axes(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    scored = [cell for cell in cells if cell.split != "adapt"]
    axes: list[tuple[str, list[str]]] = [
        ("models", [f"{short(cell.model.model_id)} ({cell.model.revision[:19]})" for cell in scored]),
        ("quantization", [cell.quantization for cell in scored]),
        ("tasks", [cell.task_name + (f" ({cell.split})" if cell.split else "") for cell in scored]),
        ("modes", [cell.mode for cell in scored]),
        ("variants", [cell.variant for cell in scored if cell.variant]),
        ("seeds", [str(cell.seed) for cell in scored]),
        ("adaptations", [cell.cell_id for cell in cells if cell.split == "adapt"]),
        (
            "decoding",
            [
                "greedy" if cell.generation.temperature == 0 else f"T = {cell.generation.temperature:g}"
                for cell in cells
            ],
        ),
    ]
    return [(name, ", ".join(dict.fromkeys(values))) for name, values in axes if values]


def _stories(run: Run) -> tuple[list[Start], list[End]]:
    attempts = all_attempts(run)
    starts = [one.start for one in attempts if one.start]
    return sorted(starts, key=lambda start: start.started_at), [one.end for one in attempts if one.end]


def _environment(
    starts: Sequence[Start], ends: Sequence[End], coverage: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return the environment of the last attempt; where others differ, the mixtures say so."""
    provenance: Mapping[str, Any] = starts[-1].provenance if starts else {}
    commit = str(provenance.get("commit") or "unknown")[:12]
    commit += ", uncommitted changes" if provenance.get("dirty") else ""
    lines = [
        ("aceslm", f"{provenance.get('aceslm', 'unknown')}, commit {commit}"),
        ("code digest", str(provenance.get("code", "unknown"))),
        ("Python", f"{provenance.get('python', 'unknown')} on {provenance.get('platform', 'unknown')}"),
        ("CPU", str(provenance.get("cpu", "unknown"))),
    ]
    lines += [(name, str(version)) for name, version in provenance.get("packages", {}).items()]
    if starts:
        first, last = starts[0].started_at, max([end.ended_at or 0.0 for end in ends], default=0.0)
        lines.append(("attempts", f"{len(starts):,}, from {_clock(first)} to {_clock(max(first, last))}"))
    lines.append(("merged", _clock(coverage["merged_at"])))
    return lines


def _determinism(ends: Sequence[End]) -> list[tuple[str, str]]:
    said = {}
    for engine in (end.engine for end in ends):
        if "determinism" in engine:
            words = [str(engine.get(key)) for key in ("engine", "device", "dtype", "quantization")]
            said[", ".join(words)] = str(engine["determinism"])
    return sorted(said.items())


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
