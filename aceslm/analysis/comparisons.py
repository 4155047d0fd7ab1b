"""Result rows -> every comparison of two modes that the table holds, with one correction over all of them.

    table = compare_modes(frame)
    table.fresh     # what a claim may rest on
    table.seen      # rows whose sample had already been learnt from: apart
    table.notes     # what was refused, and why

What is compared is the task's headline: token F1 where it has span answers, else exact match (which then
stands beside F1, uncorrected). A mode with a playbook is compared with baseline and scaffold (the ACE prompt
with an empty playbook), a learnt one also with every control. What may be said of a mode, its comparisons say
together: `aceslm.analysis.verdicts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aceslm.analysis.rows import SCORE, scored_rows
from aceslm.analysis.statistics.paired import PairedResult, holm, paired_comparison
from aceslm.analysis.statistics.sign_flips import ALPHA

if TYPE_CHECKING:
    import pandas as pd

NO_EVIDENCE = "no evidence of a difference"
BARE = ("baseline", "scaffold")  # what a gain is measured from: no lessons
LEARNT = ("ace", "ace_frozen")  # every other mode with a playbook is a control
_PLACE = ["model_id", "quantization", "task_name"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Treatment minus reference in one place of the grid.

    Attributes:
        epoch: the treatment's own.
        treatment: a mode, with the variant of its settings where a grid compares several.
        reference: likewise.
        metric: what `result` compares: `accuracy`, or `score` (token F1).
        exact: exact match, beside a score; not corrected for anything.
        extended_after: samples that had been looked at when the run was extended; None where it was not.
        holm_p: the p of `result`, adjusted over all comparisons of the same table.
    """

    model_id: str
    quantization: str
    task_name: str
    epoch: int
    treatment: str
    reference: str
    metric: str
    result: PairedResult
    exact: PairedResult | None = None
    extended_after: int | None = None
    holm_p: float = 1.0

    @property
    def against_bare(self) -> bool:
        """Whether the reference is baseline or scaffold, and no control."""
        return self.reference in BARE

    @property
    def too_few(self) -> bool:
        """Whether no outcome at all could show a difference."""
        return bool(2.0 ** (1 - self.result.num_contexts) > ALPHA)

    @property
    def evidence(self) -> bool:
        """Whether the two differ, after Holm's correction and on a number of samples that was fixed."""
        return self.holm_p <= ALPHA and self.extended_after is None

    @property
    def verdict(self) -> str:
        """What the comparison says, in words."""
        if self.holm_p > ALPHA:
            return f"{NO_EVIDENCE} (too few contexts to show one)" if self.too_few else NO_EVIDENCE
        above = "above" if self.result.difference > 0 else "below"
        later = f" (exploratory: extended after {self.extended_after:,} samples)" if not self.evidence else ""
        return f"{self.treatment} {above} {self.reference}{later}"


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """All comparisons of a set of rows; `fresh` and `seen` are corrected each for itself."""

    fresh: tuple[Comparison, ...]
    seen: tuple[Comparison, ...]
    notes: tuple[str, ...]


def compare_modes(
    frame: pd.DataFrame, *, greedy: bool = True, extended: Mapping[str, int] | None = None
) -> ComparisonTable:
    """Compare every mode and variant with its references, within each model, quantization, task and epoch.

    Rows of the `adapt` split and rows without a sample id do not enter; failed rows count as wrong. Samples
    that only one side has are left out of the pairing and named in the notes.

    Args:
        frame: result rows with at least `rows.REQUIRED_COLUMNS`.
        greedy: whether the rows were decoded greedily: then two seeds of a mode with the same outputs are
            one and its copy, and the copy is refused. Outputs that were sampled may agree by chance.
        extended: task -> samples that had been looked at before more were added (`extensions`).
    """
    rows = scored_rows(frame)
    rows = rows[rows["sample_id"].notna()]
    notes = [
        f"{task}: extended after {count:,} samples had been looked at. Looking twice finds a difference that "
        "is not there more often than once in twenty: what this table says of the task is exploratory. A "
        "claim wants a declared comparison (primary), or questions that were not looked at (skip)"
        for task, count in (extended or {}).items()
    ]
    fresh, seen = [], []
    for _, place in rows.groupby(_PLACE, sort=False, dropna=False):
        place = _distinct(place, notes, greedy=greedy)  # noqa: PLW2901
        fresh += list(_comparisons(place[~place["seen"]], place[~place["seen"]], notes))
        seen += list(_comparisons(place[place["seen"]], place[~place["seen"]], notes))
    marked = [replace(one, extended_after=(extended or {}).get(one.task_name)) for one in fresh]
    return ComparisonTable(_corrected(marked), _corrected(seen), tuple(notes))


