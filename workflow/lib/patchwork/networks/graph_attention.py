"""Graph attention trained to predict how a network moves; many networks and seeds at once."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor


@dataclass(frozen=True)
class AttentionTraining:
    """How graph attention is trained on simulated trajectories.

    Attributes:
        n_conditions: initial conditions (train, validation, test).
        horizon: simulated time, in units of 1 / spectral radius.
        n_times: sampled times per trajectory, >= 2.
        hidden: units per head.
        n_heads: attention heads.
        n_steps: optimiser steps.
        batch_size: states per step and model.
        learning_rate: of Adam.
        validate_every: steps between two validations.
    """

    n_conditions: tuple[int, int, int] = (24, 8, 8)
    horizon: float = 3.0
    n_times: int = 13
    hidden: int = 8
    n_heads: int = 2
    n_steps: int = 200
    batch_size: int = 24
    learning_rate: float = 0.01
    validate_every: int = 25


@dataclass(frozen=True)
class NodeAttention:
    """Attention per node of trained models.

    Attributes:
        received: shape (models, n), attention that the other nodes pay to a node, summed over them,
            mean over heads and test states.
        untrained: shape (models, n), the same before training.
        test_r2: shape (models,), variance of the test increments explained.
    """

    received: np.ndarray
    untrained: np.ndarray
    test_r2: np.ndarray


def propagators(weights: np.ndarray, horizon: float, n_times: int) -> np.ndarray:
    """Fundamental matrices of x' = A x, by numerical integration.

    Args:
        weights: shape (n, n), 1 / time unit.
        horizon: simulated time, in units of 1 / spectral radius, > 0.
        n_times: equally spaced times including 0, >= 2.

    Returns:
        shape (n_times, n, n): state at each time is the matrix times the initial state.

    Raises:
        ValueError: if the integration fails.
    """
    n = len(weights)
    # ASSUME: time runs in units of the fastest eigenvalue, so that one horizon fits all networks
    end = horizon / np.abs(np.linalg.eigvals(weights)).max()
    solution = solve_ivp(
        lambda _, state: (weights @ state.reshape(n, n)).ravel(),
        (0.0, end),
        np.eye(n).ravel(),
        t_eval=np.linspace(0.0, end, n_times),
        rtol=1e-8,
        atol=1e-10,
    )
    if not solution.success:
        raise ValueError(f"weights: trajectories cannot be integrated ({solution.message})")
    return solution.y.T.reshape(n_times, n, n)


def train_attention(
    weights: np.ndarray, seeds: np.ndarray, training: AttentionTraining, device: str = "cpu"
) -> NodeAttention:
    """Attention per node after training to predict the next state of simulated trajectories.

    One GATv2 layer per model: node i attends to itself and to every j that acts on it, and predicts
    its own increment. A model knows which edges exist and their signs, not their weights. Initial
    conditions are split into train, validation and test; the parameters with the lowest validation
    loss are read.

    Args:
        weights: shape (m, n, n), one network per model.
        seeds: shape (m,), integers >= 0, of initial conditions, parameters and batches.
        training: sizes and schedule.
        device: torch device.

    Returns:
        Attention received per node, trained and untrained, and the explained variance on the test
        trajectories.

    Source: Brody, Alon & Yahav 2022, ICLR (GATv2 scores); arXiv 2212.09641 poses the question.
    """
    draws = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    splits = [part.to(device) for part in _pairs(weights, draws, training)]
    edges = torch.as_tensor(np.sign(weights), dtype=torch.float32, device=device)
    params = [p.to(device).requires_grad_() for p in _parameters(weights.shape[1], draws, training)]
    apart = 1 - torch.eye(weights.shape[1], device=device)

    def read(params: list[Tensor]) -> tuple[Tensor, np.ndarray]:
        with torch.no_grad():
            prediction, attention = _forward(params, edges, splits[2][0])
        return prediction, (attention.mean((1, -1)) * apart).sum(1).cpu().numpy()

    _, untrained = read(params)
    prediction, received = read(_fit(params, edges, splits, draws, training))
    goal = splits[2][1]
    residual = (prediction - goal).pow(2).sum((1, 2))
    r2 = 1 - residual / (goal - goal.mean(1, keepdim=True)).pow(2).sum((1, 2))
    return NodeAttention(received, untrained, r2.cpu().numpy())


def _pairs(
    weights: np.ndarray, draws: list[torch.Generator], training: AttentionTraining
) -> list[Tensor]:
    """States and next increments, shape (2, models, samples, n), for train, validation and test."""
    n = weights.shape[1]
    unique, which = np.unique(weights, axis=0, return_inverse=True)
    flows = np.stack([propagators(w, training.horizon, training.n_times) for w in unique])
    flow = torch.as_tensor(flows)[torch.as_tensor(which.ravel())]
    count = sum(training.n_conditions)
    start = torch.stack([torch.randn(count, n, generator=g, dtype=torch.float64) for g in draws])
    states = torch.einsum("mtij,mcj->mcti", flow, start)
    now, step = states[:, :, :-1], states.diff(dim=2)
    fitted = slice(0, training.n_conditions[0])
    ends = np.cumsum(training.n_conditions)
    scaled = []
    for values in (now, step):
        # scales come from the training conditions alone
        spread = values[:, fitted].flatten(1, 2).std(1).clamp_min(1e-9)
        scaled.append((values / spread[:, None, None]).float())
    return [
        torch.stack([values[:, end - size : end].flatten(1, 2) for values in scaled])
        for size, end in zip(training.n_conditions, ends, strict=True)
    ]


def _parameters(n: int, draws: list[torch.Generator], training: AttentionTraining) -> list[Tensor]:
    h, d = training.n_heads, training.hidden

    def glorot(rows: int, columns: int) -> Tensor:
        bound = (6 / (rows + columns)) ** 0.5
        each = [torch.rand(h, rows, columns, generator=g) for g in draws]
        return (torch.stack(each) * 2 - 1) * bound

    # source, target, sign embeddings; scoring vector; values (state, identity); read-out per node
    shapes = [(n + 1, d), (n + 1, d), (1, d), (1, d), (n + 1, d), (n, d)]
    return [glorot(*shape) for shape in shapes]


def _forward(params: list[Tensor], edges: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Predicted increments (models, samples, n) and attention (models, samples, i, j, heads)."""
    source, target, sign, score, value, readout = params
    (m, s, n), (h, d) = states.shape, (source.shape[1], source.shape[3])
    state = states.transpose(1, 2)[..., None]

    def embed(table: Tensor) -> Tensor:
        # linear map of (state, one-hot identity) without building the one-hot: (m, n, s, h * d)
        rows = table.transpose(1, 2).reshape(m, n + 1, 1, h * d)
        return state * rows[:, n:] + rows[:, :n]

    # Networks are sparse: only pairs that attend are scored, padded to the most of any network.
    allowed = ((edges != 0) | torch.eye(n, dtype=torch.bool, device=edges.device)).flatten(1)
    most = int(allowed.sum(1).max())
    pairs = allowed.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
    padding = ~allowed.gather(1, pairs)
    eye = torch.eye(n, device=edges.device)
    # picking rows by a product is faster than by indices, forth and above all back
    pick = torch.cat(
        [eye[pairs % n], eye[pairs // n], edges.flatten(1).gather(1, pairs)[..., None]], 2
    )
    rows = [embed(source), embed(target), sign.reshape(m, 1, 1, h * d).expand(m, 1, s, h * d)]
    pair = torch.bmm(pick, torch.cat(rows, 1).flatten(2)).view(m, most * s, h, d)
    logit = (torch.nn.functional.leaky_relu(pair, 0.2) * score.view(m, 1, h, d)).sum(-1)
    logit = logit.view(m, most, s, h).masked_fill(padding[:, :, None, None], -torch.inf)
    dense = logit.new_full((m, n * n, s, h), -torch.inf)
    dense = dense.scatter(1, pairs[:, :, None, None].expand(m, most, s, h), logit)
    attention = dense.view(m, n, n, s, h).softmax(dim=2)
    # an edge carries the sender's value with the edge's sign; the own state keeps a plus
    carried = torch.where(edges == 0, 1.0, edges)[:, :, :, None, None] * attention
    values = embed(value).view(m, n, s, h, d).permute(0, 2, 3, 1, 4)
    mixed = carried.permute(0, 3, 4, 1, 2) @ values
    return (mixed * readout[:, None]).sum((2, 4)), attention.permute(0, 3, 1, 2, 4)


def _fit(
    params: list[Tensor],
    edges: Tensor,
    splits: list[Tensor],
    draws: list[torch.Generator],
    training: AttentionTraining,
) -> list[Tensor]:
    """Parameters of every model at its own lowest validation loss."""
    optimiser = torch.optim.Adam(params, lr=training.learning_rate)
    lowest = torch.full((len(edges),), torch.inf, device=edges.device)
    best = [p.detach().clone() for p in params]
    rows = torch.arange(len(edges), device=edges.device)[:, None]
    size = splits[0].shape[2]
    for step in range(1, training.n_steps + 1):
        picks = [torch.randint(size, (training.batch_size,), generator=g) for g in draws]
        chosen = torch.stack(picks).to(edges.device)
        prediction, _ = _forward(params, edges, splits[0][0][rows, chosen])
        # summing over models keeps them independent: no gradient crosses
        loss = (prediction - splits[0][1][rows, chosen]).pow(2).mean((1, 2)).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % training.validate_every == 0 or step == training.n_steps:
            with torch.no_grad():
                guess, _ = _forward(params, edges, splits[1][0])
            error = (guess - splits[1][1]).pow(2).mean((1, 2))
            better = error < lowest
            lowest = torch.where(better, error, lowest)
            mask = better[:, None, None, None]
            best = [torch.where(mask, p.detach(), b) for p, b in zip(params, best, strict=True)]
    return best
