"""The page itself: template, style and script of this folder put together, locked by a content policy.

Nothing is loaded from anywhere: the policy allows exactly the page's own style and script, named by their
digests, so that a text that slipped through escaping could neither run nor call home.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from aceslm.report.blocks import script_json

_FOLDER = Path(__file__).resolve().parent


def render(facts: Mapping[str, Any], index: Mapping[str, Any], blocks: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        facts: what the template shows; texts are escaped there.
        index: what the script needs at once.
        blocks: element id -> a block of `report.blocks`, decoded on demand.
    """
    style, script = _read("page.css"), _read("page.js")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("page.html")
        .render(
            **facts,
            policy=policy,
            style=Markup(style),  # noqa: S704 - our own files
            script=Markup(script),  # noqa: S704
            index=Markup(script_json(index)),  # noqa: S704 - cannot leave its element
            blocks={name: Markup(block) for name, block in blocks.items()},  # noqa: S704 - no `<` and no `&`
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
