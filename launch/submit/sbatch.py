"""Resources and a profile -> the script of an array or a job, as submitit writes and submits it.

    values = parameters(array.resources, profile, name, parallel=array.parallel)
    print(sbatch_text(values, folder, array.count, profile))

The text shown by `--dry-run` and the text submitted come from the same function of submitit.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aceslm.config.cluster import ClusterProfile
from aceslm.core.values import Resources
from launch.prepare.targets import site_of

_AGGREGATION = Resources(gpus=0, cpus=1, mem_gb=4, time_min=30)


def parameters(
    resources: Resources,
    profile: ClusterProfile,
    name: str,
    *,
    parallel: int = 1,
    dependency: str | None = None,
) -> dict[str, Any]:
    """Return submitit's parameters of one array (or job); everything is submitted held."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    environment = {**offline, "ACESLM_SITE": site_of(profile), **profile.environment}
    exports = [f"export {key}={shlex.quote(value)}" for key, value in environment.items()]
    values: dict[str, Any] = {
        "job_name": name,
        "time": resources.time_min,
        "mem": f"{resources.mem_gb}GB",
        "nodes": 1,
        "ntasks_per_node": profile.ranks_per_task,
        "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus if resources.gpus and not profile.gres else None,
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "gres": profile.gres if resources.gpus or "gpu" not in (profile.gres or "") else None,
        "wckey": profile.wckey,
        "dependency": dependency,
        "array_parallelism": parallel,
        "signal_delay_s": profile.signal_delay_s,
        "stderr_to_stdout": True,
        "srun_args": list(profile.srun_args),
        # since 22.05 srun does not inherit --cpus-per-task
        "setup": ["export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK", *exports, *profile.setup],
        "additional_parameters": {
            "hold": True,
            "requeue": True,
            "kill-on-invalid-dep": "yes",
            **profile.sbatch,
        },
    }
    return {key: value for key, value in values.items() if value is not None or key == "wckey"}


def sbatch_text(values: Mapping[str, Any], folder: Path, count: int, profile: ClusterProfile) -> str:
    """Return the script that submitit would hand to sbatch."""
    from submitit.slurm import slurm as submitit_slurm

    command = f"{python_command(profile)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    array = {"map_count": count} if count > 1 else {}
    return str(submitit_slurm._make_sbatch_string(command=command, folder=folder, **values, **array))


def executor(values: Mapping[str, Any], folder: Path, profile: ClusterProfile) -> Any:
    """Return a submitit executor for these parameters."""
    from submitit.slurm.slurm import SlurmExecutor

    made = SlurmExecutor(folder, max_num_timeout=10_000, python=python_command(profile))
    made.update_parameters(**values)
    return made


def python_command(profile: ClusterProfile) -> str:
    """Return the shell words that start Python on a node."""
    return profile.python or shlex.quote(sys.executable)


def aggregation_parameters(profile: ClusterProfile, name: str, dependency: str) -> dict[str, Any]:
    """Return the parameters of the job that merges when the arrays have ended."""
    return parameters(_AGGREGATION, one_rank(profile), name, dependency=dependency)


def one_rank(profile: ClusterProfile) -> ClusterProfile:
    """Return a profile for a job of a single process."""
    return profile.model_copy(update={"ranks_per_task": 1})
