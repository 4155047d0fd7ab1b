"""Decisions about a candidate playbook, from answers to the same questions before and after.

    pairs = compare(before, after)                  # sample id -> correct, both on one minibatch
    decision = decide(pairs)                        # the gate, asked once an epoch
    playbook = settle(playbook, candidate, accepted=decision.accepted)

Pure. The minibatch is drawn anew each time by whole contexts, and `GateLedger` counts what was asked: many
candidates on few questions will find luck. A score seen here is never a result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aceslm.ace.playbook.bullets import ACTIVE, CANDIDATE, QUARANTINED, Playbook
from aceslm.core.digests import digest
from aceslm.core.values import Sample

DEFAULT_THRESHOLD = 1.28  # one-sided 10 % of the sign test's normal approximation


@dataclass(frozen=True, slots=True)
class Pairs:
    """Samples that only the candidate answered rightly (`gains`), only the version before (`losses`)."""

    gains: int
    losses: int
    num_samples: int

    @property
    def net(self) -> int:
        return self.gains - self.losses


@dataclass(frozen=True, slots=True)
class Decision:
    """The gate's word on one candidate version; `needed` is the net gain that it asked for."""

    accepted: bool
    pairs: Pairs
    needed: float

    @property
    def reason(self) -> str:
        word = "accepted" if self.accepted else "refused"
        gains, losses = self.pairs.gains, self.pairs.losses
        return (
            f"{word}: {gains} gained, {losses} lost of {self.pairs.num_samples}, net {self.needed:.2f} needed"
        )


@dataclass(frozen=True, slots=True)
class GateLedger:
    """What was asked of the `validate` split so far: comparisons, answers scored, and their outcome."""

    comparisons: int = 0
    queries: int = 0
    accepted: int = 0
    refused: int = 0

    def after(self, accepted: bool, *, comparisons: int, queries: int) -> GateLedger:
        """Return the ledger after one decision.

        Args:
            comparisons: candidates that were compared for it.
            queries: answers that were generated and scored for it, those of the version before included.
        """
        return replace(
            self,
            comparisons=self.comparisons + comparisons,
            queries=self.queries + queries,
            accepted=self.accepted + accepted,
            refused=self.refused + (not accepted),
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """One question to the `validate` split and how it came out; `pairs` has one entry per candidate.

    `purpose` is `gate`, `select` (among candidates) or `final` (the last version against the first).
    """

    purpose: str
    accepted: bool
    pairs: tuple[Pairs, ...]
    queries: int
    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The candidate kept among several: its index, or None where none gained."""

    index: int | None
    pairs: tuple[Pairs, ...]


def compare(before: Mapping[str, bool], after: Mapping[str, bool]) -> Pairs:
    """Pair the outcomes of two playbooks on the same samples (sample id -> correct).

    Raises:
        ValueError: the two were not asked the same samples.
    """
    if before.keys() != after.keys():
        raise ValueError("a paired comparison needs the same samples before and after")
    gains = sum(after[one] and not before[one] for one in before)
    losses = sum(before[one] and not after[one] for one in before)
    return Pairs(gains, losses, len(before))


def decide(pairs: Pairs, threshold: float = DEFAULT_THRESHOLD) -> Decision:
    """Accept when gains - losses >= threshold * sqrt(gains + losses).

    Nothing changed (no gains, no losses) is accepted. A threshold of 0 asks only that the candidate does not
    lose; it is also the final comparison on the whole `validate` split of the last version with the first,
    after which no evolution can end below its starting point there.
    """
    needed = threshold * math.sqrt(pairs.gains + pairs.losses)
    return Decision(pairs.net >= needed, pairs, needed)


def select_candidate(before: Mapping[str, bool], candidates: Sequence[Mapping[str, bool]]) -> Selection:
    """Return the candidate with the largest net gain, the first of equals; none where none gains."""
    pairs = tuple(compare(before, after) for after in candidates)
    best = max(range(len(pairs)), key=lambda n: (pairs[n].net, -n), default=None)
    return Selection(best if best is not None and pairs[best].net > 0 else None, pairs)


def settle(before: Playbook, candidate: Playbook, *, accepted: bool) -> Playbook:
    """Return the playbook after the gate's decision; the version is the candidate's.

    Accepted: its candidate bullets become active. Refused: the bullets of `before` stand as they were, and
    the candidate's new bullets are quarantined: neither lesson nor id comes again. Its new
    exemplars go until their questions are answered rightly again.
    """
    if accepted:
        bullets = [
            replace(bullet, status=ACTIVE) if bullet.status == CANDIDATE else bullet
            for bullet in candidate.bullets
        ]
        return candidate.with_bullets(bullets)
    new = [bullet for bullet in candidate.bullets if bullet.number >= before.next_number]
    quarantined = [replace(bullet, status=QUARANTINED) for bullet in new]
    return candidate.with_bullets([*before.bullets, *quarantined]).with_exemplars(before.exemplars)


def draw_minibatch(
    samples: Sequence[Sample], size: int, *, seed: int, round_number: int, purpose: str = "gate"
) -> tuple[Sample, ...]:
    """Draw about `size` samples by whole contexts, in the order given; another draw each round.

    The questions of one context stay together. A context that would overshoot is passed over, unless nothing
    was drawn yet. The order of `samples` does not decide what is drawn.
    """
    contexts: dict[str, list[str]] = {}
    for sample in samples:
        contexts.setdefault(sample.context_id or sample.sample_id, []).append(sample.sample_id)
    drawn: set[str] = set()
    for context in sorted(contexts, key=lambda name: digest(purpose, seed, round_number, name)):
        if not drawn or len(drawn) + len(contexts[context]) <= size:
            drawn.update(contexts[context])
        if len(drawn) >= size:
            break
    return tuple(sample for sample in samples if sample.sample_id in drawn)
