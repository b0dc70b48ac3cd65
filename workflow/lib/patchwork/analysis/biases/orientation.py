"""Angle error along the angle: curves, harmonics, place of the minimum, contrasts.

Angles are those of the stimuli: 0 deg is horizontal, 90 deg vertical. Intervals are over
seeds and their examples; with a column `example`, over the images that all seeds saw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from patchwork import statistics
from patchwork.analysis.predictions import Angle, errors_by_condition
from patchwork.statistics import Estimates, Interval, Statistic
from patchwork.statistics.power import seed_effects, share_found
from patchwork.tables import join, labelled

# Orders of the directed angle that repeat within the period. Order 1 carries the label's jump,
# 2 horizontal against vertical, 4 cardinal against oblique, 8 the pixel lattice.
ORDERS = {360.0: (1, 2, 4), 180.0: (2, 4, 8)}
# Fitted together, so that neither wave is in the other.
_EVEN = (2, 4)
# Of the design's columns 1, cos 2, sin 2, cos 4, sin 4 those that are even about the horizontal.
CONTRASTS = {"vertical_minus_horizontal": 1, "oblique_minus_cardinal": 3}
_BORDER_DEG = 22.5  # nearer to 180 deg than to the next multiple of 45
_PLANTED_DEG = 2.0  # twice the smallest advantage that matters
_N_DRAWS = 50  # each fits every condition anew
_CLAIMED_PLACE_DEG = 180.0  # where arXiv 2504.09393 puts the least error


@dataclass(frozen=True)
class OrientationTables:
    """Tables of errors along the angle; each with dataset, backbone and protocol.

    Attributes:
        curves: condition, bin_deg, error_deg, ci_low, ci_high, n, seeds.
        bias: the same with signed_error_deg.
        harmonics: terms of the harmonic fit of the error.
        contrasts: quantity, unit, estimate, ci_low, ci_high, n, seeds; for dataset ``all`` also
            the extremes over all conditions, which decide claims about every one of them.
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
    turned: Mapping[str, str],
    *,
    seed: int = 0,
) -> OrientationTables:
    """Curves, harmonics and contrasts of the angle error under every condition.

    Args:
        predictions: as from :func:`patchwork.tables.gather`.
        angles: which predicted angle counts, first match.
        n_bins: bins per period.
        pooled: datasets that are also taken together, as dataset ``all``.
        turned: dataset to the one whose pictures are turned by 45 deg.
        seed: of planted effects.
    """
    curves: list[pd.DataFrame] = []
    bias: list[pd.DataFrame] = []
    harmonics, contrasts = [], []
    every: dict[tuple[str, str], dict[str, pd.DataFrame]] = {}
    periods = {}
    for names, angle, errors in errors_by_condition(with_pool(predictions, pooled), angles):
        options: dict[str, Any] = {"period": angle.period}
        for value, parts in (("error_deg", curves), ("signed_error_deg", bias)):
            curve = angle_curve(errors, value=value, n_bins=n_bins, **options)
            parts.append(labelled(curve.assign(condition="network"), names))
        harmonics.append(labelled(harmonic_fit(errors, **options), names))
        contrasts.append(labelled(contrasts_and_place(errors, angle.period), names))
        network = names["backbone"], names["protocol"]
        every.setdefault(network, {})[names["dataset"]] = errors
        periods[network] = angle.period
    for network, found in every.items():
        names = dict(zip(("backbone", "protocol"), network, strict=True))
        counted = {key: found[key] for key in (*pooled, *turned.values()) if key in found}
        found_in_all = extremes(counted, periods[network], seed)
        contrasts.append(labelled(found_in_all, {"dataset": "all", **names}))
        for upright, other in turned.items():
            if {upright, other} <= set(found):
                split = picture_and_lattice(found[upright], found[other])
                contrasts.append(labelled(split, {"dataset": upright, **names}))
    return OrientationTables(join(curves), join(bias), join(harmonics), join(contrasts))


def with_pool(predictions: pd.DataFrame, pooled: Sequence[str]) -> pd.DataFrame:
    """The frame with the rows of the pooled datasets once more, as dataset `all`.

    Datasets share their stimuli's seed: examples of one index have the same angle and noise, and
    their errors go together, so an index stays one unit in all of them.
    """
    rows = predictions[predictions["dataset"].isin(pooled)]
    return pd.concat([predictions, rows.assign(dataset="all")], ignore_index=True)


