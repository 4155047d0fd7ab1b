"""`aceslm evolve`: ACE over epochs on one task, a file an epoch."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launch.verbs.groups import How, ModelChoice, TaskChoice, spread
from launch.verbs.one_task import answer_here, check_rows_file, export, one_task_grid, task_inputs
from launch.verbs.options import JsonOption, SetOption

if TYPE_CHECKING:
    import pandas as pd

    from aceslm.aggregate import Aggregated
    from aceslm.config.grid import GridConfig
    from aceslm.core.values import Cell
    from aceslm.run.evolution_journal import Journal
    from aceslm.run.evolution_state import StepNote
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


@spread
def evolve(
    *,
    model: ModelChoice,
    task: TaskChoice,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of ACE, after the baseline of epoch 0.")] = 3,
    seed: Annotated[int, typer.Option(help="Keys the order of the samples, and sampling noise.")] = 0,
    set_: SetOption = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Where epoch files and playbooks go; default: the run's epochs/.")
    ] = None,
    how: How,
    json_: JsonOption = False,
) -> None:
    """Answer a task once without a playbook (epoch 0), then let a playbook evolve over epochs.

    Writes epoch_0.csv, epoch_1.csv, ... and playbooks/v0007.jsonl. In the first pass of ACE every sample is
    answered before its gold answer is learnt from; later passes have seen the samples and are marked. A task
    with an `adapt` split also gets the held-out curve: the playbook of each epoch there, frozen, on the
    scored split. It is a run under results/, so it resumes like any other.
    """
    from functools import partial

    from aceslm.config.grid import apply_override
    from launch.prepare.run import default_results, prepare, write_run
    from launch.prepare.targets import here
    from launch.show.console import note, say
    from launch.verbs.results import conclude, show_evolutions

    values: dict[str, Any] = {
        "models": [model.model_id],
        "modes": ["baseline", "scaffold", "ace"],
        "seeds": [seed],
        "quantization": [model.quantization],
        "limit": task.limit,
        "engine": model.engine or "auto",
        "batch_size": how.batch_size,
        "ace": {"epochs": epochs, "held_out": "each"},
    }
    for override in set_ or []:
        apply_override(values, override)
    grid, from_file = one_task_grid("evolve", values, task)
    _require_one_evolution(grid)
    if output_dir is not None:
        inputs = task_inputs(model, task)
        for key, name in (("playbook", grid.ace.playbook), ("frozen_playbook", grid.ace.frozen_playbook)):
            inputs[f"ace.{key}"] = Path(name) if name else None
        _check_folder(output_dir, grid.ace.epochs, inputs)
    options = how.options(grid)
    plan = partial(prepare, results=default_results(), extra_task=from_file, target_of=here(options))
    prepared = plan(grid)
    if prepared.tasks[0].tables.adapt is not None and "ace_frozen" not in grid.modes:
        prepared = plan(grid.model_copy(update={"modes": (*grid.modes, "ace_frozen")}))
    _evolving_cell(prepared)
    planned = write_run(prepared)
    paths = planned.paths
    if not answer_here(planned, options, how.allow_mixed):
        note(f"already complete: {paths.root}")

    def show(made: Aggregated) -> None:
        folder = output_dir or paths.root / "epochs"
        began_s = time.time()
        lines = _export(prepared, folder)
        if older := _older_files(folder, began_s):
            note(f"of an earlier evolution, and left as they were: {', '.join(older)}")
        _show(prepared, lines, json_)
        if not json_:
            show_evolutions(made)
            say(f"epochs: {folder}   summary: {paths.summary_md}   run: {paths.root}")

    conclude(paths, show)


def _require_one_evolution(grid: GridConfig) -> None:
    """Refuse, before anything runs, settings that would evolve no playbook or several.

    Raises:
        UsageError: names the key, and where several are compared.
    """
    from aceslm.core.errors import UsageError

    instead = {"models": "--model-id", "quantization": "--quantization", "seeds": "--seed"}
    for key in (*instead, "variants"):
        if (count := len(getattr(grid, key))) > 1:
            one = f"give one with {instead[key]}" if key in instead else "give one"
            raise UsageError(
                f"--set {key}=...: evolve shows how one playbook evolves, and these would be {count}: {one}, "
                f"or compare them with `{key}:` in a grid file and `aceslm submit`"
            )
    if "ace" not in grid.modes:
        raise UsageError(
            f"--set modes=[{', '.join(grid.modes)}]: evolve shows how a playbook evolves: put 'ace' among "
            "them, or run the others with `aceslm run --mode` or `aceslm submit`"
        )


def _evolving_cell(prepared: Prepared) -> Cell:
    """Return the one cell whose playbook evolves while it is scored."""
    from aceslm.core.errors import UsageError

    found = [cell for cell in prepared.cells if cell.mode == "ace" and cell.split != "adapt"]
    if len(found) != 1:
        raise UsageError(f"evolve shows how one playbook evolves, and these settings make {len(found)}")
    return found[0]


def _check_folder(folder: Path, epochs: int, inputs: Mapping[str, Path | None]) -> None:
    """Refuse an `--output-dir` before any work where a file would be replaced that has to stay.

    Raises:
        UsageError: names the file.
    """
    from aceslm.ace.playbook.codec import is_playbook
    from aceslm.core.errors import UsageError
    from launch.prepare.outputs import refuse_foreign, refuse_inputs

    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output-dir {folder} is a file, not a folder")
    for number in range(epochs + 1):
        check_rows_file("--output-dir", folder / f"epoch_{number}.csv", inputs)
    for path in folder.glob("playbooks/v*.jsonl"):
        refuse_inputs("--output-dir", path, inputs)
        refuse_foreign("--output-dir", path, is_playbook, "a playbook")


def _export(prepared: Prepared, folder: Path) -> list[EpochLine]:
    """Write a file an epoch, and the playbook's versions beside them; return the lines of the table."""
    from aceslm.core.parquet import read_results
    from aceslm.run.evolution_journal import Journal

    frame = read_results(prepared.paths.results).to_pandas()
    ace = _evolving_cell(prepared)
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
            epoch = cell.adaptation_epoch or cell.playbook_settings.epochs
            lines.append(_line(cell, rows, str(epoch), _step(adapted, cell.adaptation_epoch)))
        elif cell.split != "adapt":
            lines.append(_line(cell, rows, "0" if cell.mode == "baseline" else "-"))
    versions = folder / "playbooks"
    versions.mkdir(exist_ok=True)
    for path in sorted(journal.folder.glob("v*.jsonl")):
        shutil.copyfile(path, versions / path.name)
    return lines


def _older_files(folder: Path, began_s: float) -> list[str]:
    """Return the epoch files and versions in a folder that were not written since `began_s`."""
    paths = [*folder.glob("epoch_*.csv"), *folder.glob("playbooks/v*.jsonl")]
    return sorted(str(path) for path in paths if path.stat().st_mtime < began_s - 1)


def _step(journal: Journal, epoch: int) -> StepNote:
    """Return the step that an epoch (from 1) ended with; 0 is the last step of all."""
    from aceslm.core.errors import CorruptRun

    if (state := journal.state()) is None:
        root = journal.folder.parent.parent
        raise CorruptRun(f"{journal.folder}: state.json is missing from a complete run: aceslm retry {root}")
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
