"""Typed changes to a playbook, and the one function that applies them.

    applied = apply(playbook, [Add("reading", "Check the unit of a column."), Tag("b3", HELPFUL)],
                    round_number=4, source_units=("u1",))
    applied.playbook, applied.refused

Pure: the given playbook stays as it is, and its version number too (`Playbook.advanced` ends a round). What
cannot be applied is refused with a reason, never guessed at; the rest goes on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from aceslm.ace.playbook.bullets import ACTIVE, DEFAULT_SECTION, Bullet, Playbook, combine, tidy

HELPFUL = "helpful"
HARMFUL = "harmful"
MAX_TEXT_CHARS = 240
MAX_SECTION_CHARS = 40
MIN_TEXT_WORDS = 3

_ID_MARK = re.compile(r"\[\s*b[0-9]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Add:
    """A new bullet."""

    section: str
    text: str


@dataclass(frozen=True, slots=True)
class Update:
    """Another wording of a bullet; its id and counters stay."""

    bullet_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Merge:
    """Several bullets become one: the strongest one's id, all counters summed, sources united."""

    bullet_ids: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Remove:
    """A bullet goes; its id is never given again."""

    bullet_id: str


@dataclass(frozen=True, slots=True)
class Tag:
    """Credit: a bullet was `helpful` or `harmful` to one answer."""

    bullet_id: str
    kind: str


Delta = Add | Update | Merge | Remove | Tag


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a text or a delta is not taken: a countable `reason`, and the `detail` for a reader."""

    reason: str
    detail: str


Refuse = Callable[[str], Refusal | None]


@dataclass(frozen=True, slots=True)
class Refused:
    """A delta that changed nothing."""

    delta: Delta
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a sequence of deltas."""

    playbook: Playbook
    applied: tuple[Delta, ...]
    refused: tuple[Refused, ...]

    @property
    def reasons(self) -> Mapping[str, int]:
        """Refusals counted by reason."""
        return Counter(one.refusal.reason for one in self.refused)


@dataclass(frozen=True, slots=True)
class _Circumstances:
    round_number: int
    source_units: tuple[str, ...]
    status: str
    refuse: Refuse


def allow(_text: str) -> Refusal | None:
    """The `refuse` of callers that take every text."""
    return None


def first_refusal(*checks: Refuse) -> Refuse:
    """Return a check that asks `checks` in order."""

    def refuse(text: str) -> Refusal | None:
        return next((refusal for check in checks if (refusal := check(text))), None)

    return refuse


def apply(
    playbook: Playbook,
    deltas: Iterable[Delta],
    *,
    round_number: int,
    source_units: Iterable[str] = (),
    status: str = ACTIVE,
    refuse: Refuse = allow,
) -> Applied:
    """Apply deltas in order.

    Args:
        source_units: the units that the deltas were learnt from; new and changed bullets remember them.
        status: of new bullets: `candidate` where a gate decides later.
        refuse: a further check of every new text (leakage, echoes of the prompt).
    """
    circumstances = _Circumstances(round_number, tuple(sorted(set(source_units))), status, refuse)
    applied: list[Delta] = []
    refused: list[Refused] = []
    for delta in deltas:
        outcome = _outcome(playbook, delta, circumstances)
        if isinstance(outcome, Refusal):
            refused.append(Refused(delta, outcome))
        else:
            playbook = outcome
            applied.append(delta)
    return Applied(playbook, tuple(applied), tuple(refused))


