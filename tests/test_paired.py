from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from aceslm.analysis.statistics.accuracy import Interval, proportion_interval, wilson_interval
from aceslm.analysis.statistics.intervals import accuracy_interval, mean_interval
from aceslm.analysis.statistics.labels import macro_f1, matthews
from aceslm.analysis.statistics.paired import holm, mcnemar, paired_comparison
from aceslm.analysis.statistics.sign_flips import Flips, flipped


def column(values: object) -> np.ndarray:
    return np.asarray(values, dtype=float)[:, None]


def flips(sums: object, counts: object = None) -> Flips:
    values = np.asarray(sums, dtype=float)
    return flipped(values, np.ones(len(values)) if counts is None else np.asarray(counts, dtype=float))


def scipy_sign_flip(sums: np.ndarray, resamples: float = np.inf) -> float:
    return stats.permutation_test(
        (sums,), np.sum, permutation_type="samples", n_resamples=resamples, alternative="two-sided", rng=1
    ).pvalue


@pytest.mark.parametrize("seed", range(8))
def test_the_exact_sign_flip_test_is_scipys(seed: int) -> None:
    sums = np.random.default_rng(seed).integers(-3, 5, size=11).astype(float)
    assert flips(sums, np.full(11, 5)).p_value == pytest.approx(scipy_sign_flip(sums[sums != 0]))


@pytest.mark.parametrize("seed", range(4))
def test_whole_numbers_and_means_of_seeds_are_tested_exactly_however_many_contexts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sums = rng.integers(-3, 5, size=17)
    alone = scipy_sign_flip(sums[sums != 0].astype(float))
    for seeds in (1, 3, 7):
        padded = np.concatenate([sums / seeds, np.zeros(200)])
        assert flips(padded, np.full(217, 5)).p_value == pytest.approx(alone)


@pytest.mark.parametrize("seed", range(4))
def test_many_contexts_are_flipped_at_random_and_agree_with_scipy(seed: int) -> None:
    sums = np.random.default_rng(seed).normal(0.1, 0.3, size=60)
    assert flips(sums).p_value == pytest.approx(scipy_sign_flip(sums, 20_000), abs=0.01)


def test_a_random_p_is_never_zero() -> None:
    assert flips(np.random.default_rng(0).uniform(0.5, 1, size=200)).p_value == pytest.approx(1 / 20_000)


def test_contexts_without_a_difference_say_nothing() -> None:
    assert flips(np.zeros(30)).p_value == 1.0
    assert flips([1.0, 1.0, 1.0]).p_value == 0.25
    assert flips([1.0, 1.0, 1.0, *np.zeros(50)]).p_value == 0.25


def test_averages_that_differ_in_the_last_bit_are_ties() -> None:
    assert flips([0.1 + 0.2, -0.3, 0.3, 0.1]).p_value == flips([3.0, -3.0, 3.0, 1.0], [3] * 4).p_value


