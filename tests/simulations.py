"""Made-up runs whose truth is known: how often intervals hold it, how often a difference is found wrongly.

python tests/simulations.py                # all designs, 1,000 runs each: half an hour on a busy core
python tests/simulations.py --runs 200     # a first look

1,000 runs each, two questions of a context correlated by 0.3. Differences found that are not there, at 0.05:

    contexts                          20 of 6   50 of 6   120 of 6   60 of 1
    one comparison                      0.034     0.042      0.042     0.026
    table of six modes, Holm            0.028     0.040      0.039     0.018
    better of baseline and scaffold     0.040     0.033      0.049     0.022
    eight models under one primary      0.009     0.022      0.022     0.011
    extended after a fifth              0.000     0.006      0.017     0.001
    gate, then a comparison             0.006     0.001      0.001     0.003

Least coverage of 95 % intervals over accuracies of 0.05, 0.2, 0.5 and 0.9 (first line: 4,000 runs):

    questions a context    of            10     20     50    120 contexts
    one                    accuracy   0.969  0.955  0.932  0.947
    one                    score      0.946  0.955  0.944  0.951
    one                    difference 0.950  0.957  0.949  0.947
    six                    accuracy   0.948  0.949  0.947  0.947
    six                    score      0.957  0.942  0.951  0.945
    six                    difference 0.948  0.948  0.940  0.950
    1 to 15                accuracy   0.981  0.952  0.940  0.939
    1 to 15                score      0.980  0.957  0.942  0.955
    1 to 15                difference 0.973  0.952  0.934  0.937

`tests/test_simulated.py` keeps a few of them in the suite.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aceslm.ace.gate import compare, decide
from aceslm.analysis.comparisons import BARE, LEARNT, Comparison
from aceslm.analysis.statistics import sign_flips
from aceslm.analysis.statistics.intervals import accuracy_interval, mean_interval
from aceslm.analysis.statistics.paired import holm, paired_comparison
from aceslm.analysis.verdicts import verdicts

Numbers = npt.NDArray[np.float64]

CONTEXTS = (10, 20, 50, 120)
BASES = (0.05, 0.2, 0.5, 0.9)
SIZES = ("one", "six", "unequal")


@dataclass(frozen=True)
class World:
    """Contexts with questions; `icc` is the correlation of two questions of one context."""

    contexts: int
    sizes: str = "six"
    base: float = 0.5
    icc: float = 0.3

    @property
    def index(self) -> npt.NDArray[np.int64]:
        """The context of each question."""
        sizes = {"one": [1], "six": [6], "unequal": [1, 1, 2, 3, 6, 8, 12, 15]}[self.sizes]
        return np.repeat(np.arange(self.contexts), np.resize(sizes, self.contexts))

    def ease(self, rng: np.random.Generator) -> Numbers:
        """Return the chance of a right answer to each question: alike within a context."""
        spread = (1 - self.icc) / self.icc
        chances = rng.beta(self.base * spread, (1 - self.base) * spread, size=self.contexts)
        return chances[self.index]

    def answers(self, rng: np.random.Generator) -> Numbers:
        return (rng.uniform(size=len(self.index)) < self.ease(rng)).astype(float)

    def changed(
        self, answers: Numbers, rng: np.random.Generator, gain: float, loss: float, alike: float = 2.0
    ) -> Numbers:
        """Return answers of which a share of the wrong ones became right, and of the right ones wrong.

        The shares differ between contexts, the less the larger `alike` is.
        """
        up, down = (
            rng.beta(max(share, 1e-9) * alike, (1 - share) * alike + 1e-9, size=self.contexts)[self.index]
            for share in (gain, loss)
        )
        draw = rng.uniform(size=len(answers))
        return np.where(answers == 1, draw >= down, draw < up).astype(float)

    def balanced(self, share: float) -> tuple[float, float]:
        """Return gain and loss that leave the accuracy as it is, the larger of them `share`."""
        gain, loss = self.base / (1 - self.base), 1.0
        return share * gain / max(gain, loss), share * loss / max(gain, loss)


def accuracy_coverage(world: World, runs: int, seed: int = 0) -> float:
    """Return how often the interval of an accuracy holds the true one."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(runs):
        found = accuracy_interval(world.answers(rng).astype(int).tolist(), world.index.tolist())
        held += found.low <= world.base <= found.high
    return held / runs


