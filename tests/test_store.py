from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from aceslm.core.errors import Locked, RunError
from aceslm.core.files import (
    STALE_LOCK_S,
    create_json,
    locked,
    read_json,
    replacing,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"version": 1})
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert read_json(path) == {"version": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_exactly_one_of_many_creators_wins(tmp_path: Path) -> None:
    path = tmp_path / "done.json"
    wins = []
    barrier = threading.Barrier(8)

    def create(n: int) -> None:
        barrier.wait()
        if create_json(path, n):
            wins.append(n)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert read_json(path) == wins[0]
    assert list(tmp_path.iterdir()) == [path]


def test_creation_is_exclusive_where_the_file_system_has_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert create_json(tmp_path / "a.json", 1)
    assert not create_json(tmp_path / "a.json", 2)
    assert read_json(tmp_path / "a.json") == 1


def test_broken_json_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("{")
    with pytest.raises(RunError, match=r"plan\.json: not valid JSON"):
        read_json(path)


def test_a_held_lock_says_who_holds_it_and_is_released(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    held_by = pytest.raises(Locked, match=rf"`aceslm submit` on .*pid {os.getpid()}")
    with locked(path, "aceslm submit"), held_by, locked(path, "other"):
        pass
    with locked(path, "again"):
        pass
    assert not path.exists()


def test_a_lock_of_a_dead_process_on_this_host_is_taken_over(tmp_path: Path) -> None:
    import socket

    path = tmp_path / ".lock"
    path.write_text(json.dumps({"token": "t", "host": socket.gethostname(), "pid": 2**22 + 5}))
    with locked(path, "aceslm aggregate"):
        assert read_json(path)["purpose"] == "aceslm aggregate"


def test_a_lock_of_another_host_is_stale_only_after_ten_minutes(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"token": "t", "host": "elsewhere", "pid": 1}))
    with pytest.raises(Locked, match="elsewhere"), locked(path, "x"):
        pass
    old = path.stat().st_mtime - STALE_LOCK_S - 1
    os.utime(path, (old, old))
    with locked(path, "x"):
        pass


def test_a_creation_that_a_network_file_system_repeats_is_still_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    assert create_json(tmp_path / "done.json", 1)
    assert not create_json(tmp_path / "done.json", 2)
    assert read_json(tmp_path / "done.json") == 1


def test_a_lock_whose_creator_died_before_writing_it_goes_stale_too(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.touch()
    with pytest.raises(Locked), locked(path, "x"):
        pass
    old = path.stat().st_mtime - STALE_LOCK_S - 1
    os.utime(path, (old, old))
    with locked(path, "x"):
        assert read_json(path)["purpose"] == "x"
    assert not path.exists()
