"""Groups of options that several verbs share, each a frozen value; `spread` makes a verb's options of them.

@spread
def retry(run: RunArgument, *, where: Where, how: How) -> None: ...
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from launch.verbs.options import (
    BatchOption,
    DeviceOption,
    EngineOption,
    LimitOption,
    MixedOption,
    SetOption,
)

if TYPE_CHECKING:
    from aceslm.config.grid import GridConfig
    from launch.ledger import Intent, WorkerOptions
    from launch.submit.launcher import Launcher

DEFAULT_PROFILE = "slurm"


def spread(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb an option for each field of the groups that it takes."""
    hints = get_type_hints(verb, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint) and isinstance(hint, type)}

    @functools.wraps(verb)
    def command(**options: Any) -> None:
        for name, group in groups.items():
            options[name] = group(**{one.name: options.pop(one.name) for one in fields(group)})
        verb(**options)

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb).parameters.values():
        if parameter.name in groups:
            parameters += _options_of(groups[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def _options_of(group: type) -> list[inspect.Parameter]:
    """Return the fields of a group as keyword parameters, annotated as typer reads them."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if one.default is MISSING else one.default,
            annotation=hints[one.name],
        )
        for one in fields(group)
    ]


@dataclass(frozen=True, slots=True)
class GridChoice:
    """What of a grid file is wanted, and what is to be otherwise."""

    limit: LimitOption = None
    model_id: Annotated[
        list[str] | None, typer.Option(help="Only this model of the grid, or another one.")
    ] = None
    task_name: Annotated[
        list[str] | None, typer.Option(help="Only this task of the grid, or another one.")
    ] = None
    mode: Annotated[list[str] | None, typer.Option(help="Only this mode of the grid, or another one.")] = None
    set_: SetOption = None
    engine: EngineOption = None

    def read(self, path: Path, batch_size: int | None) -> GridConfig:
        """Read a grid file with all of this in the place of what it says."""
        from aceslm.config.grid import load_grid

        given = {
            "limit": self.limit,
            "engine": self.engine,
            "batch_size": batch_size,
            "models": self.model_id,
            "tasks": self.task_name,
            "modes": self.mode,
        }
        return load_grid(
            path, self.set_ or (), {key: one for key, one in given.items() if one not in (None, [])}
        )


@dataclass(frozen=True, slots=True)
class Where:
    """Where shards run, and whether to stay until they have ended."""

    cluster: Annotated[
        str, typer.Option("--cluster", help="auto, slurm, local or debug (in this process).")
    ] = "auto"
    profile: Annotated[
        str | None,
        typer.Option("--profile", help="A cluster profile: a name in configs/clusters/, or a YAML file."),
    ] = DEFAULT_PROFILE
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Local worker processes; default: one a GPU, else one."),
    ] = None
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it is done (local runs always do).")] = (
        False
    )

    def launcher(self, grid: GridConfig, how: How) -> Launcher:
        """Return the launcher that is meant, for a grid as it ended up.

        Raises:
            UsageError: an unknown cluster.
            ConfigError: an unknown profile.
        """
        return self._launcher(how.options(grid), how.allow_mixed)

    def _launcher(self, options: WorkerOptions, allow_mixed: bool) -> Launcher:
        from aceslm.config.cluster import cluster_profile

        chosen = choose_cluster(self.cluster)
        if chosen == "slurm":
            from launch.submit.slurm import SlurmLauncher

            name = self.profile or DEFAULT_PROFILE
            return SlurmLauncher(name, cluster_profile(name), options, allow_mixed)
        from launch.submit.local import LocalLauncher

        workers = self.workers or cluster_profile("local").workers
        return LocalLauncher(chosen, workers, options, allow_mixed)


@dataclass(frozen=True, slots=True)
class WhereAgain(Where):
    """Where the rest of a run goes: by default where the run went before."""

    profile: Annotated[
        str | None, typer.Option("--profile", help="Default: that of the last submission.")
    ] = None

    def again(self, earlier: Sequence[Intent], how: How) -> Launcher:
        """Return the launcher for the rest of a run, after its earlier submissions."""
        from launch.ledger import WorkerOptions

        before = earlier[-1].options if earlier else WorkerOptions()
        options = WorkerOptions(before.engine, how.device, how.batch_size or before.batch_size)
        last = next((intent.profile for intent in reversed(earlier) if intent.profile), None)
        return replace(self, profile=self.profile or last)._launcher(options, how.allow_mixed)


@dataclass(frozen=True, slots=True)
class How:
    """How workers generate; never part of a result's identity."""

    device: DeviceOption = "auto"
    batch_size: BatchOption = None
    allow_mixed: MixedOption = False

    def options(self, grid: GridConfig) -> WorkerOptions:
        """Return what workers are told; the grid already has the batch size that was asked for."""
        from launch.ledger import WorkerOptions

        return WorkerOptions(grid.engine, self.device, grid.batch_size)


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """One model, and what answers with it."""

    model_id: Annotated[str, typer.Option(help="A registry name, a hub id, or a local folder.")] = (
        "smollm2-135m-gguf"
    )
    quantization: Annotated[str, typer.Option(help="none, int8 or nf4.")] = "none"
    engine: EngineOption = None


@dataclass(frozen=True, slots=True)
class TaskChoice:
    """One task, of the registry or in a file, and how much of it."""

    task_name: Annotated[str | None, typer.Option(help="A task of the registry (`aceslm tasks`).")] = None
    dataset_path: Annotated[Path | None, typer.Option(help="A task file: JSON, JSONL, CSV or Parquet.")] = (
        None
    )
    domain: Annotated[
        str | None, typer.Option(help="The domain of --dataset-path: finance, medical, iot, ...")
    ] = None
    limit: LimitOption = None


def choose_cluster(name: str) -> str:
    """Return the cluster to use: `slurm`, `local` or `debug`; `auto` says which it took and why.

    Raises:
        UsageError: an unknown cluster.
    """
    from aceslm.core.errors import UsageError, nearest
    from launch.show.console import note
    from launch.slurm import client as slurm

    known = ("auto", "slurm", "local", "debug")
    if name not in known:
        raise UsageError(f"--cluster: '{name}' is not one of them{nearest(name, known)}")
    if name != "auto":
        return name
    if slurm.inside_allocation():
        note("--cluster auto: inside a Slurm allocation, running here")
        return "local"
    if slurm.answers():
        note("--cluster auto: a Slurm controller answers, submitting there")
        return "slurm"
    note("--cluster auto: no Slurm controller answers, running on this machine")
    return "local"
