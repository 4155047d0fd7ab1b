"""Texts as they are compared: normalised, as numbers, by token F1.

Pure functions; none of them raises on any input, and none takes more than linear time.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter

from aceslm.tasks.quantities import as_quantity

_ARTICLES = re.compile(r"\b(?:an?|the)\b")
_NUMBER = re.compile(r"(?<![\w.])-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?!\w)")
_DROPPED = str.maketrans("", "", ".'\u2019`")

_SENTENCE_END = re.compile(r"(?<=[^\s.]{2})[.!?](?=\s|$)|(?<=[A-Z)%\"'*])[.!?](?=\s+[A-Z]|$)")


def first_sentence(line: str) -> str:
    """Return a line up to the end of its first sentence that says something."""
    for match in _SENTENCE_END.finditer(line):
        if sum(map(str.isalnum, line[: match.start()])) > 1:  # "B. Insulin" goes on
            return line[: match.start()]
    return line


def once(line: str) -> str:
    """Return "Oslo" of "Oslo Oslo Oslo Oslo"."""
    words = line.split()
    for size in range(1, len(words) // 4 + 1) if len(words) <= 60 else ():
        if len(words) % size == 0 and words == words[:size] * (len(words) // size):
            return " ".join(words[:size])
    return line


def unaccented(text: str) -> str:
    """Return a text in compatibility forms, without the accents of Latin letters: "Júpiter" -> "Jupiter"."""
    parted = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFKC", re.sub("(?<=[A-Za-z])[\u0300-\u036f]+", "", parted))


def normalise(text: str, *, articles: bool = False) -> str:
    """Return `text` for comparison: case, punctuation, articles, currency and percent signs, thousands
    separators, trailing zeros and white space do not count.

    Articles stay with `articles=True`: "Vitamin A" is not "vitamin".

    >>> normalise("The  U.S. paid $1,234.50!")
    'us paid 1234.5'
    """
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u2212", "-")
    pieces: list[str] = []
    end = 0
    for match in _NUMBER.finditer(text):
        pieces += [_words(text[end : match.start()], articles), _digits(match.group())]
        end = match.end()
    pieces.append(_words(text[end:], articles))
    return " ".join(" ".join(pieces).split()) or " ".join(text.split())


def parse_number(text: str) -> float | None:
    """Return the number that `text` as a whole is, or None.

    Thousands separators, currency and percent signs, a scale word, parentheses for negatives, scientific
    notation and fractions are read; the scale word is not multiplied in.

    >>> parse_number("$(1,234.5) million")
    -1234.5
    """
    found = as_quantity(text.strip().rstrip("."))
    value = math.inf if found is None else float(found.value)
    return value if math.isfinite(value) else None


def token_f1(predicted: str, gold: str) -> float:
    """Return the F1 over bags of normalised tokens (SQuAD, Rajpurkar et al. 2016)."""
    left, right = normalise(predicted).split(), normalise(gold).split()
    if not left or not right:
        return float(left == right)
    common = (Counter(left) & Counter(right)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(left), common / len(right)
    return 2 * precision * recall / (precision + recall)


def _words(text: str, articles: bool) -> str:
    """Drop what stands inside words (U.S., company's); every other sign or symbol parts words."""
    signs = (" " if unicodedata.category(char)[0] in "PS" else char for char in text.translate(_DROPPED))
    return "".join(signs) if articles else _ARTICLES.sub(" ", "".join(signs))


def _digits(text: str) -> str:
    whole, _, decimals = text.replace(",", "").partition(".")
    sign, whole = whole[: -len(whole.lstrip("-"))], whole.lstrip("-").lstrip("0") or "0"
    decimals = decimals.rstrip("0")
    shown = f"{whole}.{decimals}" if decimals else whole
    return shown if shown == "0" else sign + shown
