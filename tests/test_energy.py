"""Joules: right where counters tell, null with a reason elsewhere; energy never costs a row."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from shards import merged, work_shard
from test_run import planned, run_first

from aceslm.core.errors import EngineError
from aceslm.core.paths import AttemptName, RunPaths
from aceslm.engine.scripted import ScriptedEngine
from aceslm.plan.files import load_plans
from aceslm.run import energy
from aceslm.run import energy_counters as counters_module
from aceslm.run.energy import Counter, Counters, EnergyMeter
from aceslm.run.energy_counters import open_counters
from aceslm.run.work import FlushPolicy, StopFlag

GPU = "GPU-0aa-1"


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    """Counters are opened and warnings given once a process: each test is to see its own."""
    open_counters.cache_clear()
    energy.warn_once.cache_clear()
    yield
    open_counters.cache_clear()


@dataclass
class Bench:
    """A clock and a counter that a test moves: `spend` seconds at so many watts."""

    now_s: float = 100.0
    joules: float = 5_000.0
    others: str | None = None
    broken: bool = False
    range_j: float | None = None

    def spend(self, seconds: float, watts: float) -> None:
        self.now_s += seconds
        self.joules += seconds * watts
        if self.range_j is not None:
            self.joules %= self.range_j

    def read_j(self) -> float:
        if self.broken:
            raise RuntimeError("GPU is lost")
        return self.joules

    def meter(self, *_: object) -> EnergyMeter:
        source = Counters("a fake GPU", (Counter("gpu", self.read_j, self.range_j),), lambda: self.others)
        meter = EnergyMeter(source, lambda: self.now_s)
        meter.start()
        return meter


class Working(ScriptedEngine):
    """Takes `seconds` at `watts` of a bench for each answer, alone in its batch."""

    def __init__(self, bench: Bench, seconds: float = 0.5, watts: float = 200.0, raise_at: int = 0) -> None:
        super().__init__()
        self.bench, self.seconds, self.watts, self.raise_at = bench, seconds, watts, raise_at

    def generate(self, prompts: Any, settings: Any, should_stop: Any = None) -> Any:
        from dataclasses import replace

        for n, completion in enumerate(super().generate(prompts, settings, should_stop), start=1):
            self.bench.spend(self.seconds, self.watts)
            if n == self.raise_at:
                raise EngineError("told to break")
            yield replace(completion, latency_ms=self.seconds * 1000, batch_size=1)


def run_metered(paths: RunPaths, bench: Bench, engine: Any, **options: Any) -> Any:
    (plan,) = load_plans(paths)
    return work_shard(
        paths, plan, plan.shards[0], lambda _: engine, AttemptName("j1"), meter_of=bench.meter, **options
    )


def ended(paths: RunPaths) -> Any:
    (path,) = (paths.root / "attempts").glob("*/*.ended.json")
    return json.loads(path.read_text())


def test_a_take_is_what_the_counters_counted_since_the_last_one() -> None:
    bench = Bench()
    meter = bench.meter()
    bench.spend(2.0, 300.0)
    assert meter.take() == pytest.approx(600.0)
    bench.spend(3.0, 100.0)
    assert meter.take() == pytest.approx(300.0)
    assert meter.figures() == {"energy_j": 900.0, "energy_scope": "a fake GPU", "energy_reason": None}


def test_the_energy_of_a_shard_is_shared_out_over_its_rows_and_adds_up(
    tmp_path: Path, many_samples: Path
) -> None:
    paths, bench = planned(tmp_path, many_samples), Bench()
    run_metered(paths, bench, Working(bench), policy=FlushPolicy(rows=10))
    assert merged(paths).complete
    frame = pd.read_parquet(paths.results)
    assert frame["energy_j"].sum() == pytest.approx(60 * 0.5 * 200.0)
    assert frame["energy_j"].tolist() == pytest.approx([100.0] * 60)
    (done,) = paths.shards.glob("*.done.json")
    timings = json.loads(done.read_text())["timings"]
    assert (timings["energy_j"], timings["energy_reason"]) == (pytest.approx(6000.0), None)
    assert timings["energy_scope"] == "a fake GPU"


def test_rows_that_ran_together_share_by_their_time_in_the_engine() -> None:
    row = SimpleNamespace
    rows = [
        row(latency_ms=3000.0, batch_size=2),
        row(latency_ms=500.0, batch_size=1),
        row(latency_ms=None, batch_size=None),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(energy, "replace", lambda record, energy_j: energy_j)
        assert energy.share_out(rows, 80.0) == [60.0, 20.0, 0.0]  # type: ignore[arg-type,comparison-overlap]


def test_rows_are_held_until_their_batch_is_long_enough_to_be_measured(
    tmp_path: Path, many_samples: Path
) -> None:
    paths, bench, stop = planned(tmp_path, many_samples), Bench(), StopFlag()
    sizes: list[int] = []

    class Watched(Working):
        def generate(self, *arguments: Any) -> Any:
            for n, completion in enumerate(super().generate(*arguments), start=1):
                stop.reason = "preempted" if n == 50 else None
                yield completion

    engine = Watched(bench, seconds=0.05)
    run_metered(paths, bench, engine, policy=FlushPolicy(rows=3), stop=stop)
    (plan,) = load_plans(paths)
    sizes = [len(pd.read_parquet(part)) for part in sorted(paths.parts(plan.shards[0].shard_id).iterdir())]
    assert sizes[0] >= 20
    assert sum(sizes) >= 50


def test_a_window_shorter_than_the_counters_can_tell_is_null() -> None:
    bench = Bench()
    meter = bench.meter()
    bench.spend(0.3, 300.0)
    assert meter.take() is None
    assert meter.figures()["energy_j"] is None
    assert "0.30 s are too short" in meter.figures()["energy_reason"]


def test_a_failed_attempt_says_what_it_has_spent(tmp_path: Path, many_samples: Path) -> None:
    paths, bench = planned(tmp_path, many_samples), Bench()
    with pytest.raises(EngineError):
        run_metered(paths, bench, Working(bench, raise_at=20))
    assert ended(paths)["energy_j"] == pytest.approx(20 * 100.0)


@pytest.mark.parametrize("trouble", ["reset", "lost", "strangers"])
def test_a_counter_that_fails_on_the_way_is_null_with_one_warning_and_costs_no_row(
    trouble: str, tmp_path: Path, many_samples: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths, bench = planned(tmp_path, many_samples), Bench()

    class Troubled(Working):
        def generate(self, *arguments: Any) -> Any:
            for n, completion in enumerate(super().generate(*arguments), start=1):
                if n == 30:
                    bench.joules = 0.0 if trouble == "reset" else bench.joules
                    bench.broken = trouble == "lost"
                    bench.others = "2 processes compute on this GPU" if trouble == "strangers" else None
                yield completion

    with caplog.at_level(logging.WARNING):
        run_metered(paths, bench, Troubled(bench), policy=FlushPolicy(rows=10))
    assert merged(paths).complete
    frame = pd.read_parquet(paths.results)
    assert len(frame) == 60
    assert frame["energy_j"].notna().sum() == 20
    facts = ended(paths)
    assert facts["energy_j"] is None
    wanted = {"reset": "went back", "lost": "GPU is lost", "strangers": "2 processes compute"}[trouble]
    assert wanted in facts["energy_reason"]
    assert len([one for one in caplog.records if "energy is not measured" in one.getMessage()]) == 1


def test_a_counter_that_starts_again_at_its_range_is_followed() -> None:
    bench = Bench(joules=261_900.0, range_j=262_143.0)
    meter = bench.meter()
    bench.spend(10.0, 60.0)
    assert bench.joules < 400
    assert meter.take() == pytest.approx(600.0)


def test_a_counter_that_may_have_gone_round_twice_is_null() -> None:
    bench = Bench(range_j=262_143.0)
    meter = bench.meter()
    bench.spend(600.0, 500.0)
    assert meter.take() is None
    assert "gone round twice" in meter.figures()["energy_reason"]


def test_on_a_machine_without_counters_energy_is_null_and_the_attempt_says_why(
    tmp_path: Path, many_samples: Path
) -> None:
    paths = planned(tmp_path, many_samples)
    run_first(paths)
    assert merged(paths).complete
    assert pd.read_parquet(paths.results)["energy_j"].isna().all()
    facts = ended(paths)
    assert facts["energy_j"] is None
    assert facts["energy_reason"] == "nothing to measure on device 'none'"


def test_without_the_extra_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "zeus.device", None)
    assert "pip install -e '.[energy]'" in str(open_counters("cuda", (GPU,)))


# -- through the real zeus, over fake hardware ---------------------------------------------------------------


@dataclass
class FakeNvml:
    """Stands in for the driver below `pynvml`: one GPU, its counter in millijoules."""

    millijoules: int = 1_000_000
    processes: int = 1
    mig: int = 0
    architecture: int = 9
    uuids: tuple[str, ...] = (GPU,)
    calls: list[str] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import pynvml
        import zeus.device.gpu as zeus_gpu
        from zeus.device.gpu.nvidia import nvml_is_available

        def unsupported(*_: object) -> object:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

        functions = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: len(self.uuids),
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetC2cModeInfoV": unsupported,
            "nvmlDeviceGetUUID": lambda index: self.uuids[index],
            "nvmlDeviceGetName": lambda _: "Fake GPU",
            "nvmlDeviceGetArchitecture": lambda _: self.architecture,
            "nvmlDeviceGetMigMode": (lambda _: [1, 1]) if self.mig else unsupported,
            "nvmlDeviceGetComputeRunningProcesses": lambda _: [object()] * self.processes,
            "nvmlDeviceGetTotalEnergyConsumption": lambda _: self.millijoules,
        }
        for name, function in functions.items():
            monkeypatch.setattr(pynvml, name, function)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(zeus_gpu, "_gpus", None)
        nvml_is_available.cache_clear()


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    from zeus.device.gpu.nvidia import nvml_is_available

    fake = FakeNvml()
    fake.install(monkeypatch)
    yield fake
    nvml_is_available.cache_clear()


def test_nvml_is_read_through_zeus_in_joules(nvml: FakeNvml) -> None:
    source = open_counters("cuda", (GPU,))
    assert isinstance(source, Counters), source
    clock = iter([0.0, 2.0])
    meter = EnergyMeter(source, lambda: next(clock))
    meter.start()
    nvml.millijoules += 612_500
    assert meter.take() == pytest.approx(612.5)
    assert "Fake GPU" in source.scope
    assert "CPUs are not in it" in source.scope


def test_a_gpu_that_others_compute_on_is_not_charged_to_us(nvml: FakeNvml) -> None:
    source = open_counters("cuda", (GPU,))
    nvml.processes = 2
    meter = EnergyMeter(source)
    meter.start()
    assert "2 processes compute on this GPU" in meter.figures()["energy_reason"]


def test_a_mig_slice_an_old_gpu_and_an_unseen_gpu_have_no_figure(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "shows no GPU MIG-1" in str(open_counters("cuda", ("MIG-1",)))
    nvml.architecture = 4
    reason = str(open_counters("cuda:0", (GPU,)))
    assert "no total-energy counter" in reason
    nvml.mig, nvml.architecture = 1, 9
    nvml.install(monkeypatch)
    assert "MIG slices" in str(open_counters("cuda:1", (GPU,)))


def rapl_zone(folder: Path, name: str, microjoules: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text("262143328850\n")
    return folder / "energy_uj"


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    import zeus.device.cpu as zeus_cpu
    from zeus.device.cpu import rapl

    folder = tmp_path / "intel-rapl"
    folder.mkdir()
    monkeypatch.setattr(rapl, "RAPL_DIR", str(folder))
    monkeypatch.setattr(zeus_cpu, "_cpus", None)
    rapl.rapl_is_available.cache_clear()
    yield folder
    rapl.rapl_is_available.cache_clear()


def test_rapl_adds_packages_and_memory_but_not_the_platform_that_holds_them(powercap: Path) -> None:
    package = rapl_zone(powercap / "intel-rapl:0", "package-0", 262_143_000_000)
    memory = rapl_zone(powercap / "intel-rapl:0" / "intel-rapl:0:1", "dram", 10_000_000)
    platform = rapl_zone(powercap / "intel-rapl:1", "psys", 0)
    source = open_counters("cpu", cores=8, machine_cores=8)
    assert isinstance(source, Counters), source
    clock = iter([0.0, 5.0])
    meter = EnergyMeter(source, lambda: next(clock))
    meter.start()
    package.write_text("99671150\n")  # past its range: 0.33 J + 99.67 J
    memory.write_text("25000000\n")
    platform.write_text("900000000\n")
    assert meter.take() == pytest.approx(115.0, abs=0.01)
    assert "package-0, dram by RAPL: all that ran on this machine" in source.scope


def test_a_share_of_a_node_is_not_charged_the_whole_package(powercap: Path) -> None:
    rapl_zone(powercap / "intel-rapl:0", "package-0", 1)
    reason = str(open_counters("cpu", cores=4, machine_cores=64))
    assert "4 of 64 cores" in reason
    assert "others' work" in reason


def test_counters_that_only_root_may_read_are_null_with_a_warning(
    powercap: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from zeus.device.cpu import rapl
    from zeus.device.cpu.common import ZeusCPUNoPermissionError

    def refuse(*_: object) -> None:
        raise ZeusCPUNoPermissionError("no")

    rapl_zone(powercap / "intel-rapl:0", "package-0", 1)
    monkeypatch.setattr(rapl, "RAPLFile", refuse)
    for _ in range(2):
        open_counters.cache_clear()
        assert "root" in str(open_counters("cpu", cores=2, machine_cores=2))
    assert len([one for one in caplog.records if one.levelno == logging.WARNING]) == 1


def test_apples_counters_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    values = SimpleNamespace(cpu_total_mj=1000, gpu_mj=2000, dram_mj=None, ane_mj=0)
    soc = SimpleNamespace(get_total_energy_consumption=lambda: values)
    monkeypatch.setattr(counters_module, "_zeus_device", lambda: SimpleNamespace(get_soc=lambda: soc))
    source = open_counters("mps")
    assert isinstance(source, Counters)
    clock = iter([0.0, 4.0])
    meter = EnergyMeter(source, lambda: next(clock))
    meter.start()
    values.cpu_total_mj, values.gpu_mj = 3500, 12_000
    assert meter.take() == pytest.approx(12.5)
    assert source.scope.startswith("while answering, CPU, GPU, ANE of the Apple SoC")


def test_the_answers_of_a_round_get_the_generators_share_of_its_energy(tmp_path: Path) -> None:
    from test_ace_mode import ACE, task

    bench = Bench()
    paths = planned(tmp_path, task(tmp_path), modes=["ace"], ace=ACE)
    (plan,) = load_plans(paths)
    work_shard(
        paths,
        plan,
        plan.shards[0],
        lambda _: Working(bench),
        AttemptName("j1"),
        meter_of=bench.meter,
    )
    assert merged(paths).complete
    answers_j = pd.read_parquet(paths.results)["energy_j"]
    assert answers_j.gt(0).all()
    assert answers_j.sum() < ended(paths)["energy_j"] == pytest.approx(bench.joules - 5_000.0)
