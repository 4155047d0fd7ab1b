"""What W&B is told about a merged run: a script for each cell, one for the grid. Writes no file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aceslm.analysis.analysed import Analysed
from aceslm.analysis.comparisons import Comparison, ComparisonTable
from aceslm.analysis.verdicts import verdicts
from aceslm.config.grid import GridConfig
from aceslm.core.digests import file_sha256
from aceslm.core.files import read_json
from aceslm.core.parquet import read_table
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Cell
from aceslm.plan.cells import run_digest
from aceslm.run.evolution_journal import Journal
from aceslm.tracking.script import Line, RunHeader, cell_config, grid_script, header_line

if TYPE_CHECKING:
    import pandas as pd

_CELL_COLUMNS = ("cell_id", "epoch", "seen", "correct", "score", "playbook_version", "latency_ms")


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged run, read once; `summary` has a row per cell, epoch and `seen`."""

    run: Run
    analysed: Analysed
    grid: GridConfig
    summary: Sequence[Mapping[str, Any]]
    coverage: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        return bool(self.coverage["complete"])


def read_merged(run: Run, analysed: Analysed, grid: GridConfig) -> Merged:
    """Return what W&B is told from: a run's figures, and its coverage as the merge has written it."""
    rows = json.loads(analysed.summary.to_json(orient="records"))
    coverage = read_json(run.paths.coverage, f"aceslm aggregate {run.paths.root} writes it again")
    return Merged(run, analysed, grid, rows, coverage)


def cell_lines(merged: Merged) -> Iterator[tuple[Cell, list[Line]]]:
    """Yield each cell that has rows with its script: figures as the summary, the curves of a playbook."""
    rows = read_table(merged.run.paths.results, _CELL_COLUMNS).to_pandas()
    for cell in merged.run.cells:
        own = rows[rows["cell_id"] == cell.cell_id]
        if own.empty:
            continue
        lines: list[Line] = [header_line(_cell_header(merged, cell))]
        if cell.evolves and merged.complete:  # a point that is told once does not change any more
            lines += [{"log": point} for point in _curves(merged.run.paths, cell, own)]
        lines += [{"summary": _cell_summary(merged, cell, own)}, {"finish": 0}]
        yield cell, lines


def grid_lines(merged: Merged) -> list[Line]:
    """Return the script of the grid: tables of figures and comparisons, results and playbooks."""
    paths, name = merged.run.paths, merged.run.paths.root.name
    header = RunHeader(
        id=f"{run_digest(merged.run.cells)}-grid",
        name=name,
        group=name,
        job_type="grid",
        project=merged.grid.tracking.project,
        entity=merged.grid.tracking.entity,
        config=merged.grid.model_dump(mode="json", exclude={"tracking"}),
        tags=merged.grid.tracking.tags,
        notes=merged.grid.tracking.notes,
    )
    keys = ("complete", "units_planned", "units_found", "shards_planned", "shards_done", "conflicts")
    facts = {key: merged.coverage.get(key) for key in keys}
    lines = [header_line(header), {"summary": facts}, _table("summary", merged.summary)]
    compared = merged.analysed.comparisons
    lines.append(_table("comparisons", list(_comparisons(compared))))
    lines.append(_table("verdicts", list(_verdicts(compared))))
    if merged.complete:
        files = {"results.parquet": paths.results, "summary.md": paths.summary_md}
        lines.append(_artifact(merged, "results", files))
        versions = {
            str(path.relative_to(paths.root / "playbooks")): path
            for path in sorted((paths.root / "playbooks").glob("*/v*.jsonl"))
            if ".calls." not in path.name
        }
        if versions:
            lines.append(_artifact(merged, "playbooks", versions))
    return [*lines, {"finish": 0 if merged.complete else 1}]


def _cell_header(merged: Merged, cell: Cell) -> RunHeader:
    tracking = merged.grid.tracking
    return RunHeader(
        id=cell.cell_id.rsplit("-", 1)[-1],
        name=cell.cell_id,
        group=merged.run.paths.root.name,
        job_type="cell",
        project=tracking.project,
        entity=tracking.entity,
        config={"run": merged.run.paths.root.name, **cell_config(cell)},
        tags=tracking.tags,
        notes=tracking.notes,
        step_metrics={"epoch/*": "epoch", "playbook/*": "playbook_version"},
    )


