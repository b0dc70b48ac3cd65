"""The sampling error agrees with the analysis of variance, with Student's t and with simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patchwork import statistics
from patchwork.statistics import SamplingError, influence, sampling_error
from scipy import stats


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def table(k, n):
    return np.repeat(np.arange(k), n), np.tile(np.arange(n), k)


def crossed(seed, k, n, columns=1, sds=(0.4, 0.7, 1.0)):
    rng, (seeds, images) = generator(seed), table(k, n)
    parts = rng.standard_normal((k, columns))[seeds], rng.standard_normal((n, columns))[images]
    rest = rng.standard_normal((k * n, columns))
    return sds[0] * parts[0] + sds[1] * parts[1] + sds[2] * rest, seeds, images


def of_means(values, seeds, images=None):
    return sampling_error(values - values.mean(0), seeds, images)


def naive_mean_squares(y):
    """Mean squares of a full table, by loops over their definition."""
    k, n = y.shape
    seed = n * sum((y[i].mean() - y.mean()) ** 2 for i in range(k)) / (k - 1)
    image = k * sum((y[:, j].mean() - y.mean()) ** 2 for j in range(n)) / (n - 1)
    rest = sum(
        (y[i, j] - y[i].mean() - y[:, j].mean() + y.mean()) ** 2 for i in range(k) for j in range(n)
    ) / ((k - 1) * (n - 1))
    return seed, image, rest


@pytest.mark.parametrize(("k", "n"), [(3, 12), (9, 4), (2, 2)])
def test_variances_are_the_mean_squares(k, n):
    y, seeds, images = crossed(k, k, n)
    seed, image, rest = naive_mean_squares(y.reshape(k, n))
    order = generator(0).permutation(k * n)
    found = of_means(y[order], seeds[order], images[order])
    few, many = (seed, image) if k <= n else (image, seed)
    expected = few / (k * n), min(k, n) - 1, max(many - rest, 0) / (k * n), max(k, n) - 1
    parts = found.few, found.df_few, found.many, found.df_many
    assert [part.item() for part in parts] == pytest.approx(expected)


def test_the_residual_of_a_table_with_holes_is_that_of_least_squares():
    y, seeds, images = crossed(1, 4, 15)
    kept = generator(2).random(60) < 0.7
    y, seeds, images = y[kept], seeds[kept], images[kept]
    design = np.column_stack([seeds[:, None] == np.arange(4), images[:, None] == np.arange(15)])
    fit = np.linalg.lstsq(design.astype(float), y - y.mean(), rcond=None)[0]
    left = ((y - y.mean() - design @ fit) ** 2).sum()
    df = len(y) - np.linalg.matrix_rank(design)
    images_alone = of_means(y, images).few
    assert of_means(y, seeds, images).many == pytest.approx(
        np.maximum(images_alone - left / df / len(y), 0)
    )


def test_images_of_one_seed_each_are_its_examples():
    y, seeds, _ = crossed(3, 5, 8)
    own = of_means(y, seeds, np.arange(40))
    peer = stats.ttest_1samp(y.reshape(5, 8).mean(1), 0)
    assert own.standard_error == pytest.approx([stats.sem(y.reshape(5, 8).mean(1))])
    assert own.p_value(y.mean(0)) == pytest.approx([peer.pvalue], rel=1e-6)
    assert (own.many.item(), own.df_few.item()) == (0, pytest.approx(4))
    assert own.half_width() == pytest.approx(of_means(y, seeds).half_width())


@pytest.mark.parametrize("df", [1, 2, 4, 9, 30, 500])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_a_single_term_is_student_t(df, level):
    peer = stats.t.ppf((1 + level) / 2, df)
    for few, many in ((4.0, 0.0), (0.0, 4.0)):
        dfs = (df, np.inf) if few else (2, df)
        one = SamplingError(*(np.array([x], float) for x in (few, dfs[0], many, dfs[1])))
        assert one.half_width(level) == pytest.approx([2 * peer], rel=1e-4)
        assert one.tail([2 * peer]) == pytest.approx([(1 - level) / 2], rel=1e-4)


def test_two_terms_are_the_sum_of_two_t_variables():
    rng, share = generator(4), 0.3
    drawn = np.sqrt(share) * rng.standard_t(2, 10**6)
    drawn += np.sqrt(1 - share) * rng.standard_t(7, 10**6)
    one = SamplingError(*(np.array([x]) for x in (share, 2.0, 1 - share, 7.0)))
    for level in (0.5, 0.9, 0.95, 0.99):
        assert one.half_width(level)[0] == pytest.approx(
            np.quantile(np.abs(drawn), level), rel=0.01
        )
    assert one.p_value([6.0])[0] == pytest.approx(np.mean(np.abs(drawn) > 6), rel=0.05)


@settings(max_examples=15, deadline=None)
@given(
    share=st.floats(0, 1),
    dfs=st.tuples(st.integers(1, 40), st.integers(1, 400)),
    level=st.floats(0.5, 0.99),
)
def test_quantiles_invert_tails_and_lie_between_those_of_their_terms(share, dfs, level):
    one = SamplingError(*(np.array([x], float) for x in (share, dfs[0], 1 - share, dfs[1])))
    half = one.half_width(level)
    assert one.tail(half) == pytest.approx([(1 - level) / 2], rel=1e-3)
    least, most = stats.norm.ppf((1 + level) / 2), stats.t.ppf((1 + level) / 2, min(dfs))
    assert least * 0.999 <= half[0] <= np.sqrt(2) * most * 1.001


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.01, 100), shift=st.floats(-1e3, 1e3))
def test_errors_scale_with_the_unit_and_not_with_the_place(scale, shift):
    y, seeds, images = crossed(5, 3, 10)
    one, other = (of_means(x, seeds, images) for x in (y, scale * y + shift))
    assert other.half_width() == pytest.approx(scale * one.half_width(), rel=1e-6)


def test_columns_do_not_touch_each_other():
    y, seeds, images = crossed(6, 4, 9, columns=5)
    together = of_means(y, seeds, images).half_width()
    alone = [of_means(y[:, [i]], seeds, images).half_width()[0] for i in range(5)]
    assert together == pytest.approx(alone, rel=1e-9)


def test_one_thing_alone_has_no_error_and_no_variance_has_no_width():
    assert np.isnan(of_means(np.ones((4, 1)), np.zeros(4), np.zeros(4)).half_width()).all()
    certain = of_means(np.zeros((6, 1)), *table(2, 3))
    assert certain.half_width() == 0
    assert certain.p_value([0.0]) == 1
    assert certain.p_value([0.1]) == 0


@pytest.mark.parametrize("period", [None, 360.0])
def test_influence_of_a_statistic_of_means_is_what_leaving_a_row_out_shows(period):
    rng, n = generator(7), 400
    values = rng.normal([2.0, 5.0, 1.0], 1.0, (n, 3))

    def statistic(means):
        place = np.rad2deg(np.arctan2(means[..., 0], means[..., 1])) - 21.8  # just above zero
        return np.mod(place, period) if period else means[..., 0] * means[..., 2] / means[..., 1]

    found = influence.of_means(values, statistic, period)
    without = np.array([statistic(np.delete(values, i, 0).mean(0)) for i in range(n)])
    apart = found.value - without
    if period:
        apart = np.mod(apart + period / 2, period) - period / 2
    assert found.influence[:, 0] == pytest.approx((n - 1) * apart, abs=0.1 * np.std(apart) * n)
    assert found.influence.sum(0) == pytest.approx([0], abs=1e-6)


def test_fisher_z_is_the_mean_of_each_seeds_own():
    rng, (seeds, _) = generator(8), table(3, 50)
    x = rng.standard_normal(150)
    y = x * np.array([0.5, 1.0, 2.0])[seeds] + rng.standard_normal(150) + 10 * seeds
    own = [np.arctanh(np.corrcoef(x[seeds == i], y[seeds == i])[0, 1]) for i in range(3)]
    found = influence.fisher_z(x, y, seeds)
    assert found.value == pytest.approx([np.mean(own)])
    without = np.array(
        [influence.fisher_z(*(np.delete(a, i) for a in (x, y, seeds))).value[0] for i in range(150)]
    )
    apart = 149 * (found.value - without)
    assert np.corrcoef(found.influence[:, 0], apart)[0, 1] > 0.995
    assert np.std(found.influence) == pytest.approx(np.std(apart), rel=0.1)
    silent = np.where(seeds == 0, 7.0, y)
    assert influence.fisher_z(x, silent, seeds).value == pytest.approx([np.mean([0, *own[1:]])])


def test_a_rank_correlation_has_the_spread_of_its_sampling_distribution():
    """The ranks of the means of five things, of which neighbours often swap."""
    true, trials = np.array([0.0, 0.3, 0.1, 0.2, 0.4]), 150
    seeds, images = table(3, 40)
    fixed = (np.arange(5) - 2.0) / np.arange(5).std()

    def correlation(means):
        ranks = stats.rankdata(means, axis=-1)
        return ((ranks - 3) * fixed).mean(-1) / ranks.std(-1)

    found = []
    for trial in range(trials):
        rng = generator(trial)
        values = true + rng.standard_normal((120, 5))
        one = influence.of_rough_means(values, correlation, seeds, images)
        error = sampling_error(one.influence, seeds, images)
        found.append((one.value[0], error.standard_error[0]))
    values, errors = np.array(found).T
    assert 0.8 < np.mean(errors) / np.std(values) < 1.7


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_shares_of_none_and_all_have_width(rate):
    seeds, images = table(3, 40)
    one = statistics.share_intervals(np.full(120, rate), seeds, images)[0]
    peer = stats.binomtest(int(40 * rate), 40).proportion_ci(method="exact")
    assert (one.low, one.high) == pytest.approx((peer.low, peer.high))
    assert one.low <= one.low90 <= one.high90 <= one.high


def test_shares_of_independent_examples_are_about_the_exact_binomial():
    hits = np.arange(500) < 40
    one = statistics.share_intervals(hits.astype(float))[0]
    peer = stats.binomtest(40, 500).proportion_ci(method="exact")
    assert (one.low, one.high) == pytest.approx((peer.low, peer.high), abs=1e-3)


def test_the_ratio_of_paired_means_is_fiellers():
    rng, n = generator(9), 8
    top, bottom = rng.normal(1.0, 1, n), rng.normal(3.0, 1, n)
    one = statistics.ratio_interval(top, bottom)
    for end in (one.low, one.high):
        assert stats.ttest_1samp(top - end * bottom, 0).pvalue == pytest.approx(0.05, rel=1e-3)
    for end in (one.low90, one.high90):
        assert stats.ttest_1samp(top - end * bottom, 0).pvalue == pytest.approx(0.10, rel=1e-3)
    unsure = statistics.ratio_interval(top, bottom - bottom.mean() + 0.01)
    assert np.isnan([unsure.low, unsure.high]).all()
    exact = statistics.ratio_interval(0.3 * bottom, bottom)
    assert (exact.low, exact.high) == pytest.approx((0.3, 0.3))


def test_a_family_of_intervals_is_as_wide_as_bonferroni_asks():
    y, seeds, images = crossed(10, 4, 20)
    one = statistics.interval(y, seeds, units=images, family=5)
    half = of_means(y, seeds, images).half_width(1 - 0.05 / 5)[0]
    assert one.high - one.estimate == pytest.approx(half)
