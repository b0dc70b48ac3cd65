"""Intervals agree with their peers, tests keep their level, planted effects are found."""

import numpy as np
import pytest
from patchwork import statistics
from scipy import stats


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def within(count, n, rate):
    """Whether a count is in the central 99.8 % of its binomial distribution."""
    low, high = stats.binom.interval(0.998, n, rate)
    return low <= count <= high


def nested(rng, k, m, between, inside=1.0):
    values = between * rng.standard_normal((k, 1)) + inside * rng.standard_normal((k, m))
    return values.reshape(-1), np.repeat(np.arange(k), m)


def test_one_number_per_seed_has_student_t():
    x = generator(0).normal(2, 1, 5)
    one, peer = statistics.interval(x), stats.ttest_1samp(x, 0)
    for level, ends in ((0.95, (one.low, one.high)), (0.9, (one.low90, one.high90))):
        assert ends == pytest.approx(tuple(peer.confidence_interval(level)), rel=1e-4)
    assert one.p == pytest.approx(peer.pvalue)
    assert one.error == pytest.approx(stats.sem(x))
    assert (one.n, one.clusters) == (5, 5)
    alone = statistics.interval(np.array([3.0]), np.array([0]))
    assert alone.estimate == 3
    assert np.isnan([alone.low, alone.high, alone.p]).all()


def test_labels_not_positions_say_who_belongs_together():
    rng = generator(5)
    values, clusters = nested(rng, 4, 10, 1.0)
    order = rng.permutation(40)
    names = np.array(["c", "a", "d", "b"])[clusters]
    shuffled = statistics.interval(values[order], names[order])
    assert shuffled.high == pytest.approx(statistics.interval(values, clusters).high)


def test_an_interval_on_a_circle_goes_the_short_way_and_at_most_round_it():
    def place(means):
        return np.mod(np.rad2deg(np.arctan2(means[..., 1], means[..., 0])), 360)

    rng, seeds = generator(0), np.repeat(np.arange(5), 40)
    angle = np.deg2rad(359.5 + 10 * rng.standard_normal(200))
    one = statistics.interval(np.stack([np.cos(angle), np.sin(angle)], 1), seeds, place, period=360)
    peer = statistics.interval(np.rad2deg(angle), seeds)
    assert one.high - one.low == pytest.approx(peer.high - peer.low, rel=0.05)
    assert np.mod(one.estimate - peer.estimate + 180, 360) - 180 == pytest.approx(0, abs=0.1)
    lost = statistics.interval(rng.standard_normal((200, 2)), seeds, place, period=360)
    assert lost.high - lost.low <= 360


def test_intervals_are_mapped_and_kept_to_what_can_be():
    one = statistics.interval(generator(3).normal(0.5, 1, 6))
    squeezed = one.mapped(np.tanh)
    assert squeezed.low90 == pytest.approx(np.tanh(one.low90))
    assert squeezed.estimate == pytest.approx(np.tanh(one.estimate))
    kept = one.within(0.2, 0.6)
    assert (kept.low, kept.high) == (0.2, 0.6)
    assert kept.estimate == one.estimate
    assert np.isnan(statistics.unknown(0, 0).within(0, 1).low)


def test_paired_differences_are_sharper_than_their_parts():
    rng = generator(3)
    clusters = np.repeat(np.arange(5), 40)
    base = 5 * rng.standard_normal(5)[clusters] + rng.standard_normal(200)
    treated = base + 0.3 + 0.05 * rng.standard_normal(200)
    paired = statistics.paired_interval(treated, base, clusters)
    alone = statistics.interval(treated, clusters)
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
        table = statistics.effect_table(generator(trial).standard_normal((60, 20)), None)
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


