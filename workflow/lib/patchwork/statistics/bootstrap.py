"""Intervals and tests for few seeds and many examples.

Examples of one seed share a network, so they are not independent: every interval resamples seeds
(clusters) first and examples second. With three to five clusters the plain percentile bootstrap
covers far too little; here the spread of the replicates is enlarged by k / (k - 1) and set into
Student's t with k - 1 degrees of freedom, which the tests check by simulation. With one cluster, k
counts its units (images with several rows each); without units, its examples.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95
N_RESAMPLES = 2000
_BATCH = 4_000_000  # weights held at once: 32 MB

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: the statistic of all the data.
        low: lower end; nan if the data cannot give one.
        high: upper end; nan if the data cannot give one.
        n: examples.
        clusters: independent clusters (seeds) among them.
    """

    estimate: float
    low: float
    high: float
    n: int
    clusters: int

    def within(self, low: float, high: float) -> "Interval":
        """The interval with its ends cut to what the quantity can be."""
        return replace(self, low=max(self.low, low), high=min(self.high, high))

    def row(self) -> dict[str, float | int]:
        """As columns of a table: estimate, ci_low, ci_high, n, seeds."""
        return {
            "estimate": self.estimate,
            "ci_low": self.low,
            "ci_high": self.high,
            "n": self.n,
            "seeds": self.clusters,
        }


@dataclass(frozen=True)
class Resampling:
    """How a bootstrap is run.

    Attributes:
        n_resamples: replicates, at least 100.
        confidence: coverage of the interval, between 0 and 1.
        seed: 0 or more; the same seed gives the same interval.
    """

    n_resamples: int = N_RESAMPLES
    confidence: float = CONFIDENCE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_resamples < 100:
            raise ValueError(f"n_resamples is {self.n_resamples}; allowed is 100 or more")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}; allowed is between 0 and 1")

    def generator(self) -> np.random.Generator:
        """A fresh generator; it starts from the seed each time."""
        return np.random.Generator(np.random.Philox(self.seed))


DEFAULT = Resampling()


def arithmetic_mean(means: np.ndarray) -> np.ndarray:
    """The first column: the statistic that is the mean itself."""
    return means[..., 0]


def codes_of(labels: np.ndarray | None, n: int, name: str) -> np.ndarray:
    """Labels as integers 0..k-1; no labels means that each example stands alone."""
    if labels is None:
        return np.arange(n)
    codes = np.unique(np.asarray(labels), return_inverse=True)[1].reshape(-1)
    if len(codes) != n:
        raise ValueError(f"{name} has {len(codes)} labels; allowed is one for each of {n} examples")
    return codes


def columns_of(values: np.ndarray, name: str = "values") -> np.ndarray:
    """Finite values as columns, shape (n, d)."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2) or len(array) == 0:
        raise ValueError(f"{name} has shape {array.shape}; allowed is (n,) or (n, d) with n >= 1")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds nan or infinity; allowed are finite numbers")
    return array[:, None] if array.ndim == 1 else array


def sample_of(values: np.ndarray, name: str) -> np.ndarray:
    """Finite values, shape (n,)."""
    if np.ndim(values) != 1 or len(values) == 0:
        raise ValueError(f"{name} has shape {np.shape(values)}; allowed is (n,) with n >= 1")
    return columns_of(values, name)[:, 0]


def _nested_weights(
    codes: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """How often each example is drawn: clusters with replacement, then examples inside each."""
    n, sizes = len(codes), np.bincount(codes)
    k, first = len(sizes), np.cumsum(sizes) - sizes
    order = np.argsort(codes, kind="stable")
    for rows in batches(n_resamples, n):
        if k in (1, n):  # a single level: all examples are exchangeable
            picks, owners = rng.integers(n, size=(rows, n)), np.arange(rows)[:, None]
            flat = (owners * n + picks).reshape(-1)
        else:
            drawn = rng.integers(k, size=(rows, k)).reshape(-1)
            total = sizes[drawn]
            inside = np.floor(rng.random(int(total.sum())) * np.repeat(total, total)).astype(int)
            picks = order[np.repeat(first[drawn], total) + inside]
            flat = np.repeat(np.repeat(np.arange(rows), k), total) * n + picks
        yield np.bincount(flat, minlength=rows * n).reshape(rows, n).astype(np.float64)


def _crossed_weights(
    codes: np.ndarray, units: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Weights when the same units were seen by every cluster: both drawn, each for all others."""
    k, m = codes.max() + 1, units.max() + 1
    for rows in batches(n_resamples, len(codes)):
        unit_draws = rng.multinomial(m, np.full(m, 1 / m), size=rows)[:, units]
        if k > 1:
            unit_draws = unit_draws * rng.multinomial(k, np.full(k, 1 / k), size=rows)[:, codes]
        yield unit_draws.astype(np.float64)