def _cell_summary(merged: Merged, cell: Cell, rows: pd.DataFrame) -> dict[str, Any]:
    """Return a cell's figures: of its first epoch, and under `seen/` of the last that met known samples."""
    mine = [row for row in merged.summary if row.get("cell_id") == cell.cell_id]
    place = {"model_id", "quantization", "task_name", "mode", "variant", "seed", "cell_id"}
    fresh = [row for row in mine if not row["seen"]]
    seen = [row for row in mine if row["seen"]]
    figures: dict[str, Any] = {"complete": merged.complete, "rows": len(rows)}
    if fresh and cell.split != "adapt":
        figures |= {key: value for key, value in fresh[0].items() if key not in {*place, "epoch", "seen"}}
    if seen and cell.split != "adapt":
        figures |= {f"seen/{key}": value for key, value in seen[-1].items() if key not in place}
    spent = merged.analysed.spent[cell.cell_id]  # of the whole cell, not of an epoch
    return figures | {"core_hours": spent.core_hours, "gpu_hours": spent.gpu_hours}


def _curves(paths: RunPaths, cell: Cell, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the points of an evolving playbook: by epoch, then by version."""
    for _, group in rows.groupby("epoch"):
        yield {
            "epoch": int(group["epoch"].iloc[0]),
            "epoch/accuracy": float(group["correct"].mean()),
            "epoch/score": float(group["score"].fillna(group["correct"]).mean()),
            "epoch/samples": len(group),
            "epoch/latency_ms": float(group["latency_ms"].mean()),
            "epoch/seen": bool(group["seen"].eq(True).any()),
        }
    accuracy = rows.groupby("playbook_version")["correct"].mean().to_dict()
    journal = Journal(paths.playbooks(cell.cell_id))
    steps = {step.version: step for step in journal.steps()}
    for version, step in sorted(steps.items()):
        playbook = journal.playbook(version)
        yield {
            "playbook_version": version,
            "playbook/bullets": len(playbook.active),
            "playbook/shown": len(playbook.shown),
            "playbook/tokens": step.tokens,
            "playbook/gate_accepted": step.accepted,
            "playbook/helpful": sum(bullet.helpful for bullet in playbook.active),
            "playbook/harmful": sum(bullet.harmful for bullet in playbook.active),
            "playbook/accuracy": accuracy.get(version),
        }


def _comparisons(table: ComparisonTable) -> Iterator[dict[str, Any]]:
    for seen, comparisons in ((False, table.fresh), (True, table.seen)):
        for comparison in comparisons:
            yield {"seen": seen, **_flat(comparison)}


def _flat(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as one level of figures, its verdict in words."""
    figures = asdict(comparison)
    result, exact = figures.pop("result"), figures.pop("exact") or {}
    interval, exact_interval = result.pop("interval"), exact.get("interval") or {}
    paired = (exact or result).get("mcnemar") or {}
    result.pop("mcnemar")
    return {
        **figures,
        **result,
        "low": interval["low"],
        "high": interval["high"],
        "exact_difference": exact.get("difference"),
        "exact_low": exact_interval.get("low"),
        "exact_high": exact_interval.get("high"),
        "exact_p": exact.get("p_value"),
        "mcnemar_p": paired.get("p_value"),
        "verdict": comparison.verdict,
    }


def _verdicts(table: ComparisonTable) -> Iterator[dict[str, Any]]:
    """Yield what is said of each treatment, as the summary says it."""
    for one in verdicts(table.fresh):
        row = one.closest
        yield {
            "model_id": row.model_id,
            "quantization": row.quantization,
            "task_name": row.task_name,
            "epoch": row.epoch,
            "treatment": row.treatment,
            "better_reference": row.reference,
            "metric": row.metric,
            "difference": row.result.difference,
            "low": row.result.interval.low,
            "high": row.result.interval.high,
            "holm_p": one.holm_p,
            "verdict": one.words,
            "controls": one.control_words,
        }


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> Line:
    columns = list(rows[0]) if rows else ["none"]
    return {
        "table": {
            "name": name,
            "columns": columns,
            "rows": [[row.get(column) for column in columns] for row in rows],
        }
    }


def _artifact(merged: Merged, kind: str, files: Mapping[str, Path]) -> Line:
    """Return an artifact: its files relative to the grid's script, and their digests."""
    place = grid_script(merged.run.paths).parent
    return {
        "artifact": {
            "name": f"{merged.run.paths.root.name}-{kind}",
            "type": kind,
            "files": {name: os.path.relpath(path, place) for name, path in files.items()},
            "sha256": {name: file_sha256(path) for name, path in files.items()},
        }
    }
