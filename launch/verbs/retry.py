"""`aceslm retry`, `aceslm cancel`."""

from __future__ import annotations

from typing import Annotated

import typer

from launch.verbs.groups import How, WhereAgain, spread
from launch.verbs.options import JsonOption, RunArgument
from launch.verbs.submit import carry_out


@spread
def retry(
    run: RunArgument,
    failed: Annotated[bool, typer.Option("--failed", help="Only shards whose last attempt failed.")] = False,
    missing: Annotated[bool, typer.Option("--missing", help="Only shards that never failed.")] = False,
    shard: Annotated[list[str] | None, typer.Option("--shard", help="Only this shard.")] = None,
    split: Annotated[
        int | None,
        typer.Option("--split", min=2, help="Spread what is left of each shard over K new shards."),
    ] = None,
    *,
    where: WhereAgain,
    how: How,
    json_: JsonOption = False,
) -> None:
    """Run only what is missing, failed or corrupt in a run, then merge again.

    Published shards are verified first; a corrupt one is set aside and computed again.
    """
    from aceslm.core.paths import RunPaths
    from aceslm.plan.files import read_run
    from aceslm.results.verify import withdraw_corrupt
    from launch.ledger import intents
    from launch.prepare.retry import choose_shards, split_shards
    from launch.show.console import note

    planned = read_run(RunPaths(run))
    launcher = where.again(intents(planned.paths), how)
    for shard_id, reason in withdraw_corrupt(planned).items():
        note(f"{reason}: set aside, {shard_id} is computed again")
    shards = choose_shards(planned, failed=failed, missing=missing, names=shard or [])
    if split:
        planned, shards = split_shards(planned, shards, split)
        note(f"what is left is spread over {len(shards)} new shards")
    carry_out(launcher, planned, shards, wait=where.wait, as_json_=json_)


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
