"""A grid and the registries -> a run directory with plans: what `run`, `submit` and `--dry-run` share.

prepared = prepare(grid)                   # reads, resolves, expands: writes nothing
run = write_run(prepared)                  # run directory, snapshots, the plan of what is not planned yet
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from aceslm.ace.playbook import codec
from aceslm.ace.playbook.bullets import Playbook
from aceslm.analysis.preregistration import declaration, declare
from aceslm.config.grid import GridConfig, Primary, ResourcesConfig
from aceslm.config.registry import ModelEntry, model_registry
from aceslm.core.digests import question_digest
from aceslm.core.errors import ConfigError, RunError
from aceslm.core.files import locked, replacing
from aceslm.core.paths import RunPaths
from aceslm.core.run import Run
from aceslm.core.values import Cell, ModelSpec, Plan, Resources, Sample, TaskTable
from aceslm.core.words import PLAYBOOK_MODES
from aceslm.data import write_samples
from aceslm.models.registry import require_on_this_machine, resolve_model
from aceslm.plan.cells import ROLE_MODEL_KEYS, expand, run_digest
from aceslm.plan.files import load_plans, read_run, save_plan
from aceslm.plan.identity import Givens
from aceslm.plan.shards import DEFAULT_SHARD_SIZE, next_plan
from aceslm.run.attempts import provenance
from aceslm.run.workload import Workload, workload_of
from launch.ledger import WorkerOptions
from launch.prepare.rates import PILOT_SAMPLES, RateOf, TargetOf, shard_sizes
from launch.prepare.targets import here, rate_finder
from launch.prepare.tasks import LoadedTask, after, load_task, load_tasks

_LOCK_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A grid with everything looked up; nothing is written yet.

    `snapshots`: table digest -> samples, and `playbooks`: digest -> playbook, of all that its cells name.
    """

    grid: GridConfig
    paths: RunPaths
    cells: tuple[Cell, ...]
    tasks: tuple[LoadedTask, ...]
    snapshots: Mapping[str, tuple[Sample, ...]]
    playbooks: Mapping[str, Playbook]
    earlier: tuple[Plan, ...]
    plan: Plan | None
    replan: Callable[[Sequence[Plan]], Plan | None]
    rate_of: RateOf

    @property
    def run(self) -> Run:
        """The run as it is once its plan is written."""
        return Run(self.paths, (*self.earlier, self.plan) if self.plan else self.earlier)


def prepare(
    grid: GridConfig,
    results: Path = Path("results"),
    *,
    extra_task: LoadedTask | None = None,
    trust_remote_code: bool = False,
    pilot: bool = False,
    target_of: TargetOf | None = None,
) -> Prepared:
    """Resolve models and tasks, expand the grid, and plan what no earlier plan of the run covers.

    A pilot plans one small shard for each kind of work whose rate is not known.

    Args:
        target_of: where its cells will run; None is this machine.

    Raises:
        UsageError: an unknown name, a bad task file, a mode that does not fit.
        ModelUnavailable: a hub model without a known revision.
    """
    made = _expanded(grid, extra_task, trust_remote_code)
    paths = RunPaths(results / f"{grid.name}-{run_digest(made.cells)}")
    earlier = load_plans(paths)
    resources = {name: model_resources(name, grid.resources) for name in grid.models}
    rate_of = rate_finder(results, target_of or here(WorkerOptions(grid.engine)), grid.engine, resources)
    sizes = _shard_sizes(grid, earlier[0].cells if earlier else made.cells, rate_of, pilot)
    narrowed = grid.model_copy(update={"limit": PILOT_SAMPLES}) if pilot else grid

    def plan_after(known: Sequence[Plan]) -> Plan | None:
        plan = next_plan(narrowed, made.cells, made.tables, known, resources, sizes)
        return replace(plan, is_pilot=pilot) if plan else None

    return Prepared(
        grid=grid,
        paths=paths,
        cells=made.cells,
        tasks=made.tasks,
        snapshots=made.snapshots,
        playbooks=made.playbooks,
        earlier=earlier,
        plan=plan_after(earlier),
        replan=plan_after,
        rate_of=rate_of,
    )


