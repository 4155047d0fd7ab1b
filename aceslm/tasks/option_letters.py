"""Where a text names options: by their texts, and by letters that are no articles or names."""

from __future__ import annotations

import re
from string import ascii_uppercase

from aceslm.tasks.phrases import Mention, find_phrases

_LEFT = (
    "option options choice choices answer answers letter is was be it's its with"
    " choose choosing select pick so therefore thus"
    " hence to either or and both not but than that correct neither nor of except"
    " out for chose selected say guess prefer likely"
    " probably definitely clearly actually think believe between only just as also"
    " where because since while whereas if when"
    " eliminate exclude over now no yes finally wait unlike mark marked label are"
    " were being rather hence, i'd then exclude by"
    "  leaves leaving conclude go going with would maybe perhaps possibly potentially consider "
    "considering prefer i however although though yet still"
    " even instead ist est es lettre opción opcion letra buchstabe lettera"
)

_LEFT_WORDS = frozenset(_LEFT.split())

_RIGHT_OF_A = (
    "is was because since or and but would seems fits isn't wasn't are only rather"
    " instead nor doesn't does cannot can't has must"
    " being if while whereas matches remains looks makes"
)

_RIGHT_WORDS = frozenset(f"{_RIGHT_OF_A} which best here for due with as then given over alone correct"
 f" wrong incorrect not in"
                         " should could can might may will also".split())  # fmt: skip

_TYPE = re.compile(
    r"\b(?:group|type|class|grade|vitamin|hepatitis|factor|stage|category|phase|antigen"
    r"|influenza)\s([A-Z])(?!\w)"
)

_UPPER = re.compile(r"(?<![A-Za-zÀ-ɏ0-9_'’])[A-Z](?![A-Za-zÀ-ɏ0-9_]|['’]\w)")

_LOWER = re.compile(r"\(([a-z])\)|(?:(?<=^)|(?<=\n)|(?<=[*\"'\[]))([a-z])(?=[).:\]*\"']|$)", re.MULTILINE)

_JOINED_LETTER = re.compile(r"\s*(?:,|/|&|\bor\b|\band\b)[\s,]*(?:or |and )?\(?[A-Z](?![\w'’])")
_WORD_BEFORE = re.compile(r"([\w'’,]+) +$")

_WORD_AFTER = re.compile(r" +([\w'’]+)")


def named_options(text: str, shown: tuple[str, ...], *, lower: bool = False) -> list[Mention]:
    """Return where options are named, by text or letter; letters inside a text are part of it."""
    phrases = option_phrases(shown)
    named = find_phrases(text, phrases)
    letters = ascii_uppercase[: len(shown)]
    texts = {option.strip(" .").upper(): n for n, option in enumerate(shown) if not phrases[n]}
    named += [Mention(texts[m[1]], m.start(), m.end()) for m in _TYPE.finditer(text) if m[1] in texts]
    taken = [(one.start, one.end) for one in named]
    masked = without_phrases(text, sorted(taken))
    for match in _UPPER.finditer(masked):
        if match.group() in letters and _is_option_letter(text, match.start(), masked):
            named.append(Mention(letters.index(match.group()), match.start(), match.end(), letter=True))
    if lower:
        for match in _LOWER.finditer(masked):
            letter = (match[1] or match[2]).upper()
            if letter in letters:
                named.append(Mention(letters.index(letter), match.start(), match.end(), letter=True))
    return named


def option_phrases(shown: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options' texts as phrases; a text of one letter needs the noun that it names ("type B")."""
    return tuple("" if re.fullmatch(r"\W*[A-Za-z]\W*", option) else option for option in shown)


def without_phrases(text: str, taken: list[tuple[int, int]]) -> str:
    pieces, at = [], 0
    for start, end in taken:
        pieces += [text[at:start], "\0" * (end - start)]
        at = end
    return "".join([*pieces, text[at:]])


def _may_precede(word: str) -> bool:
    return word.endswith(",") or word.lower() in _LEFT_WORDS or (len(word) == 1 and word.isupper())


def _is_option_letter(text: str, at: int, masked: str) -> bool:
    """Say whether the capital at `at` is an option's letter, not an article, a name or part of one."""
    before = _WORD_BEFORE.search(text[max(0, at - 20) : at])
    if before and before[1].lower() in {"option", "choice", "letter"}:
        return True
    if _JOINED_LETTER.match(text, at + 1):
        return True
    hyphened = text[at + 1 : at + 2] == "-" and text[at + 2 : at + 3].isalnum()
    if hyphened or (before and not _may_precede(before[1])):
        return False
    return _may_follow(text, at, masked)


def _may_follow(text: str, at: int, masked: str) -> bool:
    """Say whether what stands behind a capital lets it be an option's letter; option texts are masked."""
    point = re.match(r"\.\s([a-z]+)", text[at + 1 : at + 22])
    if point and masked[at + 3 : at + 4] != "\0":
        return point[1] in _RIGHT_WORDS  # "C. difficile"
    after = _WORD_AFTER.match(text, at + 1)
    if after is None or masked[after.start(1)] == "\0":
        return True
    if text[at] == "I":
        return bool(re.search(r"\banswer\s+$", text[max(0, at - 12) : at], re.IGNORECASE))
    if re.match(r"\s[0-9.]+\s?%", text[at + 1 : at + 12]):
        return True
    word = after[1].lower().replace("’", "'")
    return word in (_RIGHT_OF_A.split() if text[at] == "A" else _RIGHT_WORDS) or (
        after[1].isupper() and (text[at] != "A" or len(word) == 1)
    )
