"""The report: one HTML file that needs nothing but itself.

    made = write_report(run, analyse(run))
    made.path, made.size_bytes, made.rows_shown

It reads what the aggregation wrote (results, summary, coverage), prompts and playbooks; all of these travel
with a copied run directory. Plots are drawn here as SVG: they follow the theme, print, need no script and
weigh a few kilobytes, where an interactive library would weigh megabytes and loosen the content policy.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from aceslm.analysis.analysed import Analysed
from aceslm.analysis.evolved_playbooks import EVOLUTION_FOOTNOTE
from aceslm.analysis.tables import COMPARISON_FOOTNOTE, COST_FOOTNOTE, FOOTNOTE
from aceslm.analysis.verdicts import verdict_lines
from aceslm.core.files import replacing
from aceslm.core.run import Run
from aceslm.report.blocks import Words, as_json, packed
from aceslm.report.facts import read_facts
from aceslm.report.grids import comparison_grids, evolution_grid, summary_grids
from aceslm.report.page import render
from aceslm.report.playbooks import Book, finder, read_playbooks
from aceslm.report.plots import draw_all
from aceslm.report.samples import SEED, Browser, RowChoice, build_browser, choose_rows

log = logging.getLogger(__name__)

MAX_ROWS = 100_000
MAX_BYTES = 29_900_000
_LAST_VERSION_BULLETS = 200  # shown without a script
_FOOTNOTES = {
    "accuracy": FOOTNOTE,
    "comparisons": COMPARISON_FOOTNOTE,
    "cost": COST_FOOTNOTE,
    "evolutions": EVOLUTION_FOOTNOTE,
}


@dataclass(frozen=True, slots=True)
class Made:
    """What was written. `rows_shown` of `rows_total` rows can be looked at; the figures count all of them."""

    path: Path
    size_bytes: int
    rows_total: int
    rows_shown: int
    complete: bool


def try_report(run: Run, analysed: Analysed) -> None:
    """Write the report of a run that was just merged; whatever goes wrong is one warning, never an error."""
    try:
        write_report(run, analysed)
    except Exception as error:
        log.warning(
            "the report was not made (%s: %s): aceslm report %s", type(error).__name__, error, run.paths.root
        )


def write_report(run: Run, analysed: Analysed, output: Path | None = None, max_rows: int = MAX_ROWS) -> Made:
    """Write the report of a merged run, atomically.

    Rows beyond `max_rows`, or beyond what a file of 30 MB holds, are left out of the browser of samples (not
    of the figures), and the page says so.

    Raises:
        CorruptRun: a merged file is damaged.
    """
    paths = run.paths
    path = output or paths.report
    books = read_playbooks(paths)
    facts = _page_facts(run, analysed, books)
    while True:
        choice = choose_rows(paths, max_rows)
        text = _page(facts, choice, build_browser(paths, choice, finder(books)), books)
        size = len(text.encode("utf-8"))
        if size <= MAX_BYTES or choice.shown <= 1 or max_rows < 1:
            break
        max_rows = int(min(max_rows, choice.shown) * min(0.95, MAX_BYTES / size * 0.97))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    return Made(path, size, choice.total, choice.shown, not facts["head"].partial)


def _page_facts(run: Run, analysed: Analysed, books: Sequence[Book]) -> dict[str, Any]:
    """Return what the template shows besides the browser of samples."""
    summary, comparisons = analysed.summary, analysed.comparisons
    answered, took = summary_grids(summary)
    drawn = draw_all(summary, analysed.rows, books)
    return {
        "head": read_facts(
            run, analysed.spent, int(summary["errors"].sum()), int(summary["parse_failures"].sum())
        ),
        "answered": answered,
        "took": took,
        "costs": analysed.costs,
        "said": [*analysed.primary, *verdict_lines(comparisons.fresh)],
        "comparisons": comparison_grids(comparisons),
        "notes": comparisons.notes,
        "footnotes": _FOOTNOTES,
        "figures": [list(kind) for _, kind in groupby(drawn, lambda one: one.kind)],
        "evolved": evolution_grid(analysed.evolutions),
        "books": [
            {
                "name": book.name,
                "growth": book.growth[-1],
                "bullets": book.last.bullets[:_LAST_VERSION_BULLETS],
                "hidden": max(0, len(book.last.bullets) - _LAST_VERSION_BULLETS),
            }
            for book in books
        ],
    }


def _page(facts: Mapping[str, Any], choice: RowChoice, browser: Browser, books: Sequence[Book]) -> str:
    texts = {"rows": as_json(browser.rows)}
    texts |= {f"book-{number}": as_json(book.data()) for number, book in enumerate(books)}
    for name, store in browser.stores().items():
        texts |= {f"{name}-{number}": text for number, text in enumerate(store.blocks())}
    words = Words.of(list(texts.values()))
    blocks = {"words": words.block()} | {name: packed(text, words) for name, text in texts.items()}
    stores = {name: store.starts for name, store in browser.stores().items()}
    grown = max(range(len(books)), key=lambda number: len(books[number].last.bullets), default=0)
    index = {
        "cells": browser.cells,
        "stores": stores,
        "books": [book.name for book in books],
        "grown": grown,
    }
    return render({**facts, "choice": choice, "seed": SEED}, index, blocks)
