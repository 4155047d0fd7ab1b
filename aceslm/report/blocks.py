"""Texts as compressed blocks that the page decodes on demand, and JSON that is safe inside a script element.

    store = TextStore()
    store.add("a context")                      # -> 0; the same text again -> 0
    words = Words.of(store.blocks())
    [packed(text, words) for text in store.blocks()], store.starts

A block is the text of a JSON list; `starts` says which block holds the value with a given number. Packing
replaces frequent words by single characters that occur nowhere else (a fifth less), deflates, and writes base
85 in an alphabet without `<` and `&` (a sixteenth less than base 64). The page undoes it with the browser's
own inflate.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

BLOCK_CHARS = 256_000  # of JSON: large enough to compress well, small enough to decode in a few ms
_LEVEL = 9
_SAFE = str.maketrans("<&", ",.")  # base 85 has the first two and not the others
_WORD = re.compile(" ?[A-Za-z]{2,}")
_WORTH_CHARS = 2_000_000  # below, a list of words would save nothing
_COUNTED_BLOCKS = 60
_CODES = (*range(0x80, 0x800), *range(0x3400, 0xA000), *range(0xAC00, 0xD7A4))


@dataclass(frozen=True, slots=True)
class Words:
    """Frequent words, with or without the space before them, and the character that stands for each."""

    codes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: Sequence[str]) -> Words:
        """Choose the words of `texts`, counting an evenly spaced part of them; none for little text."""
        if sum(map(len, texts)) < _WORTH_CHARS:
            return cls()
        counts: Counter[str] = Counter()
        for text in texts[:: max(1, len(texts) // _COUNTED_BLOCKS)]:
            counts.update(_WORD.findall(text))
        taken = {ord(char) for text in texts if not text.isascii() for char in set(text)}
        free = (chr(code) for code in _CODES if code not in taken)
        frequent = [(count * (len(word) - 1), word) for word, count in counts.items() if count > 2]
        return cls(dict(zip((word for _, word in sorted(frequent, reverse=True)), free, strict=False)))

    def coded(self, text: str) -> str:
        """Return `text` with characters for words."""
        return _WORD.sub(lambda word: self.codes.get(word[0], word[0]), text) if self.codes else text

    def block(self) -> str:
        """Return the block that the page reads first: the characters, and their words in the same order."""
        return packed(as_json(["".join(self.codes.values()), list(self.codes)]))


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def packed(text: str, words: Words | None = None) -> str:
    """Return JSON text as one block; it holds no `<` and no `&`."""
    coded = words.coded(text) if words else text
    deflated = zlib.compress(coded.encode("utf-8", "replace"), _LEVEL)
    return base64.b85encode(deflated).decode("ascii").translate(_SAFE)


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
        """Return the JSON text of all blocks; nothing may be added afterwards."""
        self._close()
        return self._blocks

    def _close(self) -> None:
        if self._open:
            self._blocks.append(as_json(self._open))
        self._open, self._open_chars = [], 0
