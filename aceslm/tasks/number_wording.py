"""Numbers of replies as digits: words, ordinals, "63 dollars and 50 cents", "14 May 1987" for a year.

plainly("a drop of minus three")                                   # 'a drop of -3'
plainly("The third", "On which floor is the laboratory?")          # 'The 3'
"""

from __future__ import annotations

import re

from aceslm.tasks.marked import plain_latex
from aceslm.tasks.numerals import digits_for_words
from aceslm.tasks.quantities import tidy

_PARTS = {"half": "0.5", "quarter": "0.25", "third": "1/3"}
_PART = re.compile(r"\A\W*(?:an? )?(half|quarter|third)(?: (?:of )?an? ([a-z]+))?\W*\Z", re.IGNORECASE)
_MINUS = re.compile(
    r"(\A\W*|\b(?:is|was|of|by|about|approximately|at) |[:=] ?)(?:minus|negative) (?=[$€£]?\.?[0-9])",
    re.IGNORECASE,
)
_MINUS_SIGN = re.compile(r"^\u2212 (?=[$€£]?\.?[0-9])", re.MULTILINE)  # no bullet
_ORDINALS = {
    word: str(n)
    for n, word in enumerate("first second third fourth fifth sixth seventh eighth ninth tenth".split(), 1)
} | {"eleventh": "11", "twelfth": "12", "twentieth": "20", "thirtieth": "30"}
_TENS = {"twenty": "2", "thirty": "3", "forty": "4", "fifty": "5"}
_ORDINAL = re.compile(
    rf"(\A\W*(?:(?:it is |it's |on |in )?the )?)(?:({'|'.join(_TENS)})-)?(?:({'|'.join(_ORDINALS)})"
    r"|([0-9]{1,4})(?:st|nd|rd|th))(?=(?: [a-z]+)?\W*\Z)",
    re.IGNORECASE,
)
_IN_SCALE = re.compile(
    r"(?<=[0-9)])\s?(?:,\s?)?(?:\((?:all )?(?:figures |amounts )?in (thousand|million|billion)s?\)"
    r"|in (thousand|million|billion)s\b)",
    re.IGNORECASE,
)
_CENTS = re.compile(
    r"\b([0-9]+) (?:dollars?|euros?|pounds?),? (?:and )?([0-9]{1,2}) (?:cents?|pence)\b", re.I
)
_TOLERANCE = re.compile(r"(?<=[0-9%])\s?(?:±|\+/-)\s?[0-9.]+\s?%?")
_EITHER_SIGN = re.compile(r"(?:±|\+/-)\s?([0-9.]+)")
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    rf"\b(?:[0-9]{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH},?|{_MONTH}(?: [0-9]{{1,2}}(?:st|nd|rd|th)?)?,?)"
    r" ((?:1[0-9]|20)[0-9]{2})\b",
    re.IGNORECASE,
)
_ISO_DATE = re.compile(r"\b((?:1[0-9]|20)[0-9]{2})-[0-9]{2}-[0-9]{2}\b")
_ASKS_PLACE = re.compile(
    r"\b(?:which|what) (?!(?:is|are|was|were|did|does|do|fraction|part|share)\b)[a-z]", re.I
)
_ASKS_YEAR = re.compile(r"\b(?:what|which) year\b", re.IGNORECASE)


def plainly(text: str, question: str = "") -> str:
    """Return a text whose numbers are written with digits, as the question asks for them."""
    text = tidy(_MINUS_SIGN.sub("-", plain_latex(text)))
    if _ASKS_YEAR.search(question):
        text = _ISO_DATE.sub(r"\1", _DATE.sub(r"\1", text))
    if _ASKS_PLACE.search(question):
        text = _ORDINAL.sub(_cardinal, text)
    text = _PART.sub(lambda match: _part(match, question), text)
    text = _MINUS.sub(r"\1-", digits_for_words(text))
    text = _IN_SCALE.sub(lambda match: f" {(match[1] or match[2]).lower()}", text)
    text = _CENTS.sub(lambda match: f"${match[1]}.{match[2]:0>2}", text)
    return _EITHER_SIGN.sub(r"\1 or -\1", _TOLERANCE.sub("", text))


def _part(match: re.Match[str], question: str) -> str:
    """Return 0.5 for "half" and for "half a litre" where litres are asked for."""
    unit = (match[2] or "").lower()
    return _PARTS[match[1].lower()] if unit in question.lower() else match.group()


def _cardinal(match: re.Match[str]) -> str:
    if match[4] is not None:
        return match[1] + match[4]
    return match[1] + _TENS.get((match[2] or "").lower(), "") + _ORDINALS[match[3].lower()]
