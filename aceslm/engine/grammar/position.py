"""Where a reply stands in its JSON schema, as a short text: equal texts, equal next tokens.

    strings = bounded_strings(json_schema)
    place = Position(strings)
    place.take(b'{"lesson":"Read the')
    place.key        # '{"lesson":"#8': eight characters of a bounded string

What a grammar allows next depends on the structure so far and, inside a string that is bounded by its length
or by a pattern of character classes in a row, on the number of its characters only. Finding the allowed
tokens inside such a string takes a grammar library milliseconds a row and step; rows of a batch, and of all
later batches, pass the same places.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# character classes, escapes and plain characters in a row; only the last may repeat
_IN_A_ROW = re.compile(
    r"\^(?:\[\^?\]?(?:\\.|[^\]\\])*\]|\\[dws.\-]|[^\\\[\](){}.*+?|^$])*(?:\{\d+(?:,\d+)?\})?\$"
)


def bounded_strings(json_schema: str) -> frozenset[str]:
    """Return the properties with strings of which the number of characters decides what may follow.

    A property that has another kind of value somewhere in the schema, or another bound, is not among them.
    """
    kinds: dict[str, set[str]] = {}
    for name, kind in _values(json.loads(json_schema), ""):
        kinds.setdefault(name, set()).add(kind)
    return frozenset(name for name, found in kinds.items() if len(found) == 1 and "" not in found)


def _values(schema: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield (property, its bound or "") for all that can be a value of it; items belong to their array."""
    if isinstance(schema, list):
        for one in schema:
            yield from _values(one, name)
        return
    if not isinstance(schema, dict):
        return
    inner = [schema[key] for key in ("anyOf", "oneOf", "items", "prefixItems") if key in schema]
    for one in inner:
        yield from _values(one, name)
    for property_name, value in schema.get("properties", {}).items():
        yield from _values(value, property_name)
    for definition in schema.get("$defs", {}).values():
        yield from _values(definition, "")
    if not inner and "properties" not in schema:
        yield name, _bound(schema)


def _bound(schema: dict[str, Any]) -> str:
    if schema.get("type") != "string" or "enum" in schema or "const" in schema:
        return ""
    pattern = schema.get("pattern")
    if pattern is None:
        return f"{schema.get('minLength', 0)} to {schema.get('maxLength')}"
    return pattern if _IN_A_ROW.fullmatch(pattern) else ""


class Position:
    """Follows the bytes of one reply in compact JSON; `key` is None where only the grammar can tell."""

    def __init__(self, strings: frozenset[str]) -> None:
        self._strings = strings
        self._before = ""  # all that counts in front of the open string
        self._open: str | None = None  # what the open string holds
        self._nested: list[str] = []
        self._names: list[str] = []
        self._name = ""
        self._expects_name = False
        self._lost = False

    @property
    def key(self) -> str | None:
        if self._lost:
            return None
        if self._open is None:
            return self._before
        shown = f"#{len(self._open)}" if self._is_counted else self._open
        return f'{self._before}"{shown}'

    def take(self, text: bytes) -> None:
        """Take the bytes of a token that the grammar allowed."""
        if self._lost:
            return
        if not text.isascii() or b"\\" in text:
            self._lost = True  # characters of several bytes, escapes: rare, and the grammar's own business
            return
        for char in text.decode("ascii"):
            if self._open is None:
                self._structure(char)
            elif char == '"':
                self._close()
            else:
                self._open += char

    @property
    def _is_counted(self) -> bool:
        return not self._expects_name and self._name in self._strings

    def _structure(self, char: str) -> None:
        if char == '"':
            self._open = ""
            return
        self._before += char
        if char in "{[":
            self._nested.append(char)
            self._names.append(self._name)
            self._expects_name = char == "{"
        elif char in "}]":
            self._nested.pop()
            self._name = self._names.pop()
        elif char == ",":
            self._expects_name = self._nested[-1] == "{"

    def _close(self) -> None:
        said = self._open or ""
        self._before += '""' if self._is_counted else f'"{said}"'
        if self._expects_name:
            self._name, self._expects_name = said, False
        self._open = None
