"""Means of vectors in a plane: whether they are zero, and how long they are."""

import numpy as np
from scipy import stats

from patchwork.statistics.intervals import DECIDING, LEVEL, Interval, unknown

# Directions in which a length is looked for; the longest is missed by less than 2e-5 of it.
_N_DIRECTIONS = 512


def hotelling(vectors: np.ndarray) -> tuple[float, float]:
    """Hotelling's test that the mean of vectors is zero.

    Args:
        vectors: shape (n, d), finite, one per independent example.

    Returns:
        T squared and its p value; nan with d examples or fewer, or where the examples leave a
        direction without variance.

    Source: Hotelling 1931, "The generalization of Student's ratio".
    """
    n, d = vectors.shape
    mean, apart = vectors.mean(0), vectors - vectors.mean(0)
    if np.linalg.matrix_rank(apart) < d:
        return np.nan, np.nan
    t2 = float(n * (n - 1) * mean @ np.linalg.solve(apart.T @ apart, mean))
    return t2, float(stats.f.sf(t2 * (n - d) / (d * (n - 1)), d, n - d))


def length_interval(vectors: np.ndarray, minus: np.ndarray | float = 0.0) -> Interval:
    """Interval of the length of a mean vector, perhaps minus the mean of a paired number.

    The length is the largest component in any direction. Its upper end is the largest of the
    directions' one-sided t bounds, of which the right direction has its level; its lower end is the
    largest of the lower bounds that hold in all directions together (Scheffe's, from Hotelling's
    distribution), so that it exceeds zero only where Hotelling's test finds a mean.

    Args:
        vectors: shape (n, 2), finite, one per independent example.
        minus: shape (n,), subtracted from the length; or a number.

    Returns:
        The interval, with at least its nominal coverage; ends are nan for fewer than 3 examples.
    """
    n = len(vectors)
    angles = 2 * np.pi * np.arange(_N_DIRECTIONS) / _N_DIRECTIONS
    along = vectors @ np.stack([np.cos(angles), np.sin(angles)])
    along = along - np.broadcast_to(np.asarray(minus, float), n)[:, None]
    estimate = float(np.linalg.norm(vectors.mean(0)) - np.mean(minus))
    if n < 3:
        return unknown(n, n, estimate)
    mean, error = along.mean(0), along.std(0, ddof=1) / np.sqrt(n)
    ends: list[float] = []
    for level in (LEVEL, DECIDING):
        above = (1 + level) / 2
        all_ways = np.sqrt(2 * (n - 1) / (n - 2) * stats.f.ppf(above, 2, n - 2))
        ends += [
            float((mean - all_ways * error).max()),
            float((mean + stats.t.ppf(above, n - 1) * error).max()),
        ]
    found = Interval(estimate, *ends, n, n)  # type: ignore[call-arg,arg-type]
    return found if np.any(minus) else found.within(0.0)
