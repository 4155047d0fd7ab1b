"""JSON as language models write it: fenced, cut off, with single quotes, bare keys or trailing commas.

loose_json('{"answer": "B", "why": "because')      # {'answer': 'B', 'why': 'because'}
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_DEPTH = 12
_ATTEMPTS = 30  # openings that are tried in one text: LaTeX and sets have brackets too

_SPACE = re.compile(r"(?:\s|//[^\n]*)*")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|\\?$)', re.DOTALL)
_SINGLE = re.compile(r"'((?:[^'\\\n]|\\.|'(?=\w))*)(?:'|\\?$)")
_BARE_KEY = re.compile(r"[A-Za-z_][\w -]{0,40}")
_BARE = re.compile(r"[^,\[\]{}\n\"]+")
_AMOUNT = re.compile(
    r"[-+(]?\s?[$€£]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?\)?(?:\s?%|\s[A-Za-z]+)?(?=\s*(?:[,}]|$))"
)
# "\frac" inside a string is LaTeX, not a form feed
_ESCAPE = re.compile(
    r"\\(?!(?:frac|dfrac|tfrac|boxed|text\w*|times|right|approx|begin|neq|math\w+)\b)(u[0-9a-fA-F]{4}|.)",
    re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": " ", "b": " ", "f": " "}


class _NotJsonError(Exception):
    """The text at this place is no JSON, whatever is forgiven."""


@dataclass(frozen=True, slots=True)
class FoundJson:
    """A value with the place where it stands."""

    value: object
    start: int
    end: int


def loose_json(text: str) -> object:
    """Return the last JSON object or list of a text, or None."""
    return found[-1].value if (found := find_json(text)) else None


def find_json(text: str) -> list[FoundJson]:
    """Return the JSON objects and lists of a text that do not lie in one another."""
    found: list[FoundJson] = []
    at = 0
    for _ in range(_ATTEMPTS):
        opening = min((n for n in (text.find("{", at), text.find("[", at)) if n >= 0), default=-1)
        if opening < 0:
            break
        try:
            value, end = _value(text, opening, 0)
        except _NotJsonError:
            at = opening + 1
        else:
            found.append(FoundJson(value, opening, end))
            at = max(end, opening + 1)
    return found


def _value(text: str, at: int, depth: int) -> tuple[object, int]:
    if depth > MAX_DEPTH:
        raise _NotJsonError
    if text.startswith("{", at):
        return _object(text, at + 1, depth)
    if text.startswith("[", at):
        return _list(text, at + 1, depth)
    if (string := _string(text, at)) is not None:
        return string
    bare = _BARE.match(text, at)
    if bare is None:
        raise _NotJsonError
    word = bare.group().strip()
    known = {"true": True, "false": False, "null": None, "none": None}
    return (known.get(word.lower(), word)), bare.end()


def _object(text: str, at: int, depth: int) -> tuple[dict[str, object], int]:
    entries: dict[str, object] = {}
    while True:
        at = _skip(text, at, ",")
        if at >= len(text) or text[at] == "}":
            if not entries:
                raise _NotJsonError
            return entries, at + 1
        key, at = _string(text, at) or _bare_key(text, at)
        at = _skip(text, at, "")
        if at < len(text) and text[at] != ":":
            raise _NotJsonError
        at = _skip(text, at + 1, "")
        if at >= len(text):  # cut off behind a key
            return {**entries, key: None}, at
        amount = _AMOUNT.match(text, at)
        entries[key], at = (amount.group(), amount.end()) if amount else _value(text, at, depth + 1)
        at = _skip(text, at, "")
        if at < len(text) and text[at] not in ',}"':
            raise _NotJsonError


def _list(text: str, at: int, depth: int) -> tuple[list[object], int]:
    values: list[object] = []
    while True:
        at = _skip(text, at, ",")
        if at >= len(text) or text[at] == "]":
            if not values:
                raise _NotJsonError
            return values, at + 1
        value, at = _value(text, at, depth + 1)
        values.append(value)
        at = _skip(text, at, "")
        if at < len(text) and text[at] not in ",]":
            raise _NotJsonError


def _string(text: str, at: int) -> tuple[str, int] | None:
    match = _STRING.match(text, at) or _SINGLE.match(text, at)
    if match is None:
        return None
    return _ESCAPE.sub(_unescaped, match[1]), match.end()


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if len(code) == 5:
        char = chr(int(code[1:], 16))
        return " " if "\ud800" <= char <= "\udfff" else char
    return _ESCAPES.get(code, code if code in "\"'\\/" else match.group())


def _bare_key(text: str, at: int) -> tuple[str, int]:
    match = _BARE_KEY.match(text, at)
    if match is None:
        raise _NotJsonError
    return match.group().strip(), match.end()


def _skip(text: str, at: int, signs: str) -> int:
    while (match := _SPACE.match(text, at)) is not None:
        at = match.end()
        if at < len(text) and text[at] in signs and signs:
            at += 1
            continue
        break
    return at
