"""The YAML files a user writes, as strict pydantic models: grids, registries, cluster profiles.

    grid = load_grid(Path("configs/quickstart.yaml"), overrides=["limit=3"])

An unknown key, a wrong type or an unknown name raises `ConfigError`, which names the file, the key and
the nearest legal spelling. Nothing here touches a model, a scheduler or the network.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from aceslm.config.strict_yaml import parse, read_yaml
from aceslm.config.tracking import TrackingConfig
from aceslm.core.ace_config import AceConfig
from aceslm.core.errors import ConfigError, nearest
from aceslm.core.records import GenerationSettings

Mode = Literal["baseline", "scaffold", "ace", "ace_frozen", "ace_shuffled", "ace_neutral", "ace_placebo"]
PLAYBOOK_MODES = frozenset({"ace", "ace_frozen", "ace_shuffled", "ace_neutral", "ace_placebo"})
Quantization = Literal["none", "int8", "nf4"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]
AnswerType = Literal["choice", "number", "span", "label"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GenerationConfig(_Strict):
    """Decoding settings; the same for every mode. Temperature 0 is greedy."""

    max_new_tokens: int | None = Field(default=None, ge=1, le=32768)
    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0.0, lt=1.0)
    repetition_penalty: float = Field(default=1.0, gt=0.0, le=10.0)
    stop: tuple[str, ...] = ()

    def settings(self) -> GenerationSettings:
        return GenerationSettings(**self.model_dump())


class ResourcesConfig(_Strict):
    """What one array task asks for; null means the model registry's figure."""

    gpus: int | None = Field(default=None, ge=0)
    cpus: int | None = Field(default=None, ge=1)
    mem_gb: int | None = Field(default=None, ge=1)
    time_min: int | None = Field(default=None, ge=1)


