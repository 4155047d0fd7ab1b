"""Which device, which dtype, how many threads: chosen from what is really there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from aceslm.core import machine
from aceslm.core.errors import EngineError
from aceslm.core.machine import available_cores

log = logging.getLogger(__name__)

# The rest is for keys, values and activations.
_WEIGHTS_SHARE = 0.8

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def choose_device(wanted: str) -> torch.device:
    """Return the device to use; `auto` prefers CUDA, then MPS, then the CPU.

    Raises:
        EngineError: the wanted device is not there.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        log.info("no accelerator found: using the CPU with %d cores", available_cores())
        return torch.device("cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise EngineError(f"--device {wanted}: expected auto, cuda, cuda:N, mps or cpu") from None
    usable = {
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if not usable.get(device.type, False):
        raise EngineError(f"--device {wanted}: this machine has no such device; try --device auto")
    return device


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Return the dtype to compute in; `auto` is bf16 where the hardware has it, else float32."""
    if wanted != "auto":
        return _DTYPES[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """Return `bfloat16` for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


def torch_version() -> str:
    """Return torch's version."""
    return str(torch.__version__)


def follow_cores() -> None:
    """Let torch use exactly the cores this process has."""
    cores = available_cores()
    if torch.get_num_threads() != cores:
        torch.set_num_threads(cores)


def accelerator_peak_bytes() -> int | None:
    """Return the most memory that tensors took since the last call, summed over CUDA devices.

    The weights count for as long as they are there. None where there is no CUDA device.
    """
    if not torch.cuda.is_available():
        return None
    devices = range(torch.cuda.device_count())
    peak = sum(torch.cuda.max_memory_allocated(index) for index in devices)
    for index in devices:
        torch.cuda.reset_peak_memory_stats(index)
    return peak


def gpu_name(device: str) -> str:
    """Return the name of a CUDA device (`cuda`, `cuda:1`)."""
    return str(torch.cuda.get_device_name(torch.device(device)))


def used_gpus() -> tuple[str, ...]:
    """Return the UUIDs of the CUDA devices that hold tensors of this process, as NVML writes them."""
    used = [n for n in range(torch.cuda.device_count()) if torch.cuda.memory_allocated(n)]
    return tuple(f"GPU-{torch.cuda.get_device_properties(n).uuid}" for n in used)


def free_memory_bytes(device: torch.device) -> int:
    """Return the memory that a device has left."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return machine.free_memory_bytes()


def needs_several_devices(weights_bytes: int, free_bytes: Sequence[int]) -> bool:
    """Return whether weights have to be spread: one of several devices would not hold them and its caches.

    Args:
        free_bytes: of each visible device, the one that would be used first.
    """
    return len(free_bytes) > 1 and weights_bytes > free_bytes[0] * _WEIGHTS_SHARE


def free_cuda_bytes() -> list[int]:
    """Return the free memory of every visible CUDA device."""
    return [int(torch.cuda.mem_get_info(index)[0]) for index in range(torch.cuda.device_count())]


def memory_error(error: BaseException) -> bool:
    """Return whether an exception means that a device or the host ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    signs = ("out of memory", "DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "not enough memory")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


@cache
def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 natively (AVX512-BF16, AMX, or Arm's bf16)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16"))
