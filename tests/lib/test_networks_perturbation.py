import numpy as np
import pytest
from patchwork.networks import cycles, data, perturbation, spectral


def planted(sign):
    """Weak background; node 5 alone lies on both strong three-node loops of one sign."""
    rng = np.random.default_rng(3)
    weights = 0.05 * rng.normal(size=(8, 8)) * (rng.random((8, 8)) < 0.4)
    np.fill_diagonal(weights, -1.0)
    for a, b in ((0, 1), (2, 3)):
        weights[5, a] = weights[a, b] = 1.8
        weights[b, 5] = sign * 1.8
    return weights


def ring(n=8, negative=False):
    """Every node has the same place: damped ring with equal links."""
    weights = -np.eye(n) + 0.7 * np.roll(np.eye(n), 1, axis=1)
    weights += (-0.4 if negative else 0.4) * np.roll(np.eye(n), 2, axis=1)
    return weights


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_carrier_of_the_unstable_loop_is_found(sign):
    weights = planted(sign)
    assert spectral.spectral_abscissa(weights) > 0
    assert spectral.spectral_abscissa(np.where(np.eye(8) > 0, weights, 0.05)) < 0
    table = perturbation.node_instability(weights, 0.1, 0.05)
    for column in ("abscissa_change", "sensitivity"):
        ranked = table[column].sort_values(ascending=False)
        assert ranked.index[0] == 5
        assert ranked.iloc[0] > 1.3 * ranked.iloc[1]
    gains = cycles.loop_gain(weights)[:, int(sign > 0)]
    assert gains.argmax() == 5


@pytest.mark.parametrize("negative", [False, True])
def test_equal_nodes_cause_equal_instability(negative):
    table = perturbation.node_instability(ring(negative=negative), 0.1, 0.05)
    for column in table.columns.drop("node"):
        np.testing.assert_allclose(table[column], table[column][0], atol=1e-6)


def test_sensitivity_is_the_limit_of_the_change():
    weights = data.actuator().weights
    table = perturbation.node_instability(weights, 1e-6, 0.01)
    np.testing.assert_allclose(
        table["abscissa_change"] / 1e-6, table["sensitivity"], rtol=1e-2, atol=1e-4
    )


def test_changes_are_those_of_a_loop_over_nodes():
    weights = data.random_network(data.RandomNetworks(), 0, 0).weights
    table = perturbation.node_instability(weights, 0.2, 0.05)
    for node in range(8):
        changed = weights.copy()
        for k in range(8):
            if k != node:
                changed[node, k] *= 1.2
                changed[k, node] *= 1.2
        difference = spectral.spectral_abscissa(changed) - spectral.spectral_abscissa(weights)
        assert table["abscissa_change"][node] == pytest.approx(difference)


def test_sweep_passes_through_the_network_itself():
    weights = data.actuator().weights
    table = perturbation.sweep_edge(weights, (3, 0), np.array([-1.0, 0.0, 1.0]))
    here = table[(table["factor"] == 1) & (table["quantity"] == "real")]["value"]
    np.testing.assert_allclose(here, spectral.eigenvalue_sensitivities(weights)["real"])
    positive = table[table["quantity"] == "positive_loop_gain"].pivot(
        index="factor", columns="index", values="value"
    )
    assert not np.allclose(positive.loc[-1.0], positive.loc[1.0])
    # node 0 is entered through this edge alone: without it no loop runs through node 0
    assert positive.loc[0.0, 0] == 0


def test_signs_that_keep_every_cycle_never_move_the_abscissa():
    shares = [
        perturbation.polarity_shares(
            data.random_network(data.RandomNetworks(), 0, i).weights, 20, i
        )
        for i in range(5)
    ]
    assert all(s["balanced_share"] < 1e-12 for s in shares)
    assert all(0 < s["polarity_share"] < 1 for s in shares)


def test_polarity_is_everything_when_all_weights_are_equal_and_nothing_without_negatives():
    rng = np.random.default_rng(0)
    edges = (rng.random((8, 8)) < 0.4) & ~np.eye(8, dtype=bool)
    signs = np.where(rng.random((8, 8)) < 0.5, -1.0, 1.0)
    equal = perturbation.polarity_shares(edges * signs, 10, 0)
    assert equal["polarity_share"] > 0.999999
    positive = perturbation.polarity_shares(edges * rng.uniform(0.5, 2, (8, 8)), 10, 0)
    assert positive["polarity_share"] < 1e-6
