"""`aceslm submit`, `aceslm retry`, `aceslm cancel`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.verbs.options import (
    BatchOption,
    ClusterOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    LimitOption,
    MixedOption,
    ProfileOption,
    RunArgument,
    SetOption,
    WaitOption,
    WorkersOption,
    choose_cluster,
)

if TYPE_CHECKING:
    from aceslm.config.grid import GridConfig
    from aceslm.core.paths import RunPaths
    from aceslm.core.values import Shard
    from launch.ledger import WorkerOptions
    from launch.prepare.run import Prepared
    from launch.submit.pool_or_here import Launch

DEFAULT_GRID = Path("configs/exp_grid.yaml")
DEFAULT_PROFILE = "slurm"


def submit(
    grid: Annotated[Path | None, typer.Argument(help="A grid file; default configs/exp_grid.yaml.")] = None,
    config: Annotated[Path | None, typer.Option(help="The grid file, as an option.")] = None,
    cluster: ClusterOption = "auto",
    profile: ProfileOption = DEFAULT_PROFILE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run; write nothing.")] = False,
    limit: LimitOption = None,
    model_id: Annotated[
        list[str] | None, typer.Option(help="Only this model of the grid, or another one.")
    ] = None,
    task_name: Annotated[
        list[str] | None, typer.Option(help="Only this task of the grid, or another one.")
    ] = None,
    mode: Annotated[
        list[str] | None, typer.Option(help="Only this mode of the grid, or another one.")
    ] = None,
    set_: SetOption = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Where run directories go; default results/.")
    ] = None,
    wait: WaitOption = False,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    batch_size: BatchOption = None,
    engine: EngineOption = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Allow code from model repositories to run.")
    ] = False,
    allow_mixed: MixedOption = False,
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
    from functools import partial

    from launch.ledger import WorkerOptions, refuse_dirty
    from launch.prepare.run import default_results, prepare
    from launch.prepare.targets import where_of
    from launch.show.console import say

    if require_clean:
        refuse_dirty()
    path = grid or config or DEFAULT_GRID
    grid_config = _grid(path, set_ or [], limit, model_id, task_name, mode, engine, batch_size)
    chosen = choose_cluster(cluster)
    options = WorkerOptions(grid_config.engine, device, grid_config.batch_size)
    planned = partial(
        prepare,
        grid_config,
        output_dir or default_results(),
        trust_remote_code=trust_remote_code,
        where=where_of(chosen, profile, options, workers),
    )
    prepared = planned()
    if dry_run:
        from launch.verbs.dry_run import show_plan

        show_plan(prepared, chosen, profile, options)
        return
    if pilot:
        first = planned(pilot=True)
        if first.plan is not None:
            _write(first, chosen)
            _pilot(first.paths, chosen, profile, options, allow_mixed, workers)
        prepared = planned()
    _write(prepared, chosen)
    if plan_only:
        say(f"{prepared.paths.root}: {sum(len(plan.shards) for plan in prepared.plans)} shards")
        return
    _go(prepared.paths, chosen, profile, options, allow_mixed, workers=workers, wait=wait, as_json_=json_)


def retry(
    run: RunArgument,
    failed: Annotated[bool, typer.Option("--failed", help="Only shards whose last attempt failed.")] = False,
    missing: Annotated[bool, typer.Option("--missing", help="Only shards that never failed.")] = False,
    shard: Annotated[list[str] | None, typer.Option("--shard", help="Only this shard.")] = None,
    split: Annotated[
        int | None,
        typer.Option("--split", min=2, help="Spread what is left of each shard over K new shards."),
    ] = None,
    cluster: ClusterOption = "auto",
    profile: Annotated[
        str | None, typer.Option("--profile", help="Default: that of the last submission.")
    ] = None,
    wait: WaitOption = False,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    batch_size: BatchOption = None,
    allow_mixed: MixedOption = False,
    json_: JsonOption = False,
) -> None:
    """Run only what is missing, failed or corrupt in a run, then merge again.

    Published shards are verified first; a corrupt one is set aside and computed again.
    """
    from aceslm.core.paths import RunPaths
    from aceslm.plan.files import require_plans
    from aceslm.results.verify import withdraw_corrupt
    from launch.ledger import WorkerOptions, intents
    from launch.prepare.retry import choose_shards, split_shards
    from launch.show.console import note

    paths = RunPaths(run)
    require_plans(paths)
    chosen = choose_cluster(cluster)
    for shard_id, reason in withdraw_corrupt(paths).items():
        note(f"{reason}: set aside, {shard_id} is computed again")
    shards = choose_shards(paths, failed=failed, missing=missing, names=shard or [])
    if split:
        shards = split_shards(paths, shards, split)
        note(f"what is left is spread over {len(shards)} new shards")
    earlier = intents(paths)
    before = earlier[-1].options if earlier else WorkerOptions()
    options = WorkerOptions(before.engine, device, batch_size or before.batch_size)
    last = next((intent.profile for intent in reversed(earlier) if intent.profile), None)
    name = profile or last or DEFAULT_PROFILE
    _go(paths, chosen, name, options, allow_mixed, shards=shards, workers=workers, wait=wait, as_json_=json_)


def cancel(run: RunArgument) -> None:
    """Cancel everything of a run that is queued or running on Slurm; finished rows are kept."""
    from aceslm.core.errors import RunError
    from aceslm.core.paths import RunPaths
    from aceslm.plan.files import require_plans
    from launch.ledger import intents, running_launcher
    from launch.show.console import say
    from launch.slurm import client as slurm

    paths = RunPaths(run)
    require_plans(paths)
    if other := running_launcher(paths):
        raise RunError(
            f"{run} runs on this machine in pid {other.pid}: stop it there with Ctrl-C, or kill {other.pid}"
        )
    tokens = [intent.token for intent in intents(paths) if intent.cluster == "slurm"]
    tasks = slurm.queue(tokens) if tokens else []
    for token in sorted({task.name for task in tasks}):
        slurm.cancel_by_name(token)
    say(f"cancelled {len(tasks)} tasks; go on with: aceslm retry {run}")


def _go(
    paths: RunPaths,
    chosen: str,
    profile: str,
    options: WorkerOptions,
    allow_mixed: bool,
    *,
    shards: list[Shard] | None = None,
    workers: int | None,
    wait: bool,
    as_json_: bool,
) -> None:
    """Run or submit what is missing of a planned run."""
    if chosen == "slurm":
        from launch.verbs.slurm import go

        go(paths, profile, options, allow_mixed, shards=shards, wait=wait, as_json_=as_json_)
        return
    from aceslm.config.cluster import cluster_profile
    from launch.submit.pool_or_here import Launch

    workers = workers or cluster_profile("local").workers
    finish(paths, Launch(chosen, workers, options, allow_mixed), shards=shards, as_json_=as_json_)


def _pilot(
    paths: RunPaths, chosen: str, profile: str, options: WorkerOptions, allow_mixed: bool, workers: int | None
) -> None:
    """Run the pilot's shards to the end; its rows count like any others."""
    from launch.show.console import note

    note("pilot: measuring one small shard for each model and task")
    if chosen == "slurm":
        from launch.verbs.slurm import run_to_the_end

        run_to_the_end(paths, profile, options, allow_mixed)
        return
    from launch.submit.pool_or_here import Launch, launch_missing

    launch_missing(paths, Launch(chosen, workers, options, allow_mixed))


