"""Takes the README's picture of a report: `make report-picture RUN=results/<run>`.

python tests/browser/picture.py report.html picture.png [--dark] [--width 1280] [--full]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from chromium import chromium


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1180)
    parser.add_argument("--full", action="store_true", help="the whole page, not only its head")
    given = parser.parse_args()
    with chromium() as browser:
        page = browser.new_page(
            viewport={"width": given.width, "height": given.height},
            color_scheme="dark" if given.dark else "light",
        )
        page.goto(given.report.resolve().as_uri())
        page.wait_for_selector("html[data-ready]")
        page.screenshot(path=given.picture, full_page=given.full)


if __name__ == "__main__":
    main()
