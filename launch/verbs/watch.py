"""`aceslm status` and `aceslm logs`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launch.verbs.options import JsonOption, RunArgument

if TYPE_CHECKING:
    from aceslm.analysis.spent import Spent
    from aceslm.core.paths import RunPaths
    from aceslm.core.run import Run
    from aceslm.results.status import RunStatus, ShardStatus

_TAIL_LINES = 30
_WATCH_S = 2.0


def status(
    run: Annotated[
        Path | None, typer.Argument(help="A run directory; without one, all runs.", metavar="RUN")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until the run is complete.")] = False,
    output_dir: Annotated[
        Path | None, typer.Option(help="Where run directories are; default results/.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Show the progress of a run from its files; without RUN, list the runs."""
    from aceslm.core.paths import RunPaths
    from aceslm.results.status import list_runs
    from launch.show.console import print_json, print_table, say
    from launch.show.live import progress_line

    if run is not None:
        _watch(RunPaths(run)) if watch and not json_ else _show(RunPaths(run), watch, json_)
        return
    import os

    folder = output_dir or Path(os.environ.get("ACESLM_RESULTS", "results"))
    runs = list(_readable(list_runs(folder)))
    if json_:
        print_json([_as_json(each) for each in runs])
    elif runs:
        rows = [[str(each.root), each.state, progress_line(each)] for each in runs]
        print_table(f"runs in {folder}", ["run", "state", "progress"], rows)
    else:
        say(f"no runs in {folder}/ yet: aceslm submit configs/quickstart.yaml")


def _readable(runs: Iterable[RunPaths]) -> Iterator[RunStatus]:
    """Yield the status of every run that can be read, and say which cannot."""
    from aceslm.core.errors import RunError
    from aceslm.plan.files import read_run
    from aceslm.results.status import run_status
    from launch.show.console import note

    for paths in runs:
        try:
            yield run_status(read_run(paths))
        except RunError as error:
            note(f"not shown: {error}")


def _watch(paths: RunPaths) -> None:
    """Follow a run until it is complete; Ctrl-C only stops watching."""
    import time

    from aceslm.plan.files import read_run
    from aceslm.results.status import run_status
    from launch.show.console import note, out
    from launch.show.live import live_table

    try:
        with live_table(out()) as show:
            current = run_status(read_run(paths))
            while not current.is_complete:
                show(current)
                time.sleep(_WATCH_S)
                current = run_status(read_run(paths))
            show(current)
    except KeyboardInterrupt:
        note("no longer watching; the run goes on as it was")
        return
    _show(paths)


def _show(paths: RunPaths, watch: bool = False, as_json_: bool = False) -> None:
    """Print how a run stands; as JSON with `watch` again and again, until it is complete."""
    import time

    from aceslm.analysis.spent import cell_costs
    from aceslm.plan.files import read_run
    from aceslm.results.status import run_status
    from launch.show.console import print_json, say
    from launch.show.live import print_status, progress_line
    from launch.slurm.reconcile import scheduler_view
    from launch.verbs.queue import queue_json, show_queue

    while True:
        run = read_run(paths)
        current, costs, view = run_status(run), cell_costs(run), scheduler_view(paths)
        if not as_json_:
            print_status(current, costs)
            say(progress_line(current))
            say(_hours(costs))
            if not current.is_complete and not current.count("running"):
                say(f"go on with: aceslm retry {current.root}")
            show_queue(view)
            return
        cells = {cell_id: asdict(spent) for cell_id, spent in costs.items()}
        print_json({**_as_json(current), "costs": cells, "source": view.source, "queue": queue_json(view)})
        if not watch or current.is_complete:
            return
        time.sleep(_WATCH_S)


