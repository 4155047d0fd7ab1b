"""`aceslm submit --dry-run`: the plan, the scripts, the index map and the cost; nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aceslm.plan.cells import is_adaptation

if TYPE_CHECKING:
    from aceslm.core.values import Cell
    from launch.ledger import WorkerOptions
    from launch.prepare.run import Prepared
    from launch.submit.arrays import Layout


def show_plan(prepared: Prepared, cluster: str, profile_name: str, options: WorkerOptions) -> None:
    """Print what would run."""
    from launch.show.console import print_table, say

    shards = prepared.plan.shards if prepared.plan else ()
    rows = []
    for cell in prepared.cells:
        mine = [shard for shard in shards if shard.cell_id == cell.cell_id]
        units = sum(shard.num_units for shard in mine)
        columns = [cell.model.model_id, cell.quantization, cell.task_name, _mode(cell), str(cell.seed)]
        rows.append([*columns, f"{units:,}", str(len(mine))])
    headers = ["model", "quant", "task", "mode", "seed", "new samples", "new shards"]
    print_table(f"{prepared.paths.root} on {cluster} (dry run, nothing is written)", headers, rows, numeric=2)
    planned = sum(shard.num_units for earlier in prepared.earlier for shard in earlier.shards)
    say(f"{sum(shard.num_units for shard in shards):,} new samples; {planned:,} were planned before")
    _say_sizes(prepared)
    if cluster == "slurm":
        _show_scripts(prepared, profile_name, options)


def _say_sizes(prepared: Prepared) -> None:
    """Say what the sizes of new shards rest on."""
    from aceslm.plan.shards import DEFAULT_SHARD_SIZE
    from launch.prepare.rates import basis
    from launch.show.console import say

    grid, shards = prepared.grid, prepared.plan.shards if prepared.plan else ()
    named = {shard.cell_id for shard in shards if shard.step == "answer"}
    cells = [cell for cell in prepared.plans[0].cells if cell.cell_id in named] if named else []
    if not cells:
        return
    if grid.shard_size is not None:
        say(f"shard sizes: requested (shard_size: {grid.shard_size})")
        return
    said = basis(cells, prepared.rate_of)
    if all(prepared.rate_of(cell) for cell in cells):
        say(f"shard sizes: {said}, for {grid.shard_minutes:g} minutes each")
    else:
        say(
            f"shard sizes: {said}; where nothing comparable was measured {DEFAULT_SHARD_SIZE} samples each "
            "(--pilot measures first)"
        )


def _mode(cell: Cell) -> str:
    """Return a cell's mode as a person would tell it apart: its variant, and what is only adapted."""
    return " ".join(filter(None, [cell.mode, cell.variant, "(adaptation)" if is_adaptation(cell) else ""]))


def _show_scripts(prepared: Prepared, profile_name: str, options: WorkerOptions) -> None:
    from pathlib import Path

    from aceslm.config.cluster import cluster_profile
    from aceslm.plan.shards import unfinished
    from launch.ledger import intents
    from launch.prepare.rates import basis
    from launch.prepare.targets import rates_of_run
    from launch.show.console import say
    from launch.slurm import client as slurm
    from launch.submit.arrays import check_limits, layout
    from launch.submit.slurm import SlurmLaunch, dry_run_texts, submission_folder

    profile = cluster_profile(profile_name)
    launch = SlurmLaunch(profile_name, profile, options)
    shards = unfinished(prepared.paths, prepared.plans)
    if not shards:
        say("every shard is already done")
        return
    rate_of = rates_of_run(prepared.paths, prepared.plans, profile, options)
    plan = layout(prepared.plans, shards, profile, rate_of)
    folder = submission_folder(prepared.paths, launch.logs, len(intents(prepared.paths)) + 1)
    texts = dry_run_texts(plan, launch, "aceslm-00000000", Path(folder))
    for number, text in enumerate(texts):
        array = plan.arrays[number] if number < len(plan.arrays) else None
        say(f"\n# ---- {'array ' + str(number) if array else 'aggregation'}")
        say(text.rstrip())
        for index in range(array.count if array else 0):
            say(f"#   {index}: {' '.join(plan.tasks[array.first + index])}" if array else "")
    say("")
    named = {shard.cell_id for shard in shards}
    cells = [cell for cell in prepared.plans[0].cells if cell.cell_id in named]
    _show_cost(plan, profile.ranks_per_task, basis(cells, rate_of))
    if slurm.answers():
        try:
            check_limits(plan.arrays, profile)
            for text in texts[: len(plan.arrays)]:
                say(f"sbatch --test-only: {slurm.test_only(_testable(text))}")
        except slurm.Unanswered as error:  # a busy controller says nothing about the scripts
            say(f"{error}: whether Slurm would accept these scripts is not known; try again later")


def _testable(text: str) -> str:
    """Leave out what cannot be tested yet: the dependency on jobs that do not exist."""
    return "\n".join(line for line in text.splitlines() if "--dependency" not in line) + "\n"


def _show_cost(plan: Layout, ranks: int, basis: str) -> None:
    from launch.show.console import say

    hours: dict[str, float] = {"GPU": 0.0, "core": 0.0}
    for array in plan.arrays:
        task_hours = array.count * array.resources["time_min"] / 60
        hours["GPU"] += task_hours * array.resources["gpus"]
        hours["core"] += task_hours * array.resources["cpus"] * ranks
    say(
        f"cost ({basis}): at most {hours['GPU']:,.1f} GPU-hours, {hours['core']:,.1f} core-hours in "
        f"{len(plan.tasks)} tasks; {plan.num_waiting} more tasks wait for a later wave"
    )
