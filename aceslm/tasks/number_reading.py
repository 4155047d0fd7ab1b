"""Which number a reply gives as its answer.

    read_quantity("She sells 9 eggs at $2, so she makes 18 dollars.")     # 18
    read_quantity("120 min = 2 hours")                                    # None: two values, nothing asks for one
    read_quantity("120 min = 2 hours", "How many hours is that?")         # 2

The marks of `aceslm.tasks.marked` decide, strongest first. Behind a mark stand one value, or several of which one is
plainly it: the first thing said, the result of an equation, the object of "is" or "makes". Years, dates, list
numbers, "Step 2", what stands in brackets, after "because" or "out of" are not the answer while there is another
number. Where two values stand and nothing marks one, nothing was read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from aceslm.tasks.marked import answer_text, bold, concluded, json_answer, marks_of, plain_latex, stated
from aceslm.tasks.numerals import digits_for_words
from aceslm.tasks.quantities import Quantity, as_quantity, quantities, tidy

_MARKS = marks_of("result|solution|final value|final result|final total|final amount")
_RESULT = re.compile(
    r"\b(?:grand |sub)?(?:total|sum|result|value|difference|average|ratio|percentage|change|amount|profit)\b[^:=\n.]{0,40}"
    r"(?::|\bis\b|\bwas\b|\bof\b)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    r"(?<!\b[A-Za-z])(?<!approx)(?<!\bno)(?<!\bvs)(?<!\bca)(?<!\betc)[.!?][*\"')\]]*(?=\s|$)", re.IGNORECASE
)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DATE = re.compile(
    rf"\b\d{{1,2}}/\d{{1,2}}/\d{{2,4}}\b|\b\d{{4}}-\d{{2}}-\d{{2}}\b|\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?:, ?\d{{4}})?\b(?!,\d)"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH}(?:,? \d{{4}})?\b|\b{_MONTH},? \d{{4}}\b|\b\d{{1,2}}:\d{{2}}\b",
    re.IGNORECASE,
)
_TO_ONE = re.compile(r"(?<=[0-9])(?:\s?:\s?|\sto\s)1(?![0-9.])")
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")
_BEFORE_A_YEAR = re.compile(
    r"\b(?:in|for|of|during|since|from|to|year|years|fiscal|fy|and|or|until|by|end|ended|ending|before|after|through|between"
    r"|q[1-4]|than|over|vs\.?|versus|compared (?:to|with)|'?s)[ ,]*$|[(/&-]\s*$",
    re.IGNORECASE,
)
_AFTER_A_YEAR = re.compile(
    r"\s*(?:\)|:\s|,?\s(?:was|were|is|has|had|saw|revenue|sales|fiscal|and (?:19|20)\d\d))|['’]s\b"
)
_NAMED = re.compile(
    r"\b(?:steps?|question|table|figure|note|item|page|section|chapter|option|equation|part|example|phase|type|level|tier"
    r"|version|no\.?|number|year|month|day|week|quarter|problem|exercise|column|row|line|appendix|class|series)\s?#?$",
    re.IGNORECASE,
)
_LISTED = re.compile(r"^\W{0,3}(?:step )?\(?[0-9]{1,2}[.):](?=\s|$)(?!\s*$)", re.IGNORECASE | re.MULTILINE)
_LIST_NUMBER = re.compile(r"^[0-9]{1,2}[.)] (?=[-$€£~(]?\s?\.?[0-9])")
_BULLET = re.compile(r"^(?:[-*•+–])\s+(?=\S)", re.MULTILINE)
_ADJECTIVE = re.compile(
    r"-(?:year|month|day|week|hour|minute|step|point|digit|fold|k|q|for|stock|quarter|percent)s?\b",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"[(\[][^()\[\]\n]*[)\]]")
_REASON = re.compile(
    r"(?:,\s*|\s)(?:because|since|as (?!of|a\b|the\b)|due to|given|based on|calculated|computed|obtained|which (?:is|was)|up from"
    r"|down from|compared (?:to|with)|versus|vs\.?|rather than|instead of|not|where|while|whereas|assuming|after (?:subtract|add|"
    r"multiply|divid|round)\w+)\b",
    re.IGNORECASE,
)
_OUT_OF = re.compile(
    r"\s(?:(?:\w+ ){0,2})?(?:out )?of (?:the |a |all |its |their )?(?:total of )?$", re.IGNORECASE
)
_ORIGIN = re.compile(r"\b(?:from|between) [^.;\n]{1,40}?\b(?:to|and) [^.,;\n]{1,25}", re.IGNORECASE)
_RANGE = re.compile(
    r"^(?:\s?[a-z%$]{0,12})?\s*(?:-|to|or|and(?! (?:that|this|it|so|therefore|the|is)\b)|,|;|through|up to)\s*(?:about |perhaps |maybe |even )?[$€£]?\(?-?\.?[0-9]",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\b(?:between|from|either|anywhere from|somewhere between)\s*[$€£]?$", re.IGNORECASE)
_OPERATOR = re.compile(
    r"\s*(?:[a-z%]{0,12}\s*)?(?:[x×*/÷+]|-(?=\s)|times\b|plus\b|minus\b|divided by\b|multiplied by\b)\s*[$€£]?\(*\s*-?\.?[0-9]",
    re.IGNORECASE,
)
_OPERATED = re.compile(
    r"[0-9a-z%)]\s*(?:[x×*/÷+]|-(?=\s)|\btimes\b|\bplus\b|\bminus\b|\bdivided by\b)\s*[$€£]?\(*$",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^[\s*_:\"'`~≈$(\[]*(?:(?:approximately|approx\.?|about|around|roughly|nearly|almost|exactly|only|just|over|under|a total of"
    r"|equal to|usd|an? (?:increase|decrease|total|change|growth|profit|loss|value|average|rate) of|up|down)\s+)*[~≈]?\s*$",
    re.IGNORECASE,
)
_OBJECT_OF = re.compile(
    r"\b(?:is|are|was|were|be|equals?|equal to|makes?|made|making|earns?|earned|gets?|pays?|paid|costs?|spends?|spent|receives?"
    r"|saves?|totals?|totall?ed|totall?ing|left with|have|has|had|comes? to|came to|amounts? to|amounted to|reached|need(?:s|ed)?"
    r"|takes?|took|by|will be|remain(?:s|ing)?|there are|there were)(?: (?:a total of|approximately|about|around|roughly|only"
    r"|exactly|nearly|almost|just|now|then))?[\s~≈*]*$",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^[^:(=\n]{1,60}:\s+(?=\D{0,40}\d)")
_COMPOUND = re.compile(
    r"\s?(?:feet|foot|ft|hours?|h|hrs?|minutes?|mins?|years?|weeks?|days?|months?|pounds?|lbs?|dollars?|kg|m|km)[,.]?"
    r"\s(?:and\s)?[0-9]+\s?[a-z]",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"^(?:approximately|approx\.?|about|around|roughly|nearly|almost|exactly|only|just)\s+[$~]?",
    re.IGNORECASE,
)
_CONVERSION = re.compile(r"\s(?:is|are|equals?|is equal to|makes?)\s", re.IGNORECASE)
_FORMULA = re.compile(r"[A-Za-z)]\s*[x×*/÷+]\s*\(?[A-Za-z]|[A-Za-z]\s-\s[A-Za-z]")
_UNIT = re.compile(r"\s?([A-Za-z]{1,14})\b")


@dataclass(frozen=True, slots=True)
class _Several:
    """Two values stand, and nothing says which is meant."""


SEVERAL = _Several()
Reading = Quantity | _Several | None


def read_quantity(text: str, question: str = "") -> Quantity | None:
    """Return the quantity that a reply states as its answer, or None.

    The question only serves to tell which of two units or labels was asked for.
    """
    text = answer_text(text, question)
    if (answers := json_answer(text)) is not None:
        return _only([_pick(_plainly(one), question) for one in answers])
    if re.search(r"\bkelvin\b|\btemperature", question, re.IGNORECASE):
        text = re.sub(r"(?<=[0-9])K\b", " K", text)
    if _NO_CHANGE.fullmatch(text) and re.search(
        r"chang|increas|decreas|differen|grow|rise|fall", question, re.IGNORECASE
    ):
        text = "0"
    text = _plainly(text)
    for read in (_stated, _first_line, _results, _bold, _lines):
        if read is _results and _DANGLING.search(text.rstrip("*_ ")):
            return None  # cut off before its result
        if (found := read(text, question)) is not None:
            return found if isinstance(found, Quantity) else None
    return None


_DANGLING = re.compile(
    r"(?:(?<![=+*/(:])[=+*/(:×÷]|\b(?:by|and|or|the|to|of|an?|is|are|was|then|we|with|from|for|in|that|subtract|add|multiply|divide|get|so"
    r"|which|be|i|it|she|he|they|need|find|calculate))[\s$]*$",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:(?:can ?not|can['’]?t|could not|couldn['’]t|unable to|impossible to|not possible to) (?:be )?(?:determin|answer|calculat|comput|find|say"
    r"|provid|tell)\w*|(?:is|are|was|were) not (?:\w+ ){0,2}?(?:provided|available|given|mentioned|specified|stated|disclosed|known|listed)"
    r"|(?:does|do|did) not (?:\w+ ){0,1}?(?:provide|say|mention|state|specify|contain|give|include|know|disclose|have (?:enough|the))"
    r"|(?:don['’]t|doesn['’]t|didn['’]t) (?:\w+ ){0,1}?(?:provide|say|mention|state|specify|contain|give|include|know|have (?:enough|the))"
    r"|not enough information|insufficient (?:information|data)|no information|i['’]m sorry|i am sorry|as an ai)\b",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """Say whether a text says that it gives no answer."""
    return bool(_REFUSAL.search(text))


_NO_CHANGE = re.compile(r"\W*(?:there (?:is|was) )?(?:no change|unchanged|nil)\W*", re.IGNORECASE)


def _plainly(text: str) -> str:
    return digits_for_words(tidy(plain_latex(text)))


def _stated(text: str, question: str) -> Reading:
    for mark in stated(text, _MARKS):
        reading = _direct(mark.line) if mark.direct else _pick(_sentence(mark.line), question)
        if reading is None and not mark.direct and mark.block != mark.line:
            reading = _pick(mark.block, question)
        if reading is not None:
            return reading
    return None


def _first_line(text: str, question: str) -> Reading:
    """Read a first line that is a number and nothing else, where no other line is one."""
    lines = [line for line in text.split("\n") if any(map(str.isalnum, line))]
    if (
        not lines
        or (len(lines) > 1 and _LISTED.match(lines[0]))
        or (first := _bare(lines[0].replace("**", ""))) is None
    ):
        return None
    others = [found for line in lines[1:] if (found := _bare(line.replace("**", ""))) is not None]
    return _agreed([first, *others])


def _results(text: str, question: str) -> Reading:
    """Read the last conclusion ("so", "=", "Total:") that holds a number."""
    if (reading := _variable(text, question)) is not None:
        return reading
    for before, mark, after in concluded(text):
        if mark in {"=", "≈", "→", "⇒"}:
            reading = _equation(before, after, question)
        else:
            reading = _pick(_sentence(after), question)
        if reading is not None:
            return reading
    for match in reversed(list(_RESULT.finditer(text))):
        line = _sentence(text[match.end() :].split("\n", 1)[0])
        if isinstance(reading := _direct(line), Quantity) and ("\n" in text or match.group().endswith(":")):
            return reading
    return None


def _bold(text: str, question: str) -> Reading:
    readings = [reading for one in bold(text) if (reading := _direct(one.strip(" .$"))) is not None]
    return _agreed(readings)


def _lines(text: str, question: str) -> Reading:
    """Read the last line, else the whole text, whichever marks one value."""
    text = text.replace("**", "").replace("__", "")
    lines = [line for line in text.split("\n") if any(map(str.isalnum, line))]
    if not lines or refuses(text):
        return None
    if (last := _bare(lines[-1])) is not None and not any(_bare(line) for line in lines[:-1]):
        return last
    if (reading := _labelled(lines, question) or _variable(text, question)) is not None:
        return reading
    sentences = [one for line in _essence(text).split("\n") for one in _SENTENCE.split(line)]
    whole = _agreed([found for one in sentences if (found := _unmarked(one, question)) is not None])
    if isinstance(whole, _Several) and len(lines) > 1 and not _LISTED.match(lines[-1]):
        whole = _pick(_sentence(lines[-1], last=True), question) or whole
    return whole


def _unmarked(sentence: str, question: str) -> Reading:
    """Read a sentence that nothing marks: that it begins with a number says little where its clause has another."""
    clause = re.split(r"[,;(]\s|[,;(]$", sentence, maxsplit=1)[0]
    opening = None if "=" in clause or _CONVERSION.search(clause) else _direct(clause)
    if isinstance(opening, Quantity) and isinstance(_agreed(_answers(clause)), _Several):
        asked = re.search(r"\bhow many (\w{3,})", question, re.IGNORECASE)
        counted = _UNIT.match(clause, opening.end)
        same = asked and counted and counted[1].lower()[:4] == asked[1].lower()[:4]
        return opening if same else SEVERAL
    return _pick(sentence, question)


def _variable(text: str, question: str) -> Reading:
    """Read "x = 7, y = 9" as the variable that the question asks for."""
    given = re.findall(r"(?<![\w)])([A-Za-z])\s*=\s*([^=,;\n]+)", text)
    asked = re.search(r"\b(?:what is|find|solve for|value of|calculate)\s+([A-Za-z])\b(?!\s\w)", question)
    if len(given) < 2 or asked is None:
        return None
    return _agreed(
        [found for name, value in given if name == asked[1] and (found := _direct(value)) is not None]
    )


def _bare(line: str) -> Quantity | None:
    """Return the number that makes up a line, a unit and a bullet aside."""
    if re.fullmatch(r"\W*[0-9]{1,2}[.)]", line) and not line.strip().endswith("."):
        return None
    return _whole(_LIST_NUMBER.sub("", _BULLET.sub("", line.strip())))


_UNITS = re.compile(r"\s?(?:[^\W\d]{1,12}|[°²³/%])(?:[ /][^\W\d]{1,12}){0,2}[.°²³]?")


def _whole(text: str) -> Quantity | None:
    """Return the number that makes up a text, but for a unit behind it and "about" in front."""
    text = _ABOUT.sub("", text.strip(" *_`\"'$~≈\n").rstrip(" .*"))
    if (found := as_quantity(text)) is not None:
        return found
    quantity = next(iter(quantities(text)), None) if len(text) < 80 else None
    if quantity is None or text[: quantity.start].strip() or not _UNITS.fullmatch(text, quantity.end):
        return None
    return quantity


def _labelled(lines: Sequence[str], question: str) -> Reading:
    """Read "2018: 40 / 2019: 42": the value whose label the question names, else several."""
    rows = [re.fullmatch(r"\W*([^:\n]{1,60}):\s+(.+)", line) for line in lines]
    parted = [(row[1], found) for row in rows if row and (found := _direct(row[2])) is not None]
    if len(parted) < 2 or len(parted) < len(lines):
        return None
    asked = [
        found
        for label, found in parted
        if re.search(rf"\b{re.escape(label.strip('* ').lower())}\b", question.lower())
    ]
    return _agreed(asked if len(asked) == 1 else [found for _, found in parted])


def _equation(before: str, after: str, question: str) -> Reading:
    """Read what stands right of "=", unless both sides are one quantity each in two units."""
    right = _direct(after)
    if right is None:
        return None  # a formula, or an equation that was cut off
    if isinstance(right, _Several):
        return right
    left = re.split(r"[=≈:;]", before)[-1].strip()
    side = _whole(left.rpartition(" is ")[2])
    if side is not None and "/" not in left and not _same([side, right]):
        return _asked([(side, left), (right, after)], question) or SEVERAL
    if re.search(r"(?:^|[\s,;])[A-Za-z]{1,10}\s*=\s*[^=]*(?:,|;|\band\b)\s*[A-Za-z]\s*$", before):
        return SEVERAL  # x = 5, y = 3
    return right


def _asked(sides: Sequence[tuple[Quantity, str]], question: str) -> Quantity | None:
    """Return the only one of two equal amounts in whose unit the question asks."""
    named: list[Quantity] = []
    words = set(re.findall(r"[a-z]+", question.lower()))
    for quantity, text in sides:
        unit = _UNIT.match(tidy(text).strip(), quantity.end) or _UNIT.search(
            tidy(text).strip()[quantity.end - 1 :]
        )
        if unit and _unit_names(unit[1].lower()) & words:
            named.append(quantity)
    return named[0] if len(named) == 1 else None


_SHORT = {
    "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute", "s": "second", "sec": "second",
    "secs": "second", "kg": "kilogram", "g": "gram", "m": "meter", "km": "kilometer", "cm": "centimeter", "mm": "millimeter",
    "l": "liter", "ml": "milliliter", "c": "cent", "d": "day", "mg": "milligram", "lb": "pound", "ft": "foot", "in": "inch",
}  # fmt: skip


def _unit_names(unit: str) -> set[str]:
    name = _SHORT.get(unit, unit.removesuffix("s"))
    metre = name.replace("meter", "metre").replace("liter", "litre")
    return {unit, name, f"{name}s", metre, f"{metre}s"} - {"in", "s", "m", "c", "d", "g", "l", "h"}


def _direct(text: str) -> Reading:
    """Return the number with which a text begins, or the result of the sum with which it begins."""
    found = quantities(text)
    if not found or not _LEAD.match(text[: found[0].start]):
        return None
    first = found[0]
    before, after = text[: first.start], text[first.end :]
    if _OPERATOR.match(after):
        return _pick(text.rpartition("=")[2], "") if "=" in text else SEVERAL
    if _COMPOUND.match(after) or (_is_range(before, after) and not _same(found[:2])):
        return SEVERAL
    return first


def _is_range(before: str, after: str) -> bool:
    return bool(_RANGE.match(after) or _BETWEEN.search(before))


def _pick(text: str, question: str) -> Reading:
    """Return the one value that a sentence or line gives."""
    text = _LIST_NUMBER.sub("", _LABEL.sub("", text.replace("**", "").replace("__", "")))
    if "=" in text or "≈" in text:
        before, _, after = (
            re.split(r"(=|≈)", text)[-3:] if text.count("=") + text.count("≈") == 1 else _last_part(text)
        )
        if (reading := _equation(before, after, question)) is not None:
            return reading
        if _FORMULA.search(text):
            return None
    sides = _CONVERSION.split(text, maxsplit=1)
    if (
        len(sides) == 2
        and (left := _whole(sides[0]))
        and (right := _whole(sides[1]))
        and not _same([left, right])
    ):
        return _asked([(left, sides[0]), (right, sides[1])], question) or SEVERAL
    if (
        reading := _direct(_ASIDE.sub(lambda m: m.group() if as_quantity(m.group()) else "", text))
    ) is not None:
        return reading
    found = _answers(text)
    if any(
        _is_range(text[: one.start], text[one.end :]) and len(found) > 1 and not _same(found) for one in found
    ):
        return SEVERAL
    reading = _agreed(found)
    if isinstance(reading, _Several):
        objects = [one for one in found if _OBJECT_OF.search(text[max(0, one.start - 40) : one.start])]
        return _agreed(objects) or SEVERAL
    return reading


def _last_part(text: str) -> tuple[str, str, str]:
    at = max(text.rfind("="), text.rfind("≈"))
    return text[:at], "=", text[at + 1 :]


_READ = 30  # numbers at either end of a sentence; more of them are no answer anyway


def _answers(text: str) -> list[Quantity]:
    """Return the numbers of a text that can be its answer; all of them where none can."""
    found = list(quantities(text))
    found = [*found[:_READ], *found[_READ:][-_READ:]]
    for hidden in (_LISTED, _DATE, _TO_ONE):
        found = _kept(found, _shown(hidden, text))
    found = [one for one in found if not _is_year(one, text)] or found
    found = [one for one in found if not _is_name(one, text)] or found
    found = _kept(found, _shown(_ASIDE, text))
    reason = _REASON.search(text)
    if reason and found[:1] and found[0].end <= reason.start():
        found = [one for one in found if one.end <= reason.start()]
    label = text.rfind(": ")
    found = [one for one in found if one.start > label] or found
    found = [one for one in found if not _OUT_OF.search(text[max(0, one.start - 50) : one.start])] or found
    return _kept(found, _shown(_ORIGIN, text))


def _shown(hidden: re.Pattern[str], text: str) -> str:
    return hidden.sub(lambda match: " " * len(match.group()), text)


def _kept(found: list[Quantity], shown: str) -> list[Quantity]:
    return [one for one in found if any(map(str.isdigit, shown[one.start : one.end]))] or found


def _is_year(quantity: Quantity, text: str) -> bool:
    if not _YEAR.fullmatch(text[quantity.start : quantity.end].strip(" ()")):
        return False
    before, after = (
        text[max(0, quantity.start - 25) : quantity.start + 1],
        text[quantity.end : quantity.end + 20],
    )
    before = before if before.endswith("(") else before[:-1]
    return bool(_BEFORE_A_YEAR.search(before) or _AFTER_A_YEAR.match(after))


def _is_name(quantity: Quantity, text: str) -> bool:
    """Say whether a number only names a thing: "Step 2", "a 5-year plan"."""
    before, after = text[max(0, quantity.start - 20) : quantity.start], text[quantity.end : quantity.end + 12]
    return bool(_NAMED.search(before) or _ADJECTIVE.match(after))


def _sentence(line: str, *, last: bool = False) -> str:
    """Return the first sentence of a line that has a digit (or the last)."""
    sentences = [one for one in _SENTENCE.split(line) if any(map(str.isdigit, one))]
    return sentences[-1 if last else 0] if sentences else line


_EXPLAINS = re.compile(
    r"(?<=[.!?\n)])\s*(?:this (?:is|was|represents|means|figure|value|number|can)|explanation|note|i (?:got|calculated|found)"
    r"|it (?:is|was) calculated|here(?:'s| is)|reasoning|calculation|to (?:find|get|calculate)|the calculation|because|we (?:can|first))\b",
    re.IGNORECASE,
)


def _essence(text: str) -> str:
    """Return a text up to where it begins to explain itself."""
    head = _EXPLAINS.split(text, maxsplit=1)[0]
    return head if any(map(str.isdigit, head)) else text


def _only(readings: Sequence[Reading]) -> Quantity | None:
    found = _agreed([one for one in readings if one is not None])
    return found if isinstance(found, Quantity) else None


def _agreed(readings: Sequence[Reading]) -> Reading:
    """Return the value that all readings give; None without one, SEVERAL where they differ."""
    values = [one for one in readings if isinstance(one, Quantity)]
    if len(values) < len([one for one in readings if one is not None]):
        return SEVERAL
    if not values:
        return None
    return values[-1] if _same(values) else SEVERAL


def _same(values: Sequence[Quantity]) -> bool:
    return len({one.scaled.normalize() for one in values}) == 1


_TAIL = re.compile(
    r"^[\s)*]*(?:(?:in|for|during|from) [^.]{0,40}[0-9]{4}|\([^()]*\)|(?:[^\W\d]+\s?){0,3})[.\s*)]*$"
)
_BY = re.compile(
    r"(?:\b(?:by|of|to|total|approximately|about|around|roughly|nearly|only)|:)[\s*~≈]*$", re.IGNORECASE
)


_SENTENCE_READ = 400  # characters


def value_of(sentence: str, question: str = "", *, whole: bool = False) -> str | None:
    """Return the value that a sentence gives, with its scale, as in "There are 3." or "... = 25%"; None for other words.

    With `whole` a number and its unit alone ("3 segments", "about 5") count too.
    """
    text = _plainly(sentence[:_SENTENCE_READ]).replace("**", "").replace("__", "")
    if not any(map(str.isdigit, text)):
        return None
    found = _pick(text, question)
    if not isinstance(found, Quantity):
        return None
    at = max(
        (one.start for one in quantities(text) if (one.value, one.scale) == (found.value, found.scale)),
        default=-1,
    )
    end = next((one.end for one in quantities(text) if one.start == at), 0)
    before, after = text[max(0, at - 60) : at], text[end:]
    if at < 0 or not _TAIL.match(after):
        return None
    led = before.rstrip().endswith(("=", "≈")) or _OBJECT_OF.search(before) or _BY.search(before)
    if not led and not (whole and _LEAD.match(text[:at])):
        return None
    return f"{found} {found.scale}".strip().replace(" percent", "%")
