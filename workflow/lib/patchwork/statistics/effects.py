"""Tests of effects: false discovery rate, whole grids, ratios, equivalence, confirmation."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from patchwork.statistics.bootstrap import (
    DEFAULT,
    Interval,
    Resampling,
    batches,
    bootstrap_means,
    cluster_bootstrap,
    codes_of,
    columns_of,
    counts_of,
    levels,
    sample_of,
    standard_error,
)

_ALPHA = 0.05


def _check_draws(n: int, name: str) -> None:
    if n < 1:
        raise ValueError(f"{name} is {n}; allowed is 1 or more")


def false_discovery_rate(p: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg q values over all finite entries of an array of any shape.

    Args:
        p: p values, 0 to 1, or nan.

    Returns:
        the shape of p; nan where p is nan.

    Source: Benjamini and Hochberg 1995.
    """
    values = np.asarray(p, dtype=np.float64)
    q = np.full(values.shape, np.nan)
    known = np.isfinite(values)
    if known.any():
        q[known] = stats.false_discovery_control(values[known])
    return q


@dataclass(frozen=True)
class Equivalence:
    """Outcome of two one-sided tests.

    Attributes:
        interval: of the mean, with confidence 1 - 2 alpha.
        p: the larger of the two one-sided p values.
        equivalent: whether p < alpha, that is, the interval lies within the margin.
    """

    interval: Interval
    p: float
    equivalent: bool


def equivalence_test(
    differences: np.ndarray,
    margin: float,
    clusters: np.ndarray | None,
    *,
    alpha: float = 0.05,
    resampling: Resampling = DEFAULT,
) -> Equivalence:
    """Is a mean difference smaller than a margin stated beforehand, on either side?

    Args:
        differences: shape (n,), paired differences.
        margin: > 0, in the unit of differences.
        clusters: as for `cluster_bootstrap`.
        alpha: level, above 0 and below 0.5.
        resampling: replicates and seed; its confidence is not used.

    Returns:
        The outcome; not equivalent where no interval exists.

    Raises:
        ValueError: if margin or alpha is out of range, or differences is not of shape (n,) or not
            finite.

    Source: Schuirmann 1987, "A comparison of the two one-sided tests procedure".
    """
    if not margin > 0:
        raise ValueError(f"margin is {margin}; allowed is more than 0")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}; allowed is above 0 and below 0.5")
    wide = Resampling(resampling.n_resamples, 1 - 2 * alpha, resampling.seed)
    values = sample_of(differences, "differences")
    interval = cluster_bootstrap(values, clusters, resampling=wide)
    df = levels(interval.clusters, interval.n) - 1
    if not np.isfinite(interval.low):
        return Equivalence(interval, np.nan, False)
    error = (interval.high - interval.low) / 2 / stats.t.ppf(1 - alpha, df)
    room = margin - abs(interval.estimate)
    p = float(stats.t.sf(room / error, df)) if error > 0 else float(room <= 0)
    return Equivalence(interval, p, p < alpha)


