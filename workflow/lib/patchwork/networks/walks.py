"""Biased second-order walks: the two-step scores of the paper and node2vec's stationary law."""

import networkx as nx
import numpy as np


def two_step_scores(weights: np.ndarray, p: float, q: float) -> np.ndarray:
    """Score of each start node over all its two-step paths of three distinct nodes.

    A path i -> c -> e adds (A[i, c] + b A[c, e]) / (sum of A)^2 with b = 1/q if no edge runs from e
    back to i, else 1; the sum is divided by the squared total degree of i. The return bias 1/p
    cannot occur, since the three nodes are distinct.

    Args:
        weights: shape (n, n).
        p: return parameter, > 0; has no effect here.
        q: in-out parameter, > 0.

    Returns:
        shape (n,).

    Raises:
        ValueError: if p or q <= 0.

    Source: the study's released walk script (p = 0.8, q = 0.1).
    """
    _check_biases(p, q)
    n = len(weights)
    edge = weights != 0
    apart = ~np.eye(n, dtype=bool)
    # axes: start i, middle c, end e
    path = edge[:, :, None] & edge[None] & apart[:, :, None] & apart[None] & apart[:, None, :]
    bias = np.where(edge.T[:, None, :], 1.0, 1 / q)
    total = (path * (weights[:, :, None] + bias * weights[None])).sum(axis=(1, 2))
    degree = np.maximum(edge.sum(axis=0) + edge.sum(axis=1), 1)
    return total / weights.sum() ** 2 / degree**2


def edge_chain(weights: np.ndarray, p: float, q: float) -> tuple[np.ndarray, np.ndarray]:
    """The second-order walk as a first-order chain on edges.

    From edge (u, v) the walk goes to (v, w) with probability proportional to |A[v, w]| times 1/p if
    w = u, 1 if an edge runs from w to u, and 1/q otherwise. Self-loops are left out.

    Args:
        weights: shape (n, n).
        p: return parameter, > 0.
        q: in-out parameter, > 0.

    Returns:
        edges, shape (m, 2), and transition probabilities, shape (m, m), rows summing to 1.

    Raises:
        ValueError: if p or q <= 0, or a node without an outgoing edge can be reached.

    Source: Grover & Leskovec 2016, KDD, section 3.2.
    """
    _check_biases(p, q)
    strength = np.abs(weights - np.diag(np.diag(weights)))
    edges = np.argwhere(strength > 0)
    dead = np.setdiff1d(edges[:, 1], edges[:, 0])
    if len(edges) == 0:
        raise ValueError("weights: no edges; allowed is a graph without sinks")
    if len(dead):
        raise ValueError(
            f"weights: node {dead[0]} has no way out; allowed is a graph without sinks"
        )
    (u, v), w = edges.T, edges[:, 1]
    follows = v[:, None] == edges[None, :, 0]
    bias = np.where(u[:, None] == w[None], 1 / p, np.where(strength[w][:, u].T > 0, 1.0, 1 / q))
    rates = follows * bias * strength[edges[:, 0], w][None]
    return edges, rates / rates.sum(axis=1, keepdims=True)


def stationary_visits(weights: np.ndarray, p: float, q: float) -> np.ndarray:
    """Share of time that an endless biased walk spends at each node, exactly.

    Args:
        weights: shape (n, n), with one recurrent class of edges.
        p: return parameter, > 0.
        q: in-out parameter, > 0.

    Returns:
        shape (n,), probabilities that sum to 1.

    Raises:
        ValueError: if p or q <= 0, a sink exists, or the walk has several recurrent classes.
    """
    edges, chain = edge_chain(weights, p, q)
    graph = nx.from_numpy_array(chain, create_using=nx.DiGraph)
    recurrent = nx.number_attracting_components(graph)
    if recurrent != 1:
        raise ValueError(f"weights: {recurrent} recurrent classes of the walk; allowed is one")
    # balance equations with one replaced by "probabilities sum to 1"
    system = chain.T - np.eye(len(chain))
    system[-1] = 1.0
    right = np.zeros(len(chain))
    right[-1] = 1.0
    visits = np.linalg.solve(system, right)
    return np.bincount(edges[:, 1], weights=visits, minlength=len(weights))


def visits_where_defined(weights: np.ndarray, p: float, q: float) -> np.ndarray:
    """Stationary visits, or nan at every node of a network in which the endless walk has no law.

    Args:
        weights: shape (n, n).
        p: return parameter, > 0.
        q: in-out parameter, > 0.

    Returns:
        shape (n,), as `stationary_visits`, or all nan (a sink, or several recurrent classes).

    Raises:
        ValueError: if p or q <= 0.
    """
    _check_biases(p, q)
    try:
        return stationary_visits(weights, p, q)
    except ValueError:
        return np.full(len(weights), np.nan)


def sampled_visits(
    weights: np.ndarray, p: float, q: float, *, n_steps: int, seed: int
) -> np.ndarray:
    """Share of time that one simulated biased walk spends at each node.

    Args:
        weights: shape (n, n), without sinks.
        p: return parameter, > 0.
        q: in-out parameter, > 0.
        n_steps: length of the walk, >= 1.
        seed: of the walk.

    Returns:
        shape (n,), shares that sum to 1.
    """
    edges, chain = edge_chain(weights, p, q)
    rng = np.random.Generator(np.random.Philox(seed))
    cumulative = chain.cumsum(axis=1)
    state, visited = 0, np.empty(n_steps, dtype=int)
    for step, draw in enumerate(rng.random(n_steps)):
        # rounding may leave a row's last cumulative value below the draw
        state = min(int(np.searchsorted(cumulative[state], draw, side="right")), len(chain) - 1)
        visited[step] = edges[state, 1]
    return np.bincount(visited, minlength=len(weights)) / n_steps


def _check_biases(p: float, q: float) -> None:
    for name, value in (("p", p), ("q", q)):
        if value <= 0:
            raise ValueError(f"{name}: {value}; allowed is above 0")
