"""What refuses to go on with a run: other code that decides rows, another engine or dtype; nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Command, only_run

from aceslm.core.engine import EngineInfo
from aceslm.engine.scripted import ScriptedEngine
from aceslm.run import source
from aceslm.run.source import PACKAGE, code_digest, deciding_files

MIXED = "the dtype of scripted has changed since this run began (bfloat16 -> float32)"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("code") / "aceslm"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def changed(package: Path, name: str) -> bool:
    """Whether an edit of one file moves the digest; the file is put back."""
    path = package / name
    before, text = code_digest(package), path.read_text()
    path.write_text(text + "\nX = 1\n")
    try:
        return code_digest(package) != before
    finally:
        path.write_text(text)


@pytest.mark.parametrize(
    "name",
    [
        "report/page.py",
        "report/__init__.py",
        "report/facts.py",
        "analysis/tables.py",
        "analysis/summary.py",
        "analysis/comparisons.py",
        "analysis/costs.py",
        "analysis/statistics/intervals.py",
        "results/merge.py",
        "results/status.py",
        "tracking/upload.py",
        "bench/suite.py",
        "data/importers/tatqa.py",
    ],
)
def test_code_that_comes_before_or_after_the_rows_refuses_no_resume(package: Path, name: str) -> None:
    assert not changed(package, name)


@pytest.mark.parametrize(
    "name",
    [
        "engine/running_batch.py",
        "engine/generate.py",
        "engine/grammar/masks.py",
        "engine/chat_template.py",
        "tasks/choice.py",
        "tasks/text.py",
        "tasks/tatqa_metric.py",
        "tasks/quantities.py",
        "ace/gate.py",
        "ace/roles/wording.py",
        "ace/__init__.py",
        "run/shard.py",
        "run/rows.py",
        "run/answer.py",
        "plan/cells.py",
        "plan/shards.py",
        "data/readers.py",
    ],
)
def test_code_that_decides_rows_moves_the_digest(package: Path, name: str) -> None:
    assert changed(package, name)


@pytest.mark.slow
def test_every_module_that_is_imported_while_a_shard_is_answered_decides_rows(tmp_path: Path) -> None:
    """The walk over import statements finds what Python really loads."""
    import subprocess
    import sys

    code = (
        "import sys, aceslm.run.shard, aceslm.plan.cells, aceslm.plan.shards;"
        "import aceslm.engine.shared_prefix, aceslm.tasks;"
        "print('\\n'.join(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'aceslm'))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert {Path(line) for line in loaded.stdout.split()} <= deciding_files()


def test_a_new_import_makes_a_module_count(package: Path) -> None:
    path, tables = package / "run" / "rows.py", package / "analysis" / "tables.py"
    text = path.read_text()
    assert tables not in deciding_files(package)
    path.write_text(text + "\n\ndef _late() -> None:\n    from aceslm.analysis import tables  # noqa\n")
    try:
        assert tables in deciding_files(package)
    finally:
        path.write_text(text)


@pytest.mark.slow
def test_an_edit_of_the_report_does_not_refuse_a_resume_of_the_command(
    aceslm: Command, grid_file: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.ledger.code_digest", lambda: source.code_digest(package))
    assert aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1").status == 0
    page, engine = package / "report" / "svg.py", package / "engine" / "running_batch.py"
    for path, status in ((page, 0), (engine, 1)):
        text = path.read_text()
        path.write_text(text + "\nX = 2\n")
        result = aceslm("submit", grid_file, "--cluster", "debug")
        path.write_text(text)
        assert result.status == status, result.err
        if status:
            assert "the code of aceslm has changed" in result.err
        else:
            shutil.rmtree(only_run(Path.cwd()))
            assert aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1").status == 0


DtypeOf = Callable[[str], None]


@pytest.fixture
def computing_in(monkeypatch: pytest.MonkeyPatch) -> DtypeOf:
    """Let engines say that they compute in some dtype: that of the node they are on."""

    def choose(dtype: str) -> None:
        class Engine(ScriptedEngine):
            def __init__(self) -> None:
                super().__init__()
                self.info: EngineInfo = replace(self.info, dtype=dtype, device="cpu")

        monkeypatch.setattr("launch.node.task.load_engine", lambda *_, **__: Engine())

    return choose


def test_a_run_is_not_finished_in_another_dtype(
    aceslm: Command, grid_file: Path, tmp_path: Path, computing_in: DtypeOf
) -> None:
    computing_in("bfloat16")
    assert aceslm("submit", grid_file, "--cluster", "debug", "--limit", "2").status == 0
    run = only_run(tmp_path)
    computing_in("float32")
    for command in (("submit", grid_file), ("retry", f"results/{run.name}")):
        refused = aceslm(*command, "--cluster", "debug")
        assert refused.status == 1
        assert MIXED in refused.err
        assert "--allow-mixed" in refused.err
    computing_in("bfloat16")
    assert aceslm("submit", grid_file, "--cluster", "debug").status == 0


def test_another_dtype_is_accepted_where_that_is_said_and_stands_among_the_mixtures(
    aceslm: Command, grid_file: Path, tmp_path: Path, computing_in: DtypeOf
) -> None:
    import json

    computing_in("bfloat16")
    aceslm("submit", grid_file, "--cluster", "debug", "--limit", "2")
    computing_in("float32")
    assert aceslm("submit", grid_file, "--cluster", "debug", "--allow-mixed").status == 0
    mixtures = json.loads((only_run(tmp_path) / "coverage.json").read_text())["mixtures"]
    assert mixtures["dtype"] == ["bfloat16", "float32"]


def test_the_parts_of_a_shard_that_was_interrupted_have_a_dtype_too(
    aceslm: Command, many_samples: Path, tmp_path: Path, computing_in: DtypeOf
) -> None:
    from test_run import planned

    from aceslm.core.paths import AttemptName
    from aceslm.plan.files import read_run
    from aceslm.run.work import FlushPolicy, StopFlag
    from launch.ledger import WorkerOptions, write_intent
    from launch.node import task as jobs
    from launch.node.place import Place

    paths = planned(tmp_path, many_samples)
    run = read_run(paths)
    (shard,) = run.shards
    intent = write_intent(paths, "debug", [[shard.shard_id]], WorkerOptions())
    computing_in("bfloat16")

    class Stopping(StopFlag):
        calls = 0

        def __call__(self) -> bool:
            Stopping.calls += 1
            self.reason = "preempted" if Stopping.calls > 20 else None
            return self.reason is not None

    stop = Stopping()
    jobs.run_task(run, intent, 0, Place(AttemptName("a"), stop, FlushPolicy(rows=4)))
    assert not paths.done(shard.shard_id).exists()
    assert list(paths.parts(shard.shard_id).iterdir())
    computing_in("float32")
    refused = aceslm("retry", paths.root, "--cluster", "debug")
    assert refused.status == 1
    assert MIXED in refused.err


def test_a_real_model_is_refused_before_its_weights_are_loaded(
    tmp_path: Path, many_samples: Path, monkeypatch: pytest.MonkeyPatch, computing_in: DtypeOf
) -> None:
    from test_run import planned

    from aceslm.core.errors import MixedRun
    from aceslm.core.run import Run
    from aceslm.plan.files import load_plans
    from launch.ledger import WorkerOptions
    from launch.prepare import dtypes

    paths = planned(tmp_path, many_samples)
    plans = load_plans(paths)
    cell = replace(plans[0].cells[0], model=replace(plans[0].cells[0].model, source="hub"))
    run = Run(paths, (replace(plans[0], cells=(cell,)),))
    monkeypatch.setattr(dtypes, "recorded_dtype", lambda *_: "float16")
    with pytest.raises(MixedRun, match=r"float16 -> (bfloat16|float32)"):
        dtypes.refuse_dtypes_here(run, run.shards, WorkerOptions(device="cpu"))
    monkeypatch.setattr(dtypes, "recorded_dtype", lambda *_: None)
    dtypes.refuse_dtypes_here(run, run.shards, WorkerOptions(device="cpu"))
