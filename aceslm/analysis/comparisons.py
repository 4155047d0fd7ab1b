"""Result rows -> every comparison of two modes that the table holds, with one correction over all of them.

    table = compare_modes(frame)
    table.fresh     # what a claim may rest on
    table.seen      # rows whose sample had already been learnt from: apart
    table.notes     # what was refused, and why

The reference of a mode is `scaffold` (the ACE prompt with an empty playbook): "ACE helps" is ace minus
scaffold, not ace minus baseline. Without a scaffold it is `baseline`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aceslm.analysis.rows import scored_rows
from aceslm.analysis.statistics.paired import PairedResult, holm, paired_comparison

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
NO_EVIDENCE = "no evidence of a difference"
_PLACE = ["model_id", "quantization", "task_name"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Treatment minus reference in one place of the grid.

    `treatment` is a mode, with the variant of its settings where a grid compares several; `epoch` is its
    own. `holm_p` is adjusted over all comparisons of the same table.
    """

    model_id: str
    quantization: str
    task_name: str
    epoch: int
    treatment: str
    reference: str
    result: PairedResult
    holm_p: float = 1.0

    @property
    def verdict(self) -> str:
        """What the comparison says, in words."""
        if self.holm_p <= ALPHA:
            return f"{self.treatment if self.result.difference > 0 else self.reference} is better"
        if 2 ** (1 - self.result.num_contexts) > ALPHA:
            return f"{NO_EVIDENCE} (too few contexts to show one)"
        return NO_EVIDENCE


@dataclass(frozen=True, slots=True)
class ComparisonTable:
    """All comparisons of a set of rows; `fresh` and `seen` are corrected each for itself."""

    fresh: tuple[Comparison, ...]
    seen: tuple[Comparison, ...]
    notes: tuple[str, ...]


def compare_modes(frame: pd.DataFrame, *, greedy: bool = True) -> ComparisonTable:
    """Compare every mode and variant with its reference, within each model, quantization, task and epoch.

    Rows of the `adapt` split and rows without a sample id do not enter; failed rows count as wrong. Samples
    that only one side has are left out of the pairing and named in the notes.

    Args:
        frame: result rows with at least `result_rows.REQUIRED_COLUMNS`.
        greedy: whether the rows were decoded greedily: then two seeds of a mode with the same outputs are
            one and its copy, and the copy is refused. Outputs that were sampled may agree by chance.
    """
    rows = scored_rows(frame)
    rows = rows[rows["sample_id"].notna()]
    notes: list[str] = []
    fresh, seen = [], []
    for _, place in rows.groupby(_PLACE, sort=False, dropna=False):
        place = _distinct(place, notes, greedy=greedy)  # noqa: PLW2901
        fresh += list(_comparisons(place[~place["seen"]], place[~place["seen"]], notes))
        seen += list(_comparisons(place[place["seen"]], place[~place["seen"]], notes))
    return ComparisonTable(_corrected(fresh), _corrected(seen), tuple(notes))


def _corrected(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    adjusted = holm([comparison.result.p_value for comparison in comparisons])
    return tuple(replace(one, holm_p=p) for one, p in zip(comparisons, adjusted, strict=True))


def _comparisons(treated: pd.DataFrame, others: pd.DataFrame, notes: list[str]) -> Iterator[Comparison]:
    """Yield the comparisons of one place: each mode and epoch of `treated` with its reference in `others`."""
    modes = set(others["mode"])
    for _, treatment in treated.groupby(["mode", "variant", "epoch"], sort=False):
        place = treatment.iloc[0]
        mode, epoch = str(place["mode"]), int(place["epoch"])
        label = f"{mode} ({place['variant']})" if place["variant"] else mode
        name = _reference(mode, modes)
        if name is None:
            continue
        reference = others[others["mode"] == name]
        # A mode that learns nothing may have fewer epochs: its first is the reference then.
        epochs = set(reference["epoch"])
        reference = reference[reference["epoch"] == (epoch if epoch in epochs else min(epochs))]
        result = _paired(treatment, reference, f"{_where(treatment)} {label} and {name}", notes)
        if result is not None:
            yield Comparison(
                model_id=str(place["model_id"]),
                quantization=str(place["quantization"]),
                task_name=str(place["task_name"]),
                epoch=epoch,
                treatment=label,
                reference=name,
                result=result,
            )


def _reference(mode: str, modes: set[str]) -> str | None:
    """Return what `mode` is compared with, None for a mode that is only a reference itself."""
    candidates = {"baseline": (), "scaffold": ("baseline",)}.get(mode, ("scaffold", "baseline"))
    return next((name for name in candidates if name in modes), None)


def _paired(
    treatment: pd.DataFrame, reference: pd.DataFrame, what: str, notes: list[str]
) -> PairedResult | None:
    """Pair two modes by sample and compare them; None without a common sample."""
    left = treatment.pivot(index="sample_id", columns="seed", values="correct")
    right = reference.pivot(index="sample_id", columns="seed", values="correct")
    common = left.index.intersection(right.index, sort=False)
    lost = len(left.index.union(right.index)) - len(common)
    if lost:
        notes.append(f"{what}: {len(common):,} samples paired, {lost:,} left out that only one of them has")
    if common.empty:
        return None
    contexts = treatment.drop_duplicates("sample_id").set_index("sample_id")["context_id"]
    return paired_comparison(
        left.loc[common].to_numpy(dtype=float),
        right.loc[common].to_numpy(dtype=float),
        contexts.loc[common].tolist(),
    )


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
