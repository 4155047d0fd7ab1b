"""A real Slurm for the tests of this folder: started once a session, wiped at the end.

Needs root and Debian's packages (`tests/slurm/testbed.sh` names them). On a laptop without them the tests
skip with a reason; with CI=true they fail instead.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
TESTBED = ROOT / "tests" / "slurm" / "testbed.sh"
TIMINGS = ["latency_ms", "ttft_ms", "prefill_ms", "decode_ms", "batch_ms", "batch_size", "attempt", "shard"]
TIMINGS += ["reflection_latency_ms", "energy_j"]
PROGRAMS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch", "srun", "sacct")


@dataclass(frozen=True)
class Cluster:
    """The testbed in one state directory."""

    folder: Path
    extra: str = ""

    def testbed(self, *words: str) -> str:
        environment = {
            **os.environ,
            "SLURM_TESTBED_DIR": str(self.folder),
            "SLURM_TESTBED_EXTRA_CONF": self.extra,
        }
        result = subprocess.run(
            ["bash", str(TESTBED), *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    @property
    def environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
        return {**clean, "SLURM_CONF": str(self.folder / "etc" / "slurm.conf"), "PYTHONPATH": str(ROOT)}

    def run(self, *command: str) -> str:
        result = subprocess.run(
            list(command), env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def nodes(self) -> list[str]:
        return sorted(set(self.run("sinfo", "-h", "-N", "-o", "%N").split()))

    def running(self) -> list[str]:
        return self.run("squeue", "-h", "-r", "-t", "R", "-o", "%F_%K %N").splitlines()

    def queued(self) -> list[str]:
        return self.run("squeue", "-h", "-r", "-o", "%F_%K %T %r").splitlines()

    def until(self, what: Callable[[], Any], seconds: float = 90.0) -> Any:
        """Wait until `what()` is true and return its value."""
        deadline = time.monotonic() + seconds
        while True:
            value = what()
            if value:
                return value
            assert time.monotonic() < deadline, f"not within {seconds} s; queue: {self.queued()}"
            time.sleep(0.3)


@dataclass(frozen=True)
class Work:
    """One test's folder: a grid, a profile, the command."""

    cluster: Cluster
    folder: Path

    def profile(self, **values: Any) -> None:
        """Write the profile: the main partition, quick flushes, a delay a sample."""
        environment = {"ACESLM_FLUSH_S": "0.5", **values.pop("environment", {})}
        defaults = {"partition": "main", "mem_gb": 1, "time_min": 60, "environment": environment}
        (self.folder / "profile.yaml").write_text(yaml.safe_dump({**defaults, **values}))

    def grid(self, samples: int = 24, shard_size: int = 2, modes: str = "[baseline]") -> None:
        rows = [
            {"id": f"s{n:03d}", "question": f"What is {n} + {n}?", "answer": str(2 * n)}
            for n in range(samples)
        ]
        (self.folder / "sums.json").write_text(json.dumps(rows))
        (self.folder / "grid.yaml").write_text(
            f"models: [scripted]\ntasks: [sums.json]\nmodes: {modes}\nshard_size: {shard_size}\n"
        )

    def aceslm(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "launch", *words],
            cwd=self.folder,
            env={**self.cluster.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "launch", *words],
            cwd=self.folder,
            env=self.cluster.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def submit(self, *words: str) -> None:
        result = self.aceslm("submit", "grid.yaml", "--cluster", "slurm", "--profile", "profile.yaml", *words)
        assert result.returncode == 0, result.stderr

    def retry(self, *words: str) -> None:
        result = self.aceslm("retry", self.run_name, "--cluster", "slurm", *words)
        assert result.returncode == 0, result.stderr

    @property
    def run(self) -> Path:
        (run,) = (self.folder / "results").glob("*-*")
        return run

    @property
    def run_name(self) -> str:
        return f"results/{self.run.name}"

    def finished(self, seconds: float = 120.0) -> None:
        """Wait until nothing is queued, and check that the aggregation found everything."""
        self.cluster.until(lambda: not self.cluster.queued(), seconds)
        coverage = json.loads((self.run / "coverage.json").read_text())
        assert coverage["complete"], coverage

    def working(self) -> list[Path]:
        """Return the progress files of shards with at least one row."""
        found = self.run.glob("attempts/*/*.progress.json")
        return [path for path in found if json.loads(path.read_text())["rows_done"] > 0]

    def classes(self) -> dict[str, list[str]]:
        """Return shard -> the classes of its attempts, in order of their names."""
        story: dict[str, list[str]] = {}
        for path in sorted(self.run.glob("attempts/*/*.ended.json")):
            story.setdefault(path.parent.name, []).append(json.loads(path.read_text())["class"])
        return story

    def equals_local(self) -> None:
        """Check that the rows are those of an undisturbed local run."""
        result = self.aceslm(
            "submit", "grid.yaml", "--cluster", "debug", "--output-dir", "local", ACESLM_SCRIPTED_DELAY_S="0"
        )
        assert result.returncode == 0, result.stderr
        (local,) = (self.folder / "local").glob("*-*")
        mine, other = (
            pd.read_parquet(run / "results.parquet").drop(columns=TIMINGS) for run in (self.run, local)
        )
        pd.testing.assert_frame_equal(mine, other)


def _missing() -> str | None:
    absent = [
        name for name in PROGRAMS if shutil.which(name) is None and not Path("/usr/sbin", name).exists()
    ]
    if absent:
        return f"no real Slurm here: {', '.join(absent)} not installed (see tests/slurm/testbed.sh)"
    return None if os.geteuid() == 0 else "the Slurm testbed needs root"


def _started(folder: Path, extra: str) -> Iterator[Cluster]:
    if reason := _missing():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    cluster = Cluster(folder, extra)
    cluster.testbed("wipe")
    cluster.testbed("start")
    yield cluster
    cluster.testbed("wipe")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster of the suite: arrays of at most five tasks."""
    memory = Path("/dev/shm")
    yield from _started((memory if memory.is_dir() else Path("/tmp")) / "aceslm-slurm", "MaxArraySize=5")


@pytest.fixture(scope="session")
def strict_cluster() -> Iterator[Cluster]:
    """A second cluster that checks accounts."""
    memory = Path("/dev/shm")
    folder = (memory if memory.is_dir() else Path("/tmp")) / "aceslm-strict"
    yield from _started(folder, "AccountingStorageEnforce=associations")


@pytest.fixture
def work(cluster: Cluster, tmp_path: Path) -> Iterator[Work]:
    """A fresh folder on an idle cluster."""
    cluster.testbed("idle")
    yield Work(cluster, tmp_path)
    cluster.testbed("idle")
