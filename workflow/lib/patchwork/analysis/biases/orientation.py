"""Angle error along the angle: curves, harmonics, place of the minimum, contrasts.

Angles are those of the stimuli: 0 deg is horizontal, 90 deg vertical. Every interval resamples
seeds and examples inside them; with a column `example` the images that all seeds saw are
resampled together.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from patchwork import statistics
from patchwork.statistics import Resampling, Statistic

# Orders of the directed angle that repeat within the period. Order 1 carries the label's jump,
# 2 horizontal against vertical, 4 cardinal against oblique, 8 the pixel lattice.
ORDERS = {360.0: (1, 2, 4), 180.0: (2, 4, 8)}
_GRID_DEG = 0.25


def _checked(frame: pd.DataFrame, value: str, period: float) -> pd.DataFrame:
    needed = ("seed", "angle_deg", value)
    for column in needed:
        if column not in frame.columns:
            raise ValueError(f"frame lacks column {column}; needed are {', '.join(needed)}")
    if period not in ORDERS:
        raise ValueError(f"period is {period}; allowed is 180 or 360")
    if frame.empty:
        raise ValueError("frame is empty; allowed is one example or more")
    return frame


def _units(frame: pd.DataFrame) -> np.ndarray | None:
    return frame["example"].to_numpy() if "example" in frame.columns else None


def angle_curve(
    frame: pd.DataFrame,
    *,
    value: str = "error_deg",
    period: float = 360.0,
    n_bins: int = 36,
    resampling: Resampling = statistics.DEFAULT,
) -> pd.DataFrame:
    """Mean of a value in bins along the angle.

    Bins are centred on multiples of their width, so horizontal and vertical lines lie in the
    middle of theirs. Random networks err less within some 5 deg of multiples of 45 deg: take bins
    of at most 10 deg, and a number divisible by 8 to centre one on 45 deg, to see it.

    Args:
        frame: seed, angle_deg (any range) and the value.
        value: column: `error_deg` (absolute) or `signed_error_deg` (the bias curve).
        period: degrees after which the angle repeats: 180 or 360.
        n_bins: 8 or more.
        resampling: replicates, confidence and seed.

    Returns:
        bin_deg (centre, in [0, period)), the value, ci_low, ci_high, n, seeds; bins without
        examples are left out.

    Raises:
        ValueError: if a column is missing, frame is empty, or period or n_bins are impossible.
    """
    _checked(frame, value, period)
    if n_bins < 8:
        raise ValueError(f"n_bins is {n_bins}; allowed is 8 or more")
    width = period / n_bins
    bins = np.floor(np.mod(frame["angle_deg"].to_numpy(float), period) / width + 0.5) % n_bins
    rows = []
    for number, part in frame.groupby(bins.astype(int)):
        found = statistics.cluster_bootstrap(
            part[value].to_numpy(float),
            part["seed"].to_numpy(),
            resampling=resampling,
            units=_units(part),
        )
        row = found.row()
        rows.append({"bin_deg": number * width, value: row.pop("estimate"), **row})
    return pd.DataFrame(rows)


def _design(angle_deg: np.ndarray, orders: Sequence[int]) -> np.ndarray:
    """Columns 1, cos, sin of each order."""
    phase = np.deg2rad(np.asarray(angle_deg, float))[:, None] * np.asarray(orders)
    waves = np.stack([np.cos(phase), np.sin(phase)], axis=-1).reshape(len(phase), -1)
    return np.concatenate([np.ones((len(phase), 1)), waves], axis=1)


def _normal_columns(design: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Columns whose means are the normal equations of least squares."""
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    return np.concatenate([products, design * value[:, None]], axis=1)


def _coefficients(means: np.ndarray) -> np.ndarray:
    """Solves the normal equations, shape (..., p * p + p), to shape (..., p)."""
    p = int((np.sqrt(1 + 4 * means.shape[-1]) - 1) / 2)
    matrix = means[..., : p * p].reshape(*means.shape[:-1], p, p)
    # Replicates with a few examples may be singular: a trace of ridge keeps them solvable.
    matrix = matrix + 1e-9 * np.eye(p)
    return np.linalg.solve(matrix, means[..., p * p :, None])[..., 0]


