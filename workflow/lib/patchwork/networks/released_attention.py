"""The released attention scores, faults included, for many seeds at once."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_SLOPE_PENALTY = 0.01


@dataclass(frozen=True)
class ReleasedScores:
    """Attention of one released script over seeds.

    Attributes:
        scores: shape (seeds, n), the script's node scores.
        received: shape (seeds, n), column sums of the attention matrix without its diagonal.
    """

    scores: np.ndarray
    received: np.ndarray


def random_label_scores(
    weights: np.ndarray, features: np.ndarray, seeds: np.ndarray, max_epochs: int = 100
) -> ReleasedScores:
    """Scores of the released graph-attention script: random labels redrawn at every epoch.

    Signed weights without self-loops multiply exp(logit), and the signed sum is the normaliser;
    only the first of two heads is ever used; the loss treats nodes as classes; plain gradient
    descent stops after five epochs without a better loss.

    Args:
        weights: shape (n, n).
        features: shape (n, f), unitless.
        seeds: shape (s,), integers >= 0, one model each.
        max_epochs: epochs at most, >= 1.

    Returns:
        Scores and attention received per seed.

    Source: the released script of arXiv 2212.09641 (dropout 0.8, learning rate 0.01, penalty 0.01).
    """
    n, f = features.shape
    adjacency, x = _no_self_loops(weights), torch.as_tensor(features, dtype=torch.float32)
    draws = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    # the second head sees no input, yet its penalty counts in the early stop
    shapes = ((f, f), (f, f), (n, 2 * f))
    params = [_uniform(draws, *shape).requires_grad_() for shape in shapes]
    attention = torch.zeros(len(seeds), n, n)
    best = torch.full((len(seeds),), torch.inf)
    waited = torch.zeros(len(seeds), dtype=torch.long)
    running = torch.ones(len(seeds), dtype=torch.bool)
    for _ in range(max_epochs):
        labels = torch.stack([torch.randint(n, (n,), generator=g) for g in draws])
        keep = torch.stack([torch.rand(n, 2 * f, generator=g) for g in draws]) >= 0.8
        mixed, now = _signed_attention(x, adjacency, params[0])
        joined = torch.cat([x.expand_as(mixed), mixed], -1) * keep / 0.2
        logits = torch.einsum("snf,scf->snc", joined, params[2])
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none").mean(1)
        loss = loss + _SLOPE_PENALTY * sum(p.pow(2).sum((1, 2)) for p in params)
        attention = torch.where(running[:, None, None], now.detach(), attention)
        params = _descend(params, loss, running)
        better = loss.detach() < best
        best = torch.where(better, loss.detach(), best)
        waited = torch.where(better, 0, waited + 1)
        running = running & (waited < 5)
        if not running.any():
            break
    return _released(attention.mT, attention, weights)


def graph_free_scores(
    weights: np.ndarray,
    features: np.ndarray,
    targets: np.ndarray,
    seeds: np.ndarray,
    n_epochs: int = 1000,
) -> ReleasedScores:
    """Scores of the released attention-convolution script, whose forward pass has no graph.

    Args:
        weights: shape (n, n); enters the score after training, never the model.
        features: shape (n, f), unitless.
        targets: shape (n,), unitless.
        seeds: shape (s,), integers >= 0, one model each.
        n_epochs: epochs, >= 1.

    Returns:
        Scores and attention received per seed.

    Source: the released script of arXiv 2212.09641 (n hidden units, Adam 0.01, dropout 0.1).
    """
    n, f = features.shape
    x = torch.as_tensor(features, dtype=torch.float32)
    goal = torch.as_tensor(targets, dtype=torch.float32)[None, :, None]
    draws = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    layers = []
    for fan_in in (f, n, n, n, n):
        layers += [_uniform(draws, n, fan_in), _uniform(draws, n, 1, fan_in)[..., 0]]
    params = [p.requires_grad_() for p in layers]
    optimiser = torch.optim.Adam(params, lr=0.01)
    keep = torch.stack([torch.rand(n_epochs, 2, n, n, generator=g) >= 0.1 for g in draws])
    gates: list[Tensor] = []
    for epoch in range(n_epochs):
        output, gates = _gated_layers(x.expand(len(seeds), n, f), params, keep[:, epoch] / 0.9)
        loss = (output - goal).pow(2).sum()
        for gate in gates:
            loss = loss + _SLOPE_PENALTY * (gate - goal).pow(2).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    last = gates[1].detach()
    return _released(last, last, weights)


def _no_self_loops(weights: np.ndarray) -> Tensor:
    return torch.as_tensor(weights - np.diag(np.diag(weights)), dtype=torch.float32)


def _uniform(draws: list[torch.Generator], rows: int, columns: int, fan_in: int = 0) -> Tensor:
    """One linear layer per seed, in torch's default initialisation."""
    bound = (fan_in or columns) ** -0.5
    layers = [torch.rand(rows, columns, generator=g) for g in draws]
    return (torch.stack(layers) * 2 - 1) * bound


def _signed_attention(x: Tensor, adjacency: Tensor, head: Tensor) -> tuple[Tensor, Tensor]:
    keys = torch.einsum("nf,sgf->sng", x, head)
    signed = torch.exp(keys @ x.T / len(x) ** 0.5) * adjacency
    attention = signed / signed.sum(dim=2, keepdim=True)
    return attention @ x, attention


def _descend(params: list[Tensor], loss: Tensor, running: Tensor) -> list[Tensor]:
    slopes = torch.autograd.grad(loss.sum(), params)
    step = 0.01 * running[:, None, None]
    return [(p - step * s).detach().requires_grad_() for p, s in zip(params, slopes, strict=True)]


def _gated_layers(x: Tensor, params: list[Tensor], dropout: Tensor) -> tuple[Tensor, list[Tensor]]:
    for k in range(3):
        x = torch.baddbmm(params[2 * k + 1][:, None], x, params[2 * k].mT)
        x = torch.relu(x * dropout[:, k]) if k < 2 else x
    gates = []
    for k in (3, 4):
        gate = torch.baddbmm(params[2 * k + 1][:, None], x, params[2 * k].mT).softmax(dim=1)
        gates.append(gate)
        x = x * gate
    return x, gates


def _released(factor: Tensor, attention: Tensor, weights: np.ndarray) -> ReleasedScores:
    """Node scores as released: column sums of attention times adjacency over signed in-strength."""
    adjacency = _no_self_loops(weights)
    scores = (factor * adjacency).sum(1) / adjacency.sum(0)
    off = attention * (1 - torch.eye(len(weights)))
    return ReleasedScores(scores.numpy(), off.sum(1).numpy())
