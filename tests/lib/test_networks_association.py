import numpy as np
import pandas as pd
import pytest
from patchwork.networks import association, data
from scipy import stats

PROPERTIES = {"strengthening": 0.1, "margin": 0.05, "p": 0.8, "q": 0.1}


def _nodes(n_networks):
    parts = []
    for index in range(n_networks):
        weights = data.random_network(data.RandomNetworks(), 0, index).weights
        parts.append(association.node_properties(weights, **PROPERTIES).assign(network=index))
    nodes = pd.concat(parts, ignore_index=True)
    rng = np.random.default_rng(0)
    return nodes.assign(planted=np.exp(nodes["abscissa_change"]), noise=rng.random(len(nodes)))


def test_rank_correlation_is_spearmans():
    x, y = np.random.default_rng(0).integers(0, 5, (2, 12)).astype(float)
    assert association.rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y)[0])
    assert np.isnan(association.rank_correlation(x, np.ones(12)))


def test_partial_correlation_is_that_of_residual_ranks():
    rng = np.random.default_rng(1)
    given = rng.normal(size=40)
    x, y = given + rng.normal(size=40), given + rng.normal(size=40)
    ranks = [stats.rankdata(v) for v in (x, y, given)]
    residual = [r - np.polyval(np.polyfit(ranks[2], r, 1), ranks[2]) for r in ranks[:2]]
    expected = np.corrcoef(*residual)[0, 1]
    assert association.partial_rank_correlation(x, y, given) == pytest.approx(expected)
    assert np.isnan(association.partial_rank_correlation(x, y, x))
    plain = association.rank_correlation(x, y)
    assert association.partial_rank_correlation(x, y, np.ones(40)) == plain


def test_a_planted_score_is_found_and_noise_is_not():
    table = association.associations(_nodes(25), ["planted", "noise", "degree"])
    summary = association.over_networks(table, n_resamples=500, seed=0).set_index(
        ["score", "outcome", "kind"]
    )
    found = summary.loc["planted", "abscissa_change", "rank"]
    assert found["estimate"] == pytest.approx(1)
    assert found["n"] == 25
    null = summary.loc["noise", "abscissa_change", "rank"]
    assert null["ci_low"] < 0 < null["ci_high"]
    assert ("degree", "abscissa_change", "partial") not in summary.index


def test_interval_over_nodes_covers_the_null():
    rng = np.random.default_rng(3)
    rows = [
        (0, "s", "o", "rank", association.rank_correlation(*rng.normal(size=(2, 8))), 8)
        for _ in range(500)
    ]
    names = ["network", "score", "outcome", "kind", "correlation", "nodes"]
    result = association.within_network(pd.DataFrame(rows, columns=names))
    covered = ((result["ci_low"] <= 0) & (result["ci_high"] >= 0)).sum()
    assert covered >= stats.binom.ppf(0.001, 500, 0.93)


def test_profile_of_a_planted_score_is_the_diagonal():
    nodes = _nodes(12)
    profile = association.rank_profiles(
        nodes, ["planted", "noise"], ["abscissa_change"], n_resamples=200, seed=0
    ).set_index(["score", "rank"])
    np.testing.assert_allclose(profile.loc["planted", "estimate"], range(1, 9))
    assert profile.loc["noise", "estimate"].between(2.5, 6.5).all()


def test_random_baseline_is_centred_and_covers_chance():
    nodes = _nodes(1)
    null = association.random_baseline(nodes, n_draws=300, seed=0).set_index(["outcome", "kind"])
    row = null.loc["abscissa_change", "rank"]
    # for eight nodes rho has standard deviation 1 / sqrt(7)
    assert abs(row["estimate"]) < 4 / (7 * 300) ** 0.5
    assert row["ci_low"] == pytest.approx(-0.71, abs=0.12)
    assert row["ci_high"] == pytest.approx(0.71, abs=0.12)


def test_polarity_contrast_separates_negative_from_positive_loops():
    nodes = _nodes(15)
    nodes = nodes.assign(negative=nodes["negative_loop_gain"], both=nodes["degree"])
    table = association.polarity_contrasts(association.associations(nodes, ["negative", "both"]))
    summary = association.over_networks(table, n_resamples=200, seed=0)
    rank = summary[summary["kind"] == "rank"].set_index("score")
    assert rank.loc["negative", "ci_low"] > 0
    assert rank.loc["both", "ci_low"] < 0 < rank.loc["both", "ci_high"]
