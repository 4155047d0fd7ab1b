"""The report in a real browser: filters, plots, playbooks, hostile texts, a hundred thousand rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from report_runs import add_playbooks, cell_of, make_run, prose
from shards import reported

from aceslm.core.paths import RunPaths
from browser.conftest import Open

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

HOSTILE = (
    "<script>window.hit = 1</script>",
    "</script><script>window.hit = 2</script>",
    "<img src=x onerror='window.hit = 3'>",
    "<!--<script>",
    "{{ 7 * 7 }} ${7 * 7}",
)


def report_of(paths: RunPaths) -> Path:
    return reported(paths).path


def mixed(number: int, mode: str) -> Mapping[str, Any]:
    """Every second answer of `ace` is right, sample 1 broke in `baseline`, sample 2 could not be read."""
    if (number, mode) == (1, "baseline"):
        return {"error": "too long for the context window", "pred": None, "raw_output": None, "parsed": False}
    if number == 2:
        return {"error": "unparsed: no span in the output", "pred": None, "parsed": False}
    return {"correct": int(mode == "ace" and number % 2 == 0), "context": f"Table {number // 2}"}


def rows_of(page: Any) -> list[list[str]]:
    return page.locator("#list tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )


def choose(page: Any, name: str, value: str) -> str:
    page.evaluate("document.getElementById('count').textContent = ''")
    page.locator(f"#filters [name={name}]").select_option(value)
    expect(page.locator("#count")).not_to_be_empty()
    return str(page.locator("#count").inner_text())


def test_filters_show_what_they_say(tmp_path: Path, opened: Open) -> None:
    page = opened(report_of(make_run(tmp_path / "run", samples=6, change=mixed)))
    assert page.locator("#count").inner_text().startswith("24 rows match")
    assert choose(page, "mode", "ace").startswith("6 rows match")
    assert {row[6] for row in rows_of(page)} == {"correct", "wrong", "unparsed"}
    assert choose(page, "outcome", "correct").startswith("2 rows match")
    assert choose(page, "outcome", "wrong").startswith("4 rows match")
    choose(page, "mode", "")
    assert choose(page, "outcome", "error").startswith("1 row matches")
    assert rows_of(page)[0][0] == "s00001"
    assert choose(page, "outcome", "misread").startswith("4 rows match")
    assert choose(page, "outcome", "disagree").startswith("8 rows match")
    page.locator("#filters [type=reset]").click()
    page.locator("#filters [name=search]").fill("word 3?")
    expect(page.locator("#count")).to_contain_text("4 rows match")


def test_one_sample_is_seen_across_the_modes_by_keyboard(tmp_path: Path, opened: Open) -> None:
    page = opened(report_of(make_run(tmp_path / "run", samples=6, change=mixed)))
    page.locator("#list button").first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#detail")
    expect(dialog.locator(".answer")).to_have_count(4)
    assert "Table 0" in dialog.inner_text()
    dialog.locator("summary").first.click()
    expect(dialog.locator("details pre").first).to_contain_text("Question: What is word 0?")
    page.locator("#detail-title").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#detail-title")).to_contain_text("s00004")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_plots_are_drawn_and_follow_the_theme(tmp_path: Path, opened: Open) -> None:
    page = opened(report_of(make_run(tmp_path / "run", samples=6, change=mixed)), color_scheme="dark")
    figures = page.locator("#plots figure")
    assert figures.count() >= 3
    for number in range(figures.count()):
        box = figures.nth(number).locator("svg").first.bounding_box()
        assert box is not None
        assert box["width"] > 100
        assert box["height"] > 50
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


def test_playbook_versions_are_compared(tmp_path: Path, opened: Open) -> None:
    paths = make_run(tmp_path / "run", samples=4, modes=["scaffold", "ace"])
    cell = cell_of("ace").cell_id
    add_playbooks(paths, cell, [[], ["Read the row."], ["Read the whole row.", "Match the year."]])
    page = opened(report_of(paths))
    change = page.locator("#change")
    assert "Version 0 to 2: 2 added" in change.inner_text()
    page.locator("#versions [name=older]").select_option("1")
    assert "1 added, 0 removed, 1 reworded" in change.inner_text()
    assert page.locator("#difference ins").first.inner_text().strip() == "whole"


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_texts_stay_texts(tmp_path: Path, opened: Open, width: int) -> None:
    def hostile(number: int, mode: str) -> Mapping[str, Any]:
        text = HOSTILE[number]
        return {"question": text, "gold": text, "pred": text, "raw_output": text, "context": text}

    paths = make_run(tmp_path / "run", samples=len(HOSTILE), change=hostile)
    add_playbooks(paths, cell_of("ace").cell_id, [list(HOSTILE)])
    page = opened(report_of(paths), viewport={"width": width, "height": 800})
    for number in range(len(HOSTILE)):
        page.locator("#list button").nth(number).click()
        expect(page.locator("#detail-title")).to_contain_text(f"s{number:05d}")
        assert HOSTILE[number] in page.locator("#detail").inner_text()
        page.keyboard.press("Escape")
    assert page.evaluate("window.hit") is None
    assert page.locator("img").count() == 0
    assert HOSTILE[0] in page.locator("#difference").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_hundred_thousand_rows_fit_in_a_file_that_opens_at_once(tmp_path: Path, opened: Open) -> None:
    contexts = [prose(number, 2000) for number in range(25_000)]

    def large(number: int, mode: str) -> Mapping[str, Any]:
        said = prose(number * 100 + len(mode), 60)
        texts = {"context": contexts[number], "raw_output": said, "pred": said[:30]}
        return {**texts, "question": f"{prose(-number - 1, 80)}?", "correct": int(number % 3 == 0)}

    made = reported(make_run(tmp_path / "run", samples=25_000, change=large))
    report = made.path
    assert made.size_bytes == report.stat().st_size < 30e6
    assert made.rows_shown == made.rows_total == 100_000
    began = time.monotonic()
    page = opened(report)
    usable_s = time.monotonic() - began
    print(f"\n{report.stat().st_size / 1e6:.1f} MB, usable after {usable_s:.2f} s")
    page.locator("#list button").first.click()
    expect(page.locator("#detail .answer")).to_have_count(4)
    assert page.locator("#shown").inner_text()
    assert usable_s < 10  # a bound for any machine; what this one needs is printed
