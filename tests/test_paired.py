from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from aceslm.analysis.statistics.accuracy import wilson_interval
from aceslm.analysis.statistics.intervals import accuracy_interval, cluster_bootstrap_interval, cluster_sums
from aceslm.analysis.statistics.labels import macro_f1, matthews
from aceslm.analysis.statistics.paired import holm, mcnemar, paired_comparison, sign_flip_p


def column(values: object) -> np.ndarray:
    return np.asarray(values, dtype=float)[:, None]


def scipy_sign_flip(sums: np.ndarray, resamples: float) -> float:
    return stats.permutation_test(
        (sums,), np.sum, permutation_type="samples", n_resamples=resamples, alternative="two-sided", rng=1
    ).pvalue


@pytest.mark.parametrize("seed", range(8))
def test_the_exact_sign_flip_test_is_scipys(seed: int) -> None:
    sums = np.random.default_rng(seed).integers(-3, 5, size=11).astype(float)
    assert sign_flip_p(sums) == pytest.approx(scipy_sign_flip(sums[sums != 0], np.inf))


@pytest.mark.parametrize("seed", range(4))
def test_many_contexts_are_flipped_at_random_and_agree_with_scipy(seed: int) -> None:
    sums = np.random.default_rng(seed).normal(0.2, 1, size=60)
    assert sign_flip_p(sums) == pytest.approx(scipy_sign_flip(sums, 20_000), abs=0.02)
    assert sign_flip_p(sums) == sign_flip_p(sums)


def test_a_random_p_is_never_zero() -> None:
    assert sign_flip_p(np.ones(200)) == pytest.approx(1 / 10_001)


def test_contexts_without_a_difference_say_nothing() -> None:
    assert sign_flip_p(np.zeros(30)) == 1.0
    assert sign_flip_p(np.array([1.0, 1.0, 1.0])) == 0.25
    assert sign_flip_p(np.array([1.0, 1.0, 1.0, *np.zeros(50)])) == 0.25


def test_averages_that_differ_in_the_last_bit_are_ties() -> None:
    sums = np.array([0.1 + 0.2, -0.3, 0.3, 0.1])
    assert sign_flip_p(sums) == sign_flip_p(np.array([3.0, -3.0, 3.0, 1.0]))


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
    treatment, reference = rng.integers(0, 2, (2, 18)).astype(float)
    result = paired_comparison(column(treatment), column(reference), range(18))
    assert result.mcnemar is not None
    assert result.p_value == pytest.approx(result.mcnemar.p_value, abs=0.02)
    assert result.difference == pytest.approx(np.mean(treatment - reference))


def test_a_difference_that_is_not_there_is_found_as_rarely_as_promised() -> None:
    """500 tasks of 40 tables with 3 questions each, without a difference and with one of 0.2."""
    rng = np.random.default_rng(2)
    tables = np.repeat(np.arange(40), 3).tolist()
    found = {"null": 0, "planted": 0}
    for _ in range(500):
        ease = np.repeat(rng.uniform(0.2, 0.8, size=40), 3)
        reference, null = (rng.uniform(size=(2, 120)) < ease).astype(float)
        planted = np.where(rng.uniform(size=120) < 0.4, 1.0, null)
        for name, treatment in (("null", null), ("planted", planted)):
            sums, _ = cluster_sums(treatment - reference, tables)
            found[name] += sign_flip_p(sums) <= 0.05
    low, high = stats.binom.interval(0.999, 500, 0.05)
    assert low <= found["null"] <= high
    assert found["planted"] >= 0.8 * 500


def test_mcnemar_is_not_printed_where_it_does_not_hold() -> None:
    ones, zeros = np.ones((4, 1)), np.zeros((4, 1))
    assert paired_comparison(ones, zeros, ["a", "a", "b", "c"]).mcnemar is None
    assert paired_comparison(np.ones((4, 2)), zeros, ["a", "b", "c", "d"]).mcnemar is None


def test_seeds_are_averaged_before_anything_else() -> None:
    treatment = np.array([[1, 0], [1, 1], [0, 1]], dtype=float)
    reference = np.zeros((3, 1))
    result = paired_comparison(treatment, reference, ["a", "b", "c"])
    assert (result.difference, result.num_samples) == (pytest.approx(2 / 3), 3)
    assert result.p_value == sign_flip_p(np.array([0.5, 1, 0.5]))
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


def test_the_bootstrap_of_single_questions_is_scipys() -> None:
    values = np.random.default_rng(4).normal(size=80)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=5
    ).confidence_interval
    interval = cluster_bootstrap_interval(values, range(80), draws=20_000)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.015)
    assert interval == cluster_bootstrap_interval(values, range(80), draws=20_000)


def test_repeating_every_question_ten_times_makes_no_interval_narrower() -> None:
    values = np.random.default_rng(6).integers(0, 2, 50).astype(float)
    once = cluster_bootstrap_interval(values, range(50))
    tenfold = cluster_bootstrap_interval(np.repeat(values, 10), np.repeat(np.arange(50), 10).tolist())
    assert once == tenfold


def test_the_cluster_interval_covers_as_often_as_it_says() -> None:
    """200 tasks of 40 tables with 6 questions each, whose tables differ: about 95 % must hold the truth."""
    rng = np.random.default_rng(7)
    clusters = [number // 6 for number in range(240)]
    held = {"cluster": 0, "wilson": 0}
    for _ in range(200):
        correct = (rng.uniform(size=240) < np.repeat(rng.beta(1, 1, size=40), 6)).astype(int).tolist()
        interval, narrow = accuracy_interval(correct, clusters), wilson_interval(sum(correct), 240)
        held["cluster"] += interval.low <= 0.5 <= interval.high
        held["wilson"] += narrow.low <= 0.5 <= narrow.high
    low, high = stats.binom.interval(0.999, 200, 0.95)
    assert low <= held["cluster"] <= high
    assert held["wilson"] < low  # why clusters are needed


def test_the_interval_of_an_accuracy_is_chosen_by_the_contexts() -> None:
    assert accuracy_interval([1, 0, 1], ["a", "b", "c"]) == wilson_interval(2, 3)
    clustered = accuracy_interval([1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"])
    assert clustered == cluster_bootstrap_interval([1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"])
    assert accuracy_interval([1] * 6, ["a", "a", "a", "b", "b", "b"]) == wilson_interval(2, 2)
    assert accuracy_interval([1, 0], ["a", "a"]) == wilson_interval(0.5, 1)
    assert accuracy_interval([], []) == wilson_interval(0, 0)


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