def logs(
    run: RunArgument,
    failed: Annotated[
        bool, typer.Option("--failed", help="Print why each failed shard failed, and the end of its log.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option("--shard", help="Print the log of this shard's last attempt.")
    ] = None,
    logs_dir: Annotated[Path, typer.Option(help="Where the scheduler's logs are.")] = Path("logs"),
    json_: JsonOption = False,
) -> None:
    """List the log files of a run with their warnings and errors; show one shard's, or why shards failed."""
    from aceslm.core.paths import RunPaths
    from aceslm.plan.files import read_run
    from launch.node.log_files import census, log_files
    from launch.show.console import print_json, print_table, say

    planned = read_run(RunPaths(run))
    files = log_files(planned.paths, logs_dir)
    if failed:
        _show_failed(planned, files, json_)
        return
    if shard is not None:
        _show_log(planned, shard, files, json_)
        return
    found = [census(path) for path in files]
    if json_:
        print_json(found)
    elif found:
        keys = ("file", "lines", "warnings", "errors")
        print_table(f"logs of {run}", keys, [[str(one[key]) for key in keys] for one in found], numeric=3)
    else:
        say(f"no log files in {logs_dir / run.resolve().name}")


def _show_log(run: Run, shard_id: str, files: list[Path], as_json_: bool) -> None:
    """Print the log lines of a shard's last attempt."""
    from aceslm.core.errors import UsageError, nearest
    from launch.node.log_files import files_of_shard, lines_of_shard, rendered
    from launch.show.console import print_json, say

    known = [shard.shard_id for shard in run.shards]
    if shard_id not in known:
        raise UsageError(f"--shard: this run has no shard '{shard_id}'{nearest(shard_id, known[:50])}")
    facts, found = files_of_shard(run.paths, shard_id, files)
    lines = lines_of_shard(found, shard_id)
    if as_json_:
        print_json(
            {"shard": shard_id, "attempt": facts.get("attempt"), "host": facts.get("host"), "lines": lines}
        )
        return
    if not facts:
        say(f"shard {shard_id} has not been started yet")
        return
    say(f"== {shard_id}: attempt {facts['attempt']} on {facts['host']}")
    for line in lines:
        say(rendered(line))
    if not found:
        say("no log file of it was found (--logs-dir)")


def _show_failed(run: Run, files: list[Path], as_json_: bool) -> None:
    """Print each failed shard's class, message, traceback and the end of its log."""
    from aceslm.results.status import run_status
    from launch.node.log_files import rendered
    from launch.show.console import print_json, say

    stories = [_story(run.paths, shard, files) for shard in run_status(run).shards("failed")]
    if as_json_:
        print_json(stories)
        return
    if not stories:
        say("no failed shards")
    for story in stories:
        end = f"{story['class']} after {story['attempts']} attempts: {story['message'] or '-'}"
        say(f"== {story['shard']}: {end}")
        lines = (story["traceback"] or "").splitlines()[-_TAIL_LINES:]
        if not lines:
            say("   no traceback: killed, node lost, or out of memory; the end of its log:")
            lines = [text for line in story["log"] for text in rendered(line).splitlines()]
        for text in lines:
            say(f"   {text}")


def _story(paths: RunPaths, shard: ShardStatus, files: list[Path]) -> dict[str, Any]:
    from aceslm.run.attempt_files import last_attempt, read_attempts
    from launch.node.log_files import files_of_shard, lines_of_shard

    last = last_attempt(one for one in read_attempts(paths, shard.shard_id) if one.end)
    _, found = files_of_shard(paths, shard.shard_id, files)
    return {
        "shard": shard.shard_id,
        "class": shard.last_class,
        "attempts": shard.attempts,
        "message": shard.message,
        "traceback": last.end.traceback if last and last.end else None,
        "log": lines_of_shard(found, shard.shard_id)[-_TAIL_LINES:],
    }


def _hours(costs: Mapping[str, Spent]) -> str:
    """Return what was spent, wasted work (attempts whose rows were lost) apart."""
    from aceslm.analysis.spent import whole_cost

    spent = whole_cost(costs)
    used = {"core": spent.core_hours, "GPU": spent.gpu_hours}
    lost = {"core": spent.failed_core_hours, "GPU": spent.failed_gpu_hours}
    parts = [f"{hours:,.2f} {name}-hours" for name, hours in used.items() if hours or name == "core"]
    wasted = [f"{hours:,.2f} {name}-hours" for name, hours in lost.items() if hours >= 0.005]
    return f"spent {', '.join(parts)}" + (f", of them wasted {', '.join(wasted)}" if wasted else "")


def _as_json(current: RunStatus) -> dict[str, Any]:
    shards = [shard for cell in current.cells for shard in cell.shards]
    return {
        "run": str(current.root),
        "state": current.state,
        "samples_done": current.rows_done,
        "samples_total": current.rows_total,
        "samples_per_s": current.samples_per_s,
        "eta_s": current.eta_s,
        "shards": [
            {
                "shard": shard.shard_id,
                "cell": shard.cell_id,
                "state": shard.state,
                "samples_done": shard.rows_done,
                "samples_total": shard.rows_total,
                "attempts": shard.attempts,
                "last_class": shard.last_class,
                "message": shard.message,
            }
            for shard in shards
        ],
    }