def score_coverage(world: World, runs: int, seed: int = 0) -> float:
    """Return how often the interval of a mean score between 0 and 1 holds the true one."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(runs):
        ease = world.ease(rng)
        scores = rng.beta(ease * 0.7 + 1e-6, (1 - ease) * 0.7 + 1e-6)
        found = mean_interval(scores, world.index.tolist())
        held += found.low <= world.base <= found.high
    return held / runs


def difference_coverage(
    world: World, gain: float, loss: float, runs: int, seed: int = 0
) -> tuple[float, float]:
    """Return how often the interval of a difference holds the true one, and how often 0 is rejected."""
    rng = np.random.default_rng(seed)
    truth = (1 - world.base) * gain - world.base * loss
    held = rejected = 0
    for _ in range(runs):
        reference = world.answers(rng)
        treatment = world.changed(reference, rng, gain, loss)
        found = paired_comparison(treatment[:, None], reference[:, None], world.index.tolist())
        held += found.interval.low - 1e-9 <= truth <= found.interval.high + 1e-9
        rejected += found.p_value <= 0.05
    return held / runs, rejected / runs


def table_of(
    world: World, modes: Mapping[str, Numbers], model: str = "m", extended_after: int | None = None
) -> list[Comparison]:
    """Return what `compare_modes` makes of these answers, without a frame of rows."""
    pairs = []
    for treatment in modes:
        bare = [one for one in BARE[: BARE.index(treatment)] if one in modes] if treatment in BARE else BARE
        controls = [one for one in modes if one not in (*BARE, *LEARNT)] if treatment in LEARNT else []
        pairs += [(treatment, reference) for reference in (*bare, *controls) if reference in modes]
    found = [
        Comparison(
            model_id=model,
            quantization="none",
            task_name="t",
            epoch=0,
            treatment=treatment,
            reference=reference,
            metric="accuracy",
            result=paired_comparison(
                modes[treatment][:, None], modes[reference][:, None], world.index.tolist()
            ),
            extended_after=extended_after,
        )
        for treatment, reference in pairs
    ]
    adjusted = holm([one.result.p_value for one in found])
    return [replace(one, holm_p=p) for one, p in zip(found, adjusted, strict=True)]


def null_modes(world: World, rng: np.random.Generator, names: tuple[str, ...]) -> dict[str, Numbers]:
    """Return answers of modes that do not differ: each changes some of the baseline's, up and down."""
    answers = world.answers(rng)
    gain, loss = world.balanced(0.3)
    return {"baseline": answers} | {name: world.changed(answers, rng, gain, loss) for name in names}


def single_comparison(world: World, rng: np.random.Generator) -> bool:
    (one,) = table_of(world, null_modes(world, rng, ("scaffold",)))
    return one.evidence


def table_with_holm(world: World, rng: np.random.Generator) -> bool:
    modes = null_modes(world, rng, ("scaffold", "ace", "ace_frozen", "ace_shuffled", "ace_placebo"))
    return any(one.evidence for one in table_of(world, modes))


def better_of_both(world: World, rng: np.random.Generator) -> bool:
    """The scaffold is far worse than the baseline, and ace equals that: any verdict on ace is false."""
    modes = null_modes(world, rng, ("ace",))
    modes["scaffold"] = world.changed(modes["baseline"], rng, 0.0, 0.7)
    found = verdicts(table_of(world, modes))
    return any(one.evidence and one.closest.treatment == "ace" for one in found)


def eight_models(world: World, rng: np.random.Generator) -> bool:
    """One declared comparison, judged for eight models: Holm over them, as `prereg` judges it."""
    found = []
    for number in range(8):
        table = table_of(world, null_modes(world, rng, ("scaffold", "ace_frozen")), f"m{number}")
        found += [one.p_value for one in verdicts(table) if one.closest.treatment == "ace_frozen"]
    return min(holm(found)) <= 0.05


