from itertools import pairwise, permutations, product

import numpy as np
import pandas as pd
import pytest
from patchwork.networks import cycles, data


def _random(seed, n=7, density=0.45):
    rng = np.random.default_rng(seed)
    return (rng.random((n, n)) < density) * rng.normal(size=(n, n))


def _brute_cycles(weights, low, high):
    found = {}
    for length in range(low, high + 1):
        for nodes in permutations(range(len(weights)), length):
            if nodes[0] == min(nodes):
                weight = np.prod(
                    [weights[a, b] for a, b in zip(nodes, (*nodes[1:], nodes[0]), strict=True)]
                )
                if weight != 0:
                    found[nodes] = weight
    return found


def _table(weights, lengths):
    rows = [(tuple(nodes), n, w) for nodes, n, w in cycles.simple_cycles(weights, lengths)]
    return pd.DataFrame(rows, columns=["nodes", "length", "weight"])


def _rotated(nodes):
    k = nodes.index(min(nodes))
    return nodes[k:] + nodes[:k]


@pytest.mark.parametrize("seed", range(5))
def test_cycles_are_those_of_brute_force(seed):
    weights = _random(seed)
    table = _table(weights, (3, 6))
    ours = {_rotated(n): w for n, w in zip(table["nodes"], table["weight"], strict=True)}
    brute = _brute_cycles(weights, 3, 6)
    assert len(table) == len(ours)
    assert ours.keys() == brute.keys()
    for nodes, weight in ours.items():
        assert weight == pytest.approx(brute[nodes])


@pytest.mark.parametrize("seed", range(3))
def test_motif_costs_are_those_of_nested_loops(seed):
    weights = _random(seed, n=6)
    n = len(weights)
    table = cycles.motif_costs(weights).set_index(["node", "length", "sign"])["cost"]
    for node in range(n):
        degree = np.count_nonzero(weights[node]) + np.count_nonzero(weights[:, node])
        combined = {"negative": 1.0, "positive": 1.0}
        for length in range(3, 7):
            sums = {"negative": 0.0, "positive": 0.0}
            for rest in permutations([k for k in range(n) if k != node], length - 1):
                path = (node, *rest, node)
                weight = np.prod([weights[a, b] for a, b in pairwise(path)])
                sums["positive" if weight > 0 else "negative"] += weight
            for sign, value in sums.items():
                assert table[node, str(length), sign] == pytest.approx(value / degree**2)
                combined[sign] *= value / degree**2
        for sign, value in combined.items():
            assert table[node, "combined", sign] == pytest.approx(abs(value) ** (1 / 3))


def test_self_loop_counts_twice_in_the_degree():
    weights = np.array([[1.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert cycles.total_degree(weights).tolist() == [4, 2, 2]


def test_only_the_loop_carriers_have_a_cost():
    weights = np.zeros((6, 6))
    for i, j, w in [(0, 1, 2.0), (1, 2, -1.0), (2, 0, 3.0), (3, 4, 5.0), (4, 5, 1.0)]:
        weights[i, j] = w
    gains = cycles.loop_gain(weights)
    np.testing.assert_allclose(gains[:, 0], [6 ** (1 / 3)] * 3 + [0] * 3)
    assert not gains[:, 1].any()


def test_two_hundred_nodes_of_degree_four():
    rng = np.random.default_rng(0)
    weights = (rng.random((200, 200)) < 4 / 199) * rng.choice([-1.0, 1.0], (200, 200))
    np.fill_diagonal(weights, 0)
    table = _table(weights, (3, 4))
    counts = table.groupby("length").size()
    # closed walks of three steps are cycles; of four, those without a repeated node
    cube = np.linalg.matrix_power(np.abs(weights), 3)
    assert counts[3] == np.trace(cube) / 3
    both = np.abs(weights) * np.abs(weights).T
    repeats = 2 * (both.sum(1) ** 2).sum() - both.sum()
    assert counts[4] == (np.trace(np.linalg.matrix_power(np.abs(weights), 4)) - repeats) / 4
    assert len(_table(weights, (3, 6))) > len(table)


def test_impossible_lengths_are_refused():
    with pytest.raises(ValueError, match="lengths"):
        list(cycles.simple_cycles(np.eye(3), (4, 3)))


def _brute_frustration(weights):
    best = np.inf
    n = len(weights)
    edges = [(i, j) for i in range(n) for j in range(n) if i != j and weights[i, j]]
    for side in product([1, -1], repeat=n):
        best = min(best, sum(np.sign(weights[i, j]) * side[i] * side[j] < 0 for i, j in edges))
    return best


@pytest.mark.parametrize("seed", range(6))
def test_frustration_is_that_of_brute_force(seed):
    weights = _random(seed, n=6)
    assert cycles.frustration_index(weights) == _brute_frustration(weights)


def test_balanced_graphs_have_no_frustration_at_any_size():
    rng = np.random.default_rng(1)
    for n in (8, 40):
        sides = rng.choice([-1.0, 1.0], n)
        weights = np.outer(sides, sides) * (rng.random((n, n)) < 0.3)
        assert cycles.frustration_index(weights) == 0
        i, j = np.argwhere((weights != 0) & ~np.eye(n, dtype=bool))[0]
        weights[i, j] *= -1
        assert cycles.frustration_index(weights) == 1


def test_large_graphs_get_an_upper_bound():
    for index in range(5):
        weights = data.random_network(
            data.RandomNetworks(n_nodes=16, mean_degree=3), 0, index
        ).weights
        exact = cycles.frustration_index(weights)
        padded = np.zeros((18, 18))
        padded[:16, :16] = weights
        assert exact <= cycles.frustration_index(padded) <= exact + 2


def test_one_node_carries_the_frustration():
    # a positive clique plus one node with mixed signs towards it
    weights = np.triu(np.ones((5, 5)), 1)
    weights[0, 1:3] = -1
    assert cycles.frustration_index(weights) == 2
    assert cycles.node_frustration(weights).argmax() == 0
    assert cycles.node_frustration(weights)[0] == 2
