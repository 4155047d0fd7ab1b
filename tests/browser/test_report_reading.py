"""The report for its readers: by keyboard, on a phone, in the dark, on paper; and the exact prompts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from report_runs import add_playbooks, cell_of, make_run, prompt_text
from shards import reported

from aceslm.core.parquet import iter_rows
from aceslm.core.paths import RunPaths
from aceslm.core.record import Record
from browser.conftest import Open

pytestmark = pytest.mark.browser

_TOO_DIM = """() => {
    const light = (color) => {
        const parts = color.match(/[0-9.]+/g).slice(0, 3).map((part) => Number(part) / 255);
        const [r, g, b] = parts.map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (node) => {
        for (; node; node = node.parentElement) {
            const color = getComputedStyle(node).backgroundColor;
            if (color !== 'rgba(0, 0, 0, 0)') return color;
        }
        return 'rgb(255, 255, 255)';
    };
    const texts = 'p, td, th, dt, dd, a, button:not(:disabled), h1, h2, li, svg text, .state';
    return [...document.querySelectorAll(texts)]
        .filter((node) => node.textContent.trim() && node.getBoundingClientRect().width)
        .filter((node) => {
            const style = getComputedStyle(node);
            const text = light(node.tagName === 'text' ? style.fill : style.color);
            const back = light(ground(node));
            return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05) < 4.5;
        }).map((node) => node.outerHTML.slice(0, 120));
}"""
_OUTSIDE = """all => all.flatMap(svg => {
    const frame = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('circle, rect, text')].filter(mark => {
        const box = mark.getBoundingClientRect();
        return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
    }).map(mark => mark.outerHTML);
})"""


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    def answers(number: int, mode: str) -> Mapping[str, Any]:
        common = {"context": f"Table of year {number}.", "question": f"What rose in year {number}?"}
        return {**common, "correct": int(number == 1 and mode == "ace")}

    paths = make_run(tmp_path / "demo", 40, change=answers)
    add_playbooks(
        paths, cell_of("ace").cell_id, [[], ["Add the numbers."], ["Add the two numbers.", "Units."]]
    )
    return paths


def test_the_keyboard_is_enough(run: RunPaths, opened: Open) -> None:
    page = opened(reported(run).path)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.focus("#list tbody button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail .answer")
    assert page.evaluate("document.activeElement.id") == "detail-title"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.place") == "0"
    fields = page.locator("select, input").count()
    assert page.locator("label select, label input").count() == fields > 0


def test_pages_of_the_list_follow_each_other(run: RunPaths, opened: Open) -> None:
    page = opened(reported(run).path)
    assert page.locator("#list tbody button").count() == 25
    page.click("#pages [data-step='1']")
    page.wait_for_selector("#list button:text('s00025')")
    page.click("#pages [data-step='-1']")
    page.wait_for_selector("#list button:text('s00000')")


def test_the_prompt_is_the_exact_text_that_the_model_saw(run: RunPaths, opened: Open) -> None:
    page = opened(reported(run).path)
    page.click("text=s00001")
    cards = page.locator("#detail .answer")
    cards.first.wait_for()
    assert cards.locator(".state").all_text_contents() == ["wrong", "wrong", "correct", "wrong"]
    cards.nth(1).locator("summary").click()
    page.wait_for_selector("#detail details pre")
    rows = [Record(**row) for row in iter_rows(run.results) if row["sample_id"] == "s00001"]
    (row,) = [row for row in rows if row.mode == "scaffold"]
    assert page.text_content("#detail details pre") == prompt_text(row)


def test_plots_stay_inside_their_frames(run: RunPaths, opened: Open) -> None:
    page = opened(reported(run).path)
    kinds = set(page.eval_on_selector_all("figure", "all => all.map(one => one.dataset.kind)"))
    assert kinds >= {"accuracy", "latency", "throughput", "cost", "growth"}
    assert page.eval_on_selector_all("svg.plot", _OUTSIDE) == []
    drawn = "all => all.map(svg => svg.querySelectorAll('circle, rect').length)"
    assert min(page.eval_on_selector_all("svg.plot", drawn)) > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(run: RunPaths, opened: Open, scheme: str) -> None:
    """WCAG AA: a contrast of 4.5 : 1."""
    page = opened(reported(run).path, color_scheme=scheme)
    assert page.evaluate(_TOO_DIM) == []
    page.click("#theme")
    page.click("#theme")
    assert page.text_content("#theme") == "Theme: dark"
    assert page.evaluate(_TOO_DIM) == []


def test_a_phone_scrolls_tables_but_never_the_page(run: RunPaths, opened: Open) -> None:
    page = opened(reported(run).path, viewport={"width": 390, "height": 844}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.click("#list tbody button >> nth=0")
    page.wait_for_selector("#detail .answer")
    assert page.evaluate("document.getElementById('detail').scrollWidth") <= 390


def test_paper_has_plots_and_playbooks_but_no_controls(run: RunPaths, opened: Open) -> None:
    page = opened(reported(run).path)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.is_visible("#last-versions")
    assert page.is_visible("svg.plot >> nth=0")
    for selector in ("#filters", "#pages", ".top", "#versions"):
        assert not page.is_visible(selector)
    assert len(page.pdf()) > 10_000
