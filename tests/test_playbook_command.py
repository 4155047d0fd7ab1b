"""`aceslm playbook`: show, diff, merge and stats of playbook files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from ace_values import LESSONS, playbook
from conftest import Command

from aceslm.ace.playbook import codec
from aceslm.ace.playbook.bullets import QUARANTINED, Bullet, Playbook


def saved(path: Path, value: Playbook) -> Path:
    codec.save(path, value)
    return path


def test_show_prints_lessons_literally_with_their_counters(aceslm: Command, tmp_path: Path) -> None:
    path = saved(tmp_path / "p.jsonl", playbook("Keep [bold red]marks[/] as they are.", b1=(3, 1)))
    result = aceslm("playbook", "show", path)
    assert result.status == 0
    assert "Keep [bold red]marks[/] as they are." in result.out
    assert "1 bullets, 0 quarantined" in result.out
    (bullet,) = json.loads(aceslm("playbook", "show", path, "--json").out)["bullets"]
    assert (bullet["bullet_id"], bullet["helpful"], bullet["harmful"]) == ("b1", 3, 1)


def test_show_reads_a_playbook_of_the_prototype(aceslm: Command, tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text(json.dumps({"id": "x", "domain": "iot", "text": "Mind it.", "success_count": 2}) + "\n")
    (bullet,) = json.loads(aceslm("playbook", "show", path, "--json").out)["bullets"]
    assert (bullet["section"], bullet["text"], bullet["helpful"]) == ("iot", "Mind it.", 2)


def test_a_file_that_is_no_playbook_is_one_line_with_its_place(aceslm: Command, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("nonsense\n")
    result = aceslm("playbook", "show", path)
    assert result.status == 2
    assert result.err.startswith("error: ")
    assert "p.jsonl:1" in result.err


def test_diff_tells_added_removed_reworded_and_recounted_bullets_apart(
    aceslm: Command, tmp_path: Path
) -> None:
    first = playbook(*LESSONS[:4])
    kept, reworded, counted, _ = first.bullets
    later = Playbook(
        2,
        (
            kept,
            replace(reworded, text="Read every footnote."),
            replace(counted, helpful=2),
            Bullet("b5", "reading", LESSONS[4]),
        ),
        6,
    )
    paths = saved(tmp_path / "a.jsonl", first), saved(tmp_path / "b.jsonl", later)
    found = json.loads(aceslm("playbook", "diff", *paths, "--json").out)
    assert [(one["bullet_id"], one["kind"]) for one in found] == [
        ("b2", "reworded"),
        ("b3", "recounted"),
        ("b4", "removed"),
        ("b5", "added"),
    ]
    text = aceslm("playbook", "diff", *paths).out
    assert "1 added, 1 removed, 1 reworded, 1 recounted" in text
    assert LESSONS[1] in text
    assert "Read every footnote." in text
    assert "2 (+2)" in text


def test_diff_of_equal_playbooks_says_that_nothing_differs(aceslm: Command, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jsonl", playbook(*LESSONS))
    assert aceslm("playbook", "diff", path, path).out == "0 added, 0 removed, 0 reworded, 0 recounted\n"


def test_merge_sums_counters_from_the_base_and_does_not_know_the_order_of_files(
    aceslm: Command, tmp_path: Path
) -> None:
    start = playbook(LESSONS[0], b1=(1, 0))
    one = replace(start, bullets=(replace(start.bullets[0], helpful=3),))
    two = Playbook(1, (start.bullets[0], Bullet("b2", "reading", LESSONS[1])), 3)
    base, first, second = (
        saved(tmp_path / f"{name}.jsonl", value)
        for name, value in (("base", start), ("one", one), ("two", two))
    )
    output = tmp_path / "merged.jsonl"
    result = aceslm("playbook", "merge", first, second, "--base", base, "--output", output)
    assert result.status == 0, result.err
    merged = codec.load(output)
    assert [(bullet.text, bullet.helpful) for bullet in merged.bullets] == [(LESSONS[0], 3), (LESSONS[1], 0)]
    aceslm("playbook", "merge", second, first, "--base", base, "--output", tmp_path / "again.jsonl")
    assert output.read_bytes() == (tmp_path / "again.jsonl").read_bytes()


def test_merge_without_a_base_keeps_the_same_lesson_once(aceslm: Command, tmp_path: Path) -> None:
    files = [
        saved(tmp_path / "one.jsonl", playbook(LESSONS[0], LESSONS[1])),
        saved(tmp_path / "two.jsonl", playbook(LESSONS[1], LESSONS[2])),
    ]
    found = json.loads(aceslm("playbook", "merge", *files, "--json").out)
    assert sorted(bullet["text"] for bullet in found["bullets"]) == sorted(LESSONS[:3])
    assert len(found["dropped"]) == 1


def test_merge_refuses_a_base_that_is_newer_than_a_file(aceslm: Command, tmp_path: Path) -> None:
    base = saved(tmp_path / "base.jsonl", playbook(*LESSONS[:3]))
    old = saved(tmp_path / "old.jsonl", playbook(LESSONS[0]))
    result = aceslm("playbook", "merge", old, old, "--base", base)
    assert result.status == 2
    assert "--base" in result.err


def test_stats_of_a_folder_compare_each_version_with_the_one_before(aceslm: Command, tmp_path: Path) -> None:
    quarantined = replace(playbook(*LESSONS[:2], b1=(2, 1)).bullets[1], status=QUARANTINED)
    saved(tmp_path / "v0000.jsonl", playbook(*LESSONS[:2], b1=(1, 0)))
    saved(tmp_path / "v0001.jsonl", Playbook(1, (playbook(LESSONS[0], b1=(2, 1)).bullets[0], quarantined), 3))
    (tmp_path / "v0001.calls.jsonl").write_text("{}\n")
    first, second = json.loads(aceslm("playbook", "stats", tmp_path, "--json").out)
    assert (first["churn"], first["bullets"], first["quarantined"]) == (None, 2, 0)
    assert (second["removed"], second["churn"], second["survival"]) == (1, 0.5, 0.5)
    assert (second["bullets"], second["quarantined"], second["helpful"], second["harmful"]) == (1, 1, 2, 1)
    assert second["words"] == len(f"## reading\n- [b1] {LESSONS[0]}".split())
    table = aceslm("playbook", "stats", tmp_path).out
    assert "words" in table
    assert "tokens" not in table


def test_stats_of_an_empty_folder_say_so(aceslm: Command, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    result = aceslm("playbook", "stats", tmp_path / "none")
    assert result.status == 2
    assert "no playbook files" in result.err
