"""Numbers in words, written as digits: `twenty-one` -> `21`, `half a million` -> `0.5 million`.

    digits_for_words("one hundred and five eggs")   # '105 eggs'

Only what can be nothing but a number is replaced: ordinals, "the other one", "one of them" and a quarter of a
year stay words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
_SMALL = {word: n for n, word in enumerate(f"{_ONES} seventeen eighteen nineteen".split())}
_TENS = {
    word: 10 * n for n, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_BIG = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {
    **dict.fromkeys(("half", "halves"), 2),
    **dict.fromkeys(("third", "thirds"), 3),
    **dict.fromkeys(("quarter", "quarters", "fourth", "fourths"), 4),
    **dict.fromkeys(("fifth", "fifths"), 5),
    **dict.fromkeys(("sixth", "sixths"), 6),
    **dict.fromkeys(("eighth", "eighths"), 8),
    **dict.fromkeys(("tenth", "tenths"), 10),
}

_NUMBER = "|".join(sorted([*_SMALL, *_TENS, "hundred", *_BIG], key=len, reverse=True))
_AND = "|".join(rf"(?<={word})\sand\s" for word in ("hundred", *_BIG))
_RUN = re.compile(
    rf"(?<![\w.,'-])(?:an?\s(?=(?:hundred|thousand|million|billion|trillion|dozen)\b))?"
    rf"(?:{_NUMBER}|dozen)(?:(?:\s|-|{_AND})(?:{_NUMBER}|dozen)){{0,12}}(?:\sand\sa\s(?:half|quarter)"
    r"(?:\s(?:thousand|[mbtr]+illion))?)?"
    r"(?![\w']|-(?:fir|seco|thi|four|fif|six|seven|eigh|nin)(?:st|nd|rd|th)\b)",
    re.IGNORECASE,
)
_POINT = re.compile(
    rf"(?<![\w-])({'|'.join([*_SMALL, *_TENS])})\spoint((?:\s(?:{'|'.join(list(_SMALL)[:10])}))+)\b",
    re.IGNORECASE,
)
_HALF_A = re.compile(
    r"(?<![\w-])(?:a\s)?(half|quarter)(?:\sof)?\sa\s(million|billion|trillion|thousand|dozen)\b", re.I
)
_PART = re.compile(
    rf"(?<![\w-])({'|'.join(list(_SMALL)[1:13])})(?:\s|-)({'|'.join(_PARTS)})\b(?!\squarter)", re.IGNORECASE
)
# "one" stands for a thing as often as for a number.
_ONE_IS_NO_NUMBER = re.compile(
    r"(?:\b(?:no|this|that|the|each|every|which|any|some|another|other|correct|right|wrong|last|first|second"
    r"|next|latter|former|only)\s)$",
    re.IGNORECASE,
)
_AFTER_ONE = re.compile(
    r"\s(?:of|is|was|that|which|who|can|could|should|would|must|may|might|has|needs?|by|another)\b",
    re.IGNORECASE,
)


def digits_for_words(text: str) -> str:
    """Return `text` with its number words as digits; linear time."""
    text = _HALF_A.sub(lambda m: f"{'0.5' if m[1].lower() == 'half' else '0.25'} {m[2]}", text)
    text = _POINT.sub(_decimal, text)
    text = _PART.sub(lambda m: f"{_SMALL[m[1].lower()]}/{_PARTS[m[2].lower()]}", text)
    return _RUN.sub(_digits_in(text), text)


def _decimal(match: re.Match[str]) -> str:
    whole = match[1].lower()
    after = "".join(str(_SMALL[word.lower()]) for word in match[2].split())
    return f"{_SMALL[whole] if whole in _SMALL else _TENS[whole]}.{after}"


def _digits_in(text: str) -> Callable[[re.Match[str]], str]:
    def digits(match: re.Match[str]) -> str:
        said = match.group()
        lone = said.lower()
        if (lone == "one" and not _counts(text, match)) or lone in _BIG or lone in {"hundred", "dozen"}:
            return said  # "5 million": the scale of the digits in front
        return _written(said.lower().replace("-", " ").split())

    return digits


def _counts(text: str, match: re.Match[str]) -> bool:
    before = text[max(0, match.start() - 10) : match.start()]
    return not _ONE_IS_NO_NUMBER.search(before) and not _AFTER_ONE.match(text, match.end())


def _written(words: list[str]) -> str:
    """Return the digits of a run of number words; a scale word at its end stays: "five million"."""
    extra = Fraction(0)
    words = [word for word in words if word not in {"and", "a", "an"}]
    scale = words.pop() if len(words) > 1 and words[-1] in _BIG and not _BIG.keys() & set(words[:-1]) else ""
    if words[-1] in _PARTS:
        extra = Fraction(1, _PARTS[words.pop()])
    return " ".join(filter(None, (" ".join(_values(words, extra)), scale)))


def _values(words: list[str], extra: Fraction) -> list[str]:
    """Return the numbers that a run of words stands for: "two three" are two of them."""
    values: list[str] = []
    total = current = 0
    room = 10**15  # a smaller word may still be added; any other one begins the next number
    for word in words:
        if word in {"hundred", "dozen"}:
            current = max(current, 1) * (100 if word == "hundred" else 12)
            room = 100 if word == "hundred" else 1
        elif word in _BIG:
            total, current, room = total + max(current, 1) * _BIG[word], 0, 1000
        else:
            value = _SMALL[word] if word in _SMALL else _TENS[word]
            if value >= room:
                values.append(str(total + current))
                total = current = 0
            current += value
            room = 10 if word in _TENS else 1
    number = total + current + extra
    return [*values, str(number) if number.denominator == 1 else str(float(number))]