def _write(prepared: Prepared, chosen: str) -> None:
    from launch.prepare.run import write_run
    from launch.show.console import note

    write_run(prepared)
    total = sum(shard.num_units for plan in prepared.plans for shard in plan.shards)
    note(f"{prepared.paths.root}: {len(prepared.cells)} cells, {total:,} samples, on {chosen}")


def finish(paths: RunPaths, launch: Launch, *, shards: list[Shard] | None = None, as_json_: bool) -> None:
    """Run what is missing here, merge, show the summary, and fail unless everything is there."""
    from launch.show.console import note
    from launch.show.live import live_table
    from launch.submit.pool_or_here import launch_missing
    from launch.verbs.results import merge_and_show

    with live_table() as show:
        submitted = launch_missing(paths, launch, shards=shards, on_tick=show)
    if not submitted:
        note("every shard is already done")
    merge_and_show(paths, as_json_)


def _grid(
    path: Path,
    overrides: list[str],
    limit: int | None,
    models: list[str] | None,
    tasks: list[str] | None,
    modes: list[str] | None,
    engine: str | None,
    batch_size: int | None,
) -> GridConfig:
    from aceslm.config.grid import load_grid

    values = {"limit": limit, "engine": engine, "batch_size": batch_size}
    lists = {"models": models, "tasks": tasks, "modes": modes}
    extra = [f"{key}={value}" for key, value in values.items() if value is not None]
    extra += [f"{key}=[{', '.join(map(_quoted, names))}]" for key, names in lists.items() if names]
    return load_grid(path, [*overrides, *extra])


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
