"""Cluster profiles: `configs/clusters/*.yaml`, where and how array tasks run."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from aceslm.config.folders import repository_root
from aceslm.config.strict_yaml import Strict, parse, read_yaml
from aceslm.core.errors import ConfigError, nearest


class ClusterProfile(Strict):
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
    sbatch: dict[str, str | int | bool] = Field(default_factory=dict)
    srun_args: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    python: str | None = None
    wckey: str | None = None


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
