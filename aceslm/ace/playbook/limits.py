"""What keeps a playbook small and sound: dedup, pruning, capacity, the token budget.

    kept = maintain(playbook, limits, round_number=4, count_tokens=engine.count_tokens)
    kept.playbook, kept.dropped

Pure and deterministic. Quarantined bullets are never shown, so no limit counts them. A text is dropped
whole or kept whole, never cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aceslm.ace.playbook.bullets import Bullet, Playbook, combine
from aceslm.ace.playbook.deltas import same_words

Similarity = Callable[[str, str], float]
CountTokens = Callable[[str], int]

DEFAULT_SIMILARITY = 0.9  # "about 0.9": Zhang et al. 2025

_NEGATIONS = frozenset("no not never without neither nor don doesn cannot avoid".split())
_OPPOSITES = (
    frozenset("above below".split()),
    frozenset("higher lower".split()),
    frozenset("more less".split()),
    frozenset("first last".split()),
    frozenset("before after".split()),
    frozenset("highest lowest".split()),
    frozenset("increase decrease".split()),
    frozenset("minimum maximum".split()),
)


@dataclass(frozen=True, slots=True)
class PlaybookLimits:
    """What a playbook may hold. None: no such limit.

    `unused_rounds` counts rounds without credit; bullets are credited only where answers cite them or
    retrieval shows them, so set it only with one of the two.
    """

    dedup_similarity: float = DEFAULT_SIMILARITY
    unused_rounds: int | None = None
    capacity: int | None = None
    token_budget: int | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A bullet that went, and why: `duplicate of b3`, `harmful`, `unused`, `capacity`, `budget`, ..."""

    bullet: Bullet
    reason: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A playbook after upkeep, and what was dropped, in order."""

    playbook: Playbook
    dropped: tuple[Dropped, ...] = ()


def maintain(
    playbook: Playbook,
    limits: PlaybookLimits,
    *,
    round_number: int,
    count_tokens: CountTokens,
    similarity: Similarity | None = None,
) -> Kept:
    """Dedup, prune, then enforce the token budget: what every round ends with."""
    deduplicated = dedup(playbook, threshold=limits.dedup_similarity, similarity=similarity)
    pruned = prune(
        deduplicated.playbook,
        round_number=round_number,
        unused_rounds=limits.unused_rounds,
        capacity=limits.capacity,
    )
    kept = pruned
    if limits.token_budget is not None:
        kept = enforce_budget(pruned.playbook, max_tokens=limits.token_budget, count_tokens=count_tokens)
        kept = Kept(kept.playbook, pruned.dropped + kept.dropped)
    return Kept(kept.playbook, deduplicated.dropped + kept.dropped)


def text_similarity(left: str, right: str) -> float:
    """Return how alike two lessons are in words, 0 to 1: the larger of plain and word-sorted edit ratio.

    A set ratio is not used: it gives 1 to a lesson that merely contains another one. Lessons with different
    numbers, one of them negated, or with opposite words ("above", "below") are different lessons: 0.
    """
    from rapidfuzz import fuzz

    first, second = same_words(left), same_words(right)
    if _meaning_marks(left) != _meaning_marks(right):
        return 0.0
    return float(max(fuzz.ratio(first, second), fuzz.token_sort_ratio(first, second))) / 100


def dedup(
    playbook: Playbook, *, threshold: float = DEFAULT_SIMILARITY, similarity: Similarity | None = None
) -> Kept:
    """Fold every bullet into the one with more evidence that says the same; counters are summed.

    A bullet that says the same as an older quarantined one goes: the gate refused that lesson already.

    Args:
        similarity: of two texts, 0 to 1; `text_similarity`, or one of an embedding model. Taken as symmetric.
    """
    alike = similarity or text_similarity
    groups: list[list[Bullet]] = []
    dropped: list[Dropped] = []
    for bullet in sorted(playbook.shown, key=lambda one: (-one.evidence, -one.usefulness, one.number)):
        if any(
            refused.number < bullet.number and alike(refused.text, bullet.text) >= threshold
            for refused in playbook.quarantined
        ):
            dropped.append(Dropped(bullet, "refused by the gate before"))
            continue
        scores = [alike(group[0].text, bullet.text) for group in groups]
        best = max(range(len(groups)), key=lambda n: (scores[n], -n), default=None)
        if best is None or scores[best] < threshold:
            groups.append([bullet])
        else:
            groups[best].append(bullet)
            dropped.append(Dropped(bullet, f"duplicate of {groups[best][0].bullet_id}"))
    return Kept(playbook.with_bullets([*playbook.quarantined, *map(combine, groups)]), tuple(dropped))


def prune(
    playbook: Playbook,
    *,
    round_number: int,
    unused_rounds: int | None = None,
    capacity: int | None = None,
) -> Kept:
    """Drop bullets that did more harm than good, that nothing used, and what is over capacity.

    Over capacity the least useful goes first, and of equally useful ones the oldest.
    """
    dropped = []
    for bullet in playbook.shown:
        if bullet.harmful > bullet.helpful:
            dropped.append(Dropped(bullet, "harmful"))
        elif unused_rounds is not None and round_number - bullet.last_used >= unused_rounds:
            dropped.append(Dropped(bullet, "unused"))
    remaining = _without(playbook, dropped)
    if capacity is not None and (excess := len(remaining.shown) - capacity) > 0:
        dropped += [Dropped(bullet, "capacity") for bullet in least_useful_first(remaining.shown)[:excess]]
    return Kept(_without(playbook, dropped), tuple(dropped))


def enforce_budget(playbook: Playbook, *, max_tokens: int, count_tokens: CountTokens) -> Kept:
    """Drop the least useful bullets until the rendered playbook has at most `max_tokens` tokens.

    Args:
        count_tokens: length of a text in the tokens of the model that reads it.
    """
    dropped: list[Dropped] = []
    for bullet in least_useful_first(playbook.shown):
        if count_tokens(_without(playbook, dropped).render()) <= max_tokens:
            break
        dropped.append(Dropped(bullet, "budget"))
    return Kept(_without(playbook, dropped), tuple(dropped))


def least_useful_first(bullets: Sequence[Bullet]) -> list[Bullet]:
    """Return bullets in the order in which they go when room is short."""
    return sorted(bullets, key=lambda bullet: (bullet.usefulness, bullet.created, bullet.number))


def _without(playbook: Playbook, dropped: Sequence[Dropped]) -> Playbook:
    gone = {one.bullet.bullet_id for one in dropped}
    return playbook.with_bullets(bullet for bullet in playbook.bullets if bullet.bullet_id not in gone)


def _meaning_marks(text: str) -> tuple[list[str], bool, frozenset[str]]:
    words = set(same_words(text).split())
    opposed = frozenset(word for pair in _OPPOSITES for word in pair if word in words)
    numbers = sorted(re.findall(r"[0-9]+(?:[.,][0-9]+)*", text))
    return numbers, bool(words & _NEGATIONS), opposed
