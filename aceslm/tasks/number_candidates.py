"""Which numbers of a sentence can be its answer.

Years, dates, list numbers, "Step 2", what stands in brackets, after "because" or "out of" cannot while there
is another number.
"""

from __future__ import annotations

import re

from aceslm.tasks.quantities import Quantity, quantities

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)


_DATE = re.compile(
    rf"\b\d{{1,2}}/\d{{1,2}}/\d{{2,4}}\b|\b\d{{4}}-\d{{2}}-\d{{2}}\b|\b{_MONTH} \d{{1,2}}(?:st"
    rf"|nd|rd|th)?(?:, ?\d{{4}})?\b(?!,\d)"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH}(?:,? \d{{4}})?\b|\b{_MONTH},?"
    rf" \d{{4}}\b|\b\d{{1,2}}:\d{{2}}\b",
    re.IGNORECASE,
)


_DENIED = re.compile(r"\bnot\s+[$€£]?[0-9][0-9.,]*", re.IGNORECASE)
_RATE = re.compile(r"\b(?:in|per|every|each) 1 (?:second|minute|hour|day|week|month|year)\b", re.IGNORECASE)
_TO_ONE = re.compile(r"(?<=[0-9])(?:\s?:\s?|\sto\s)1(?![0-9.])")


_YEAR = re.compile(r"(?:19|20)[0-9]{2}")


_BEFORE_A_YEAR = re.compile(
    r"\b(?:in|for|of|during|since|from|to|year|years|fiscal|fy|and|or|until|by|end"
    r"|ended|ending|before|after|through|between"
    r"|q[1-4]|than|over|vs\.?|versus|compared (?:to|with)|'?s)[ ,]*$|[(/&-]\s*$",
    re.IGNORECASE,
)


_AFTER_A_YEAR = re.compile(
    r"\s*(?:\)|:\s|,?\s(?:was|were|is|has|had|saw|revenue|sales|fiscal|and (?:19|20)\d\d))|['’]s\b"
)


_NAMED = re.compile(
    r"\b(?:steps?|question|table|figure|note|item|page|section|chapter|option|equation"
    r"|part|example|phase|type|level|tier"
    r"|version|no\.?|number|year|month|day|week|quarter|problem|exercise|column|row"
    r"|line|appendix|class|series)\s?#?$",
    re.IGNORECASE,
)


LISTED = re.compile(
    r"^\W{0,3}(?:step )?\(?(?:[0-9]{1,2}|[a-h])[.):](?=\s|$)(?!\s*$)", re.IGNORECASE | re.MULTILINE
)


_ADJECTIVE = re.compile(
    r"-(?:year|month|day|week|hour|minute|step|point|digit|fold|k|q|for|stock|quarter|percent)s?\b",
    re.IGNORECASE,
)


ASIDE = re.compile(r"[(\[][^()\[\]\n]*[)\]]")


_REASON = re.compile(
    r"(?:,\s*|\s)(?:because|since|as (?!of|a\b|the\b)|due to|given|based on|calculated"
    r"|computed|obtained|which (?:is|was)|up from"
    r"|down from|compared (?:to|with)|versus|vs\.?|rather than|instead of|not|where"
    r"|while|whereas|assuming|after (?:subtract|add|"
    r"multiply|divid|round)\w+)\b",
    re.IGNORECASE,
)


_OUT_OF = re.compile(
    r"\s(?:(?:\w+ ){0,2})?(?:out )?(?<!drop )(?<!fall )(?<!rise )(?<!gain )(?<!crease )(?<!change )"
    r"(?<!growth )of (?:the |a |all |its |their )?(?:total of )?$",
    re.IGNORECASE,
)


_ORIGIN = re.compile(
    r"\b(?:from|between) (?:[^.;\n]|\.(?=[0-9])){1,40}?\b(?:to|and) (?:[^.,;\n]|[.,](?=[0-9])){1,25}",
    re.IGNORECASE,
)


_READ = 30  # numbers at either end of a sentence; more of them are no answer anyway


def answers(text: str) -> list[Quantity]:
    """Return the numbers of a text that can be its answer; all of them where none can."""
    found = list(quantities(text))
    found = [*found[:_READ], *found[_READ:][-_READ:]]
    for hidden in (LISTED, _DATE, _TO_ONE, _RATE, _DENIED):
        found = _kept(found, _shown(hidden, text))
    found = [one for one in found if not _is_year(one, text)] or found
    found = [one for one in found if not _is_name(one, text)] or found
    found = _kept(found, _shown(ASIDE, text))
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
