"""Tables about where and whether there is a chirp, for networks and baselines, and findings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from patchwork import statistics
from patchwork.analysis.chirps import localisation, localisation_intervals
from patchwork.analysis.chirps.localisation import CONSTANT, LEVELS, NO_PROTOCOL, TRACKERS, unit_of
from patchwork.analysis.chirps.localisation_intervals import EVERY
from patchwork.statistics import metrics
from patchwork.statistics.metrics import TargetScale
from patchwork.stimuli import LabelAttributes
from patchwork.tables import CONDITION, ENDS, FINDINGS, conditions, join, labelled

ALONG = (*LEVELS, "duration_s", "sweep")
_N_POINTS = 400  # images that a figure of single predictions shows
_METRICS = {"pearson_r": "r", "slope": "slope", "bias": "bias", "mae": "mae"}


@dataclass(frozen=True)
class Localisation:
    """Tables of all conditions; each with dataset, backbone and protocol in front.

    Attributes:
        metrics: as from :func:`metric_table`.
        errors_along: as from :func:`errors_along`.
        conformal: as from :func:`patchwork.analysis.chirps.localisation_intervals.conformal_table`.
        presence: as from :func:`presence_table`.
        points: as from :func:`point_table`.
        sentences: as from :func:`patchwork.analysis.chirps.localisation_intervals.sentence_table`.
        findings: as from :func:`findings`.
    """

    metrics: pd.DataFrame
    errors_along: pd.DataFrame
    conformal: pd.DataFrame
    presence: pd.DataFrame
    points: pd.DataFrame
    sentences: pd.DataFrame
    findings: pd.DataFrame


def localisation_tables(
    frame: pd.DataFrame,
    attributes: Mapping[str, LabelAttributes],
    *,
    n_bins: int,
    coverage: float,
) -> Localisation:
    """All tables of one study.

    Args:
        frame: predictions as from :func:`patchwork.analysis.chirps.localisation.with_baselines`.
        attributes: units and names of the labels.
        n_bins: bins of the errors along noise and duration, 1 or more.
        coverage: wanted chance of an interval to cover, between 0 and 1.
    """
    scored = metric_table(frame, attributes)
    covered = localisation_intervals.conformal_table(frame, attributes, coverage)
    present = presence_table(frame)
    return Localisation(
        metrics=scored,
        errors_along=errors_along(frame, attributes, n_bins),
        conformal=covered,
        presence=present,
        points=point_table(frame, attributes),
        sentences=localisation_intervals.sentence_table(frame, covered),
        findings=findings(frame, scored, covered, present),
    )


def metric_table(frame: pd.DataFrame, attributes: Mapping[str, LabelAttributes]) -> pd.DataFrame:
    """Every metric of every predicted label, on the images with a chirp.

    Args:
        frame: predictions of networks and baselines.
        attributes: units of the labels.

    Returns:
        dataset, backbone, protocol and the columns of ``metrics.metric_table``: metrics pearson_r,
        slope, mae and bias (mean of predicted minus true).
    """
    scales = {name: TargetScale(one.units) for name, one in attributes.items()}
    parts = []
    for names, part in conditions(frame):
        long = localisation.long_errors(part)
        parts.append(labelled(metrics.metric_table(long, scales), names))
    return join(parts)


def errors_along(
    frame: pd.DataFrame,
    attributes: Mapping[str, LabelAttributes],
    n_bins: int,
) -> pd.DataFrame:
    """Mean absolute error in bins of noise, duration and kind of sweep.

    Args:
        frame: predictions of networks and baselines.
        attributes: units of the labels, and names of the kinds of sweep.
        n_bins: bins of equal width over the range of each label in its dataset, 1 or more; a kind
            of sweep is a bin of its own.

    Returns:
        dataset, backbone, protocol, target, unit, along (``noise_sd``, ``snr_db``, ``duration_s``
        or ``sweep``), along_unit, bin (centre, or number of the kind), bin_low, bin_high, bin_name
        (of the kind), mae, ci_low, ci_high (>= 0), n (images x seeds in the bin), seeds.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}; allowed is 1 or more")
    parts = []
    for names, part in conditions(frame):
        own = frame[frame["dataset"] == names["dataset"]]
        edges = {along: _edges(own[along], n_bins, attributes) for along in ALONG if along in part}
        varying = {along: found for along, found in edges.items() if len(found)}
        if varying:
            parts.append(labelled(_binned(part, varying, attributes), names))
    return join(parts)