def contexts_of(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    k = int(rng.integers(2, 60))
    counts = {"single": np.ones(k), "six": np.full(k, 6.0), "unequal": rng.integers(1, 16, k)}
    size = counts.get(kind, np.ones(k)).astype(float)
    if kind == "score":
        return rng.normal(rng.uniform(-0.3, 0.3), 0.3, k).clip(-1, 1), size
    gains, losses = rng.binomial(size.astype(int), rng.uniform(0, 0.6, (2, 1)))
    return np.clip(gains - losses, -size, size).astype(float), size


@pytest.mark.parametrize("kind", ["single", "six", "unequal", "score"])
def test_the_interval_excludes_zero_exactly_where_the_test_rejects_it(kind: str) -> None:
    rng = np.random.default_rng(11)
    rejected = 0
    for _ in range(80):
        sums, counts = contexts_of(rng, kind)
        found = flips(sums, counts)
        assert (found.interval.low <= 0 <= found.interval.high) == (found.p_value > 0.05), (sums, counts)
        assert found.interval.low <= sums.sum() / counts.sum() <= found.interval.high
        rejected += found.p_value <= 0.05
    assert 15 < rejected < 65


@pytest.mark.parametrize("kind", ["single", "six", "unequal", "score"])
def test_each_end_is_where_the_test_of_that_difference_turns(kind: str) -> None:
    """The inversion in closed form against the test itself, asked for differences inside and outside."""
    rng = np.random.default_rng(12)
    for _ in range(8):
        sums, counts = contexts_of(rng, kind)
        inside = flips(sums, counts).interval
        mean = sums.sum() / counts.sum()
        for end in (inside.low, inside.high):
            if abs(end) < 1:
                outside = end + np.sign(end - mean) * 0.02
                assert scipy_sign_flip_of(sums - outside * counts) <= 0.06
        middle = (3 * mean + inside.high) / 4
        assert scipy_sign_flip_of(sums - middle * counts) > 0.05


def scipy_sign_flip_of(sums: np.ndarray) -> float:
    return scipy_sign_flip(sums, np.inf if len(sums) <= 12 else 9_999)


def test_rows_in_another_order_and_the_comparison_turned_round_give_the_same() -> None:
    rng = np.random.default_rng(13)
    values, contexts = rng.uniform(size=(2, 90, 1)), rng.integers(0, 40, size=90)
    order = rng.permutation(90)
    once = paired_comparison(values[0], values[1], contexts.tolist())
    again = paired_comparison(values[0][order], values[1][order], contexts[order].tolist())
    turned = paired_comparison(values[1], values[0], [f"c{name}" for name in contexts])
    assert (once.interval, once.p_value) == (again.interval, again.p_value)
    assert (turned.interval.low, turned.interval.high) == (-once.interval.high, -once.interval.low)
    assert turned.p_value == once.p_value


@pytest.mark.parametrize("k", [18, 40, 120, 300])
def test_the_ends_move_by_less_than_two_thousandths_with_the_seed(k: int) -> None:
    differences = np.random.default_rng(k).normal(0.1, 0.4, size=k).clip(-1, 1)
    ends = [flipped(differences, np.ones(k), seed=seed).interval for seed in range(8)]
    assert np.ptp([end.low for end in ends]) < 0.002
    assert np.ptp([end.high for end in ends]) < 0.002


def test_a_few_contexts_are_said_to_show_nothing() -> None:
    assert flips([1, 1, 1, 1, 1]).interval == Interval(-1.0, 1.0)
    assert flips([6] * 5, [6] * 5).interval == Interval(-1.0, 1.0)
    assert flips([1, 1, 1, 1, 1, 1]).interval.low > 0


def test_differences_that_were_not_seen_are_not_excluded() -> None:
    none = flips(np.zeros(20)).interval
    assert (-none.low, none.high) == pytest.approx((3.84 / 23.84, 3.84 / 23.84), abs=1e-3)
    two = flips([1, 1, *np.zeros(18)]).interval  # Tango's score interval: [-0.07, 0.30]
    assert (two.low, two.high) == pytest.approx((-0.07, 0.30), abs=0.03)
    every = flips(np.ones(20)).interval
    assert (every.low, every.high) == (pytest.approx(1 - 3.84 / 23.84, abs=1e-3), 1.0)


@pytest.mark.parametrize("seed", range(8))
def test_mcnemar_is_statsmodels_and_its_counts_are_the_discordant_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    treatment, reference = rng.integers(0, 2, (2, 40)).astype(float)
    table = [[np.sum((treatment == a) & (reference == b)) for b in (1, 0)] for a in (1, 0)]
    result = mcnemar(treatment, reference)
    assert (result.only_treatment, result.only_reference) == (table[0][1], table[1][0])
    assert result.p_value == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)
    discordant = result.only_treatment + result.only_reference
    assert result.p_value == pytest.approx(stats.binomtest(result.only_treatment, discordant).pvalue)


@pytest.mark.parametrize("seed", range(5))
def test_with_single_questions_and_one_seed_the_sign_flip_test_is_mcnemars(seed: int) -> None:
    rng = np.random.default_rng(seed)
    treatment, reference = rng.integers(0, 2, (2, 90)).astype(float)
    result = paired_comparison(column(treatment), column(reference), range(90))
    assert result.mcnemar is not None
    assert result.p_value == pytest.approx(result.mcnemar.p_value, rel=1e-9)
    assert result.difference == pytest.approx(np.mean(treatment - reference))


def test_mcnemar_is_not_printed_where_it_does_not_hold() -> None:
    ones, zeros = np.ones((4, 1)), np.zeros((4, 1))
    assert paired_comparison(ones, zeros, ["a", "a", "b", "c"]).mcnemar is None
    assert paired_comparison(np.ones((4, 2)), zeros, ["a", "b", "c", "d"]).mcnemar is None
    assert paired_comparison(ones / 2, zeros, ["a", "b", "c", "d"]).mcnemar is None


def test_seeds_are_averaged_before_anything_else() -> None:
    treatment = np.array([[1, 0], [1, 1], [0, 1]], dtype=float)
    reference = np.zeros((3, 1))
    result = paired_comparison(treatment, reference, ["a", "b", "c"])
    assert (result.difference, result.num_samples) == (pytest.approx(2 / 3), 3)
    assert result.p_value == flips([0.5, 1, 0.5]).p_value
    tripled = np.repeat(column([1, 1, 0, 1, 0]), 3, axis=1)
    once = paired_comparison(tripled[:, :1], np.zeros((5, 1)), range(5))
    assert paired_comparison(tripled, np.zeros((5, 1)), range(5)).p_value == once.p_value


