"""Tables of errors from predictions of many runs: metrics, histograms, curves along the angle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from patchwork.analysis.biases import observer, orientation
from patchwork.statistics import Resampling, metrics
from patchwork.statistics.metrics import TargetScale
from patchwork.stimuli import LabelAttributes
from patchwork.tables import CONDITION, conditions, groups, join, labelled

_PREDICTED = "predicted_"
_CLAIMED_PLACE_DEG = 180.0  # where arXiv 2504.09393 puts the least error


@dataclass(frozen=True)
class Angle:
    """Which predicted angle a study is about.

    Attributes:
        label: ``angle_deg`` (directed) or ``orientation_deg``, say.
        period: degrees after which it repeats.
    """

    label: str
    period: float


def scales(attributes: Mapping[str, LabelAttributes]) -> dict[str, TargetScale]:
    """Units and periods of labels; degrees repeat after their largest value."""
    return {
        name: TargetScale(one.units, one.maximum if one.units == "deg" else None)
        for name, one in attributes.items()
    }


def predicted_labels(frame: pd.DataFrame) -> list[str]:
    """Labels that the runs of a frame predict."""
    columns = map(str, frame.columns)
    return [name.removeprefix(_PREDICTED) for name in columns if name.startswith(_PREDICTED)]


def metric_tables(
    predictions: pd.DataFrame,
    attributes: Mapping[str, LabelAttributes],
    resampling: Resampling,
) -> pd.DataFrame:
    """Every metric of every predicted label under every condition.

    Args:
        predictions: as from :func:`patchwork.tables.gather`.
        attributes: units and ranges of the labels.
        resampling: of the intervals.

    Returns:
        dataset, backbone, protocol and the columns of ``metrics.metric_table``.
    """
    known = scales(attributes)
    parts = []
    for names, part in conditions(predictions):
        long = pd.concat(
            [
                pd.DataFrame(
                    {
                        "seed": part["seed"],
                        "example": part["index"],
                        "target": label,
                        "actual": part[label].astype(float),
                        "predicted": part[_PREDICTED + label],
                    }
                )
                for label in predicted_labels(part)
            ]
        ).dropna(subset="actual")  # such as the start of a chirp that is not there
        parts.append(labelled(metrics.metric_table(long, known, resampling=resampling), names))
    return join(parts)


def angle_of(frame: pd.DataFrame, angles: Sequence[Angle]) -> Angle | None:
    """The first of the angles that the frame's runs predict, if any."""
    return next((one for one in angles if _PREDICTED + one.label in frame), None)


def angle_errors(part: pd.DataFrame, angle: Angle) -> pd.DataFrame:
    """Errors of one condition.

    Args:
        part: predictions of one condition.
        angle: which one.

    Returns:
        seed, example, angle_deg (of the stimulus, directed), error_deg, signed_error_deg, and the
        labels noise_sd, colour and hue_deg where there are any.
    """
    signed = metrics.signed_circular_error(
        part[_PREDICTED + angle.label].to_numpy(), part[angle.label].to_numpy(float), angle.period
    )
    kept = [name for name in ("noise_sd", "colour", "hue_deg") if name in part]
    return part[["seed", *kept]].assign(
        example=part["index"],
        angle_deg=part["angle_deg"].astype(float),
        error_deg=np.abs(signed),
        signed_error_deg=signed,
    )


def histograms(
    predictions: pd.DataFrame, angles: Sequence[Angle], bin_width_deg: float
) -> pd.DataFrame:
    """Distribution of the absolute angle error under every condition.

    Returns:
        dataset, backbone, protocol, error_deg (centre of a bin), bin_width_deg, density (1/deg),
        n, seeds.
    """
    parts = []
    for names, part in conditions(predictions):
        angle = angle_of(part, angles)
        if angle is None:
            continue
        errors = angle_errors(part, angle)["error_deg"]
        edges = np.arange(0, angle.period / 2 + bin_width_deg / 2, bin_width_deg)
        density, edges = np.histogram(errors, edges, density=True)
        table = pd.DataFrame(
            {
                "error_deg": (edges[:-1] + edges[1:]) / 2,
                "bin_width_deg": np.diff(edges),
                "density": density,
                "n": len(errors),
                "seeds": part["seed"].nunique(),
            }
        )
        parts.append(labelled(table, names))
    return join(parts)


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
    resampling: Resampling,
) -> OrientationTables:
    """Curves, harmonics and contrasts of the angle error under every condition.

    Args:
        predictions: as from :func:`patchwork.tables.gather`.
        angles: which predicted angle counts, first match.
        n_bins: bins per period.
        pooled: datasets that are also taken together, as dataset ``all``.
        resampling: of the intervals.
    """
    curves: list[pd.DataFrame] = []
    bias: list[pd.DataFrame] = []
    harmonics, contrasts, strict = [], [], []
    sure = replace(resampling, confidence=1 - (1 - resampling.confidence) / max(1, len(pooled)))
    for names, part in conditions(_with_pool(predictions, pooled)):
        angle = angle_of(part, angles)
        if angle is None:
            continue
        errors = angle_errors(part, angle)
        options: dict[str, Any] = {"period": angle.period, "resampling": resampling}
        for value, parts in (("error_deg", curves), ("signed_error_deg", bias)):
            curve = orientation.angle_curve(errors, value=value, n_bins=n_bins, **options)
            parts.append(labelled(curve.assign(condition="network"), names))
        harmonics.append(labelled(orientation.harmonic_fit(errors, **options), names))
        contrasts.append(labelled(_contrasts(errors, angle, resampling), names))
        if names["dataset"] in pooled:
            one = _contrasts(errors, angle, sure).assign(period=angle.period)
            strict.append(labelled(one, names))
    contrasts.append(_extremes(join(contrasts), join(strict)))
    return OrientationTables(join(curves), join(bias), join(harmonics), join(contrasts))


