"""Tests of effects: whole grids of cells, ratios, equivalence, families of tests, confirmation."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from patchwork.statistics.influence import (
    Estimates,
    codes_of,
    columns_of,
    means,
    ratios,
)
from patchwork.statistics.sampling import LEVEL, SamplingError, sampling_error

_HELD = 4_000_000  # signs held at once: 32 MB
_ALPHA = 0.05


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


def effect_table(
    differences: np.ndarray, clusters: np.ndarray | None, *, units: np.ndarray | None = None
) -> pd.DataFrame:
    """Effect of each cell of a sweep with its interval, p and q over the whole grid.

    Args:
        differences: shape (n, cells), per-example paired differences, one column per cell.
        clusters: shape (n,), seeds or groups of examples; None: each unit, or without units each
            example, stands alone.
        units: as for `sampling_error`: the example's identity if several seeds saw the same.

    Returns:
        One row per cell, in order: effect, ci_low, ci_high (95 %), p (two-sided), q
        (Benjamini-Hochberg), n. A cell whose differences are all zero has p = 1. With one cluster,
        its units are what is independent; a single unit tells nothing of the next, however many
        rows it has: ci_low, ci_high, p and q are nan.

    Raises:
        ValueError: if shapes differ, values are not finite or there is one example only.
    """
    found = means(columns_of(differences, "differences"))
    if len(found.influence) < 2:
        raise ValueError("differences has 1 example; allowed is 2 or more")
    return _table("effect", found, sampling_error(found.influence, clusters, units))


def ratio_table(
    values: np.ndarray,
    whole: np.ndarray,
    clusters: np.ndarray | None,
    *,
    units: np.ndarray | None = None,
    scale: float = 1.0,
    margin: float | None = None,
) -> pd.DataFrame:
    """Mean of each cell over the mean of one quantity, with intervals and tests.

    Args:
        values: shape (n, cells).
        whole: shape (n,), of which each cell is a share; its mean is far from zero.
        clusters: as for `effect_table`.
        units: as for `effect_table`.
        scale: 100 for percent.
        margin: of equivalence, above 0, on the scale; None leaves that test out.

    Returns:
        One row per cell: mean (of values), ratio, ci_low, ci_high (95 %), p (of no effect), q
        (Benjamini-Hochberg), n, with a margin p_equivalent (two one-sided tests) and equivalent
        (at the 5 % level). Intervals and p are nan where there is one example.

    Raises:
        ValueError: if shapes differ, values are not finite or the margin is not positive.

    Source: equivalence: Schuirmann 1987, "A comparison of the two one-sided tests procedure".
    """
    if margin is not None and not margin > 0:
        raise ValueError(f"margin is {margin}; allowed is more than 0")
    share = ratios(values, whole)
    found = Estimates(scale * share.value, scale * share.influence)
    error = sampling_error(found.influence, clusters, units)
    table = _table("ratio", found, error).assign(mean=columns_of(values).mean(0))
    if margin is None:
        return table
    p = error.tail(margin - np.abs(found.value))
    return table.assign(p_equivalent=p, equivalent=p < _ALPHA)


def _table(name: str, found: Estimates, error: SamplingError) -> pd.DataFrame:
    half, p = error.half_width(LEVEL), error.p_value(found.value)
    return pd.DataFrame(
        {
            name: found.value,
            "ci_low": found.value - half,
            "ci_high": found.value + half,
            "p": p,
            "q": false_discovery_rate(p),
            "n": len(found.influence),
        }
    )


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
    if n_flips < 1:
        raise ValueError(f"n_flips is {n_flips}; allowed is 1 or more")
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
    for rows in _batches(n_flips, max(sums.shape)):
        signs = 2.0 * rng.integers(2, size=(rows, len(sums))) - 1
        top = t(signs @ sums).max(1)
        count += (top[:, None] >= true * (1 - 1e-9)).sum(0)
    return (1 + count) / (n_flips + 1)


def _batches(total: int, n: int) -> Iterator[int]:
    """Sizes of batches of rows of n numbers that fit into memory."""
    size = max(1, _HELD // n)
    for done in range(0, total, size):
        yield min(size, total - done)


def split_half(
    differences: np.ndarray,
    units: np.ndarray | None = None,
    *,
    q: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Select cells on one half of the examples and confirm them on the other.

    Args:
        differences: shape (n, cells), per-example paired differences.
        units: shape (n,), labels of what must not be in both halves; None: each example.
        q: false discovery rate of selection and of confirmation.
        seed: of the split.

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
    order = np.random.Generator(np.random.Philox(seed)).permutation(k)
    first = np.isin(codes, order[: k // 2])
    chosen = effect_table(columns[first], codes[first])
    cells = np.flatnonzero(chosen["q"] < q)
    names = ["cell", "effect_selection", "effect_confirmation", "p", "q", "confirmed"]
    if len(cells) == 0:
        return pd.DataFrame(columns=names)
    table = effect_table(columns[~first][:, cells], codes[~first])
    selected = chosen["effect"].to_numpy()[cells]
    same_sign = np.sign(selected) == np.sign(table["effect"])
    table = table.assign(cell=cells, effect_selection=selected).rename(
        columns={"effect": "effect_confirmation"}
    )
    return table.assign(confirmed=(table["q"] < q) & same_sign)[names]
