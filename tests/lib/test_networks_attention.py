from dataclasses import replace

import numpy as np
import pytest
import torch
from patchwork.networks import data, graph_attention, released_attention
from scipy.linalg import expm
from test_networks_perturbation import planted, ring

FEATURES = data.node_features("actuator", data.actuator(), 0)
QUICK = graph_attention.AttentionTraining(n_steps=120, n_conditions=(12, 4, 8), n_times=9)


def _released_loop(weights, features, seed):
    """One model at a time, written from the description of the script."""
    n, f = features.shape
    x = torch.tensor(features, dtype=torch.float32)
    adjacency = torch.tensor(weights - np.diag(np.diag(weights)), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)

    def layer(rows, columns):
        return (
            (torch.rand(rows, columns, generator=generator) * 2 - 1) / columns**0.5
        ).requires_grad_()

    head, idle, out = layer(f, f), layer(f, f), layer(n, 2 * f)
    best, waited = float("inf"), 0
    for _ in range(100):
        labels = torch.randint(n, (n,), generator=generator)
        keep = torch.rand(n, 2 * f, generator=generator) >= 0.8
        raw = torch.exp((x @ head.T) @ x.T / n**0.5) * adjacency
        attention = raw / raw.sum(1, keepdim=True)
        logits = (torch.cat([x, attention @ x], 1) * keep / 0.2) @ out.T
        loss = torch.nn.functional.cross_entropy(logits[None], labels[None])
        loss = loss + 0.01 * sum(p.pow(2).sum() for p in (head, idle, out))
        for p, g in zip(
            (head, idle, out), torch.autograd.grad(loss, (head, idle, out)), strict=True
        ):
            p.data -= 0.01 * g
        best, waited = (loss.item(), 0) if loss.item() < best else (best, waited + 1)
        if waited >= 5:
            break
    return ((attention.T * adjacency).sum(0) / adjacency.sum(0)).detach().numpy()


def test_random_label_scores_are_those_of_one_model_at_a_time():
    weights, features = data.actuator().weights, FEATURES
    together = released_attention.random_label_scores(weights, features, np.arange(6))
    for seed in range(6):
        np.testing.assert_allclose(
            together.scores[seed], _released_loop(weights, features, seed), atol=1e-5
        )


def test_seeds_do_not_depend_on_their_company():
    weights, features = data.actuator().weights, FEATURES
    targets = data.node_targets("actuator")
    alone = released_attention.random_label_scores(weights, features, np.array([3]))
    among = released_attention.random_label_scores(weights, features, np.arange(5))
    np.testing.assert_allclose(alone.scores[0], among.scores[3], atol=1e-6)
    alone = released_attention.graph_free_scores(weights, features, targets, np.array([3]), 20)
    among = released_attention.graph_free_scores(weights, features, targets, np.arange(5), 20)
    np.testing.assert_allclose(alone.received[0], among.received[3], atol=1e-6)


def test_graph_free_attention_is_blind_to_the_graph():
    features, targets, seeds = FEATURES, data.node_targets("actuator"), np.arange(3)
    weights = data.actuator().weights
    other = np.random.default_rng(0).normal(size=(8, 8))
    first, second = (
        released_attention.graph_free_scores(w, features, targets, seeds, 30)
        for w in (weights, other)
    )
    np.testing.assert_array_equal(first.received, second.received)
    assert not np.allclose(first.scores, second.scores)


def test_propagators_are_matrix_exponentials():
    for weights in (
        data.actuator().weights,
        data.random_network(data.RandomNetworks(), 0, 0).weights,
    ):
        flow = graph_attention.propagators(weights, 3.0, 5)
        end = 3.0 / np.abs(np.linalg.eigvals(weights)).max()
        for k, time in enumerate(np.linspace(0, end, 5)):
            np.testing.assert_allclose(flow[k], expm(time * weights), atol=1e-6)


def test_attention_lies_on_edges_and_shares_one_unit_per_receiver():
    weights = np.stack([data.random_network(data.RandomNetworks(), 0, i).weights for i in (0, 1)])
    seeds = [torch.Generator().manual_seed(s) for s in (0, 1)]
    params = graph_attention._parameters(8, seeds, QUICK)
    edges = torch.as_tensor(np.sign(weights), dtype=torch.float32)
    prediction, attention = graph_attention._forward(params, edges, torch.randn(2, 5, 8))
    assert prediction.shape == (2, 5, 8)
    torch.testing.assert_close(attention.sum(3), torch.ones(2, 5, 8, 2))
    outside = ((edges == 0) & ~torch.eye(8, dtype=torch.bool))[:, None, :, :, None]
    assert not (attention * outside).any()


def test_batched_layer_is_the_naive_one():
    weights = data.random_network(data.RandomNetworks(), 0, 2).weights
    params = graph_attention._parameters(8, [torch.Generator().manual_seed(0)], QUICK)
    edges = torch.as_tensor(np.sign(weights), dtype=torch.float32)[None]
    state = torch.randn(8, generator=torch.Generator().manual_seed(1))
    got, _ = graph_attention._forward(params, edges, state[None, None])
    inputs = torch.cat([torch.eye(8), state[:, None]], 1)
    total = torch.zeros(8)
    for head in range(QUICK.n_heads):
        source, target, sign, score, value, readout = (p[0, head] for p in params)
        for i in range(8):
            near = [j for j in range(8) if j == i or edges[0, i, j]]
            logits = torch.stack([
                torch.nn.functional.leaky_relu(
                    inputs[j] @ source + inputs[i] @ target + edges[0, i, j] * sign[0], 0.2
                ) @ score[0]
                for j in near
            ])  # fmt: skip
            for j, share in zip(near, logits.softmax(0), strict=True):
                total[i] += share * (edges[0, i, j] or 1) * (inputs[j] @ value) @ readout[i]
    torch.testing.assert_close(got[0, 0], total)


def test_models_do_not_depend_on_their_company():
    weights = np.stack([data.random_network(data.RandomNetworks(), 0, i).weights for i in range(3)])
    together = graph_attention.train_attention(weights, np.arange(3), QUICK)
    alone = graph_attention.train_attention(weights[1:2], np.array([1]), QUICK)
    np.testing.assert_allclose(together.received[1], alone.received[0], atol=1e-3)
    assert (together.test_r2 > 0.8).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_attention_goes_to_the_only_source_of_motion(sign):
    # seven nodes follow node 5 and decay; it alone lies on unstable loops
    longer = replace(QUICK, n_steps=400, batch_size=48)
    networks = np.repeat(planted(sign)[None], 8, 0)
    result = graph_attention.train_attention(networks, np.arange(8), longer)
    assert np.median(result.test_r2) > 0.8
    assert result.received.mean(0).argmax() == 5


def test_no_equal_node_stands_out():
    count = 12
    result = graph_attention.train_attention(
        np.repeat(ring()[None], count, 0), np.arange(count), QUICK
    )
    centred = result.received - result.received.mean(1, keepdims=True)
    # largest of eight t statistics with eleven degrees of freedom: 4.4 is its 1 % point
    t = centred.mean(0) / (centred.std(0, ddof=1) / count**0.5)
    assert np.abs(t).max() < 4.4
