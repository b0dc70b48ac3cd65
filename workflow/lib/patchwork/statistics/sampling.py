"""Sampling error of an estimate over few seeds and many images, from its influence values.

Seeds (clusters) and images (units) are crossed: every network sees the same images. In the model
``y = mean + seed + image + residual`` the mean has the variance
``(MS_seed + MS_image - MS_residual) / (seeds x images)``, by the mean squares of the two-way
analysis of variance. The terms have very different degrees of freedom: one t quantile for their
sum is far too wide where images dominate (t of ``seeds - 1``), and misses too often where both
count (Satterthwaite's: 8 % instead of 5 % with 3 seeds, 60 times too often at 1 in 10,000). So the
error is taken as the sum of two independent t variables, each with its own degrees of freedom: the
generalised (Behrens-Fisher) pivot. `make coverage-study` writes what it covers to docs/coverage.md.

Any smooth statistic is linear in small errors: its influence values take the place of ``y``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse, stats
from scipy.interpolate import CubicSpline
from scipy.optimize import elementwise
from scipy.special import gammaincinv, ndtr

from patchwork.statistics.influence import codes_of

LEVEL = 0.95
_HELD = 4_000_000  # points of integrals held at once: 32 MB
_LEAST_DF = 1.0  # of a variance from two values
_REACH = 8.0  # standard normal deviates over which chi-square variables are integrated
_ROUNDING = 1e-9  # of the largest influence: below it, a row has none


@dataclass(frozen=True)
class SamplingError:
    """Distribution of the errors of estimates: a sum of two independent scaled t variables.

    Attributes:
        few: shape (q,), variance that the factor with fewer levels (seeds) brings, and with it the
            residual's; nan where it cannot be told.
        df_few: shape (q,), its degrees of freedom.
        many: shape (q,), further variance by the factor with more levels (images), 0 or more.
        df_many: shape (q,), its degrees of freedom; infinite where there is no such factor.
    """

    few: np.ndarray
    df_few: np.ndarray
    many: np.ndarray
    df_many: np.ndarray

    @property
    def standard_error(self) -> np.ndarray:
        """Standard errors, shape (q,)."""
        return np.sqrt(self.few + self.many)

    def tail(self, distance: np.ndarray) -> np.ndarray:
        """Chance that an error is larger than a distance, upwards.

        Args:
            distance: shape (q,), any sign.

        Returns:
            shape (q,), 0 to 1; nan where the variance is. Without variance 0 above, 1/2 at and 1
            below zero.
        """
        distance = np.broadcast_to(np.asarray(distance, float), self.few.shape)
        found = np.where(distance > 0, 0.0, np.where(distance < 0, 1.0, 0.5))
        found = np.where(np.isfinite(self.few) & ~np.isnan(distance), found, np.nan)
        for chosen, df in self._kinds():
            rule = _rule(*df)
            for part in np.array_split(chosen, 1 + len(chosen) * len(rule.weight) // _HELD):
                found[part] = rule.tail(distance[part], self.few[part], self.many[part])
        return found

    def p_value(self, estimate: np.ndarray) -> np.ndarray:
        """Two-sided p that the quantities are zero, shape (q,); 1 for a certain zero."""
        # Weights of the integral may add up to a hair above 1.
        return np.minimum(2 * self.tail(np.abs(np.asarray(estimate, float))), 1.0)

    def half_width(self, level: float = LEVEL) -> np.ndarray:
        """Half widths of intervals, shape (q,); nan where the variance is, 0 without any.

        Args:
            level: confidence, between 0 and 1.

        Raises:
            ValueError: if level is out of range.
        """
        if not 0 < level < 1:
            raise ValueError(f"level is {level}; allowed is between 0 and 1")
        found = np.where(np.isfinite(self.few), 0.0, np.nan)
        for chosen, df in self._kinds():
            total = self.few[chosen] + self.many[chosen]
            angle = np.arcsin(np.sqrt(self.few[chosen] / total))
            found[chosen] = _quantiles(*df, level)(angle) * np.sqrt(total)
        return found

    def _kinds(self) -> Iterator[tuple[np.ndarray, tuple[float, float]]]:
        """Indices of estimates that have variance and share degrees of freedom."""
        known = np.flatnonzero(np.isfinite(self.few) & (self.few + self.many > 0))
        pairs = np.stack([self.df_few[known], self.df_many[known]], axis=1)
        # Below this the integral overflows.
        pairs = np.maximum(pairs, _LEAST_DF)
        kinds, member = np.unique(pairs, axis=0, return_inverse=True)
        for i, (df_few, df_many) in enumerate(kinds):
            yield known[member.reshape(-1) == i], (float(df_few), float(df_many))


class _Rule:
    """Integration over the two chi-square variables under the t variables."""

    def __init__(self, df_few: float, df_many: float) -> None:
        self.df_least = min(df_few, df_many)
        one, weight_one = _reciprocals(df_few)
        two, weight_two = _reciprocals(df_many)
        self.few, self.many = (x.reshape(-1) for x in np.meshgrid(one, two, indexing="ij"))
        self.weight = np.outer(weight_one, weight_two).reshape(-1)

    def tail(self, distance: np.ndarray, few: np.ndarray, many: np.ndarray) -> np.ndarray:
        """Chance of an error above a distance."""
        variance = few[:, None] * self.few + many[:, None] * self.many
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return ndtr(-distance[:, None] / np.sqrt(variance)) @ self.weight


_rule = lru_cache(maxsize=64)(_Rule)


@lru_cache(maxsize=256)
def _quantiles(df_few: float, df_many: float, level: float) -> CubicSpline:
    """Two-sided quantile of a sum of variance 1, by the arc sine of the root of few's share.

    At 129 shares by root finding, between them by a spline: within 1e-4 up to a level of 99 %.
    """
    rule, upper = _rule(df_few, df_many), (1 + level) / 2
    angle = np.linspace(0, np.pi / 2, 129)
    share = np.sin(angle) ** 2
    # Above the normal quantile; below that of the t variable with fewer degrees of freedom times
    # the root of two, which two Cauchy variables reach.
    ends = 0.9 * stats.norm.ppf(upper), 1.5 * stats.t.ppf(upper, rule.df_least)
    root = elementwise.find_root(
        lambda x, share: rule.tail(x, share, 1 - share) - (1 - upper),
        tuple(np.full(len(share), end) for end in ends),
        args=(share,),
        tolerances={"xrtol": 1e-9, "xatol": 0.0, "fatol": 0.0},
    )
    return CubicSpline(angle, root.x)


def _reciprocals(df: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of df / chi-square and their weights, by the trapezoid rule over normal deviates.

    The fewer degrees of freedom, the steeper the integrand: these steps give tails of Student's t
    down to 1e-5 within 0.1 %.
    """
    if np.isinf(df):
        return np.ones(1), np.ones(1)
    step = 0.2 if df < 3 else 0.4 if df < 10 else 0.8
    deviates = np.arange(-_REACH, _REACH + step / 2, step)
    weight = np.exp(-(deviates**2) / 2)
    return df / 2 / gammaincinv(df / 2, ndtr(deviates)), weight / weight.sum()


