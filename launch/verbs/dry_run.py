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
    for line in launcher.preview(prepared):
        say(line)


def _mode(cell: Cell) -> str:
    """Return a cell's mode as a person would tell it apart: its variant, and what is only adapted."""
    return " ".join(filter(None, [cell.mode, cell.variant, "(adaptation)" if is_adaptation(cell) else ""]))
