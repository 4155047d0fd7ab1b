"""The JSON schemas of the Reflector's and the Curator's reply, and the token budgets in which they close.

    Prompt(..., json_schema=REFLECTOR_JSON, max_new_tokens=REFLECTOR_MAX_NEW_TOKENS)

Every string is bounded by its pattern (grammar compilers ignore `maxLength` beside a pattern, so there is
none) and every array by `maxItems`. Strings are printable ASCII without quotes, backslashes and square
brackets: one byte a character, no escapes, so a reply never has more tokens than characters, and a lesson
cannot forge a bullet id mark. The budgets are the longest replies that the schemas allow. They hold for a
grammar without free white space between the parts (separators `, ` and `: `, as `json.dumps` writes).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

MAX_DIAGNOSIS_CHARS = 100
MAX_LESSON_CHARS = 160
MAX_SECTION_CHARS = 24
MAX_TAGGED = 3
MAX_MERGED = 3
MAX_OPERATIONS = 3

_TEXT = r"[A-Za-z][ !#-Z^-~]"


def _text(shortest: int, longest: int) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{_TEXT}{{{shortest - 1},{longest - 1}}}$"}


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _array(items: Any, longest: int, shortest: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": shortest, "maxItems": longest}


_ID = {"type": "string", "pattern": "^b[1-9][0-9]{0,3}$"}
_LESSON = _text(12, MAX_LESSON_CHARS)
_SECTION = {"type": "string", "pattern": f"^[a-z][a-z ]{{2,{MAX_SECTION_CHARS - 1}}}$"}

REFLECTOR_SCHEMA: Schema = _object(
    diagnosis=_text(4, MAX_DIAGNOSIS_CHARS),
    lesson=_LESSON,
    helpful=_array(_ID, MAX_TAGGED),
    harmful=_array(_ID, MAX_TAGGED),
)

CURATOR_SCHEMA: Schema = _object(
    operations=_array(
        {
            "anyOf": [
                _object(op={"const": "add"}, section=_SECTION, text=_LESSON),
                _object(op={"const": "update"}, id=_ID, text=_LESSON),
                _object(op={"const": "merge"}, ids=_array(_ID, MAX_MERGED, 2), text=_LESSON),
                _object(op={"const": "remove"}, id=_ID),
            ]
        },
        MAX_OPERATIONS,
    )
)


def longest_reply(schema: Schema) -> int:
    """Return the number of characters of the longest JSON text that `schema` allows (these forms only)."""
    if "anyOf" in schema:
        return max(longest_reply(option) for option in schema["anyOf"])
    if "const" in schema:
        return len(json.dumps(schema["const"]))
    if schema["type"] == "string":
        return _longest_match(schema["pattern"]) + 2
    if schema["type"] == "array":
        count = int(schema["maxItems"])
        return 2 + count * longest_reply(schema["items"]) + 2 * max(count - 1, 0)
    members = [len(json.dumps(name)) + 2 + longest_reply(one) for name, one in schema["properties"].items()]
    return 2 + sum(members) + 2 * (len(members) - 1)


def conforms(value: Any, schema: Schema) -> bool:
    """Say whether a decoded JSON value follows `schema` (the forms used here)."""
    if "anyOf" in schema:
        return any(conforms(value, option) for option in schema["anyOf"])
    if "const" in schema:
        return bool(value == schema["const"])
    if schema["type"] == "string":
        return isinstance(value, str) and re.fullmatch(schema["pattern"].strip("^$"), value) is not None
    if schema["type"] == "array":
        return (
            isinstance(value, list)
            and schema["minItems"] <= len(value) <= schema["maxItems"]
            and all(conforms(one, schema["items"]) for one in value)
        )
    return (
        isinstance(value, dict)
        and list(value) == schema["required"]
        and all(conforms(value[name], one) for name, one in schema["properties"].items())
    )


def _longest_match(pattern: str) -> int:
    """Return the length of the longest match; the last character class repeats `{m,n}`, others stand once."""
    classes, _, bounds = pattern.strip("^$").rpartition("{")
    return len(re.findall(r"\[[^]]*\]|[a-z]", classes)) - 1 + int(bounds.rstrip("}").partition(",")[2])


REFLECTOR_JSON = json.dumps(REFLECTOR_SCHEMA)
CURATOR_JSON = json.dumps(CURATOR_SCHEMA)

_END_TOKEN = 1
REFLECTOR_MAX_NEW_TOKENS = longest_reply(REFLECTOR_SCHEMA) + _END_TOKEN
CURATOR_MAX_NEW_TOKENS = longest_reply(CURATOR_SCHEMA) + _END_TOKEN
