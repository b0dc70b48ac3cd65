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

    Source: the study's released walk script (p = 0.8, q = 0.1).
    """
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
        edges, shape (m, 2), and transition probabilities, shape (m, m), rows summing to 1; nan in
        the rows of edges that lead into a sink.

    Source: Grover & Leskovec 2016, KDD, section 3.2.
    """
    strength = np.abs(weights - np.diag(np.diag(weights)))
    edges = np.argwhere(strength > 0)
    (u, v), w = edges.T, edges[:, 1]
    follows = v[:, None] == edges[None, :, 0]
    bias = np.where(u[:, None] == w[None], 1 / p, np.where(strength[w][:, u].T > 0, 1.0, 1 / q))
    rates = follows * bias * strength[edges[:, 0], w][None]
    with np.errstate(invalid="ignore"):
        return edges, rates / rates.sum(axis=1, keepdims=True)


def stationary_visits(weights: np.ndarray, p: float, q: float) -> np.ndarray:
    """Share of time that an endless biased walk spends at each node, exactly.

    Args:
        weights: shape (n, n).
        p: return parameter, > 0.
        q: in-out parameter, > 0.

    Returns:
        shape (n,), probabilities that sum to 1; all nan where the walk has no stationary law: it
        can end in a sink, or has several recurrent classes of edges.
    """
    edges, chain = edge_chain(weights, p, q)
    unknown = np.full(len(weights), np.nan)
    if not len(edges) or np.isnan(chain).any():
        return unknown
    graph = nx.from_numpy_array(chain, create_using=nx.DiGraph)
    if nx.number_attracting_components(graph) != 1:
        return unknown
    # balance equations with one replaced by "probabilities sum to 1"
    system = chain.T - np.eye(len(chain))
    system[-1] = 1.0
    right = np.zeros(len(chain))
    right[-1] = 1.0
    visits = np.linalg.solve(system, right)
    return np.bincount(edges[:, 1], weights=visits, minlength=len(weights))
