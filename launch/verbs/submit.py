"""`aceslm submit`: plan, start, wait, aggregate, show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.verbs.groups import GridChoice, How, Where, spread
from launch.verbs.options import JsonOption, ResultsOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aceslm.core.run import Run
    from aceslm.core.values import Shard
    from launch.prepare.run import Prepared
    from launch.submit.launcher import Launcher

DEFAULT_GRID = Path("configs/exp_grid.yaml")


@spread
def submit(
    grid: Annotated[Path | None, typer.Argument(help="A grid file; default configs/exp_grid.yaml.")] = None,
    config: Annotated[Path | None, typer.Option(help="The grid file, as an option.")] = None,
    *,
    where: Where,
    choice: GridChoice,
    output_dir: ResultsOption = None,
    how: How,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run; write nothing.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Allow code from model repositories to run.")
    ] = False,
    pilot: Annotated[
        bool,
        typer.Option(
            "--pilot",
            help="Measure first: a small shard for each model and task; then plan by its rate.",
        ),
    ] = False,
    plan_only: Annotated[
        bool,
        typer.Option("--plan-only", help="Write the run directory, run nothing (for sbatch/shards.sbatch)."),
    ] = False,
    require_clean: Annotated[
        bool,
        typer.Option("--require-clean", help="Refuse to submit from a checkout with uncommitted changes."),
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Plan a grid, run what is missing of it, merge the results.

    The same command again resumes: finished samples are never computed twice, and what is queued or running
    is not submitted again.
    """
    from launch.ledger import refuse_dirty
    from launch.prepare.run import default_results, prepare
    from launch.show.console import note, say
    from launch.show.live import live_table

    if require_clean:
        refuse_dirty()
    wanted = choice.read(grid or config or DEFAULT_GRID, how.batch_size)
    launcher = where.launcher(wanted, how)

    def plan(*, pilot: bool = False) -> Prepared:
        return prepare(
            wanted,
            output_dir or default_results(),
            trust_remote_code=trust_remote_code,
            pilot=pilot,
            target_of=launcher.target_of,
        )

    if dry_run:
        from launch.verbs.dry_run import show_plan

        show_plan(plan(), launcher)
        return
    if pilot and (first := plan(pilot=True)).plan is not None:
        run = _written(first, launcher)
        note("pilot: measuring one small shard for each model and task")
        with live_table() as show:
            launcher.start(run)
            launcher.wait(run, show)
    run = _written(plan(), launcher)
    if plan_only:
        say(f"{run.paths.root}: {len(run.shards)} shards")
        return
    carry_out(launcher, run, wait=where.wait, as_json_=json_)


def carry_out(
    launcher: Launcher,
    run: Run,
    shards: Sequence[Shard] | None = None,
    *,
    wait: bool,
    as_json_: bool,
) -> None:
    """Start what is missing; wait, aggregate and show where nobody else does, or where it is asked for."""
    from aceslm.results.status import run_status
    from launch.show.live import live_table
    from launch.verbs.results import merge_and_show
    from launch.verbs.started import say_started

    started = launcher.start(run, shards)
    is_complete = started is None and run_status(run).is_complete
    stays = wait or is_complete or not launcher.detached
    say_started(launcher, run, started, as_json_=as_json_, stays=stays)
    if not stays:
        return
    if not is_complete:
        with live_table() as show:
            launcher.wait(run, show)
    merge_and_show(run.paths, as_json_)


def _written(prepared: Prepared, launcher: Launcher) -> Run:
    from launch.prepare.run import write_run
    from launch.show.console import note

    run = write_run(prepared)
    total = sum(shard.num_units for shard in run.shards)
    note(f"{run.paths.root}: {len(run.cells)} cells, {total:,} samples, on {launcher.cluster}")
    return run
