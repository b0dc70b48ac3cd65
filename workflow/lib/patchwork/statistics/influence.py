"""Estimates with the influence of each example on them: what intervals and tests are made of.

To first order the error of a smooth statistic is the mean of its examples' influence values
(Hampel 1974, "The influence curve and its role in robust estimation"), so their spread over seeds
and images is that of the statistic.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]
_ROUNDING = 1e-12
_STEP = 1e-3  # standard errors by which means are moved to find slopes
# ASSUME: correlations this close to one are clipped before Fisher's transform, which is infinite
# there; the interval of a perfect prediction then has no width to speak of.
_R_MAX = 1 - 1e-12
_DRAWS = 2000


@dataclass(frozen=True)
class Estimates:
    """Numbers from data, with influence values.

    Attributes:
        value: shape (q,).
        influence: shape (n, q), of each example; columns sum to 0.
    """

    value: np.ndarray
    influence: np.ndarray


def columns_of(values: np.ndarray, name: str = "values") -> np.ndarray:
    """Finite values as columns, shape (n, d)."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2) or len(array) == 0:
        raise ValueError(f"{name} has shape {array.shape}; allowed is (n,) or (n, d) with n >= 1")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds nan or infinity; allowed are finite numbers")
    return array[:, None] if array.ndim == 1 else array


def codes_of(labels: np.ndarray | None, n: int, name: str) -> np.ndarray:
    """Labels as integers 0..k-1; no labels means that each example stands alone."""
    if labels is None:
        return np.arange(n)
    codes = np.unique(np.asarray(labels), return_inverse=True)[1].reshape(-1)
    if len(codes) != n:
        raise ValueError(f"{name} has {len(codes)} labels; allowed is one for each of {n} examples")
    return codes


def sample_of(values: np.ndarray, name: str) -> np.ndarray:
    """Finite values, shape (n,)."""
    if np.ndim(values) != 1 or len(values) == 0:
        raise ValueError(f"{name} has shape {np.shape(values)}; allowed is (n,) with n >= 1")
    return columns_of(values, name)[:, 0]


def means(values: np.ndarray) -> Estimates:
    """Mean of each column; values of shape (n,) or (n, q)."""
    columns = columns_of(values)
    mean = columns.mean(0)
    return Estimates(mean, _settled(columns - mean, np.abs(columns).max(0)))


def ratios(top: np.ndarray, bottom: np.ndarray) -> Estimates:
    """Mean of each column over the mean of one other.

    Args:
        top: shape (n,) or (n, q).
        bottom: shape (n,); where its mean may be near zero, use `ratio_interval`.
    """
    columns, below = columns_of(top, "top"), sample_of(bottom, "bottom")
    ratio = columns.mean(0) / below.mean()
    terms = below[:, None] * ratio
    apart = _settled(columns - terms, np.maximum(np.abs(columns), np.abs(terms)).max(0))
    return Estimates(ratio, apart / below.mean())


def fisher_z(x: np.ndarray, y: np.ndarray, clusters: np.ndarray | None = None) -> Estimates:
    """Fisher's z of the correlation, averaged over clusters by their examples.

    Args:
        x: shape (n,), varies in every cluster.
        y: shape (n,); in a cluster where it does not vary the correlation counts as 0.
        clusters: shape (n,), labels; each has its own correlation. None: one for all.

    Returns:
        One estimate, on the scale of z: ``tanh`` makes it a correlation.

    Source: influence on a correlation: Devlin, Gnanadesikan and Kettenring 1975.
    """
    x, y = sample_of(x, "x"), sample_of(y, "y")
    codes = codes_of(np.zeros(len(x)) if clusters is None else clusters, len(x), "clusters")
    size = np.bincount(codes)

    def standardised(values: np.ndarray) -> np.ndarray:
        apart = values - (np.bincount(codes, values) / size)[codes]
        spread = np.sqrt(np.bincount(codes, apart**2) / size)
        largest = np.zeros(len(size))
        np.maximum.at(largest, codes, np.abs(values))
        varies = (spread > 1e-9 * (1 + largest))[codes]
        return np.divide(apart, spread[codes], out=np.zeros_like(apart), where=varies)

    u, v = standardised(x), standardised(y)
    r = np.clip(np.bincount(codes, u * v) / size, -_R_MAX, _R_MAX)
    z = np.arctanh(r)
    mean = np.average(z, weights=size)
    own = (u * v - r[codes] * (u**2 + v**2) / 2) / (1 - r**2)[codes]
    return Estimates(np.atleast_1d(mean), (own + z[codes] - mean)[:, None])


