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

_ENDING = re.compile(r"(?<=[a-z]{3})(?:(?<!s)s|es|e|ed|ing)$")

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")


def _phrase(phrase: str) -> str:
    phrase = _CAMEL.sub(" ", phrase)
    tokens = list(_TOKEN.finditer(phrase))
    if not tokens:
        return ""
    pieces = [re.escape(tokens[0].group())]
    for one, other in pairwise(tokens):
        pieces += [_gap(phrase, one, other), re.escape(other.group())]
    first, last = tokens[0].group()[0], tokens[-1].group()[-1]
    signed = re.search(r"[-−–]\s?$", phrase[: tokens[0].start()])
    opening = r"(?<![^\W_])" + (r"(?<![0-9][.,])" if first.isdigit() else "")
    if first.isdigit():
        opening = rf"{opening}(?<![-−–])(?<![0-9]\s[-–]\s)" if not signed else r"[-−–]\s?"
    closing = r"(?![^\W_])" + (r"(?![.,][0-9]|\s?[-–]\s?[0-9])" if last.isdigit() else "")
    return opening + "".join(pieces) + closing


_NEGATIVE = frozenset("no not non none without neither nor never all both".split())
_HELD = 6  # words: a longer text is a sentence


def only_holder(text: str, things: tuple[str, ...]) -> int | None:
    """Return the only thing whose name holds a short text, or begins with it: "Cholecystitis", "seal leak".

    Endings do not count ("anomalies"); a name that denies the text ("no anomaly") does not hold it.
    """
    said = _stems(text)
    if not said or len(said) > _HELD or not any(word[-1].isdigit() or len(word) > 3 for word in said):
        return None
    holders = [n for n, thing in enumerate(things) if _holds(_stems(thing), said)]
    return holders[0] if len(holders) == 1 else None


def _holds(words: list[str], said: list[str]) -> bool:
    if _NEGATIVE & (set(words) - set(said)):
        return said == words[:1] and said[0] in _NEGATIVE
    last = len(said) - 1
    return any(
        words[at : at + last] == said[:last] and _begins(words[at + last], said[last])
        for at in range(len(words) - last)
    )


def _begins(word: str, said: str) -> bool:
    return word == said or (len(said) > 3 and said.isalpha() and word.startswith(said))


def _stems(text: str) -> list[str]:
    words = re.findall(r"-?[0-9]+(?:[.,][0-9]+)*|[^\W\d_]+", _CAMEL.sub(" ", text).replace("−", "-"))
    return [_ENDING.sub("", re.sub(r"ies$", "y", word.casefold())) for word in words]


def _gap(phrase: str, one: re.Match[str], other: re.Match[str]) -> str:
    """Return the pattern of what may stand between two words; the point of "1.2" must."""
    between = phrase[one.end() : other.start()]
    if between in {".", ",", "/"} and phrase[one.end() - 1].isdigit() and other.group()[0].isdigit():
        return r",?" if between == "," else re.escape(between)
    return r"[\s_\-–]{0,3}" if not between.strip(" _-–") else r"[\W_]{0,5}"
