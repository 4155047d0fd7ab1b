"""The words, or the number, that a reply gives as its answer: one span, or a list of them.

    read_spans("The answer is 13.0%.")                     # ("13.0%",)
    read_spans("Retail\nWholesale")                        # ("Retail", "Wholesale")
    read_spans("- 12.5 million")                           # ("12.5 million",)

What is read depends on the reply, the question and the context, never on the gold. A list is one by its
form: a JSON list, bullets, lines, semicolons, quoted items, numbers with commas. Words with commas or "and"
between them are one span where they stand like that in the context, and several where only their parts do.
A sentence that gives a value ("There are 3.", "The change was 5.3 million") is read as that value unless
the context has it word for word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from aceslm.tasks.asked import EDGES, AskedFor
from aceslm.tasks.enumerations import (
    BULLET,
    INLINE_BULLET,
    clean,
    enumerated,
    json_list,
    numbers_of,
    picked,
    tidied,
)
from aceslm.tasks.json_answers import json_answer
from aceslm.tasks.marked import answer_text, concluded, doubts, marks_of, plain_latex, stated
from aceslm.tasks.number_reading import refuses, value_of
from aceslm.tasks.quantities import as_quantity
from aceslm.tasks.text import first_sentence, once

_MARKS = marks_of(r"(?:relevant |extracted )(?:span|text|phrase|item)|response", corrections=False)
_EXPLAINS = re.compile(
    r"^(?:it|this|that|these|those|they|the (?:answer|table|text|context|above|company)"
    r"|because|since|note|explanation|both|so|therefore"
    r"|thus|there|according|based|i|we|as|reason(?:ing)?|source|however|which|context)\b",
    re.IGNORECASE,
)
_AFTER_SENTENCE = re.compile(
    r"(?<=[\w%)\"”])\.\s+(?=(?:This|These|It|That|They|Because|Note|Explanation|Therefore"
    r"|So|According|Based|The (?:answer|table|text)"
    r"|In the|As (?:stated|shown|per))\b)"
)
_SUBJECT = re.compile(
    r"^(.{2,200}?)\s(?:is|are|was|were|has|had|have|includes?|included|consists? of"
    r"|comprises?|covers?|lists?|shows?|lasts?(?: for)?"
    r"|grew|fell|rose|took place|began|ended):?\s+(?=\S)",
    re.IGNORECASE,
)
_PARTICIPLE = re.compile(r"(\w+)\s+(?:(?:in|at|by|on|from|as|to)\s+)?", re.IGNORECASE)
_ONE_VALUE = re.compile(
    r"\bwhat (?:is|was) the (?:\w+ ){0,3}(?:change|difference|average|sum|total|ratio"
    r"|increase|decrease|percentage)\b|\bhow m(?:any|uch)\b",
    re.IGNORECASE,
)
_SERIES = re.compile(
    r"\brespective|\b(?:each|listed|order|years|periods|both)\b|(?:and|,|&)\s*(?:fiscal"
    r" )?(?:fy)?(?:19|20)[0-9]{2}",
    re.IGNORECASE,
)
_CONCLUDES = frozenset(
    ("so", "therefore", "thus", "hence", "consequently", "finally", "in conclusion", "overall")
)
_ONE_QUOTED = re.compile(r"\"[^\"]+\"\.?|“[^“”]+”\.?")
_TOTAL = re.compile(r"\b(?:count|total|number)\W{1,4}([0-9]{1,4})\W*$", re.IGNORECASE)
_NOTHING = re.compile(
    r"(?:n/?a|none given|(?:(?:it|this|that) is )?not (?:available|applicable|provided|specified|mentioned"
    r"|given|stated|found)(?: (?:in|by) (?:the|this) \w+)?|unknown|no answer|i (?:do not|don['’]t) know"
    r"|see the .{0,40}|the answer|no data|insufficient data"
    r"|(?:several|some|many|various|multiple) \w+ (?:are|were) (?:mentioned|listed|named|given|shown)"
    r"|.{0,40} (?:is|are|was|were|can be) (?:shown|listed|given|found|provided|reported) (?:in|by) the"
    r" (?:table|text|context|passage|report)(?: (?:above|below))?"
    r"|\W*(?:insert |your |the )+answer(?: here)?)\W*",
    re.IGNORECASE,
)
_OPEN_END = re.compile(
    r"(?::|=|\?|\s(?:is|are|was|were|the|(?-i:an?)|of|and|or|by|we|to|with|for|from|that|which|than|as|at"
    r"|(?:of|for|in|by) each))$", re.I)  # fmt: skip
_UNDECIDED = re.compile(
    r"(?:[^.;\n]{1,60}?\s(?:is|was|are|were|could be|may be)\s+)?(?:either\b.*\bor\b"
    r"|(?:somewhere )?between \W?[0-9].* and \W?[0-9])",
    re.IGNORECASE,
)
_FORMULA = re.compile(r"[^=]{1,60}=[^=0-9]*[a-z)] [-+*/x×÷] [(a-z][^=0-9]*", re.IGNORECASE)
_SUM = re.compile(r"[-+*/x×÷0-9.,$%() ]*[0-9)%] [-+*/x×÷] [$(0-9][-+*/x×÷0-9.,$%() ]*")
_MOVED = re.compile(r"\D*\bfrom \D{0,3}[0-9][0-9.,%]* to \D{0,3}[0-9][0-9.,%]*\D{0,20}")
_IN_SCALE = re.compile(r"(?<=[0-9)])[\s,]*\(?\s*in (thousand|million|billion)s?\)?\.?$", re.IGNORECASE)
_BECAUSE = re.compile(r"\b(?:because(?: of)?|due to|caused by|thanks to)\s+", re.IGNORECASE)
_SINCE = re.compile(
    r",?\s+because\b|,\s+(?:since|compared (?:with|to)|as (?:it|the|they|this|shown|stated|per)|which (?:is"
    r"|was|are)|according to)\b",
    re.IGNORECASE,
)
_YEAR_ONLY = re.compile(r"\s\((?:1[0-9]|20)[0-9]{2}\)\.?")
_NOTE = re.compile(r"\s+\([^()]*[0-9][^()]*\)\.?$")
_SMALL = frozenset(
    "the a an of in for to and or by on at as from with its it this that these those"
    " there company's companies company s were was"
    " is are what which who how much many did does do respectively main following".split()
)
_LONG_ITEM = 12  # words: a longer line is prose unless the context has it
_LINE_READ = 4000  # characters; the longest gold of TAT-QA has 800


def read_spans(text: str, *, question: str = "", context: str = "") -> tuple[str, ...]:
    """Return the spans of a reply as written, without bullets, quotes and markdown; () where it has none."""
    asked = AskedFor(question, context)
    text = answer_text(text, question)
    if (answers := json_answer(text)) is not None:
        return clean(answers) if len(answers) != 1 else _line(answers[0], asked)
    if (items := json_list(text)) is not None:
        return clean(items) if len(items) != 1 else _line(items[0], asked)
    text = plain_latex(text)
    for mark in stated(text, _MARKS):
        if any(map(str.isalnum, mark.line)):
            return _block(mark.block, asked)
    if (spans := _conclusion(text, asked)) is not None:
        return spans
    return _block(text, asked)


def _conclusion(text: str, asked: AskedFor) -> tuple[str, ...] | None:
    """Return what ends a derivation: "(5 - 4) / 4 = 25%", "Therefore, 2018", "Count: 2"."""
    lines = text.split("\n")
    if asked.quotes(lines[0]):
        return None
    for before, mark, after in concluded(text):
        opens = not before.strip() or before.rstrip().endswith((".", ",", ";", "!"))
        if mark in {"=", "≈"}:
            value = value_of(f"={after}", asked.question)
        else:
            said = mark.lower() in _CONCLUDES
            value = (
                value_of(first_sentence(after).strip(" ,:"), asked.question, whole=said) if opens else None
            )
        if value is not None:
            return (value,)
        if (
            mark.lower() in _CONCLUDES
            and opens
            and (len(lines) > 1 or after[:1] == ",")
            and 0 < len(after.split()) <= _LONG_ITEM
        ):
            return _line(after.strip(" ,:"), asked)
    if asked.count and (total := _TOTAL.search(lines[-1])):
        return (total[1],)
    return None


def _block(text: str, asked: AskedFor) -> tuple[str, ...]:
    """Read a list, or the first line of prose."""
    lines = [line for line in text.split("\n") if any(map(str.isalnum, line))]
    if (
        asked.count
        and len(lines) > 1
        and as_quantity(tidied(lines[0]))
        and not BULLET.match(lines[0])
        and all(map(BULLET.match, lines[1:]))
    ):
        return (tidied(lines[0]),)
    if len(lines) > 1 and lines[0].rstrip(" *").endswith(":") and not BULLET.match(lines[0]):
        lines = lines[1:]
    if not lines:
        return ()
    listed = [BULLET.sub("", line) for line in takewhile(BULLET.match, lines)]
    if len(listed) > 1:
        return picked(listed, asked)
    first = [line for line in text.split("\n\n", 1)[0].split("\n") if any(map(str.isalnum, line))]
    for several in (lines, first) if not listed else ():
        over = several is lines and len(lines) > len(first)  # empty lines
        if len(several) > 1 and _are_items(several, asked, whole=over):
            return _items(several, asked)
    line = lines[0]
    if listed and len(INLINE_BULLET.findall(line)) < 2 and not asked.quotes(line):
        line = listed[0]
    return _line(line, asked)


def _items(lines: Sequence[str], asked: AskedFor) -> tuple[str, ...]:
    if len(lines) > 2 and len(set(lines)) == 1:
        return _line(lines[0], asked)
    return () if _is_run(lines, asked) else picked(lines, asked)


def _is_run(lines: Sequence[str], asked: AskedFor) -> bool:
    """Say whether lines only repeat numbers of a table where one value was asked for."""
    one = _ONE_VALUE.search(asked.question) and not asked.several and not _SERIES.search(asked.question)
    return len(lines) > 2 and bool(one) and all(as_quantity(line) for line in lines)


def _are_items(lines: Sequence[str], asked: AskedFor, *, whole: bool) -> bool:
    """Say whether lines are the items of a list rather than prose; `whole`: over empty lines."""
    if whole and len({as_quantity(line.strip()) is None for line in lines}) > 1:
        return False
    if asked.context and all(asked.quotes(BULLET.sub("", line)) for line in lines):
        return True
    ends = [line.rstrip(EDGES).endswith((".", ":")) for line in lines]
    prose = any(ends[1:-1]) or (ends[-1] and not ends[0] and len(lines[-1].split()) > 3)
    long = any(len(line.split()) > _LONG_ITEM for line in lines)
    return not prose and not long and not any(_EXPLAINS.match(line) for line in lines[1:])


def _line(line: str, asked: AskedFor) -> tuple[str, ...]:
    """Read one line: a span, an enumeration, or a sentence that gives either."""
    if _ONE_QUOTED.fullmatch(line) and numbers_of(tidied(line), asked) is None:
        return (tidied(line),)
    line = tidied(line[:_LINE_READ])
    if (numbers := (line,) if as_quantity(line) else numbers_of(line, asked)) is not None:
        return numbers
    if asked.quotes(line):
        return (line,)
    if (
        _is_undecided(line, asked)
        or refuses(line)
        or _NOTHING.fullmatch(line)
        or _OPEN_END.search(line)
        or _UNDECIDED.match(line)
    ):
        return ()
    line = tidied(once(_cut(line, asked)))
    if (noted := _IN_SCALE.search(line)) is not None:
        items = _said(line[: noted.start()], asked) or ("",)
        return (*items[:-1], f"{items[-1]} {noted[1].lower()}")
    return _said(line, asked)


def _is_undecided(line: str, asked: AskedFor) -> bool:
    """Say whether a line names two values where one was asked for, or only how to find the value."""
    if doubts(line) or _FORMULA.fullmatch(line) or (_SUM.fullmatch(line) and not as_quantity(line)):
        return True
    sides = re.split(r",? or (?:the )?", line.rstrip("."))
    if (
        len(sides) == 2
        and len({bool(re.match(r"\D?[0-9]", side)) for side in sides}) == 1
        and sides[0][:1].isdigit()
    ):
        return True
    if asked.several:
        return False
    moved = _ONE_VALUE.search(asked.question) and _MOVED.fullmatch(line)
    return bool(moved) or bool(re.fullmatch(r"[^\W\d]+ / [^\W\d]+", line.rstrip(".")))


def _said(line: str, asked: AskedFor) -> tuple[str, ...]:
    bare = _without_question(line, asked)
    if (items := enumerated(bare, asked)) is not None:
        return items
    counted = line.partition(":")[0] if asked.count else line
    value = value_of(counted, asked.question, whole=bool(asked.context) or asked.count)
    answer = bare if value is None else value
    return (answer,) if answer else ()


def _cut(line: str, asked: AskedFor) -> str:
    """Return a line without the sentences, reasons and notes that follow its answer."""
    line = re.sub(r"^not (?!only|just|merely)[^,;]{1,60}?,? but (?:rather )?", "", line, flags=re.IGNORECASE)
    first = first_sentence(line)
    if as_quantity(tidied(first)):
        return first
    line = _AFTER_SENTENCE.split(line, maxsplit=1)[0]
    if re.search(r"\bwhy\b|\breasons?\b|\bcause", asked.question, re.IGNORECASE):
        reason = _BECAUSE.search(line)
        return line[reason.end() :] if reason and 2 <= len(line[: reason.start()].split()) <= 8 else line
    line = _SINCE.split(line, maxsplit=1)[0]
    note = _NOTE.search(line)
    if note and _YEAR_ONLY.fullmatch(note.group()) and line[: note.start()].replace(" ", "").isalpha():
        return line  # "Clean Water Act (1972)"
    return line[: note.start()] if note and any(map(str.isalnum, line[: note.start()])) else line


def _without_question(line: str, asked: AskedFor) -> str:
    """Return what a sentence adds to the question that it repeats: "The capital is Oslo" -> "Oslo"."""
    words = set(re.findall(r"\w+", asked.question.casefold()))

    def repeats(part: str) -> bool:
        said = [word for word in re.findall(r"\w+", part.casefold()) if word not in _SMALL]
        return bool(words) and all(
            word in words or f"{word}s" in words or word.removesuffix("s") in words for word in said
        )

    subject = _SUBJECT.match(line)
    if subject is None:
        return line
    rest = line[subject.end() :].removeprefix("that ").removeprefix("by ")
    if repeats(subject[1]):
        place = _PARTICIPLE.match(rest)
        if place and (repeats(place[1]) or place[1].lower() in {"called", "named", "known"}):
            rest = rest[place.end() :]
        return tidied(rest) or line
    if re.match(
        r"\W*(?:which|who)\b|in which|what \w+ (?:is|was|had|has)", asked.question, re.IGNORECASE
    ) and repeats(rest):
        return tidied(re.sub(r"^the ", "", subject[1], flags=re.IGNORECASE))
    short = len(subject[1].split()) < len(rest.split()) + 4
    return tidied(rest) if asked.quotes(tidied(rest)) and short else line
