"""Which number a reply gives as its answer.

    read_quantity("She sells 9 eggs at $2, so she makes 18 dollars.")     # 18
    read_quantity("120 min = 2 hours")                  # None: two values, nothing asks for one
    read_quantity("120 min = 2 hours", "How many hours is that?")         # 2

The marks of `aceslm.tasks.marked` decide, strongest first. Behind a mark stand one value, or several of
which one is plainly it: the first thing said, the result of an equation, the object of "is" or "makes".
Years, dates, list numbers, "Step 2", what stands in brackets, after "because" or "out of" are not the
answer while there is another number. Where two values stand and nothing marks one, nothing was read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from aceslm.tasks.json_answers import json_answer
from aceslm.tasks.marked import answer_text, bold, concluded, doubts, marks_of, stated
from aceslm.tasks.number_candidates import LISTED, answers
from aceslm.tasks.number_sentences import (
    CONVERSION,
    LEAD,
    LIST_NUMBER,
    OBJECT_OF,
    SENTENCE,
    SEVERAL,
    Reading,
    Several,
    agreed,
    direct,
    equation,
    labelled,
    pick,
    telling_sentence,
    whole_number,
)
from aceslm.tasks.number_wording import plainly
from aceslm.tasks.quantities import Quantity, quantities
from aceslm.tasks.units import UNIT

_MARKS = marks_of("result|solution|final value|final result|final total|final amount")
_RESULT = re.compile(
    r"\b(?:grand |sub)?(?:total|sum|result|value|difference|average|ratio|percentage"
    r"|change|amount|profit)\b[^:=\n.]{0,40}"
    r"(?::|\bis\b|\bwas\b|\bof\b)",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r"\s(?:on|for|from|over|during|in|at|with|after|by)\b", re.IGNORECASE)
_LEFT = re.compile(
    r"\b(?:has|have|are|is) (?:now|left)\b|\bnow (?:has|have|there (?:are|is))\b|\bremain", re.IGNORECASE
)
_BULLET = re.compile(r"^(?:[-*•+–])\s+(?=\S)", re.MULTILINE)
_OPERATED = re.compile(
    r"[0-9a-z%)]\s*(?:[x×*/÷+]|-(?=\s)|\btimes\b|\bplus\b|\bminus\b|\bdivided by\b)\s*[$€£]?\(*$",
    re.IGNORECASE,
)


def read_quantity(text: str, question: str = "") -> Quantity | None:
    """Return the quantity that a reply states as its answer, or None.

    The question only serves to tell which of two units or labels was asked for.
    """
    text = answer_text(_CODE.sub("", text), question)
    if (answers := json_answer(text, question)) is not None:
        return _only([pick(plainly(one, question), question) for one in answers])
    if re.search(r"\bkelvin\b|\btemperature", question, re.IGNORECASE):
        text = re.sub(r"(?<=[0-9])K\b", " K", text)
    if _NO_CHANGE.fullmatch(text) and re.search(
        r"chang|increas|decreas|differen|grow|rise|fall", question, re.IGNORECASE
    ):
        text = "0"
    text = plainly(text, question)
    for read in (_stated, _first_line, _results, _bold, _lines):
        if read is _results and _DANGLING.search(text.rstrip("*_ ")):
            return None  # cut off before its result
        if (found := read(text, question)) is not None:
            return found if isinstance(found, Quantity) and _fits(found, text, question) else None
    return None


_CODE = re.compile(r"^```(?:python|py|js|javascript|java|c|cpp|r|sql|bash)$.*?(?:^```$|\Z)", re.M | re.S)
_IN_YEAR = re.compile(r"\b(?:in|for|of|during|fiscal|at the end of) ((?:19|20)[0-9]{2})\b", re.IGNORECASE)


def _fits(found: Quantity, text: str, question: str) -> bool:
    """Say whether a number can be what was asked for: no "27 / 33" marbles, nor the year of the question."""
    counted = re.search(r"\bhow many\b", question, re.IGNORECASE)
    shared = "=" not in text and any(
        " / " in text[one.start : one.end] and one.value == found.value and one.value % 1
        for one in quantities(text)
    )
    year = re.search(r"\b(?:which|what) (?:of|(?:fiscal )?years?)\b|\bwhen\b", question, re.IGNORECASE)
    restated = not year and not found.scale and str(found) in _IN_YEAR.findall(question)
    return not (counted and shared) and not restated


_DANGLING = re.compile(
    r"(?:(?<![=+*/(:])[=+*/(:×÷]|\b(?:by|and|or|the|to|of|an?|is|are|was|then|we|with"
    r"|from|for|in|that|subtract|add|multiply|divide|get|so"
    r"|which|be|i|it|she|he|they|need|find|calculate))[\s$]*$",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:(?:can ?not|can['’]?t|could not|couldn['’]t|unable to|impossible to|not"
    r" possible to) (?:be )?(?:determin|answer|calculat|comput|find|say"
    r"|provid|tell)\w*|(?:is|are|was|were) not (?:\w+ ){0,2}?(?:provided|available"
    r"|given|mentioned|specified|stated|disclosed|known|listed)"
    r"|(?:does|do|did) not (?:\w+ ){0,1}?(?:provide|say|mention|state|specify|contain"
    r"|give|include|know|disclose|have (?:enough|the))"
    r"|(?:don['’]t|doesn['’]t|didn['’]t) (?:\w+ ){0,1}?(?:provide|say|mention|state"
    r"|specify|contain|give|include|know|have (?:enough|the))"
    r"|not enough information|insufficient (?:information|data)|no information|i['’]m"
    r" sorry|i am sorry|as an ai)\b",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """Say whether a text says that it gives no answer."""
    return bool(_REFUSAL.search(text))


_NO_CHANGE = re.compile(r"\W*(?:there (?:is|was) )?(?:no change|unchanged|nil)\W*", re.IGNORECASE)


def _stated(text: str, question: str) -> Reading:
    rival: Reading = None  # what the line below says behind the same mark
    for mark in stated(text, _MARKS):
        if mark.direct and doubts(mark.line):
            return SEVERAL
        reading = direct(mark.line) if mark.direct else pick(telling_sentence(mark.line), question)
        if reading is None and not mark.direct and mark.block != mark.line:
            reading = pick(mark.block, question)
        if reading is not None and rival is not None:
            return agreed([rival, reading])
        if reading is not None and not mark.rival:
            return reading
        rival = reading or rival
    return rival


def _first_line(text: str, question: str) -> Reading:
    """Read a first line that is a number and nothing else, where no other line is one."""
    lines = [line for line in text.split("\n") if any(map(str.isalnum, line))]
    if (
        not lines
        or (len(lines) > 1 and LISTED.match(lines[0]))
        or (first := _bare(lines[0].replace("**", ""))) is None
    ):
        return None
    others = [found for line in lines[1:] if (found := _bare(line.replace("**", ""))) is not None]
    return agreed([first, *others])


def _results(text: str, question: str) -> Reading:
    """Read the last conclusion ("so", "=", "Total:") that holds a number."""
    if (reading := _variable(text, question)) is not None:
        return reading
    for before, mark, after in concluded(text):
        if mark in {"=", "≈", "→", "⇒"}:
            reading = equation(before, after, question)
        elif before.strip() and _GOES_ON.match(after):
            continue  # "She spent $8 in total on 3 loaves"
        else:
            reading = pick(telling_sentence(after), question)
        if reading is not None:
            return reading
    for match in reversed(list(_RESULT.finditer(text))):
        line = telling_sentence(text[match.end() :].split("\n", 1)[0])
        if isinstance(reading := direct(line), Quantity) and ("\n" in text or match.group().endswith(":")):
            return reading
    return None


def _bold(text: str, question: str) -> Reading:
    readings = [reading for one in bold(text) if (reading := direct(one.strip(" .$"))) is not None]
    return agreed(readings)


def _lines(text: str, question: str) -> Reading:
    """Read the last line, else the whole text, whichever marks one value."""
    text = text.replace("**", "").replace("__", "")
    lines = [line for line in text.split("\n") if any(map(str.isalnum, line))]
    if not lines or refuses(text):
        return None
    if (last := _bare(lines[-1])) is not None and not any(_bare(line) for line in lines[:-1]):
        return last
    if (reading := labelled(lines, question) or _variable(text, question)) is not None:
        return reading
    opening = [direct(line) for line in lines]
    if len(lines) > 1 and None not in opening and isinstance(agreed(opening), Several):
        return SEVERAL
    sentences = [one for line in _essence(text).split("\n") for one in SENTENCE.split(line)]
    whole = agreed([found for one in sentences if (found := _unmarked(one, question)) is not None])
    if isinstance(whole, Several) and _LEFT.search(end := telling_sentence(text, last=True)):
        return pick(end, question)
    if isinstance(whole, Several) and len(lines) > 1 and not LISTED.match(lines[-1]):
        whole = pick(telling_sentence(lines[-1], last=True), question) or whole
    return whole


def _unmarked(sentence: str, question: str) -> Reading:
    """Read a sentence that nothing marks: its first number says little where its clause has another."""
    clause = re.split(r"[,;(]\s|[,;(]$", sentence, maxsplit=1)[0]
    opening = None if "=" in clause or CONVERSION.search(clause) else direct(clause)
    if isinstance(opening, Quantity) and isinstance(agreed(answers(clause)), Several):
        asked = re.search(r"\bhow many (\w{3,})", question, re.IGNORECASE)
        counted = UNIT.match(clause, opening.end)
        same = asked and counted and counted[1].lower()[:4] == asked[1].lower()[:4]
        return opening if same else SEVERAL
    return pick(sentence, question)


def _variable(text: str, question: str) -> Reading:
    """Read "x = 7, y = 9" as the variable that the question asks for."""
    given = re.findall(r"(?<![\w)])([A-Za-z])\s*=\s*([^=,;\n]+)", text)
    asked = re.search(r"\b(?:what is|find|solve for|value of|calculate)\s+([A-Za-z])\b(?!\s\w)", question)
    if len(given) < 2 or asked is None:
        return None
    return agreed(
        [found for name, value in given if name == asked[1] and (found := direct(value)) is not None]
    )


def _bare(line: str) -> Quantity | None:
    """Return the number that makes up a line, a unit and a bullet aside."""
    if re.fullmatch(r"\W*[0-9]{1,2}[.)]", line) and not line.strip().endswith("."):
        return None
    return whole_number(LIST_NUMBER.sub("", _BULLET.sub("", line.strip())))


_EXPLAINS = re.compile(
    r"(?<=[.!?\n)])\s*(?:this (?:is|was|represents|means|figure|value|number|can)"
    r"|explanation|note|i (?:got|calculated|found)"
    r"|it (?:is|was) calculated|here(?:'s| is)|reasoning|calculation|to (?:find|get"
    r"|calculate)|the calculation|because|we (?:can|first))\b",
    re.IGNORECASE,
)


def _essence(text: str) -> str:
    """Return a text up to where it begins to explain itself."""
    head = _EXPLAINS.split(text, maxsplit=1)[0]
    return head if any(map(str.isdigit, head)) else text


def _only(readings: Sequence[Reading]) -> Quantity | None:
    found = agreed([one for one in readings if one is not None])
    return found if isinstance(found, Quantity) else None


_TAIL = re.compile(
    r"^[\s)*]*(?:(?:in|for|during|from) [^.]{0,40}[0-9]{4}|\([^()]*\)|(?:[^\W\d]+\s?){0,3})[.\s*)]*$"
)
_BY = re.compile(
    r"(?:\b(?:by|of|to|total|approximately|about|around|roughly|nearly|only)|:)[\s*~≈]*$", re.IGNORECASE
)
_SENTENCE_READ = 400  # characters


def value_of(sentence: str, question: str = "", *, whole: bool = False) -> str | None:
    """Return the value that a sentence gives ("There are 3.", "... = 25%"), with its scale; else None.

    With `whole` a number and its unit alone ("3 segments", "about 5") count too.
    """
    text = plainly(sentence[:_SENTENCE_READ]).replace("**", "").replace("__", "")
    if not any(map(str.isdigit, text)):
        return None
    found = pick(text, question)
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
    led = before.rstrip().endswith(("=", "≈")) or OBJECT_OF.search(before) or _BY.search(before)
    if not led and not (whole and LEAD.match(text[:at])):
        return None
    return f"{found} {found.scale}".strip().replace(" percent", "%")
