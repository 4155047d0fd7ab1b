"""Which JSON schemas an engine takes: those whose replies cannot grow without end.

check_bounded('{"type": "string"}')   # EngineError: $ has no maxLength ...

A small model fills what it is given: a string without a bound runs into `max_new_tokens` and leaves broken
JSON behind. So every string, array and number needs a bound, and whatever the grammar compiler would ignore
or leave open (`allOf`, `uniqueItems`, `format`, recursion, free properties) is refused instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from aceslm.core.errors import EngineError

_DEFINITIONS = "#/$defs/"
_REFUSED = (
    *("allOf", "not", "if", "uniqueItems", "contains", "format", "unevaluatedItems"),
    *("patternProperties", "propertyNames", "minProperties", "maxProperties", "dependentSchemas"),
)
_ATOM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]")  # an escape or a character class of a pattern
_ENDLESS = re.compile(r"[*+]|\{\d*,\}")


def check_bounded(json_schema: str) -> None:
    """Check that every reply to a schema has a greatest length.

    Understood: `enum`, `const`, `anyOf`, `oneOf`, `$ref` to `#/$defs/NAME` without recursion, and the types
    null, boolean, string (`maxLength`, or a `pattern` without `*`, `+` and `{n,}`), integer and number
    (both limits), array (`items` and `maxItems`) and object (`properties`).

    Raises:
        EngineError: names the first place that has no bound, or is not JSON.
    """
    try:
        schema = json.loads(json_schema)
    except ValueError as error:
        raise EngineError(f"JSON schema: not JSON: {error}") from None
    definitions = schema.get("$defs", {}) if isinstance(schema, dict) else {}
    for problem in _problems(schema, "$", definitions, ()):
        raise EngineError(f"JSON schema: {problem}")


def _problems(schema: Any, where: str, definitions: Any, inside: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong below one schema; `inside` are the references that led here."""
    if not isinstance(schema, dict):
        yield f"{where} must be an object with a type"
        return
    for keyword in _REFUSED:
        if keyword in schema:
            yield f"{where} uses {keyword}, which the grammar compiler ignores or cannot bound: leave it out"
    if "enum" in schema or "const" in schema:
        return
    if "$ref" in schema:
        yield from _reference_problems(str(schema["$ref"]), where, definitions, inside)
        return
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        for choice in choices:
            yield from _problems(choice, where, definitions, inside)
        return
    kinds = schema.get("type")
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind == "array":
            if not isinstance(schema.get("maxItems"), int):
                yield f"{where} has no maxItems"
            yield from _problems(schema.get("items"), f"{where}[]", definitions, inside)
        elif kind == "object":
            yield from _object_problems(schema, where, definitions, inside)
        else:
            yield from _scalar_problems(kind, schema, where)


def _reference_problems(name: str, where: str, definitions: Any, inside: tuple[str, ...]) -> Iterator[str]:
    if name in inside:
        yield f"{where} refers to itself ({name}): recursion has no bound"
    elif not name.startswith(_DEFINITIONS) or name.removeprefix(_DEFINITIONS) not in definitions:
        yield f"{where} refers to {name}: only {_DEFINITIONS}NAME of the same schema can be used"
    else:
        target = definitions[name.removeprefix(_DEFINITIONS)]
        yield from _problems(target, where, definitions, (*inside, name))


def _object_problems(
    schema: dict[str, Any], where: str, definitions: Any, inside: tuple[str, ...]
) -> Iterator[str]:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        yield f"{where} has no properties"
        return
    if schema.get("additionalProperties", False) is not False:
        yield f"{where} takes any property: set additionalProperties to false"
    for name, value in properties.items():
        yield from _problems(value, f"{where}.{name}", definitions, inside)


def _scalar_problems(kind: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    if kind == "string":
        pattern = schema.get("pattern")
        if pattern is None and not isinstance(schema.get("maxLength"), int):
            yield f"{where} has no maxLength"
        if pattern is not None and ("maxLength" in schema or "minLength" in schema):
            yield f"{where} has a pattern, beside which a length is ignored: put the length into the pattern"
        if pattern is not None and _ENDLESS.search(_ATOM.sub("x", str(pattern))):
            yield f"{where} has a pattern without an end: replace * + {{n,}} by {{m,n}}"
    elif kind in {"integer", "number"}:
        for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if limit not in schema and exclusive not in schema:
                yield f"{where} has no {limit}: its digits would have no end"
    elif kind not in {"boolean", "null"}:
        known = "string, integer, number, boolean, null, array, object"
        yield f"{where} has type {json.dumps(kind)}; known: {known}"
