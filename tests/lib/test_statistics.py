"""Intervals cover, tests keep their level, planted effects are found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patchwork import statistics
from patchwork.statistics import Resampling
from scipy import stats

QUICK = Resampling(n_resamples=200)


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def within(count, n, rate):
    """Whether a count is in the central 99.8 % of its binomial distribution."""
    low, high = stats.binom.interval(0.998, n, rate)
    return low <= count <= high


def nested(rng, k, m, between, inside=1.0):
    values = between * rng.standard_normal((k, 1)) + inside * rng.standard_normal((k, m))
    return values.reshape(-1), np.repeat(np.arange(k), m)


@pytest.mark.parametrize("k", [3, 4, 5])
def test_coverage_with_few_clusters(k):
    trials, hits, plain = 400, 0, 0
    for trial in range(trials):
        values, clusters = nested(generator(trial), k, 12, between=1.0)
        found = statistics.cluster_bootstrap(values, clusters, resampling=QUICK)
        hits += found.low <= 0 <= found.high
        means = statistics.bootstrap_means(values, clusters, QUICK)[:, 0]
        low, high = np.quantile(means, [0.025, 0.975])
        plain += low <= 0 <= high
    # Exact 95 % when clusters differ much; noise inside clusters makes it a little wide.
    assert 0.93 <= hits / trials <= 0.995
    assert plain / trials < hits / trials - 0.03


def test_coverage_when_all_clusters_see_the_same_units():
    trials, hits = 300, 0
    k, m = 4, 30
    for trial in range(trials):
        rng = generator(trial)
        shared = rng.standard_normal(m)
        values = (shared + 0.3 * rng.standard_normal((k, 1))).reshape(-1)
        clusters, units = np.repeat(np.arange(k), m), np.tile(np.arange(m), k)
        crossed = statistics.cluster_bootstrap(values, clusters, units=units, resampling=QUICK)
        hits += crossed.low <= 0 <= crossed.high
    assert hits / trials >= 0.93


def test_one_cluster_resamples_its_examples():
    rng, hits = generator(0), 0
    for _ in range(400):
        found = statistics.cluster_bootstrap(
            rng.standard_normal(20), np.zeros(20), resampling=QUICK
        )
        hits += found.low <= 0 <= found.high
    assert found.clusters == 1
    assert 0.92 <= hits / 400 <= 0.98
    alone = statistics.cluster_bootstrap(np.array([3.0]), np.array([0]))
    assert alone.estimate == 3
    assert np.isnan(alone.low)


def test_nested_weights_agree_with_a_naive_two_level_bootstrap():
    rng = generator(5)
    sizes = (3, 9, 20)
    groups = [rng.normal(i, 1 + i, size) for i, size in enumerate(sizes)]
    naive = []
    for _ in range(4000):
        drawn = [groups[j] for j in rng.integers(3, size=3)]
        picks = np.concatenate([g[rng.integers(len(g), size=len(g))] for g in drawn])
        naive.append(picks.mean())
    # Clusters out of order: labels, not positions, say who belongs together.
    order = rng.permutation(sum(sizes))
    values, clusters = np.concatenate(groups)[order], np.repeat(["c", "a", "b"], sizes)[order]
    fast = statistics.bootstrap_means(values, clusters, Resampling(4000))[:, 0]
    assert np.std(fast) == pytest.approx(np.std(naive), rel=0.06)
    assert stats.ks_2samp(fast, naive).pvalue > 1e-3


def test_statistics_of_means_see_the_same_draws():
    rng = generator(6)
    x = rng.standard_normal(60)
    values = np.stack([x, 2 * x + 1], axis=1)
    means = statistics.bootstrap_means(values, np.repeat(np.arange(3), 20), QUICK)
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0] + 1)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.01, 100), shift=st.floats(-1e3, 1e3))
def test_intervals_move_with_the_unit(scale, shift):
    values, clusters = nested(generator(1), 4, 6, 1.0)
    a = statistics.cluster_bootstrap(values, clusters, resampling=QUICK)
    b = statistics.cluster_bootstrap(scale * values + shift, clusters, resampling=QUICK)
    assert b.low == pytest.approx(scale * a.low + shift, abs=1e-6 * (1 + abs(shift)))
    assert b.high == pytest.approx(scale * a.high + shift, abs=1e-6 * (1 + abs(shift)))


def test_the_seed_decides_the_interval():
    values, clusters = nested(generator(2), 4, 6, 1.0)
    first = statistics.cluster_bootstrap(values, clusters, resampling=QUICK)
    assert first == statistics.cluster_bootstrap(values, clusters, resampling=QUICK)
    assert first != statistics.cluster_bootstrap(
        values, clusters, resampling=Resampling(200, seed=1)
    )


def test_interval_on_a_circle_goes_the_short_way():
    replicates = np.mod(generator(0).normal(359, 2, 2000), 360)
    found = statistics.interval_of(359, replicates, n=100, clusters=5, period=360)
    half = stats.t.ppf(0.975, 4) * 2 * np.sqrt(5 / 4)
    assert found.high - 359 == pytest.approx(half, rel=0.06)
    wild = statistics.interval_of(
        10, generator(0).uniform(0, 360, 2000), n=100, clusters=5, period=360
    )
    assert wild.high - wild.low == 360


def test_paired_differences_are_sharper_than_their_parts():
    rng = generator(3)
    clusters = np.repeat(np.arange(5), 40)
    base = 5 * rng.standard_normal(5)[clusters] + rng.standard_normal(200)
    treated = base + 0.3 + 0.05 * rng.standard_normal(200)
    paired = statistics.paired_bootstrap(treated, base, clusters)
    alone = statistics.cluster_bootstrap(treated, clusters)
    assert paired.low < 0.3 < paired.high
    assert paired.low > 0
    assert paired.high - paired.low < 0.02 * (alone.high - alone.low)


def test_false_discovery_rate_agrees_with_the_definition():
    p = generator(4).random(50) ** 2
    order = np.argsort(p)
    stepped = p[order] * 50 / np.arange(1, 51)
    expected = np.empty(50)
    expected[order] = np.minimum.accumulate(stepped[::-1])[::-1].clip(max=1)
    grid = np.append(p, np.nan).reshape(3, 17)
    found = statistics.false_discovery_rate(grid)
    np.testing.assert_allclose(found.reshape(-1)[:-1], expected)
    assert np.isnan(found[-1, -1])


def test_effect_table_finds_the_planted_cell_and_not_the_dead_one():
    rng = generator(7)
    differences = rng.standard_normal((200, 24))
    differences[:, 5] += 0.6
    differences[:, 9] = 0
    table = statistics.effect_table(differences, None)
    assert table["q"].idxmin() == 5
    assert table.loc[5, "ci_low"] > 0
    assert table.loc[9, ["effect", "ci_low", "ci_high", "p"]].tolist() == [0, 0, 0, 1]
    assert list(table.columns) == ["effect", "ci_low", "ci_high", "p", "q", "n"]
    np.testing.assert_allclose(
        table["p"].drop(9), stats.ttest_1samp(differences, 0).pvalue[np.arange(24) != 9], atol=0.03
    )


def test_effect_table_is_calibrated_under_the_null():
    flagged, covered = 0, 0
    for trial in range(60):
        table = statistics.effect_table(generator(trial).standard_normal((60, 20)), None,
                                        resampling=QUICK)  # fmt: skip
        flagged += (table["p"] < 0.05).sum()
        covered += (table["q"] < 0.05).any()
    assert 0.03 < flagged / 1200 < 0.07
    assert within(covered, 60, 0.05)


@pytest.mark.parametrize("grouped", [False, True])
def test_max_t_keeps_the_family_wise_level(grouped):
    trials, hits = 150, 0
    for trial in range(trials):
        rng = generator(trial)
        noise = rng.standard_t(5, (40, 15)) + rng.standard_normal((40, 1))
        clusters = None
        if grouped:  # examples that come in tens of copies are no evidence of their own
            noise, clusters = np.repeat(noise, 3, axis=0), np.repeat(np.arange(40), 3)
        hits += statistics.max_t_p(noise, clusters, n_flips=199, seed=trial).min() <= 0.05
    assert within(hits, trials, 0.05)


def test_max_t_agrees_with_a_naive_loop_and_finds_the_planted_cell():
    rng = generator(9)
    differences = rng.standard_normal((30, 6))
    differences[:, 2] += 1.2
    p = statistics.max_t_p(differences, n_flips=4000)
    top = [
        np.abs(stats.ttest_1samp(differences * rng.choice([-1, 1], (30, 1)), 0).statistic).max()
        for _ in range(1500)
    ]
    true = np.abs(stats.ttest_1samp(differences, 0).statistic)
    np.testing.assert_allclose(p, [(np.array(top) >= t).mean() for t in true], atol=0.05)
    assert p.argmin() == 2
    assert p[2] < 0.01


def test_equivalence_needs_evidence_not_silence():
    clusters = np.repeat(np.arange(5), 30)
    rng = generator(11)
    small = 0.01 + 0.1 * rng.standard_normal(150)
    assert statistics.equivalence_test(small, 0.2, clusters).equivalent
    assert not statistics.equivalence_test(small + 0.3, 0.2, clusters).equivalent
    noisy = nested(rng, 5, 30, between=1.0)[0]
    assert not statistics.equivalence_test(noisy, 0.2, clusters).equivalent
    found = statistics.equivalence_test(small, 0.2, clusters)
    inside = max(-found.interval.low, found.interval.high) < 0.2
    assert inside == found.equivalent


def test_equivalence_level_at_the_margin():
    hits = sum(
        statistics.equivalence_test(
            0.5 + generator(trial).standard_normal(30), 0.5, None, resampling=QUICK
        ).equivalent
        for trial in range(300)
    )
    assert hits / 300 < 0.09


def test_ratios_of_means_cover_and_tell_equivalence():
    hits, n = 0, 120
    for trial in range(n):
        rng = generator(trial)
        whole = 2 + 0.3 * rng.standard_normal(40)
        values = 0.5 * whole[:, None] + 0.1 * rng.standard_normal((40, 2))
        values[:, 1] = 0
        table = statistics.ratio_table(values, whole, None, resampling=QUICK, scale=100, margin=1.0)
        hits += table.loc[0, "ci_low"] <= 50 <= table.loc[0, "ci_high"]
    assert within(hits, n, 0.95)
    assert table["ratio"].tolist() == pytest.approx([100 * values[:, 0].mean() / whole.mean(), 0])
    assert table["mean"].tolist() == pytest.approx(values.mean(0).tolist())
    assert table["p"].tolist() == pytest.approx([0, 1], abs=1e-9)
    assert table["equivalent"].tolist() == [False, True]
    assert "equivalent" not in statistics.ratio_table(values, whole, None, resampling=QUICK)


def test_over_seeds_leaves_out_what_is_unknown_and_what_cannot_be():
    row = statistics.over_seeds(np.array([0.9, np.nan, 1.0, 0.8]), QUICK, (0, 1))
    assert row["estimate"] == pytest.approx(0.9)
    assert (row["seeds"], row["ci_high"]) == (3, 1)
    assert row["ci_low"] < 0.9
    assert statistics.over_seeds(np.array([np.nan]), QUICK)["seeds"] == 0


def test_split_half_confirms_the_planted_cells_only():
    rng = generator(13)
    units = np.repeat(np.arange(100), 3)
    differences = rng.standard_normal((100, 30))[units] + 0.2 * rng.standard_normal((300, 30))
    differences[:, [3, 17]] += 1.0
    table = statistics.split_half(differences, units)
    assert set(table.loc[table["confirmed"], "cell"]) == {3, 17}
    assert statistics.split_half(rng.standard_normal((40, 5)), q=1e-6).empty


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: statistics.cluster_bootstrap(np.array([1, np.nan]), None), "values.*finite"),
        (lambda: statistics.cluster_bootstrap(np.ones(3), np.ones(2)), "clusters has 2 labels"),
        (lambda: statistics.paired_bootstrap(np.ones(3), np.ones(2), None), r"treated.*\(3,\)"),
        (lambda: statistics.equivalence_test(np.ones(3), 0, None), "margin is 0"),
        (lambda: statistics.split_half(np.ones((3, 2))), "units has 3"),
        (lambda: statistics.effect_table(np.ones((1, 2)), None), "differences has 1"),
        (lambda: statistics.effect_table(np.full((3, 2), np.nan), None), "differences holds nan"),
        (lambda: statistics.max_t_p(np.ones((3, 2)), n_flips=-3), "n_flips is -3"),
        (lambda: statistics.max_t_p(np.full((3, 2), np.nan)), "differences holds nan"),
        (lambda: statistics.equivalence_test(np.ones(3), 1, None, alpha=0.5), "alpha is 0.5"),
        (lambda: statistics.equivalence_test(np.ones((3, 2)), 1, None), r"differences.*\(3, 2\)"),
        (lambda: statistics.paired_bootstrap(*np.ones((2, 3, 2)), None), r"treated.*\(3, 2\)"),
        (lambda: Resampling(n_resamples=3), "n_resamples is 3"),
        (lambda: Resampling(confidence=95), "confidence is 95"),
    ],
)
def test_bad_input_is_one_clear_line(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)
