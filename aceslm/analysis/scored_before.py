"""Which questions have been scored before: read from the runs of a results folder, and kept beside them.

    note_looks(paths, plans)                       # with every merge: results/looks/RUN.json
    found = scored_before(paths, sample_ids)       # other run -> how many of these samples it has scored

A question whose score was seen can be tuned on, also when the run that scored it was deleted since: so what a
merge has shown stays on record in a file of its own, which only grows. Questions are told apart by their
sample ids, whatever task file they stand in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from aceslm.core.errors import CorruptRun, RunError
from aceslm.core.files import read_json, write_json
from aceslm.core.paths import RunPaths
from aceslm.core.values import Plan
from aceslm.plan.cells import is_adaptation
from aceslm.plan.files import load_plans


def note_looks(paths: RunPaths, plans: Sequence[Plan]) -> None:
    """Put the scored samples of a run on record.

    Raises:
        RunError: the record that is there cannot be read.
    """
    seen = scored(paths, plans)
    path = paths.looks
    known = _noted(path)
    if not seen <= known:
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"run": paths.root.name, "sample_ids": sorted(known | seen)})


def scored_before(paths: RunPaths, sample_ids: Collection[str]) -> dict[str, int]:
    """Return for each other run of the same results folder how many of these samples it has scored.

    Raises:
        RunError: a record cannot be read.
    """
    results, wanted = paths.root.parent, set(sample_ids)
    names = {folder.name for folder in results.iterdir()} if results.is_dir() else set()
    names |= {path.stem for path in paths.looks.parent.glob("*.json")}
    found = {}
    for name in sorted(names - {paths.root.name}):
        other = RunPaths(results / name)
        seen = (_noted(other.looks) | scored(other, _plans(other))) & wanted
        if seen:
            found[name] = len(seen)
    return found


def scored(paths: RunPaths, plans: Sequence[Plan]) -> set[str]:
    """Return the ids of the samples in a run's published shards, those learnt from left out."""
    found: set[str] = set()
    for plan in plans:
        for shard in plan.shards:
            cell = plan.cell(shard.cell_id)
            if is_adaptation(cell) or not paths.done(shard.shard_id).exists():
                continue
            ids = plan.task(cell.task_digest).sample_ids
            found |= {ids[index % len(ids)] for index in shard.indices()}
    return found


def _noted(path: Path) -> set[str]:
    if not path.exists():
        return set()
    try:
        return set(read_json(path)["sample_ids"])
    except (KeyError, TypeError):
        raise RunError(f"{path}: lists no sample_ids; move it away and run the command again") from None


def _plans(paths: RunPaths) -> tuple[Plan, ...]:
    try:
        return load_plans(paths)
    except (RunError, CorruptRun):  # a run of another version beside this one
        return ()
