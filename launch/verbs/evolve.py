"""`aceslm evolve`: ACE over epochs on one task, a file an epoch."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launch.verbs.one_task import export, one_task_grid
from launch.verbs.options import (
    BatchOption,
    DatasetOption,
    DeviceOption,
    DomainOption,
    EngineOption,
    JsonOption,
    LimitOption,
    MixedOption,
    ModelOption,
    SetOption,
    TaskOption,
)

if TYPE_CHECKING:
    import pandas as pd

    from aceslm.core.values import Cell
    from aceslm.run.evolution_journal import Journal, StepNote
    from launch.prepare.run import Prepared


@dataclass(frozen=True, slots=True)
class EpochLine:
    """One line of the epoch table. `playbook_tokens` counts the model's own tokens at the epoch's end.

    `low` and `high` are of the accuracy; the score is there where the task is judged by it.
    """

    epoch: str
    mode: str
    accuracy: float
    low: float
    high: float
    score: float | None
    score_low: float | None
    score_high: float | None
    num_samples: int
    avg_latency_ms: float
    seen: bool
    bullets: int | None
    playbook_tokens: int | None


def evolve(
    model_id: ModelOption = "smollm2-135m-gguf",
    task_name: TaskOption = None,
    dataset_path: DatasetOption = None,
    domain: DomainOption = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of ACE, after the baseline of epoch 0.")] = 3,
    limit: LimitOption = None,
    quantization: Annotated[str, typer.Option(help="none, int8 or nf4.")] = "none",
    seed: Annotated[int, typer.Option(help="Keys the order of the samples, and sampling noise.")] = 0,
    set_: SetOption = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Where epoch files and playbooks go; default: the run's epochs/.")
    ] = None,
    batch_size: BatchOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = None,
    allow_mixed: MixedOption = False,
    json_: JsonOption = False,
) -> None:
    """Answer a task once without a playbook (epoch 0), then let a playbook evolve over epochs.

    Writes epoch_0.csv, epoch_1.csv, ... and playbooks/v0007.jsonl. In the first pass of ACE every sample is
    answered before its gold answer is learnt from; later passes have seen the samples and are marked. A task
    with an `adapt` split also gets the held-out curve: the playbook of each epoch there, frozen, on the
    scored split. It is a run under results/, so it resumes like any other.
    """
    from aceslm.config.grid import apply_override
    from aceslm.results.merge import merge_run, require_complete
    from launch.ledger import WorkerOptions
    from launch.prepare.run import default_results, prepare, write_run
    from launch.show.console import note, say
    from launch.show.live import live_table
    from launch.submit.pool_or_here import Launch, launch_missing
    from launch.verbs.results import show_evolutions, tell_wandb

    values: dict[str, Any] = {
        "models": [model_id],
        "modes": ["baseline", "scaffold", "ace"],
        "seeds": [seed],
        "quantization": [quantization],
        "limit": limit,
        "engine": engine or "auto",
        "batch_size": batch_size,
        "ace": {"epochs": epochs, "held_out": "each"},
    }
    for override in set_ or []:
        apply_override(values, override)
    grid, task = one_task_grid("evolve", values, task_name, dataset_path, domain)
    prepared = prepare(grid, default_results(), extra_task=task)
    if prepared.tasks[0].tables.adapt is not None:
        grid = grid.model_copy(update={"modes": (*grid.modes, "ace_frozen")})
        prepared = prepare(grid, default_results(), extra_task=task)
    write_run(prepared)
    paths = prepared.paths
    launch = Launch("debug", options=WorkerOptions(grid.engine, device, batch_size), allow_mixed=allow_mixed)
    with live_table() as show:
        if not launch_missing(paths, launch, on_tick=show):
            note(f"already complete: {paths.root}")
    coverage = merge_run(paths)
    tell_wandb(paths)
    require_complete(coverage, paths)
    folder = output_dir or paths.root / "epochs"
    lines = _export(prepared, folder)
    _show(prepared, lines, json_)
    if not json_:
        show_evolutions(paths)
        say(f"epochs: {folder}   summary: {paths.summary_md}   run: {paths.root}")


def _export(prepared: Prepared, folder: Path) -> list[EpochLine]:
    """Write a file an epoch, and the playbook's versions beside them; return the lines of the table."""
    from aceslm.core.parquet import read_results
    from aceslm.run.evolution_journal import Journal

    frame = read_results(prepared.paths.results).to_pandas()
    (ace,) = [cell for cell in prepared.cells if cell.mode == "ace" and cell.split != "adapt"]
    journal = Journal(prepared.paths.playbooks(ace.cell_id))
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for cell in prepared.cells:
        rows = frame[frame["cell_id"] == cell.cell_id]
        if cell.mode == "baseline":
            export(rows, folder / "epoch_0.csv")
        if cell.cell_id == ace.cell_id:
            for number, group in rows.groupby("epoch"):
                epoch = int(number) + 1
                export(group, folder / f"epoch_{epoch}.csv")
                lines.append(_line(cell, group, str(epoch), _step(journal, epoch)))
        elif cell.mode == "ace_frozen" and cell.adaptation:  # not a playbook file that was given
            adapted = Journal(prepared.paths.playbooks(cell.adaptation))
            epoch = cell.adaptation_epoch or int(cell.ace["epochs"])
            lines.append(_line(cell, rows, str(epoch), _step(adapted, cell.adaptation_epoch)))
        elif cell.split != "adapt":
            lines.append(_line(cell, rows, "0" if cell.mode == "baseline" else "-"))
    versions = folder / "playbooks"
    versions.mkdir(exist_ok=True)
    for path in sorted(journal.folder.glob("v*.jsonl")):
        shutil.copyfile(path, versions / path.name)
    return lines


