"""Which bullets fit a question: BM25 over the shown bullets.

    index = BulletIndex(playbook.shown)
    build_messages(sample, shared_text, retrieved=render_bullets(index.top_k(sample.question, 3)))

The retrieved bullets stand behind the shared prefix, in front of the question. The query is the question: no
gold answer comes near it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from aceslm.ace.playbook.bullets import Bullet

_STOP_WORDS = frozenset(
    "a an and are as at be by did do does for from had has have how if in into is it its of on or that the "
    "this to was were what when where which who why will with would".split()
)
_DECIMALS = 5  # scores are float32 sums


class Ranking:
    """BM25 (Lucene's variant) over texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        documents = [_words(text) for text in texts]
        self._scorer = None
        if any(documents):
            import bm25s

            self._scorer = bm25s.BM25()
            self._scorer.index(documents, show_progress=False)

    def ranked(self, question: str) -> list[int]:
        """Return the positions of the texts that share a word with the question, best first."""
        words = _words(question)
        if self._scorer is None or not words:
            return []
        scores = [round(float(score), _DECIMALS) for score in self._scorer.get_scores(words)]
        return sorted((n for n, score in enumerate(scores) if score > 0), key=lambda n: (-scores[n], n))


class BulletIndex:
    """Ranks the bullets of one playbook version by a question."""

    def __init__(self, bullets: Iterable[Bullet]) -> None:
        self._bullets = tuple(sorted(bullets, key=lambda bullet: bullet.number))
        self._ranking = Ranking([f"{bullet.section} {bullet.text}" for bullet in self._bullets])

    def top_k(self, question: str, k: int) -> tuple[Bullet, ...]:
        """Return at most `k` bullets that share a word with the question, best first; ties: older first."""
        return tuple(self._bullets[n] for n in self._ranking.ranked(question)[: max(0, k)])


def _words(text: str) -> list[str]:
    found = re.findall(r"[a-z0-9]+", text.casefold())
    return [_stem(word) for word in found if word not in _STOP_WORDS]


def _stem(word: str) -> str:
    """Drop a plural's s: "readings" asks for "reading"."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
