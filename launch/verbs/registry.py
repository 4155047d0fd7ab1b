"""`aceslm models`, `aceslm tasks`, `aceslm prestage`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.verbs.options import JsonOption


def models(json_: JsonOption = False) -> None:
    """List the models of the registry (any hub id or local folder works without an entry)."""
    from aceslm.config.registry import model_lock, model_registry
    from launch.show.console import print_json, print_table

    registry, lock = model_registry(), model_lock()
    if json_:
        print_json({name: entry.model_dump() for name, entry in registry.items()})
        return
    rows = []
    for name, entry in registry.items():
        revision = entry.revision or (lock[entry.id].revision if entry.id in lock else None)
        rows.append(
            [
                name,
                entry.id,
                (revision or "-")[:12],
                entry.dtype,
                "gated" if entry.gated else "",
                f"{entry.context_window:,}" if entry.context_window else "-",
                str(entry.resources.gpus),
                str(entry.resources.mem_gb),
                str(entry.resources.time_min),
            ]
        )
    headers = ["name", "id", "revision", "dtype", "", "context", "GPUs", "mem GB", "time min"]
    print_table("models (configs/models.yaml)", headers, rows, numeric=4)


def tasks(json_: JsonOption = False) -> None:
    """List the tasks of the registry."""
    from aceslm.config.folders import repository_root
    from aceslm.config.registry import task_registry
    from launch.prepare.tasks import load_task
    from launch.show.console import print_json, print_table

    registry = task_registry()
    if json_:
        print_json({name: entry.model_dump() for name, entry in registry.items()})
        return
    rows = []
    for name, entry in registry.items():
        types, count = str(entry.answer_type or "-"), "not imported"
        if not entry.importer or (repository_root() / entry.path).exists():
            samples = load_task(name).samples
            types = ", ".join(sorted({sample.answer_type for sample in samples}))
            count = f"{len(samples):,}"
        rows.append([name, entry.domain, types, entry.path, entry.description, count])
    print_table(
        "tasks (configs/tasks.yaml)", ["name", "domain", "answers", "path", "", "samples"], rows, numeric=1
    )


def prestage(
    grid: Annotated[Path | None, typer.Argument(help="Fetch everything this grid needs.")] = None,
    model_id: Annotated[list[str] | None, typer.Option(help="Fetch these models instead.")] = None,
) -> None:
    """Fetch models and check data on a node that has internet, and prove that they load without it.

    Writes configs/models.lock.yaml: the revision that every later run of a hub model is pinned to.
    """
    from aceslm.config.grid import load_grid
    from aceslm.core.errors import UsageError
    from aceslm.models.registry import prestage_model
    from launch.prepare.run import role_model_names
    from launch.prepare.tasks import load_task
    from launch.show.console import note, say

    if grid is None and not model_id:
        raise UsageError(
            "give a grid file or --model-id NAME, for example: aceslm prestage configs/quickstart.yaml"
        )
    config = load_grid(grid) if grid else None
    names = model_id or [*config.models, *role_model_names(config)] if config else model_id or []
    for name in names:
        spec = prestage_model(name, report=note)
        say(f"model {name}: {spec.model_id} at {spec.revision[:19]} loads offline")
    for task in config.tasks if config else ():
        loaded = load_task(task)
        say(f"task {task}: {len(loaded.samples):,} samples")