def _edges(column: pd.Series, n_bins: int, attributes: Mapping[str, LabelAttributes]) -> np.ndarray:
    """Edges of the bins of a label; none where it does not vary."""
    values, names = column.dropna().to_numpy(float), _names(attributes, str(column.name))
    if len(values) == 0 or np.ptp(values) == 0:
        return np.empty(0)
    if names:
        return np.arange(len(names) + 1) - 0.5
    return np.linspace(values.min(), values.max(), n_bins + 1)


def _names(attributes: Mapping[str, LabelAttributes], label: str) -> tuple[str, ...]:
    return attributes[label].names if label in attributes else ()


def _binned(
    part: pd.DataFrame,
    edges: Mapping[str, np.ndarray],
    attributes: Mapping[str, LabelAttributes],
) -> pd.DataFrame:
    """Mean absolute error of each label in each bin."""
    labels = localisation.targets(part)
    seen = part[np.isfinite(part[labels].astype(float)).all(axis=1)]
    seeds, images = seen["seed"].to_numpy(), seen["index"].to_numpy()
    rows: list[dict[str, Any]] = []
    for along, steps in edges.items():
        numbers = np.searchsorted(steps, seen[along].to_numpy(float), "right") - 1
        numbers = np.minimum(numbers, len(steps) - 2)  # the last bin has both its ends
        for number in np.unique(numbers):
            inside = numbers == number
            place = _place(along, steps, int(number), attributes)
            for label in labels:
                size = (seen[f"predicted_{label}"] - seen[label]).abs().to_numpy(float)
                one = statistics.interval(size[inside], seeds[inside], units=images[inside])
                row = one.within(least=0.0).row()
                head = {"target": label, "unit": unit_of(attributes, label), "along": along}
                rows.append(head | place | {"mae": row.pop("estimate"), **row})
    columns = ["mae", *ENDS, "n", "seeds"]
    return pd.DataFrame(rows)[["target", "unit", "along", *place, *columns]]


def _place(
    along: str, edges: np.ndarray, number: int, attributes: Mapping[str, LabelAttributes]
) -> dict[str, Any]:
    """Columns that say which bin it is."""
    low, high = float(edges[number]), float(edges[number + 1])
    names = _names(attributes, along)
    return {
        "along_unit": "" if names else unit_of(attributes, along),
        "bin": (low + high) / 2,
        "bin_low": low,
        "bin_high": high,
        "bin_name": names[number] if names else "",
    }


def presence_table(frame: pd.DataFrame) -> pd.DataFrame:
    """How well presence is told, as an area with its interval and the curve that it lies below.

    Args:
        frame: predictions of networks and baselines; those without a score are ranked by the
            predicted class, conditions without either, or without images of both kinds, left out.

    Returns:
        dataset, backbone, protocol, ranked_by (``score_present`` or ``predicted_present``),
        false_positive_rate, true_positive_rate (one row per point of the curve, a mean over
        seeds), and of the whole curve in each row: auroc, ci_low, ci_high, n, seeds.
    """
    parts = []
    for names, part in conditions(frame):
        column = localisation.score_column(part)
        if column is not None:
            area = localisation.auroc(part, column).row()
            curve = localisation.roc_curve(part, column)
            whole = {"auroc": area.pop("estimate"), **area}
            parts.append(labelled(curve.assign(ranked_by=column, **whole), names))
    return join(parts)


