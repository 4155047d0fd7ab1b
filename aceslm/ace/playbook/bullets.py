"""The playbook: an immutable, versioned list of bullets, and what can be asked of it.

    playbook = Playbook()
    playbook.render()        # the text that stands in a prompt
    playbook.top_k(5)        # the most useful bullets

Changes are typed deltas (`deltas`, beside this file); what keeps a playbook small is `limits`. Rounds are
numbers, never clocks. A bullet's id is `b<number>`; numbers come from `next_number`, which only grows, so no
id is ever used twice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from aceslm.core.digests import digest

ACTIVE = "active"
CANDIDATE = "candidate"
QUARANTINED = "quarantined"
STATUSES = (ACTIVE, CANDIDATE, QUARANTINED)
DEFAULT_SECTION = "general"

_BULLET_ID = re.compile(r"b([1-9][0-9]{0,8})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bullet:
    """One lesson on one line.

    `helpful` and `harmful` count credited answers. `created` and `last_used` are round numbers.
    `source_units` are the units it was learnt from, sorted. `status`: `candidate` (proposed, not yet
    accepted by the gate), `active`, or `quarantined` (the gate refused it: never shown, never learnt again).
    """

    bullet_id: str
    section: str
    text: str
    helpful: int = 0
    harmful: int = 0
    created: int = 0
    last_used: int = 0
    source_units: tuple[str, ...] = ()
    status: str = ACTIVE

    def __post_init__(self) -> None:
        if not _BULLET_ID.fullmatch(self.bullet_id):
            raise ValueError(f"'{self.bullet_id}' is not a bullet id such as b12")
        for name in ("section", "text"):
            value = getattr(self, name)
            if not value or value != tidy(value):
                raise ValueError(f"the {name} of {self.bullet_id} is not one tidy line of text: {value!r}")
        if self.status not in STATUSES:
            raise ValueError(f"'{self.status}' is not a status ({', '.join(STATUSES)})")
        if min(self.helpful, self.harmful, self.created, self.last_used) < 0:
            raise ValueError(f"a counter or round of {self.bullet_id} is negative")
        if tuple(sorted(set(self.source_units))) != self.source_units:
            raise ValueError(f"the source units of {self.bullet_id} are not sorted, or one comes twice")

    @property
    def number(self) -> int:
        return int(self.bullet_id[1:])

    @property
    def usefulness(self) -> int:
        return self.helpful - self.harmful

    @property
    def evidence(self) -> int:
        return self.helpful + self.harmful

    @property
    def is_shown(self) -> bool:
        return self.status != QUARANTINED


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A solved question and the answer that was right; `created` is a round number."""

    question: str
    answer: str
    source_unit: str
    created: int = 0

    def __post_init__(self) -> None:
        for name in ("question", "answer"):
            value = getattr(self, name)
            if not value or value != tidy(value):
                raise ValueError(f"the {name} of an exemplar is not one tidy line of text: {value!r}")
        if self.created < 0:
            raise ValueError(f"the round of an exemplar is negative: {self.created}")


@dataclass(frozen=True, slots=True)
class Playbook:
    """Bullets in the order of their numbers. `next_number` is larger than every number ever given.

    `exemplars` (`aceslm.ace.playbook.exemplars`) are no bullets: they never stand in the shared text.
    """

    version: int = 0
    bullets: tuple[Bullet, ...] = ()
    next_number: int = 1
    exemplars: tuple[Exemplar, ...] = ()

    def __post_init__(self) -> None:
        numbers = [bullet.number for bullet in self.bullets]
        if sorted(set(numbers)) != numbers:
            raise ValueError("bullets are not in the order of their ids, or an id comes twice")
        if self.version < 0 or self.next_number <= max(numbers, default=0):
            raise ValueError(f"next_number {self.next_number} would give an id that was used before")

    @property
    def shown(self) -> tuple[Bullet, ...]:
        """The bullets that prompts carry: active ones and candidates."""
        return tuple(bullet for bullet in self.bullets if bullet.is_shown)

    @property
    def active(self) -> tuple[Bullet, ...]:
        return tuple(bullet for bullet in self.bullets if bullet.status == ACTIVE)

    @property
    def quarantined(self) -> tuple[Bullet, ...]:
        return tuple(bullet for bullet in self.bullets if bullet.status == QUARANTINED)

    @property
    def digest(self) -> str:
        """Digest of the content: bullets, next number, exemplars; the version does not count."""
        bullets = [asdict(bullet) for bullet in self.bullets]
        return digest(bullets, self.next_number, [asdict(exemplar) for exemplar in self.exemplars])

    def get(self, bullet_id: str) -> Bullet | None:
        return next((bullet for bullet in self.bullets if bullet.bullet_id == bullet_id), None)

    def render(self) -> str:
        """Return the text for prompts: a heading per section, one `- [b12] lesson` a line; "" when empty.

        Counters are left out: they cost tokens, and would change the text (and its cached keys and values)
        whenever a lesson is credited.
        """
        sections: dict[str, list[Bullet]] = {}
        for bullet in self.shown:
            sections.setdefault(bullet.section, []).append(bullet)
        return "\n".join(f"## {name}\n{render_bullets(bullets)}" for name, bullets in sections.items())

    def top_k(self, k: int) -> tuple[Bullet, ...]:
        """Return the k most useful shown bullets, best first; of equals the older one."""
        return tuple(
            sorted(self.shown, key=lambda bullet: (-bullet.usefulness, -bullet.helpful, bullet.number))[:k]
        )

    def with_bullets(self, bullets: Iterable[Bullet]) -> Playbook:
        """Return the same version with other bullets."""
        return replace(self, bullets=tuple(sorted(bullets, key=lambda bullet: bullet.number)))

    def with_exemplars(self, exemplars: Iterable[Exemplar]) -> Playbook:
        """Return the same version with other exemplars."""
        return replace(self, exemplars=tuple(exemplars))

    def advanced(self) -> Playbook:
        """Return the next version: what a round commits."""
        return replace(self, version=self.version + 1)


def render_bullets(bullets: Iterable[Bullet]) -> str:
    """Return one `- [b12] lesson` a line: for retrieved bullets behind the shared prefix."""
    return "\n".join(f"- [{bullet.bullet_id}] {bullet.text}" for bullet in bullets)


def tidy(text: str) -> str:
    """Return `text` as one line: no control or invisible characters, single spaces."""
    visible = (" " if unicodedata.category(char) in {"Cc", "Cf", "Cs"} else char for char in text)
    return " ".join("".join(visible).split())


def strongest(bullets: Iterable[Bullet]) -> Bullet:
    """Return the bullet with the most evidence, then the most useful, then the oldest."""
    return min(bullets, key=lambda bullet: (-bullet.evidence, -bullet.usefulness, bullet.number))


def combine(bullets: Sequence[Bullet]) -> Bullet:
    """Return the strongest of `bullets` with the counters of all summed and their sources united."""
    return replace(
        strongest(bullets),
        helpful=sum(bullet.helpful for bullet in bullets),
        harmful=sum(bullet.harmful for bullet in bullets),
        created=min(bullet.created for bullet in bullets),
        last_used=max(bullet.last_used for bullet in bullets),
        source_units=tuple(sorted({unit for bullet in bullets for unit in bullet.source_units})),
        status=min((bullet.status for bullet in bullets), key=STATUSES.index),
    )
