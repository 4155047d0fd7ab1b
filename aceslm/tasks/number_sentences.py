"""Which number one sentence or line gives: the first thing said, a result, the object of "is" or "makes".

Years, dates, list numbers, "Step 2", what stands in brackets, after "because" or "out of" are not the
answer while there is another number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from aceslm.tasks.number_candidates import ASIDE, answers
from aceslm.tasks.quantities import Quantity, as_quantity, quantities
from aceslm.tasks.units import in_asked_unit

SENTENCE = re.compile(
    r"(?<!\b[A-Za-z])(?<!approx)(?<!\bno)(?<!\bvs)(?<!\bca)(?<!\betc)[.!?][*\"')\]]*(?=\s|$)", re.IGNORECASE
)

LIST_NUMBER = re.compile(r"^[0-9]{1,2}[.)] (?=[-$€£~(]?\s?\.?[0-9])")

_RANGE = re.compile(
    r"^(?:\s?[a-z%$]{0,12})?\s*(?:-|(?<![a-z])(?:to|or|vs\.?|versus)|and(?! (?:that|this|it|so|therefore|the"
    r"|is)\b)|,|;|through|up to)\s*(?:about |perhaps |maybe |even )?[$€£]?\(?-?\.?[0-9]",
    re.IGNORECASE,
)

_BETWEEN = re.compile(r"\b(?:between|from|either|anywhere from|somewhere between)\s*[$€£]?$", re.IGNORECASE)

_OPERATOR = re.compile(
    r"\s*(?:[a-z%]{0,12}\s*)?(?:[x×*/÷+]|-(?=\s)|times\b|plus\b|minus\b|divided by\b"
    r"|multiplied by\b)\s*[$€£]?\(*\s*-?\.?[0-9]",
    re.IGNORECASE,
)

LEAD = re.compile(
    r"^[\s*_:\"'`~≈$(\[]*(?:(?:approximately|approx\.?|about|around|roughly|nearly"
    r"|almost|exactly|only|just|over|under|a total of"
    r"|equal to|usd|an? (?:increase|decrease|total|change|growth|profit|loss|value"
    r"|average|rate) of|up|down)\s+)*[~≈]?\s*$",
    re.IGNORECASE,
)

OBJECT_OF = re.compile(
    r"\b(?:is|are|was|were|be|equals?|equal to|makes?|made|making|earns?|earned|gets?"
    r"|pays?|paid|costs?|spends?|spent|receives?"
    r"|saves?|totals?|totall?ed|totall?ing|left with|have|has|had|comes? to|came to"
    r"|amounts? to|amounted to|reached|need(?:s|ed)?"
    r"|takes?|took|by|will be|remain(?:s|ing)?|there are|there were)(?: (?:a total"
    r" of|approximately|about|around|roughly|only"
    r"|exactly|nearly|almost|just|now|then))?[\s~≈*]*$",
    re.IGNORECASE,
)

# what a story begins with: "She had 20 apples and gave away 6"
_TOLD = re.compile(
    r"\b(?:had|there were|received|made|earned|paid|spent|took|needed)(?: \w+)?[\s~≈*]*$", re.IGNORECASE
)

_ASKS_END = re.compile(
    r"\b(?:left|remain\w*|now|still|total|altogether|in all|change|difference|profit)\b", re.IGNORECASE
)
_GOES_ON = re.compile(r"[^.;0-9]{0,60}?(?:,|\b(?:and|but|then)\b)[^.;0-9]{0,60}[0-9]", re.IGNORECASE)

_LABEL = re.compile(r"^[^:(=\n]{1,60}:\s+(?=\D{0,40}\d)")

_COMPOUND = re.compile(
    r"\s?(?:feet|foot|ft|hours?|h|hrs?|minutes?|mins?|years?|weeks?|days?|months?"
    r"|pounds?|lbs?|dollars?|kg|m|km)[,.]?"
    r"\s(?:and\s)?[0-9]+\s?[a-z]",
    re.IGNORECASE,
)

_ABOUT = re.compile(
    r"^(?:approximately|approx\.?|about|around|roughly|nearly|almost|exactly|only|just)\s+[$~]?",
    re.IGNORECASE,
)

CONVERSION = re.compile(r"\s(?:is|are|equals?|is equal to|makes?)\s", re.IGNORECASE)

_FORMULA = re.compile(r"[A-Za-z)]\s*[x×*/÷+]\s*\(?[A-Za-z]|[A-Za-z]\s-\s[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Several:
    """Two values stand, and nothing says which is meant."""


SEVERAL = Several()

Reading = Quantity | Several | None

_UNITS = re.compile(r"\s?(?:[^\W\d]{1,12}|[°²³/%])(?:[ /][^\W\d]{1,12}){0,2}[.°²³]?")


def whole_number(text: str) -> Quantity | None:
    """Return the number that makes up a text, but for a unit behind it and "about" in front."""
    text = _ABOUT.sub("", text.strip(" *_`\"'$~≈\n").rstrip(" .*+"))
    if (found := as_quantity(text)) is not None:
        return found
    quantity = next(iter(quantities(text)), None) if len(text) < 80 else None
    if quantity is None or text[: quantity.start].strip() or not _UNITS.fullmatch(text, quantity.end):
        return None
    return quantity


def labelled(lines: Sequence[str], question: str) -> Reading:
    """Read "2018: 40 / 2019: 42": the value whose label the question names, else several."""
    if all("|" in line for line in lines):
        lines = [re.sub(r"\s*\|\s*", ": ", line.strip("| ")) for line in lines if re.search(r"[0-9]", line)]
    lines = [part for line in lines for part in re.split(r"[,;]\s(?=[^,;:]{1,40}:\s)", line)]
    rows = [re.fullmatch(r"\W*([^:\n]{1,60}):\s+(.+)", line) for line in lines]
    parted = [(row[1], found) for row in rows if row and (found := direct(row[2])) is not None]
    if len(parted) < 2 or len(parted) < len(lines):
        return None
    asked = [
        found
        for label, found in parted
        if re.search(rf"\b{re.escape(label.strip('* ').lower())}\b", question.lower())
    ]
    return agreed(asked if len(asked) == 1 else [found for _, found in parted])


def equation(before: str, after: str, question: str) -> Reading:
    """Read what stands right of "=", unless both sides are one quantity each in two units."""
    right = direct(after)
    if right is None:
        return None  # a formula, or an equation that was cut off
    if isinstance(right, Several):
        return right
    left = re.split(r"[=≈:;]", before)[-1].strip()
    side = whole_number(left.rpartition(" is ")[2])
    if side is not None and "/" not in left and not _same([side, right]):
        return in_asked_unit([(side, left), (right, after)], question) or SEVERAL
    if re.search(r"(?:^|[\s,;])[A-Za-z]{1,10}\s*=\s*[^=]*(?:,|;|\band\b)\s*[A-Za-z]\s*$", before):
        return SEVERAL  # x = 5, y = 3
    return right


def direct(text: str) -> Reading:
    """Return the number with which a text begins, or the result of the sum with which it begins."""
    found = quantities(text)
    if not found or not LEAD.match(text[: found[0].start]):
        return None
    first = found[0]
    before, after = text[: first.start], text[first.end :]
    if _OPERATOR.match(after):
        result = text.rpartition("=")[2] if "=" in text else CONVERSION.split(text)[-1]
        return pick(result, "") if len(result) < len(text) else SEVERAL
    if _COMPOUND.match(after) or (_is_range(before, after) and not _same(found[:2])):
        return SEVERAL
    return first


def _is_range(before: str, after: str) -> bool:
    return bool(_RANGE.match(after) or _BETWEEN.search(before))


def pick(text: str, question: str) -> Reading:
    """Return the one value that a sentence or line gives."""
    text = text.replace("**", "").replace("__", "")
    counted = _COUNTED.match(text)
    text = LIST_NUMBER.sub("", counted.group() if counted else _LABEL.sub("", text))
    if (reading := _moved(text, question)) is not None:
        return reading
    if "=" in text or "≈" in text:
        if (result := equation(*_last_part(text), question)) is not None:
            return result
        if _FORMULA.search(text):
            return None
    if (reading := _converted(text, question) or _first_said(text)) is not None:
        return reading
    return _only_answer(text, question)


_COUNTED = re.compile(r"there (?:are|were) [0-9]+ [^:0-9]{1,40}:", re.IGNORECASE)
_FROM_TO = re.compile(r"\bfrom (\S*[0-9]\S*(?: [a-z]+)?) to (\S*[0-9][^\s,;]*)", re.IGNORECASE)
_MOVE = re.compile(
    r"\b(?:rose|fell|grew|dropped|increased|decreased|declined|climbed|went up|went down)"
    r" (?:by )?([$€£]?[0-9]\S*)"
    r" to [$€£]?[0-9]",
    re.IGNORECASE,
)
_NEW = re.compile(r"\b(?:new|after|final|now|current|latest|end up|became)\b", re.IGNORECASE)
_OLD = re.compile(r"\b(?:old|before|original(?:ly)?|initial(?:ly)?|previous(?:ly)?|former)\b", re.IGNORECASE)
_CHANGE = re.compile(r"\bby how (?:much|many)\b|\bhow much did\b|\bchange\b|\bincrease\b|\bdecrease\b", re.I)


def _moved(text: str, question: str) -> Reading:
    """Read "it rose from 120 to 150" and "rose 30 to 150" as the end, or the change, that is asked for."""
    if (move := _MOVE.search(text)) is not None and _CHANGE.search(question):
        return whole_number(move[1])
    ends = _FROM_TO.search(text)
    old, new = bool(_OLD.search(question)), bool(_NEW.search(question))
    if ends is None or old == new or len(quantities(text)) != 2:
        return None
    return whole_number(ends[1] if old else ends[2].rstrip("."))


def _converted(text: str, question: str) -> Reading:
    """Read "2 hours is 120 minutes" as the side whose unit the question names, else as two values."""
    sides = CONVERSION.split(text, maxsplit=1)
    values = [whole_number(side) for side in sides]
    if len(sides) < 2 or values[0] is None or values[1] is None or _same([values[0], values[1]]):
        return None
    return in_asked_unit([(values[0], sides[0]), (values[1], sides[1])], question) or SEVERAL


def _first_said(text: str) -> Reading:
    return direct(ASIDE.sub(lambda match: match.group() if as_quantity(match.group()) else "", text))


def _only_answer(text: str, question: str) -> Reading:
    found = answers(text)
    if len(found) > 1 and not _same(found) and any(_opens_range(text, one) for one in found):
        return SEVERAL
    reading = agreed(found)
    if isinstance(reading, Several):
        objects = [one for one in found if OBJECT_OF.search(text[max(0, one.start - 40) : one.start])]
        told = [one for one in objects if _TOLD.search(text[max(0, one.start - 40) : one.start])]
        if _ASKS_END.search(question) and any(_GOES_ON.match(text, one.end) for one in told):
            objects = [one for one in objects if one not in told]
        return agreed(objects) or SEVERAL
    return reading


def _opens_range(text: str, one: Quantity) -> bool:
    return _is_range(text[max(0, one.start - 40) : one.start], text[one.end : one.end + 80])


def _last_part(text: str) -> tuple[str, str]:
    at = max(text.rfind("="), text.rfind("≈"))
    return text[:at], text[at + 1 :]


def telling_sentence(line: str, *, last: bool = False) -> str:
    """Return the first sentence of a line that has a digit (or the last)."""
    sentences = [one for one in SENTENCE.split(line) if any(map(str.isdigit, one))]
    return sentences[-1 if last else 0] if sentences else line


def agreed(readings: Sequence[Reading]) -> Reading:
    """Return the value that all readings give; None without one, SEVERAL where they differ."""
    values = [one for one in readings if isinstance(one, Quantity)]
    if len(values) < len([one for one in readings if one is not None]):
        return SEVERAL
    if not values:
        return None
    return values[-1] if _same(values) else SEVERAL


def _same(values: Sequence[Quantity]) -> bool:
    return len({one.scaled.normalize() for one in values}) == 1