def extremes(every: Mapping[str, pd.DataFrame], period: float, seed: int) -> pd.DataFrame:
    """The value that is least favourable to a claim over conditions, and its positive control.

    Args:
        every: dataset to its errors.
        period: of the angle.
        seed: of planted effects.

    Returns:
        For the directed angle ``farthest_minimum_from_180``; for orientations ``least_advantage``:
        the least `CONTRASTS` of all; for both ``..._power``, with the same wave put to 180 deg, or
        `_PLANTED_DEG` of either contrast.
    """
    if not every:
        return pd.DataFrame()
    directed = period == 360.0
    name = "farthest_minimum_from_180" if directed else "least_advantage"
    found = (_farthest if directed else _least)(every)
    power = share_found(
        lambda rng: (_farthest if directed else _least)(_planted(every, period, rng)),
        (0, _BORDER_DEG) if directed else (_PLANTED_DEG / 2, None),
        seed,
        _N_DRAWS,
    )
    if found.clusters < 2:
        power = statistics.unknown(found.n, found.clusters)
    rows = [
        {"quantity": name, "unit": "deg", **found.row()},
        {"quantity": f"{name}_power", "unit": "", **power.row()},
    ]
    return pd.DataFrame(rows)


def _farthest(every: Mapping[str, pd.DataFrame]) -> Interval:
    """How far from 180 deg the error of a directed angle is lowest, over conditions."""
    both = [_minimum(errors, 360.0, (1, len(every))) for errors in every.values()]
    plain, strict = ([one[0] for one in found] for found in zip(*both, strict=True))
    place = np.array([one.estimate for one in plain])
    off = np.abs(np.mod(place - _CLAIMED_PLACE_DEG + 180, 360) - 180)
    found = statistics.greatest(plain, strict, off).within(0, 180)
    return replace(found, n=sum(map(len, every.values())))


def _least(every: Mapping[str, pd.DataFrame]) -> Interval:
    """The least of the contrasts of orientations, over conditions."""
    both = [_waves(errors, (1, len(CONTRASTS) * len(every))) for errors in every.values()]
    plain, strict = ([one for some in found for one in some] for found in zip(*both, strict=True))
    found = statistics.least(plain, strict)
    return replace(found, n=sum(map(len, every.values())))


def _planted(
    every: Mapping[str, pd.DataFrame], period: float, rng: np.random.Generator
) -> dict[str, pd.DataFrame]:
    """New seeds and images of every condition, with the effect that a claim says.

    What seeds have beyond their mean wave is drawn anew, images are drawn with replacement.
    """
    directed = period == 360.0
    orders = [1] if directed else [2, 4]
    drawn = {}
    for name, errors in every.items():
        seeds = errors["seed"].unique()
        columns = _normal_columns(errors, "error_deg", orders)
        of_seed = [errors["seed"].to_numpy() == one for one in seeds]
        fits = np.stack([_coefficients(columns[one].mean(0)) for one in of_seed])
        wave = fits.mean(0)
        if directed:  # least at 180 deg
            wave[1:] = np.hypot(*wave[1:]), 0
        else:  # columns 1, cos 2, sin 2, cos 4, sin 4
            wave[1:] = -_PLANTED_DEG / 2, 0, -_PLANTED_DEG / 2, 0
        parts = []
        n = len(errors) // len(seeds)
        images = rng.integers(n, size=n)
        for one, own, other in zip(of_seed, fits, seed_effects(fits, rng), strict=True):
            part = errors[one].iloc[images]
            change = _design(part["angle_deg"].to_numpy(float), orders) @ (wave + other - own)
            parts.append(part.assign(error_deg=part["error_deg"] + change, example=np.arange(n)))
        drawn[name] = pd.concat(parts, ignore_index=True)
    return drawn


def contrasts_and_place(errors: pd.DataFrame, period: float) -> pd.DataFrame:
    """The rows of :func:`wave_contrasts`, and `place_of_minimum` below them."""
    found = wave_contrasts(errors) | {"place_of_minimum": place_of_minimum(errors, period)}
    return pd.DataFrame(
        [{"quantity": name, "unit": "deg", **one.row()} for name, one in found.items()]
    )


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


