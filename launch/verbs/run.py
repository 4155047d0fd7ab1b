"""`aceslm run`: one cell in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.verbs.one_task import check_output, export, one_task_grid
from launch.verbs.options import (
    BatchOption,
    DatasetOption,
    DeviceOption,
    DomainOption,
    EngineOption,
    LimitOption,
    MixedOption,
    ModelOption,
    TaskOption,
)

if TYPE_CHECKING:
    import pandas as pd

    from aceslm.config.grid import GridConfig
    from launch.prepare.run import Prepared
    from launch.prepare.tasks import LoadedTask


def run(
    model_id: ModelOption = "smollm2-135m-gguf",
    task_name: TaskOption = None,
    dataset_path: DatasetOption = None,
    domain: DomainOption = None,
    mode: Annotated[
        str, typer.Option(help="baseline, scaffold, ace, ace_frozen (README: all modes).")
    ] = "baseline",
    playbook_path: Annotated[
        Path | None,
        typer.Option(
            help="ace: starts with this playbook, where the file exists, and writes the last version back. "
            "ace_frozen: carries it as it is."
        ),
    ] = None,
    limit: LimitOption = None,
    quantization: Annotated[str, typer.Option(help="none, int8 or nf4.")] = "none",
    seed: Annotated[
        int, typer.Option(help="Keys the sampling noise; needs --temperature above 0 to matter.")
    ] = 0,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Default: by answer type.")] = None,
    batch_size: BatchOption = None,
    device: DeviceOption = "auto",
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto",
    engine: EngineOption = None,
    output_path: Annotated[
        Path | None, typer.Option(help="Write the rows here too: X.csv or X.parquet.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Where run directories go; default results/.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute everything again.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Allow code from the model repository to run.")
    ] = False,
    allow_mixed: MixedOption = False,
) -> None:
    """Answer one task with one model in this process; print accuracy and mean latency.

    It is a one-cell run under results/, so it resumes like any other.
    """
    from aceslm.results.merge import merge_run, require_complete
    from launch.ledger import WorkerOptions
    from launch.prepare.run import default_results, prepare, write_run
    from launch.show.console import note, say
    from launch.show.live import live_table
    from launch.submit.pool_or_here import Launch, launch_missing
    from launch.verbs.results import show_evolutions, tell_wandb

    check_output(output_path)
    values = {
        "models": [model_id],
        "modes": [mode],
        "seeds": [seed],
        "quantization": [quantization],
        "limit": limit,
        "dtype": dtype,
        "engine": engine or "auto",
        "batch_size": batch_size,
        "generation": {"temperature": temperature, "max_new_tokens": max_new_tokens},
        "ace": _playbook_settings(mode, playbook_path),
    }
    grid, task = one_task_grid("run", values, task_name, dataset_path, domain)
    prepared = prepare(
        grid, output_dir or default_results(), extra_task=task, trust_remote_code=trust_remote_code
    )
    if fresh:
        prepared = _afresh(prepared, grid, output_dir or default_results(), task, trust_remote_code)
    write_run(prepared)
    paths = prepared.paths
    launch = Launch("debug", options=WorkerOptions(grid.engine, device, batch_size), allow_mixed=allow_mixed)
    with live_table() as show:
        submitted = launch_missing(paths, launch, on_tick=show)
    if not submitted:
        note(f"already complete ({paths.root}): --fresh to redo")
    coverage = merge_run(paths)
    tell_wandb(paths)
    require_complete(coverage, paths)
    rows = _rows(prepared, limit)
    if output_path is not None:
        export(rows, output_path)
    if playbook_path is not None and mode == "ace":
        _write_back(prepared, playbook_path)
    for line in _accuracies(rows):
        say(line)
    show_evolutions(paths)
    say(f"rows: {output_path or paths.results}   run: {paths.root}")


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
    from aceslm.run.evolve import final_playbook

    (cell,) = prepared.cells
    playbook = final_playbook(prepared.paths, cell)
    if playbook is not None:
        codec.save(path, playbook)


def _afresh(
    prepared: Prepared, grid: GridConfig, results: Path, task: LoadedTask | None, trust_remote_code: bool
) -> Prepared:
    """Set the earlier run directory aside (its rows are kept) and plan again."""
    import time

    from launch.prepare.run import prepare

    root = prepared.paths.root
    if root.exists():
        root.rename(root.with_name(f"{root.name}.{time.strftime('%Y%m%d-%H%M%S')}.old"))
    return prepare(grid, results, extra_task=task, trust_remote_code=trust_remote_code)


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