def sampling_error(
    influence: np.ndarray, clusters: np.ndarray | None, units: np.ndarray | None = None
) -> SamplingError:
    """Errors of estimates from the influence of each example on them.

    Args:
        influence: shape (n,) or (n, q): by how much an estimate would change if an example
            counted twice, times n; for a mean, the example's deviation from it. Columns sum to 0.
        clusters: shape (n,), labels of seeds, or None: each unit, or without units each example,
            is on its own.
        units: shape (n,), labels of what the clusters saw (the image). Units that several clusters
            saw are crossed with them; units of one cluster only are examples of it, whose noise is
            in the clusters' spread already. None: no unit was seen twice.

    Returns:
        The error's distribution. With clusters of their own units, and with one cluster or none,
        the many-levelled term is 0: Student's t over clusters, or over units within the one
        cluster, which says nothing about the next seed. nan if only one thing is independent.

    Raises:
        ValueError: if shapes differ.

    Source: mean squares: Searle, Casella and McCulloch 1992, "Variance Components", chapter 4 (the
    residual's by least squares where cells are missing). Generalised pivot: Weerahandi 1993,
    "Generalized confidence intervals"; of two variances: Behrens 1929, Fisher 1935. Influence
    values: Hampel 1974. Images of unequal counts count by rows (Kish 1965).
    """
    values = np.asarray(influence, float)
    values = values[:, None] if values.ndim == 1 else values
    n = len(values)
    seeds, images = _indicator(clusters, n, "clusters"), _indicator(units, n, "units")
    if seeds.shape[0] == 1 or clusters is None:
        return _one_factor(values, images)
    cells = sparse.csr_array(seeds.T).indices * images.shape[0] + sparse.csr_array(images.T).indices
    distinct, cell = np.unique(cells, return_inverse=True)
    if len(distinct) == images.shape[0] or images.shape[0] == 1:
        return _one_factor(values, seeds)
    by_seed, by_image = _one_factor(values, seeds), _one_factor(values, images)
    residual = _residual(_indicator(cell, n, "cells") @ values, distinct, seeds, images) / n**2
    # The factor with fewer degrees of freedom keeps the residual's share: that sum is what its own
    # mean square measures, with those degrees of freedom.
    few_is_seed = by_seed.df_few <= by_image.df_few
    order = ("few", "df_few")
    few, df_few = (np.where(few_is_seed, getattr(by_seed, x), getattr(by_image, x)) for x in order)
    more, df = (np.where(few_is_seed, getattr(by_image, x), getattr(by_seed, x)) for x in order)
    return SamplingError(few, df_few, np.maximum(more - residual, 0.0), df)


