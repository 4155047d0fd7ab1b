"""One row of a table -> what it says: columns by name or path, contexts as paragraphs, choices as options.

value = cell(cells, "context.contexts")      # a path into nested values; ABSENT where there is none
text = context_of(value, "context")
options = options_of(value)
"""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aceslm.data.readings import Options

ABSENT: Final = object()

_TEXT_KEYS = (
    *("text", "paragraph_text", "passage_text", "paragraph", "passage", "paragraphs", "passages"),
    *("content", "contents", "context", "contexts", "body", "sentences", "value"),
)
_TITLE_KEYS = ("title", "heading", "header")
_LABEL_KEYS = ("label", "key", "letter", "id", "idx")


class UnusableError(Exception):
    """A cell that no sample can be made of; the record is dropped, and this is why."""


def cell(cells: Mapping[str, Any], name: str) -> Any:
    """Return a column, or what a dotted path leads to: into objects, into lists by number or through all.

    >>> cell({"answers": {"text": ["x", "y"]}}, "answers.text.0")
    'x'
    """
    if name in cells:
        return cells[name]
    value: Any = cells
    for part in name.split("."):
        value = _step(value, part)
        if value is ABSENT:
            return ABSENT
    return value


def _step(value: Any, part: str) -> Any:
    value = structured(value)
    if isinstance(value, Mapping):
        return value.get(part, ABSENT)
    if isinstance(value, list | tuple):
        if part.isdecimal():
            return value[int(part)] if int(part) < len(value) else ABSENT
        found = [one[part] for one in value if isinstance(one, Mapping) and part in one]
        return found or ABSENT
    return ABSENT


def structured(value: Any) -> Any:
    """Return the list or object that a text spells, as JSON or as Python prints it; else the value itself."""
    if not isinstance(value, str) or value.strip()[:1] not in {"[", "{"}:
        return value
    try:
        return json.loads(value)
    except ValueError:
        pass
    try:
        found = ast.literal_eval(value.strip())
        words = [token.type for token in tokenize.generate_tokens(io.StringIO(value.strip()).readline)]
    except (ValueError, SyntaxError, tokenize.TokenError, MemoryError, RecursionError):
        return value
    strings = [n for n, kind in enumerate(words) if kind == tokenize.STRING]
    if any(n + 1 in strings for n in strings):  # an array as numpy prints it: 'a' 'b' would become 'ab'
        return value
    return found if isinstance(found, list | dict) else value


def is_empty(value: Any) -> bool:
    """Return whether a cell holds nothing."""
    return value is None or value is ABSENT or (isinstance(value, str) and not value.strip()) or value == []


def text_of(value: Any, what: str) -> str:
    """Return a plain cell as text.

    Raises:
        UnusableError: it is no plain value.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnusableError(f"{what}: expected a text, found a {type(value).__name__}")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def context_of(value: Any, column: str) -> str:
    """Return a context as text: paragraphs one below the other, each with its title where it has one.

    Raises:
        UnusableError: objects whose text has no known name.
    """
    if is_empty(value):
        return ""
    if isinstance(value, str):
        spelt = structured(value)
        if not isinstance(spelt, list) or not all(isinstance(one, str | list) for one in spelt):
            return value  # a text that happens to look like a series or an object is a text
        value = spelt
    if isinstance(value, Mapping):
        value = _records(value) or [value]
    if not isinstance(value, list | tuple):
        return text_of(value, "context")
    if all(isinstance(one, int | float) for one in value):
        return ", ".join(text_of(one, "context") for one in value)
    return "\n\n".join(filter(None, (_paragraph(one, column) for one in value)))


def _records(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return an object of equally long lists (title, sentences) as a list of objects."""
    text, title = _key(value, _TEXT_KEYS), _key(value, _TITLE_KEYS)
    if text is None or not isinstance(value[text], list | tuple):
        return []
    texts = value[text]
    titles = value[title] if title and isinstance(value[title], list | tuple) else None
    if titles is None or len(titles) != len(texts):
        return [{"text": one} for one in texts]
    return [{"title": head, "text": one} for head, one in zip(titles, texts, strict=True)]


def _paragraph(value: Any, column: str) -> str:
    if is_empty(value):
        return ""
    if isinstance(value, Mapping):
        text, title = _key(value, _TEXT_KEYS), _key(value, _TITLE_KEYS)
        if text is None:
            raise UnusableError(
                f"context: column '{column}' holds objects with {', '.join(map(str, value))}: name the one "
                f"with the text, for example --context-column {column}.{next(iter(value), 'text')}"
            )
        head = value[title] if title and not is_empty(value[title]) else ""
        return "\n".join(filter(None, (str(head).strip(), _paragraph(value[text], column))))
    if isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], list | tuple):
            return _paragraph({"title": value[0], "text": value[1]}, column)  # [title, [sentences]]
        return " ".join(filter(None, (_paragraph(one, column) for one in value)))
    return text_of(value, "context").strip()


def options_of(value: Any) -> Options:
    """Return choices: a list, a mapping label -> text, {"text": [...], "label": [...]} or a list of such.

    Raises:
        UnusableError: it is none of these.
    """
    value = structured(value)
    if isinstance(value, str):
        raise UnusableError('choices: neither a list nor JSON text such as ["yes", "no"]')
    if isinstance(value, Mapping):
        text, label = _key(value, _TEXT_KEYS), _key(value, _LABEL_KEYS)
        if text is None or not isinstance(value[text], list | tuple):
            return options_from_cells(list(value.values()), list(value))
        labels = value[label] if label and isinstance(value[label], list | tuple) else ()
        return _options(value[text], labels if len(labels) == len(value[text]) else None)
    if not isinstance(value, list | tuple):
        raise UnusableError(f"choices: expected a list, found a {type(value).__name__}")
    if value and all(isinstance(one, Mapping) for one in value):
        keys = [(_key(one, _TEXT_KEYS), _key(one, _LABEL_KEYS)) for one in value]
        if any(text is None for text, _ in keys):
            raise UnusableError(
                f"choices: objects with {', '.join(map(str, value[0]))}, none of which is 'text'"
            )
        labels = [one[label] for one, (_, label) in zip(value, keys, strict=True) if label]
        texts = [one[text] for one, (text, _) in zip(value, keys, strict=True)]
        return _options(texts, labels if len(labels) == len(texts) else None)
    return _options(value, None)


def options_from_cells(values: Sequence[Any], labels: Sequence[Any] | None = None) -> Options:
    """Return choices that stand in cells of their own; an empty cell is no choice, but keeps its place."""
    every = _options(["" if is_empty(value) else value for value in values], labels)
    kept = [n for n, text in enumerate(every.texts) if text]
    texts = tuple(every.texts[n] for n in kept)
    return Options(texts, tuple(every.labels[n] for n in kept), tuple(kept), texts)


def _options(texts: Sequence[Any], labels: Sequence[Any] | None) -> Options:
    plain = Options.lettered([text_of(text, "choices").strip() for text in texts])
    if labels is None:
        return plain
    return Options(plain.texts, tuple(str(label).strip() for label in labels), plain.places, plain.texts)


def _key(value: Mapping[str, Any], known: Sequence[str]) -> str | None:
    folded = {str(key).lower(): str(key) for key in value}
    return next((folded[name] for name in known if name in folded), None)
