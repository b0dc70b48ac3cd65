"""Confidence intervals: of means, ratios, shares and any smooth statistic, over seeds and images.

The interval at 95 % is shown; that at 90 % decides whether a quantity lies in a region, which is
two one-sided tests at 5 % (Schuirmann 1987).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from patchwork.statistics.influence import (
    Estimates,
    Statistic,
    codes_of,
    means,
    of_means,
    ratios,
    sample_of,
)
from patchwork.statistics.sampling import LEVEL, SamplingError, sampling_error

DECIDING = 0.90


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence intervals.

    Attributes:
        estimate: the statistic of all the data.
        low: lower end at 95 %; nan if the data cannot give one.
        high: upper end at 95 %.
        low90: lower end at 90 %.
        high90: upper end at 90 %.
        n: examples.
        clusters: independent clusters (seeds) among them.
        error: standard error, in the unit of the estimate before any `mapped`.
        p: two-sided, that the quantity is zero; nan where zero is no hypothesis.
    """

    estimate: float
    low: float
    high: float
    low90: float
    high90: float
    n: int
    clusters: int
    error: float = np.nan
    p: float = np.nan

    def row(self) -> dict[str, float | int]:
        """As columns of a table: estimate, ci_low, ci_high, ci90_low, ci90_high, n, seeds."""
        return {
            "estimate": self.estimate,
            "ci_low": self.low,
            "ci_high": self.high,
            "ci90_low": self.low90,
            "ci90_high": self.high90,
            "n": self.n,
            "seeds": self.clusters,
        }

    def mapped(self, function: Callable[[float], float]) -> "Interval":
        """The interval of a growing function of the quantity, such as tanh of Fisher's z."""
        names = ("estimate", "low", "high", "low90", "high90")
        moved: dict[str, Any] = {name: float(function(getattr(self, name))) for name in names}
        return replace(self, **moved)

    def within(self, least: float = -np.inf, most: float = np.inf) -> "Interval":
        """The interval with its ends moved to what the quantity can be; nan stays nan."""
        ends = ("low", "high", "low90", "high90")
        moved: dict[str, Any] = {
            name: float(np.clip(getattr(self, name), least, most)) for name in ends
        }
        return replace(self, **moved)


def unknown(n: int, clusters: int, estimate: float = np.nan) -> Interval:
    """An estimate, or none, without an interval."""
    return Interval(float(estimate), np.nan, np.nan, np.nan, np.nan, n, clusters)


def exact(value: float, n: int, clusters: int) -> Interval:
    """A number without sampling error, such as a count."""
    return Interval(value, value, value, value, value, n, clusters, 0.0)


def _made(
    ends: Iterable[float], n: int, clusters: int, error: float, p: float = np.nan
) -> Interval:
    """An interval from estimate, low, high, low90 and high90."""
    estimate, low, high, low90, high90 = map(float, ends)
    return Interval(estimate, low, high, low90, high90, n, clusters, float(error), float(p))


def counts_of(n: int, clusters: np.ndarray | None, units: np.ndarray | None) -> tuple[int, int]:
    """How many clusters and units n examples have; without clusters each unit is one."""
    m = int(codes_of(units, n, "units").max()) + 1
    return (m if clusters is None else int(codes_of(clusters, n, "clusters").max()) + 1), m


def intervals_of(
    found: Estimates,
    clusters: np.ndarray | None,
    units: np.ndarray | None = None,
    *,
    period: float | None = None,
    family: int = 1,
) -> list[Interval]:
    """Intervals of estimates from their influence values.

    Args:
        found: estimates, from one of the functions of ``influence``.
        clusters: shape (n,), labels of seeds; None: each unit, or without units each example, is
            its own.
        units: shape (n,), labels of what all clusters saw (the test image), as for
            `sampling_error`.
        period: for places on a circle: an interval is at most the whole circle.
        family: number of intervals that are to hold together (Bonferroni).

    Returns:
        One interval per estimate; ends are nan where only one thing is independent.
    """
    n = len(found.influence)
    error = sampling_error(found.influence, clusters, units)
    count = counts_of(n, clusters, units)[0]
    return around(found.value, error, n=n, clusters=count, period=period, family=family)