def _corrected(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    adjusted = holm([comparison.result.p_value for comparison in comparisons])
    return tuple(replace(one, holm_p=p) for one, p in zip(comparisons, adjusted, strict=True))


def _comparisons(treated: pd.DataFrame, others: pd.DataFrame, notes: list[str]) -> Iterator[Comparison]:
    """Yield the comparisons of one place: of each mode and epoch of `treated`."""
    for _, treatment in treated.groupby(["mode", "variant", "epoch"], sort=False):
        place = treatment.iloc[0]
        epoch, label = int(place["epoch"]), _label(place["mode"], place["variant"])
        for name, reference in _references(str(place["mode"]), str(place["variant"]), others):
            # A mode that learns nothing may have fewer epochs: its first is the reference then.
            epochs = set(reference["epoch"])
            met = reference[reference["epoch"] == (epoch if epoch in epochs else min(epochs))]
            common = _common(treatment, met, f"{_where(treatment)} {label} and {name}", notes)
            if not len(common):
                continue
            scored = place["metric"] == SCORE
            yield Comparison(
                model_id=str(place["model_id"]),
                quantization=str(place["quantization"]),
                task_name=str(place["task_name"]),
                epoch=epoch,
                treatment=label,
                reference=name,
                metric=str(place["metric"]),
                result=_paired(treatment, met, common, "headline"),
                exact=_paired(treatment, met, common, "correct") if scored else None,
            )


def _references(mode: str, variant: str, others: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield what a mode is compared with; a control with the same variant, or the only one it has."""
    present = list(dict.fromkeys(others["mode"].astype(str)))
    for name in BARE[: BARE.index(mode)] if mode in BARE else BARE:
        if name in present:
            yield name, others[others["mode"] == name]
    for name in (one for one in present if mode in LEARNT and one not in {*BARE, *LEARNT}):
        rows = others[others["mode"] == name]
        labels = set(rows["variant"])
        chosen = variant if variant in labels else next(iter(labels))
        if chosen == variant or len(labels) == 1:
            yield _label(name, chosen), rows[rows["variant"] == chosen]


def _label(mode: object, variant: object) -> str:
    return f"{mode} ({variant})" if variant else str(mode)


def _common(treatment: pd.DataFrame, reference: pd.DataFrame, what: str, notes: list[str]) -> pd.Index:
    """Return the samples that both sides have, in the treatment's order."""
    import pandas as pd

    left, right = (side["sample_id"].drop_duplicates() for side in (treatment, reference))
    common = left[left.isin(right)]
    lost = len(left) + len(right) - 2 * len(common)
    if lost:
        notes.append(f"{what}: {len(common):,} samples paired, {lost:,} left out that only one of them has")
    found: pd.Index = pd.Index(common.tolist())
    return found


def _paired(treatment: pd.DataFrame, reference: pd.DataFrame, common: pd.Index, column: str) -> PairedResult:
    """Compare two modes on their common samples."""
    left, right = (
        side.pivot(index="sample_id", columns="seed", values=column).loc[common].to_numpy(dtype=float)
        for side in (treatment, reference)
    )
    contexts = treatment.drop_duplicates("sample_id").set_index("sample_id")["context_id"]
    return paired_comparison(left, right, contexts.loc[common].tolist())


def _distinct(place: pd.DataFrame, notes: list[str], *, greedy: bool) -> pd.DataFrame:
    """Return the rows without what must not be pooled: rows given twice, and seeds that are copies."""
    import pandas as pd

    kept = [place.iloc[:0]]
    for (mode, _, _), group in place.groupby(["mode", "variant", "epoch"], sort=False):
        if group.duplicated(["sample_id", "seed"]).any():
            notes.append(
                f"{_where(group)} {mode}: not compared, the same samples are there more than once: "
                "summarise the runs apart"
            )
            continue
        copies = _copies(group) if greedy else {}
        notes += [
            f"{_where(group)} {mode}: seed {seed} is a copy of seed {original} (greedy decoding, the same "
            "outputs): refused, not pooled"
            for seed, original in copies.items()
        ]
        kept.append(group[~group["seed"].isin(list(copies))])
    return pd.concat(kept)


def _copies(group: pd.DataFrame) -> dict[int, int]:
    """Return each seed whose outputs are those of an earlier one, with that one."""
    output = group["raw_output"].where(group["raw_output"].notna(), group["pred"])
    said = group.assign(output=output.fillna("").astype(str))
    first: dict[tuple[tuple[str, str], ...], int] = {}
    copies = {}
    for seed in sorted(set(said["seed"].astype(int))):
        rows = said[said["seed"] == seed]
        outputs = tuple(sorted(zip(rows["sample_id"], rows["output"], strict=True)))
        original = first.setdefault(outputs, seed)
        if original != seed:
            copies[seed] = original
    return copies


def _where(rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    model = str(row["model_id"]).rstrip("/").rsplit("/", 1)[-1]
    return f"{row['task_name']}, {model}, {row['quantization']}, epoch {row['epoch']}:"
