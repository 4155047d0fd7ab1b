"""The registries: `configs/models.yaml`, `configs/tasks.yaml` and the lock that `prestage` writes.

entry = model_registry()["smollm2-135m"]
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field

from aceslm.config.folders import repository_root
from aceslm.config.strict_yaml import Strict, parse, read_yaml
from aceslm.core.words import AnswerType, Dtype, Split


class ModelResources(Strict):
    """What a model needs by default on a cluster."""

    gpus: int = Field(default=1, ge=0)
    cpus: int = Field(default=4, ge=1)
    mem_gb: int = Field(default=16, ge=1)
    time_min: int = Field(default=60, ge=1)


class ModelEntry(Strict):
    """One entry of `configs/models.yaml`. `revision` null: `aceslm prestage` resolves and locks it."""

    id: str
    source: Literal["hub", "embedded", "scripted"] = "hub"
    revision: str | None = None
    dtype: Dtype = "auto"
    context_window: int | None = Field(default=None, ge=1)
    chat_template_args: dict[str, Any] = Field(default_factory=dict)
    gated: bool = False
    trust_remote_code: bool = False
    allow_bin: bool = False
    resources: ModelResources = ModelResources()


class TaskEntry(Strict):
    """One entry of `configs/tasks.yaml`. `path` is relative to the repository.

    `importer` is the kind (and options) of `aceslm data import` that makes the file from a published dataset.
    """

    path: str
    importer: str | None = None
    domain: str
    answer_type: AnswerType | None = None
    eval_split: Split | None = None
    description: str = ""


class LockedModel(Strict):
    """One entry of `configs/models.lock.yaml`: what `prestage` saw."""

    id: str
    revision: str
    files: dict[str, str] = Field(default_factory=dict)
    date: str


_Model = TypeVar("_Model", bound=BaseModel)


@cache
def model_registry() -> Mapping[str, ModelEntry]:
    """Return `configs/models.yaml`: name -> entry."""
    return _registry("models.yaml", ModelEntry)


@cache
def task_registry() -> Mapping[str, TaskEntry]:
    """Return `configs/tasks.yaml`: name -> entry."""
    return _registry("tasks.yaml", TaskEntry)


def model_lock() -> Mapping[str, LockedModel]:
    """Return `configs/models.lock.yaml`: hub id -> what `prestage` resolved; empty where there is none."""
    path = lock_path()
    if not path.exists():
        return {}
    return {name: parse(LockedModel, entry, path, prefix=name) for name, entry in read_yaml(path).items()}


def lock_path() -> Path:
    """Return the path of `configs/models.lock.yaml`."""
    return repository_root() / "configs" / "models.lock.yaml"


def _registry(file_name: str, model: type[_Model]) -> dict[str, _Model]:
    path = repository_root() / "configs" / file_name
    return {name: parse(model, entry, path, prefix=name) for name, entry in read_yaml(path).items()}
