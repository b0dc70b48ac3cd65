import networkx as nx
import numpy as np
import pandas as pd
import pytest
from patchwork.networks import data


def test_actuator_is_the_published_matrix():
    weights = data.actuator().weights
    assert weights[3, 3] == -517.0544
    assert weights[7, 7] == -239.0092
    assert weights[6, 3] == weights[0, 5] == weights[4, 1] == 1
    # 12 unit links, six non-zero entries in row 3 and in row 7
    assert np.count_nonzero(weights) == 24
    np.testing.assert_array_equal(weights[[0, 1, 2]], weights[[4, 5, 6]])


def test_factor_perturbs_the_first_node_alone():
    network = data.actuator()
    plain, perturbed = (data.node_features("actuator", network, 0, f) for f in (1.0, 3.0))
    np.testing.assert_allclose(perturbed[0], [1.5, -0.3, 0.9])
    np.testing.assert_array_equal(plain[1:], perturbed[1:])
    assert data.node_targets("actuator").shape == (8,)


def test_csv_and_graphml_hold_the_same_network(tmp_path):
    weights = np.array([[0, 2.5, 0], [0, -1, -3.0], [0.25, 0, 0]])
    names = ["a", "b", "c"]
    pd.DataFrame(weights, names, names).to_csv(tmp_path / "n.csv")
    graph = nx.relabel_nodes(
        nx.from_numpy_array(weights, create_using=nx.DiGraph), dict(enumerate(names))
    )
    nx.write_graphml(graph, tmp_path / "n.graphml")
    for suffix in ("csv", "graphml"):
        network = data.read_network(tmp_path / f"n.{suffix}")
        assert network.names == ("a", "b", "c")
        np.testing.assert_array_equal(network.weights, weights)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("n.csv", ",a,b\na,1,2\n", "1 x 2 matrix"),
        ("n.csv", ",a,b\na,1,2\nc,3,4\n", "row names differ"),
        ("n.csv", ",a,a\na,1,2\na,3,4\n", "1 distinct names"),
        ("n.csv", ",a,\na,1,2\n,3,4\n", "row names differ"),
        ("n.csv", ",a,b\na,1,x\nb,3,4\n", "could not convert"),
        ("n.csv", ",a,b\na,1,nan\nb,3,4\n", r"entry \(0, 1\) is nan"),
        ("n.csv", ",a,b\na,1,\nb,3,4\n", "could not convert"),
        ("n.csv", ",a,b\na,1,inf\nb,3,4\n", r"entry \(0, 1\) is inf"),
        ("n.csv", "", "not a table"),
        ("n.csv", ",a\na,1\n", "1 x 1 matrix"),
        ("n.txt", "", "suffix '.txt'"),
        ("n.graphml", "<no graph", "not readable as GraphML"),
        ("n.graphml", '<!DOCTYPE a [<!ENTITY b "c">]><graphml/>', "document type declaration"),
        ("n.graphml", "<graphml/>", "not readable as GraphML"),
    ],
)
def test_bad_files_give_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        data.read_network(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        data.read_network(tmp_path / "gone.csv")


def test_random_networks_are_reproducible_connected_and_equally_stable():
    settings = data.RandomNetworks()
    for index in range(20):
        first, again = (data.random_network(settings, 3, index).weights for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert np.linalg.eigvals(first).real.max() == pytest.approx(settings.abscissa, abs=1e-9)
        assert nx.is_strongly_connected(nx.from_numpy_array(first, create_using=nx.DiGraph))
    other = data.random_network(settings, 4, 0).weights
    assert not np.array_equal(other, data.random_network(settings, 3, 0).weights)


def test_polarity_and_density_of_random_networks():
    settings = data.RandomNetworks(n_nodes=30, mean_degree=6, negative_fraction=0.3)
    weights = np.stack([data.random_network(settings, 0, i).weights for i in range(20)])
    off = weights[:, ~np.eye(30, dtype=bool)]
    edges = np.count_nonzero(off)
    assert edges / (20 * 30) == pytest.approx(6, abs=4 * np.sqrt(6 / 600))
    assert (off < 0).sum() / edges == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / edges))


def test_too_sparse_is_refused():
    with pytest.raises(ValueError, match="mean_degree"):
        data.random_network(data.RandomNetworks(n_nodes=40, mean_degree=0.2), 0, 0)


@pytest.mark.parametrize("index", range(4))
def test_rewiring_keeps_degrees_strengths_and_self_loops(index):
    network = data.random_network(data.RandomNetworks(), 0, index)
    other = data.rewired(network, index).weights
    weights = network.weights
    np.testing.assert_array_equal((other != 0).sum(0), (weights != 0).sum(0))
    np.testing.assert_array_equal((other != 0).sum(1), (weights != 0).sum(1))
    # every node keeps its outgoing weights, whatever they act on
    np.testing.assert_allclose(np.sort(other, axis=0), np.sort(weights, axis=0))
    np.testing.assert_array_equal(np.diag(other), np.diag(weights))
    moved = ((other != 0) & (weights == 0)).sum()
    assert moved > 0.2 * (weights != 0).sum() - 8
    np.testing.assert_array_equal(other, data.rewired(network, index).weights)
