"""How well each target is predicted, beside what a constant would score."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from patchwork import statistics
from patchwork.statistics import Interval, Resampling, Statistic

COLUMNS = (
    "target", "metric", "unit", "estimate", "ci_low", "ci_high", "n", "seeds", "constant",
)  # fmt: skip
_NEEDED = ("seed", "target", "actual", "predicted")
# ASSUME: correlations this close to one are clipped before Fisher's transform, which is infinite
# there; the interval of a perfect prediction then has no width to speak of.
_R_MAX = 1 - 1e-12


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
    """Columns whose means give correlation and slope; centred, so that no digits are lost."""
    x, y = actual - actual.mean(), predicted - predicted.mean()
    return np.stack([x, y, x * x, y * y, x * y], axis=1)


def _covariance(means: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, xx, yy, xy = np.moveaxis(means, -1, 0)
    return xx - x * x, yy - y * y, xy - x * y


def _moments_by_seed(actual: np.ndarray, predicted: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Six columns for each seed, zero elsewhere: one, and the moments about the seed's means."""
    blocks = []
    for seed in np.unique(seeds):
        own = seeds == seed
        block = np.zeros((len(seeds), 6))
        block[own, 0] = 1
        block[own, 1:] = _moments(actual[own], predicted[own])
        if not _varies(predicted[own]):  # a network that says one thing only has r = 0
            block[own, 2], block[own, 4:] = 0, (1, 0)
        blocks.append(block)
    return np.concatenate(blocks, axis=1)


def _mean_fisher_z(means: np.ndarray) -> np.ndarray:
    """Fisher's z of each seed's correlation, averaged over the examples drawn of each."""
    blocks = means.reshape(*means.shape[:-1], -1, 6)
    share = blocks[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        sxx, syy, sxy = _covariance(blocks[..., 1:] / share[..., None])
        z = np.arctanh(np.clip(sxy / np.sqrt(sxx * syy), -_R_MAX, _R_MAX))
    return np.where(share > 0, share * z, 0).sum(-1) / share.sum(-1)


def _slope(means: np.ndarray) -> np.ndarray:
    sxx, _, sxy = _covariance(means)
    with np.errstate(divide="ignore", invalid="ignore"):
        return sxy / sxx


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


def _quantities(
    actual: np.ndarray, predicted: np.ndarray, seeds: np.ndarray, period: float | None
) -> dict[str, tuple[np.ndarray, Statistic, None]]:
    """Metric to the columns and the statistic that it is made of."""
    error, mean = predicted - actual, statistics.arithmetic_mean
    found: dict[str, tuple[np.ndarray, Statistic, None]] = {
        "mae": (np.abs(error), mean, None),
        "bias": (error, mean, None),
    }
    if period is not None:
        turn = signed_circular_error(predicted, actual, period)
        found["circular_error"] = (np.abs(turn), mean, None)
        found["circular_bias"] = (turn, mean, None)
    if _varies(actual):
        found["slope"] = (_moments(actual, predicted), _slope, None)
        if any(_varies(predicted[seeds == seed]) for seed in np.unique(seeds)):
            found["pearson_r"] = (_moments_by_seed(actual, predicted, seeds), _mean_fisher_z, None)
    return found


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


def _target_rows(part: pd.DataFrame, scale: TargetScale, resampling: Resampling) -> list[dict]:
    actual, predicted = (part[name].to_numpy(float) for name in ("actual", "predicted"))
    seeds = part["seed"].to_numpy()
    intervals = statistics.joint_bootstrap(
        _quantities(actual, predicted, seeds, scale.period),
        seeds,
        resampling=resampling,
        units=part["example"].to_numpy() if "example" in part.columns else None,
    )
    missing = Interval(np.nan, np.nan, np.nan, len(part), len(np.unique(seeds)))
    rows = []
    for metric, constant in _constants(actual, scale).items():
        row = intervals.get(metric, missing).row()
        if metric == "pearson_r":  # was on Fisher's scale
            row |= {key: float(np.tanh(row[key])) for key in ("estimate", "ci_low", "ci_high")}
        unit = "" if metric in ("pearson_r", "slope") else scale.unit
        rows.append({"metric": metric, "unit": unit, **row, "constant": constant})
    return rows


def metric_table(
    frame: pd.DataFrame,
    scales: Mapping[str, TargetScale],
    *,
    resampling: Resampling = statistics.DEFAULT,
) -> pd.DataFrame:
    """Every metric of every target, with 95 % intervals clustered by seed.

    For all targets Pearson's r, slope (of predicted on actual), mae and bias (mean of predicted
    minus actual) as plain numbers, as published; for angles also circular_error and circular_bias,
    the short way round. Published correlations are those of one network, so r is the mean over
    seeds of each network's own (by Fisher's z, weighted by examples), not that of pooled
    predictions, which networks with different offsets would lower; slope, mae and bias are pooled.

    Args:
        frame: seed, target, actual, predicted (physical units), one row per example; with a column
            example (the image), examples that several seeds saw are resampled together.
        scales: target name to its scale; targets not named have no unit.
        resampling: replicates, confidence and seed.

    Returns:
        Columns `COLUMNS`; constant is what a constant prediction scores (0 for r and slope, which
        a constant leaves without covariance). r is nan where no seed's predictions vary, and a
        seed whose predictions do not counts as 0.

    Raises:
        ValueError: if a column is missing or numbers are not finite.
    """
    for column in _NEEDED:
        if column not in frame.columns:
            raise ValueError(f"frame lacks column {column}; needed are {', '.join(_NEEDED)}")
    rows = [
        {"target": target, **row}
        for target, part in frame.groupby("target", sort=False)
        for row in _target_rows(part, scales.get(str(target), TargetScale()), resampling)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


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
