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
    for column in ("abscissa_change", "weakening_change", "removal_change"):
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


def test_changes_are_those_of_a_loop_over_nodes():
    weights = data.random_network(data.RandomNetworks(), 0, 0).weights
    table = perturbation.node_instability(weights, 0.2, 0.05)
    ways = {"abscissa_change": 1.2, "weakening_change": 0.8, "removal_change": 0.0}
    base = spectral.spectral_abscissa(weights)
    for node in range(8):
        for column, factor in ways.items():
            changed = weights.copy()
            for k in range(8):
                if k != node:
                    changed[node, k] *= factor
                    changed[k, node] *= factor
            sign = 1 if factor > 1 else -1
            moved = sign * (spectral.spectral_abscissa(changed) - base)
            assert table[column][node] == pytest.approx(moved, abs=1e-10)
        assert table["out_degree"][node] == np.count_nonzero(np.delete(weights[:, node], node))
        assert table["out_strength"][node] == pytest.approx(
            np.abs(np.delete(weights[:, node], node)).sum()
        )


def test_a_flip_turns_the_cycles_through_the_node_and_no_others():
    weights = data.random_network(data.RandomNetworks(), 0, 3).weights
    table = perturbation.node_instability(weights, 0.1, 0.05)
    for node in range(8):
        turned = weights.copy()
        turned[:, node] *= -1  # leaving edges: the same cycles as the entering ones
        turned[node, node] *= -1
        through = {frozenset(c): w for c, _, w in cycles.simple_cycles(turned, (2, 8))}
        before = {frozenset(c): w for c, _, w in cycles.simple_cycles(weights, (2, 8))}
        for nodes, weight in before.items():
            if (
                len([c for c, _, _ in cycles.simple_cycles(weights, (2, 8)) if set(c) == nodes])
                == 1
            ):
                assert through[nodes] == pytest.approx(-weight if node in nodes else weight)
        moved = spectral.spectral_abscissa(turned) - spectral.spectral_abscissa(weights)
        assert table["flip_change"][node] == pytest.approx(moved, abs=1e-8)


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


@pytest.mark.parametrize("index", range(3))
def test_no_signing_is_less_stable_than_a_balanced_one(index):
    weights = data.random_network(data.RandomNetworks(), 0, index).weights
    weights[range(8), range(8)] = -np.random.default_rng(index).uniform(0, 2, 8)
    table = perturbation.redraw_signs(weights, [1.0], 60, (0, index))
    positive = np.where(np.eye(8) > 0, weights, np.abs(weights))
    sides = np.random.default_rng(index).choice([-1.0, 1.0], 8)
    balanced = sides[:, None] * positive * sides
    np.testing.assert_allclose(
        np.sort_complex(np.linalg.eigvals(balanced)),
        np.sort_complex(np.linalg.eigvals(positive)),
        atol=1e-9,
    )
    own = table[table["law"] == "own"]
    assert (own["abscissa"] <= spectral.spectral_abscissa(positive) + 1e-9).all()
    assert (own["initial_growth"] <= spectral.numerical_abscissa(positive) + 1e-9).all()
    assert own["frustration"].max() > 0
    assert set(table["law"]) == {"own", "lognormal_1"}


def test_signings_without_frustration_have_the_spectrum_of_the_positive_one():
    weights = np.triu(np.full((6, 6), 0.7), 1) - np.eye(6)  # no directed cycle
    weights[5, 0] = 0.7
    table = perturbation.redraw_signs(weights, [], 200, (0, 0))
    flat = table[table["frustration"] == 0]["abscissa"]
    assert len(flat) > 1
    np.testing.assert_allclose(flat, table["abscissa"].max())


def test_nonnormality_is_zero_for_normal_matrices():
    table = perturbation.redraw_signs(np.diag([-1.0, -2.0, -3.0]), [], 5, (0, 0))
    np.testing.assert_allclose(table["nonnormality"], 0, atol=1e-7)
