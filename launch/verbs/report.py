"""`aceslm report`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.verbs.options import JsonOption, RunArgument

if TYPE_CHECKING:
    from aceslm.core.paths import RunPaths


def report(
    run: RunArgument,
    output: Annotated[
        Path | None, typer.Option("--output", help="Where to write it. Default: report.html in RUN.")
    ] = None,
    max_samples: Annotated[
        int,
        typer.Option("--max-samples", min=1, help="Rows that can be looked at; the figures count all rows."),
    ] = 100_000,
    json_: JsonOption = False,
) -> None:
    """Make the report of a run: one HTML file that loads nothing, to copy and open anywhere.

    The aggregation makes it too. A run that was not merged since its last shard is merged first; a partial
    one says so at its head. Above the limit, or 30 MB, samples with errors come first, then a seeded draw.
    """
    from aceslm.aggregate import aggregate
    from aceslm.analysis.analysed import analyse
    from aceslm.core.paths import RunPaths
    from aceslm.plan.files import read_run
    from aceslm.report import write_report
    from launch.show.console import note, print_json, say

    paths = RunPaths(run)
    if output is not None:
        _check_output(output, paths)
    if _is_stale(paths):
        merged = aggregate(paths, report=False, tell=False)
        known, analysed = merged.run, merged.analysed
    else:
        known = read_run(paths)
        analysed = analyse(known)
    made = write_report(known, analysed, output, max_samples)
    if json_:
        print_json({**asdict(made), "path": str(made.path)})
        return
    if not made.complete:
        note(f"{run} is partial, and the report says so")
    shown = f"{made.rows_shown:,} of {made.rows_total:,} rows to look at"
    say(f"report: {made.path} ({made.size_bytes / 1e6:.1f} MB, {shown})")


def _check_output(output: Path, paths: RunPaths) -> None:
    """Refuse to write the page over a file of a run, or over one that is no page.

    Raises:
        UsageError: names the file.
    """
    from launch.prepare.outputs import refuse_foreign, refuse_run_files

    def is_page(path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(100).lstrip().lower().startswith(b"<!doctype html")

    if output.resolve() != paths.report.resolve():
        refuse_run_files("--output", output)
    refuse_foreign("--output", output, is_page, "a page")


def _is_stale(paths: RunPaths) -> bool:
    """Return whether a shard is newer than the merge, or a merged file is missing or of an old version."""
    from aceslm.analysis.summary import SUMMARY_COLUMNS
    from aceslm.run.done import row_files

    merged = (paths.results, paths.summary_csv, paths.coverage)
    if not all(path.exists() for path in merged):
        return True
    with paths.summary_csv.open(encoding="utf-8") as file:
        if not set(SUMMARY_COLUMNS) <= set(file.readline().strip().split(",")):
            return True
    newest = max((path.stat().st_mtime for path in row_files(paths)), default=0.0)
    return newest > paths.coverage.stat().st_mtime
