"""What a gold answer means where there are choices: a letter, a choice's text, or its number.

    reading = choose_reading(src, golds, allowed, how)     # once per file, from all of its golds
    position = reading.position("B", options)              # among the options, from 0; None: it names none

"B" may be the second option, or the blood group B. One record cannot tell, the whole column can: a reading
counts only if it does not contradict another that the column allows as well; else the file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from aceslm.core.errors import DataError

LETTER, TEXT, FROM_0, FROM_1 = ("letter", "text", "index from 0", "index from 1")
ALL_READINGS = (TEXT, LETTER, FROM_1, FROM_0)
ALLOWED: Mapping[str, tuple[str, ...]] = {"letter": (LETTER,), "text": (TEXT,), "index": (FROM_1, FROM_0)}
MAX_LETTERS = len(ascii_uppercase)

_LETTERED = re.compile(
    r"\s*(?:\((?P<a>[A-Za-z]|\d{1,2})\)|\[(?P<b>[A-Za-z]|\d{1,2})\]|(?P<c>[A-Za-z])\s?[).:]|(?P<d>\d{1,2})\)"
    r"|(?P<e>\d{1,2})\.\s|(?P<f>[A-Za-z])\s+[-\u2013]\s)\s*(?P<text>.*)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one question in published order.

    `labels` are what the source calls them ("A", "B", ...; "1", ...), `places` their numbers from 0 where it
    leaves some empty, and `written` their texts with all that stood before them ("A) 21").
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    places: tuple[int, ...]
    written: tuple[str, ...]

    @property
    def some_lettered(self) -> bool:
        """Whether a text begins as if it carried a letter of its own."""
        return any(map(_LETTERED.fullmatch, self.texts))

    def without_letters(self) -> Options | None:
        """Return options without the letters in their texts; None where they do not carry one each."""
        matches = [_LETTERED.fullmatch(text) for text in self.texts]
        pairs = [(next(filter(None, m.group(*"abcdef"))), m["text"]) for m in matches if m]
        labels = tuple(label.upper() for label, _ in pairs)
        count = len(self.texts)
        letters, numbers = Options.lettered([""] * count).labels, [str(n + 1) for n in range(count)]
        if len(pairs) < count or sorted(labels) not in (sorted(letters), sorted(numbers)):
            return None
        return Options(tuple(text.strip() for _, text in pairs), labels, self.places, self.texts)

    @classmethod
    def lettered(cls, texts: Sequence[str]) -> Options:
        """Return options that are called A, B, C, ...; beyond Z they have numbers only."""
        labels = tuple(ascii_uppercase[n] if n < MAX_LETTERS else str(n + 1) for n in range(len(texts)))
        return cls(tuple(texts), labels, tuple(range(len(texts))), tuple(texts))


@dataclass(frozen=True, slots=True)
class Gold:
    """A gold answer as written, the options that it is one of, and where it stands."""

    where: str
    answer: str
    options: Options


@dataclass(frozen=True, slots=True)
class Reading:
    """How the golds of a file are read: by the first of these ways that names an option."""

    ways: tuple[str, ...]

    def position(self, answer: str, options: Options) -> int | None:
        """Return the position of the gold option; None where the answer names none."""
        found = _positions(answer, options)
        return next((found[way] for way in self.ways if way in found), None)


def choose_reading(src: str, golds: Sequence[Gold], allowed: Sequence[str], how: str) -> Reading:
    """Return how the golds of one file are to be read.

    Args:
        allowed: the ways that may be meant.
        how: what a user types to say it.

    Raises:
        DataError: the column can be read in two ways that contradict each other.
    """
    found = [
        {way: at for way, at in _positions(g.answer, g.options).items() if way in allowed} for g in golds
    ]
    ways = [way for way in allowed if any(way in one for one in found)]
    if {LETTER, TEXT} & set(ways) and all({LETTER, TEXT} & set(one) for one in found if one):
        ways = [way for way in ways if way in {LETTER, TEXT}]  # numbers are meant only where nothing else is
    if not ways:
        return Reading(tuple(allowed))
    counts = {way: sum(way in one for one in found) for way in ways}
    main = max(ways, key=lambda way: counts[way])
    needed = [main]
    for way in ways:
        alone = any(way in one and main not in one for one in found)
        clash = next(
            (n for n, one in enumerate(found) if {way, main} <= set(one) and one[way] != one[main]), None
        )
        if way == main or not (alone or counts[way] == counts[main]):
            continue
        if clash is not None:
            raise DataError(_ambiguous(src, golds[clash], found[clash], main, way, how))
        needed.append(way)
    return Reading(tuple(needed))


def _ambiguous(src: str, gold: Gold, found: Mapping[str, int], main: str, way: str, how: str) -> str:
    one, other = (f"'{gold.options.texts[found[name]]}' as {_article(name)}" for name in (main, way))
    place = gold.where.removeprefix(f"{src}: ")
    return (
        f"{src}: what the answers mean cannot be told from the file: in {place}, "
        f"'{gold.answer}' is {one} and {other}: {how}"
    )


def _article(way: str) -> str:
    return f"an {way}" if way.startswith("i") else f"a {way}"


def _positions(answer: str, options: Options) -> dict[str, int]:
    """Return every way in which an answer names an option, with the position that it then names."""
    found: dict[str, int] = {}
    label = answer.strip().rstrip(".):]").lstrip("([").strip().upper()
    labels = [one.upper() for one in options.labels]
    if label in labels:
        found[LETTER] = labels.index(label)
    if (at := _by_text(answer, options)) is not None:
        found[TEXT] = at
    if answer.strip().isdecimal():
        for way, base in ((FROM_0, 0), (FROM_1, 1)):
            if int(answer) - base in options.places:
                found[way] = options.places.index(int(answer) - base)
    return found


def _by_text(answer: str, options: Options) -> int | None:
    for texts in (options.texts, options.written):
        folded = [_folded(text) for text in texts]
        if _folded(answer) in folded:
            return folded.index(_folded(answer))
    return None


def _folded(text: str) -> str:
    return " ".join(text.split()).lower()
