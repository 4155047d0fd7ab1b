"""What an import gave, in figures: records, balance, lengths, and everything that was dropped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aceslm.core.values import SPLITS, Sample
from aceslm.data.importers.base import ImportReport

CountTokens = Callable[[Sequence[str]], Sequence[int]]


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """One split's figures. Lengths are of context, question and choices together."""

    split: str
    records: int
    contexts: int
    answer_types: dict[str, int]
    labels: dict[str, int]
    words_p50: int
    words_p99: int
    tokens_p50: int | None
    tokens_p99: int | None


@dataclass(frozen=True, slots=True)
class DroppedSummary:
    """One reason for dropping: how often, and where first."""

    reason: str
    records: int
    first: str


def split_summaries(report: ImportReport, count_tokens: CountTokens | None = None) -> list[SplitSummary]:
    """Return one summary a split, in the order adapt, validate, eval, none."""
    present = {sample.split for sample in report.samples}
    return [
        _summary(split, [sample for sample in report.samples if sample.split == split], count_tokens)
        for split in (*SPLITS, "")
        if split in present
    ]


def dropped_summaries(report: ImportReport) -> list[DroppedSummary]:
    """Return one line a reason, the most frequent first."""
    counts = Counter(reason for _, reason in report.dropped)
    firsts: dict[str, str] = {}
    for where, reason in report.dropped:
        firsts.setdefault(reason, where)
    return [DroppedSummary(reason, number, firsts[reason]) for reason, number in counts.most_common()]


def _summary(split: str, samples: Sequence[Sample], count_tokens: CountTokens | None) -> SplitSummary:
    texts = [_text(sample) for sample in samples]
    words = [len(text.split()) for text in texts]
    tokens = count_tokens(texts) if count_tokens else None
    return SplitSummary(
        split=split or "-",
        records=len(samples),
        contexts=len({sample.context_id or sample.sample_id for sample in samples}),
        answer_types=dict(Counter(sample.answer_type for sample in samples).most_common()),
        labels=dict(
            sorted(Counter(s.answer for s in samples if s.answer_type in {"label", "choice"}).items())
        ),
        words_p50=_quantile(words, 0.5),
        words_p99=_quantile(words, 0.99),
        tokens_p50=_quantile(tokens, 0.5) if tokens else None,
        tokens_p99=_quantile(tokens, 0.99) if tokens else None,
    )


def _text(sample: Sample) -> str:
    return "\n".join(part for part in (sample.context, sample.question, *sample.choices) if part)


def _quantile(values: Sequence[int], share: float) -> int:
    """Return the smallest value that at least `share` of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
