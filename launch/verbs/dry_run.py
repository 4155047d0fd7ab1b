"""`aceslm submit --dry-run`: the plan, and what its launcher would do; nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aceslm.plan.cells import is_adaptation

if TYPE_CHECKING:
    from aceslm.core.values import Cell
    from launch.prepare.run import Prepared
    from launch.submit.launcher import Launcher


def show_plan(prepared: Prepared, launcher: Launcher) -> None:
    """Print what would run, and how."""
    from launch.show.console import print_table, say

    shards = prepared.plan.shards if prepared.plan else ()
    rows = []
    for cell in prepared.cells:
        mine = [shard for shard in shards if shard.cell_id == cell.cell_id]
        units = sum(shard.num_units for shard in mine)
        columns = [cell.model.model_id, cell.quantization, cell.task_name, _mode(cell), str(cell.seed)]
        rows.append([*columns, f"{units:,}", str(len(mine))])
    headers = ["model", "quant", "task", "mode", "seed", "new samples", "new shards"]
    print_table(
        f"{prepared.paths.root} on {launcher.cluster} (dry run, nothing is written)", headers, rows, numeric=2
    )
    planned = sum(shard.num_units for earlier in prepared.earlier for shard in earlier.shards)
    say(f"{sum(shard.num_units for shard in shards):,} new samples; {planned:,} were planned before")
    _say_sizes(prepared)
    for line in launcher.preview(prepared):
        say(line)


def _say_sizes(prepared: Prepared) -> None:
    """Say what the sizes of new shards rest on."""
    from aceslm.plan.shards import DEFAULT_SHARD_SIZE
    from launch.prepare.rates import basis
    from launch.show.console import say

    grid, shards = prepared.grid, prepared.plan.shards if prepared.plan else ()
    named = {shard.cell_id for shard in shards if shard.step == "answer"}
    cells = [cell for cell in prepared.run.cells if cell.cell_id in named] if named else []
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