def _indicator(labels: np.ndarray | None, n: int, name: str) -> sparse.csr_array:
    """Which group each example belongs to, shape (groups, n); None: each example is one."""
    codes = codes_of(labels, n, name)
    return sparse.csr_array((np.ones(n), (codes, np.arange(n))))


def _one_factor(values: np.ndarray, groups: sparse.csr_array) -> SamplingError:
    """Variance by the spread of the groups' sums."""
    n = len(values)
    # A statistic of a part of the data (a contrast of some angles) rests on that part's groups.
    counted = np.abs(values) > _ROUNDING * np.abs(values).max(axis=0, initial=0.0)
    counted |= ~counted.any(axis=0)
    rows = groups @ counted.astype(float)
    share = rows / rows.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(share > 0, (groups @ values) ** 2 / (1 - share), 0.0).sum(0) / n**2
    df = 1 / (share**2).sum(0) - 1
    alone = df < 1e-6
    rest = np.zeros(values.shape[1]), np.full(values.shape[1], np.inf)
    return SamplingError(np.where(alone, np.nan, variance), np.where(alone, np.nan, df), *rest)


def _residual(
    sums: np.ndarray, cells: np.ndarray, seeds: sparse.csr_array, images: sparse.csr_array
) -> np.ndarray:
    """Sum of squares over cells that seeds and images do not explain, per degree of freedom.

    Least squares by elimination: cells are centred within images, then a system as large as the
    number of seeds is left.
    """
    k, m = seeds.shape[0], images.shape[0]
    swap = k > m
    rows, columns = (cells // m, cells % m) if not swap else (cells % m, cells // m)
    few = sparse.csr_array((np.ones(len(cells)), (rows, np.arange(len(cells)))))
    many = sparse.csr_array((np.ones(len(cells)), (columns, np.arange(len(cells)))))
    size = np.asarray(many.sum(1)).reshape(-1)
    centred = sums - many.T @ ((many @ sums) / size[:, None])
    shared = (few @ many.T).toarray()
    system = np.diag(np.asarray(few.sum(1)).reshape(-1)) - (shared / size) @ shared.T
    right = few @ centred
    left = (centred**2).sum(0) - (right * (np.linalg.pinv(system, hermitian=True) @ right)).sum(0)
    df = len(cells) - len(size) - np.linalg.matrix_rank(system, hermitian=True)
    return np.maximum(left, 0.0) * len(cells) / df if df > 0 else np.zeros(sums.shape[1])
