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
        test_r2: shape (models,), variance of the test increments explained.
    """

    received: np.ndarray
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
        Attention received per node and the explained variance on the test trajectories.

    Source: Brody, Alon & Yahav 2022, ICLR (GATv2 scores); arXiv 2212.09641 poses the question.
    """
    draws = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    splits = [part.to(device) for part in _pairs(weights, draws, training)]
    edges = torch.as_tensor(np.sign(weights), dtype=torch.float32, device=device)
    params = [p.to(device).requires_grad_() for p in _parameters(weights.shape[1], draws, training)]
    best = _fit(params, edges, splits, draws, training)
    with torch.no_grad():
        prediction, attention = _forward(best, edges, splits[2][0])
    goal = splits[2][1]
    residual = (prediction - goal).pow(2).sum((1, 2))
    r2 = 1 - residual / (goal - goal.mean(1, keepdim=True)).pow(2).sum((1, 2))
    off = attention.mean((1, -1)) * (1 - torch.eye(weights.shape[1], device=device))
    return NodeAttention(off.sum(1).cpu().numpy(), r2.cpu().numpy())


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
    n = edges.shape[1]

    def embed(table: Tensor) -> Tensor:
        # linear map of (state, one-hot identity) without building the one-hot
        identity = table[:, None, :, :n].transpose(2, 3)
        return torch.einsum("msj,mhd->msjhd", states, table[:, :, n]) + identity

    pair = embed(source)[:, :, None] + embed(target)[:, :, :, None]
    pair = pair + edges[:, None, :, :, None, None] * sign[:, None, None, None, :, 0]
    logit = torch.einsum(
        "msijhd,mhd->msijh", torch.nn.functional.leaky_relu(pair, 0.2), score[:, :, 0]
    )
    allowed = (edges != 0) | torch.eye(n, dtype=torch.bool, device=edges.device)
    logit = logit.masked_fill(~allowed[:, None, :, :, None], -torch.inf)
    attention = logit.softmax(dim=3)
    # an edge carries the sender's value with the edge's sign; the own state keeps a plus
    carried = torch.where(edges == 0, 1.0, edges)[:, None, :, :, None] * attention
    mixed = torch.einsum("msijh,msjhd->msihd", carried, embed(value))
    return torch.einsum("msihd,mhid->msi", mixed, readout), attention


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