def _cell_tests(
    columns: np.ndarray,
    clusters: np.ndarray | None,
    resampling: Resampling,
    units: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Effect and standard error of each column, and their degrees of freedom."""
    count = levels(*counts_of(len(columns), clusters, units))
    if len(columns) < 2:
        raise ValueError("differences has 1 example; allowed is 2 or more")
    replicates = bootstrap_means(columns, clusters, resampling, units)
    return columns.mean(0), standard_error(replicates, count), count - 1


def effect_table(
    differences: np.ndarray,
    clusters: np.ndarray | None,
    *,
    resampling: Resampling = DEFAULT,
    units: np.ndarray | None = None,
) -> pd.DataFrame:
    """Effect of each cell of a sweep with its interval, p and q over the whole grid.

    Args:
        differences: shape (n, cells), per-example paired differences, one column per cell.
        clusters: shape (n,), seeds or groups of examples; None: each unit, or without units each
            example, stands alone.
        resampling: replicates, confidence and seed; cells share the draws.
        units: as for `bootstrap_means`: the example's identity if several seeds saw the same.

    Returns:
        One row per cell, in order: effect, ci_low, ci_high, p (two-sided t test with the
        bootstrap's standard error), q (Benjamini-Hochberg), n. A cell whose differences are all
        zero has p = 1. With one cluster, its units are what is independent; a single unit tells
        nothing of the next, however many rows it has: ci_low, ci_high, p and q are nan.

    Raises:
        ValueError: if shapes differ, values are not finite or there is one example only.
    """
    columns = columns_of(differences, "differences")
    effect, error, df = _cell_tests(columns, clusters, resampling, units)
    half = stats.t.ppf((1 + resampling.confidence) / 2, df) * error
    p = _p_of(effect, error, df)
    return pd.DataFrame(
        {
            "effect": effect,
            "ci_low": effect - half,
            "ci_high": effect + half,
            "p": p,
            "q": false_discovery_rate(p),
            "n": len(columns),
        }
    )


def ratio_table(
    values: np.ndarray,
    whole: np.ndarray,
    clusters: np.ndarray | None,
    *,
    resampling: Resampling = DEFAULT,
    units: np.ndarray | None = None,
    scale: float = 1.0,
    margin: float | None = None,
) -> pd.DataFrame:
    """Mean of each cell over the mean of one quantity, with intervals and tests.

    Args:
        values: shape (n, cells).
        whole: shape (n,), of which each cell is a share.
        clusters: as for `effect_table`.
        resampling: replicates, confidence and seed; cells share the draws.
        units: as for `bootstrap_means`.
        scale: 100 for percent.
        margin: of equivalence, on the scale; None leaves that test out.

    Returns:
        One row per cell: mean (of values), ratio, ci_low, ci_high, p (of no effect), q
        (Benjamini-Hochberg), with a margin p_equivalent (two one-sided tests) and equivalent (at
        the 5 % level), n. Intervals and p are nan where there is one example.

    Raises:
        ValueError: if shapes differ or values are not finite.
    """
    columns = np.column_stack([values, whole])
    count = levels(*counts_of(len(columns), clusters, units))
    drawn = bootstrap_means(columns, clusters, resampling, units)
    means = columns.mean(0)
    ratio = scale * means[:-1] / means[-1]
    error = standard_error(scale * drawn[:, :-1] / drawn[:, -1:], count)
    half = stats.t.ppf((1 + resampling.confidence) / 2, count - 1) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        # A share that is the same in every replicate is certain, unless it is none.
        t = np.where(ratio == 0, 0.0, np.abs(ratio) / error)
        room = (np.nan if margin is None else margin - np.abs(ratio)) / error
    p = 2 * stats.t.sf(t, count - 1)
    table = pd.DataFrame({"mean": means[:-1], "ratio": ratio, "ci_low": ratio - half})
    table = table.assign(ci_high=ratio + half, p=p, q=false_discovery_rate(p), n=len(columns))
    if margin is None:
        return table
    p_equivalent = stats.t.sf(room, count - 1)
    return table.assign(p_equivalent=p_equivalent, equivalent=p_equivalent < _ALPHA)


def _p_of(effect: np.ndarray, error: np.ndarray, df: int) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((effect == 0) & (error == 0), 0.0, np.abs(effect) / error)
    return 2 * stats.t.sf(ratio, df)


def max_t_p(
    differences: np.ndarray,
    clusters: np.ndarray | None = None,
    *,
    n_flips: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Adjusts the p of each cell for the whole grid: sign flips against the largest |t| anywhere.

    Args:
        differences: shape (n, cells), per-example paired differences.
        clusters: shape (n,); the examples of a cluster change sign together. With k clusters no p
            can be smaller than 2 ** (1 - k), so use example groups, not a handful of seeds.
        n_flips: random flips, 1 or more.
        seed: 0 or more.

    Returns:
        shape (cells,), family-wise p values; 1 where all differences are zero.

    Raises:
        ValueError: if shapes differ, values are not finite or n_flips is below 1.

    Source: Westfall and Young 1993; Nichols and Holmes 2002 (sign flips).
    """
    _check_draws(n_flips, "n_flips")
    columns = columns_of(differences, "differences")
    codes = codes_of(clusters, len(columns), "clusters")
    sums = np.zeros((codes.max() + 1, columns.shape[1]))
    np.add.at(sums, codes, columns)
    rng = np.random.Generator(np.random.Philox(seed))
    squares = (sums**2).sum(0)

    def t(totals: np.ndarray) -> np.ndarray:
        # Flips leave the sum of squares as it is; only the mean's part in the variance moves.
        rest = np.maximum(squares - totals**2 / len(sums), 1e-12 * squares)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(squares > 0, np.abs(totals) / np.sqrt(rest), 0.0)

    true, count = t(sums.sum(0)), np.zeros(columns.shape[1])
    for rows in batches(n_flips, max(sums.shape)):
        signs = 2.0 * rng.integers(2, size=(rows, len(sums))) - 1
        top = t(signs @ sums).max(1)
        count += (top[:, None] >= true * (1 - 1e-9)).sum(0)
    return (1 + count) / (n_flips + 1)


def split_half(
    differences: np.ndarray,
    units: np.ndarray | None = None,
    *,
    q: float = 0.05,
    resampling: Resampling = DEFAULT,
) -> pd.DataFrame:
    """Select cells on one half of the examples and confirm them on the other.

    Args:
        differences: shape (n, cells), per-example paired differences.
        units: shape (n,), labels of what must not be in both halves; None: each example.
        q: false discovery rate of selection and of confirmation.
        resampling: replicates and seed; the seed also splits.

    Returns:
        One row per selected cell: cell (column), effect_selection, effect_confirmation, p and q on
        the confirming half (over the selected cells only), confirmed (q below the rate and the
        same sign).

    Raises:
        ValueError: if there are fewer than 4 units or values are not finite.
    """
    columns = columns_of(differences, "differences")
    codes = codes_of(units, len(columns), "units")
    k = codes.max() + 1
    if k < 4:
        raise ValueError(f"units has {k} distinct labels; allowed is 4 or more")
    order = resampling.generator().permutation(k)
    first = np.isin(codes, order[: k // 2])
    chosen = effect_table(columns[first], codes[first], resampling=resampling)
    cells = np.flatnonzero(chosen["q"] < q)
    names = ["cell", "effect_selection", "effect_confirmation", "p", "q", "confirmed"]
    if len(cells) == 0:
        return pd.DataFrame(columns=names)
    table = effect_table(columns[~first][:, cells], codes[~first], resampling=resampling)
    selected = chosen["effect"].to_numpy()[cells]
    same_sign = np.sign(selected) == np.sign(table["effect"])
    table = table.assign(cell=cells, effect_selection=selected).rename(
        columns={"effect": "effect_confirmation"}
    )
    return table.assign(confirmed=(table["q"] < q) & same_sign)[names]
