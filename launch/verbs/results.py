"""`aceslm aggregate` and `aceslm summarize`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.verbs.options import JsonOption, RunArgument, as_json

if TYPE_CHECKING:
    import pandas as pd

    from aceslm.aggregate import Aggregated
    from aceslm.core.paths import RunPaths
    from aceslm.core.run import Run
    from aceslm.results.coverage import Coverage


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
    from aceslm.analysis.page import SummaryPage, write_page
    from aceslm.analysis.result_files import read_results_folder
    from aceslm.analysis.summary import summarize as figures
    from launch.show.console import note, say

    path = output_path or input_dir / "summary.csv"
    _check_summary(path)
    found = read_results_folder(input_dir)
    frame = found.rows
    if similarity is not None:
        frame["similarity"] = _similarity(frame, similarity)
    summary = figures(frame, found.costs)
    title = f"Summary of {input_dir.name}"
    again = f"{found.duplicates:,} rows were there twice (copies of the same answers) and count once"
    note_again = again if found.duplicates else None
    page = SummaryPage(title, summary, note_again, comparisons=compare_modes(frame))
    write_page(page, path, path.with_suffix(".md"))
    _show(summary, f"summary of {input_dir}", json_)
    if found.duplicates:
        note(again)
    if not json_:
        say(f"written: {path} and {path.with_suffix('.md')}")


def _check_summary(path: Path) -> None:
    """Refuse to write a summary, or the page beside it, over anything else.

    Raises:
        UsageError: names the file.
    """
    from aceslm.core.errors import UsageError
    from launch.prepare.outputs import holds_columns, refuse_foreign

    def is_page(page: Path) -> bool:
        text = page.read_text(encoding="utf-8", errors="replace")
        return text.startswith("# ") and "\n| model |" in text

    if path.suffix != ".csv":
        raise UsageError(f"--output-path {path}: the name must end in .csv (the page goes beside it, as .md)")
    wanted = holds_columns("model_id", "task_name", "mode", "accuracy", none_of=("correct",))
    refuse_foreign("--output-path", path, wanted, "a summary")
    refuse_foreign("--output-path", path.with_suffix(".md"), is_page, "the page of a summary")


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
    """Merge a run and print its summary, a partial one too; fail unless everything is there."""
    conclude(paths, lambda made: show_results(made, as_json_), shows_partial=True)


def conclude(paths: RunPaths, show: Callable[[Aggregated], None], *, shows_partial: bool = False) -> None:
    """Merge a run, show what it has, say what W&B was told and what failed, and fail unless it is complete.

    Raises:
        CorruptRun, IncompleteRun: say what to type.
    """
    from aceslm.aggregate import aggregate as merge

    made = merge(paths)
    if made.coverage.complete or shows_partial:
        show(made)
    _say_told(made)
    if not made.coverage.complete:
        _show_failures(made.run)
    require_answered(made.coverage, made.run)


def require_answered(coverage: Coverage, run: Run) -> None:
    """Fail unless everything is there: with the cause where a retry would only meet it again.

    Raises:
        UsageError: what is missing failed by its own input (a model or data file).
        CorruptRun, IncompleteRun: say what to type.
    """
    from aceslm.core.errors import UsageError
    from aceslm.results.coverage import require_complete
    from aceslm.results.status import run_status

    failed = run_status(run).shards("failed") if coverage.missing and not coverage.corrupt else []
    blaming = [shard for shard in failed if _blames_input(run.paths, shard.shard_id)]
    explained = {shard.shard_id for shard in failed if shard in blaming or shard.last_class == "upstream"}
    if blaming and explained >= {*coverage.missing, *(shard.shard_id for shard in failed)}:
        causes = dict.fromkeys(shard.message for shard in blaming)
        raise UsageError(
            f"{len(coverage.missing)} of {coverage.shards_planned} shards cannot be answered: "
            f"{'; '.join(map(str, causes))}"
        )
    require_complete(coverage, run.paths)


def _blames_input(paths: RunPaths, shard_id: str) -> bool:
    from aceslm.run.attempt_files import last_attempt, read_attempts

    last = last_attempt(one for one in read_attempts(paths, shard_id) if one.end)
    return last is not None and last.end is not None and last.end.blames_input


def show_results(made: Aggregated, as_json_: bool) -> None:
    """Print a merged run's summary and where its files are."""
    from launch.show.console import say

    _show(made.analysed.summary, made.run.name, as_json_)
    if not as_json_:
        show_evolutions(made)
        for line, _ in made.analysed.primary:
            say(line)
        say(f"results: {made.run.paths.results}   summary: {made.run.paths.summary_md}")


def show_evolutions(made: Aggregated) -> None:
    """Print what became of every playbook of a merged run, and what evolving it cost."""
    from aceslm.analysis.evolved_playbooks import EVOLUTION_HEADERS, evolution_rows
    from launch.show.console import print_table

    if found := made.analysed.evolutions:
        print_table("evolving playbooks", EVOLUTION_HEADERS, evolution_rows(found), numeric=13)


def _say_told(made: Aggregated) -> None:
    """Say what W&B was told, and what is left to upload."""
    from launch.show.console import note

    if made.told.online:
        note(f"W&B: {made.told.online} runs are online")
    if made.told.offline:
        note(f"W&B: {made.told.offline} runs are offline; `aceslm sync {made.run.paths.root}` uploads them")


def _show_failures(run: Run) -> None:
    """Print each failed shard's last message on stderr."""
    from aceslm.results.status import run_status
    from launch.show.console import note

    failed = run_status(run).shards("failed")
    for shard in failed[:5]:
        note(f"{shard.shard_id} failed ({shard.last_class}): {shard.message or 'no message'}")
    if failed:
        note(f"`aceslm logs {run.paths.root} --failed` shows more")


def _show(summary: pd.DataFrame, title: str, as_json_: bool) -> None:
    from aceslm.analysis.tables import table_rows, terminal_columns
    from launch.show.console import print_json, print_table

    if as_json_:
        print_json(as_json(summary))
        return
    columns = terminal_columns(summary)
    print_table(title, columns, table_rows(summary, columns), numeric=6)