def around(
    values: np.ndarray,
    error: SamplingError,
    *,
    n: int,
    clusters: int,
    period: float | None = None,
    family: int = 1,
) -> list[Interval]:
    """Intervals around estimates with a known distribution of errors; as for `intervals_of`."""
    halves = [error.half_width(1 - (1 - level) / family) for level in (LEVEL, DECIDING)]
    if period is not None:
        halves = [np.minimum(half, period / 2) for half in halves]
    shown, deciding = halves
    rows = zip(values, shown, deciding, error.standard_error, error.p_value(values), strict=True)
    return [_made((x, x - a, x + a, x - b, x + b), n, clusters, e, p) for x, a, b, e, p in rows]


def interval(
    values: np.ndarray,
    clusters: np.ndarray | None = None,
    statistic: Statistic | None = None,
    *,
    units: np.ndarray | None = None,
    period: float | None = None,
    family: int = 1,
) -> Interval:
    """Interval of a mean, or of a smooth statistic of column means.

    Args:
        values: shape (n,) or (n, d), finite; one value per seed and no labels give Student's t
            over seeds.
        clusters: as for `intervals_of`.
        statistic: maps means, shape (..., d), to shape (...); the mean if left out.
        units: as for `intervals_of`.
        period: as for `intervals_of`.
        family: as for `intervals_of`.

    Raises:
        ValueError: if shapes differ or values are not finite.
    """
    found = means(values) if statistic is None else of_means(values, statistic, period)
    return intervals_of(found, clusters, units, period=period, family=family)[0]


def intervals(
    quantities: Mapping[str, tuple[np.ndarray, Statistic | None]],
    clusters: np.ndarray | None,
    units: np.ndarray | None = None,
    *,
    family: int = 1,
) -> dict[str, Interval]:
    """Intervals of several statistics of the same examples, as for `interval`.

    Args:
        quantities: name to values and statistic (None: the mean).
        clusters: as for `intervals_of`.
        units: as for `intervals_of`.
        family: as for `intervals_of`.
    """
    return {
        name: interval(values, clusters, statistic, units=units, family=family)
        for name, (values, statistic) in quantities.items()
    }


def paired_interval(
    treated: np.ndarray,
    control: np.ndarray,
    clusters: np.ndarray | None,
    units: np.ndarray | None = None,
) -> Interval:
    """Interval of the mean difference of two measurements of the same examples.

    Args:
        treated: shape (n,).
        control: shape (n,), in the same order.
        clusters: as for `intervals_of`.
        units: as for `intervals_of`.

    Returns:
        The interval of treated minus control.

    Raises:
        ValueError: if the shapes differ, are not (n,), or values are not finite.
    """
    treated, control = sample_of(treated, "treated"), sample_of(control, "control")
    if treated.shape != control.shape:
        raise ValueError(
            f"treated has shape {treated.shape}; allowed is that of control, {control.shape}"
        )
    return interval(treated - control, clusters, units=units)


def greatest(
    plain: Sequence[Interval], strict: Sequence[Interval], values: np.ndarray | None = None
) -> Interval:
    """Interval of the greatest of several quantities.

    The end away from the others is that of the plain intervals: the greatest lies beyond it only if
    its own quantity does. The end towards them could be passed by any, so it is that of intervals
    corrected for their number.

    Args:
        plain: of each quantity.
        strict: the same for the family (Bonferroni).
        values: shape (q,), what is greatest, if the quantities' distances from something; their
            own estimates if left out.
    """
    values = np.array([one.estimate for one in plain]) if values is None else values
    ends: dict[str, Any] = {}
    for low, high in (("low", "high"), ("low90", "high90")):
        half, wide = (
            np.array([getattr(one, high) - one.estimate for one in some])
            for some in (plain, strict)
        )
        ends |= {low: float((values - wide).max()), high: float((values + half).max())}
    n, clusters = sum(one.n for one in plain), min(one.clusters for one in plain)
    return Interval(float(values.max()), **ends, n=n, clusters=clusters)


