"""Which answer type a file asks for: decided once, from all of its records, and said.

    kind = infer_answer_type(src, asked, how)      # kind.name, kind.reason
    refuse_rationales(src, asked, how)             # golds such as "... so 9 * 2 = 18. #### 18"

The answer type decides the prompt. Decided record by record from the golds it would tell the model what kind
of answer is right; so it is one for the file, and where the file does not say which, it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from aceslm.core.errors import DataError
from aceslm.tasks.text import parse_number

_RATIONALE_WORDS = 6
# how a text marks its answer in the last line, in how many words at least -> what extracts it
_MARKERS = (
    (re.compile(r"#{3,}\s*\S"), 1, r"#### *(.+)"),
    (re.compile(r"\\boxed\s*\{"), 1, r"\\boxed\{(.+)\}"),
    (
        re.compile(r"(?i)\banswer\b[^.\n]{0,20}?(?:\bis\b|:|=)\s*\S"),
        _RATIONALE_WORDS,
        r"(?i)answer[^.]{0,20}?(?: is|:|=) *(.+)",
    ),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What decides about one record: where it stands, its gold as written, and whether it has choices."""

    where: str
    answer: str
    has_choices: bool


@dataclass(frozen=True, slots=True)
class Inferred:
    """An answer type and why it was taken."""

    name: str
    reason: str


def infer_answer_type(src: str, asked: Sequence[Asked], how: str) -> Inferred:
    """Return the answer type of all records that name none themselves.

    Args:
        how: what a user types to say it, for example `--answer-type`.

    Raises:
        DataError: some have choices and some do not, or most but not all golds are numbers.
    """
    count = len(asked)
    bare = [one for one in asked if not one.has_choices]
    if not bare:
        return Inferred("choice", f"all {count:,} records have choices")
    if len(bare) < count:
        raise DataError(
            f"{src}: {count - len(bare):,} of {count:,} records have choices and the others have none (the "
            f"first: {_place(src, bare[0])}): what is asked must not differ from record to record: {how}"
        )
    others = [one for one in asked if parse_number(one.answer) is None]
    if not others:
        return Inferred("number", f"all {count:,} answers are numbers")
    if len(others) <= count / 2:
        raise DataError(
            f"{src}: {count - len(others):,} of {count:,} answers are numbers and the others are not (the "
            f"first: {_place(src, others[0])}: '{_short(others[0].answer)}'): say number or span: {how}"
        )
    return Inferred("span", f"{len(others):,} of {count:,} answers are no numbers")


def refuse_rationales(src: str, asked: Sequence[Asked], how: str) -> None:
    """Refuse golds that are a whole rationale with the answer at its end.

    Args:
        how: what a user types to extract the answer; `{regex}` stands for the expression.

    Raises:
        DataError: says how many there are, and what extracts their answers.
    """
    for marker, words, regex in _MARKERS:
        found = [one for one in asked if _ends_in(marker, words, one.answer)]
        if found and len(found) >= len(asked) / 2:
            raise DataError(
                f"{src}: {len(found):,} of {len(asked):,} answers are a text that ends in the answer (the "
                f"first: {_place(src, found[0])}: '...{found[0].answer.strip()[-30:]}'): "
                f"{how.replace('{regex}', regex)}"
            )


def _ends_in(marker: re.Pattern[str], words: int, answer: str) -> bool:
    lines = answer.strip().splitlines()
    if not lines or len(answer.split()) < words:
        return False
    found = list(marker.finditer(lines[-1]))
    return bool(found) and len(lines[-1][found[-1].end() :].split()) < _RATIONALE_WORDS


def _place(src: str, one: Asked) -> str:
    return one.where.removeprefix(f"{src}: ")


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."
