import numpy as np
import pandas as pd
import pytest
from patchwork.networks import association, data, findings, spectral, tables
from patchwork.networks.graph_attention import AttentionTraining
from patchwork.tables import ENDS

QUICK = AttentionTraining(n_steps=20, n_conditions=(6, 2, 2), n_times=5, hidden=4)
POWER = {"least": 0.1, "n_draws": 3, "seed": 0}
NETWORKS = data.load("random", n_networks=3, seed=0)


def test_every_kind_loads(tmp_path):
    path = tmp_path / "n.csv"
    pd.DataFrame([[0.0, 1], [2, 0]], ["a", "b"], ["a", "b"]).to_csv(path)
    settings = {"actuator": {}, "file": {"path": path}, "random": {"n_networks": 2, "seed": 0}}
    assert settings.keys() == data.KINDS.keys()
    assert [len(data.load(kind, **s)) for kind, s in settings.items()] == [1, 1, 2]


def test_features_of_the_first_node_follow_the_factor():
    for kind, network in (("actuator", data.actuator()), ("random", NETWORKS[0])):
        plain, doubled = (data.node_features(kind, network, 0, f) for f in (1, 2))
        np.testing.assert_allclose(doubled[0], 2 * plain[0])
        np.testing.assert_array_equal(doubled[1:], plain[1:])
    assert data.node_targets("random") is None


def test_edges_rebuild_the_network():
    table = tables.per_network(NETWORKS, tables.edges)
    for k, network in enumerate(NETWORKS):
        part = table[table["network"] == k]
        rebuilt = np.zeros((8, 8))
        rebuilt[part["source"], part["target"]] = part["weight"]
        np.testing.assert_array_equal(rebuilt, network.weights)


def test_pseudospectra_show_the_rightmost_eigenvalue_in_both_windows():
    weights = data.actuator().weights
    table = tables.pseudospectra(weights, 9)
    assert table.groupby("window").size().to_dict() == {"whole": 81, "near_zero": 81}
    right = spectral.spectral_abscissa(weights)
    for _, part in table.groupby("window"):
        assert part["real"].min() < right < part["real"].max()
    here = table.iloc[5]
    z = here["real"] + 1j * here["imaginary"]
    smallest = np.linalg.svd(z * np.eye(8) - weights, compute_uv=False)[-1]
    assert here["smallest_singular_value"] == pytest.approx(smallest)


def test_swept_edges_are_those_that_move_the_abscissa_most():
    weights = data.actuator().weights
    table = tables.edge_sweeps(weights, [1.0, 1.001], 1)
    i, j = (int(k) for k in table["edge"].iloc[0].split(" to "))
    change = np.zeros((8, 8))
    for a, b in np.argwhere((weights != 0) & ~np.eye(8, dtype=bool)):
        nudged = weights.copy()
        nudged[a, b] *= 1.001
        change[a, b] = abs(spectral.spectral_abscissa(nudged) - spectral.spectral_abscissa(weights))
    assert change[i, j] == pytest.approx(change.max(), rel=1e-3)


def test_trained_attention_keeps_networks_of_different_sizes_apart():
    small = data.load("random", n_networks=1, seed=1, n_nodes=5, mean_degree=2)
    table = tables.trained_attention([NETWORKS[0], small[0], NETWORKS[1]], QUICK, 2)
    sizes = table.groupby(["network", "seed"]).size()
    assert sizes.loc[0].tolist() == sizes.loc[2].tolist() == [8, 8]
    assert sizes.loc[1].tolist() == [5, 5]


def test_scores_meet_their_nodes_and_findings_have_the_columns_of_claims():
    settings = {"strengthening": 0.1, "margin": 0.01, "p": 0.8, "q": 0.1}
    nodes = tables.per_network(NETWORKS, lambda w: association.node_properties(w, **settings))
    released = pd.concat(
        tables.released_scores(
            n.weights,
            data.rewired(n, k).weights,
            data.node_features("random", n, k),
            None,
            n_seeds=2,
            graph_free_epochs=1,
        ).assign(network=k, factor=1)
        for k, n in enumerate(NETWORKS)
    )
    attention = tables.trained_attention(NETWORKS, QUICK, 2)
    scored, seeds = tables.scored_nodes(nodes, released, attention, 0)
    assert seeds == {"random_label": 2, "random_label_rewired": 2} | dict.fromkeys(
        tables.TRAINED, 2
    )
    one = attention[(attention["network"] == 1) & (attention["node"] == 4)]["attention"].mean()
    row = scored[(scored["network"] == 1) & (scored["node"] == 4)].iloc[0]
    assert row["trained"] == pytest.approx(one)
    spread = tables.score_spread(released, attention)
    assert (spread["low"] <= spread["estimate"]).all()
    table = association.associations(scored, [*seeds, "out_strength", "random"])
    summary = tables.summarise(scored, table, 0)
    found = findings.of_networks(scored, table, summary, seeds, **POWER).set_index("quantity")
    expected = {"protocol", "backbone", "estimate", *ENDS, "n", "seeds"}
    assert expected == set(found.columns)
    assert found.loc["random_label_abscissa_change_rank_correlation", "protocol"] == "released"
    assert "trained_polarity_contrast_partial_correlation" in found.index
    assert found.index.is_unique
    assert expected == set(findings.of_competence(attention).columns) - {"quantity"}


def test_a_users_network_with_sinks_and_no_cycles_gets_every_table():
    weights = np.triu(np.full((5, 5), 0.5), 1) - np.diag([1.0, 2, 3, 4, 5])
    weights[0, 1] = -0.5
    settings = {"strengthening": 0.1, "margin": 0.01, "p": 0.8, "q": 0.1}
    nodes = association.node_properties(weights, **settings)
    assert nodes["walk_visits"].isna().all()
    np.testing.assert_allclose(nodes["abscissa_change"], 0, atol=1e-12)
    assert not nodes["negative_loop_gain"].any()
    assert tables.two_step(weights, 0.8, 0.1).groupby("score").size().tolist() == [5, 5]
    assert tables.structure(weights, margin=0.01).iloc[0]["frustration_index"] > 0
    network = data.Network(tuple("abcde"), weights)
    features = data.node_features("file", network, 0)
    other = data.rewired(network, 0).weights
    released = tables.released_scores(
        weights, other, features, None, n_seeds=2, graph_free_epochs=1
    )
    scored, seeds = tables.scored_nodes(
        nodes.assign(network=0),
        released.assign(network=0, factor=1),
        tables.trained_attention([network], QUICK, 2),
        0,
    )
    table = association.associations(scored, [*seeds, "out_strength", "random"])
    summary = tables.summarise(scored, table, 0)
    assert summary["estimate"].abs().max() <= 2
    found = findings.of_networks(scored, table, summary, seeds, **POWER)
    assert not found["quantity"].str.startswith("planted").any()
