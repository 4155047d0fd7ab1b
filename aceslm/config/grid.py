"""The YAML files a user writes, as strict pydantic models: grids, registries, cluster profiles.

    grid = load_grid(Path("configs/quickstart.yaml"), overrides=["limit=3"])

An unknown key, a wrong type or an unknown name raises `ConfigError`, which names the file, the key and
the nearest legal spelling. Nothing here touches a model, a scheduler or the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from aceslm.config.strict_yaml import Strict, parse, read_yaml
from aceslm.config.tracking import TrackingConfig
from aceslm.core.ace_config import AceConfig
from aceslm.core.errors import ConfigError
from aceslm.core.values import GenerationSettings
from aceslm.core.words import PLAYBOOK_MODES, Dtype, Mode, Quantization


class GenerationConfig(Strict):
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


class ResourcesConfig(Strict):
    """What one array task asks for; null means the model registry's figure."""

    gpus: int | None = Field(default=None, ge=0)
    cpus: int | None = Field(default=None, ge=1)
    mem_gb: int | None = Field(default=None, ge=1)
    time_min: int | None = Field(default=None, ge=1)


class Variant(Strict):
    """One of several `ace:` settings that a grid compares: `ace` holds the keys that differ.

    `seeds` are those of the grid that it is run with; null takes all.
    """

    label: str = Field(default="", pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$|^$")
    seeds: tuple[int, ...] | None = Field(default=None, min_length=1)
    ace: dict[str, Any] = Field(default_factory=dict)

    def settings(self, base: AceConfig) -> AceConfig:
        """Return the grid's `ace:` with this variant's keys."""
        return AceConfig.model_validate({**base.model_dump(), **self.ace}) if self.ace else base


class Primary(Strict):
    """The comparison that a run is for: `mode` (of `variant`) against baseline and scaffold, on one task."""

    task: str
    mode: Mode = "ace_frozen"
    variant: str = ""

    @property
    def treatment(self) -> str:
        """The name under which the comparison stands in the table."""
        return f"{self.mode} ({self.variant})" if self.variant else self.mode


class GridConfig(Strict):
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


def load_grid(
    path: Path, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> GridConfig:
    """Read a grid file, apply `key=value` overrides, then `values`; `name` defaults to the file's stem."""
    raw = read_yaml(path)
    if "name" not in raw:
        raw["name"] = path.stem.replace("_", "-").replace(" ", "-")
    for override in overrides:
        apply_override(raw, override)
    return parse(GridConfig, {**raw, **(values or {})}, path)


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
