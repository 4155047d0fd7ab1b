"""The energy counters of this machine's hardware, found by the package `zeus` (the extra `energy`).

    source = open_counters("cuda", gpu_uuids=("GPU-...",))     # Counters, or why there are none

NVML's total-energy counter for NVIDIA GPUs, RAPL for CPUs, the SoC's counters on Apple silicon. A counter
that would charge others' work (a MIG slice, a GPU or a CPU package that this process has not to itself) is
not read: the reason says so. AMD's GPUs are not read yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from aceslm.run.energy import Counter, Counters, EnergyUnknown, warn_once

log = logging.getLogger(__name__)


@cache
def open_counters(
    device: str, gpu_uuids: tuple[str, ...] = (), cores: int | None = None, machine_cores: int | None = None
) -> Counters | str:
    """Return the counters of a device, or the reason why there are none. Opened once a process.

    Args:
        device: as `EngineInfo.device` has it: `cuda`, `cuda:1`, `mps`, `cpu`, `none`.
        gpu_uuids: the GPUs that hold the model.
        cores: that this process may use, of `machine_cores`.
    """
    kind = device.partition(":")[0]
    try:
        if kind == "cuda":
            return _nvidia(gpu_uuids)
        if kind == "mps":
            return _apple()
        if kind == "cpu":
            return _rapl(cores, machine_cores)
        raise EnergyUnknown(f"nothing to measure on device '{device}'")
    except EnergyUnknown as unknown:
        log.info("energy is not measured: %s", unknown)
        return str(unknown)
    except Exception as error:  # zeus and the drivers below it raise what they like
        reason = f"the counters could not be opened: {type(error).__name__}: {error}"
        warn_once(reason)
        return reason


def _zeus_device() -> Any:
    try:
        import zeus.device
    except ImportError as error:
        raise EnergyUnknown(f"the package zeus is missing ({error}): pip install -e '.[energy]'") from None
    logging.getLogger("zeus").setLevel(logging.WARNING)
    return zeus.device


def _nvidia(uuids: tuple[str, ...]) -> Counters:
    device = _zeus_device()
    import pynvml

    if not uuids:
        raise EnergyUnknown("no NVIDIA GPU holds the model")
    seen = {}
    for gpu in device.get_gpus().gpus:
        uuid = pynvml.nvmlDeviceGetUUID(gpu.handle)
        seen[uuid if isinstance(uuid, str) else uuid.decode()] = gpu
    lacking = [uuid for uuid in uuids if uuid not in seen]
    if lacking:
        raise EnergyUnknown(f"NVML shows no GPU {lacking[0]} to this process (a MIG slice has no counter)")
    gpus = [seen[uuid] for uuid in uuids]
    for gpu in gpus:
        if _mig(pynvml, gpu.handle):
            raise EnergyUnknown("the GPU is cut into MIG slices and its counter charges all of them")
        if not gpu.supports_get_total_energy_consumption():
            raise EnergyUnknown("this GPU has no total-energy counter (Volta and later have)")
    names = ", ".join(f"{gpu.get_name()} ({uuid})" for uuid, gpu in zip(uuids, gpus, strict=True))
    return Counters(
        f"while answering, the whole board of {names}, by NVML; the host's CPUs are not in it",
        tuple(
            Counter(uuid, partial(_millijoules, gpu.get_total_energy_consumption))
            for uuid, gpu in zip(uuids, gpus, strict=True)
        ),
        lambda: _others_on(pynvml, [gpu.handle for gpu in gpus]),
    )


def _millijoules(read: Callable[[], float]) -> float:
    return read() / 1000


def _mig(pynvml: Any, handle: Any) -> bool:
    try:
        return bool(pynvml.nvmlDeviceGetMigMode(handle)[0])
    except pynvml.NVMLError:  # a GPU that cannot be cut
        return False


def _others_on(pynvml: Any, handles: Sequence[Any]) -> str | None:
    """Return why a GPU is not this process's own; a container may show no process at all."""
    for handle in handles:
        count = len(pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
        if count > 1:
            return f"{count} processes compute on this GPU and its counter cannot tell them apart"
    return None


def _rapl(cores: int | None, machine_cores: int | None) -> Counters:
    if cores is None or machine_cores is None or cores < machine_cores:
        raise EnergyUnknown(
            f"RAPL counts whole CPU packages and this process has {cores} of {machine_cores} cores: "
            "it would charge others' work"
        )
    device = _zeus_device()
    from zeus.device.cpu.common import ZeusCPUNoPermissionError
    from zeus.device.exception import ZeusBaseCPUError

    try:
        zones = [cpu for cpu in device.get_cpus().cpus if hasattr(cpu, "rapl_file")]
    except ZeusCPUNoPermissionError:
        reason = "RAPL's counters (/sys/class/powercap) may only be read by root here: ask for read access"
        warn_once(reason)
        raise EnergyUnknown(reason) from None
    except ZeusBaseCPUError:
        zones = []
    packages = [cpu for cpu in zones if cpu.rapl_file.name.startswith("package")]  # `psys` holds them all
    if not packages:
        raise EnergyUnknown("this machine shows no RAPL counters (/sys/class/powercap/intel-rapl)")
    files = [file for cpu in packages for file in (cpu.rapl_file, cpu.dram) if file is not None]
    names = ", ".join(file.name for file in files)
    # read here, not by zeus: its reader starts a process for wrap-arounds, which outlives a killed worker
    return Counters(
        f"while answering, {names} by RAPL: all that ran on this machine meanwhile",
        tuple(
            Counter(file.name, partial(_microjoules, file.energy_uj_path), file.max_energy_range_uj / 1e6)
            for file in files
        ),
    )


def _microjoules(path: str) -> float:
    with open(path, encoding="ascii") as file:  # noqa: PTH123
        return int(file.read()) / 1e6


def _apple() -> Counters:
    soc = _zeus_device().get_soc()
    parts = ("cpu_total_mj", "gpu_mj", "dram_mj", "ane_mj")
    found = soc.get_total_energy_consumption()
    shown = [part for part in parts if getattr(found, part, None) is not None]
    if "gpu_mj" not in shown:
        raise EnergyUnknown("this machine shows no counter of its GPU")
    names = ", ".join(part.split("_")[0].upper() for part in shown)

    def read_j() -> float:
        now = soc.get_total_energy_consumption()
        return float(sum(getattr(now, part) for part in shown)) / 1000

    return Counters(
        f"while answering, {names} of the Apple SoC: all that ran on this machine meanwhile",
        (Counter("the SoC", read_j),),
    )
