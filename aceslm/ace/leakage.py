"""Does a lesson carry a gold answer? The check that refuses such lessons, and that counts them afterwards.

    golds = GoldIndex.of(seen_samples)
    apply(playbook, deltas, ..., refuse=leak_refusal(golds))

*Whose golds.* A check that refuses lessons may only know golds that evolution may know: those of samples
that were answered and scored already (they are asked again in later epochs) and of the `adapt` split. Given
the golds of samples still to be answered, it would make the playbook depend on them. Against those, leaks are
counted after evolution has ended (`aceslm.ace.measures.gold_leaks`), and nothing acts on the count.

*The rule.* Both sides are normalised as for scoring (case, punctuation, articles, currency, separators), and
the gold must stand in the lesson as whole words. A gold counts when it is
- a number of at least three significant digits (12.5, 1,234, 2019; its sign does not matter), or
- at least two words, or one word of at least four characters, other than the closed answer words (yes, no,
  true, false, none, both, ...).
Letters, "yes", "7" or "32" stand in too many honest lessons. Of a choice sample the gold is the text of the
right option. The labels of a label task are not secret (every prompt lists them, every lesson needs them):
they never count. A number with its scale ("32 million") counts as two words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aceslm.ace.playbook.deltas import Refusal, Refuse
from aceslm.core.values import Sample
from aceslm.tasks.base import gold_spans
from aceslm.tasks.text import normalise

MIN_DIGITS = 3
MIN_WORD_CHARS = 4

_ANSWER_WORDS = frozenset("yes no true false none both neither either all some unknown other".split())
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class GoldIndex:
    """Normalised golds -> the ids of their samples."""

    sample_ids: Mapping[str, tuple[str, ...]]
    max_words: int

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> GoldIndex:
        """Index the golds of `samples` that the rule counts."""
        found: dict[str, list[str]] = {}
        for sample in samples:
            for gold in sorted({_comparable(text) for text in _gold_texts(sample)}):
                if _counts(gold):
                    found.setdefault(gold, []).append(sample.sample_id)
        longest = max((len(gold.split()) for gold in found), default=0)
        return cls({gold: tuple(ids) for gold, ids in found.items()}, longest)

    def leaks(self, text: str) -> tuple[str, ...]:
        """Return the golds (normalised) that `text` carries, longest first."""
        words = _comparable(text).split()
        runs = {
            " ".join(words[start : start + length])
            for start in range(len(words))
            for length in range(1, self.max_words + 1)
        }
        return tuple(sorted(runs & self.sample_ids.keys(), key=lambda gold: (-len(gold), gold)))


def leak_refusal(golds: GoldIndex) -> Refuse:
    """Return the check for `apply` that refuses a text with a gold in it."""

    def refuse(text: str) -> Refusal | None:
        leaks = golds.leaks(text)
        if not leaks:
            return None
        return Refusal("leak", f"carries '{leaks[0]}', the gold answer of {golds.sample_ids[leaks[0]][0]}")

    return refuse


def _gold_texts(sample: Sample) -> tuple[str, ...]:
    if sample.answer_type == "label":
        return ()
    if sample.answer_type == "choice":
        index = ord(sample.answer) - ord("A") if len(sample.answer) == 1 else -1
        return (sample.choices[index],) if 0 <= index < len(sample.choices) else (sample.answer,)
    spans = gold_spans(sample)
    return (*spans, *(f"{span} {sample.scale}" for span in spans if sample.scale))


def _comparable(text: str) -> str:
    """Normalise; numbers lose their sign, so that "fell by 12.5" meets the gold -12.5."""
    words = normalise(text).split()
    return " ".join(word.lstrip("-") if _NUMBER.fullmatch(word) else word for word in words)


def _counts(gold: str) -> bool:
    words = gold.split()
    if len(words) == 1 and _NUMBER.fullmatch(gold):
        return len(gold.replace(".", "").lstrip("0")) >= MIN_DIGITS
    if len(words) == 1:
        return len(gold) >= MIN_WORD_CHARS and gold not in _ANSWER_WORDS
    return len(words) > 1