def least(plain: Sequence[Interval], strict: Sequence[Interval]) -> Interval:
    """Interval of the least of several quantities; as for `greatest`."""
    one = greatest(plain, strict, -np.array([one.estimate for one in plain]))
    return _made(
        (-one.estimate, -one.high, -one.low, -one.high90, -one.low90), one.n, one.clusters, np.nan
    )


def share_intervals(
    values: np.ndarray, clusters: np.ndarray | None = None, units: np.ndarray | None = None
) -> list[Interval]:
    """Intervals of means between 0 and 1: shares, hit rates, areas under a curve.

    Args:
        values: shape (n,) or (n, q), finite, each column with a mean of 0 to 1; for an area,
            placement values.
        clusters: as for `intervals_of`.
        units: as for `intervals_of`.

    Returns:
        Clopper and Pearson's interval with as many trials as would give the sampling error over
        seeds and images, at most the examples. Where every value is the same, the distinct units
        count as trials, so that no interval is without width. Ends are nan with one independent
        thing.

    Raises:
        ValueError: if shapes differ, values are not finite or a mean is no share.

    Source: Korn and Graubard 1998, "Confidence intervals for proportions with small expected
    number of positive counts estimated from survey data".
    """
    found = means(values)
    share, n = found.value, len(found.influence)
    if not ((share > -1e-9) & (share < 1 + 1e-9)).all():
        raise ValueError(f"values has means {share}; allowed is 0 to 1")
    share = np.clip(share, 0, 1)
    error = sampling_error(found.influence, clusters, units)
    k, m = counts_of(n, clusters, units)
    ends: list[np.ndarray] = []
    for level in (LEVEL, DECIDING):
        normal = stats.norm.ppf((1 + level) / 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            trials = share * (1 - share) * (normal / error.half_width(level)) ** 2
        # Nothing varies: 0/0.
        trials = np.where(error.few + error.many == 0, m, np.minimum(trials, n))
        ends += binomial_interval(share * trials, trials, level)
    return [
        _made(row[:5], n, k, row[5]) for row in zip(share, *ends, error.standard_error, strict=True)
    ]


def over_seeds(
    per_seed: ArrayLike, ends: tuple[float, float] = (-np.inf, np.inf)
) -> dict[str, float | int]:
    """Mean of one number per seed, as columns of a table (see `Interval.row`).

    Args:
        per_seed: shape (seeds,); a seed with nan is left out.
        ends: what the quantity can be; the interval lies within.
    """
    values = np.asarray(per_seed, dtype=np.float64)
    known = values[~np.isnan(values)]
    return (interval(known).within(*ends) if len(known) else unknown(0, 0)).row()


def share_over_seeds(member: ArrayLike, seeds: ArrayLike) -> Interval:
    """Interval of the share of heads, say, that are of a kind, over networks.

    Args:
        member: shape (n,), whether each head of each network is.
        seeds: shape (n,), its network.

    Returns:
        As for `share_intervals`; without ends for a single network, whose heads are no sample.
    """
    found = share_intervals(np.asarray(member, float), np.asarray(seeds))[0]
    return found if found.clusters > 1 else unknown(found.n, found.clusters, found.estimate)


def binomial_interval(
    successes: np.ndarray | float, n: np.ndarray | float, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Clopper and Pearson's interval of a chance from so many successes of n trials.

    Args:
        successes: 0 to n; a fraction where several networks saw the same trials.
        n: trials, above 0.
        level: between 0 and 1.

    Returns:
        Lower and upper end, 0 to 1; nan where n is.

    Raises:
        ValueError: if successes do not lie between 0 and n.

    Source: Clopper and Pearson 1934.
    """
    hits, trials = np.asarray(successes, float), np.asarray(n, float)
    if ((trials <= 0) | (hits < 0) | (hits > trials)).any():
        raise ValueError(f"successes is {successes} of n = {n}; allowed is 0 to n, with n > 0")
    tail, misses = (1 - level) / 2, trials - hits
    # An empty side has an end of its own: the beta distribution does not exist there.
    low = stats.beta.ppf(tail, np.where(hits > 0, hits, 1), misses + 1)
    high = stats.beta.ppf(1 - tail, hits + 1, np.where(misses > 0, misses, 1))
    return np.where(hits == 0, 0.0, low), np.where(misses == 0, 1.0, high)


def binomial_ends(successes: float, n: int) -> dict[str, float]:
    """Ends of the binomial intervals, as columns of a table: ci_low, ci_high, ci90_low, ..."""
    shown, deciding = (binomial_interval(successes, n, level) for level in (LEVEL, DECIDING))
    names = ("ci_low", "ci_high", "ci90_low", "ci90_high")
    return dict(zip(names, map(float, (*shown, *deciding)), strict=True))


def ratio_interval(
    top: np.ndarray,
    bottom: np.ndarray,
    clusters: np.ndarray | None = None,
    units: np.ndarray | None = None,
) -> Interval:
    """Interval of the ratio of two paired means, also where the lower one may be near zero.

    Args:
        top: shape (n,).
        bottom: shape (n,).
        clusters: as for `intervals_of`.
        units: as for `intervals_of`.

    Returns:
        The ratios r for which `top - r bottom` cannot be told from zero; ends are nan where that
        excludes no ratio, for the lower mean cannot be told from zero.

    Source: Fieller 1954, "Some problems in interval estimation".
    """
    over, below = sample_of(top, "top"), sample_of(bottom, "bottom")
    n, k = len(over), counts_of(len(over), clusters, units)[0]
    if below.mean() == 0:
        return unknown(n, k)
    found = ratios(over, below)
    ratio, mean = float(found.value[0]), float(below.mean())
    # The variance of top - r bottom is a parabola in r: three values give it. They are taken a
    # step apart in which both terms count.
    spread = np.std(over), np.std(below)
    step = spread[0] / spread[1] if min(spread) > 0 else abs(ratio) or 1.0
    at = ratio + step * np.array([-1.0, 0.0, 1.0])
    rest = (over - over.mean())[:, None] - (below - mean)[:, None] * at
    error = sampling_error(rest, clusters, units)
    if np.isnan(error.few[0]):
        return unknown(n, k, ratio)
    curve = np.polyfit(at - ratio, error.standard_error**2, 2)
    ends: list[float] = []
    for level in (LEVEL, DECIDING):
        ends += _fieller(ratio, mean, curve, _quantile(error, level))
    return _made((ratio, *ends), n, k, error.standard_error[1] / abs(mean))


def _quantile(error: SamplingError, level: float) -> float:
    """Half width in standard errors, at the estimate."""
    spread = float(error.standard_error[1])
    return float(error.half_width(level)[1]) / spread if spread > 0 else 0.0


def _fieller(ratio: float, mean: float, curve: np.ndarray, quantile: float) -> tuple[float, float]:
    """Where the square of mean x (r - ratio) is quantile squared times the variance at r."""
    a, b, c = np.array([mean**2, 0, 0]) - quantile**2 * curve
    root = b**2 - 4 * a * c
    if a <= 0 or root < 0:
        return np.nan, np.nan
    return (
        float(ratio + (-b - np.sqrt(root)) / (2 * a)),
        float(ratio + (-b + np.sqrt(root)) / (2 * a)),
    )
