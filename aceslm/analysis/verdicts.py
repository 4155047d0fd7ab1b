"""The comparisons of one treatment -> what may be said of it.

    for sentence, evidence in verdict_lines(table.fresh): ...
    for verdict in verdicts(table.fresh): verdict.words, verdict.holm_p, verdict.closest

A treatment is better only if it beats both baseline and scaffold: a scaffold that is worse than the bare
prompt makes no gain. Requiring both is an intersection-union test (Berger 1982): the p of "better" is the
larger of the two, and naming the better reference after the fact costs nothing. "Worse" needs one of the two,
and pays for there being two. Controls do not decide; what they say stands behind the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aceslm.analysis.comparisons import NO_EVIDENCE, Comparison
from aceslm.analysis.statistics.sign_flips import ALPHA

_MANY_SENTENCES = 12


@dataclass(frozen=True, slots=True)
class TreatmentVerdict:
    """What is said of one treatment in one place of the grid.

    `rows` are its comparisons with baseline and scaffold (one of them, where a run has only one), `controls`
    those with other playbooks.
    """

    rows: tuple[Comparison, ...]
    controls: tuple[Comparison, ...] = ()

    @property
    def closest(self) -> Comparison:
        """The comparison with the better of the references."""
        return min(self.rows, key=lambda one: one.result.difference)

    @property
    def above_all(self) -> bool:
        return all(one.result.difference > 0 for one in self.rows)

    @property
    def p_value(self) -> float:
        """The p of the whole question, by itself: better than all references, or worse than one of them."""
        if self.above_all:
            return max(one.result.p_value for one in self.rows)
        below = [one.result.p_value for one in self.rows if one.result.difference < 0]
        return min([1.0, *(len(self.rows) * p for p in below)])

    @property
    def holm_p(self) -> float:
        """The same of p values that were adjusted over the table."""
        if self.above_all:
            return max(one.holm_p for one in self.rows)
        return min([1.0, *(one.holm_p for one in self.rows if one.result.difference < 0)])

    @property
    def evidence(self) -> bool:
        return self.holm_p <= ALPHA and self.closest.extended_after is None

    @property
    def words(self) -> str:
        """The verdict by the table's p values."""
        if self.holm_p <= ALPHA and not self.evidence:
            return f"exploratory, extended after {self.closest.extended_after:,} samples"
        return self.said(self.holm_p)

    def said(self, p_value: float) -> str:
        """Return the verdict for a p of `p_value` or its adjusted form."""
        if p_value > ALPHA:
            few = all(one.too_few for one in self.rows)
            return f"{NO_EVIDENCE} (too few contexts to show one)" if few else NO_EVIDENCE
        if not self.above_all:
            return f"{self._worst.reference} is better than {self._worst.treatment}"
        return f"{self.closest.treatment} is better than {self.better_reference}"

    @property
    def better_reference(self) -> str:
        """Name the better reference, and of how many."""
        names = " and ".join(one.reference for one in self.rows)
        of_both = f", the better of {names}" if len(self.rows) > 1 else ""
        return f"{self.closest.reference}{of_both}"

    @property
    def _worst(self) -> Comparison:
        return min((one for one in self.rows if one.result.difference < 0), key=lambda one: one.holm_p)

    @property
    def control_words(self) -> str:
        """Say what the controls show: "" without any."""
        if not self.controls:
            return ""
        beaten = [one.reference for one in self.controls if one.evidence and one.result.difference > 0]
        rest = [one.reference for one in self.controls if one.reference not in beaten]
        words = [f"above {', '.join(beaten)}"] if beaten else []
        words += [f"not shown to be above {', '.join(rest)}"] if rest else []
        return f"Of the controls it is {' and '.join(words)}."


def verdicts(comparisons: Sequence[Comparison]) -> list[TreatmentVerdict]:
    """Group comparisons by treatment, in order; a treatment without baseline and scaffold has no verdict."""
    groups: dict[tuple[str, str, str, int, str], list[Comparison]] = {}
    for one in comparisons:
        key = (one.model_id, one.quantization, one.task_name, one.epoch, one.treatment)
        groups.setdefault(key, []).append(one)
    return [
        TreatmentVerdict(bare, tuple(one for one in group if not one.against_bare))
        for group in groups.values()
        if (bare := tuple(one for one in group if one.against_bare))
    ]


def verdict_lines(comparisons: Sequence[Comparison]) -> list[tuple[str, bool]]:
    """Say in a sentence each what the comparisons say of every treatment, and whether that is evidence.

    Of many, those without evidence are only counted.
    """
    found = verdicts(comparisons)
    axes = [
        ("task_name", True),
        ("model_id", len({one.model_id for one in comparisons}) > 1),
        ("quantization", len({one.quantization for one in comparisons}) > 1),
        ("epoch", any(one.epoch for one in comparisons)),
    ]
    said = []
    for one in found:
        place = {
            "task_name": one.closest.task_name,
            "model_id": one.closest.model_id.rstrip("/").rsplit("/", 1)[-1],
        }
        place |= {"quantization": one.closest.quantization, "epoch": f"epoch {one.closest.epoch}"}
        where = ", ".join(place[name] for name, shown in axes if shown)
        said.append((f"{where}: {_verdict_line(one)}", one.evidence))
    if len(said) <= _MANY_SENTENCES:
        return said
    shown = [one for one in said if one[1]]
    quiet = len(said) - len(shown)
    return [*shown, (f"{quiet:,} further comparisons show no evidence of a difference.", False)]


def _verdict_line(one: TreatmentVerdict) -> str:
    against = "; ".join(f"{row.treatment} minus {row.reference} {measured(row)}" for row in one.rows)
    controls = f" {one.control_words}" if one.control_words else ""
    n = one.closest.result.num_samples
    return f"{against}, on {n:,} samples: {one.words} (Holm p {one.holm_p:.3f}).{controls}"


def measured(one: Comparison) -> str:
    """Return the difference of a comparison with its interval, and what it is a difference of."""
    result = one.result
    what = "token F1" if one.metric != "accuracy" else "accuracy"
    return f"{result.difference:+.3f} [{result.interval.low:+.3f}, {result.interval.high:+.3f}] in {what}"
