"""Reading what a small model wrote: normalised text, numbers, scales, option letters.

Pure functions; none of them raises on any input, and none takes more than linear time.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from string import ascii_uppercase

from aceslm.tasks.quantities import Quantity, as_quantity, quantities, tidy

_ARTICLES = re.compile(r"\b(?:an?|the)\b")
_NUMBER = re.compile(r"(?<![\w.])-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?!\w)")
_DROPPED = str.maketrans("", "", ".'\u2019`")
_MARKER = re.compile(r"\banswer(?:\s+is|\s*:)|####|\bboxed\s*\{|=", re.IGNORECASE)
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")
_BEFORE_A_YEAR = re.compile(r"\b(?:in|for|of|during|since|from|to|year|fiscal|fy|and)$", re.IGNORECASE)

# Small models go on to invent the next question; what follows is not the answer any more.
_NEXT_QUESTION = re.compile(r"^(?:question|context|options|q)\s?:", re.IGNORECASE | re.MULTILINE)
_LEAD = re.compile(
    r"^\W*(?:(?:so|thus|therefore|hence)\W+)?(?:the )?(?:(?:correct|final|best|right) )?"
    r"(?:answer|response|label|option|choice)(?: (?:is|would be)\b ?:?| ?[:=]) ?",
    re.IGNORECASE,
)
_BULLET = re.compile(r"^(?:[-*\u2022]|[0-9]{1,2}[.)]) (?=\S)")

# "answer is (B)", "Answer: B", "option b)". A lone letter before a word may be an article ("A patient"), and
# a lower-case one needs its bracket or point.
_AFTER_MARKER = re.compile(
    r"\b(?i:answer|choice|option|letter|select|choose|boxed)(?: (?i:is|would be))? ?[:=]? ?"
    r"(?i:option|choice)?"
    r"[ (\[{\"'*]*(?:([A-Z])(?![\w'\u2019])(?! [a-z])|([a-z])(?=[).\]}:]|$))",
    re.MULTILINE,
)
_ALONE = re.compile(r"^\W*([A-Za-z])\W*$")
_AT_START = re.compile(r"^[ (\[{\"'*]*(?:([A-Z]) ?(?:[).:,\"'\]}*\-]|$)|([a-z])[).\]}])", re.MULTILINE)
_BRACKETED = re.compile(r"(?<!not )\(([A-Z])\)")
_ENUMERATED = re.compile(r"(?:^|[\s(])([A-Z])[.):](?=\s|$)", re.MULTILINE)


def answer_text(text: str) -> str:
    """Return the part of a reply that can hold the answer: no reasoning block, no invented next question.

    Lines are trimmed, empty ones left out, runs of spaces made one: patterns over the result take linear
    time. An unfinished reasoning block leaves nothing.
    """
    text = text.rpartition("</think>")[2].partition("<think>")[0]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    tidied = "\n".join(line for line in lines if line)
    return _NEXT_QUESTION.split(tidied, maxsplit=1)[0].strip()


def without_lead(text: str) -> str:
    """Return `answer_text` without an opening such as "The answer is" or "Answer:"."""
    return _LEAD.sub("", text, count=1).strip()


def answer_line(text: str) -> str:
    """Return the answer that a reply states in words: its first line, or opening bullets joined."""
    lines = [line for line in without_lead(answer_text(text)).split("\n") if any(map(str.isalnum, line))]
    listed: list[str] = []
    for line in lines:
        if not _BULLET.match(line):
            break
        listed.append(_BULLET.sub("", line))
    line = "; ".join(listed) if len(listed) > 1 else next(iter(lines), "")
    return line.strip("\"'*` ")


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
    return None if found is None else finite(found)


def find_number(text: str) -> tuple[float, str] | None:
    """Return the number a reply states as its answer, and its scale; None when it states none.

    >>> find_number("The answer is $3.2 million, up from 2.")
    (3.2, 'million')
    """
    found = find_quantity(text)
    value = None if found is None else finite(found)
    return None if found is None or value is None else (value, found.scale)


def find_quantity(text: str) -> Quantity | None:
    """Return the quantity a reply states as its answer, or None.

    The number after the last "answer is" or "=", else the first that is not a year as in "in 2019".
    """
    text = tidy(answer_text(text))
    found = quantities(text)
    for marker in reversed(list(_MARKER.finditer(text))):
        after = bisect_left(found, marker.end(), key=lambda one: one.start)
        if after < len(found):
            return found[after]
    return next((one for one in found if not _names_a_year(one, text)), next(iter(found), None))


def finite(quantity: Quantity) -> float | None:
    """Return the value of a quantity; None beyond the range of floating point."""
    value = float(quantity.value)
    return value if math.isfinite(value) else None


def find_letter(text: str, num_choices: int) -> int | None:
    """Return the position (0-based) of the option letter that a reply chooses, or None.

    Reads "B", "B.", "(b)", "B) Aspirin", "The answer is (B)", "**B**", "Option B". A model that corrects
    itself means the last "answer is". A reply that lists several options chose none of them.
    """
    text = answer_text(text)
    letters = ascii_uppercase[:num_choices]
    stated = [(upper or lower).upper() for upper, lower in _AFTER_MARKER.findall(text)]
    legal = [letter for letter in stated if letter in letters]
    if legal:
        return letters.index(legal[-1])
    if lists_options(text, num_choices):
        return None
    leading = _ALONE.match(text) or _AT_START.match(text)
    if leading is None:
        return None
    letter = next(group for group in leading.groups() if group).upper()
    return letters.index(letter) if letter in letters else None


def lists_options(text: str, num_choices: int) -> bool:
    """Say whether a reply repeats several options as a list."""
    listed = set(_ENUMERATED.findall(answer_text(text)))
    return len(listed & set(ascii_uppercase[:num_choices])) > 1


def lone_letter(text: str, num_choices: int) -> int | None:
    """Return the position of the only option letter that stands by itself in a reply, or None.

    "A deficiency" opens with an article, not with option A; "not (A)" does not choose A.
    """
    text = answer_text(text)
    letters = ascii_uppercase[:num_choices]
    bracketed = {letter for letter in _BRACKETED.findall(text) if letter in letters}
    if len(bracketed) == 1:
        return letters.index(bracketed.pop())
    plain = re.sub(r"(?<![A-Za-z])A(?= (?!or\b|and\b|is\b)[a-z])|\bnot \(?[A-Z]\b", "", text)
    alone = set(re.findall(rf"(?<![A-Za-z'])([{letters}])(?![A-Za-z'])", plain))
    return letters.index(alone.pop()) if len(alone) == 1 else None


def mentioned(text: str, phrases: Sequence[str]) -> list[int]:
    """Return the indices of the phrases that stand in `text`, leaving out those inside a longer one.

    Both sides normalised. "not X" does not mention X.
    """
    found: list[int] = []
    for index in sorted(range(len(phrases)), key=lambda n: (-len(phrases[n]), n)):
        phrase = phrases[index]
        if not phrase:
            continue
        remaining = re.sub(rf"\b(?:not|no|non|never|isnt) {re.escape(phrase)}(?!\w)", " ", text)
        if f" {phrase} " in f" {remaining} ":
            found.append(index)
            text = f" {text} ".replace(f" {phrase} ", " | ").strip()
    return found


def shown_number(value: float) -> str:
    """Return a number in plain digits, never with an exponent."""
    return f"{Decimal(repr(value)):f}".removesuffix(".0") if value else "0"


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


def _names_a_year(quantity: Quantity, text: str) -> bool:
    if not _YEAR.fullmatch(text[quantity.start : quantity.end].strip()):
        return False
    return bool(_BEFORE_A_YEAR.search(text[max(0, quantity.start - 20) : quantity.start].rstrip()))


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
