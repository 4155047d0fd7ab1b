"""A raw record in the task format -> a checked draft -> a sample.

    found = draft(where, raw, domain)
    sample = settled(found, "choice", reading)

In between stands what is decided for a file as a whole: the answer type, and how golds name their choice.
Every fault is a DataError with file, record and key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Any, cast

from aceslm.core.digests import context_digest
from aceslm.core.errors import DataError, nearest
from aceslm.core.values import ANSWER_TYPES, SPLITS, Sample
from aceslm.core.words import Split
from aceslm.data.formats import kind_of
from aceslm.data.readings import ALLOWED, LETTER, MAX_LETTERS, TEXT, Options, Reading
from aceslm.tasks.text import parse_number

REQUIRED_KEYS = ("id", "question", "answer")
OPTIONAL_KEYS = (
    *("context", "domain", "choices", "answer_type", "answer_is", "scale", "split", "context_id"),
    "metadata",
)
GOLD_READINGS = (LETTER, TEXT)  # what `answer_is` may say

_BY_TEXT_FIRST = Reading((TEXT, LETTER))


@dataclass(frozen=True, slots=True)
class Draft:
    """A checked record: its gold is still as written, its answer type "" unless the record names one."""

    where: str
    sample: Sample
    answer_is: str = ""

    @property
    def options(self) -> Options:
        """The choices as they are called in the task format: A, B, C, ..."""
        return Options.lettered(self.sample.choices)


def parse_sample(where: str, raw: Any, domain: str | None = None) -> Sample:
    """Return the sample of a raw record that says itself what it asks for.

    Raises:
        DataError: names `where` and the key.
    """
    found = draft(where, raw, domain)
    return settled(found, found.sample.answer_type or "span", _BY_TEXT_FIRST)


def draft(where: str, raw: Any, domain: str | None = None) -> Draft:
    """Check a raw record by itself.

    Args:
        where: file and record, for messages.

    Raises:
        DataError: names `where` and the key.
    """
    if not isinstance(raw, dict):
        raise DataError(f"{where}: expected an object with {', '.join(REQUIRED_KEYS)}, found {kind_of(raw)}")
    _check_keys(where, raw)
    metadata = raw.get("metadata", "")
    context, context_id = _string(where, raw, "context"), _string(where, raw, "context_id")
    sample = Sample(
        sample_id=_required(where, raw, "id"),
        question=_required(where, raw, "question"),
        answer=answer_text(where, raw["answer"]),
        context=context,
        domain=_string(where, raw, "domain") or domain or "",
        choices=_choices(where, raw.get("choices")),
        answer_type=_one_of(where, raw, "answer_type", ANSWER_TYPES),
        scale=_string(where, raw, "scale"),
        split=cast("Split", _one_of(where, raw, "split", SPLITS)),
        # questions about one text are not independent, whether or not somebody numbered the texts
        context_id=context_id or (context_digest(context) if context.strip() else ""),
        metadata=metadata
        if isinstance(metadata, str)
        else json.dumps(metadata, sort_keys=True, ensure_ascii=False),
    )
    return Draft(where, sample, _one_of(where, raw, "answer_is", GOLD_READINGS))


def settled(found: Draft, answer_type: str, reading: Reading) -> Sample:
    """Return the sample of a draft.

    Args:
        answer_type: the record's own, else the file's.
        reading: how a gold names its choice, where the record does not say it.

    Raises:
        DataError: the gold does not fit the answer type; names file, record and key.
    """
    sample, where = found.sample, found.where
    answer = sample.answer
    if answer_type in {"choice", "label"} and not sample.choices:
        raise DataError(f"{where}: answer_type '{answer_type}' needs the key 'choices'")
    if answer_type == "number" and parse_number(answer) is None:
        raise DataError(f"{where}: key 'answer': '{answer}' is not a number, as answer_type 'number' needs")
    if answer_type == "choice":
        answer = _gold_letter(found, Reading(ALLOWED[found.answer_is]) if found.answer_is else reading)
    if answer_type == "label" and Reading((TEXT,)).position(answer, found.options) is None:
        raise DataError(
            f"{where}: key 'answer': '{answer}' is not one of the choices{nearest(answer, sample.choices)}"
        )
    return replace(sample, answer=answer, answer_type=answer_type)


def answer_text(where: str, value: Any) -> str:
    """Return a gold answer as text: a number in plain digits, several spans as JSON text.

    Raises:
        DataError: it is empty, or neither text, number nor list.
    """
    if isinstance(value, bool):
        raise DataError(f'{where}: key \'answer\': true/false is ambiguous; write the words "yes"/"no"')
    if isinstance(value, list | tuple):
        spans = [answer_text(where, item) for item in value]
        if not spans:
            raise DataError(f"{where}: key 'answer' is an empty list")
        return spans[0] if len(spans) == 1 else json.dumps(spans, ensure_ascii=False)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DataError(f"{where}: key 'answer': {value} is not a number one can score")
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if not isinstance(value, str | int):
        raise DataError(f"{where}: key 'answer': expected a text, a number or a list, found {kind_of(value)}")
    if not str(value).strip():
        raise DataError(f"{where}: key 'answer' is empty")
    return str(value)


def _check_keys(where: str, raw: Mapping[str, Any]) -> None:
    for key in REQUIRED_KEYS:
        if raw.get(key) is None:
            raise DataError(f"{where}: key '{key}' is missing{_misspelt(raw)}")
    for key in raw:
        if key not in REQUIRED_KEYS and key not in OPTIONAL_KEYS:
            raise DataError(
                f"{where}: unknown key '{key}'{nearest(str(key), (*REQUIRED_KEYS, *OPTIONAL_KEYS))}"
            )


def _misspelt(raw: Mapping[str, Any]) -> str:
    strangers = [str(name) for name in raw if name not in REQUIRED_KEYS and name not in OPTIONAL_KEYS]
    return f" (found: {', '.join(strangers)})" if strangers else ""


def _required(where: str, raw: Mapping[str, Any], key: str) -> str:
    text = _string(where, raw, key)
    if not text.strip():
        raise DataError(f"{where}: key '{key}' is empty")
    return text


def _string(where: str, raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: key '{key}': expected a text, found {kind_of(value)}")
    return str(value)


def _one_of(where: str, raw: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    text = _string(where, raw, key).strip()
    if text and text not in known:
        raise DataError(f"{where}: key '{key}': '{text}' is not one of them{nearest(text, known)}")
    return text


def _choices(where: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, dict):
        value = [value[letter] for letter in sorted(value)]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str | int | float) for item in value):
        raise DataError(f"{where}: key 'choices': expected a list of texts, found {kind_of(value)}")
    choices = tuple(str(item) for item in value)
    if len(choices) == 1:
        raise DataError(f"{where}: key 'choices': expected at least 2 choices, found 1")
    folded = [choice.strip().lower() for choice in choices]
    if "" in folded or len(set(folded)) < len(folded):
        raise DataError(f"{where}: key 'choices': two choices are equal, or one is empty")
    return choices


def _gold_letter(found: Draft, reading: Reading) -> str:
    """Return the letter of the gold choice, in published order."""
    where, answer, count = found.where, found.sample.answer, len(found.sample.choices)
    if count > MAX_LETTERS:
        raise DataError(
            f"{where}: key 'choices': {count} choices, but the letters end at Z ({MAX_LETTERS}): answer_type "
            "'label' asks for the text of one and has no such limit"
        )
    position = reading.position(answer, found.options)
    if position is not None:
        return ascii_uppercase[position]
    letters = f"a letter A to {ascii_uppercase[count - 1]}"
    meanings: dict[tuple[str, ...], str] = {(LETTER,): f"not {letters}", (TEXT,): "not the text of a choice"}
    meant = meanings.get(reading.ways, f"neither {letters} nor the text of a choice")
    raise DataError(f"{where}: key 'answer': '{answer}' is {meant}")
