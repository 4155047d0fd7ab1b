"""Numbers about playbooks: size, tokens, churn, survival, redundancy, citations, leaks, rule recovery.

    measures = measure(playbook, count_tokens=engine.count_tokens, scored=eval_samples)
    change = compare_versions(earlier, later)

For reports only: nothing that evolves a playbook may act on them (the golds of scored samples are used here).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aceslm.ace.leakage import GoldIndex
from aceslm.ace.playbook.bullets import Bullet, Playbook
from aceslm.ace.playbook.limits import CountTokens, Similarity, text_similarity
from aceslm.core.values import Sample

_NUMBER = re.compile(r"(?<![\w.])[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
_COMMON_WORDS = frozenset("above below between than times when whatever minus with rule holds".split())


@dataclass(frozen=True, slots=True)
class Measures:
    """One version. `tokens` is the rendered length; `redundancy` the mean over bullets of the largest
    similarity to another one (0 for fewer than two); `gold_leaks` counts bullets that carry a scored gold."""

    num_bullets: int
    num_quarantined: int
    tokens: int
    redundancy: float
    gold_leaks: int


@dataclass(frozen=True, slots=True)
class Change:
    """From one version to a later one. `churn` = (added + removed + reworded) / bullets in either;
    `survival` = share of the earlier bullets still shown, in any wording (1.0 where there were none)."""

    added: int
    removed: int
    reworded: int
    churn: float
    survival: float


def measure(
    playbook: Playbook,
    *,
    count_tokens: CountTokens,
    scored: Iterable[Sample] = (),
    similarity: Similarity = text_similarity,
) -> Measures:
    """Return the measures of one version."""
    return Measures(
        num_bullets=len(playbook.shown),
        num_quarantined=len(playbook.quarantined),
        tokens=count_tokens(playbook.render()),
        redundancy=redundancy(playbook.shown, similarity),
        gold_leaks=len(gold_leaks(playbook, scored)),
    )


def redundancy(bullets: Sequence[Bullet], similarity: Similarity = text_similarity) -> float:
    """Return the mean over bullets of the largest similarity to another bullet."""
    if len(bullets) < 2:
        return 0.0
    nearest = [
        max(similarity(one.text, other.text) for other in bullets if other is not one) for one in bullets
    ]
    return sum(nearest) / len(nearest)


def gold_leaks(playbook: Playbook, scored: Iterable[Sample]) -> Mapping[str, tuple[str, ...]]:
    """Return bullet id -> the golds of scored samples that it carries, under the rule of `leakage`."""
    golds = GoldIndex.of(scored)
    found = {bullet.bullet_id: golds.leaks(bullet.text) for bullet in playbook.shown}
    return {bullet_id: leaks for bullet_id, leaks in found.items() if leaks}


def compare_versions(earlier: Playbook, later: Playbook) -> Change:
    """Return what changed between two versions of one playbook, among shown bullets."""
    before = {bullet.bullet_id: bullet.text for bullet in earlier.shown}
    after = {bullet.bullet_id: bullet.text for bullet in later.shown}
    kept = before.keys() & after.keys()
    reworded = sum(before[bullet_id] != after[bullet_id] for bullet_id in kept)
    added, removed = len(after) - len(kept), len(before) - len(kept)
    everything = len(before.keys() | after.keys())
    return Change(
        added=added,
        removed=removed,
        reworded=reworded,
        churn=(added + removed + reworded) / everything if everything else 0.0,
        survival=len(kept) / len(before) if before else 1.0,
    )


def citation_rate(cited: Sequence[Sequence[str]]) -> float:
    """Return the share of answers that cite at least one bullet; 0 without answers."""
    return sum(bool(one) for one in cited) / len(cited) if cited else 0.0


def published_rules(samples: Iterable[Sample]) -> Mapping[str, str]:
    """Return label -> published rule, from the metadata that importers attach (AI4I 2020)."""
    rules: dict[str, str] = {}
    for sample in samples:
        try:
            known = json.loads(sample.metadata or "{}")
        except (ValueError, RecursionError):
            continue
        rule = known.get("rule") if isinstance(known, dict) else None
        if isinstance(rule, str):
            rules[sample.answer] = rule
    return rules


def rule_recovery(playbook: Playbook, rules: Mapping[str, str]) -> Mapping[str, float]:
    """Return label -> share of its rule's thresholds that some bullet states.


    Rules without numbers are left out. A bullet states a threshold when it has the number as a whole and a
    content word of the rule or its label: "speed below 1,380 rpm" states 1380 of the heat dissipation rule,
    "about 1380 cases" does not.
    """
    recovered = {}
    for label, rule in rules.items():
        thresholds = _numbers(rule)
        if not thresholds:
            continue
        words = _content_words(f"{label} {rule}")
        stated: set[float] = set()
        for bullet in playbook.shown:
            if _content_words(bullet.text) & words:
                stated |= thresholds & _numbers(bullet.text)
        recovered[label] = len(stated) / len(thresholds)
    return recovered


def _numbers(text: str) -> set[float]:
    return {float(match.replace(",", "")) for match in _NUMBER.findall(text)}


def _content_words(text: str) -> set[str]:
    words = set(re.findall(r"[a-z]{3,}", text.casefold()))
    return {word for word in words if word == "rpm" or (len(word) > 3 and word not in _COMMON_WORDS)}
