import numpy as np
import pytest
from patchwork.networks import data, walks

P, Q = 0.8, 0.1


def test_two_step_scores_are_those_of_nested_loops():
    weights = data.actuator().weights
    n = len(weights)
    scores = np.zeros(n)
    for i in range(n):
        for c in range(n):
            for e in range(n):
                if len({i, c, e}) == 3 and weights[i, c] and weights[c, e]:
                    bias = 1 / Q if weights[e, i] == 0 else 1
                    scores[i] += (weights[i, c] + bias * weights[c, e]) / weights.sum() ** 2
        scores[i] /= ((weights[i] != 0).sum() + (weights[:, i] != 0).sum()) ** 2
    np.testing.assert_allclose(walks.two_step_scores(weights, P, Q), scores)


def test_the_return_parameter_has_no_effect_on_two_step_scores():
    weights = data.actuator().weights
    np.testing.assert_array_equal(
        walks.two_step_scores(weights, 0.8, Q), walks.two_step_scores(weights, 8.0, Q)
    )


def test_chain_follows_the_biases():
    weights = np.zeros((4, 4))
    for i, j, w in [(0, 1, 1), (1, 0, -2), (1, 2, 3), (2, 0, 1), (1, 3, 4), (3, 0, 1)]:
        weights[i, j] = w
    weights[3, 0] = 0
    weights[3, 1] = 1
    edges, chain = walks.edge_chain(weights, P, Q)
    label = {tuple(e): k for k, e in enumerate(edges.tolist())}
    # from (0, 1): 2/p back to 0; 3 to node 2, which points at 0; 4/q to node 3, which does not
    rates = np.array([2 / P, 3, 4 / Q])
    row = chain[label[0, 1]]
    got = [row[label[1, 0]], row[label[1, 2]], row[label[1, 3]]]
    np.testing.assert_allclose(got, rates / rates.sum())


def test_unbiased_walk_on_an_undirected_graph_visits_by_strength():
    rng = np.random.default_rng(0)
    weights = np.triu(rng.uniform(0.5, 2, (6, 6)), 1)
    weights += weights.T
    expected = weights.sum(0) / weights.sum()
    np.testing.assert_allclose(walks.stationary_visits(weights, 1.0, 1.0), expected)


@pytest.mark.parametrize("index", range(3))
def test_stationary_law_is_what_a_long_walk_does(index):
    weights = data.random_network(data.RandomNetworks(), 0, index).weights
    exact = walks.stationary_visits(weights, P, Q)
    assert exact.sum() == pytest.approx(1)
    edges, chain = walks.edge_chain(weights, P, Q)
    rng, state, visits = np.random.default_rng(index), 0, np.zeros(len(weights))
    cumulative = chain.cumsum(axis=1)
    for draw in rng.random(60_000):
        state = min(np.searchsorted(cumulative[state], draw, side="right"), len(chain) - 1)
        visits[edges[state, 1]] += 1
    assert np.abs(exact - visits / visits.sum()).max() < 0.015


def test_a_walk_without_a_law_has_no_visits():
    sink = np.array([[0.0, 1], [0, 0]])
    apart = np.kron(np.eye(2), np.array([[0, 1.0], [1, 0]]))
    for weights in (sink, apart, np.eye(3)):
        assert np.isnan(walks.stationary_visits(weights, 1, 1)).all()
