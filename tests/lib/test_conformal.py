"""Split-conformal intervals cover what they promise, and only where they may."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patchwork.statistics import binomial_interval, conformal
from scipy import stats


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


@given(st.integers(1, 60), st.floats(0.05, 0.95))
def test_the_half_width_is_the_smallest_residual_with_enough_below(n, coverage):
    residuals = generator(n).standard_normal(n)
    half = conformal.half_width(residuals, coverage)
    enough = [
        size
        for size in np.abs(residuals)
        if (np.abs(residuals) <= size).sum() >= (n + 1) * coverage - 1e-9
    ]
    assert half == min(enough, default=math.inf)


def test_nine_residuals_are_just_enough_for_ninety_percent():
    residuals = np.arange(1.0, 10.0)
    assert conformal.half_width(residuals, 0.9) == 9
    assert conformal.half_width(residuals[:8], 0.9) == math.inf
    assert conformal.half_width(residuals, 0.5) == 5


def test_the_chance_to_cover_the_next_example_is_exact():
    # With continuous residuals it is ceil((n + 1) coverage) / (n + 1), whatever their law.
    rng, n, repeats = generator(1), 25, 40_000
    draws = rng.gamma(0.5, size=(repeats, n + 1))
    ranks = np.partition(draws[:, :n], 23, axis=1)[:, 23]
    assert [conformal.half_width(row[:n], 0.9) for row in draws[:200]] == list(ranks[:200])
    low, high = binomial_interval(float((draws[:, n] <= ranks).sum()), repeats, 0.999)
    assert low <= 24 / 26 <= high


def measured(rng, spread=1.0, n=400):
    """Coverage on one half that is spread wider than the calibrating half."""
    calibrates = np.arange(n) % 2 == 0
    residuals = rng.standard_normal(n) * np.where(calibrates, 1.0, spread)
    return conformal.split_conformal(residuals, calibrates, coverage=0.9).iloc[0]


def test_exchangeable_halves_are_covered_as_promised_over_many_repeats():
    rng, repeats = generator(2), 400
    rows = [measured(rng) for _ in range(repeats)]
    mean = np.mean([row["coverage"] for row in rows])
    # Chance of one example: 181 / 201.
    spread = np.std([row["coverage"] for row in rows]) / math.sqrt(repeats)
    assert abs(mean - 181 / 201) < 3.5 * spread
    inside = sum(row["expected_low"] <= row["coverage"] <= row["expected_high"] for row in rows)
    low, high = binomial_interval(inside, repeats, 0.999)
    assert high >= 0.95
    assert low <= 0.98  # the range is not needlessly wide


def test_a_shifted_half_loses_its_coverage_and_the_interval_says_so():
    row = measured(generator(3), spread=2.0)
    assert row["coverage"] == pytest.approx(2 * stats.norm.cdf(1.645 / 2) - 1, abs=0.1)
    assert row["ci_high"] < 0.9
    assert row["coverage"] < row["expected_low"]


def test_groups_of_their_own_cover_each_where_one_width_covers_neither():
    rng, n = generator(4), 8000
    wide = np.arange(n) % 4 >= 2
    calibrates = np.arange(n) % 2 == 0
    residuals = rng.standard_normal(n) * np.where(wide, 5.0, 1.0)
    groups = np.where(wide, "wide", "narrow")
    own = conformal.split_conformal(residuals, calibrates, coverage=0.9, groups=groups)
    assert own["group"].tolist() == ["narrow", "wide"]
    assert own["coverage"].between(own["expected_low"], own["expected_high"]).all()
    assert own["half_width"].tolist() == pytest.approx([1.645, 5 * 1.645], rel=0.06)
    assert own["n"].tolist() == own["n_calibration"].tolist() == [2000, 2000]
    shared = conformal.split_conformal(residuals, calibrates, coverage=0.9)["half_width"][0]
    covered = [(np.abs(residuals[wide == one]) <= shared).mean() for one in (False, True)]
    assert covered[0] > 0.99
    assert covered[1] < 0.85


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (3, 7), (90, 100)])
def test_the_binomial_interval_is_that_of_scipy(successes, n):
    peer = stats.binomtest(successes, n).proportion_ci(method="exact")
    assert binomial_interval(successes, n) == pytest.approx((peer.low, peer.high))


def test_the_expected_range_is_that_of_a_simulation():
    rng, n, m = generator(5), 40, 60
    residuals = rng.random((20_000, n + m))
    half = np.sort(residuals[:, :n], axis=1)[:, 36]
    coverage = (residuals[:, n:] <= half[:, None]).mean(1)
    low, high = conformal.expected_range(n, m, 0.9)
    assert np.quantile(coverage, [0.025, 0.975]) == pytest.approx([low, high], abs=1 / m + 1e-9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: conformal.half_width(np.array([1.0, np.nan]), 0.9), "residuals"),
        (lambda: conformal.half_width(np.ones(9), 1.0), "coverage is 1.0"),
        (lambda: binomial_interval(6, 5), "successes is 6"),
        (
            lambda: conformal.split_conformal(np.ones(3), np.ones(3, bool), coverage=0.9),
            "leaves no example",
        ),
        (
            lambda: conformal.split_conformal(np.ones(3), np.ones(2, bool), coverage=0.9),
            "calibrates has 2",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)
