"""`aceslm sync`: uploads what W&B was told offline."""

from __future__ import annotations

from typing import Annotated

import typer

from launch.verbs.options import RunArgument


def sync(
    run: RunArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be uploaded; send nothing.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="W&B runs a call of `wandb sync`.")
    ] = 20,
) -> None:
    """Upload the offline W&B runs of a run, from a machine with internet (a login node).

    What was sent is written down after every batch: the same command goes on where it stopped, and sends
    nothing twice.
    """
    from aceslm.core.errors import WorkError
    from aceslm.core.paths import RunPaths
    from aceslm.plan.files import require_plans
    from aceslm.tracking.upload import upload, waiting_folders
    from launch.show.console import note, say

    paths = RunPaths(run)
    require_plans(paths)
    if dry_run:
        folders = waiting_folders(paths).values()
        for folder in folders:
            say(str(folder))
        say(f"{len(folders)} W&B runs to upload")
        return
    sent, failed = 0, 0
    for batch in upload(paths, batch_size):
        sent += len(batch.sent)
        failed += len(batch.failed)
        for folder in batch.failed:
            note(f"not sent: {folder} ({batch.message})")
    say(f"{sent} W&B runs uploaded")
    if failed:
        raise WorkError(f"{failed} W&B runs were not sent; the same command tries them again")
