"""Checkpoints of a tiny Llama with something wrong: what is damaged is named by the function."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Tensors = dict[str, Any]


def copy_of(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    """Write the weights of a folder again, changed."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    changed = {key: tensor.clone() for key, tensor in change(load_file(path)).items()}
    save_file(changed, path, metadata={"format": "pt"})


def renamed(rename: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda folder: rewrite(
        folder, lambda tensors: {rename(key): tensor for key, tensor in tensors.items()}
    )


def without(*keys: str) -> Callable[[Path], None]:
    return lambda folder: rewrite(
        folder, lambda tensors: {key: tensor for key, tensor in tensors.items() if key not in keys}
    )


def also(**tensors: Any) -> Callable[[Path], None]:
    """Add tensors; `__` in a name stands for a dot."""
    more = {key.replace("__", "."): tensor for key, tensor in tensors.items()}
    return lambda folder: rewrite(folder, lambda found: {**found, **more})


def configured(**settings: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))

    return change


def holding(name: str, content: bytes | str | Mapping[str, Any]) -> Callable[[Path], None]:
    """Replace a file."""

    def change(folder: Path) -> None:
        data = json.dumps(content) if isinstance(content, Mapping) else content
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)

    return change


def cut(name: str, part: float) -> Callable[[Path], None]:
    """Cut a file off behind a part of its bytes."""

    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * part)])

    return change


def removed(*patterns: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in [path for pattern in patterns for path in folder.glob(pattern)]:
            path.unlink()

    return change


def sharded(folder: Path) -> None:
    """Save the weights in several files with an index."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert (folder / "model.safetensors.index.json").exists()


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change