def _orders(period: float, orders: Sequence[int] | None) -> Sequence[int]:
    chosen = ORDERS[period] if orders is None else tuple(orders)
    wrong = [order for order in chosen if order < 1 or (order * period) % 360]
    if wrong or not chosen:
        raise ValueError(
            f"orders has {wrong[0] if wrong else 'no entry'}; allowed are multiples of "
            f"{360 / period:g} for period {period:g}"
        )
    return chosen


def _harmonic_statistics(orders: Sequence[int]) -> dict[str, tuple[Statistic, float | None]]:
    """Term to its statistic of the normal equations and, for phases, its period."""

    def pick(column: int) -> Statistic:
        return lambda means: _coefficients(means)[..., column]

    def amplitude(column: int) -> Statistic:
        return lambda means: np.hypot(*np.moveaxis(_coefficients(means)[..., column:], -1, 0)[:2])

    def phase(column: int, order: int) -> Statistic:
        def place(means: np.ndarray) -> np.ndarray:
            cosine, sine = np.moveaxis(_coefficients(means)[..., column:], -1, 0)[:2]
            return np.mod(np.rad2deg(np.arctan2(sine, cosine)) / order, 360 / order)

        return place

    terms: dict[str, tuple[Statistic, float | None]] = {"mean": (pick(0), None)}
    for i, order in enumerate(orders):
        column = 1 + 2 * i
        terms[f"cos{order}"] = (pick(column), None)
        terms[f"sin{order}"] = (pick(column + 1), None)
        terms[f"amplitude{order}"] = (amplitude(column), None)
        terms[f"phase{order}"] = (phase(column, order), 360 / order)
    return terms


def _lower_amplitude(row: Mapping[str, float], replicates: np.ndarray) -> float:
    """Lower end of an amplitude's interval, 0 or more.

    Noise alone has an amplitude above zero, and so have its replicates: the end lies below the
    amplitude freed of noise, whose square the replicates exceed the estimate's by.
    """
    squared = row["estimate"] ** 2
    freed = np.sqrt(max(0.0, 2 * squared - np.nanmean(replicates**2)))
    return float(np.maximum(0.0, freed - (row["ci_high"] - row["estimate"])))


def harmonic_fit(
    frame: pd.DataFrame,
    *,
    value: str = "error_deg",
    period: float = 360.0,
    orders: Sequence[int] | None = None,
    resampling: Resampling = statistics.DEFAULT,
) -> pd.DataFrame:
    """Least-squares fit of mean and waves of the directed angle to single examples.

    Args:
        frame: seed, angle_deg and the value.
        value: column that is fitted, degrees.
        period: 180 or 360.
        orders: cycles per 360 deg; None: `ORDERS` of the period.
        resampling: replicates, confidence and seed.

    Returns:
        term, order (0 for the mean), estimate, ci_low, ci_high, n, seeds. Terms: mean and, for
        each order, cos, sin, amplitude (never below 0) and phase (deg, the place of the wave's
        maximum, in [0, 360 / order)); cos4 > 0 means that errors are larger at cardinal angles.

    Raises:
        ValueError: if a column is missing, or an order does not repeat within the period.
    """
    _checked(frame, value, period)
    chosen = _orders(period, orders)
    columns = _normal_columns(
        _design(frame["angle_deg"].to_numpy(float), chosen), frame[value].to_numpy(float)
    )
    terms = _harmonic_statistics(chosen)
    means = statistics.bootstrap_means(columns, frame["seed"].to_numpy(), resampling, _units(frame))
    rows = []
    for term, (statistic, circle) in terms.items():
        replicates = statistic(means)
        row = statistics.interval_of(
            float(statistic(columns.mean(0))),
            replicates,
            n=len(frame),
            clusters=frame["seed"].nunique(),
            confidence=resampling.confidence,
            period=circle,
            units=frame["example"].nunique() if "example" in frame.columns else None,
        ).row()
        if term.startswith("amplitude"):
            row["ci_low"] = _lower_amplitude(row, replicates)
        order = int(term.lstrip("abcdefghijklmnopqrstuvwxyz") or 0)
        rows.append({"term": term, "order": order, **row})
    return pd.DataFrame(rows)


