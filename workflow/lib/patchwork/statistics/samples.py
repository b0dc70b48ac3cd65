"""Intervals and tests of one independent sample: one value per seed, or per network."""

import numpy as np
from scipy import stats

from patchwork.statistics.influence import sample_of
from patchwork.statistics.intervals import LEVEL, Interval, interval, unknown

_MOST_SEEDS = 1000


def t_interval(values: np.ndarray) -> Interval:
    """Mean with Student's interval; its ends are nan for fewer than two values, or missing ones."""
    n = len(values)
    return interval(values) if n and np.isfinite(values).all() else unknown(n, n)


def rank_correlation_ends(
    rho: np.ndarray, n: np.ndarray, given: np.ndarray | int = 0, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals of Spearman correlations.

    Args:
        rho: shape (k,), -1 to 1 or nan.
        n: shape (k,), pairs behind each.
        given: variables held fixed, each of which takes a degree of freedom.
        level: confidence.

    Returns:
        Lower and upper ends, shape (k,); nan where there are too few pairs.

    Source: Bonett & Wright 2000, Psychometrika 65, 23-28 (Fisher's z with a standard error for
    Spearman's rho).
    """
    rho = np.clip(rho, -0.999999, 0.999999)  # Fisher's z of 1 is infinite
    free = np.asarray(n - 3 - given, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt((1 + rho**2 / 2) / np.where(free > 0, free, np.nan))
    half = stats.norm.ppf((1 + level) / 2) * error
    return np.tanh(np.arctanh(rho) - half), np.tanh(np.arctanh(rho) + half)


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided test that paired differences are symmetric about zero, by flipping their signs.

    Args:
        differences: shape (n,), finite, n >= 1. Up to 16 are tested exactly, by every pattern of
            signs, so that p is at least 2 / 2**n; more by 65,536 random patterns.

    Returns:
        p value; 1 if all differences are zero.

    Raises:
        ValueError: if a difference is missing.
    """
    values = sample_of(differences, "differences")
    if len(values) == 1:  # refused by SciPy; of two patterns both are as extreme
        return 1.0
    found = stats.permutation_test(
        (values,),
        lambda x, axis: x.sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**16,
        rng=np.random.Generator(np.random.Philox(0)),
    )
    return float(found.pvalue)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p values of one family.

    Args:
        p: shape (k,), 0 to 1; a missing one counts as a member of the family.

    Returns:
        shape (k,), nan where p is nan.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")  # nan comes last
    adjusted = np.empty(len(values))
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def seeds_for_power(effect: float, sd: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Pairs of networks that a two-sided paired t test needs for its power.

    Args:
        effect: mean difference to be found.
        sd: of the differences over seeds.
        alpha: level.
        power: chance to find it.

    Returns:
        2 to 1000, also enough for the exact sign flip to reach the level; nan if more are needed
        or the sd is not known.
    """
    least = int(np.ceil(1 + np.log2(1 / alpha)))  # the smallest p of n flips is 2 / 2**n
    if not (np.isfinite(effect) and np.isfinite(sd)):
        return np.nan
    n = np.arange(2, _MOST_SEEDS + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.sqrt(n) * abs(effect) / sd
    edge = stats.t.ppf(1 - alpha / 2, n - 1)
    reached = 1 - stats.nct.cdf(edge, n - 1, shift) if sd > 0 else np.full(len(n), effect != 0)
    enough = np.flatnonzero((reached >= power) & (n >= least))
    return float(n[enough[0]]) if len(enough) else np.nan
