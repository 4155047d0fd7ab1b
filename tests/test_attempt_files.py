"""Files that only tell how a run went never stop it: damaged or missing ones are said and left out."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Command, only_run
from shards import merged
from test_run import planned, run_first

from aceslm.analysis.spent import cell_costs
from aceslm.core.paths import RunPaths
from aceslm.plan.files import load_plans, read_run
from aceslm.results.status import run_status
from aceslm.run import attempt_files
from launch.slurm.reconcile import memory_fraction, record_lost_attempts

Damage = Callable[[Path], object]

DAMAGES: dict[str, Damage] = {
    "lost": lambda path: path.unlink(),
    "garbage": lambda path: path.write_text("not json"),
    "empty": lambda path: path.write_text(""),
    "half": lambda path: path.write_text(path.read_text()[: path.stat().st_size // 2]),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00\x80"),
    "list": lambda path: path.write_text("[1, 2]"),
    "null": lambda path: path.write_text("null"),
    "number": lambda path: path.write_text("3"),
    "no keys": lambda path: path.write_text("{}"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "types": lambda path: path.write_text(
        json.dumps({key: [["x"]] for key in json.loads(path.read_text())})  # every value of another kind
    ),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}
COMMANDS = [
    ["aggregate"],
    ["status"],
    ["status", "--json"],
    ["retry"],
    ["logs"],
    ["logs", "--failed"],
    ["report"],
]


@pytest.fixture(autouse=True)
def afresh() -> None:
    attempt_files.said.cache_clear()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two shards, made once."""
    folder = tmp_path_factory.mktemp("finished")
    rows = [{"id": f"s{n}", "question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(8)]
    (folder / "sums.json").write_text(json.dumps(rows))
    paths = planned(folder, folder / "sums.json", shard_size=4)
    from shards import work_shard

    from aceslm.core.paths import AttemptName
    from aceslm.engine.scripted import ScriptedEngine

    for number, shard in enumerate(load_plans(paths)[0].shards):
        work_shard(paths, load_plans(paths)[0], shard, lambda _: ScriptedEngine(), AttemptName(f"j{number}"))
    for path in paths.root.glob("attempts/*/*.started.json"):  # its worker is gone
        path.write_text(json.dumps({**json.loads(path.read_text()), "started_at": 1.0}))
    return paths.root


def copied(finished: Path, tmp_path: Path) -> RunPaths:
    root = tmp_path / "results" / finished.name
    shutil.copytree(finished, root)
    return RunPaths(root)


@pytest.mark.parametrize("kind", ["started", "ended"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_finished_run_is_merged_shown_and_retried_whatever_became_of_its_attempts(
    aceslm: Command,
    finished: Path,
    tmp_path: Path,
    damage: str,
    kind: str,
) -> None:
    paths = copied(finished, tmp_path)
    victim = sorted(paths.root.glob(f"attempts/*/*.{kind}.json"))[0]
    DAMAGES[damage](victim)
    for words in COMMANDS:
        result = aceslm(words[0], f"results/{paths.root.name}", *words[1:])
        assert result.status == 0, (words, result.err)
        assert "move it away" not in result.err
        assert "unexpected" not in result.err
    assert paths.report.exists()
    coverage = json.loads(paths.coverage.read_text())
    assert coverage["complete"] is True
    (note,) = coverage["left_out"]
    assert f"{kind}.json" in note
    costs = json.loads(paths.costs.read_text())
    assert all(cell["core_hours"] > 0 for cell in costs["cells"].values()), "the other attempt still counts"
    assert "1 attempt is not in these hours" in paths.summary_md.read_text()


def test_an_attempts_damage_is_logged_in_one_line_that_names_the_file(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = copied(finished, tmp_path)
    (first, second) = sorted(paths.root.glob("attempts/*/*.started.json"))
    first.write_text("{")
    second.unlink()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            cell_costs(read_run(paths))
            merged(paths)
    lines = [record.getMessage() for record in caplog.records if "started.json" in record.getMessage()]
    assert len(lines) == 2
    assert any(first.name in line and "damaged" in line for line in lines)
    assert any(second.name in line and "missing" in line for line in lines)


def test_an_undamaged_run_leaves_nothing_out(finished: Path, tmp_path: Path) -> None:
    paths = copied(finished, tmp_path)
    assert merged(paths).left_out == ()
    assert "not in these hours" not in paths.summary_md.read_text()


@pytest.mark.parametrize("damage", sorted(set(DAMAGES) - {"lost"}))
def test_a_run_at_work_shows_its_state_past_a_damaged_progress_file(
    many_samples: Path, tmp_path: Path, damage: str
) -> None:
    paths = planned(tmp_path, many_samples)
    (shard,) = load_plans(paths)[0].shards
    folder = paths.attempts(shard.shard_id)
    folder.mkdir(parents=True)
    start = {"cpus": 1, "host": socket.gethostname(), "pid": os.getpid(), "started_at": time.time()}
    (folder / "j_0-r0.started.json").write_text(json.dumps(start))
    progress = folder / "j_0-r0.progress.json"
    progress.write_text(json.dumps({"rows_done": 5, "rows_total": 60, "samples_per_s": 2.0}))
    (known,) = run_status(read_run(paths)).shards("running")
    assert (known.rows_done, known.samples_per_s) == (5, 2.0)
    DAMAGES[damage](progress)
    (known,) = run_status(read_run(paths)).shards("running")
    assert (known.rows_done, known.samples_per_s) == (0, 0.0)


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_unfinished_run_is_resumed_past_damaged_attempts(
    aceslm: Command, grid_file: Path, tmp_path: Path, damage: str
) -> None:
    assert aceslm("submit", grid_file, "--cluster", "debug").status == 0
    run = only_run(tmp_path)
    done = sorted(run.glob("shards/*.done.json"))[0]
    shard = done.name.split(".")[0]
    done.unlink()
    for victim in sorted(run.glob(f"attempts/{shard}/*.json")):
        DAMAGES[damage](victim)
    paths = RunPaths(run)
    assert memory_fraction(paths, shard) == 1.0
    record_lost_attempts(paths, [shard])
    assert aceslm("logs", f"results/{run.name}", "--shard", shard).status == 0
    assert aceslm("status", f"results/{run.name}").status == 0
    result = aceslm("retry", f"results/{run.name}", "--cluster", "debug")
    assert result.status == 0, result.err
    assert json.loads(paths.coverage.read_text())["complete"] is True


@pytest.mark.parametrize("damage", sorted(set(DAMAGES) - {"lost"}))
def test_a_damaged_done_file_is_named_and_a_retry_computes_its_shard_again(
    aceslm: Command, finished: Path, tmp_path: Path, damage: str
) -> None:
    paths = copied(finished, tmp_path)
    victim = sorted(paths.shards.glob("*.done.json"))[0]
    DAMAGES[damage](victim)
    shown = aceslm("status", f"results/{paths.root.name}", "--json")
    assert shown.status == 0, shown.err
    (broken,) = [one for one in json.loads(shown.out)["shards"] if one["state"] != "done"]
    assert (broken["state"], broken["last_class"]) == ("failed", "corrupt")
    assert "aceslm retry" in broken["message"]
    merged = aceslm("aggregate", f"results/{paths.root.name}")
    assert merged.status == 1
    assert "unexpected" not in merged.err
    assert f"aceslm retry results/{paths.root.name}" in merged.err
    again = aceslm("retry", f"results/{paths.root.name}", "--cluster", "debug")
    assert again.status == 0, again.err


@pytest.mark.parametrize("damage", sorted(set(DAMAGES) - {"lost"}))
def test_the_done_file_of_another_run_does_not_stop_a_submission(
    aceslm: Command, finished: Path, grid_file: Path, tmp_path: Path, damage: str
) -> None:
    other = copied(finished, tmp_path)
    DAMAGES[damage](sorted(other.shards.glob("*.done.json"))[0])
    result = aceslm("submit", grid_file, "--limit", "1", "--cluster", "debug")
    assert result.status == 0, result.err


def test_nothing_that_describes_an_attempt_stops_the_work(
    many_samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A quota that leaves room for no further file of an attempt, but for the rows."""
    from aceslm.run import attempts
    from aceslm.run.shard import Outcome

    def full(path: Path, *_: object) -> bool:
        raise OSError(122, "Disk quota exceeded", str(path))

    monkeypatch.setattr(attempts, "write_json", full)
    monkeypatch.setattr(attempts, "create_json", full)
    paths = planned(tmp_path, many_samples)
    with caplog.at_level(logging.WARNING):
        assert run_first(paths) is Outcome.DONE
    assert sum("Disk quota exceeded" in record.getMessage() for record in caplog.records) == 1
    assert merged(paths).complete


@pytest.mark.parametrize(
    ("file", "damaged"),
    [
        ("intent", "{"),
        ("intent", "[]"),
        ("intent", "{}"),
        ("intent", '{"tasks": 5}'),
        ("jobs", "["),
        ("jobs", "3"),
    ],
)
def test_a_damaged_submission_is_said_and_left_out(
    aceslm: Command, grid_file: Path, tmp_path: Path, file: str, damaged: str
) -> None:
    assert aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1").status == 0
    run = only_run(tmp_path)
    victim = run / "submissions" / f"0001.{file}.json"
    victim.write_text(damaged)
    for words in (["status"], ["retry"], ["aggregate"]):
        result = aceslm(words[0], f"results/{run.name}", *words[1:])
        assert result.status == 0, result.err
    result = aceslm("submit", grid_file, "--cluster", "debug")
    assert result.status == 0, result.err
    assert (run / "submissions" / "0002.intent.json").exists()
    assert victim.read_text() == damaged, "what is there is evidence: never overwritten"


def test_a_damaged_plan_says_what_works(aceslm: Command, grid_file: Path, tmp_path: Path) -> None:
    assert aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1").status == 0
    run = only_run(tmp_path)
    (run / "plans" / "0001.json").write_text("{")
    refused = aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1")
    assert refused.status == 1
    name = f"results/{run.name}"
    assert "move it away" not in refused.err
    assert f"mv {name} {name}.damaged" in refused.err
    run.rename(run.with_name(f"{run.name}.damaged"))
    assert aceslm("submit", grid_file, "--cluster", "debug", "--limit", "1").status == 0
