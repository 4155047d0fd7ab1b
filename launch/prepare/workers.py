"""What the workers on this machine get: its GPUs and their share of its cores, without importing torch."""

from __future__ import annotations

import os
import subprocess
from functools import cache

from aceslm.core.machine import available_cores

_TIMEOUT_S = 20


def num_gpus() -> int:
    """Return how many NVIDIA GPUs this process may use."""
    visible = visible_gpus()
    return len(visible) if visible is not None else _gpus_of_this_machine()


def visible_gpus() -> list[str] | None:
    """Return the devices that CUDA_VISIBLE_DEVICES names (numbers or UUIDs); None where it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    return [name.strip() for name in visible.split(",") if name.strip() not in {"", "-1"}]


@cache
def gpu_name() -> str | None:
    """Return the name of the first GPU that this process may use."""
    first = next(iter(visible_gpus() or ()), "0")
    named = _nvidia_smi(f"--id={first}", "--query-gpu=name", "--format=csv,noheader")
    return named.stdout.strip() or None if named and named.returncode == 0 else None


def cores_of_a_worker(workers: int) -> int:
    """Return the cores that each of several workers gets."""
    return max(1, available_cores() // workers)


@cache
def _gpus_of_this_machine() -> int:
    listed = _nvidia_smi("-L")
    return len([line for line in listed.stdout.splitlines() if line.startswith("GPU ")]) if listed else 0


def _nvidia_smi(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Return what `nvidia-smi` says; None where it is not there, or hangs."""
    command = ["nvidia-smi", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
