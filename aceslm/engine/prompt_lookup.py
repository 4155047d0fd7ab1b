"""Prompt-lookup drafts (Saxena 2023): guess that the text goes on as it did after the same tokens before.

Answers about a context copy from it, and small models repeat themselves. A decode step takes the guessed
tokens along, and keeps those that the model chooses itself: the answer is the same token for token, greedy or
sampled with keyed noise, only the number of steps shrinks. A row whose guesses fail is asked less often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_DRAFT = 4
_LONGEST_PAUSE = 16


@dataclass(slots=True)
class Drafter:
    """Guesses the next tokens of one row from its own prompt and answer."""

    tokens: list[int]
    _after: dict[tuple[int, ...], int] = field(default_factory=dict)
    _limit: int = 2
    _pause: int = 0
    _failures: int = 0

    def __post_init__(self) -> None:
        for stop in range(2, len(self.tokens)):
            self._index(stop)

    def append(self, token: int) -> None:
        """Add the token that the model chose."""
        self.tokens.append(token)
        self._index(len(self.tokens) - 1)

    def propose(self, most: int) -> list[int]:
        """Return at most `most` tokens that may follow; often none."""
        if self._pause > 0:
            self._pause -= 1
            return []
        count = min(most, self._limit)
        if count < 1:
            return []
        for size in (3, 2):
            start = self._after.get(tuple(self.tokens[-size:]))
            if start is not None and len(self.tokens) > size:
                found = self.tokens[start : start + count]
                # a loop shorter than the draft goes on from its own beginning
                period = len(self.tokens) - start
                return [found[index % period] for index in range(count)] if len(found) < count else found
        return []

    def judge(self, proposed: Sequence[int], accepted: int) -> None:
        """Learn from what the model made of a draft: longer ones after a success, a pause after failures."""
        if not proposed:
            return
        if accepted == 0:
            self._failures += 1
            self._limit = 1
            self._pause = min(_LONGEST_PAUSE, 2**self._failures)
            return
        self._failures = 0
        self._limit = min(MAX_DRAFT, 2 * self._limit) if accepted == len(proposed) else max(1, accepted)

    def _index(self, position: int) -> None:
        """Remember that the tokens before `position` were followed by what stands there."""
        for size in (2, 3):
            if position >= size:
                self._after[tuple(self.tokens[position - size : position])] = position
