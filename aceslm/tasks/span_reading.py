"""The words, or the number, that a reply gives as its answer: one span, or a list of them.

    read_spans("The answer is 13.0%.")                     # ("13.0%",)
    read_spans("Retail\nWholesale")                        # ("Retail", "Wholesale")
    read_spans("- 12.5 million")                           # ("12.5 million",)

What is read depends on the reply, the question and the context, never on the gold. A list is one by its form: a JSON
list, bullets, lines, semicolons, quoted items, numbers with commas. Words with commas or "and" between them are one
span where they stand like that in the context, and several where only their parts do. A sentence that gives a value
("There are 3.", "The change was 5.3 million") is read as that value unless the context has it word for word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from aceslm.tasks.loose_json import find_json
from aceslm.tasks.marked import answer_text, concluded, json_answer, marks_of, plain_latex, stated
from aceslm.tasks.number_reading import refuses, value_of
from aceslm.tasks.quantities import as_quantity
from aceslm.tasks.text import first_sentence

_MARKS = marks_of(r"(?:relevant |extracted )(?:span|text|phrase|item)|response", corrections=False)
_BULLET = re.compile(
    r"^(?:[-*•●▪+–—](?:\s+|(?=[^\W\d]))|\(?[0-9]{1,2}[.)]\s+(?!(?:thousand|million|billion|percent|%))|\(?[a-z][.)]\s+|\([ivx]+\)\s+)(?=\S)"
)
_INLINE_BULLET = re.compile(
    r"(?:^|[;,]?\s+)(?:and )?(?:\([0-9]{1,2}\)|\([a-z]\)|(?<![\w.])[0-9]{1,2}[.)])\s+(?=\D)(?!thousand|million|billion|percent|%)"
)
_QUOTED = re.compile(r"[\"“]([^\"“”]+)[\"”]")
_COMMA = re.compile(r",(?![0-9]{3}(?![0-9]))\s*(?:and\s+|or\s+)?|\s+and\s+|\s*&\s*(?=[A-Z$])")
_COMMA_ONLY = re.compile(r",(?![0-9]{3}(?![0-9]))\s*(?:and\s+|or\s+)?")
_EXPLAINS = re.compile(
    r"^(?:it|this|that|these|those|they|the (?:answer|table|text|context|above|company)|because|since|note|explanation|both|so|therefore"
    r"|thus|there|according|based|i|we|as|reason(?:ing)?|source|however|which|context)\b",
    re.IGNORECASE,
)
_AFTER_SENTENCE = re.compile(
    r"(?<=[\w%)\"”])\.\s+(?=(?:This|These|It|That|They|Because|Note|Explanation|Therefore|So|According|Based|The (?:answer|table|text)"
    r"|In the|As (?:stated|shown|per))\b)"
)
_SUBJECT = re.compile(
    r"^(.{2,200}?)\s(?:is|are|was|were|has|had|have|includes?|included|consists? of|comprises?|covers?|lists?|shows?|lasts?(?: for)?"
    r"|grew|fell|rose|took place|began|ended)\s+(?=\S)",
    re.IGNORECASE,
)
_PARTICIPLE = re.compile(r"(\w+)\s+(?:(?:in|at|by|on|from|as|to)\s+)?", re.IGNORECASE)
_PLURAL = re.compile(
    r"\brespectively\b|\b(?:what|which)\s+(?:are|were)\b(?!.*\b(?:related|due|attributable|refer\w*) to\W*$)"
    r"|\b(?:which|what)\s+(?:(?!(?:the|an?|of|is|was|did|does)\b)[\w&-]+(?<!ed)\s+){0,3}?(?!(?:was|is|has|does|basis|loss|gross|previous"
    r"|fiscal)\b)\w{2,}(?<!s)s\b(?!\s+(?:was|is|has|of)\b)|\bwhat (?:\w+ ){0,3}(?:types|kinds|items|components|factors)\b",
    re.IGNORECASE,
)
_ONE_VALUE = re.compile(
    r"\bwhat (?:is|was) the (?:\w+ ){0,3}(?:change|difference|average|sum|total|ratio|increase|decrease|percentage)\b|\bhow m(?:any|uch)\b",
    re.IGNORECASE,
)
_SERIES = re.compile(
    r"\brespective|\b(?:each|listed|order|years|periods|both)\b|(?:and|,|&)\s*(?:fiscal )?(?:fy)?(?:19|20)[0-9]{2}",
    re.IGNORECASE,
)
_CONCLUDES = frozenset("so therefore thus hence consequently finally".split() + ["in conclusion", "overall"])
_TOTAL = re.compile(r"\b(?:count|total|number)\W{1,4}([0-9]{1,4})\W*$", re.IGNORECASE)
_NOTHING = re.compile(
    r"(?:n/?a|none given|not (?:available|applicable|provided|specified|mentioned|given|stated|found)|unknown|no answer|i (?:do not|don['’]t) know"
    r"|see the .{0,40}|the answer|no data|insufficient data)\W*",
    re.IGNORECASE,
)
_OPEN_END = re.compile(r"(?::|=|\?|\s(?:is|are|was|were|the|of|and|by|we|to|with))$", re.IGNORECASE)
_UNDECIDED = re.compile(
    r"(?:(?:it|this|that|the \w+)\s+(?:is|was|could be|may be)\s+)?(?:either\b.*\bor\b|(?:somewhere )?between \W?[0-9].* and \W?[0-9])",
    re.IGNORECASE,
)
_IN_SCALE = re.compile(r"(?<=[0-9)])[\s,]*\(?\s*in (thousand|million|billion)s?\)?\.?$", re.IGNORECASE)
_BECAUSE = re.compile(r"\b(?:because(?: of)?|due to|caused by|thanks to)\s+", re.IGNORECASE)
_SINCE = re.compile(
    r",?\s+because\b|,\s+(?:since|as (?:it|the|they|this|shown|stated|per)|which (?:is|was|are)|according to)\b",
    re.IGNORECASE,
)
_NOTE = re.compile(r"\s+\([^()]*[0-9][^()]*\)\.?$")
_DATE_COMMA = re.compile(
    r"\b((?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* \d{1,2}),(?=\s?(?:19|20)\d\d)",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* (?:\d{1,2},? )?\d{4}", re.IGNORECASE
)
_IN_YEAR = re.compile(
    r"\s+(?:(?:in|for|during)\s+(?:fiscal\s+)?(?:year\s+)?|\()(?:19|20)[0-9]{2}\)?$", re.IGNORECASE
)
_LABELLED = re.compile(r"[^:\d$€£][^:]{0,50}:\s+(.+)|(?:fy\s?)?(?:19|20)[0-9]{2}:\s+(.+)", re.IGNORECASE)
_SMALL = frozenset(
    "the a an of in for to and or by on at as from with its it this that these those there company's companies company s were was"
    " is are what which who how much many did does do respectively main following".split()
)
_LONG_ITEM = 12  # words: a longer line is prose unless the context has it
_LINE_READ = 4000  # characters; the longest gold of TAT-QA has 800
_EDGES = "\"'“”‘’*`_ "


def read_spans(text: str, *, question: str = "", context: str = "") -> tuple[str, ...]:
    """Return the spans of a reply as written, without bullets, quotes and markdown; () where it has none."""
    asked = _Asked(question, context)
    text = answer_text(text, question)
    if (answers := json_answer(text)) is not None:
        return _clean(answers) if len(answers) != 1 else _line(answers[0], asked)
    if (items := _json_list(text)) is not None:
        return _clean(items)
    text = plain_latex(text)
    for mark in stated(text, _MARKS):
        if any(map(str.isalnum, mark.line)):
            return _block(mark.block, asked)
    if (spans := _conclusion(text, asked)) is not None:
        return spans
    return _block(text, asked)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a reply answers: its question, and the context that it may quote."""

    question: str
    context: str

    @property
    def several(self) -> bool:
        """Whether the question asks for more than one thing."""
        return bool(_PLURAL.search(self.question))

    @property
    def count(self) -> bool:
        return bool(re.search(r"\bhow many\b", self.question, re.IGNORECASE))

    def quotes(self, text: str) -> bool:
        return stands_in(text, self.context)


