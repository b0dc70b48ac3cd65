"""Positive controls find what their interval could find, and extremes have intervals that cover."""

import numpy as np
import pytest
from patchwork import statistics
from patchwork.statistics.power import crossed_found, mean_found, seed_effects
from scipy import stats


def test_new_seeds_scatter_as_those_seen():
    values = np.array([[0.0, 1.0], [1.0, 3.0], [5.0, 2.0]])
    rng = np.random.default_rng(0)
    drawn = np.concatenate([seed_effects(values, rng) for _ in range(4000)])
    assert np.allclose(drawn.mean(0), 0, atol=0.1)
    assert np.allclose(np.cov(drawn.T), np.cov(values.T), rtol=0.05)


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_power_is_that_of_a_one_sided_t_test(shift):
    values = np.random.default_rng(1).standard_normal(6)
    sd = values.std(ddof=1)
    # A planted mean of 2 x bound: the test is whether it exceeds the bound.
    found = mean_found(values, 2 * shift * sd, (shift * sd, None), seed=0)
    power = 1 - stats.nct.cdf(stats.t.ppf(0.95, 5), 5, np.sqrt(6) * shift)
    low, high = (stats.binom.ppf(x, 100, power) / 100 for x in (0.001, 0.999))
    assert low <= found.estimate <= high


def test_one_seed_has_no_power():
    assert np.isnan(mean_found([1.0], 2.0, (1, None), seed=0).estimate)
    assert np.isnan(crossed_found(np.ones((1, 5)), 2.0, (1, None), seed=0).estimate)


def test_units_and_seeds_both_count_against_a_planted_mean():
    rng = np.random.default_rng(2)
    calm = 0.1 * rng.standard_normal((4, 1)) + 0.5 * rng.standard_normal((4, 30))
    restless = calm + 3 * rng.standard_normal((4, 1))
    share = {
        name: crossed_found(values, 1.0, (0.5, None), seed=0).estimate
        for name, values in (("calm", calm), ("seeds", restless))
    }
    assert share["calm"] > 0.9
    assert share["seeds"] < 0.3


def test_the_interval_of_the_greatest_covers_it():
    truth, hits = np.array([0.0, 0.0, 0.5]), 0
    for draw in range(100):
        values = truth[:, None] + np.random.default_rng(draw).normal(0, 1, (3, 8))
        plain, strict = ([statistics.interval(x, family=f) for x in values] for f in (1, 3))
        one = statistics.greatest(plain, strict)
        low = statistics.least(
            *([statistics.interval(-x, family=f) for x in values] for f in (1, 3))
        )
        assert low.estimate == -one.estimate
        assert (low.low90, low.high90) == pytest.approx((-one.high90, -one.low90))
        hits += one.low90 <= 0.5 <= one.high90
    assert hits >= 82
