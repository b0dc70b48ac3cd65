"""Topological stability: signed simple cycles through each node, and structural balance."""

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import networkx as nx
import numpy as np
import pandas as pd

SIGNS = ("negative", "positive")
_EXACT_NODES = 16


def simple_cycles(
    weights: np.ndarray, lengths: tuple[int, int] = (3, 6)
) -> Iterator[tuple[list[int], int, float]]:
    """Every directed simple cycle within a range of lengths, once.

    Args:
        weights: shape (n, n); non-zero entries are edges, self-loops are ignored.
        lengths: shortest and longest cycle, in nodes.

    Yields:
        Nodes, length, weight (product along the cycle).

    Raises:
        ValueError: if the longest is shorter than the shortest.
    """
    low, high = lengths
    if low > high:
        raise ValueError(f"lengths: {lengths}; allowed is shortest <= longest")
    links = weights - np.diag(np.diag(weights))
    graph = nx.from_numpy_array(links, create_using=nx.DiGraph)
    for cycle in nx.simple_cycles(graph, length_bound=high):
        if len(cycle) >= low:
            steps = pairwise([*cycle, cycle[0]])
            yield cycle, len(cycle), math.prod(float(weights[i, j]) for i, j in steps)


def total_degree(weights: np.ndarray) -> np.ndarray:
    """In-degree plus out-degree; a self-loop counts twice.

    Args:
        weights: shape (n, n).

    Returns:
        shape (n,), edges.
    """
    edges = weights != 0
    return edges.sum(axis=0) + edges.sum(axis=1)


def motif_costs(weights: np.ndarray, lengths: tuple[int, int] = (3, 6)) -> pd.DataFrame:
    """Cost of the cycles through each node, positive and negative products apart.

    Per length: the sum of weight products divided by the squared total degree. Combined: the costs
    of all lengths multiplied, absolute value, cube root.

    Args:
        weights: shape (n, n).
        lengths: shortest and longest cycle, in nodes.

    Returns:
        The table ``motifs.csv`` without network.

    Source: Bahador & Lankarany 2023, section 2.4, and the study's released motif script.
    """
    sizes = range(lengths[0], lengths[1] + 1)
    n = len(weights)
    sums = np.zeros((n, len(sizes), 2))
    for nodes, length, weight in simple_cycles(weights, lengths):
        sums[nodes, length - lengths[0], int(weight > 0)] += weight
    degree = np.maximum(total_degree(weights), 1)
    costs = sums / degree[:, None, None] ** 2
    # ASSUME: the cube root of a product of four lengths is the paper's; we keep it for any number
    combined = np.abs(costs.prod(axis=1, keepdims=True)) ** (1 / 3)
    stacked = np.concatenate([costs, combined], axis=1)
    labels = [*map(str, sizes), "combined"]
    index = pd.MultiIndex.from_product([range(n), labels, SIGNS], names=["node", "length", "sign"])
    return pd.DataFrame({"cost": stacked.ravel()}, index=index).reset_index()


def loop_gain(weights: np.ndarray, lengths: tuple[int, int] = (3, 6)) -> np.ndarray:
    """Summed geometric-mean strength of the negative and of the positive cycles through each node.

    The paper's combined cost vanishes as soon as one length is missing; this sum does not.

    Args:
        weights: shape (n, n).
        lengths: shortest and longest cycle, in nodes.

    Returns:
        shape (n, 2): negative, positive; the unit of the weights.
    """
    gains = np.zeros((len(weights), 2))
    for nodes, length, weight in simple_cycles(weights, lengths):
        gains[nodes, int(weight > 0)] += abs(weight) ** (1 / length)
    return gains


def frustration_index(weights: np.ndarray) -> np.ndarray:
    """Fewest edges whose removal (or change of sign) makes each signed graph balanced.

    Exact up to 16 nodes, by all two-colourings; above, the best of spectral and greedy colourings,
    an upper bound. Antiparallel edges count each; self-loops do not count.

    Args:
        weights: shape (..., n, n).

    Returns:
        Edges, shape (...), integers >= 0; zero if and only if the graph is balanced (exact range).

    Source: Harary 1959, Behavioral Science 4, 316-323; Aref & Wilson 2019, J. Complex Networks 7.
    """
    n = weights.shape[-1]
    signs = (np.sign(weights) * ~np.eye(n, dtype=bool)).astype(np.float32)
    if n <= _EXACT_NODES:
        colours = _all_colourings(n)
        # the sum of c_i c_j S_ij over i and j is a product of two flat arrays
        agreement = signs.reshape(*signs.shape[:-2], -1) @ colours
    else:
        flat = signs.reshape(-1, n, n)
        best = [np.einsum("ci,ij,cj->c", c := _colourings(s), s, c, optimize=True) for s in flat]
        agreement = np.stack(best).reshape(*signs.shape[:-2], -1)
    frustrated = (np.abs(signs).sum((-2, -1)) - agreement.max(-1)) / 2
    return np.rint(frustrated).astype(int)


def node_frustration(weights: np.ndarray) -> np.ndarray:
    """How much of the frustration index goes when a node goes.

    Args:
        weights: shape (n, n).

    Returns:
        shape (n,), edges, >= 0 in the exact range.
    """
    keep = ~np.eye(len(weights), dtype=bool)
    without = np.stack([weights[np.ix_(k, k)] for k in keep])
    return frustration_index(weights) - frustration_index(without)


@lru_cache(maxsize=4)
def _all_colourings(n: int) -> np.ndarray:
    """Products of the colours of nodes i and j, shape (n * n, two-colourings)."""
    codes = np.arange(2 ** (n - 1))
    colours = np.ones((len(codes), n), np.float32)
    colours[:, 1:] -= 2 * ((codes[:, None] >> np.arange(n - 1)) & 1)
    return (colours[:, :, None] * colours[:, None]).reshape(len(codes), -1).T


def _colourings(signs: np.ndarray) -> np.ndarray:
    """Two-colourings worth trying: every eigenvector's signs, each improved node by node."""
    links = signs + signs.T
    _, vectors = np.linalg.eigh(links)
    colours = np.where(vectors.T >= 0, 1.0, -1.0)
    for colour in colours:
        for _ in range(len(signs) ** 2):
            gain = -colour * (links @ colour)
            if gain.max() <= 0:
                break
            colour[gain.argmax()] *= -1
    return colours
