"""Intervals and verdicts on made-up runs whose truth is known: a seeded part of `simulations.py`."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from simulations import (
    DESIGNS,
    World,
    accuracy_coverage,
    difference_coverage,
    false_positives,
    gate_accepts,
    score_coverage,
)

from aceslm.analysis.statistics import sign_flips
from aceslm.analysis.statistics.accuracy import wilson_interval

pytestmark = pytest.mark.slow

RUNS = 400


@pytest.fixture(autouse=True)
def few_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of 0 and 1 have an exact p; how often an interval holds the truth needs no firm ends."""
    monkeypatch.setattr(sign_flips, "_FEWEST_DRAWS", 1_000)
    monkeypatch.setattr(sign_flips, "_MOST_DRAWS", 1_000)


@pytest.mark.parametrize("base", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("sizes", ["one", "six", "unequal"])
def test_intervals_hold_the_truth_from_twenty_contexts_on(sizes: str, base: float) -> None:
    world = World(20, sizes, base)
    assert accuracy_coverage(world, RUNS) >= 0.93
    assert score_coverage(world, RUNS) >= 0.93
    gain, loss = world.balanced(0.3)
    assert difference_coverage(world, gain, loss, RUNS)[0] >= 0.93
    assert difference_coverage(world, min(0.9, gain + 0.3), loss, RUNS)[0] >= 0.93
    assert difference_coverage(world, 0.02, 0.3, RUNS)[0] >= 0.93


def test_a_narrower_interval_would_not_hold_it() -> None:
    """What these tests can see: Wilson's interval over the questions, as if they were independent."""
    world, rng, held = World(20, "six", 0.5), np.random.default_rng(0), 0
    for _ in range(RUNS):
        found = wilson_interval(float(world.answers(rng).sum()), len(world.index))
        held += found.low <= 0.5 <= found.high
    assert held / RUNS < 0.85


@pytest.mark.parametrize("design", DESIGNS)
def test_a_difference_that_is_not_there_is_found_in_at_most_one_run_of_twenty(design: str) -> None:
    runs = RUNS // 4 if "models" in design or "table" in design else RUNS  # many comparisons a run
    found = false_positives(design, World(50), runs)
    assert found <= stats.binom.ppf(0.99, runs, 0.05) / runs


def test_a_difference_that_is_there_is_found() -> None:
    assert difference_coverage(World(50), 0.4, 0.05, 100)[1] >= 0.9


def test_the_gate_lets_pass_about_one_version_of_ten_that_does_not_differ() -> None:
    rng = np.random.default_rng(0)
    accepted = sum(gate_accepts(World(12), rng) for _ in range(RUNS)) / RUNS
    assert 0.05 < accepted < 0.16