@dataclass(frozen=True, slots=True)
class _Expanded:
    """A grid's cells with what they need: tables, samples by digest, given playbooks by digest."""

    cells: tuple[Cell, ...]
    tasks: tuple[LoadedTask, ...]
    tables: Sequence[TaskTable]
    snapshots: Mapping[str, tuple[Sample, ...]]
    playbooks: Mapping[str, Playbook]


def _expanded(grid: GridConfig, extra_task: LoadedTask | None, trust_remote_code: bool) -> _Expanded:
    if (one := grid.primary) and (one.task not in grid.tasks or one.mode not in grid.modes):
        raise ConfigError(
            f"primary: '{one.mode}' on '{one.task}' is not among this submission's tasks and modes: run the "
            "whole grid, or add --set primary=null"
        )
    tasks = (extra_task,) if extra_task else load_tasks(grid.tasks)
    tasks = tuple(after(task, grid.skip) for task in tasks) if grid.skip else tasks
    models = [_model(name, grid, trust_remote_code) for name in grid.models]
    donors = _donors(grid, tasks)
    given = _given_playbooks(grid)
    roles = {name: _model(name, grid, trust_remote_code) for name in role_model_names(grid)}
    digests = {name: playbook.digest for name, playbook in given.items()}
    givens = Givens(roles, digests, [donor.tables for donor in donors])
    cells = expand(grid, models, [task.tables for task in tasks], givens)
    wanted = {name for cell in cells for name in (cell.task_digest, cell.validate_digest)}
    starts = {cell.initial_playbook for cell in cells}
    loaded = (*tasks, *donors)
    return _Expanded(
        cells,
        tasks,
        [table for task in loaded for table in task.tables.tables if table.task_digest in wanted],
        {name: rows for task in loaded for name, rows in task.by_digest.items() if name in wanted},
        {playbook.digest: playbook for playbook in given.values() if playbook.digest in starts},
    )


def write_run(prepared: Prepared) -> Run:
    """Write the run directory: configuration, snapshots, the new plan; return it with all its plans.

    Raises:
        Locked: another command is planning or merging this run.
    """
    paths = prepared.paths
    for cell in prepared.cells:
        for model in (cell.model, *cell.role_models.values()):
            require_on_this_machine(model)
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the run directory {paths.root}: {error.strerror}") from None
    with locked(paths.lock, "aceslm submit", wait_s=_LOCK_WAIT_S):
        _write_config(paths, prepared.grid)
        for name, samples in prepared.snapshots.items():
            if not paths.task(name).exists():
                write_samples(samples, paths.task(name))
        for name, playbook in prepared.playbooks.items():
            if not paths.initial_playbook(name).exists():
                codec.save(paths.initial_playbook(name), playbook)
        if prepared.grid.primary is not None:
            _declare(prepared, prepared.grid.primary)
        # another submit may have planned meanwhile: what it covers is not planned again
        known = load_plans(paths)
        plan = prepared.plan if known == prepared.earlier else prepared.replan(known)
        if plan is not None:
            save_plan(paths, plan)
    return read_run(paths)


def _declare(prepared: Prepared, primary: Primary) -> None:
    """Write down the primary comparison before anything of this run is scored."""
    facts = provenance()
    commit = f"{facts['commit'] or 'unknown'}{' with uncommitted changes' if facts['dirty'] else ''}"
    task = prepared.tasks[prepared.grid.tasks.index(primary.task)]
    questions = [
        question_digest(one.question, one.context, one.choices) for one in task.samples[: prepared.grid.limit]
    ]
    made = declaration(prepared.paths, task.table.task_name, primary.treatment, questions, commit)
    declare(prepared.paths, made)