def _with_pool(predictions: pd.DataFrame, pooled: Sequence[str]) -> pd.DataFrame:
    """The frame with the rows of the pooled datasets once more, as dataset `all`.

    Datasets share their stimuli's seed: examples of one index have the same angle and noise, and
    their errors go together, so an index stays one unit of the resampling in all of them.
    """
    rows = predictions[predictions["dataset"].isin(pooled)]
    return pd.concat([predictions, rows.assign(dataset="all")], ignore_index=True)


def _extremes(plain: pd.DataFrame, strict: pd.DataFrame) -> pd.DataFrame:
    """What the condition that speaks most against a claim gives, over the pooled datasets.

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
        ends = part.set_index("quantity")[["estimate", "ci_high", "ci_high_strict"]]
        places, advantages = (
            ends.loc[[name]].to_numpy(float).T
            for name in ("place_of_minimum", "horizontal_advantage")
        )
        half_turn = part["period"].iloc[0] / 2
        off = np.abs(np.mod(places[0] - _CLAIMED_PLACE_DEG + half_turn, 2 * half_turn) - half_turn)
        halves = places[1:] - places[0], advantages[1:] - advantages[0]
        found = {
            "farthest_minimum_from_180": np.clip(_greatest(off, *halves[0]), 0, half_turn),
            "least_horizontal_advantage": -_greatest(-advantages[0], *halves[1])[[0, 2, 1]],
            "greatest_horizontal_advantage": _greatest(advantages[0], *halves[1]),
        }
        table = pd.DataFrame.from_dict(found, "index", columns=["estimate", "ci_low", "ci_high"])
        first = part.drop_duplicates("dataset")
        counts = {"n": first["n"].sum(), "seeds": first["seeds"].min()}
        table = table.rename_axis("quantity").reset_index().assign(unit="deg", **counts)
        parts.append(labelled(table, {"dataset": "all", **names}))
    return join(parts)


def _greatest(estimate: np.ndarray, half: np.ndarray, strict: np.ndarray) -> np.ndarray:
    """The greatest of estimates and its interval's ends, from plain and corrected half widths."""
    return np.array([estimate.max(), (estimate - strict).max(), (estimate + half).max()])


def _contrasts(errors: pd.DataFrame, angle: Angle, resampling: Resampling) -> pd.DataFrame:
    options: dict[str, Any] = {"period": angle.period, "resampling": resampling}
    table = orientation.angle_contrasts(errors, **options)
    # The fundamental alone: the error of a directed label peaks sharply at its jump, and higher
    # waves that fit the peak put troughs of their own elsewhere.
    place = orientation.place_of_minimum(errors, orders=[int(360 / angle.period)], **options)
    found = {"quantity": "place_of_minimum", "unit": "deg", **place.row()}
    return pd.concat([table, pd.DataFrame([found])], ignore_index=True)


def observer_tables(
    geometries: Mapping[str, observer.LineGeometry],
    encodings: Mapping[str, tuple[Angle, float, float]],
    n_bins: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The ideal observer's curve and contrasts for every dataset and protocol.

    Args:
        geometries: dataset to the geometry of its lines.
        encodings: protocol to its angle, the origin of its label (deg) and the Huber loss's delta.
        n_bins: bins per period.

    Returns:
        Curves (dataset, protocol, condition, bin_deg, error_deg, signed_error_deg) and contrasts
        (dataset, protocol, quantity, estimate) of `origin_180_advantage`, `horizontal_advantage`
        and `place_of_minimum`.
    """
    curves, contrasts = [], []
    for dataset, geometry in geometries.items():
        for protocol, (angle, origin, delta) in encodings.items():
            names = {"dataset": dataset, "protocol": protocol}
            if angle.period == 180:
                table = observer.axial_observer()
            else:
                table = observer.directed_observer(geometry, origin_deg=origin, delta=delta)
            curve = observer.observer_curve(table, period=angle.period, n_bins=n_bins)
            curves.append(labelled(curve.assign(condition="ideal observer"), names))
            contrasts.append(labelled(_observer_contrasts(table, angle.period), names))
    return join(curves), join(contrasts)


def _observer_contrasts(table: pd.DataFrame, period: float) -> pd.DataFrame:
    errors = table.assign(seed=0)
    means = orientation.angle_contrasts(
        errors, period=period, resampling=Resampling(n_resamples=100)
    )
    place = orientation.place_of_minimum(
        errors,
        period=period,
        orders=[int(360 / period)],
        resampling=Resampling(n_resamples=100),
    )
    rows = means[["quantity", "estimate"]].to_dict("records")
    return pd.DataFrame([*rows, {"quantity": "place_of_minimum", "estimate": place.estimate}])


def encodings_of(
    protocols: Mapping[str, Mapping], angles: Sequence[Angle]
) -> dict[str, tuple[Angle, float, float]]:
    """Angle, origin of its label and delta of its loss for each protocol that predicts one.

    Args:
        protocols: configuration blocks with ``targets``.
        angles: which predicted angle counts, first match.
    """
    found = {}
    for name, protocol in protocols.items():
        for target in protocol["targets"].values():
            for angle in angles:
                if angle.label in target["labels"]:
                    found[name] = (angle, target.get("origin", 0.0), target.get("delta", 1.0))
    return found


def only(table: pd.DataFrame, seen: set[tuple[str, str]]) -> pd.DataFrame:
    """Rows whose dataset and protocol were run."""
    pairs = zip(table["dataset"], table["protocol"], strict=True)
    return table[[pair in seen for pair in pairs]].reset_index(drop=True)
