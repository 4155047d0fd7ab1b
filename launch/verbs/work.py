"""`aceslm work`: one shard of a planned run, here. What `sbatch/shards.sbatch` calls."""

from __future__ import annotations

from typing import Annotated

import typer

from launch.verbs.options import BatchOption, DeviceOption, MixedOption, RunArgument


def work(
    run: RunArgument,
    index: Annotated[int, typer.Option("--index", min=0, help="Which shard, counted over all plans from 0.")],
    device: DeviceOption = "auto",
    batch_size: BatchOption = None,
    allow_mixed: MixedOption = False,
) -> None:
    """Run one shard of a planned run in this process, resuming what it has; for scripts without submitit."""
    import os
    import socket
    import time

    from aceslm.config.grid import GridConfig
    from aceslm.config.strict_yaml import parse, read_yaml
    from aceslm.core.errors import UsageError
    from aceslm.core.paths import AttemptName, RunPaths
    from aceslm.plan.files import read_run
    from aceslm.run.source import code_digest
    from launch.ledger import Intent, WorkerOptions
    from launch.node.log_files import log_to_stdout
    from launch.node.place import Place, slurm_place
    from launch.node.task import run_task
    from launch.show.console import say
    from launch.submit.local import interruptible

    planned = read_run(RunPaths(run))
    paths, names = planned.paths, [shard.shard_id for shard in planned.shards]
    if index >= len(names):
        raise UsageError(f"--index {index}: this run has {len(names)} shards, 0 to {len(names) - 1}")
    grid = parse(GridConfig, read_yaml(paths.config), paths.config)
    options = WorkerOptions(grid.engine, device, batch_size or grid.batch_size)
    intent = Intent(
        number=0,
        token="",
        cluster="script",
        tasks=((names[index],),),
        options=options,
        code=code_digest(),
        host=socket.gethostname(),
        pid=os.getpid(),
        created_at=time.time(),
        max_requeues=20,
        allow_mixed=allow_mixed,
    )
    if "SLURM_JOB_ID" in os.environ:
        log_to_stdout()
        run_task(planned, intent, 0, slurm_place(intent))
    else:
        with interruptible() as stop:
            name = f"w{socket.gethostname()}.{os.getpid()}".replace("_", "-")
            run_task(planned, intent, 0, Place(AttemptName(name, index), stop))
    say(f"shard {names[index]}: {'done' if paths.done(names[index]).exists() else 'not finished'}")
