"""Which energy counters belong to a loaded engine.

attempt.meter = meter_of(engine)
"""

from __future__ import annotations

from aceslm.core.engine import Engine
from aceslm.core.machine import available_cores, machine_cores
from aceslm.run.energy import EnergyMeter
from aceslm.run.energy_counters import open_counters


def meter_of(engine: Engine) -> EnergyMeter:
    """Return a started meter of the device that an engine runs on; without counters it has the reason."""
    device = engine.info.device
    gpu_uuids: tuple[str, ...] = ()
    cores = whole = None
    if device.startswith("cuda"):
        from aceslm.engine.devices import used_gpus

        gpu_uuids = used_gpus()
    elif device == "cpu":
        cores, whole = available_cores(), machine_cores()
    meter = EnergyMeter(open_counters(device, gpu_uuids, cores, whole))
    meter.start()
    return meter
