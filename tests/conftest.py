"""Fixtures of the suite: every test has its own results folder and cache, and no way to a hub."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from tinies import Tiny

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

# Spawned workers inherit these: nothing may reach for a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tests of tracking set it themselves: nothing else starts W&B, and no key of the developer is ever used.
os.environ["WANDB_MODE"] = "disabled"

# The same examples everywhere, and a busy machine is no fault of a test.
hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")


@dataclass(frozen=True)
class Result:
    """What one call of the command left behind."""

    status: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def aceslm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Call the command in this process, in an empty folder: `aceslm("submit", "grid.yaml")`."""
    from launch.cli import main

    monkeypatch.chdir(tmp_path)
    if "ACESLM_CACHE" not in os.environ:
        monkeypatch.setenv("ACESLM_CACHE", str(tmp_path / "cache"))

    def call(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["aceslm", *map(str, arguments)])
        capsys.readouterr()
        status = main()
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return call


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    """A grid for the scripted engine: 3 tasks x 2 modes, small shards."""
    path = tmp_path / "grid.yaml"
    path.write_text(
        "models: [scripted]\ntasks: [tatqa_tiny, medqa_tiny, iot_tiny]\nmodes: [baseline, scaffold]\n"
        "shard_size: 2\n"
    )
    return path


@pytest.fixture
def many_samples(tmp_path: Path) -> Path:
    """A task file of 60 number questions."""
    path = tmp_path / "sums.json"
    rows = [{"id": f"s{n:03d}", "question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(60)]
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture(scope="module")
def one_core() -> Iterator[None]:
    """Tiny matrices are slower on two threads than on one, and far slower where others compute too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACESLM_CORES", "1")
        yield


@pytest.fixture(scope="session")
def tinies(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tiny]:
    """Make a family's tiny model on its first use."""
    from tinies import make_tiny

    made: dict[str, Tiny] = {}

    def get(name: str) -> Tiny:
        if name not in made:
            made[name] = make_tiny(tmp_path_factory.mktemp(name), name)
        return made[name]

    return get


def only_run(folder: Path) -> Path:
    """Return the single run directory below `folder`/results."""
    (run,) = [path for path in (folder / "results").glob("*-*") if path.is_dir()]
    return run


@pytest.fixture(scope="session")
def prestaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fetch the embedded model once; `$ACESLM_CACHE`, where set, is used as it is."""
    from aceslm.models.registry import prestage_model

    given = os.environ.get("ACESLM_CACHE")
    if given is None:
        os.environ["ACESLM_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    prestage_model("smollm2-135m-gguf", report=lambda _: None)
    yield
    if given is None:
        del os.environ["ACESLM_CACHE"]
