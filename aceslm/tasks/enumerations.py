"""Items of an enumeration on one line, and the dress of an item: bullets, quotes, bold type, labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from aceslm.tasks.asked import AskedFor
from aceslm.tasks.loose_json import find_json
from aceslm.tasks.quantities import as_quantity

BULLET = re.compile(
    r"^(?:[-*•●▪+–—](?:\s+|(?=[^\W\d]))|\(?[0-9]{1,2}[.)]\s+(?!(?:thousand|million"
    r"|billion|percent|%))|\(?[a-z][.)]\s+|\([ivx]+\)\s+)(?=\S)"
)

INLINE_BULLET = re.compile(
    r"(?:^|[;,]?\s+)(?:and )?(?:\([0-9]{1,2}\)|\([a-z]\)|(?<![\w.])[0-9]{1,2}[.)])\s+(?=\D)(?!thousand"
    r"|million|billion|percent|%)"
)

_QUOTED = re.compile(r"[\"“]([^\"“”]+)[\"”]")

_COMMA = re.compile(r",(?![0-9]{3}(?![0-9]))\s*(?:and\s+|or\s+)?|\s+and\s+|\s*&\s*(?=[A-Z$])")

_COMMA_ONLY = re.compile(r",(?![0-9]{3}(?![0-9]))\s*(?:and\s+|or\s+)?")

_DATE_COMMA = re.compile(
    r"\b((?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* \d{1,2}),(?=\s?(?:19|20)\d\d)",
    re.IGNORECASE,
)

_DATE = re.compile(
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* (?:\d{1,2},? )?\d{4}", re.IGNORECASE
)

_WITH_SUM = re.compile(r"([^()]{1,40}[0-9%a-z]) \([^=]{0,200}[-+*/×÷][^=]{0,200}\)", re.IGNORECASE)

_IN_YEAR = re.compile(
    r"\s+(?:(?:in|for|during)\s+(?:fiscal\s+)?(?:year\s+)?|\()(?:19|20)[0-9]{2}\)?$", re.IGNORECASE
)

_LABELLED = re.compile(r"[^:\d$€£][^:]{0,50}:\s+(.+)|(?:fy\s?)?(?:19|20)[0-9]{2}:\s+(.+)", re.IGNORECASE)


def json_list(text: str) -> list[str] | None:
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


def enumerated(line: str, asked: AskedFor) -> tuple[str, ...] | None:
    """Return the items of an enumeration, None for anything else."""
    items = json_list(line) or _separated(line)
    if items:
        return picked(items, asked)
    if (numbers := numbers_of(line, asked)) is not None:
        return numbers
    quoted = (pieces for pieces in _splits(line) if asked.context and all(map(asked.quotes, pieces)))
    if (parts := next(quoted, None)) is not None:
        return clean(parts)
    parts = next(_splits(line), [])
    labelled = bool(parts) and all(map(_LABELLED.fullmatch, parts))
    return picked(parts, asked) if labelled or (parts and asked.several and not asked.context) else None


def _separated(line: str) -> list[str]:
    """Return what cells, quotes, semicolons or numbers on one line part."""
    if line.startswith("|"):
        cells = [cell.strip() for cell in line.split("|") if any(map(str.isalnum, cell))]
        return cells[1:] if len(cells) > 1 else cells
    quoted = _QUOTED.findall(line)
    if len(quoted) > 1 and not re.sub(r"\band\b|\W", "", _QUOTED.sub("", line)):
        return quoted
    if " | " in line:
        return line.split(" | ")
    if ";" in line:
        return re.split(r";\s*(?:and\s+)?", line)
    pieces = [one for one in INLINE_BULLET.split(line) if one.strip()] if INLINE_BULLET.match(line) else []
    return pieces if len(pieces) > 1 else []


def numbers_of(line: str, asked: AskedFor) -> tuple[str, ...] | None:
    """Return the items of "2019, 2018 and 2017" or "$5 in 2019 and $6 in 2018, respectively"."""
    line = re.sub(
        r"^(?:in|for|both)\s+(?=\D?[0-9])|(?<=[0-9%])\s*&",
        lambda match: "," if "&" in match.group() else "",
        line,
        flags=re.I,
    )
    pieces = _pieces(line, _COMMA)
    dated = [_IN_YEAR.search(piece) for piece in pieces]
    years = [re.sub(r"\D", "", match.group()) for match in dated if match]
    pieces = [_IN_YEAR.sub("", piece) for piece in pieces]
    plain = all(as_quantity(piece) or _DATE.fullmatch(piece) for piece in pieces)
    if plain and len(years) == len(pieces):
        pieces = [f"{year}: {piece}" for year, piece in zip(years, pieces, strict=True)]
    return picked(pieces, asked) if len(pieces) > 1 and plain else None


def _pieces(line: str, separator: re.Pattern[str]) -> list[str]:
    bare = re.sub(r",?\s+respectively$", "", line.rstrip("."))
    bare = _DATE_COMMA.sub("\\1\0", re.sub(r"^both ", "", bare))
    return [one.replace("\0", ",").strip() for one in separator.split(bare) if one and one.strip()]


def _splits(line: str) -> Iterator[list[str]]:
    """Give the ways in which commas and one "and" may part a line; items have "and" in them too."""
    parts = _pieces(line, _COMMA_ONLY)
    ands = list(re.finditer(r"\s+and\s+|\s*&\s*(?=[A-Z$])", parts[-1])) if parts else []
    for match in reversed(ands[:8]):
        yield [*parts[:-1], parts[-1][: match.start()], parts[-1][match.end() :]]
    if len(parts) > 1:
        yield parts
    if len(every := _pieces(line, _COMMA)) > 1:
        yield every


def tidied(text: str) -> str:
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
    if (worked := _WITH_SUM.fullmatch(bare)) and as_quantity(worked[1]):
        return worked[1]
    return bare if as_quantity(bare) else re.sub(r"(?<=[0-9)%])\.$", "", text.rstrip(" ,;"))


def clean(items: Sequence[str]) -> tuple[str, ...]:
    labelled = [_LABELLED.fullmatch(re.sub(r"\*\*|__", "", BULLET.sub("", item.strip()))) for item in items]
    values = [match[1] or match[2] for match in labelled if match]
    if len(values) == len(items) and all(as_quantity(tidied(value)) for value in values):
        items = values  # "2018: 40", "2019: 42"
    cleaned = (
        tidied(BULLET.sub("", item.strip())) if not as_quantity(item.strip()) else item.strip()
        for item in items
    )
    return tuple(item.removeprefix("and ") for item in cleaned if any(map(str.isalnum, item)))


_ROW = re.compile(r"\W*([^:\n]{1,60}):\s+(.+)")
_FISCAL = re.compile(r"^(?:fy\s?|fiscal (?:year )?)(?=(?:19|20)[0-9]{2}$)", re.IGNORECASE)
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")


def picked(items: Sequence[str], asked: AskedFor) -> tuple[str, ...]:
    """Return the one value whose label the question names ("2018: 40 / 2019: 42"), else all items."""
    rows = [
        (_FISCAL.sub("", match[1].strip("* ")), match[2]) for item in items if (match := _ROW.fullmatch(item))
    ]
    values = len(rows) == len(items) and all(as_quantity(tidied(value)) for _, value in rows)
    if values and (not asked.several or all(_YEAR.fullmatch(label) for label, _ in rows)):
        question = set(re.findall(r"\w+", asked.question.lower()))
        named = [value for label, value in rows if set(re.findall(r"\w+", label.lower())) <= question]
        if len(named) == 1:
            return clean(named)
    return clean(items)