def place_of_minimum(frame: pd.DataFrame, period: float = 360.0) -> Interval:
    """Angle at which the wave of one cycle per period, fitted to the error, is lowest.

    That wave alone: the error of a directed label peaks sharply at its jump, and higher waves that
    fit the peak put troughs of their own elsewhere.

    Args:
        frame: seed, angle_deg, error_deg.
        period: 180 or 360.

    Returns:
        Degrees, 0 to the period, with a circular interval; the whole circle where seeds do not
        agree on a place.
    """
    return _minimum(frame, period, (1,))[0][0]


def _minimum(frame: pd.DataFrame, period: float, families: Sequence[int]) -> list[list[Interval]]:
    """The place of the minimum, for each size of the family of intervals that hold together."""

    def lowest(means: np.ndarray) -> np.ndarray:
        cosine, sine = np.moveaxis(_coefficients(means)[..., 1:], -1, 0)
        return np.mod(np.rad2deg(np.arctan2(-sine, -cosine)) * period / 360, period)

    columns, labels = _normal_columns(frame, "error_deg", [int(360 / period)]), _labels(frame)
    # Without a wave the place jumps.
    found = statistics.of_rough_means(columns, lowest, *labels, period=period)
    return _for_families(found, frame, families, period)


def _for_families(
    found: Estimates, frame: pd.DataFrame, families: Sequence[int], period: float | None = None
) -> list[list[Interval]]:
    seeds, units = _labels(frame)
    error = statistics.sampling_error(found.influence, seeds, units)
    counts = {"n": len(frame), "clusters": len(np.unique(seeds))}
    return [
        statistics.around(found.value, error, **counts, period=period, family=family)
        for family in families
    ]


def wave_contrasts(frame: pd.DataFrame) -> dict[str, Interval]:
    """The 2- and the 4-cycle wave of the error, as differences between angles.

    Args:
        frame: seed, angle_deg, error_deg.

    Returns:
        Of the waves that repeat after 180 and after 90 deg: ``vertical_minus_horizontal`` and
        ``oblique_minus_cardinal`` error, deg. An error that is lowest at the horizontal, as part
        of an oblique effect, has both above zero.
    """
    return dict(zip(CONTRASTS, _waves(frame, (1,))[0], strict=True))


def _waves(frame: pd.DataFrame, families: Sequence[int]) -> list[list[Interval]]:
    """The contrasts in their order, for each size of the family of intervals."""
    columns, picked = _normal_columns(frame, "error_deg", _EVEN), list(CONTRASTS.values())
    # From crest to trough of a cosine, counted positive if the trough is at 0 deg.
    found = statistics.of_means(columns, lambda means: -2 * _coefficients(means)[..., picked])
    return _for_families(found, frame, families)


def picture_and_lattice(upright: pd.DataFrame, turned: pd.DataFrame) -> pd.DataFrame:
    """What of the 4-cycle wave goes with the picture's axes, and what with the drawing's lattice.

    Lines that are drawn on the lattice of pixels and then turned by 45 deg bring the lattice's
    mark along, with its sign changed at the angle that is seen; what the network has of the
    picture's axes stays. So half the sum is of the picture, half the difference of the lattice.

    Args:
        upright: seed, example, angle_deg (as seen), error_deg.
        turned: the same of turned pictures; the seeds and examples that both have count.

    Returns:
        ``oblique_minus_cardinal_picture`` and ``..._lattice``, deg, with their intervals.
    """
    keys = ["seed", "example"]
    both = upright.merge(turned, on=keys, suffixes=("", "_turned"))
    other = both[["angle_deg_turned", "error_deg_turned"]].set_axis(
        ["angle_deg", "error_deg"], axis=1
    )
    columns = np.concatenate(
        [_normal_columns(one, "error_deg", _EVEN) for one in (both, other)], axis=1
    )
    column = CONTRASTS["oblique_minus_cardinal"]

    def half(sign: int) -> Statistic:
        def combined(means: np.ndarray) -> np.ndarray:
            one, other = np.split(means, 2, axis=-1)
            one, other = (_coefficients(part)[..., column] for part in (one, other))
            return -(one + sign * other)

        return combined

    rows = [
        {
            "quantity": f"oblique_minus_cardinal_{name}",
            "unit": "deg",
            **statistics.interval(columns, both["seed"].to_numpy(), half(sign),
                                  units=both["example"].to_numpy()).row(),
        }
        for name, sign in (("picture", 1), ("lattice", -1))
    ]  # fmt: skip
    return pd.DataFrame(rows)
