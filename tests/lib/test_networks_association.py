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


def test_rank_correlations_are_spearmans():
    x, y = np.random.default_rng(0).integers(0, 5, (2, 3, 12)).astype(float)
    expected = [stats.spearmanr(a, b)[0] for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(association.rank_correlations(x, y), expected)
    assert np.isnan(association.rank_correlations(x, np.ones((3, 12)))).all()


def test_partial_correlations_are_those_of_residual_ranks():
    rng = np.random.default_rng(1)
    given = rng.normal(size=(4, 40, 2))
    x, y = given.sum(2) + rng.normal(size=(2, 4, 40))
    found = association.rank_correlations(x, y, given)
    for k in range(4):
        ranks = [stats.rankdata(v) for v in (x[k], y[k], *given[k].T)]
        design = np.column_stack([np.ones(40), *ranks[2:]])
        rest = [r - design @ np.linalg.lstsq(design, r)[0] for r in ranks[:2]]
        assert found[k] == pytest.approx(np.corrcoef(*rest)[0, 1])
    # a covariate that is constant, or another's copy, changes nothing
    plain = association.rank_correlations(x, y)
    np.testing.assert_allclose(association.rank_correlations(x, y, np.ones((4, 40, 1))), plain)
    once, twice = given[..., :1], given[..., [0, 0]]
    np.testing.assert_allclose(
        association.rank_correlations(x, y, once), association.rank_correlations(x, y, twice)
    )
    assert np.isnan(association.rank_correlations(x, y, x[..., None])).all()


def test_a_shift_of_the_correlation_is_what_was_asked_for():
    rng = np.random.default_rng(2)
    given = rng.normal(size=(400, 12, 2))
    x, y = given.sum(2) + rng.normal(size=(2, 400, 12))
    shifted = association.with_shifted_correlation(x, y, given, 0.2, rng)
    change = association.rank_correlations(x, shifted, given).mean()
    change -= association.rank_correlations(x, y, given).mean()
    assert change == pytest.approx(0.2, abs=0.03)


def test_a_planted_score_is_found_and_noise_is_not():
    table = association.associations(_nodes(25), ["planted", "noise", "out_degree"])
    summary = association.over_networks(table).set_index(["score", "outcome", "kind"])
    found = summary.loc["planted", "abscissa_change", "rank"]
    assert found["estimate"] == pytest.approx(1)
    assert found["n"] == 25
    null = summary.loc["noise", "abscissa_change", "rank"]
    assert null["ci_low"] < 0 < null["ci_high"]
    assert ("out_degree", "abscissa_change", "partial") not in summary.index


def test_networks_of_unequal_size_are_refused():
    nodes = _nodes(2).iloc[:-1]
    with pytest.raises(ValueError, match="one size"):
        association.associations(nodes, ["noise"])


def test_interval_over_nodes_covers_the_null():
    rng = np.random.default_rng(3)
    rho = association.rank_correlations(*rng.normal(size=(2, 500, 8)))
    rows = [(0, "s", "o", "rank", value, 8) for value in rho]
    names = ["network", "score", "outcome", "kind", "correlation", "nodes"]
    result = association.within_network(pd.DataFrame(rows, columns=names))
    covered = ((result["ci_low"] <= 0) & (result["ci_high"] >= 0)).sum()
    assert covered >= stats.binom.ppf(0.001, 500, 0.93)


def test_profile_of_a_planted_score_is_the_diagonal():
    profile = association.rank_profiles(_nodes(12), ["planted", "noise"], ["abscissa_change"])
    profile = profile.set_index(["score", "rank"])
    np.testing.assert_allclose(profile.loc["planted", "estimate"], range(1, 9))
    assert profile.loc["noise", "estimate"].between(2.5, 6.5).all()


def test_random_baseline_is_centred_and_covers_chance():
    null = association.random_baseline(_nodes(1), n_draws=300, seed=0)
    row = null.set_index(["outcome", "kind"]).loc["abscissa_change", "rank"]
    # for eight nodes rho has standard deviation 1 / sqrt(7)
    assert abs(row["estimate"]) < 4 / (7 * 300) ** 0.5
    assert row["ci_low"] == pytest.approx(-0.71, abs=0.12)
    assert row["ci_high"] == pytest.approx(0.71, abs=0.12)


def test_polarity_contrast_separates_negative_from_positive_loops():
    nodes = _nodes(15)
    nodes = nodes.assign(negative=nodes["negative_loop_gain"], both=nodes["out_degree"])
    summary = association.over_networks(association.associations(nodes, ["negative", "both"]))
    rank = summary[(summary["kind"] == "rank") & (summary["outcome"] == "polarity_contrast")]
    rank = rank.set_index("score")
    assert rank.loc["negative", "ci_low"] > 0
    assert rank.loc["both", "ci_low"] < 0 < rank.loc["both", "ci_high"]
