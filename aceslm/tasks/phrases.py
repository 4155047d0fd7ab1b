"""Where given phrases stand in a text, whatever their case, hyphens and underscores."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Mention:
    """The thing with index `value`, named at `start` to `end`; `letter`: by its option letter."""

    value: int
    start: int
    end: int
    letter: bool = False
    denied: bool = False
    affirmed: bool = False


@lru_cache(maxsize=512)
def phrase_pattern(phrases: tuple[str, ...]) -> re.Pattern[str] | None:
    """Compile one pattern for all phrases, the longest first; group n+1 is phrase n."""
    patterns = [_phrase(phrase) for phrase in phrases]
    for n, phrase in enumerate(phrases):
        if patterns[n] and patterns.count(_phrase(phrase)) > 1:  # they differ by a sign: (+), an arrow
            patterns[n] = r"\s{0,3}".join(re.escape(word) for word in phrase.split())
    order = sorted((n for n in range(len(phrases)) if patterns[n]), key=lambda n: -len(phrases[n]))
    return re.compile("|".join(f"(?P<p{n}>{patterns[n]})" for n in order), re.IGNORECASE) if order else None


def find_phrases(text: str, phrases: tuple[str, ...]) -> list[Mention]:
    """Return where the phrases stand in a text, whatever their case, hyphens and underscores."""
    pattern = phrase_pattern(phrases)
    if pattern is None:
        return []
    return [Mention(int((m.lastgroup or "p0")[1:]), m.start(), m.end()) for m in pattern.finditer(text)]


_TOKEN = re.compile(r"[^\W_]+")

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")


def _phrase(phrase: str) -> str:
    phrase = _CAMEL.sub(" ", phrase)
    tokens = list(_TOKEN.finditer(phrase))
    if not tokens:
        return ""
    pieces = [re.escape(tokens[0].group())]
    for one, other in pairwise(tokens):
        plain = not phrase[one.end() : other.start()].strip(" _-–")
        pieces += [r"[\s_\-–]{0,3}" if plain else r"[\W_]{0,5}", re.escape(other.group())]
    first, last = tokens[0].group()[0], tokens[-1].group()[-1]
    signed = re.search(r"[-−–]\s?$", phrase[: tokens[0].start()])
    opening = r"(?<![^\W_])" + (r"(?<![0-9][.,])" if first.isdigit() else "")
    if first.isdigit():
        opening = rf"{opening}(?<![-−–])" if not signed else r"[-−–]\s?"
    closing = r"(?![^\W_])" + (r"(?![.,][0-9])" if last.isdigit() else "")
    return opening + "".join(pieces) + closing
