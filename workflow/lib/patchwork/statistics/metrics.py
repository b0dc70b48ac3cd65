"""How well each target is predicted, beside what a constant would score."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from patchwork import statistics
from patchwork.statistics import Interval

_NEEDED = ("seed", "target", "actual", "predicted")


def signed_circular_error(predicted: np.ndarray, actual: np.ndarray, period: float) -> np.ndarray:
    """Difference of two angles on a circle, the short way round.

    Args:
        predicted: shape (n,), degrees, any range.
        actual: shape (n,), degrees, any range.
        period: degrees after which an angle repeats: 360 for directions, 180 for orientations.

    Returns:
        shape (n,), degrees, predicted minus actual in [-period / 2, period / 2).

    Raises:
        ValueError: if the shapes differ or period <= 0.
    """
    predicted, actual = np.asarray(predicted, float), np.asarray(actual, float)
    if predicted.shape != actual.shape:
        raise ValueError(
            f"predicted has shape {predicted.shape}; allowed is that of actual, {actual.shape}"
        )
    if not period > 0:
        raise ValueError(f"period is {period}; allowed is more than 0")
    return np.mod(predicted - actual + period / 2, period) - period / 2


def circular_error(predicted: np.ndarray, actual: np.ndarray, period: float) -> np.ndarray:
    """Smallest absolute difference of two angles on a circle.

    Args:
        predicted: shape (n,), degrees, any range.
        actual: shape (n,), degrees, any range.
        period: degrees after which an angle repeats: 360 for directions, 180 for orientations.

    Returns:
        shape (n,), degrees, in [0, period / 2].

    Raises:
        ValueError: if the shapes differ or period <= 0.
    """
    return np.abs(signed_circular_error(predicted, actual, period))


def best_constant(labels: np.ndarray, period: float | None = None) -> float:
    """The one prediction with the smallest mean absolute error on these labels.

    Args:
        labels: shape (n,), physical unit, from training or validation data.
        period: for angles, degrees after which they repeat; then the error is circular.

    Returns:
        The median; for angles a median on the circle, in [0, period).

    Raises:
        ValueError: if there are no labels.
    """
    values = np.asarray(labels, dtype=np.float64)
    if values.size == 0:
        raise ValueError("labels is empty; allowed is one label or more")
    if period is None:
        return float(np.median(values))
    # The mean error is piecewise linear: its minimum is at a label. A fine grid is as good.
    grid = np.arange(720) * period / 720
    counts = np.histogram(np.mod(values, period), bins=720, range=(0, period))[0]
    middles = grid + period / 1440
    costs = np.abs(np.mod(grid[:, None] - middles + period / 2, period) - period / 2) @ counts
    return float(grid[costs.argmin()])


def _moments(actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Columns whose means give the slope; centred, so that no digits are lost."""
    x, y = actual - actual.mean(), predicted - predicted.mean()
    return np.stack([x, y, x * x, x * y], axis=1)