def point_table(frame: pd.DataFrame, attributes: Mapping[str, LabelAttributes]) -> pd.DataFrame:
    """Single predictions of the first seed of each condition, for a figure.

    Args:
        frame: predictions of networks and baselines.
        attributes: units of the labels.

    Returns:
        dataset, backbone, protocol, seed, target, unit, index, actual, predicted: the first 400
        images with a chirp; and of all images with one, slope and intercept of predicted on
        actual, pearson_r (nan for a constant) and n.
    """
    parts = []
    for names, part in conditions(frame):
        seed = part["seed"].min()
        long = localisation.long_errors(part[part["seed"] == seed])
        for target, one in long.groupby("target", sort=False):
            slope, intercept = np.polyfit(one["actual"], one["predicted"], 1)
            varies = np.ptp(one["predicted"]) > 0
            r = np.corrcoef(one["actual"], one["predicted"])[0, 1] if varies else np.nan
            table = one[["index", "actual", "predicted"]].head(_N_POINTS)
            head = {
                **names,
                "seed": seed,
                "target": target,
                "unit": unit_of(attributes, str(target)),
            }
            fit = {"slope": slope, "intercept": intercept, "pearson_r": r, "n": len(one)}
            parts.append(labelled(table.assign(**fit), head))
    return join(parts)


def findings(
    frame: pd.DataFrame,
    scored: pd.DataFrame,
    covered: pd.DataFrame,
    present: pd.DataFrame,
) -> pd.DataFrame:
    """What claims are decided by, for every condition and baseline.

    Args:
        frame: predictions of networks and baselines.
        scored: as from :func:`metric_table`.
        covered: as from :func:`patchwork.analysis.chirps.localisation_intervals.conformal_table`.
        present: as from :func:`presence_table`.

    Returns:
        ``tables.FINDINGS``: ``<label>_r``, ``<label>_slope``, ``<label>_bias``, ``<label>_mae``,
        ``coverage_<label>``, ``presence_auroc``, and of networks ``<label>_mae_minus_<baseline>``,
        paired by image.
    """
    values = scored.assign(quantity=scored["target"] + "_" + scored["metric"].map(_METRICS)).dropna(
        subset="estimate"
    )
    pooled = covered[covered["seed"] == EVERY].assign(
        quantity=lambda table: "coverage_" + table["target"],
        estimate=lambda table: table["coverage"],
    )
    seeds = frame.groupby(list(CONDITION))["seed"].nunique().rename("seeds")
    parts = [values, pooled.merge(seeds, on=list(CONDITION)), differences(frame)]
    if len(present):
        areas = present.drop_duplicates(list(CONDITION))
        parts.append(areas.assign(quantity="presence_auroc", estimate=areas["auroc"]))
    return join([part[list(FINDINGS)] for part in parts if len(part)])


def differences(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute error of networks minus that of each baseline on the same images.

    Args:
        frame: predictions of networks and baselines.

    Returns:
        ``tables.FINDINGS`` with quantities ``<label>_mae_minus_<baseline>``; below zero where the
        network is better.
    """
    rows = []
    simple = frame[frame["protocol"] == NO_PROTOCOL]
    for names, part in conditions(frame[frame["protocol"] != NO_PROTOCOL]):
        own = _sizes(part)
        for baseline in (CONSTANT, *TRACKERS):
            other = simple[
                (simple["dataset"] == names["dataset"]) & (simple["backbone"] == baseline)
            ]
            both = own.merge(
                _sizes(other)[["target", "index", "size"]],
                on=["target", "index"],
                suffixes=("", "_other"),
                validate="many_to_one",
            )
            for target, one in both.groupby("target", sort=False):
                apart = statistics.paired_interval(
                    one["size"].to_numpy(),
                    one["size_other"].to_numpy(),
                    one["seed"].to_numpy(),
                    units=one["index"].to_numpy(),
                )
                quantity = f"{target}_mae_minus_{baseline}"
                rows.append({"quantity": quantity, **names, **apart.row()})
    return pd.DataFrame(rows)


def _sizes(part: pd.DataFrame) -> pd.DataFrame:
    long = localisation.long_errors(part.dropna(axis=1, how="all"))
    return long.assign(size=(long["predicted"] - long["actual"]).abs())