def extended_run(world: World, rng: np.random.Generator) -> bool:
    """Looked at after a fifth of its contexts, then extended: that part is judged, the table is marked."""
    modes = null_modes(world, rng, ("scaffold", "ace"))
    first = replace(world, contexts=world.contexts // 5)
    part = {name: answers[: len(first.index)] for name, answers in modes.items()}
    looks = [
        verdicts(table_of(first, part)),
        verdicts(table_of(world, modes, extended_after=len(first.index))),
    ]
    return any(one.evidence and one.closest.treatment == "ace" for found in looks for one in found)


def gate_then_claim(world: World, rng: np.random.Generator) -> bool:
    """A gate on validation questions, then a comparison of what it accepted on others."""
    if not gate_accepts(World(30), rng):
        return False
    return single_comparison(world, rng)


def gate_accepts(world: World, rng: np.random.Generator) -> bool:
    before = world.answers(rng)
    after = world.changed(before, rng, *world.balanced(0.3))
    scores = [dict(enumerate(answers.tolist())) for answers in (before, after)]
    named = [{str(name): value for name, value in one.items()} for one in scores]
    contexts = {str(name): int(context) for name, context in enumerate(world.index)}
    return decide(compare(named[0], named[1], contexts)).accepted


DESIGNS: Mapping[str, Callable[[World, np.random.Generator], bool]] = {
    "one comparison": single_comparison,
    "table of six modes, Holm": table_with_holm,
    "better of baseline and scaffold": better_of_both,
    "eight models under one primary": eight_models,
    "extended after a fifth": extended_run,
    "gate, then a comparison": gate_then_claim,
}


def false_positives(design: str, world: World, runs: int, seed: int = 0) -> float:
    """Return how often a design finds a difference that is not there."""
    rng = np.random.default_rng(seed)
    return sum(DESIGNS[design](world, rng) for _ in range(runs)) / runs


def coverage_lines(runs: int) -> Iterator[str]:
    for sizes in SIZES:
        for base in BASES:
            worlds = [World(contexts, sizes, base) for contexts in CONTEXTS]
            gain, loss = worlds[0].balanced(0.3)
            effects = {
                "accuracy": lambda world: accuracy_coverage(world, runs),
                "score": lambda world: score_coverage(world, runs),
                "no diff.": lambda world, up=gain, down=loss: difference_coverage(world, up, down, runs)[0],
                "gain": lambda world, up=gain, down=loss: difference_coverage(
                    world, min(0.9, up + 0.3), down, runs
                )[0],
                "loss": lambda world: difference_coverage(world, 0.02, 0.3, runs)[0],
            }
            for name, measure in effects.items():
                shares = " ".join(f"{measure(world):.3f}" for world in worlds)
                yield f"{sizes:8} {base:4.2f}  {name:9} {shares}"


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--runs", type=int, default=1000)
    runs = options.parse_args().runs
    # Answers of 0 and 1 have an exact p. An interval wants many patterns to be firm, its coverage does not.
    sign_flips._FEWEST_DRAWS, sign_flips._MOST_DRAWS = 400, 400
    print("False positives at 0.05, contexts 20 50 120 of six questions, 60 of one")
    for design in DESIGNS:
        worlds = [*(World(contexts) for contexts in (20, 50, 120)), World(60, "one")]
        shares = " ".join(f"{false_positives(design, world, runs):.3f}" for world in worlds)
        print(f"{design:32} {shares}", flush=True)
    rng = np.random.default_rng(0)
    sign_flips._FEWEST_DRAWS, sign_flips._MOST_DRAWS = 10_000, 10_000
    accepted = sum(gate_accepts(World(12), rng) for _ in range(runs)) / runs
    print(
        f"the gate lets pass what does not differ: {accepted:.3f} (72 questions of 12 contexts)", flush=True
    )
    print(f"\nCoverage of 95 % intervals\nquestions base  of        contexts {' '.join(map(str, CONTEXTS))}")
    for line in coverage_lines(runs):
        print(line, flush=True)


if __name__ == "__main__":
    main()