def _slope(means: np.ndarray) -> np.ndarray:
    x, y, xx, xy = np.moveaxis(means, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (xy - x * y) / (xx - x * x)


def _varies(values: np.ndarray) -> bool:
    return bool(np.ptp(values) > 1e-9 * (1 + np.abs(values).max()))


@dataclass(frozen=True)
class TargetScale:
    """What a target's numbers mean.

    Attributes:
        unit: physical unit, for example px.
        period: for angles, degrees after which they repeat.
        constant: the constant prediction to compare with, for example `best_constant` of the
            training labels; None: that of the actual values, which is the hardest to beat.
    """

    unit: str = ""
    period: float | None = None
    constant: float | None = None


def _intervals(
    actual: np.ndarray,
    predicted: np.ndarray,
    seeds: np.ndarray,
    units: np.ndarray | None,
    period: float | None,
) -> dict[str, Interval]:
    """Metric to its interval; those that do not exist are left out."""
    error = predicted - actual
    values = {"mae": np.abs(error), "bias": error}
    if period is not None:
        turn = signed_circular_error(predicted, actual, period)
        values |= {"circular_error": np.abs(turn), "circular_bias": turn}
    found = statistics.means(np.stack(list(values.values()), axis=1))
    known = dict(zip(values, statistics.intervals_of(found, seeds, units), strict=True))
    if _varies(actual):
        known["slope"] = statistics.interval(
            _moments(actual, predicted), seeds, _slope, units=units
        )
        if any(_varies(predicted[seeds == seed]) for seed in np.unique(seeds)):
            z = statistics.fisher_z(actual, predicted, seeds)
            known["pearson_r"] = statistics.intervals_of(z, seeds, units)[0].mapped(np.tanh)
    return known


def _constants(actual: np.ndarray, scale: TargetScale) -> dict[str, float]:
    """What the constant prediction scores on each metric."""
    known = scale.constant
    fixed = best_constant(actual) if known is None else known
    apart = fixed - actual
    scores = {
        "pearson_r": 0.0,
        "slope": 0.0,
        "mae": float(np.abs(apart).mean()),
        "bias": float(apart.mean()),
    }
    if scale.period is not None:
        place = best_constant(actual, scale.period) if known is None else known
        turn = signed_circular_error(np.full_like(actual, place), actual, scale.period)
        scores["circular_error"] = float(np.abs(turn).mean())
        scores["circular_bias"] = float(turn.mean())
    return scores


def _target_rows(part: pd.DataFrame, scale: TargetScale) -> list[dict]:
    actual, predicted = (part[name].to_numpy(float) for name in ("actual", "predicted"))
    seeds = part["seed"].to_numpy()
    units = part["example"].to_numpy() if "example" in part.columns else None
    intervals = _intervals(actual, predicted, seeds, units, scale.period)
    missing = statistics.unknown(len(part), len(np.unique(seeds)))
    rows = []
    for metric, constant in _constants(actual, scale).items():
        row = intervals.get(metric, missing).row()
        unit = "" if metric in ("pearson_r", "slope") else scale.unit
        rows.append({"metric": metric, "unit": unit, **row, "constant": constant})
    return rows


def metric_table(
    frame: pd.DataFrame,
    scales: Mapping[str, TargetScale],
) -> pd.DataFrame:
    """Every metric of every target, with 95 % intervals clustered by seed.

    For all targets Pearson's r, slope (of predicted on actual), mae and bias (mean of predicted
    minus actual) as plain numbers, as published; for angles also circular_error and circular_bias,
    the short way round. Published correlations are those of one network, so r is the mean over
    seeds of each network's own (by Fisher's z, weighted by examples), not that of pooled
    predictions, which networks with different offsets would lower; slope, mae and bias are pooled.

    Args:
        frame: seed, target, actual, predicted (physical units), one row per example; with a column
            example (the image), seeds and images are crossed.
        scales: target name to its scale; targets not named have no unit.

    Returns:
        The table ``tables/metrics.csv`` of one condition; a constant scores 0 for r and slope,
        which it leaves without covariance. r is nan where no seed's predictions vary, and a seed
        whose predictions do not counts as 0.

    Raises:
        ValueError: if a column is missing or numbers are not finite.
    """
    for column in _NEEDED:
        if column not in frame.columns:
            raise ValueError(f"frame lacks column {column}; needed are {', '.join(_NEEDED)}")
    rows = [
        {"target": target, **row}
        for target, part in frame.groupby("target", sort=False)
        for row in _target_rows(part, scales.get(str(target), TargetScale()))
    ]
    return pd.DataFrame(rows)


def auroc(scores: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Chance that a member scores higher than one that is none; ties count half.

    Args:
        scores: shape (..., n).
        member: boolean, shape (..., n), broadcastable with scores.

    Returns:
        Area under the receiver operating characteristic, shape (...), 0 to 1; nan where all are
        members or none is.
    """
    ranks = stats.rankdata(scores, axis=-1)
    inside = member.sum(-1)
    outside = member.shape[-1] - inside
    total = np.einsum("...n,...n->...", ranks, member.astype(np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        return (total - inside * (inside + 1) / 2) / np.where(
            inside * outside, inside * outside, np.nan
        )


def auroc_terms(scores: np.ndarray, member: np.ndarray) -> np.ndarray:
    """One number per example whose mean is :func:`auroc`, and whose spread is that of the area.

    Args:
        scores: shape (n,).
        member: boolean, shape (n,); some are, some are not.

    Returns:
        shape (n,): the area, and what each example's placement among the other kind adds to it.

    Source: DeLong et al. 1988: the area is a mean of placement values.
    """
    area, ranks, terms = auroc(scores, member), stats.rankdata(scores), np.empty(len(scores))
    for own, sign in ((member, 1), (~member, -1)):
        wins = (ranks[own] - stats.rankdata(scores[own])) / (~own).sum()
        terms[own] = sign * (wins - wins.mean()) / own.mean()
    return area + terms
