"""Playbooks that K workers evolved from the same version -> one.

    merged = merge_workers(base, [worker.playbook for worker in workers])

The result does not depend on the order of the workers. One worker's playbook is the result itself: sequential
evolution is K = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aceslm.ace.playbook.bullets import STATUSES, Bullet, Exemplar, Playbook
from aceslm.ace.playbook.exemplars import joined
from aceslm.ace.playbook.limits import DEFAULT_SIMILARITY, Kept, Similarity, dedup


def merge_workers(
    base: Playbook,
    workers: Sequence[Playbook],
    *,
    threshold: float = DEFAULT_SIMILARITY,
    similarity: Similarity | None = None,
) -> Kept:
    """Combine what workers made of `base` on disjoint samples.

    Bullets of the base: counters are the base's plus what each worker added; of several new wordings the one
    whose worker gathered more evidence for the bullet wins. A bullet that one worker dropped goes, unless
    another worker found it more helpful than harmful. New bullets get new numbers beyond those of all workers
    (an id never names two lessons, not even between workers); the same lesson of several becomes one.
    Exemplars are united; of two to one question the older stays.

    Args:
        threshold, similarity: as for `upkeep.dedup`, which is applied to the union.

    Raises:
        ValueError: no worker, or one that did not start from `base`.
    """
    if not workers:
        raise ValueError("nothing to merge: there is no worker's playbook")
    if any(worker.next_number < base.next_number for worker in workers):
        raise ValueError("a worker's playbook is older than the base it should have started from")
    if len(workers) == 1:
        return Kept(workers[0])
    old = [merged for bullet in base.bullets if (merged := _merged_bullet(bullet, workers)) is not None]
    found = sorted(
        (bullet for worker in workers for bullet in worker.bullets if bullet.number >= base.next_number),
        key=_content,
    )
    first = max(worker.next_number for worker in workers)
    new = [replace(bullet, bullet_id=f"b{number}") for number, bullet in enumerate(found, start=first)]
    exemplars = sorted({one for worker in workers for one in worker.exemplars}, key=_exemplar_order)
    union = Playbook(
        version=max(worker.version for worker in workers),
        bullets=(*old, *new),
        next_number=first + len(new),
        exemplars=joined(base.exemplars, exemplars),
    )
    return dedup(union, threshold=threshold, similarity=similarity)


def _merged_bullet(bullet: Bullet, workers: Sequence[Playbook]) -> Bullet | None:
    versions = [worker.get(bullet.bullet_id) for worker in workers]
    present = [version for version in versions if version is not None]
    helpful = sum(version.helpful - bullet.helpful for version in present)
    harmful = sum(version.harmful - bullet.harmful for version in present)
    if len(present) < len(versions) and helpful <= harmful:
        return None
    reworded = [one for one in present if (one.section, one.text) != (bullet.section, bullet.text)]
    wording = min(reworded, key=lambda one: (-one.evidence, *_content(one)), default=bullet)
    return replace(
        bullet,
        section=wording.section,
        text=wording.text,
        helpful=max(0, bullet.helpful + helpful),
        harmful=max(0, bullet.harmful + harmful),
        last_used=max(version.last_used for version in present),
        source_units=tuple(sorted({unit for version in present for unit in version.source_units})),
        status=max((version.status for version in present), key=STATUSES.index),
    )


def _exemplar_order(exemplar: Exemplar) -> tuple[int, str]:
    return exemplar.created, exemplar.source_unit


def _content(bullet: Bullet) -> tuple[object, ...]:
    """An order of bullets that does not know their ids."""
    return (
        bullet.created,
        bullet.section,
        bullet.text,
        -bullet.helpful,
        bullet.harmful,
        bullet.last_used,
        bullet.source_units,
        bullet.status,
    )