class Variant(_Strict):
    """One of several `ace:` settings that a grid compares: `ace` holds the keys that differ.

    `seeds` are those of the grid that it is run with; null takes all.
    """

    label: str = Field(default="", pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$|^$")
    seeds: tuple[int, ...] | None = Field(default=None, min_length=1)
    ace: dict[str, Any] = {}

    def settings(self, base: AceConfig) -> AceConfig:
        """Return the grid's `ace:` with this variant's keys."""
        return AceConfig.model_validate({**base.model_dump(), **self.ace}) if self.ace else base


class Primary(_Strict):
    """The comparison that a run is for: `mode` (of `variant`) minus its reference, on one task."""

    task: str
    mode: Mode = "ace_frozen"
    variant: str = ""

    @property
    def treatment(self) -> str:
        """The name under which the comparison stands in the table."""
        return f"{self.mode} ({self.variant})" if self.variant else self.mode


class GridConfig(_Strict):
    """One grid: models x quantization x tasks x modes x seeds. Only the first three keys are required."""

    models: tuple[str, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    modes: tuple[Mode, ...] = Field(min_length=1)
    name: str = Field(default="grid", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    quantization: tuple[Quantization, ...] = Field(default=("none",), min_length=1)
    dtype: Dtype = "auto"
    skip: int = Field(default=0, ge=0)
    limit: int | None = Field(default=None, ge=1)
    primary: Primary | None = None
    shard_size: int | None = Field(default=None, ge=1, le=100_000)
    shard_minutes: float = Field(default=30.0, gt=0)
    batch_size: int | None = Field(default=None, ge=1)
    engine: Literal["auto", "shared_prefix", "generate", "scripted"] = "auto"
    generation: GenerationConfig = GenerationConfig()
    ace: AceConfig = AceConfig()
    variants: tuple[Variant, ...] = ()
    tracking: TrackingConfig = TrackingConfig()
    resources: ResourcesConfig = ResourcesConfig()

    @field_validator("models", "tasks", "modes", "seeds", "quantization")
    @classmethod
    def _no_duplicates(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        repeated = sorted({str(value) for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} is listed twice")
        return values

    @model_validator(mode="after")
    def _sound_variants(self) -> Self:
        labels = [variant.label for variant in self.variants]
        if "" in labels or len(set(labels)) < len(labels):
            raise ValueError("each entry of 'variants' needs a label of its own")
        for variant in self.variants:
            try:
                parse(AceConfig, {**self.ace.model_dump(), **variant.ace}, f"variant '{variant.label}'")
            except ConfigError as error:
                raise ValueError(str(error)) from None
            if unknown := set(variant.seeds or ()) - set(self.seeds):
                raise ValueError(
                    f"variant '{variant.label}' has seed {min(unknown)}, which is not among the grid's seeds"
                )
        return self

    @model_validator(mode="after")
    def _sound_primary(self) -> Self:
        if (primary := self.primary) is None:
            return self
        labels = [variant.label for variant in self.variants] if primary.mode in PLAYBOOK_MODES else []
        checks = (("task", primary.task, self.tasks), ("mode", primary.mode, self.modes))
        for key, name, known in (*checks, ("variant", primary.variant, tuple(labels) or ("",))):
            if name not in known:
                have = ", ".join(filter(None, known)) or "none"
                raise ValueError(f"primary.{key}: '{name}' is not in this grid (it has {have})")
        if not {"scaffold", "baseline"} & set(self.modes) - {primary.mode}:
            raise ValueError(f"primary: '{primary.mode}' needs a reference: add 'scaffold' to 'modes'")
        return self

    def ace_settings(self) -> tuple[AceConfig, ...]:
        """Return the `ace:` settings of this grid, one for each variant."""
        return tuple(variant.settings(self.ace) for variant in self.variants) or (self.ace,)


class ModelResources(_Strict):
    """What a model needs by default on a cluster."""

    gpus: int = Field(default=1, ge=0)
    cpus: int = Field(default=4, ge=1)
    mem_gb: int = Field(default=16, ge=1)
    time_min: int = Field(default=60, ge=1)


class ModelEntry(_Strict):
    """One entry of `configs/models.yaml`. `revision` null: `aceslm prestage` resolves and locks it."""

    id: str
    source: Literal["hub", "embedded", "scripted"] = "hub"
    revision: str | None = None
    dtype: Dtype = "auto"
    context_window: int | None = Field(default=None, ge=1)
    chat_template_args: dict[str, Any] = {}
    gated: bool = False
    trust_remote_code: bool = False
    allow_bin: bool = False
    resources: ModelResources = ModelResources()


class TaskEntry(_Strict):
    """One entry of `configs/tasks.yaml`. `path` is relative to the repository.

    `importer` is the kind (and options) of `aceslm data import` that makes the file from a published dataset.
    """

    path: str
    importer: str | None = None
    domain: str
    answer_type: AnswerType | None = None
    eval_split: str | None = None
    description: str = ""


class ClusterProfile(_Strict):
    """One file of `configs/clusters/`: where and how array tasks run. Never part of a result's identity.

    `cpus mem_gb gpus time_min` replace what the model registry and the grid ask for. `python` is a command
    prefix that ends in a Python (a container: `apptainer exec --nv image.sif python`). `sbatch` holds
    further sbatch keys. `max_parallel` is a budget over all arrays of a submission, `max_submitted` a cap on
    what is in the queue at once. `ranks_per_task` processes of one task share its shards.
    """

    description: str = ""
    workers: int | None = Field(default=None, ge=1)
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = None
    cpus: int | None = Field(default=None, ge=1)
    mem_gb: int | None = Field(default=None, ge=1)
    gpus: int | None = Field(default=None, ge=0)
    time_min: int | None = Field(default=None, ge=1)
    ranks_per_task: int = Field(default=1, ge=1)
    shards_per_task: int = Field(default=1, ge=1)
    max_array_size: int | None = Field(default=None, ge=1)
    max_parallel: int | None = Field(default=None, ge=1)
    max_submitted: int | None = Field(default=None, ge=1)
    max_requeues: int = Field(default=20, ge=0)
    signal_delay_s: int = Field(default=90, ge=1)
    sbatch: dict[str, str | int | bool] = {}
    srun_args: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    python: str | None = None
    wckey: str | None = None


class LockedModel(_Strict):
    """One entry of `configs/models.lock.yaml`: what `prestage` saw."""

    id: str
    revision: str
    files: dict[str, str] = {}
    date: str


_Model = TypeVar("_Model", bound=BaseModel)


def repository_root() -> Path:
    """Return the clone that holds `configs/` and `data/` (or `$ACESLM_ROOT`)."""
    return Path(os.environ.get("ACESLM_ROOT") or Path(__file__).resolve().parent.parent)


def cache_dir() -> Path:
    """Return the folder of conversions: `$ACESLM_CACHE`, else `aceslm` in the user's cache directory."""
    if explicit := os.environ.get("ACESLM_CACHE"):
        return Path(explicit).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aceslm"


def load_grid(path: Path, overrides: Sequence[str] = ()) -> GridConfig:
    """Read a grid file and apply `key=value` overrides; `name` defaults to the file's stem."""
    raw = read_yaml(path)
    if "name" not in raw:
        raw["name"] = path.stem.replace("_", "-").replace(" ", "-")
    for override in overrides:
        apply_override(raw, override)
    return parse(GridConfig, raw, path)


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


def cluster_profile(name: str) -> ClusterProfile:
    """Return `configs/clusters/<name>.yaml`, or the profile in a YAML file given by its path."""
    if name.endswith((".yaml", ".yml")):
        return parse(ClusterProfile, read_yaml(Path(name)), name)
    folder = repository_root() / "configs" / "clusters"
    path = folder / f"{name}.yaml"
    if not path.exists():
        known = [found.stem for found in folder.glob("*.yaml")]
        raise ConfigError(f"--profile: there is no cluster profile '{name}'{nearest(name, known)}")
    return parse(ClusterProfile, read_yaml(path), path)


def _registry(file_name: str, model: type[_Model]) -> dict[str, _Model]:
    path = repository_root() / "configs" / file_name
    return {name: parse(model, entry, path, prefix=name) for name, entry in read_yaml(path).items()}


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one `key.subkey=value` in a grid's raw values; the value is read as YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key=value, for example --set limit=10")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from None
    *parents, last = key.split(".")
    node = raw
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override}: '{parent}' holds a value, not keys")
    node[last] = value
