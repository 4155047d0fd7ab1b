"""Checks of the environment: one line each, with the fix. Runs on a login node or a compute node."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aceslm.config.folders import cache_dir
from aceslm.config.registry import model_registry
from aceslm.core.errors import LaunchError
from aceslm.core.machine import available_cores, free_memory_bytes, machine_cores
from aceslm.models.default_model import embedded_folder
from launch.slurm import client as slurm

_ANSWER_S = 3.0  # for a W&B server


@dataclass(frozen=True, slots=True)
class Check:
    """One line: `state` is ok, warn or fail; `fix` says what to type."""

    name: str
    state: str
    found: str
    fix: str = ""


def examine() -> list[Check]:
    """Run every check; a check that breaks is a failed check."""
    checks: list[Check] = []
    for look in _CHECKS:
        try:
            checks += list(look())
        except Exception as error:
            checks.append(Check(look.__name__.strip("_"), "fail", f"{type(error).__name__}: {error}"))
    return checks


def draft_profile() -> str:
    """Draft a cluster profile from what sinfo and sacctmgr say, as YAML text with comments.

    Raises:
        LaunchError: no controller answers.
    """
    slurm.require()
    names = slurm.partitions()
    limits = slurm.partition_limits(names[0]) if names else None
    if limits is None:
        raise LaunchError("sinfo shows no partition: ask your site")
    accounts = _accounts()
    gres = sorted({word for word in slurm.run(["sinfo", "-h", "-o", "%G"]).split() if word != "(null)"})
    features = sorted({word for word in slurm.run(["sinfo", "-h", "-o", "%f"]).split() if word != "(null)"})
    time_min = min(60, limits.max_time_min or 60)
    return (
        "# drafted from sinfo, scontrol and sacctmgr: edit it, save it as configs/clusters/<site>.yaml\n"
        f"description: Slurm {slurm.version()}\n"
        f"partition: {names[0]}  # there are: {', '.join(names)}\n"
        f"account: {accounts[0] if accounts else 'null'}  # yours: {', '.join(accounts) or 'none found'}\n"
        "qos: null\n"
        f"constraint: null  # features: {', '.join(features) or 'none'}\n"
        f"gres: null  # generic resources: {', '.join(gres) or 'none'}; null uses the model's own `gpus`\n"
        f"time_min: {time_min}  # the partition's limit: {limits.max_time_min or 'none'}\n"
        f"max_array_size: {slurm.max_array_size()}\n"
        "max_parallel: 16\n"
        "max_submitted: null\n"
        f"# {limits.nodes} nodes, each with {limits.cpus_per_node} CPUs and {limits.mem_mb_per_node} MB\n"
    )


def _accounts() -> list[str]:
    user = os.environ.get("USER") or "root"
    try:
        text = slurm.run(
            ["sacctmgr", "-n", "-P", "show", "associations", f"user={user}", "format=account"], timeout_s=15
        )
    except LaunchError:
        return []
    return sorted(set(text.split()))


def _python() -> Iterator[Check]:
    good = sys.version_info >= (3, 11)
    yield Check(
        "python", "ok" if good else "fail", platform.python_version(), "" if good else "use Python 3.11+"
    )


def _torch() -> Iterator[Check]:
    from aceslm.engine.devices import choose_device, choose_dtype, dtype_name, torch_version

    device = choose_device("auto")
    found = f"{torch_version()}, {device}, {dtype_name(choose_dtype('auto', device))}"
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        yield Check(
            "torch", "warn", found, "nvidia-smi is here, but torch sees no GPU: install a CUDA build of torch"
        )
    else:
        yield Check("torch", "ok", found)


def _cores() -> Iterator[Check]:
    yield Check("cores", "ok", f"{available_cores()} usable of {machine_cores()}")


def _memory() -> Iterator[Check]:
    yield Check("memory", "ok", f"{free_memory_bytes() / 2**30:,.1f} GiB free for this process")


def _bitsandbytes() -> Iterator[Check]:
    if importlib.util.find_spec("bitsandbytes") is None:
        yield Check("bitsandbytes", "warn", "not installed", "pip install bitsandbytes (for int8 and nf4)")
        return
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from importlib.metadata import version

        yield Check("bitsandbytes", "ok", version("bitsandbytes"))


def _slurm() -> Iterator[Check]:
    if not slurm.installed():
        yield Check("slurm", "warn", "no sbatch on this machine", "runs are local: --cluster local")
        return
    if not slurm.answers():
        yield Check("slurm", "fail", "the controller does not answer", "scontrol ping; ask your site")
        return
    yield Check("slurm", "ok", f"{slurm.version()}, partitions {', '.join(slurm.partitions())}")
    if slurm.accounting(["1"]) is None:
        yield Check(
            "sacct", "warn", "does not answer", "works without: failure classes come from the files alone"
        )
    else:
        yield Check("sacct", "ok", "answers")


def _wandb() -> Iterator[Check]:
    if importlib.util.find_spec("wandb") is None:
        yield Check("wandb", "warn", "not installed", "pip install wandb, if you want to track runs there")
        return
    from aceslm.tracking import server

    if not server.has_key():
        found, fix = f"no key for {server.base_url()}", "wandb login; without: tracked offline, `aceslm sync`"
        yield Check("wandb", "warn", found, fix)
    elif reason := server.silence(_ANSWER_S):
        yield Check("wandb", "warn", f"key found, {reason}", "tracked offline here; `aceslm sync` uploads")
    else:
        yield Check("wandb", "ok", f"key found, {server.base_url()} answers")


def _caches() -> Iterator[Check]:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    for name, folder, variable in (("cache", cache_dir(), "ACESLM_CACHE"), ("hub cache", home, "HF_HOME")):
        yield _writable(name, folder, f"set {variable} to a folder that you may write and the nodes can read")


def _embedded() -> Iterator[Check]:
    name = next(name for name, entry in model_registry().items() if entry.source == "embedded")
    if (embedded_folder() / "config.json").exists():
        yield Check("default model", "ok", f"{name} is in the cache")
    else:
        yield Check(
            "default model", "warn", f"{name} is not in the cache", f"aceslm prestage --model-id {name}"
        )


def _folders() -> Iterator[Check]:
    for name in ("results", "logs"):
        yield _writable(f"{name}/", Path(name), "run aceslm from a folder that you may write")


def _writable(name: str, folder: Path, fix: str) -> Check:
    existing = folder
    while not existing.exists():
        existing = existing.parent
    good = os.access(existing, os.W_OK) and existing.is_dir()
    return Check(name, "ok" if good else "fail", str(folder), "" if good else fix)


_CHECKS = (
    _python,
    _torch,
    _cores,
    _bitsandbytes,
    _memory,
    _slurm,
    _wandb,
    _caches,
    _embedded,
    _folders,
)
