"""A role's reply -> a typed value, or None: fail closed.

    reflection = parse_reflection(completion.text)
    curation = parse_curation(completion.text, truncated=completion.finish_reason == "length")

First the whole reply as JSON under the role's schema (`strict`: what grammar-constrained decoding gives).
Else tolerantly: a JSON value inside prose or a code fence, else `- lesson` lines. Repair only extracts what
is literally there: a value with a broken part is None as a whole, no missing part is made up, no text is cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aceslm.ace.playbook.bullets import DEFAULT_SECTION, tidy
from aceslm.ace.playbook.deltas import (
    MAX_TEXT_CHARS,
    MIN_TEXT_WORDS,
    Add,
    Delta,
    Merge,
    Remove,
    Update,
    same_words,
)
from aceslm.ace.roles.schemas import CURATOR_SCHEMA, MAX_OPERATIONS, REFLECTOR_SCHEMA, conforms

STRICT = "strict"
TOLERANT = "tolerant"

_MAX_STARTS = 40  # brackets in prose from which decoding is tried
_LINE = re.compile(r"^(?:[-*\u2022]|[0-9]{1,2}[.)])[ \t]+(.*)$")
_LESSON_LINE = re.compile(r"^lesson:[ \t]*(.*)$", re.IGNORECASE)
_OWN_MARK = re.compile(r"^\[b[0-9]+\][ \t]*", re.IGNORECASE)
_ID = re.compile(r"\[?(b[1-9][0-9]{0,8})\]?", re.IGNORECASE | re.ASCII)
_KEYS: Mapping[str, tuple[str, ...]] = {
    "op": ("op", "type", "operation", "action"),
    "text": ("text", "content", "lesson"),
    "id": ("id", "bullet_id"),
    "ids": ("ids", "bullet_ids"),
    "section": ("section",),
}


@dataclass(frozen=True, slots=True)
class Reflection:
    """What the Reflector said. `helpful` and `harmful` are bullet ids as written: not checked here."""

    diagnosis: str
    lesson: str
    helpful: tuple[str, ...] = ()
    harmful: tuple[str, ...] = ()
    how: str = STRICT


@dataclass(frozen=True, slots=True)
class Curation:
    """What the Curator proposes. `ignored` counts well-formed proposals beyond `MAX_OPERATIONS`."""

    deltas: tuple[Delta, ...]
    how: str = STRICT
    ignored: int = 0


def parse_reflection(text: str, *, truncated: bool = False) -> Reflection | None:
    """Read a Reflector's reply; None when it holds no lesson.

    Args:
        truncated: the reply ended at its token limit: its last line may be half a lesson and is not read.
    """
    strict = _decoded(text)
    if conforms(strict, REFLECTOR_SCHEMA):
        return _reflection(strict, STRICT)
    for value in _values(text):
        if isinstance(value, dict) and "lesson" in value:
            return _reflection(value, TOLERANT)
    lessons = _lessons(text, truncated)
    return Reflection("", lessons[0], how=TOLERANT) if lessons else None


def parse_curation(text: str, *, truncated: bool = False) -> Curation | None:
    """Read a Curator's reply; None when it holds no operation list that can be read as a whole.

    A well-formed empty list is a Curation without deltas: the Curator decided to change nothing.
    """
    strict = _decoded(text)
    if conforms(strict, CURATOR_SCHEMA):
        return _curation(strict["operations"], STRICT)
    for value in _values(text):
        operations = value.get("operations") if isinstance(value, dict) else value
        if isinstance(operations, list) and all(isinstance(one, dict) for one in operations):
            return _curation(operations, TOLERANT)
    lessons = _lessons(text, truncated)
    if not lessons:
        return None
    deltas = tuple(Add(DEFAULT_SECTION, lesson) for lesson in lessons[:MAX_OPERATIONS])
    return Curation(deltas, TOLERANT, len(lessons) - len(deltas))


def _reflection(value: Mapping[str, Any], how: str) -> Reflection | None:
    lesson = _text(value.get("lesson"))
    helpful, harmful = _ids(value.get("helpful", [])), _ids(value.get("harmful", []))
    if lesson is None or helpful is None or harmful is None:
        return None
    return Reflection(_text(value.get("diagnosis")) or "", lesson, helpful, harmful, how)


def _curation(operations: list[Any], how: str) -> Curation | None:
    deltas = [_delta(operation) for operation in operations]
    well_formed = [delta for delta in deltas if delta is not None]
    if len(well_formed) < len(deltas):
        return None
    kept = tuple(well_formed[:MAX_OPERATIONS])
    return Curation(kept, how, len(well_formed) - len(kept))


def _delta(operation: Mapping[str, Any]) -> Delta | None:
    given = {
        key: next((operation[name] for name in names if name in operation), None)
        for key, names in _KEYS.items()
    }
    text = _text(given["text"])
    ids = _ids(given["ids"] if given["ids"] is not None else [given["id"]])
    match str(given["op"]).lower():
        case "add" if text:
            section = given["section"] if given["section"] is not None else DEFAULT_SECTION
            return Add(tidy(section), text) if isinstance(section, str) else None
        case "update" if text and ids and len(ids) == 1:
            return Update(ids[0], text)
        case "merge" if text and ids and len(ids) > 1:
            return Merge(ids, text)
        case "remove" if ids and len(ids) == 1:
            return Remove(ids[0])
    return None


def _text(value: Any) -> str | None:
    """Return a lesson's text; a leading mark of its own id, as the playbook shows it, is not part of it."""
    if not isinstance(value, str):
        return None
    return _OWN_MARK.sub("", tidy(value)) or None


def _ids(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return None
    found = [_ID.fullmatch(one.strip()) for one in value]
    if not all(found):
        return None
    return tuple(dict.fromkeys(match[1].lower() for match in found if match))


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _values(text: str) -> Iterator[Any]:
    """Yield the JSON objects and arrays that stand in `text`, outermost first."""
    decoder = json.JSONDecoder()
    position = 0
    for _ in range(_MAX_STARTS):
        opening = re.compile(r"[{\[]").search(text, position)
        if opening is None:
            return
        try:
            value, position = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            position = opening.end()
        else:
            # "[]" and "[1]" in prose are no list of operations; an empty list counts inside an object only
            if isinstance(value, dict) or value:
                yield value


def _lessons(text: str, truncated: bool) -> list[str]:
    """Return the lines that are marked as lessons and can be one: whole, and of a few words."""
    lines = text.splitlines()
    if truncated:
        lines = lines[:-1]
    found = []
    for line in lines:
        match = _LESSON_LINE.match(line.strip()) or _LINE.match(line.strip())
        lesson = _text(match[1]) if match else None
        if lesson and len(lesson) <= MAX_TEXT_CHARS and len(same_words(lesson).split()) >= MIN_TEXT_WORDS:
            found.append(lesson)
    return found
