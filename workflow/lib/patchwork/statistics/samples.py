"""Intervals and tests of one independent sample: one value per seed, or per network."""

import numpy as np
from scipy import stats

from patchwork.statistics.bootstrap import CONFIDENCE, Interval, sample_of

_MOST_SEEDS = 1000


def t_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Mean with Student's interval; its ends are nan for fewer than two values."""
    x = np.asarray(values, dtype=np.float64)
    n, mean = len(x), float(np.mean(x)) if len(x) else np.nan
    if n < 2:
        return Interval(mean, np.nan, np.nan, n, n)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * np.std(x, ddof=1) / np.sqrt(n)
    return Interval(mean, float(mean - half), float(mean + half), n, n)


def percentile_interval(values: np.ndarray, *, n_resamples: int, seed: int) -> Interval:
    """Mean with its 95 % percentile bootstrap interval; ends are nan for fewer than two values.

    Args:
        values: shape (n,).
        n_resamples: bootstrap resamples.
        seed: of the resampling.
    """
    n, mean = len(values), float(values.mean()) if len(values) else np.nan
    if n < 2:
        return Interval(mean, np.nan, np.nan, n, n)
    rng = np.random.Generator(np.random.Philox(seed))
    ends = stats.bootstrap(
        (values,), np.mean, n_resamples=n_resamples, method="percentile", rng=rng
    ).confidence_interval
    return Interval(mean, float(ends.low), float(ends.high), n, n)


def ratio_interval(top: np.ndarray, bottom: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Ratio of two paired means with Fieller's interval.

    Args:
        top: shape (n,).
        bottom: shape (n,).
        confidence: between 0 and 1.

    Returns:
        The interval; its ends are nan where the lower mean cannot be told from zero, for then no
        ratio can be excluded.

    Source: Fieller 1954, "Some problems in interval estimation".
    """
    a, b = np.asarray(top, float), np.asarray(bottom, float)
    n = len(a)
    ratio = float(a.mean() / b.mean()) if n and b.mean() else np.nan
    if n < 2:
        return Interval(ratio, np.nan, np.nan, n, n)
    # All r for which the t test does not reject mean(a - r b) = 0: a quadratic inequality in r.
    weight = stats.t.ppf((1 + confidence) / 2, n - 1) ** 2 / n
    covariance = np.cov(a, b)
    square = b.mean() ** 2 - weight * covariance[1, 1]
    middle = a.mean() * b.mean() - weight * covariance[0, 1]
    free = a.mean() ** 2 - weight * covariance[0, 0]
    root = middle**2 - square * free
    if square <= 0 or root < 0:
        return Interval(ratio, np.nan, np.nan, n, n)
    ends = (middle + np.array([-1, 1]) * np.sqrt(root)) / square
    return Interval(ratio, float(ends[0]), float(ends[1]), n, n)


def rank_correlation_ends(
    rho: np.ndarray, n: np.ndarray, given: np.ndarray | int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % intervals of Spearman correlations.

    Args:
        rho: shape (k,), -1 to 1 or nan.
        n: shape (k,), pairs behind each.
        given: variables held fixed, each of which takes a degree of freedom.

    Returns:
        Lower and upper ends, shape (k,); nan where there are too few pairs.

    Source: Bonett & Wright 2000, Psychometrika 65, 23-28 (Fisher's z with a standard error for
    Spearman's rho).
    """
    rho = np.clip(rho, -0.999999, 0.999999)  # Fisher's z of 1 is infinite
    free = np.asarray(n - 3 - given, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt((1 + rho**2 / 2) / np.where(free > 0, free, np.nan))
    half = stats.norm.ppf(0.975) * error
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
