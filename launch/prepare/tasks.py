"""Task files -> loaded tasks: the samples that are scored, and those to learn from and to validate with.

task = load_task("tatqa_span")             # of the registry, or a file by its path
tasks = load_tasks(grid.tasks)             # several, each under a name of its own
fresh = after(task, skip=150)              # without the first scored samples
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aceslm.ace.controls import permuted_golds
from aceslm.config.folders import repository_root
from aceslm.config.registry import task_registry
from aceslm.core.contexts import context_key, context_name
from aceslm.core.errors import ConfigError, DataError, nearest
from aceslm.core.values import Sample, TaskTable
from aceslm.core.words import Split
from aceslm.data import load_samples, select_split, task_digest
from aceslm.plan.identity import GridTask

_OTHER_SPLITS = frozenset({"adapt", "validate"})
_SUFFIXES = frozenset({".json", ".jsonl", ".csv", ".parquet"})


@dataclass(frozen=True, slots=True)
class LoadedTask:
    """A task as planned: the samples that are scored, and those of its other splits by table digest."""

    tables: GridTask
    samples: tuple[Sample, ...]
    by_digest: Mapping[str, tuple[Sample, ...]]

    @property
    def table(self) -> TaskTable:
        return self.tables.scored


def load_task(name: str) -> LoadedTask:
    """Load a task of the registry, or a task file by its path.

    Raises:
        ConfigError: neither a registered task nor a file.
        DataError: the file is wrong.
    """
    registry = task_registry()
    if name in registry:
        entry = registry[name]
        path = repository_root() / entry.path
        if entry.importer and not path.exists():
            raise DataError(
                f"task '{name}' has not been imported yet; get the published files, then: "
                f"aceslm data import {entry.importer} FOLDER --output {path}"
            )
        samples = load_samples(path, domain=entry.domain, answer_type=entry.answer_type)
        return _loaded(name, entry.domain, samples, entry.eval_split)
    if Path(name).suffix in _SUFFIXES:
        return load_task_file(Path(name), domain=None)
    raise ConfigError(f"unknown task '{name}'{nearest(name, registry)}; `aceslm tasks` lists them")


def load_tasks(names: Sequence[str]) -> tuple[LoadedTask, ...]:
    """Load the tasks of a grid; files of one stem are told apart by their folders ("a/test", "b/test").

    Results are pooled by task name: two tasks of one name would be read as one.

    Raises:
        ConfigError: neither a registered task nor a file, or the same samples twice.
        DataError: a file is wrong.
    """
    tasks = [load_task(name) for name in names]
    by_digest: dict[str, str] = {}
    for name, task in zip(names, tasks, strict=True):
        other = by_digest.setdefault(task.table.task_digest, name)
        if other != name:
            raise ConfigError(f"tasks: '{other}' and '{name}' hold the same samples: list one of them")
    shared = [name for name, number in Counter(task.tables.name for task in tasks).items() if number > 1]
    if not shared:
        return tuple(tasks)
    files = {
        name: Path(name).resolve()
        for name, task in zip(names, tasks, strict=True)
        if task.tables.name in shared and Path(name).suffix in _SUFFIXES
    }
    told = _told_apart(files, {task.tables.name for task in tasks})
    return tuple(_named(task, told.get(name)) for name, task in zip(names, tasks, strict=True))


def _told_apart(files: Mapping[str, Path], taken: Collection[str]) -> dict[str, str]:
    """Return a name for each file: as many of its folders as make it unlike all others."""
    found: dict[str, str] = {}
    for depth in range(2, max(len(path.parts) for path in files.values()) + 1):
        for suffix in (False, True):  # files of one folder differ in it
            names = {
                key: "/".join((path if suffix else path.with_suffix("")).parts[-depth:])
                for key, path in files.items()
                if key not in found
            }
            counts = Counter([*names.values(), *found.values(), *taken])
            found |= {key: name for key, name in names.items() if counts[name] == 1}
    return found


def _named(task: LoadedTask, name: str | None) -> LoadedTask:
    if name is None:
        return task
    tables = task.tables
    renamed = {
        key: replace(table, task_name=name)
        for key in ("scored", "adapt", "validate", "placebo")
        if (table := getattr(tables, key)) is not None
    }
    return replace(task, tables=replace(tables, **renamed))


def load_task_file(path: Path, domain: str | None) -> LoadedTask:
    """Load a task file that is not in the registry; the task is named by the file's stem."""
    samples = load_samples(path, domain=domain)
    return _loaded(path.stem, domain or samples[0].domain or "general", samples, None)


def after(task: LoadedTask, skip: int) -> LoadedTask:
    """Return a task without the first `skip` scored samples and the rest of the last one's context."""
    rows = task.samples
    while 0 < skip < len(rows) and context_key(rows[skip]) == context_key(rows[skip - 1]):
        skip += 1
    if skip >= len(rows):
        raise ConfigError(f"skip: task '{task.tables.name}' has only {len(rows):,} samples to score")
    known = task.table
    table = _table(known.task_name, known.domain, known.split, rows[skip:])
    by_digest = {name: kept for name, kept in task.by_digest.items() if name != known.task_digest}
    tables = replace(task.tables, scored=table)
    return LoadedTask(tables, rows[skip:], {**by_digest, table.task_digest: rows[skip:]})


def _loaded(name: str, domain: str, samples: tuple[Sample, ...], eval_split: Split | None) -> LoadedTask:
    splits = {sample.split for sample in samples}
    if splits == {""}:
        table = _table(name, domain, "", samples)
        return LoadedTask(GridTask(table), samples, {table.task_digest: samples})
    try:
        chosen: dict[str, tuple[Sample, ...]] = {
            split: select_split(samples, split) for split in {eval_split or "eval", *(splits & _OTHER_SPLITS)}
        }
    except DataError as error:
        raise DataError(f"task '{name}': {error}") from None
    scored = chosen.pop(eval_split or "eval")
    if "adapt" in chosen:
        chosen["placebo"] = permuted_golds(chosen["adapt"], seed=0)
    of_split: dict[str, Split] = {"placebo": "adapt", "adapt": "adapt", "validate": "validate"}
    tables = {split: _table(name, domain, of_split[split], rows) for split, rows in chosen.items()}
    table = _table(name, domain, eval_split or "eval", scored)
    by_digest = {tables[split].task_digest: rows for split, rows in chosen.items()}
    return LoadedTask(GridTask(table, **tables), scored, {**by_digest, table.task_digest: scored})


def _table(name: str, domain: str, split: Split, samples: tuple[Sample, ...]) -> TaskTable:
    return TaskTable(
        task_name=name,
        task_digest=task_digest(samples),
        domain=domain,
        split=split,
        sample_ids=tuple(sample.sample_id for sample in samples),
        context_ids=tuple(context_name(sample.context_id, sample.context) for sample in samples),
    )
