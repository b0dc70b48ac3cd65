"""Angle error along the angle: curves, harmonics, place of the minimum, contrasts.

Angles are those of the stimuli: 0 deg is horizontal, 90 deg vertical. Intervals are over
seeds and their examples; with a column `example`, over the images that all seeds saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from patchwork import statistics
from patchwork.analysis.predictions import Angle, errors_by_condition
from patchwork.statistics import Interval, Statistic
from patchwork.tables import CONDITION, ENDS, groups, join, labelled

# Orders of the directed angle that repeat within the period. Order 1 carries the label's jump,
# 2 horizontal against vertical, 4 cardinal against oblique, 8 the pixel lattice.
ORDERS = {360.0: (1, 2, 4), 180.0: (2, 4, 8)}
_GRID_DEG = 0.25
# How far from a place an angle still belongs to it: windows around the multiples of 22.5 deg do not
# overlap.
_NEAR_DEG = 7.5
_CLAIMED_PLACE_DEG = 180.0  # where arXiv 2504.09393 puts the least error


@dataclass(frozen=True)
class OrientationTables:
    """Tables of errors along the angle; each with dataset, backbone and protocol.

    Attributes:
        curves: condition, bin_deg, error_deg, ci_low, ci_high, n, seeds.
        bias: the same with signed_error_deg.
        harmonics: terms of the harmonic fit of the error.
        contrasts: quantity, unit, estimate, ci_low, ci_high, n, seeds; for dataset ``all`` also
            the extremes over the pooled datasets, which decide claims about every one of them.
    """

    curves: pd.DataFrame
    bias: pd.DataFrame
    harmonics: pd.DataFrame
    contrasts: pd.DataFrame


def orientation_tables(
    predictions: pd.DataFrame,
    angles: Sequence[Angle],
    n_bins: int,
    pooled: Sequence[str],
) -> OrientationTables:
    """Curves, harmonics and contrasts of the angle error under every condition.

    Args:
        predictions: as from :func:`patchwork.tables.gather`.
        angles: which predicted angle counts, first match.
        n_bins: bins per period.
        pooled: datasets that are also taken together, as dataset ``all``.
    """
    curves: list[pd.DataFrame] = []
    bias: list[pd.DataFrame] = []
    harmonics, contrasts, strict = [], [], []
    for names, angle, errors in errors_by_condition(with_pool(predictions, pooled), angles):
        options: dict[str, Any] = {"period": angle.period}
        for value, parts in (("error_deg", curves), ("signed_error_deg", bias)):
            curve = angle_curve(errors, value=value, n_bins=n_bins, **options)
            parts.append(labelled(curve.assign(condition="network"), names))
        harmonics.append(labelled(harmonic_fit(errors, **options), names))
        contrasts.append(labelled(contrasts_and_place(errors, angle.period), names))
        if names["dataset"] in pooled:
            one = contrasts_and_place(errors, angle.period, family=len(pooled))
            strict.append(labelled(one.assign(period=angle.period), names))
    contrasts.append(_extremes(join(contrasts), join(strict)))
    return OrientationTables(join(curves), join(bias), join(harmonics), join(contrasts))


def with_pool(predictions: pd.DataFrame, pooled: Sequence[str]) -> pd.DataFrame:
    """The frame with the rows of the pooled datasets once more, as dataset `all`.

    Datasets share their stimuli's seed: examples of one index have the same angle and noise, and
    their errors go together, so an index stays one unit in all of them.
    """
    rows = predictions[predictions["dataset"].isin(pooled)]
    return pd.concat([predictions, rows.assign(dataset="all")], ignore_index=True)


def _extremes(plain: pd.DataFrame, strict: pd.DataFrame) -> pd.DataFrame:
    """The value that is least favourable to a claim, over the pooled datasets.

    The end away from the other conditions is that of the plain intervals: the extreme lies beyond
    it only if its own condition does. The end towards them could be passed by any condition, so it
    is that of intervals corrected for their number (Bonferroni).

    Args:
        plain: contrasts of every condition.
        strict: those of the pooled datasets with corrected intervals, and their period.
    """
    if strict.empty:
        return pd.DataFrame()
    both = plain.merge(strict, on=[*CONDITION, "quantity"], suffixes=("", "_strict"))
    parts = []
    for names, part in groups(both, ("backbone", "protocol")):
        own = {one["quantity"]: rows for one, rows in groups(part, ["quantity"])}
        place, advantage = own["place_of_minimum"], own["horizontal_advantage"]
        half_turn = part["period"].iloc[0] / 2
        estimate = place["estimate"].to_numpy()
        off = np.abs(np.mod(estimate - _CLAIMED_PLACE_DEG + half_turn, 2 * half_turn) - half_turn)
        least = _greatest(advantage, -advantage["estimate"].to_numpy())
        found = {
            "farthest_minimum_from_180": np.clip(_greatest(place, off), 0, half_turn),
            # The least is minus the greatest of the negatives, whose ends change places.
            "least_horizontal_advantage": -least[[0, 2, 1, 4, 3]],
            "greatest_horizontal_advantage": _greatest(advantage, advantage["estimate"].to_numpy()),
        }
        table = pd.DataFrame.from_dict(found, "index", columns=["estimate", *ENDS])
        first = part.drop_duplicates("dataset")
        counts = {"n": first["n"].sum(), "seeds": first["seeds"].min()}
        table = table.rename_axis("quantity").reset_index().assign(unit="deg", **counts)
        parts.append(labelled(table, {"dataset": "all", **names}))
    return join(parts)


def _greatest(rows: pd.DataFrame, values: np.ndarray) -> np.ndarray:
    """The greatest of values and its intervals' ends, from the half widths of their rows."""
    ends = []
    for high in ("ci_high", "ci90_high"):
        half = (rows[high] - rows["estimate"]).to_numpy()
        strict = (rows[f"{high}_strict"] - rows["estimate"]).to_numpy()
        ends += [(values - strict).max(), (values + half).max()]
    return np.array([values.max(), *ends])