def _shard_sizes(grid: GridConfig, cells: Sequence[Cell], rate_of: RateOf, pilot: bool) -> dict[str, int]:
    """Return cell id -> shard size: as configured, else by measured rates; 0 leaves a cell out of a pilot."""
    if pilot:
        unknown: dict[Workload, str] = {}
        for cell in cells:
            workload = workload_of(cell, grid.engine)
            if workload.kind == "plain" and rate_of(cell) is None:  # what needs a playbook has none yet
                unknown.setdefault(workload, cell.cell_id)
        return {cell.cell_id: PILOT_SAMPLES if cell.cell_id in unknown.values() else 0 for cell in cells}
    if grid.shard_size is not None:
        return {}
    return shard_sizes(cells, grid.shard_minutes, DEFAULT_SHARD_SIZE, rate_of)


def model_resources(name: str, override: ResourcesConfig) -> Resources:
    """Return what one array task of a model asks for: the registry's figures, then the grid's."""
    entry = model_registry().get(name)
    figures = (entry or ModelEntry(id=name)).resources.model_dump()
    return Resources(**{**figures, **override.model_dump(exclude_none=True)})


def narrow(grid: GridConfig, **axes: Sequence[str]) -> GridConfig:
    """Filter axes of a grid (`models`, `tasks`, `modes`); a name outside the grid replaces the list."""
    return grid.model_copy(update={axis: tuple(names) for axis, names in axes.items() if names})


def role_model_names(grid: GridConfig) -> tuple[str, ...]:
    """Return the models that only play a role (`ace.reflector_model`, `ace.curator_model`)."""
    named = (getattr(ace, key) for ace in grid.ace_settings() for key in ROLE_MODEL_KEYS.values())
    return tuple(dict.fromkeys(name for name in named if name is not None))


def _donors(grid: GridConfig, tasks: Sequence[LoadedTask]) -> tuple[LoadedTask, ...]:
    """Load the tasks outside the grid whose playbook `ace_shuffled` takes."""
    if "ace_shuffled" not in grid.modes:
        return ()
    known = {task.table.task_name for task in tasks}
    named = dict.fromkeys(ace.shuffled_from for ace in grid.ace_settings() if ace.shuffled_from)
    return tuple(load_task(name) for name in named if name not in known)


def _given_playbooks(grid: GridConfig) -> dict[str, Playbook]:
    """Read the playbook files that the grid names: file name -> playbook."""
    if not set(grid.modes) & PLAYBOOK_MODES:
        return {}
    named = [name for ace in grid.ace_settings() for name in (ace.playbook, ace.frozen_playbook) if name]
    found = {}
    for name in dict.fromkeys(named):
        if not Path(name).is_file():
            key = (
                "playbook" if any(ace.playbook == name for ace in grid.ace_settings()) else "frozen_playbook"
            )
            raise ConfigError(f"ace.{key}: there is no file {name}")
        found[name] = codec.load(Path(name))
    return found


def _model(name: str, grid: GridConfig, trust_remote_code: bool) -> ModelSpec:
    if grid.engine != "scripted" or name == "scripted":
        return resolve_model(name, trust_remote_code=trust_remote_code)
    # A rehearsal without the model: its own name and identity, so that neither its rows nor its speed can
    # pass for the real thing.
    entry = model_registry().get(name)
    if entry is None and "/" not in name:
        resolve_model(name)  # a misspelt name is an error in a rehearsal too
    return ModelSpec(name, f"{entry.id if entry else name} (scripted)", "scripted", source="scripted")


def _write_config(paths: RunPaths, grid: GridConfig) -> None:
    with replacing(paths.config) as partial:
        text = yaml.safe_dump(grid.model_dump(mode="json"), sort_keys=False)
        partial.write_text(f"# the resolved configuration of this run, defaults included\n{text}", "utf-8")


def default_results() -> Path:
    """Return the folder of run directories: `$ACESLM_RESULTS`, else `results` in the current folder."""
    return Path(os.environ.get("ACESLM_RESULTS", "results"))
