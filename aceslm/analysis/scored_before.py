"""Which questions have been scored before: read from the runs of a results folder, and kept beside them.

    note_looks(run)                     # with every merge: results/looks/RUN.json
    found = scored_before(paths, questions)      # other run -> how many of these questions it has scored

A question whose score was seen can be tuned on, also when the run that scored it was deleted since: so what a
merge has shown stays on record in a file of its own, which only grows. Questions are told apart by what is
asked (`digests.question_digest`): another file name, other sample ids or a corrected gold make no fresh one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from aceslm.core.digests import question_digest
from aceslm.core.errors import CorruptRun, RunError
from aceslm.core.files import read_json, write_json
from aceslm.core.parquet import read_table
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Shard
from aceslm.plan.cells import is_adaptation
from aceslm.plan.files import load_plans
from aceslm.run.done import is_published
from aceslm.run.parts import read_parts

log = logging.getLogger(__name__)


def note_looks(run: Run) -> None:
    """Put the scored questions of a run on record; where that cannot be done it is one warning."""
    path = run.paths.looks
    try:
        seen = scored(run)
        known = _noted(path)
    except RunError as error:  # a merge can do without: nobody should lose the results for it
        log.warning("%s; %s is not written anew", error, path)
        return
    if not seen <= known:
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"run": run.name, "questions": sorted(known | seen)})


def scored_before(paths: RunPaths, questions: Sequence[str]) -> dict[str, int]:
    """Return for each other run of the same results folder how many of these questions it has scored.

    Raises:
        RunError: a record, or the samples of a run, cannot be read.
    """
    results = paths.root.parent
    names = {folder.name for folder in results.iterdir()} if results.is_dir() else set()
    names |= {path.stem for path in paths.looks.parent.glob("*.json")}
    found = {}
    for name in sorted(names - {paths.root.name}):
        other = RunPaths(results / name)
        seen = _noted(other.looks) | _scored_by(other)
        if count := sum(question in seen for question in questions):
            found[name] = count
    return found


def scored(run: Run) -> set[str]:
    """Return the digests of the questions that a run has rows of, those learnt from left out.

    Rows of unfinished shards count: a merge shows them too.

    Raises:
        CorruptRun: the samples of a task that was scored cannot be read.
    """
    found: set[str] = set()
    asked: dict[str, dict[str, str]] = {}  # by task: sample id -> digest
    for shard in run.shards:
        cell = run.cell(shard.cell_id)
        if is_adaptation(cell) or not (sample_ids := _answered(run, shard)):
            continue
        if cell.task_digest not in asked:
            asked[cell.task_digest] = _questions(run.paths.task(cell.task_digest))
        found.update(asked[cell.task_digest][sample_id] for sample_id in sample_ids)
    return found


def _answered(run: Run, shard: Shard) -> set[str]:
    """Return the samples that a shard has rows of: all of a published one, else those in its parts."""
    parts: list[str] = []
    if not is_published(run.paths, shard.shard_id):
        parts = read_parts(run.paths, shard.shard_id, ["sample_id"]).column("sample_id").to_pylist()
    if is_published(run.paths, shard.shard_id):  # maybe while its parts were read, which then go
        sample_ids = run.task(run.cell(shard.cell_id).task_digest).sample_ids
        return {sample_ids[index % len(sample_ids)] for index in shard.indices()}
    return set(parts)


def _questions(path: Path) -> dict[str, str]:
    columns = ["sample_id", "question", "context", "choices"]
    try:
        rows = read_table(path, columns).to_pylist()
    except (FileNotFoundError, CorruptRun):
        raise CorruptRun(
            f"{path}: the samples of this run are missing or damaged, so which questions it has scored "
            "cannot be told: restore the file, or delete it and submit the run's config.yaml again"
        ) from None
    return {
        row["sample_id"]: question_digest(row["question"], row["context"], row["choices"]) for row in rows
    }


def _noted(path: Path) -> set[str]:
    if not path.exists():
        return set()
    try:
        questions = read_json(path)["questions"]
        if not isinstance(questions, list):
            raise TypeError
        return set(questions)
    except (RunError, KeyError, TypeError):
        run = path.parent.parent / path.stem
        where = (
            f"delete it and type `aceslm aggregate {run}`, which writes it anew"
            if run.is_dir()
            else "its run is gone too: delete it, and its questions will count as never scored"
        )
        raise RunError(
            f"{path} is damaged, or of another version: it should list the questions that a run has scored. "
            f"Restore it from a copy; else {where}"
        ) from None


def _scored_by(paths: RunPaths) -> set[str]:
    """Return what another run has scored; nothing for a run of another version."""
    try:
        plans = load_plans(paths)
    except (RunError, CorruptRun):
        return set()
    return scored(Run(paths, plans)) if plans else set()