def _step(journal: Journal, epoch: int) -> StepNote:
    """Return the step that an epoch (from 1) ended with; 0 is the last step of all."""
    from aceslm.core.errors import CorruptRun

    if (state := journal.state()) is None:
        raise CorruptRun(f"{journal.folder}: state.json is missing from a complete run: restore it")
    version = state.epochs[epoch - 1] if epoch else state.version
    return next(step for step in journal.steps() if step.version == version)


def _line(cell: Cell, rows: pd.DataFrame, epoch: str, step: StepNote | None = None) -> EpochLine:
    from aceslm.analysis.summary import accuracy_figures

    found = accuracy_figures(rows)
    return EpochLine(
        epoch=epoch,
        mode=cell.mode,
        accuracy=found["accuracy"],
        low=found["accuracy_low"],
        high=found["accuracy_high"],
        score=found["mean_score"] if "score_low" in found else None,
        score_low=found.get("score_low"),
        score_high=found.get("score_high"),
        num_samples=len(rows),
        avg_latency_ms=float(rows["latency_ms"].mean()),
        seen=bool(rows["seen"].eq(True).any()),
        bullets=step.bullets if step else None,
        playbook_tokens=step.tokens if step else None,
    )


def _show(prepared: Prepared, lines: list[EpochLine], json_: bool) -> None:
    from dataclasses import asdict

    from launch.show.console import print_json, print_table

    if json_:
        print_json([asdict(line) for line in lines])
        return
    scored = any(line.score is not None for line in lines)
    rows = [
        [
            line.epoch,
            line.mode,
            "seen" if line.seen else "-",
            *([_score(line)] if scored else []),
            f"{line.accuracy:.3f} [{line.low:.3f}, {line.high:.3f}]",
            f"{line.num_samples:,}",
            f"{line.avg_latency_ms:,.0f}",
            *("-" if figure is None else f"{figure:,}" for figure in (line.bullets, line.playbook_tokens)),
        ]
        for line in lines
    ]
    headers = ["epoch", "mode", "seen", *(["score [95 %]"] if scored else []), "accuracy [95 %]"]
    headers += ["n", "mean ms", "bullets", "playbook tokens"]
    print_table(prepared.paths.root.name, headers, rows, numeric=5 if scored else 4)


def _score(line: EpochLine) -> str:
    if line.score is None:
        return "-"
    return f"{line.score:.3f} [{line.score_low:.3f}, {line.score_high:.3f}]"