def test_questions_about_one_table_count_as_one() -> None:
    treatment, reference = np.ones((40, 1)), np.zeros((40, 1))
    apart = paired_comparison(treatment, reference, range(40))
    together = paired_comparison(treatment, reference, [number // 10 for number in range(40)])
    assert (apart.num_contexts, together.num_contexts) == (40, 4)
    assert apart.p_value < 0.001 < together.p_value == 0.125


def test_both_sides_need_the_same_samples() -> None:
    with pytest.raises(ValueError, match="same samples"):
        paired_comparison(np.ones((3, 1)), np.ones((2, 1)), ["a", "b", "c"])
    with pytest.raises(ValueError, match="same samples"):
        paired_comparison(np.ones((0, 1)), np.ones((0, 1)), [])


def test_holm_is_statsmodels() -> None:
    p_values = list(np.random.default_rng(3).uniform(size=9))
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_repeating_every_question_ten_times_makes_no_interval_narrower() -> None:
    values = np.random.default_rng(6).integers(0, 2, 50).astype(float)
    once = mean_interval(values, range(50))
    tenfold = mean_interval(np.repeat(values, 10), np.repeat(np.arange(50), 10).tolist())
    assert (once.low, once.high) == pytest.approx((tenfold.low, tenfold.high))


def test_the_interval_of_an_accuracy_is_chosen_by_the_contexts() -> None:
    assert accuracy_interval([1, 0, 1], ["a", "b", "c"]) == proportion_interval(2, 3)
    assert accuracy_interval([], []) == wilson_interval(0, 0)
    pairs = [f"c{number // 2}" for number in range(40)]
    correct = [1, 0, 0, 0] * 10
    shared, single = accuracy_interval(correct, pairs), accuracy_interval(correct, range(40))
    assert shared.high - shared.low == pytest.approx(single.high - single.low, abs=0.06)


@pytest.mark.parametrize("right", [0, 1])
def test_contexts_without_a_single_miss_are_counted_as_one_sample_each(right: int) -> None:
    tables = [number // 6 for number in range(120)]
    found, wilson = accuracy_interval([right] * 120, tables), wilson_interval(20 * right, 20)
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high))


@pytest.mark.parametrize("n", [20, 23, 50, 120, 300])
def test_the_interval_of_single_questions_holds_the_truth_at_any_accuracy(n: int) -> None:
    """Counted over all outcomes, not simulated."""
    ends = [proportion_interval(right, n) for right in range(n + 1)]
    lows, highs = np.array([one.low for one in ends]), np.array([one.high for one in ends])
    for share in np.linspace(0.02, 0.98, 49):
        chances = stats.binom.pmf(np.arange(n + 1), n, share)
        assert chances[(lows <= share) & (share <= highs)].sum() >= 0.928
    assert lows == pytest.approx(1 - highs[::-1])
    assert (highs - lows).mean() < 1.06 * np.mean(
        [wilson_interval(right, n).high - wilson_interval(right, n).low for right in range(n + 1)]
    )


def test_two_contexts_say_next_to_nothing() -> None:
    assert accuracy_interval([1, 0], ["a", "a"]) == Interval(0.0, 1.0)
    wide = accuracy_interval([1, 1, 1, 0, 0, 0], list("aaabbb"))
    assert wide.high - wide.low > 0.9


def test_macro_f1_and_mcc_have_their_published_values() -> None:
    gold, pred = list("012012"), list("021001")
    assert macro_f1(gold, pred) == pytest.approx(0.26667, abs=1e-5)
    assert matthews(["+", "+", "+", "-"], ["+", "-", "+", "+"]) == pytest.approx(-1 / 3)
    assert (macro_f1(gold, gold), matthews(gold, gold)) == (1.0, 1.0)


def test_the_binary_mcc_is_pearsons_correlation() -> None:
    gold, pred = np.random.default_rng(8).integers(0, 2, (2, 60))
    expected = np.corrcoef(gold, pred)[0, 1]
    assert matthews([str(bit) for bit in gold], [str(bit) for bit in pred]) == pytest.approx(expected)


def test_always_the_common_label_gains_nothing() -> None:
    gold, pred = ["normal"] * 97 + ["failure"] * 3, ["normal"] * 100
    assert matthews(gold, pred) == 0.0
    assert macro_f1(gold, pred) == pytest.approx(0.97 / 1.97)


def test_a_reply_without_a_label_is_a_miss_and_no_label_of_its_own() -> None:
    assert macro_f1(["a", "b"], ["a", None]) == 0.5
    assert matthews(["a", "b"], [None, None]) == 0.0
    assert 0 < matthews(["a", "a", "b", "b"], ["a", None, "b", None]) < 1