def same_words(text: str) -> str:
    """Return what two texts share that differ in case, punctuation and spacing only."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _repeats_itself(words: Sequence[str]) -> bool:
    """Return whether up to three words come three times in a row, or four and more twice.

    >>> _repeats_itself("read the row read the row read the row".split())
    True
    """
    for size in range(1, len(words) // 2 + 1):
        needed = 2 * size if size < 4 else size
        same = 0
        for before, after in zip(words, words[size:], strict=False):
            same = same + 1 if before == after else 0
            if same == needed:
                return True
    return False


def _outcome(playbook: Playbook, delta: Delta, now: _Circumstances) -> Playbook | Refusal:
    match delta:
        case Add():
            return _add(playbook, delta, now)
        case Update(bullet_id=bullet_id):
            return _reword(playbook, (bullet_id,), delta.text, now)
        case Merge(bullet_ids=bullet_ids):
            if len(set(bullet_ids)) < 2:
                return Refusal("one id", "a merge names fewer than two bullets")
            return _reword(playbook, tuple(dict.fromkeys(bullet_ids)), delta.text, now)
        case Remove(bullet_id=bullet_id) | Tag(bullet_id=bullet_id):
            found = _find(playbook, (bullet_id,))
            if isinstance(found, Refusal):
                return found
            after = (_tagged(found[0], delta.kind, now.round_number),) if isinstance(delta, Tag) else ()
            return _replaced(playbook, found, after)


def _add(playbook: Playbook, delta: Add, now: _Circumstances) -> Playbook | Refusal:
    text = tidy(delta.text)
    section = tidy(delta.section).lstrip("# ").casefold() or DEFAULT_SECTION
    if len(section) > MAX_SECTION_CHARS:
        return Refusal("too long", f"a section's name has more than {MAX_SECTION_CHARS} characters")
    if refusal := _unfit(playbook, text, (), now.refuse):
        return refusal
    bullet = Bullet(
        bullet_id=f"b{playbook.next_number}",
        section=section,
        text=text,
        created=now.round_number,
        last_used=now.round_number,
        source_units=now.source_units,
        status=now.status,
    )
    return replace(playbook, bullets=(*playbook.bullets, bullet), next_number=playbook.next_number + 1)


def _reword(
    playbook: Playbook, bullet_ids: tuple[str, ...], text: str, now: _Circumstances
) -> Playbook | Refusal:
    found = _find(playbook, bullet_ids)
    if isinstance(found, Refusal):
        return found
    text = tidy(text)
    if len(found) == 1 and found[0].text == text:
        return Refusal("unchanged", f"{bullet_ids[0]} has this text already")
    if refusal := _unfit(playbook, text, bullet_ids, now.refuse):
        return refusal
    joined = combine(found)
    sources = tuple(sorted({*joined.source_units, *now.source_units}))
    changed = replace(joined, text=text, last_used=now.round_number, source_units=sources)
    return _replaced(playbook, found, (changed,))


def _find(playbook: Playbook, bullet_ids: Iterable[str]) -> tuple[Bullet, ...] | Refusal:
    found = []
    for bullet_id in bullet_ids:
        bullet = playbook.get(bullet_id)
        if bullet is None or not bullet.is_shown:
            return Refusal("unknown id", f"there is no bullet {bullet_id} in the playbook")
        found.append(bullet)
    return tuple(found)


def _unfit(playbook: Playbook, text: str, own: tuple[str, ...], refuse: Refuse) -> Refusal | None:
    """Say why `text` cannot be a bullet's; a text is refused whole, never cut."""
    words = same_words(text)
    if len(text) > MAX_TEXT_CHARS:
        return Refusal("too long", f"{len(text)} characters, more than {MAX_TEXT_CHARS}")
    if len(words.split()) < MIN_TEXT_WORDS:
        return Refusal("too short", f"'{text}' has fewer than {MIN_TEXT_WORDS} words")
    if _repeats_itself(words.split()):
        return Refusal("repetition", "says the same words over and over: decoding that ran into a loop")
    if _ID_MARK.search(text):
        return Refusal("id in text", "a lesson that carries a bullet id would be counted as its citation")
    for bullet in playbook.bullets:
        if bullet.bullet_id not in own and same_words(bullet.text) == words:
            return Refusal("duplicate", f"{bullet.bullet_id} says so already")
    return refuse(text)


def _tagged(bullet: Bullet, kind: str, round_number: int) -> Bullet:
    if kind == HELPFUL:
        return replace(bullet, helpful=bullet.helpful + 1, last_used=round_number)
    if kind == HARMFUL:
        return replace(bullet, harmful=bullet.harmful + 1, last_used=round_number)
    raise ValueError(f"a tag is '{HELPFUL}' or '{HARMFUL}', not '{kind}'")


def _replaced(playbook: Playbook, old: Iterable[Bullet], new: Iterable[Bullet]) -> Playbook:
    gone = {bullet.bullet_id for bullet in old}
    return playbook.with_bullets([*(one for one in playbook.bullets if one.bullet_id not in gone), *new])
