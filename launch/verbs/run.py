"""`aceslm run`: one cell in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.verbs.groups import How, ModelChoice, TaskChoice, spread
from launch.verbs.one_task import answer_here, check_output, export, one_task_grid, task_inputs
from launch.verbs.options import ResultsOption

if TYPE_CHECKING:
    import pandas as pd

    from aceslm.aggregate import Aggregated
    from launch.prepare.run import Prepared


@spread
def run(
    *,
    model: ModelChoice,
    task: TaskChoice,
    mode: Annotated[
        str, typer.Option(help="baseline, scaffold, ace, ace_frozen (aceslm/ace/README.md: all modes).")
    ] = "baseline",
    playbook_path: Annotated[
        Path | None,
        typer.Option(
            help="ace: starts with this playbook, where the file exists, and writes the last version back. "
            "ace_frozen: carries it as it is."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Keys the sampling noise; needs --temperature above 0 to matter.")
    ] = 0,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Default: by answer type.")] = None,
    how: How,
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto",
    output_path: Annotated[
        Path | None,
        typer.Option(help="Write the rows here too: X.csv or X.parquet. Replaces rows, no other file."),
    ] = None,
    output_dir: ResultsOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute everything again.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Allow code from the model repository to run.")
    ] = False,
) -> None:
    """Answer one task with one model in this process; print accuracy and mean latency.

    It is a one-cell run under results/, so it resumes like any other.
    """
    from functools import partial

    from launch.prepare.outputs import refuse_inputs
    from launch.prepare.run import default_results, prepare, write_run
    from launch.prepare.targets import here
    from launch.show.console import note
    from launch.verbs.results import conclude

    inputs = task_inputs(model, task)
    check_output(output_path, {**inputs, "--playbook-path": playbook_path})
    if playbook_path is not None:
        refuse_inputs("--playbook-path", playbook_path, inputs)
    values = {
        "models": [model.model_id],
        "modes": [mode],
        "seeds": [seed],
        "quantization": [model.quantization],
        "limit": task.limit,
        "dtype": dtype,
        "engine": model.engine or "auto",
        "batch_size": how.batch_size,
        "generation": {"temperature": temperature, "max_new_tokens": max_new_tokens},
        "ace": _playbook_settings(mode, playbook_path),
    }
    grid, from_file = one_task_grid("run", values, task)

    options = how.options(grid)
    plan = partial(
        prepare,
        grid,
        output_dir or default_results(),
        extra_task=from_file,
        trust_remote_code=trust_remote_code,
        target_of=here(options),
    )
    prepared = plan()
    if fresh and _set_aside(prepared.paths.root):
        prepared = plan()
    planned = write_run(prepared)
    if not answer_here(planned, options, how.allow_mixed):
        note(f"already complete ({planned.paths.root}): --fresh to redo")

    def show(made: Aggregated) -> None:
        rows = _rows(prepared, task.limit)
        if output_path is not None:
            export(rows, output_path)
        if playbook_path is not None and mode == "ace":
            _write_back(prepared, playbook_path)
        _show(made, rows, output_path)

    conclude(planned.paths, show)


def _playbook_settings(mode: str, path: Path | None) -> dict[str, str]:
    """Return what `--playbook-path` means for a mode, as keys of `ace:`.

    Raises:
        UsageError: a mode that takes no playbook.
    """
    from aceslm.core.errors import UsageError

    if path is None:
        return {}
    if mode == "ace":
        return {"playbook": str(path)} if path.exists() else {}
    if mode == "ace_frozen":
        return {"frozen_playbook": str(path)}
    raise UsageError(f"--playbook-path goes with --mode ace or ace_frozen, not with '{mode}'")


def _write_back(prepared: Prepared, path: Path) -> None:
    """Write the last version of the run's playbook to the user's file."""
    from aceslm.ace.playbook import codec
    from aceslm.run.evolution_journal import final_playbook

    (cell,) = prepared.cells
    playbook = final_playbook(prepared.paths, cell)
    if playbook is not None:
        codec.save(path, playbook)


def _set_aside(root: Path) -> bool:
    """Move an earlier run directory away (its rows are kept); return whether there was one."""
    import time

    if not root.exists():
        return False
    root.rename(root.with_name(f"{root.name}.{time.strftime('%Y%m%d-%H%M%S')}.old"))
    return True


def _show(made: Aggregated, rows: pd.DataFrame, output_path: Path | None) -> None:
    from launch.show.console import say
    from launch.verbs.results import show_evolutions

    for line in _accuracies(rows):
        say(line)
    show_evolutions(made)
    paths = made.run.paths
    say(f"rows: {output_path or paths.results}   run: {paths.root}")


def _rows(prepared: Prepared, limit: int | None) -> pd.DataFrame:
    from aceslm.core.parquet import read_results

    wanted = prepared.tasks[0].table.sample_ids[:limit]
    frame = read_results(prepared.paths.results).to_pandas()
    chosen: pd.DataFrame = frame[frame["sample_id"].isin(wanted)].reset_index(drop=True)
    return chosen


def _accuracies(rows: pd.DataFrame) -> list[str]:
    """Return a line an epoch: from the second on a playbook has learnt from the same samples."""
    from aceslm.analysis.summary import accuracy_figures

    lines = []
    for epoch, group in rows.groupby("epoch"):
        correct, n = int(group["correct"].sum()), len(group)
        found = accuracy_figures(group)
        which = f"epoch {epoch}{' (seen)' if group['seen'].eq(True).any() else ''}: "
        score = ""
        if "score_low" in found:
            bounds = f"[{found['score_low']:.3f}, {found['score_high']:.3f}]"
            score = f"score {found['mean_score']:.3f} {bounds}  "
        latency = f"mean latency {group['latency_ms'].mean():.1f} ms"
        line = f"{score}accuracy {correct / n:.3f} ({correct}/{n})  {latency}"
        lines.append((which if rows["epoch"].nunique() > 1 else "") + line)
    return lines