def batches(n_resamples: int, n: int) -> Iterator[int]:
    """Sizes of batches of replicates, each with n weights, that fit into memory."""
    size = max(1, _BATCH // n)
    for done in range(0, n_resamples, size):
        yield min(size, n_resamples - done)


def bootstrap_means(
    values: np.ndarray,
    clusters: np.ndarray | None,
    resampling: Resampling = DEFAULT,
    units: np.ndarray | None = None,
) -> np.ndarray:
    """Means of each column under resampling of clusters and of the examples inside them.

    Any smooth statistic of means (ratio, correlation, regression) follows from these by one
    vectorised expression, so the data are resampled once for all of them.

    Args:
        values: shape (n,) or (n, d), finite.
        clusters: shape (n,), labels of clusters, or None: each unit, or without units each example,
            is its own cluster.
        resampling: replicates and seed.
        units: shape (n,), labels of what all clusters saw (the test image); given, units are
            resampled for all clusters at once, else examples within each cluster on their own.

    Returns:
        shape (n_resamples, d).

    Raises:
        ValueError: if shapes differ or values are not finite.

    Source: Davison and Hinkley 1997, section 3.8 (two levels); Owen 2007, "The pigeonhole
    bootstrap" (crossed).
    """
    columns = columns_of(values)
    if clusters is None and units is not None:  # units are drawn whole, as within one cluster
        clusters = np.zeros(len(columns))
    codes = codes_of(clusters, len(columns), "clusters")
    rng = resampling.generator()
    if units is None:
        drawn = _nested_weights(codes, resampling.n_resamples, rng)
    else:
        labels = codes_of(units, len(columns), "units")
        drawn = _crossed_weights(codes, labels, resampling.n_resamples, rng)
    parts = []
    for weights in drawn:
        total = weights.sum(1, keepdims=True)
        with np.errstate(invalid="ignore"):  # crossed draws may miss every cell: nan, left out
            parts.append(weights @ columns / np.where(total == 0, np.nan, total))
    return np.concatenate(parts)


def standard_error(replicates: np.ndarray, k: int) -> np.ndarray:
    """Spread of the replicates, enlarged for few clusters; nan where there is only one."""
    if k < 2:
        return np.full(replicates.shape[1:], np.nan)
    return np.nanstd(replicates, axis=0) * np.sqrt(k / (k - 1))


def counts_of(n: int, clusters: np.ndarray | None, units: np.ndarray | None) -> tuple[int, int]:
    """How many clusters and units n examples have; without clusters each unit is one."""
    m = int(codes_of(units, n, "units").max()) + 1
    return (m if clusters is None else int(codes_of(clusters, n, "clusters").max()) + 1), m


def levels(clusters: int, units: int) -> int:
    """Number of independent things that were resampled: the topmost level that has several."""
    return clusters if clusters > 1 else units


def interval_of(
    estimate: float,
    replicates: np.ndarray,
    *,
    n: int,
    clusters: int,
    confidence: float = CONFIDENCE,
    period: float | None = None,
    units: int | None = None,
) -> Interval:
    """A t interval around an estimate from the spread of its bootstrap replicates.

    Args:
        estimate: the statistic of all the data.
        replicates: shape (n_resamples,), its bootstrap replicates; nan is left out.
        n: examples.
        clusters: clusters; with one, its units were resampled, and the interval says nothing
            about the next seed.
        confidence: between 0 and 1.
        period: for places on a circle: differences are taken the short way round, and the
            interval is at most the whole circle.
        units: distinct units among the examples, which count where there is one cluster; None:
            each example is its own unit.

    Returns:
        The interval; its ends are nan where fewer than two things were resampled or fewer than
        half of the replicates exist.
    """
    k = levels(clusters, n if units is None else units)
    kept = replicates[np.isfinite(replicates)]
    if k < 2 or not np.isfinite(estimate) or 2 * len(kept) < len(replicates):
        return Interval(float(estimate), np.nan, np.nan, n, clusters)
    apart = kept - estimate
    if period is not None:
        apart = np.mod(apart + period / 2, period) - period / 2
    # About the estimate, not about the replicates' mean: on a circle the latter does not exist.
    spread = float(np.sqrt(np.mean(apart**2)) if period else np.std(apart))
    half = stats.t.ppf((1 + confidence) / 2, k - 1) * spread * np.sqrt(k / (k - 1))
    half = half if period is None else min(half, period / 2)
    return Interval(float(estimate), float(estimate - half), float(estimate + half), n, clusters)


def cluster_bootstrap(
    values: np.ndarray,
    clusters: np.ndarray | None,
    statistic: Statistic = arithmetic_mean,
    *,
    resampling: Resampling = DEFAULT,
    units: np.ndarray | None = None,
    period: float | None = None,
) -> Interval:
    """Interval of a statistic of means, with clusters and the examples inside them resampled.

    Nested examples are a little over-counted (their noise is in the clusters' means already), so
    intervals err on the wide side, by at most a factor of about 1.5 when clusters do not differ.

    Args:
        values: shape (n,) or (n, d), finite.
        clusters: shape (n,), or None: each unit, or without units each example, is its own
            cluster. With one cluster only the units or examples in it are resampled.
        statistic: maps column means, shape (..., d), to shape (...); the mean if left out.
        resampling: replicates, confidence and seed.
        units: as for `bootstrap_means`.
        period: as for `interval_of`.

    Returns:
        The interval; its ends are nan with a single unit in a single cluster, however many rows it
        has.

    Raises:
        ValueError: if shapes differ or values are not finite.
    """
    quantities = {"": (values, statistic, period)}
    return joint_bootstrap(quantities, clusters, resampling=resampling, units=units)[""]


def joint_bootstrap(
    quantities: Mapping[str, tuple[np.ndarray, Statistic, float | None]],
    clusters: np.ndarray | None,
    *,
    resampling: Resampling = DEFAULT,
    units: np.ndarray | None = None,
) -> dict[str, Interval]:
    """Intervals of several statistics of the same examples from one resampling.

    Args:
        quantities: name to (values, statistic, period), each as for `cluster_bootstrap`.
        clusters: as for `cluster_bootstrap`.
        resampling: replicates, confidence and seed.
        units: as for `bootstrap_means`.

    Returns:
        name to interval.

    Raises:
        ValueError: if shapes differ or values are not finite.
    """
    blocks = [columns_of(values) for values, _, _ in quantities.values()]
    columns = np.concatenate(blocks, axis=1)
    means, replicates = columns.mean(0), bootstrap_means(columns, clusters, resampling, units)
    k, m = counts_of(len(columns), clusters, units)
    intervals, first = {}, 0
    for block, (name, (_, statistic, period)) in zip(blocks, quantities.items(), strict=True):
        part = slice(first, first := first + block.shape[1])
        intervals[name] = interval_of(
            float(statistic(means[part])),
            statistic(replicates[:, part]),
            n=len(columns),
            clusters=k,
            confidence=resampling.confidence,
            period=period,
            units=m,
        )
    return intervals


def paired_bootstrap(
    treated: np.ndarray,
    control: np.ndarray,
    clusters: np.ndarray | None,
    *,
    resampling: Resampling = DEFAULT,
    units: np.ndarray | None = None,
) -> Interval:
    """Interval of the mean difference of two measurements of the same examples.

    Args:
        treated: shape (n,).
        control: shape (n,), in the same order.
        clusters: as for `cluster_bootstrap`.
        resampling: replicates, confidence and seed.
        units: as for `bootstrap_means`.

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
    return cluster_bootstrap(treated - control, clusters, resampling=resampling, units=units)


def over_seeds(
    per_seed: ArrayLike, resampling: Resampling, ends: tuple[float, float] = (-np.inf, np.inf)
) -> dict[str, float | int]:
    """Mean of one number per seed, as columns of a table (see `Interval.row`).

    Args:
        per_seed: shape (seeds,); a seed with nan is left out.
        resampling: replicates, confidence and seed.
        ends: what the quantity can be; the interval lies within.
    """
    values = np.asarray(per_seed, dtype=np.float64)
    known = values[~np.isnan(values)]
    if not len(known):
        return Interval(np.nan, np.nan, np.nan, 0, 0).row()
    return cluster_bootstrap(known, None, resampling=resampling).within(*ends).row()