def place_of_minimum(
    frame: pd.DataFrame,
    *,
    period: float = 360.0,
    orders: Sequence[int] | None = None,
    centre_deg: float | None = None,
    resampling: Resampling = statistics.DEFAULT,
) -> statistics.Interval:
    """Angle at which the harmonic fit of the error is lowest.

    Args:
        frame: seed, angle_deg, error_deg.
        period: 180 or 360.
        orders: as for `harmonic_fit`.
        centre_deg: the place is given in [centre - period / 2, centre + period / 2), so that a
            claimed region around the centre is not cut; None: period / 2.
        resampling: replicates, confidence and seed.

    Returns:
        Degrees, with a circular interval; the whole circle where seeds do not agree on a place.

    Raises:
        ValueError: as for `harmonic_fit`.
    """
    _checked(frame, "error_deg", period)
    chosen = _orders(period, orders)
    grid = np.arange(0, period, _GRID_DEG)
    waves = _design(grid, chosen)
    centre = period / 2 if centre_deg is None else centre_deg

    def lowest(means: np.ndarray) -> np.ndarray:
        place = grid[np.argmin(_coefficients(means) @ waves.T, axis=-1)]
        return np.mod(place - centre + period / 2, period) + centre - period / 2

    columns = _normal_columns(
        _design(frame["angle_deg"].to_numpy(float), chosen), frame["error_deg"].to_numpy(float)
    )
    return statistics.cluster_bootstrap(
        columns,
        frame["seed"].to_numpy(),
        lowest,
        resampling=resampling,
        units=_units(frame),
        period=period,
    )


def _distance(angle_deg: np.ndarray, place: float, every: float) -> np.ndarray:
    """Degrees to the nearest of place, place + every, ..."""
    return np.abs(np.mod(angle_deg - place + every / 2, every) - every / 2)


def _contrast(value: np.ndarray, more: np.ndarray, less: np.ndarray) -> np.ndarray:
    """Columns for the difference of the means of two groups of examples."""
    return np.stack([value * more, more, value * less, less], axis=1).astype(float)


def _difference(means: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return means[..., 0] / means[..., 1] - means[..., 2] / means[..., 3]


def angle_contrasts(
    frame: pd.DataFrame,
    *,
    half_width_deg: float = 7.5,
    period: float = 360.0,
    resampling: Resampling = statistics.DEFAULT,
) -> pd.DataFrame:
    """How much smaller errors are in some places than in others.

    Args:
        frame: seed, angle_deg, error_deg.
        half_width_deg: how far from a place an angle still belongs to it, 0 to 11.25: the windows
            around the multiples of 22.5 deg must not overlap.
        period: 180 or 360.
        resampling: replicates, confidence and seed.

    Returns:
        quantity, unit, estimate, ci_low, ci_high, n, seeds. Quantities, each an error minus an
        error: oblique_index (oblique minus cardinal), lattice_index (halfway between multiples of
        45 deg, minus at them), horizontal_advantage (elsewhere minus horizontal),
        vertical_advantage and, for period 360, origin_180_advantage (elsewhere minus around
        180 deg). Nan where a place has no examples.

    Raises:
        ValueError: if a column is missing or the width is impossible.
    """
    _checked(frame, "error_deg", period)
    if not 0 < half_width_deg <= 11.25:
        raise ValueError(f"half_width_deg is {half_width_deg}; allowed is above 0 to 11.25")
    angle, error = frame["angle_deg"].to_numpy(float), frame["error_deg"].to_numpy(float)

    def near(place: float, every: float) -> np.ndarray:
        return _distance(angle, place, every) <= half_width_deg

    groups = {
        "oblique_index": (near(45, 90), near(0, 90)),
        "lattice_index": (near(22.5, 45), near(0, 45)),
        "horizontal_advantage": (~near(0, 180), near(0, 180)),
        "vertical_advantage": (~near(90, 180), near(90, 180)),
    }
    if period == 360:
        groups["origin_180_advantage"] = (~near(180, 360), near(180, 360))
    found = statistics.joint_bootstrap(
        {name: (_contrast(error, *pair), _difference, None) for name, pair in groups.items()},
        frame["seed"].to_numpy(),
        resampling=resampling,
        units=_units(frame),
    )
    return pd.DataFrame(
        [{"quantity": name, "unit": "deg", **one.row()} for name, one in found.items()]
    )
