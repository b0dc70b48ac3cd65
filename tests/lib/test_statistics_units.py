"""One seed whose images have several rows each: images count, not rows."""

import numpy as np
import pytest
from patchwork import statistics
from scipy import stats

TRIALS = 2000


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def grouped(n_units, n_rows=10, trials=TRIALS):
    """Null data, one column per trial: rows of a unit share most of their noise."""
    rng, units = generator(n_units), np.repeat(np.arange(n_units), n_rows)
    noise = rng.standard_normal((n_units, trials))[units]
    return noise + 0.5 * rng.standard_normal((len(units), trials)), units


def seeds_of(one_seed, n):
    return np.zeros(n) if one_seed else None


@pytest.mark.parametrize("one_seed", [True, False])
@pytest.mark.parametrize("n_units", [4, 6, 10])
def test_intervals_of_units_with_several_rows_cover(n_units, one_seed):
    values, units = grouped(n_units)
    seeds = seeds_of(one_seed, len(values))
    table = statistics.effect_table(values, seeds, units=units)
    covered = ((table["ci_low"] <= 0) & (table["ci_high"] >= 0)).mean()
    assert stats.binom.interval(0.998, TRIALS, 0.95)[0] <= covered * TRIALS, covered
    assert covered < 0.97
    assert (table["p"] < 0.05).mean() == pytest.approx(1 - covered, abs=1e-9)


@pytest.mark.parametrize("one_seed", [True, False])
def test_the_interval_is_that_of_the_means_of_units(one_seed):
    values, units = grouped(5, trials=3)
    seeds = seeds_of(one_seed, len(values))
    means = values.reshape(5, 10, 3).mean(1)
    half = stats.t.ppf(0.975, 4) * means.std(0, ddof=1) / np.sqrt(5)
    table = statistics.effect_table(values, seeds, units=units)
    found = statistics.interval(values[:, 0], seeds, units=units)
    paired = statistics.paired_interval(values[:, 0], np.zeros(50), seeds, units)
    np.testing.assert_allclose(table["ci_high"] - table["effect"], half, rtol=1e-4)
    ends = table.loc[0, ["ci_low", "ci_high"]].tolist()
    assert [found.low, found.high] == pytest.approx(ends, rel=1e-9)
    assert paired == found
    assert (found.n, found.clusters) == (50, 1 if one_seed else 5)


@pytest.mark.parametrize("one_seed", [True, False])
def test_a_single_unit_says_nothing_however_many_rows_it_has(one_seed):
    values, seeds = 3 + generator(1).standard_normal((20, 2)), seeds_of(one_seed, 20)
    table = statistics.effect_table(values, seeds, units=np.zeros(20))
    np.testing.assert_allclose(table["effect"], values.mean(0))
    assert table[["ci_low", "ci_high", "p", "q"]].isna().all(axis=None)
    found = statistics.interval(values[:, 0], seeds, units=np.zeros(20))
    assert found.estimate == pytest.approx(values[:, 0].mean())
    assert np.isnan([found.low, found.high]).all()


def test_units_with_one_row_each_are_examples():
    values = generator(2).standard_normal(30)
    peer = stats.ttest_1samp(values, 0).confidence_interval()
    for seeds, units in ((np.zeros(30), np.arange(30)), (None, np.arange(30)), (None, None)):
        found = statistics.interval(values, seeds, units=units)
        assert (found.low, found.high) == pytest.approx((peer.low, peer.high), rel=1e-4)
