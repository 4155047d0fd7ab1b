"""The playbooks of a run: every version, stored as references to the bullets' states, and their texts.

books = read_playbooks(paths)
books[0].growth          # per version: version, bullets shown, quarantined, characters
finder(books)            # finds the playbook text that stands in a prompt
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aceslm.ace.playbook import codec
from aceslm.ace.playbook.bullets import Bullet, Playbook
from aceslm.core.errors import DataError
from aceslm.core.files import is_temporary
from aceslm.core.paths import RunPaths
from aceslm.report.samples import FindPlaybook

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Growth:
    """One version in numbers."""

    version: int
    shown: int
    quarantined: int
    chars: int


@dataclass(slots=True)
class Book:
    """One playbook's history. `states` are distinct bullet states, `versions` lists of indices into them."""

    name: str
    last: Playbook
    growth: list[Growth] = field(default_factory=list)
    versions: list[list[int]] = field(default_factory=list)
    states: list[list[Any]] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """Return what the page needs to show any version and the difference of two."""
        numbers = [one.version for one in self.growth]
        return {"name": self.name, "numbers": numbers, "versions": self.versions, "states": self.states}


def read_playbooks(paths: RunPaths) -> list[Book]:
    """Read all versions of all playbooks; a version that cannot be read is left out with a warning."""
    root = paths.root / "playbooks"
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    books = []
    for folder in folders:
        book = Book(folder.name, Playbook())
        known: dict[Bullet, int] = {}
        files = [path for path in folder.glob("v[0-9]*.jsonl") if path.stem[1:].isdigit()]
        for path in sorted(path for path in files if not is_temporary(path)):
            try:
                _add_version(book, codec.load(path), known)
            except DataError as error:
                log.warning("%s; the report leaves this version out", error)
        if book.growth:
            books.append(book)
    return books


def finder(books: Sequence[Book]) -> FindPlaybook:
    """Return a function that finds which playbook text, if any, a prompt carries."""
    by_name = {book.name: book for book in books}
    last: dict[tuple[str, int], str] = {}

    def find(cell_id: str, version: int | None, prompt: str) -> str:
        if version is None:
            return ""
        own = by_name.get(cell_id)
        near = [last.get((cell_id, version), ""), own.texts.get(version, "") if own else ""]
        for text in (*near, *(book.texts.get(version, "") for book in books)):
            if text and text in prompt:
                last[cell_id, version] = text
                return text
        return ""

    return find


def _add_version(book: Book, playbook: Playbook, known: dict[Bullet, int]) -> None:
    indices = []
    for bullet in playbook.bullets:
        if bullet not in known:
            known[bullet] = len(known)
            counts = [bullet.helpful, bullet.harmful, bullet.created]
            book.states.append([bullet.bullet_id, bullet.section, bullet.text, bullet.status, *counts])
        indices.append(known[bullet])
    text = playbook.render()
    book.versions.append(indices)
    book.growth.append(Growth(playbook.version, len(playbook.shown), len(playbook.quarantined), len(text)))
    book.texts[playbook.version] = text
    book.last = playbook
