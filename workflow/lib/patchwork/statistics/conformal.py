"""Split-conformal intervals: how wide a prediction must be, and how often it is right."""

import math
from collections.abc import Hashable

import numpy as np
import pandas as pd
from scipy import stats

from patchwork.statistics.intervals import binomial_ends

ALL = "all"
COLUMNS = (
    "group", "half_width", "coverage", "ci_low", "ci_high", "ci90_low", "ci90_high", "expected_low",
    "expected_high",
    "n_calibration", "n",
)  # fmt: skip


def half_width(residuals: np.ndarray, coverage: float) -> float:
    """Half width that covers the next example with at least this chance, if it is exchangeable.

    Args:
        residuals: shape (n,), predicted minus true on calibration examples, any unit.
        coverage: wanted chance, between 0 and 1.

    Returns:
        The ceil((n + 1) coverage)-th smallest absolute residual, in the residuals' unit; infinite
        where n is too small for any finite one.

    Raises:
        ValueError: if residuals are not finite or coverage is not between 0 and 1.

    Source: Papadopoulos et al. 2002; Lei et al. 2018, "Distribution-free predictive inference for
    regression", algorithm 2.
    """
    sizes = np.abs(np.asarray(residuals, dtype=np.float64))
    if not np.isfinite(sizes).all():
        raise ValueError("residuals holds nan or infinity; allowed are finite numbers")
    rank = _rank(len(sizes), coverage)
    return float(np.partition(sizes, rank - 1)[rank - 1]) if rank <= len(sizes) else math.inf


def _rank(n: int, coverage: float) -> int:
    """Which of n absolute residuals, counted from 1, is the half width."""
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage}; allowed is between 0 and 1")
    # Less a hair, so that 10 * 0.9 is 9 and not the next number above.
    return math.ceil((n + 1) * coverage - 1e-9)


def expected_range(
    n_calibration: int, n: int, coverage: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Where the measured coverage falls if calibration and test examples are exchangeable.

    Args:
        n_calibration: examples that set the half width.
        n: examples on which coverage is measured.
        coverage: wanted chance, between 0 and 1.
        confidence: chance that the measured coverage falls inside.

    Returns:
        Lower and upper end, 0 to 1; both 1 where the half width is infinite.

    Source: Vovk 2012, "Conditional validity of inductive conformal predictors": the chance given
    the calibration examples is a beta variable, so the count is beta-binomial.
    """
    rank = _rank(n_calibration, coverage)
    if rank > n_calibration:
        return 1.0, 1.0
    tail = (1 - confidence) / 2
    count = stats.betabinom(n, rank, n_calibration + 1 - rank)
    return float(count.ppf(tail) / n), float(count.ppf(1 - tail) / n)


def split_conformal(
    residuals: np.ndarray,
    calibrates: np.ndarray,
    *,
    coverage: float,
    groups: np.ndarray | None = None,
) -> pd.DataFrame:
    """Set half widths on some examples and measure on the others how often they cover.

    Args:
        residuals: shape (n,), predicted minus true, any unit.
        calibrates: shape (n,), bool: which examples set the half width.
        coverage: wanted chance, between 0 and 1.
        groups: shape (n,), labels; given, each group has a half width of its own (Mondrian), so
            that coverage holds within it.

    Returns:
        One row per group (``all`` without groups) with measured examples, in sorted order:
        `COLUMNS`, namely the half width (unit of the residuals), the measured coverage with its
        binomial intervals, the range where exchangeable examples would put it, and the numbers
        of examples on either side.

    Raises:
        ValueError: if shapes differ, no example measures, or residuals are not finite.
    """
    sizes = np.abs(np.asarray(residuals, dtype=np.float64))
    fixes = np.asarray(calibrates, dtype=bool)
    names = np.full(len(sizes), ALL, dtype=object) if groups is None else np.asarray(groups)
    if not len(sizes) == len(fixes) == len(names):
        raise ValueError(
            f"calibrates has {len(fixes)} and groups {len(names)} entries; allowed is that of "
            f"residuals, {len(sizes)}"
        )
    if fixes.all():
        raise ValueError("calibrates leaves no example to measure on; allowed is one or more")
    rows = [
        _group_row(name, sizes[(names == name) & fixes], sizes[(names == name) & ~fixes], coverage)
        for name in sorted(set(names[~fixes]))
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _group_row(
    name: Hashable, calibration: np.ndarray, measured: np.ndarray, coverage: float
) -> dict[str, object]:
    half = half_width(calibration, coverage)
    n, hits = len(measured), int((measured <= half).sum())
    least, most = expected_range(len(calibration), n, coverage)
    return {
        "group": name,
        "half_width": half,
        "coverage": hits / n,
        **binomial_ends(hits, n),
        "expected_low": least,
        "expected_high": most,
        "n_calibration": len(calibration),
        "n": n,
    }
