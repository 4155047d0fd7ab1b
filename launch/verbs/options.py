"""Options that several verbs share, spelt once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

RunArgument = Annotated[
    Path, typer.Argument(help="A run directory (results/<name>-<digest>).", metavar="RUN")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ModelOption = Annotated[str, typer.Option(help="A registry name, a hub id, or a local folder.")]
TaskOption = Annotated[str | None, typer.Option(help="A task of the registry (`aceslm tasks`).")]
DatasetOption = Annotated[Path | None, typer.Option(help="A task file: JSON, JSONL, CSV or Parquet.")]
DomainOption = Annotated[
    str | None, typer.Option(help="The domain of --dataset-path: finance, medical, iot, ...")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cuda, cuda:N, mps or cpu.")]
BatchOption = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Prompts per batch; by default chosen for the device."),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only the first N samples of each task.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a grid key, e.g. --set generation.max_new_tokens=16."),
]
MixedOption = Annotated[
    bool,
    typer.Option("--allow-mixed", help="Go on although code, engine or dtype changed since then."),
]
ClusterOption = Annotated[
    str, typer.Option("--cluster", help="auto, slurm, local or debug (in this process).")
]
ProfileOption = Annotated[
    str, typer.Option("--profile", help="A cluster profile: a name in configs/clusters/, or a YAML file.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Local worker processes; default: one a GPU, else one.")
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", help="shared_prefix (auto), generate, scripted.")
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Stay until it is done (local runs always do).")]


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


def as_json(frame: Any) -> Any:
    """Return a pandas frame as JSON values: one object a row, null for missing."""
    import json

    return json.loads(frame.to_json(orient="records"))


def token_counter(name: str) -> Callable[[Sequence[str]], list[int]]:
    """Return a counter of tokens: texts -> lengths, without special tokens."""
    from aceslm.core.values import ModelSpec
    from aceslm.engine.loading import load_tokenizer
    from aceslm.models.registry import resolve_model

    folder = Path(name).expanduser()
    if folder.is_dir():  # a tokenizer's files are enough; weights are not needed
        spec = ModelSpec(name=name, model_id=str(folder.resolve()), revision="", source="folder")
    else:
        spec = resolve_model(name)
    tokenizer = load_tokenizer(spec)

    def count(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    return count
