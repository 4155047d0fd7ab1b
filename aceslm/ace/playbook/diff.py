"""What differs between two playbooks, bullet by bullet.

for one in differences(earlier, later):
    print(one.bullet_id, one.kind)        # added, removed, reworded or recounted
"""

from __future__ import annotations

from dataclasses import dataclass

from aceslm.ace.playbook.bullets import Bullet, Playbook

ADDED, REMOVED, REWORDED, RECOUNTED = KINDS = ("added", "removed", "reworded", "recounted")


@dataclass(frozen=True, slots=True)
class Difference:
    """One bullet that differs. `reworded`: another text or section; `recounted`: only counters or status."""

    before: Bullet | None
    after: Bullet | None

    @property
    def shown(self) -> Bullet:
        """The bullet as it is, or as it was before it went."""
        bullet = self.after or self.before
        if bullet is None:
            raise ValueError("a difference has a bullet before or after")
        return bullet

    @property
    def bullet_id(self) -> str:
        return self.shown.bullet_id

    @property
    def kind(self) -> str:
        if self.before is None:
            return ADDED
        if self.after is None:
            return REMOVED
        same = (self.before.section, self.before.text) == (self.after.section, self.after.text)
        return RECOUNTED if same else REWORDED


def differences(earlier: Playbook, later: Playbook) -> tuple[Difference, ...]:
    """Return what differs by bullet id, in the order of ids; when a bullet was last used does not count."""
    before = {bullet.bullet_id: bullet for bullet in earlier.bullets}
    after = {bullet.bullet_id: bullet for bullet in later.bullets}
    names = sorted(before.keys() | after.keys(), key=lambda name: int(name[1:]))
    pairs = [(before.get(name), after.get(name)) for name in names]
    return tuple(Difference(one, two) for one, two in pairs if _content(one) != _content(two))


def _content(bullet: Bullet | None) -> tuple[object, ...] | None:
    if bullet is None:
        return None
    return (bullet.section, bullet.text, bullet.helpful, bullet.harmful, bullet.status)
