"""Single options that several verbs share, spelt once (groups of them: `launch.verbs.groups`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

RunArgument = Annotated[
    Path, typer.Argument(help="A run directory (results/<name>-<digest>).", metavar="RUN")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cuda, cuda:N, mps or cpu.")]
BatchOption = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Prompts per batch; by default chosen for the device."),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only the first N samples of each task.")
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", help="shared_prefix (auto), generate, scripted.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a grid key, e.g. --set generation.max_new_tokens=16."),
]
MixedOption = Annotated[
    bool,
    typer.Option("--allow-mixed", help="Go on although code, engine or dtype changed since the run began."),
]
ResultsOption = Annotated[Path | None, typer.Option(help="Where run directories go; default results/.")]


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
