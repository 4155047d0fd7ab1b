"""`aceslm aggregate` and `aceslm summarize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.verbs.options import JsonOption, RunArgument, as_json

if TYPE_CHECKING:
    import pandas as pd

    from aceslm.core.paths import RunPaths


def aggregate(run: RunArgument, json_: JsonOption = False) -> None:
    """Merge the verified shards of a run into results.parquet, results.csv and the summary.

    Safe at any time and any number of times. Missing or corrupt shards are named, the output is marked as
    partial, and the exit status is 1.
    """
    from aceslm.core.paths import RunPaths

    merge_and_show(RunPaths(run), json_)


def summarize(
    input_dir: Annotated[
        Path, typer.Option(help="A folder of result CSV or Parquet files (searched recursively).")
    ],
    output_path: Annotated[
        Path | None, typer.Option(help="Default: <input-dir>/summary.csv, and .md beside it.")
    ] = None,
    similarity: Annotated[
        str | None,
        typer.Option(help="Also score pred against gold with this embedding model (a folder or hub id)."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Summarise any folder of result files, by model, task, mode and epoch, as CSV and Markdown.

    The Markdown page also compares the modes that answered the same samples.
    """
    from aceslm.analysis.comparisons import compare_modes
    from aceslm.analysis.result_files import read_results_folder
    from aceslm.analysis.summary import summarize as figures
    from aceslm.analysis.tables import write_summary
    from launch.show.console import note, say

    path = output_path or input_dir / "summary.csv"
    found = read_results_folder(input_dir)
    frame = found.rows
    if similarity is not None:
        frame["similarity"] = _similarity(frame, similarity)
    summary = figures(frame, found.costs)
    title = f"Summary of {input_dir.name}"
    again = f"{found.duplicates:,} rows were there twice (copies of the same answers) and count once"
    write_summary(
        summary,
        path,
        path.with_suffix(".md"),
        title=title,
        note=again if found.duplicates else None,
        comparisons=compare_modes(frame),
    )
    _show(summary, f"summary of {input_dir}", json_)
    if found.duplicates:
        note(again)
    if not json_:
        say(f"written: {path} and {path.with_suffix('.md')}")


def _similarity(frame: pd.DataFrame, model: str) -> list[float]:
    """Return each row's similarity of prediction and gold; a row without a prediction scores 0."""
    from aceslm.core.errors import DataError
    from aceslm.engine.embedding import similarities
    from aceslm.models.registry import resolve_model

    if not {"gold", "pred"} <= set(frame.columns):
        raise DataError("--similarity: these result files have no columns 'gold' and 'pred'")
    gold, pred = (
        frame[key].astype(object).where(frame[key].notna(), "").astype(str) for key in ("gold", "pred")
    )
    return similarities(resolve_model(model), gold.tolist(), pred.tolist())


def merge_and_show(paths: RunPaths, as_json_: bool) -> None:
    """Merge a run, print its summary and failures, and fail unless everything is there."""
    from aceslm.results.merge import merge_run, require_complete

    coverage = merge_run(paths)
    show_results(paths, as_json_)
    tell_wandb(paths)
    if not coverage.complete:
        show_failures(paths)
    require_complete(coverage, paths)


def show_results(paths: RunPaths, as_json_: bool) -> None:
    """Print a merged run's summary and where its files are."""
    import pandas as pd

    from launch.show.console import say

    summary = pd.read_csv(paths.summary_csv)
    _show(summary, paths.root.name, as_json_)
    if not as_json_:
        show_evolutions(paths)
        show_primary(paths)
        say(f"results: {paths.results}   summary: {paths.summary_md}")


def show_evolutions(paths: RunPaths) -> None:
    """Print what became of every playbook of a merged run, and what evolving it cost."""
    from aceslm.analysis.evolved_playbooks import EVOLUTION_HEADERS, evolution_rows, read_evolutions
    from launch.show.console import print_table

    if found := read_evolutions(paths):
        print_table("evolving playbooks", EVOLUTION_HEADERS, evolution_rows(found), numeric=13)


def show_primary(paths: RunPaths) -> None:
    """Print what came of the comparison that a run declared, if it did."""
    from aceslm.analysis.preregistration import primary_sentences
    from aceslm.analysis.rows import read_rows
    from aceslm.plan.files import require_plans
    from launch.show.console import say

    if paths.prereg.exists():
        for line, _ in primary_sentences(paths, require_plans(paths), read_rows(paths.results)):
            say(line)


def tell_wandb(paths: RunPaths) -> None:
    """Tell W&B about a merged run, and say so where something is left to upload."""
    from aceslm.tracking.aggregate import track_run
    from launch.show.console import note

    told = track_run(paths)
    if told.online:
        note(f"W&B: {told.online} runs are online")
    if told.offline:
        note(f"W&B: {told.offline} runs are offline; `aceslm sync {paths.root}` uploads them")


def show_failures(paths: RunPaths) -> None:
    """Print each failed shard's last message on stderr."""
    from aceslm.results.status import run_status
    from launch.show.console import note

    failed = run_status(paths).shards("failed")
    for shard in failed[:5]:
        note(f"{shard.shard_id} failed ({shard.last_class}): {shard.message or 'no message'}")
    if failed:
        note(f"`aceslm logs {paths.root} --failed` shows more")


def _show(summary: pd.DataFrame, title: str, as_json_: bool) -> None:
    from aceslm.analysis.tables import table_rows, terminal_columns
    from launch.show.console import print_json, print_table

    if as_json_:
        print_json(as_json(summary))
        return
    columns = terminal_columns(summary)
    print_table(title, columns, table_rows(summary, columns), numeric=6)
