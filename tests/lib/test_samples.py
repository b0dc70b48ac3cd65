"""Intervals and tests of one value per seed."""

import numpy as np
import pytest
from patchwork import statistics
from scipy import stats


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def test_the_sign_flip_counts_every_pattern():
    rng = generator(1)
    for n in (1, 2, 5, 8, 11):
        x = rng.normal(0.7, 1, n)
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        reached = np.abs(signs @ x) >= abs(x.sum()) * (1 - 1e-12)
        assert statistics.sign_flip_p(x) == reached.mean()
    assert statistics.sign_flip_p(np.arange(1, 8)) == 2 / 2**7
    assert statistics.sign_flip_p(np.zeros(5)) == 1
    many = rng.normal(0.4, 1, 30)
    p = stats.ttest_1samp(many, 0).pvalue
    assert statistics.sign_flip_p(many) == pytest.approx(p, abs=0.02)
    with pytest.raises(ValueError, match="finite"):
        statistics.sign_flip_p(np.array([1, np.nan]))


def test_holm_is_a_step_down_of_bonferroni():
    p = np.array([0.04, 0.01, 0.02])
    assert statistics.holm(p) == pytest.approx([0.04, 0.03, 0.04])
    rng = generator(2)
    for _ in range(50):
        values = rng.random(5) ** 3
        order = np.argsort(values)
        steps = [min(1, max(values[order[j]] * (5 - j) for j in range(i + 1))) for i in range(5)]
        assert statistics.holm(values)[order] == pytest.approx(steps)
    assert np.isnan(statistics.holm(np.array([np.nan, 0.02]))[0])
    assert statistics.holm(np.array([np.nan, 0.02]))[1] == pytest.approx(0.04)


def test_seeds_for_power_match_a_simulation():
    n = int(statistics.seeds_for_power(1.0, 1.0, alpha=0.05))
    rng = generator(3)
    for size, least, most in ((n, 0.78, 0.9), (n - 1, 0.5, 0.8)):
        p = stats.ttest_1samp(rng.normal(1, 1, (20000, size)), 0, axis=1).pvalue
        assert least < np.mean(p < 0.05) < most
    assert (
        statistics.seeds_for_power(100, 1, alpha=0.05) == 6
    )  # fewer cannot reach .05 by sign flips
    assert statistics.seeds_for_power(100, 1, alpha=0.05 / 3) == 7
    assert np.isnan(statistics.seeds_for_power(0.0, 1.0))


def test_the_interval_covers():
    rng = generator(6)
    x = rng.normal(2, 1, (2000, 5))
    inside = [one.low <= 2 <= one.high for one in map(statistics.t_interval, x)]
    low, high = stats.binom.interval(0.999, len(x), 0.95)
    assert low <= sum(inside) <= high
    assert np.isnan(statistics.t_interval(np.ones(1)).low)


def test_fieller_covers_the_ratio():
    rng = generator(7)
    hits, n = 0, 1500
    for _ in range(n):
        b = rng.normal(4, 1, 6)
        a = 0.3 * b + rng.normal(0, 0.7, 6)
        one = statistics.ratio_interval(a, b)
        hits += one.low <= 0.3 <= one.high
    low, high = stats.binom.interval(0.999, n, 0.95)
    assert low <= hits <= high
    assert np.isnan(statistics.ratio_interval(rng.normal(size=6), rng.normal(0, 1, 6)).low)
