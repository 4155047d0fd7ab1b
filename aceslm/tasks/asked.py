"""What a span question asks for, one thing or several, and what its context has word for word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_PLURAL = re.compile(
    r"\brespectively\b|\b(?:what|which)\s+(?:are|were)\b(?!.*\b(?:related|due|attributable|refer\w*) to\W*$)"
    r"|\b(?:which|what)\s+(?:(?!(?:the|an?|of|is|was|did|does)\b)[\w&-]+(?<!ed)\s+){0,3}?(?!(?:was"
    r"|is|has|does|basis|loss|gross|previous"
    r"|fiscal)\b)\w{2,}(?<!s)s\b(?!\s+(?:was|is|has|of)\b)|\bwhat (?:\w+ ){0,3}(?:types"
    r"|kinds|items|components|factors)\b",
    re.IGNORECASE,
)

EDGES = "\"'“”‘’*`_ "


@dataclass(frozen=True, slots=True)
class AskedFor:
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
    """Say whether a text stands word for word in a context, but for case, white space and a last point."""
    wanted = " ".join(text.casefold().strip(EDGES).rstrip(".").split())
    return len(wanted) > 1 and bool(re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", _folded(context)))


@lru_cache(maxsize=64)
def _folded(context: str) -> str:
    return " ".join(context.casefold().replace("\\|", "|").split())