def test_equivalence_needs_evidence_and_keeps_its_level_at_the_margin():
    clusters, rng = np.repeat(np.arange(5), 30), generator(11)
    small = 0.01 + 0.1 * rng.standard_normal(150)
    noisy = nested(rng, 5, 30, between=1.0)[0]
    table = statistics.ratio_table(
        np.stack([small, small + 0.3, noisy], 1), np.ones(150), clusters, margin=0.2
    )
    assert table["equivalent"].tolist() == [True, False, False]
    # Two one-sided tests at 5 % are the 90 % interval within the margin.
    one = statistics.interval(small, clusters)
    assert -0.2 < one.low90 < one.high90 < 0.2
    at_margin = 0.5 + rng.standard_normal((30, 2000))
    hits = statistics.ratio_table(at_margin, np.ones(30), None, margin=0.5)["equivalent"].sum()
    assert within(hits, 2000, 0.05)


def test_ratios_of_means_cover_and_tell_equivalence():
    hits, n = 0, 120
    for trial in range(n):
        rng = generator(trial)
        whole = 2 + 0.3 * rng.standard_normal(40)
        values = 0.5 * whole[:, None] + 0.1 * rng.standard_normal((40, 2))
        values[:, 1] = 0
        table = statistics.ratio_table(values, whole, None, scale=100, margin=1.0)
        hits += table.loc[0, "ci_low"] <= 50 <= table.loc[0, "ci_high"]
    assert within(hits, n, 0.95)
    assert table["ratio"].tolist() == pytest.approx([100 * values[:, 0].mean() / whole.mean(), 0])
    assert table["mean"].tolist() == pytest.approx(values.mean(0).tolist())
    assert table["p"].tolist() == pytest.approx([0, 1], abs=1e-9)
    assert table["equivalent"].tolist() == [False, True]
    assert "equivalent" not in statistics.ratio_table(values, whole, None)


def test_over_seeds_leaves_out_what_is_unknown_and_what_cannot_be():
    row = statistics.over_seeds(np.array([0.9, np.nan, 1.0, 0.8]), (0, 1))
    assert row["estimate"] == pytest.approx(0.9)
    assert (row["seeds"], row["ci_high"]) == (3, 1)
    assert row["ci_low"] < 0.9
    assert statistics.over_seeds(np.array([np.nan]))["seeds"] == 0


def test_heads_of_several_networks_have_a_share_with_width():
    seeds = np.repeat(np.arange(3), 16)
    none = statistics.share_over_seeds(np.zeros(48, bool), seeds)
    assert none.low == 0 < none.high < 0.1
    rng = generator(21)
    some = rng.random(48) < np.array([0.2, 0.4, 0.6])[seeds]
    one = statistics.share_over_seeds(some, seeds)
    assert 0 < one.low < some.mean() < one.high < 1
    assert np.isnan(statistics.share_over_seeds(some[:16], seeds[:16]).low)


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
        (lambda: statistics.interval(np.array([1, np.nan]), None), "values.*finite"),
        (lambda: statistics.interval(np.ones(3), np.ones(2)), "clusters has 2 labels"),
        (lambda: statistics.paired_interval(np.ones(3), np.ones(2), None), r"treated.*\(3,\)"),
        (lambda: statistics.ratio_table(np.ones(3), np.ones(3), None, margin=0), "margin is 0"),
        (lambda: statistics.split_half(np.ones((3, 2))), "units has 3"),
        (lambda: statistics.effect_table(np.ones((1, 2)), None), "differences has 1"),
        (lambda: statistics.effect_table(np.full((3, 2), np.nan), None), "differences holds nan"),
        (lambda: statistics.interval(np.ones(3)[:0]), r"values has shape \(0,\)"),
        (lambda: statistics.share_intervals(np.array([2.0, 3.0])), "values has means"),
        (lambda: statistics.binomial_interval(6, 5), "successes is 6"),
        (lambda: statistics.sampling_error(np.ones(3), np.ones(2)), "clusters has 2 labels"),
        (lambda: statistics.max_t_p(np.ones((3, 2)), n_flips=-3), "n_flips is -3"),
        (lambda: statistics.max_t_p(np.full((3, 2), np.nan)), "differences holds nan"),
        (lambda: statistics.paired_interval(*np.ones((2, 3, 2)), None), r"treated.*\(3, 2\)"),
    ],
)
def test_bad_input_is_one_clear_line(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)