def of_means(values: np.ndarray, statistic: Statistic, period: float | None = None) -> Estimates:
    """A smooth statistic of column means (ratio, regression, correlation, difference of groups).

    Args:
        values: shape (n,) or (n, d).
        statistic: maps means, shape (..., d), to shape (...) or (..., q).
        period: for places on a circle: differences are taken the short way round.

    Returns:
        The statistic of the means; slopes are central differences.
    """
    columns = columns_of(values)
    mean = columns.mean(0)
    centred = _settled(columns - mean, np.abs(columns).max(0))
    step = _STEP * centred.std(0) / np.sqrt(len(columns))
    steps = np.diag(step)
    change = statistic(mean + steps) - statistic(mean - steps)
    if period is not None:
        change = np.mod(change + period / 2, period) - period / 2
    varies = step > 0
    slopes = np.zeros((len(mean), change.size // len(mean)))
    slopes[varies] = change.reshape(len(mean), -1)[varies] / (2 * step[varies, None])
    size = np.abs(centred).max(0) @ np.abs(slopes)
    return Estimates(np.atleast_1d(statistic(mean)), _settled(centred @ slopes, size))


def of_rough_means(
    values: np.ndarray,
    statistic: Statistic,
    clusters: np.ndarray | None,
    units: np.ndarray | None = None,
    *,
    period: float | None = None,
) -> Estimates:
    """A statistic of column means that jumps: a rank correlation of them, a place of a minimum.

    It has no slopes; those of its average over the means' sampling error take their place, scaled
    so that they account for all of its spread there.

    Args:
        values: shape (n, d).
        statistic: maps means, shape (..., d), to shape (...).
        clusters: shape (n,), labels of seeds, or None, as for `sampling_error`.
        units: shape (n,), labels of images, or None, as for `sampling_error`.
        period: as for `of_means`.
    """
    columns = columns_of(values)
    mean = columns.mean(0)
    centred = _settled(columns - mean, np.abs(columns).max(0))
    drawn = _errors_of_means(centred, clusters, units)
    value = statistic(mean)
    apart = statistic(mean + drawn) - value
    if period is not None:
        apart = np.mod(apart + period / 2, period) - period / 2
    else:  # on a circle the replicates have no mean
        apart = apart - apart.mean()
    slopes = np.linalg.lstsq(drawn, apart, rcond=1e-9)[0]
    linear = np.sqrt(np.mean((drawn @ slopes) ** 2))
    scale = np.sqrt(np.mean(apart**2)) / linear if linear > 0 else 0.0
    return Estimates(np.atleast_1d(value), (centred @ slopes * scale)[:, None])


def _errors_of_means(
    centred: np.ndarray, clusters: np.ndarray | None, units: np.ndarray | None
) -> np.ndarray:
    """Normal draws with about the covariance of the means, shape (draws, d)."""
    n, d = centred.shape
    one_cluster = clusters is None or len(np.unique(clusters)) == 1
    factors = ([] if one_cluster else [clusters]) + ([] if units is None else [units])
    rng = np.random.Generator(np.random.Philox(0))
    drawn = np.zeros((_DRAWS, d))
    for labels in factors or [None]:
        codes = codes_of(labels, n, "labels")
        sums = np.zeros((codes.max() + 1, d))
        np.add.at(sums, codes, centred)
        count = max(len(sums) - 1, 1)
        variance, axes = np.linalg.eigh(sums.T @ sums / n**2 * len(sums) / count)
        drawn += rng.standard_normal((_DRAWS, d)) @ (axes * np.sqrt(np.maximum(variance, 0))).T
    return drawn


def _settled(influence: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Influence values with zero in place of what rounding leaves of terms of that size."""
    return np.where(np.abs(influence) > _ROUNDING * size, influence, 0.0)