def contrasts_and_place(errors: pd.DataFrame, period: float, *, family: int = 1) -> pd.DataFrame:
    """The rows of :func:`angle_contrasts`, and `place_of_minimum` below them."""
    table = angle_contrasts(errors, period=period, family=family)
    # The fundamental alone: the error of a directed label peaks sharply at its jump, and higher
    # waves that fit the peak put troughs of their own elsewhere.
    orders = [int(360 / period)]
    place = place_of_minimum(errors, orders=orders, period=period, family=family)
    found = {"quantity": "place_of_minimum", "unit": "deg", **place.row()}
    return pd.concat([table, pd.DataFrame([found])], ignore_index=True)


def histograms(
    predictions: pd.DataFrame, angles: Sequence[Angle], bin_width_deg: float
) -> pd.DataFrame:
    """Distribution of the absolute angle error under every condition.

    Returns:
        The table ``tables/error_histograms.csv``.
    """
    parts = []
    for names, angle, errors in errors_by_condition(predictions, angles):
        edges = np.arange(0, angle.period / 2 + bin_width_deg / 2, bin_width_deg)
        density, edges = np.histogram(errors["error_deg"], edges, density=True)
        table = pd.DataFrame(
            {
                "error_deg": (edges[:-1] + edges[1:]) / 2,
                "bin_width_deg": np.diff(edges),
                "density": density,
                "n": len(errors),
                "seeds": errors["seed"].nunique(),
            }
        )
        parts.append(labelled(table, names))
    return join(parts)