def stands_in(text: str, context: str) -> bool:
    """Say whether a text stands word for word in a context; case, white space and a last point do not count."""
    wanted = " ".join(text.casefold().strip(_EDGES).rstrip(".").split())
    return len(wanted) > 1 and bool(re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", _folded(context)))


@lru_cache(maxsize=64)
def _folded(context: str) -> str:
    return " ".join(context.casefold().replace("\\|", "|").split())


def _json_list(text: str) -> list[str] | None:
    found = find_json(text)
    if (
        len(found) != 1
        or not isinstance(found[0].value, list)
        or not isinstance(items := found[0].value, list)
    ):
        return None
    outside = text[: found[0].start] + text[found[0].end :]
    plain = all(isinstance(item, str | int | float) for item in items)
    short = len(outside) < 80 and (
        found[0].start == 0 or outside.rstrip(" .`*\n").endswith((":", "is", "are"))
    )
    return [str(item) for item in items] if plain and (short or not outside.strip()) else None


def _conclusion(text: str, asked: _Asked) -> tuple[str, ...] | None:
    """Return what ends a derivation: "(5 - 4) / 4 = 25%", "Therefore, 2018", "Count: 2"."""
    lines = text.split("\n")
    if asked.quotes(lines[0]):
        return None
    for before, mark, after in concluded(text):
        opens = not before.strip() or before.rstrip().endswith((".", ",", ";", "!"))
        if mark in {"=", "≈"}:
            value = value_of(f"={after}", asked.question)
        else:
            value = value_of(first_sentence(after), asked.question) if opens else None
        if value is not None:
            return (value,)
        if mark.lower() in _CONCLUDES and opens and len(lines) > 1 and 0 < len(after.split()) <= _LONG_ITEM:
            return _line(after.strip(" ,:"), asked)
    if asked.count and (total := _TOTAL.search(lines[-1])):
        return (total[1],)
    return None


def _block(text: str, asked: _Asked) -> tuple[str, ...]:
    """Read a list, or the first line of prose."""
    lines = [line for line in text.split("\n") if any(map(str.isalnum, line))]
    if len(lines) > 1 and lines[0].rstrip(" *").endswith(":") and not _BULLET.match(lines[0]):
        lines = lines[1:]
    if not lines:
        return ()
    listed: list[str] = []
    for line in lines:
        if not _BULLET.match(line):
            break
        listed.append(_BULLET.sub("", line))
    if len(listed) > 1:
        return _clean(listed)
    if listed and len(lines) > 1 and not asked.quotes(lines[0]):
        return _line(listed[0], asked)
    first = [line for line in text.split("\n\n", 1)[0].split("\n") if any(map(str.isalnum, line))]
    for several in (lines, first):
        if len(several) > 1 and _are_items(
            several, asked, whole=several is lines and len(lines) > len(first)
        ):
            if len(several) > 2 and len(set(several)) == 1:
                return _line(several[0], asked)
            if _is_run(several, asked):
                return ()
            return _clean(several)
    line = lines[0]
    if _BULLET.match(line) and len(_INLINE_BULLET.findall(line)) < 2 and not asked.quotes(line):
        line = _BULLET.sub("", line)
    return _line(line, asked)


def _is_run(lines: Sequence[str], asked: _Asked) -> bool:
    """Say whether lines only repeat numbers of a table where one value was asked for."""
    one = _ONE_VALUE.search(asked.question) and not asked.several and not _SERIES.search(asked.question)
    return len(lines) > 2 and bool(one) and all(as_quantity(line) for line in lines)


def _are_items(lines: Sequence[str], asked: _Asked, *, whole: bool) -> bool:
    """Say whether lines are the items of a list rather than prose; `whole`: over empty lines."""
    if whole and len({as_quantity(line.strip()) is None for line in lines}) > 1:
        return False
    if asked.context and all(asked.quotes(_BULLET.sub("", line)) for line in lines):
        return True
    ends = [line.rstrip(_EDGES).endswith((".", ":")) for line in lines]
    prose = any(ends[1:-1]) or (ends[-1] and not ends[0] and len(lines[-1].split()) > 3)
    long = any(len(line.split()) > _LONG_ITEM for line in lines)
    return not prose and not long and not any(_EXPLAINS.match(line) for line in lines[1:])


def _line(line: str, asked: _Asked) -> tuple[str, ...]:
    """Read one line: a span, an enumeration, or a sentence that gives either."""
    line = _tidied(line[:_LINE_READ])
    if as_quantity(line):
        return (line,)
    if (numbers := _numbers(line)) is not None:
        return numbers
    if asked.quotes(line):
        return (line,)
    if refuses(line) or _NOTHING.fullmatch(line) or _OPEN_END.search(line) or _UNDECIDED.match(line):
        return ()
    line = _tidied(_once(_cut(line, asked)))
    if (noted := _IN_SCALE.search(line)) is not None:
        head = line[: noted.start()]
        return (*_line(head, asked)[:-1], f"{(_line(head, asked) or ('',))[-1]} {noted[1].lower()}")
    bare = _without_question(line, asked)
    if (items := _enumerated(bare, asked)) is not None:
        return items
    said = value_of(
        line.partition(":")[0] if asked.count else line,
        asked.question,
        whole=bool(asked.context) or asked.count,
    )
    if said is not None:
        return (said,)
    return (bare,) if bare else ()


def _cut(line: str, asked: _Asked) -> str:
    """Return a line without the sentences, reasons and notes that follow its answer."""
    first = first_sentence(line)
    if as_quantity(_tidied(first)):
        return first
    line = _AFTER_SENTENCE.split(line, maxsplit=1)[0]
    if re.search(r"\bwhy\b|\breasons?\b|\bcause", asked.question, re.IGNORECASE):
        reason = _BECAUSE.search(line)
        return line[reason.end() :] if reason and 2 <= len(line[: reason.start()].split()) <= 8 else line
    line = _SINCE.split(line, maxsplit=1)[0]
    note = _NOTE.search(line)
    return line[: note.start()] if note and any(map(str.isalnum, line[: note.start()])) else line


def _once(line: str) -> str:
    """Return "Oslo" of "Oslo Oslo Oslo Oslo"."""
    words = line.split()
    for size in range(1, len(words) // 4 + 1) if len(words) <= 60 else ():
        if len(words) % size == 0 and words == words[:size] * (len(words) // size):
            return " ".join(words[:size])
    return line


def _enumerated(line: str, asked: _Asked) -> tuple[str, ...] | None:
    """Return the items of an enumeration, None for anything else."""
    if (items := _json_list(line)) is not None:
        return _clean(items)
    if line.startswith("|"):
        cells = [cell.strip() for cell in line.split("|") if any(map(str.isalnum, cell))]
        return _clean(cells[1:] if len(cells) > 1 else cells)
    quoted = _QUOTED.findall(line)
    if len(quoted) > 1 and not re.sub(r"\band\b|\W", "", _QUOTED.sub("", line)):
        return _clean(quoted)
    if ";" in line:
        return _clean(re.split(r";\s*(?:and\s+)?", line))
    if len(pieces := [one for one in _INLINE_BULLET.split(line) if one.strip()]) > 1 and _INLINE_BULLET.match(
        line
    ):
        return _clean(pieces)
    if (numbers := _numbers(line)) is not None:
        return numbers
    for pieces in _splits(line):
        if asked.context and all(map(asked.quotes, pieces)):
            return _clean(pieces)
    pieces = next(_splits(line), [])
    if pieces and all(map(_LABELLED.fullmatch, pieces)):
        return _clean(pieces)
    return _clean(pieces) if pieces and asked.several and not asked.context else None


def _numbers(line: str) -> tuple[str, ...] | None:
    """Return the items of "2019, 2018 and 2017" or "$5 in 2019 and $6 in 2018, respectively"."""
    line = re.sub(
        r"^(?:in|for|both)\s+(?=\D?[0-9])|(?<=[0-9%])\s*&",
        lambda match: "," if "&" in match.group() else "",
        line,
        flags=re.I,
    )
    pieces = [_IN_YEAR.sub("", piece) for piece in _pieces(line, _COMMA)]
    plain = all(as_quantity(piece) or _DATE.fullmatch(piece) for piece in pieces)
    return _clean(pieces) if len(pieces) > 1 and plain else None


def _pieces(line: str, separator: re.Pattern[str]) -> list[str]:
    bare = re.sub(r",?\s+respectively$", "", line.rstrip("."))
    bare = _DATE_COMMA.sub("\\1\0", re.sub(r"^both ", "", bare))
    return [one.replace("\0", ",").strip() for one in separator.split(bare) if one and one.strip()]


def _splits(line: str) -> Iterator[list[str]]:
    """Give the ways in which commas and one "and" may part a line, then all of them: items have "and" in them too."""
    parts = _pieces(line, _COMMA_ONLY)
    ands = list(re.finditer(r"\s+and\s+|\s*&\s*(?=[A-Z$])", parts[-1])) if parts else []
    for match in reversed(ands[:8]):
        yield [*parts[:-1], parts[-1][: match.start()], parts[-1][match.end() :]]
    if len(parts) > 1:
        yield parts
    if len(every := _pieces(line, _COMMA)) > 1:
        yield every


def _without_question(line: str, asked: _Asked) -> str:
    """Return what a sentence adds to the question that it repeats: "The capital of Norway is Oslo" -> "Oslo"."""
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
        return _tidied(rest) or line
    if re.match(
        r"\W*(?:which|who)\b|in which|what \w+ (?:is|was|had|has)", asked.question, re.IGNORECASE
    ) and repeats(rest):
        return _tidied(re.sub(r"^the ", "", subject[1], flags=re.IGNORECASE))
    short = len(subject[1].split()) < len(rest.split()) + 4
    return _tidied(rest) if asked.quotes(_tidied(rest)) and short else line


def _tidied(text: str) -> str:
    """Return a span without quotes and bold type at its ends, nor a full stop behind a number."""
    text = re.sub(r"\*\*|__", "", text).strip().strip("*`_ ")
    for opening, closing in ('""', "''", "“”", "‘’", "[]", "``"):
        if (
            len(text) > 1
            and text.strip(".").startswith(opening)
            and text.strip(".").endswith(closing)
            and opening not in text.strip(".")[1:-1]
        ):
            text = text.strip(".")[1:-1].strip()
    bare = text.rstrip(" .,;")
    return bare if as_quantity(bare) else re.sub(r"(?<=[0-9)%])\.$", "", text.rstrip(" ,;"))


def _clean(items: Sequence[str]) -> tuple[str, ...]:
    labelled = [_LABELLED.fullmatch(re.sub(r"\*\*|__", "", _BULLET.sub("", item.strip()))) for item in items]
    values = [match[1] or match[2] for match in labelled if match]
    if len(values) == len(items) and all(as_quantity(_tidied(value)) for value in values):
        items = values  # "2018: 40", "2019: 42"
    cleaned = (
        _tidied(_BULLET.sub("", item.strip())) if not as_quantity(item.strip()) else item.strip()
        for item in items
    )
    return tuple(item.removeprefix("and ") for item in cleaned if any(map(str.isalnum, item)))
