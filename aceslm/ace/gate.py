"""Decisions about a candidate playbook, from answers to the same questions before and after.

    pairs = compare(before, after, contexts)        # sample id -> score in [0, 1], both on one minibatch
    decision = decide(pairs)                        # the gate, asked once an epoch
    playbook = settle(playbook, candidate, accepted=decision.accepted)

Pure. The minibatch is drawn anew each time by whole contexts, and `GateLedger` counts what was asked: many
candidates on few questions will find luck. A score seen here is never a result.

The questions of one context are one observation: their gains and losses are netted first. Where nothing
changed for the better, the threshold of 1.28 lets a version pass in about one case of ten.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from aceslm.ace.playbook.bullets import ACTIVE, CANDIDATE, QUARANTINED, Playbook
from aceslm.core.contexts import context_key
from aceslm.core.digests import digest
from aceslm.core.values import Sample

DEFAULT_THRESHOLD = 1.28  # one-sided 10 % of the sign test's normal approximation
_TIE = 1e-9  # sums of scores differ in the last bits


@dataclass(frozen=True, slots=True)
class Pairs:
    """What the candidate's answers gained in score, and lost, against the version before.

    With scores of 0 and 1 these are numbers of samples. `spread` is the standard deviation of the net gain if
    each context's could as well have had the other sign: sqrt(gains + losses) for single right answers.
    """

    gains: float
    losses: float
    num_samples: int
    num_contexts: int
    spread: float

    @property
    def net(self) -> float:
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
        pairs, plural = self.pairs, "" if self.pairs.num_contexts == 1 else "s"
        return (
            f"{word}: {pairs.gains:.4g} gained, {pairs.losses:.4g} lost of {pairs.num_samples} in "
            f"{pairs.num_contexts} context{plural}, net {self.needed:.2f} needed"
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


def compare(
    before: Mapping[str, float], after: Mapping[str, float], contexts: Mapping[str, Hashable] | None = None
) -> Pairs:
    """Pair the outcomes of two playbooks on the same samples (sample id -> score in [0, 1]).

    Args:
        contexts: sample id -> its context; without, every sample is its own.

    Raises:
        ValueError: the two were not asked the same samples.
    """
    if before.keys() != after.keys():
        raise ValueError("a paired comparison needs the same samples before and after")
    changes = {one: float(after[one]) - float(before[one]) for one in before}
    nets: dict[Hashable, float] = {}
    for one, change in changes.items():
        context = contexts[one] if contexts else one
        nets[context] = nets.get(context, 0.0) + change
    return Pairs(
        gains=sum(change for change in changes.values() if change > 0),
        losses=-sum(change for change in changes.values() if change < 0),
        num_samples=len(before),
        num_contexts=len(nets),
        spread=math.sqrt(sum(net * net for net in nets.values())),
    )


def decide(pairs: Pairs, threshold: float = DEFAULT_THRESHOLD) -> Decision:
    """Accept when gains - losses >= threshold * spread; with single right answers sqrt(gains + losses).

    Nothing changed (no gains, no losses) is accepted. A threshold of 0 asks only that the candidate does not
    lose; it is also the final comparison on the whole `validate` split of the last version with the first,
    after which no evolution can end below its starting point there.
    """
    needed = threshold * pairs.spread
    return Decision(pairs.net >= needed - _TIE, pairs, needed)


def select_candidate(before: Mapping[str, float], candidates: Sequence[Mapping[str, float]]) -> Selection:
    """Return the candidate with the largest net gain, the first of equals; none where none gains."""
    pairs = tuple(compare(before, after) for after in candidates)
    best = max(range(len(pairs)), key=lambda n: (round(pairs[n].net, 9), -n), default=None)
    return Selection(best if best is not None and pairs[best].net > _TIE else None, pairs)


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
    contexts: dict[tuple[bool, str], list[str]] = {}
    for sample in samples:
        contexts.setdefault(context_key(sample), []).append(sample.sample_id)
    drawn: set[str] = set()
    for context in sorted(contexts, key=lambda key: digest(purpose, seed, round_number, key[1])):
        if not drawn or len(drawn) + len(contexts[context]) <= size:
            drawn.update(contexts[context])
        if len(drawn) >= size:
            break
    return tuple(sample for sample in samples if sample.sample_id in drawn)