def _labels(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
    """Seed of each row, and its image where there is a column of them."""
    return frame["seed"].to_numpy(), _units(frame)


def _units(frame: pd.DataFrame) -> np.ndarray | None:
    return frame["example"].to_numpy() if "example" in frame.columns else None


def angle_curve(
    frame: pd.DataFrame,
    *,
    value: str = "error_deg",
    period: float = 360.0,
    n_bins: int = 36,
) -> pd.DataFrame:
    """Mean of a value in bins along the angle.

    Bins are centred on multiples of their width, so horizontal and vertical lines lie in the
    middle of theirs. Random networks err less within some 5 deg of multiples of 45 deg: take bins
    of at most 10 deg, and a number divisible by 8 to centre one on 45 deg, to see it.

    Args:
        frame: seed, angle_deg (any range) and the value.
        value: column: `error_deg` (absolute) or `signed_error_deg` (the bias curve).
        period: degrees after which the angle repeats: 180 or 360.
        n_bins: bins per period.

    Returns:
        bin_deg (centre, in [0, period)), the value, ci_low, ci_high, n, seeds; bins without
        examples are left out.
    """
    width = period / n_bins
    bins = np.floor(np.mod(frame["angle_deg"].to_numpy(float), period) / width + 0.5) % n_bins
    rows = []
    for number, part in frame.groupby(bins.astype(int)):
        row = statistics.interval(
            part[value].to_numpy(float), part["seed"].to_numpy(), units=_units(part)
        ).row()
        rows.append({"bin_deg": number * width, value: row.pop("estimate"), **row})
    return pd.DataFrame(rows)


def _design(angle_deg: np.ndarray, orders: Sequence[int]) -> np.ndarray:
    """Columns 1, cos, sin of each order."""
    phase = np.deg2rad(np.asarray(angle_deg, float))[:, None] * np.asarray(orders)
    waves = np.stack([np.cos(phase), np.sin(phase)], axis=-1).reshape(len(phase), -1)
    return np.concatenate([np.ones((len(phase), 1)), waves], axis=1)


def _normal_columns(frame: pd.DataFrame, value: str, orders: Sequence[int]) -> np.ndarray:
    """Columns whose means are the normal equations of least squares."""
    design = _design(frame["angle_deg"].to_numpy(float), orders)
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    return np.concatenate([products, design * frame[value].to_numpy(float)[:, None]], axis=1)


def _coefficients(means: np.ndarray) -> np.ndarray:
    """Solves the normal equations, shape (..., p * p + p), to shape (..., p)."""
    p = int((np.sqrt(1 + 4 * means.shape[-1]) - 1) / 2)
    matrix = means[..., : p * p].reshape(*means.shape[:-1], p, p)
    # A few examples may be singular: a trace of ridge keeps them solvable.
    matrix = matrix + 1e-9 * np.eye(p)
    return np.linalg.solve(matrix, means[..., p * p :, None])[..., 0]


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


def _without_noise(amplitude: Interval, parts: Sequence[Interval]) -> Interval:
    """Interval of an amplitude with its lower end, 0 or more, below the amplitude freed of noise.

    Noise alone has an amplitude above zero: the square of its parts' errors is in its square.

    Args:
        amplitude: of a wave.
        parts: its cosine and sine.
    """
    noise = sum(part.error**2 for part in parts)
    lower = amplitude.estimate - np.sqrt(max(0.0, amplitude.estimate**2 - noise))
    ends = {"low": amplitude.low - lower, "low90": amplitude.low90 - lower}
    return replace(amplitude, **ends).within(least=0.0)


def harmonic_fit(
    frame: pd.DataFrame,
    *,
    value: str = "error_deg",
    period: float = 360.0,
) -> pd.DataFrame:
    """Least-squares fit of mean and waves of the directed angle to single examples.

    Args:
        frame: seed, angle_deg and the value.
        value: column that is fitted, degrees.
        period: 180 or 360; its `ORDERS` are fitted.

    Returns:
        The table ``tables/orientation_harmonics.csv`` of one condition. Terms: mean and, for each
        order, cos, sin, amplitude (never below 0) and phase (deg, the place of the wave's maximum,
        in [0, 360 / order)); cos4 > 0 means that errors are larger at cardinal angles.
    """
    columns = _normal_columns(frame, value, ORDERS[period])
    seeds, units = _labels(frame)
    found = {
        term: statistics.interval(columns, seeds, statistic, units=units, period=circle)
        for term, (statistic, circle) in _harmonic_statistics(ORDERS[period]).items()
    }
    rows = []
    for term, one in found.items():
        order = int(term.lstrip("abcdefghijklmnopqrstuvwxyz") or 0)
        if term.startswith("amplitude"):
            one = _without_noise(one, [found[f"{part}{order}"] for part in ("cos", "sin")])
        rows.append({"term": term, "order": order, **one.row()})
    return pd.DataFrame(rows)


def place_of_minimum(
    frame: pd.DataFrame,
    *,
    orders: Sequence[int],
    period: float = 360.0,
    family: int = 1,
) -> Interval:
    """Angle at which the harmonic fit of the error is lowest.

    Args:
        frame: seed, angle_deg, error_deg.
        orders: cycles per 360 deg.
        period: 180 or 360.
        family: number of intervals that are to hold together (Bonferroni).

    Returns:
        Degrees, 0 to the period, with a circular interval; the whole circle where seeds do not
        agree on a place.
    """
    grid = np.arange(0, period, _GRID_DEG)
    waves = _design(grid, orders)

    def lowest(means: np.ndarray) -> np.ndarray:
        return grid[np.argmin(_coefficients(means) @ waves.T, axis=-1)]

    columns, labels = _normal_columns(frame, "error_deg", orders), _labels(frame)
    # A curve with several waves has several minima, and the lowest changes place by jumps.
    found = statistics.of_rough_means(columns, lowest, *labels, period=period)
    return statistics.intervals_of(found, *labels, period=period, family=family)[0]


def _contrast(value: np.ndarray, more: np.ndarray, less: np.ndarray) -> np.ndarray:
    """Columns for the difference of the means of two groups of examples."""
    return np.stack([value * more, more, value * less, less], axis=1).astype(float)


def _difference(means: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return means[..., 0] / means[..., 1] - means[..., 2] / means[..., 3]


def angle_contrasts(frame: pd.DataFrame, *, period: float = 360.0, family: int = 1) -> pd.DataFrame:
    """How much smaller errors are in some places than in others.

    Args:
        frame: seed, angle_deg, error_deg.
        period: 180 or 360.
        family: number of intervals of a quantity that are to hold together (Bonferroni).

    Returns:
        The table ``tables/orientation_contrasts.csv`` of one condition, each an error minus an
        error: oblique_index (oblique minus cardinal), lattice_index (halfway between multiples of
        45 deg, minus at them), horizontal_advantage (elsewhere minus horizontal),
        vertical_advantage and, for period 360, origin_180_advantage (elsewhere minus around
        180 deg). Nan where a place has no examples.
    """
    angle, error = frame["angle_deg"].to_numpy(float), frame["error_deg"].to_numpy(float)

    def near(place: float, every: float) -> np.ndarray:
        """Close to place, place + every, ..."""
        return np.abs(np.mod(angle - place + every / 2, every) - every / 2) <= _NEAR_DEG

    sides = {
        "oblique_index": (near(45, 90), near(0, 90)),
        "lattice_index": (near(22.5, 45), near(0, 45)),
        "horizontal_advantage": (~near(0, 180), near(0, 180)),
        "vertical_advantage": (~near(90, 180), near(90, 180)),
    }
    if period == 360:
        sides["origin_180_advantage"] = (~near(180, 360), near(180, 360))
    found = statistics.intervals(
        {name: (_contrast(error, *pair), _difference) for name, pair in sides.items()},
        *_labels(frame),
        family=family,
    )
    return pd.DataFrame(
        [{"quantity": name, "unit": "deg", **one.row()} for name, one in found.items()]
    )
