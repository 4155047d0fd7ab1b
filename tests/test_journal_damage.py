"""A damaged evolution goes on: from its last step where that can be read, else by the command it names."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from ace_values import LESSONS
from conftest import Command
from shards import merged
from teaching import journal, play
from teaching import planned as planned_workers
from test_ace_mode import ACE, Recording, evolved, rows, run, task, versions
from test_ace_workers import SETTINGS, Placed
from test_run import planned

from aceslm.core.errors import CorruptRun
from aceslm.core.paths import RunPaths
from aceslm.core.prompts import Prompt
from aceslm.engine.scripted import ScriptedEngine
from aceslm.plan.files import load_plans, read_run
from aceslm.results.verify import withdraw_corrupt
from aceslm.run.attempt_files import said
from aceslm.run.evolution_journal import Journal, final_playbook
from aceslm.run.shard import Outcome
from aceslm.run.work import StopFlag

Damage = Callable[[Path], object]

DAMAGES: dict[str, Damage] = {
    "lost": lambda path: path.unlink(),
    "garbage": lambda path: path.write_text("not json"),
    "empty": lambda path: path.write_text(""),
    "half": lambda path: path.write_text(path.read_text()[: path.stat().st_size // 2]),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "list": lambda path: path.write_text("[1]"),
    "null": lambda path: path.write_text("null"),
    "number": lambda path: path.write_text("3"),
    "another version": lambda path: path.write_text('{"round": 3, "playbook_digest": "x"}'),
    "types": lambda path: path.write_text(
        json.dumps({**json.loads(path.read_text()), "version": "seven", "epochs": 3})
    ),
    "roles": lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), "ledger": {"g": 1}})),
}


@pytest.fixture(autouse=True)
def afresh() -> None:
    said.cache_clear()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    paths = evolved(tmp_path_factory.mktemp("whole") / "run")
    merged(paths)
    return paths


def copied(whole: RunPaths, tmp_path: Path) -> RunPaths:
    root = tmp_path / "results" / whole.root.name
    shutil.copytree(whole.root, root)
    return RunPaths(root)


def placed() -> Placed:
    return Placed(lambda n, text: LESSONS[n % 5] in text)


def state_file(paths: RunPaths) -> Path:
    (cell,) = load_plans(paths)[0].cells
    return paths.playbooks(cell.cell_id) / "state.json"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_finished_evolution_is_read_past_its_state_and_mended_by_a_retry(
    aceslm: Command,
    whole: RunPaths,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    paths = copied(whole, tmp_path)
    (cell,) = load_plans(paths)[0].cells
    expected, state = final_playbook(whole, cell), Journal(whole.playbooks(cell.cell_id)).state()
    DAMAGES[damage](state_file(paths))
    with caplog.at_level(logging.WARNING):
        assert final_playbook(paths, cell) == expected
    (line,) = [one.getMessage() for one in caplog.records if "state.json" in one.getMessage()]
    assert "what the last step (version 6) left is used" in line
    for verb in ("aggregate", "status", "report", "retry"):
        result = aceslm(verb, f"results/{paths.root.name}")
        assert result.status == 0, result.err
        assert "move it away" not in result.err
    assert Journal(paths.playbooks(cell.cell_id)).state() == state
    assert json.loads(state_file(paths).read_text()) == json.loads(state_file(whole).read_text())
    pd.testing.assert_frame_equal(rows(paths), rows(whole))


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_evolution_goes_on_from_its_last_step(whole: RunPaths, tmp_path: Path, damage: str) -> None:
    cut = planned(tmp_path, task(tmp_path), modes=["ace"], ace=ACE)
    stop = StopFlag()

    class Stopping(Recording):
        def render(self, prompt: Prompt) -> str:
            if len(self.batches) == 12:
                stop.reason = "preempted"
            return super().render(prompt)

    assert run(cut, Stopping(), stop=stop) is Outcome.STOPPED
    before = json.loads(state_file(cut).read_text())
    assert before["cursor"] >= 2
    DAMAGES[damage](state_file(cut))
    again = Recording()
    assert run(cut, again, "j2") is Outcome.DONE
    answered = [batch for batch in again.batches if batch[0].json_schema is None]
    assert len(answered) == 6 - before["cursor"], "committed rounds are not computed again"
    assert versions(cut) == versions(whole)
    pd.testing.assert_frame_equal(rows(cut), rows(whole))


@pytest.mark.parametrize("victim", ["steps.json", "calls.parquet", "v0003.jsonl", "v0006.jsonl", "all"])
@pytest.mark.parametrize("damage", ["lost", "garbage"])
def test_what_cannot_be_read_from_anywhere_names_a_command_that_works(
    aceslm: Command, whole: RunPaths, tmp_path: Path, victim: str, damage: str
) -> None:
    paths = copied(whole, tmp_path)
    folder = state_file(paths).parent
    for path in [folder / "state.json", folder / "steps.json"] if victim == "all" else [folder / victim]:
        DAMAGES[damage](path)
    refused = aceslm("aggregate", f"results/{paths.root.name}")
    if (victim, damage) != ("all", "lost"):
        assert refused.status == 1
        assert "unexpected" not in refused.err
        (command,) = set(re.findall(r"`aceslm (retry [^`]+)`", refused.err))
        assert command == f"retry results/{paths.root.name}"
    again = aceslm("retry", f"results/{paths.root.name}", "--cluster", "debug")
    assert again.status == 0, again.err
    assert versions(paths) == versions(whole)
    pd.testing.assert_frame_equal(rows(paths), rows(whole))


def test_a_worker_says_the_command_too(whole: RunPaths, tmp_path: Path) -> None:
    paths = copied(whole, tmp_path)
    (cell,) = load_plans(paths)[0].cells
    for name in ("state.json", "steps.json"):
        (state_file(paths).parent / name).write_text("{")
    with pytest.raises(CorruptRun, match=rf"`aceslm retry .*{paths.root.name}`"):
        final_playbook(paths, cell)


def test_what_could_not_be_read_is_kept_beside_what_is_made_anew(
    aceslm: Command, whole: RunPaths, tmp_path: Path
) -> None:
    paths = copied(whole, tmp_path)
    folder = state_file(paths).parent
    (folder / "state.json").write_text("damaged beyond")
    (folder / "steps.json").unlink()
    assert aceslm("retry", f"results/{paths.root.name}", "--cluster", "debug").status == 0
    assert (folder / "state.json.corrupt").read_text() == "damaged beyond"


@pytest.mark.parametrize("where", ["", "e01-w02", "e02-w01"])
@pytest.mark.parametrize("fatal", [False, True])
def test_an_evolution_of_several_workers_is_mended_where_it_is_damaged(
    tmp_path: Path, where: str, fatal: bool
) -> None:
    settings = {**SETTINGS, "gate": True}
    whole, plan = planned_workers(tmp_path / "whole", **settings)
    play(whole, plan, placed())
    paths, plan = planned_workers(tmp_path / "cut", **settings)
    play(paths, plan, placed())
    folder = journal(paths, plan).folder / where
    (folder / "state.json").write_text("{")
    if fatal:
        (folder / "steps.json").unlink()
    withdrawn = withdraw_corrupt(read_run(paths))
    assert bool(withdrawn) is fatal
    if fatal:
        played = [shard for shard in plan.shards if shard.shard_id in withdrawn]
        assert all((shard.worker is None) is (where == "") for shard in played)
    play(paths, plan, placed())
    assert withdraw_corrupt(read_run(paths)) == {}
    last, other = journal(paths, plan), journal(whole, plan)
    assert [note.version for note in last.steps()] == [note.version for note in other.steps()]
    state, known = last.state(), other.state()
    assert state is not None
    assert known is not None
    assert last.committed(state) == other.committed(known)


def test_an_undamaged_run_is_left_as_it_is_by_a_retry(whole: RunPaths, tmp_path: Path) -> None:
    paths = copied(whole, tmp_path)
    files = [path for path in (paths.root / "playbooks").rglob("*") if path.is_file()]
    before = [path.read_bytes() for path in files]
    assert withdraw_corrupt(read_run(paths)) == {}
    assert [path.read_bytes() for path in files] == before


def test_a_withdrawn_shard_evolves_again_and_does_not_go_on_from_old_steps(
    whole: RunPaths, tmp_path: Path
) -> None:
    paths = copied(whole, tmp_path)
    from aceslm.run.published import withdraw_shard

    (shard,) = load_plans(paths)[0].shards
    withdraw_shard(paths, shard.shard_id)
    again = Recording()
    assert run(paths, again, "j2") is Outcome.DONE
    assert len([batch for batch in again.batches if batch[0].json_schema is None]) == 6
    assert versions(paths) == versions(whole)
    assert run(paths, ScriptedEngine(), "j3") is Outcome.ALREADY_DONE
