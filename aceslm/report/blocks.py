"""Texts as compressed blocks that the page decodes on demand, and JSON that is safe inside a script element.

    store = TextStore()
    store.add("a context")      # -> 0; the same text again -> 0
    store.blocks(), store.starts

A block is a JSON list of values, deflated, in base64: no `<` can occur in it. A list of `starts` says which
block holds the value with a given number.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

BLOCK_CHARS = 256_000  # of JSON: large enough to compress well, small enough to decode in a few ms
_LEVEL = 9


def packed(value: Any) -> str:
    """Return a JSON value as one block."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), _LEVEL)).decode("ascii")


def script_json(value: Any) -> str:
    """Return JSON text that cannot leave a script element, whatever its strings hold."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@dataclass(slots=True)
class TextStore:
    """Numbered values in blocks; `add` gives equal values one number, `append` always a new one."""

    starts: list[int] = field(default_factory=list)
    _blocks: list[str] = field(default_factory=list)
    _open: list[Any] = field(default_factory=list)
    _open_chars: int = 0
    _count: int = 0
    _known: dict[str, int] = field(default_factory=dict)

    def add(self, text: str) -> int:
        """Return the number of `text`, stored on its first use."""
        number = self._known.get(text)
        if number is None:
            number = self._known[text] = self.append(text, len(text))
        return number

    def append(self, value: Any, chars: int) -> int:
        """Store a JSON value of about so many characters and return its number."""
        if not self._open:
            self.starts.append(self._count)
        self._open.append(value)
        self._open_chars += chars + 4
        self._count += 1
        if self._open_chars >= BLOCK_CHARS:
            self._close()
        return self._count - 1

    def blocks(self) -> list[str]:
        """Return all blocks; nothing may be added afterwards."""
        self._close()
        return self._blocks

    def _close(self) -> None:
        if self._open:
            self._blocks.append(packed(self._open))
        self._open, self._open_chars = [], 0
