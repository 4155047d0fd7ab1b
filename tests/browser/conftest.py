"""Headless Chromium for the tests of the report: a page that must neither complain nor ask anybody anything.

On a machine without Chromium (Debian's package `chromium`) the tests skip with a reason; with CI=true they
fail instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browser.chromium import chromium, executable

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if executable() is None:
        reason = "no Chromium here (Debian's package chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with chromium() as started:
        yield started


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Open a report and wait until it can be used; at the end: nothing was asked, nothing complained of."""
    complaints: list[str] = []
    asked: list[str] = []
    pages: list[Page] = []

    def open_(report: Path, **options: object) -> Page:
        page = browser.new_page(**options)
        page.on("console", lambda one: complaints.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda one: complaints.append(str(one)))
        page.on("request", lambda one: asked.append(one.url))
        page.goto(report.resolve().as_uri())
        page.wait_for_selector("html[data-ready]", timeout=20_000)
        pages.append(page)
        return page

    yield open_
    for page in pages:
        with suppress(Exception):  # a browser that has gone holds no page
            page.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
