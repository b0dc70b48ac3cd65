"""Where and whether there is a chirp, by networks and baselines."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics

from patchwork import statistics
from patchwork.analysis.chirps import baselines, learning, localisation_intervals
from patchwork.analysis.chirps.baselines import Plane
from patchwork.analysis.chirps.localisation_intervals import (
    EVERY,
    LEVELS,
    NO_PROTOCOL,
    PRESENT,
    targets,
)
from patchwork.analysis.predictions import PREDICTED, long_errors, metric_tables, unit_of
from patchwork.statistics import Interval
from patchwork.statistics.metrics import auroc_terms
from patchwork.statistics.power import Planted
from patchwork.stimuli import LabelAttributes
from patchwork.tables import CONDITION, ENDS, FINDINGS, RUN, conditions, groups, join, labelled

CONSTANT = "constant"
ALONG = (*LEVELS, "duration_s", "sweep")
_N_POINTS = 400  # images that a figure of single predictions shows
METRICS = {"pearson_r": "r", "slope": "slope", "bias": "bias", "mae": "mae"}
TRACKERS = {
    "ridge_tracker": baselines.ridge_tracker,
    "matched_filter": baselines.matched_filter,
}
_SCORE = "score_present"
_NOT_LABELS = (PREDICTED, "loss_", "score_")


def detections(arrays: Iterable[np.ndarray], plane: Plane) -> pd.DataFrame:
    """What the baselines find in the images of a dataset.

    They see the pixels that a network sees, read back as numbers.

    Args:
        arrays: spectrograms in order, in batches of shape (n, rows, columns), as
            `stimuli.chirps.read_pixels` gives them.
        plane: time and frequency range of the arrays.

    Returns:
        backbone (name of the baseline), index (from 0), start_s, duration_s, start_hz, end_hz,
        score.
    """
    parts, first = [], 0
    for batch in arrays:
        index = np.arange(first, first := first + len(batch))
        parts += [
            find(batch, plane).assign(backbone=name, index=index) for name, find in TRACKERS.items()
        ]
    return pd.concat(parts, ignore_index=True)


def baseline_predictions(
    predictions: pd.DataFrame, detected: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Predictions of the baselines for the images that networks were tested on.

    Args:
        predictions: of networks, as from :func:`patchwork.tables.gather`.
        detected: dataset to its :func:`detections`.

    Returns:
        Rows of the same form with the baseline's name as backbone, protocol ``none`` and seed 0.
        ``constant`` predicts the median of the test labels, which no constant beats in mean
        absolute error; it has no score of presence, the others have ``score_present``.
    """
    parts = []
    for names, part in groups(predictions, ["dataset"]):
        kept = [name for name in part if not str(name).startswith(_NOT_LABELS) and name not in RUN]
        images = part.drop_duplicates("index")[kept].reset_index(drop=True)
        labels = targets(part.dropna(axis=1, how="all"))
        medians = {PREDICTED + label: images[label].astype(float).median() for label in labels}
        parts.append(images.assign(**names, **medians, backbone=CONSTANT))
        for _, found in groups(detected[names["dataset"]], ["backbone"]):
            renamed = {label: PREDICTED + label for label in labels if label in found}
            columns = found.rename(columns=renamed | {"score": _SCORE})
            columns = columns[["backbone", "index", *renamed.values(), _SCORE]]
            parts.append(images.merge(columns, on="index", validate="one_to_one").assign(**names))
    return pd.concat(parts, ignore_index=True).assign(protocol=NO_PROTOCOL, seed=0)


def with_baselines(predictions: pd.DataFrame, detected: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Predictions of networks, and those of the baselines below them."""
    rows = baseline_predictions(predictions, detected)
    return pd.concat([predictions, rows], ignore_index=True)


def score_column(part: pd.DataFrame) -> str | None:
    """The column that ranks images by presence: a score, else the predicted class, else none."""
    known = (name for name in (_SCORE, PREDICTED + PRESENT) if name in part)
    both = PRESENT in part and part[PRESENT].nunique() == 2
    return next(known, None) if both else None


def presence_area(part: pd.DataFrame, column: str) -> Interval:
    """Chance that an image with a chirp scores higher than one without, over seeds and images.

    Args:
        part: seed, index, present (0 or 1) and the score, one row per seed and image.
        column: the score.

    Returns:
        The mean over seeds of the area under the receiver operating characteristic (ties count
        half); within 0 and 1.
    """
    terms = []
    for _, one in part.groupby("seed", sort=False):
        found = auroc_terms(one[column].to_numpy(float), (one[PRESENT] == 1).to_numpy())
        terms.append(pd.Series(found, one.index))
    values = pd.concat(terms)
    seeds, images = (part.loc[values.index, name].to_numpy() for name in ("seed", "index"))
    return statistics.share_intervals(values.to_numpy(), seeds, images)[0]


def roc_curve(part: pd.DataFrame, column: str, n_points: int = 51) -> pd.DataFrame:
    """Receiver operating characteristic, averaged over seeds at equal rates of false alarms.

    Args:
        part: as for :func:`presence_area`.
        column: the score.
        n_points: rates of false alarms, evenly from 0 to 1.

    Returns:
        false_positive_rate and true_positive_rate, 0 to 1.
    """
    rates = np.linspace(0, 1, n_points)
    curves = []
    for _, one in part.groupby("seed", sort=False):
        alarms, hits, _ = metrics.roc_curve(one[PRESENT] == 1, one[column].astype(float))
        # Where the curve is upright its top counts: the last of equal rates.
        last = np.append(np.diff(alarms) > 0, True)
        curves.append(np.interp(rates, alarms[last], hits[last]))
    mean = np.mean(curves, axis=0)
    return pd.DataFrame({"false_positive_rate": rates, "true_positive_rate": mean})


def localisation_tables(
    frame: pd.DataFrame,
    attributes: Mapping[str, LabelAttributes],
    *,
    n_bins: int,
    coverage: float,
    sizes: Mapping[str, int],
    planted: Mapping[str, Planted],
) -> dict[str, pd.DataFrame]:
    """All tables of one study, by the names that its rule gives them.

    Args:
        frame: predictions as from :func:`with_baselines`.
        attributes: units and names of the labels.
        n_bins: bins of the errors along noise and duration, 1 or more.
        coverage: wanted chance of an interval to cover, between 0 and 1.
        sizes: dataset to its number of training images; those of one learning curve.
        planted: positive controls, by quantity.
    """
    # Whether there is a chirp is scored by presence_table, the rest where there is one.
    placed = frame.drop(columns=PREDICTED + PRESENT, errors="ignore")
    scored = metric_tables(placed, attributes)
    covered = localisation_intervals.conformal_table(frame, attributes, coverage)
    present = presence_table(frame)
    found = [
        findings(frame, scored, covered, present),
        learning.gain_findings(frame, sizes),
        learning.positive_controls(frame, planted),
    ]
    return {
        "metrics": scored,
        "errors_along": errors_along(frame, attributes, n_bins),
        "conformal": covered,
        "presence": present,
        "points": point_table(frame, attributes),
        "sentences": localisation_intervals.sentence_table(frame, covered),
        "histograms": learning.histograms(frame, attributes),
        "learning": learning.curve(scored, sizes),
        "findings": join(found)[list(FINDINGS)],
    }


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
        The table ``tables/errors_along.csv``.
    """
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
    labels = targets(part)
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
    """How well presence is detected: the area with its interval, and the curve above it.

    Args:
        frame: predictions of networks and baselines; those without a score are ranked by the
            predicted class, conditions without either, or without images of both kinds, left out.

    Returns:
        The table ``tables/presence.csv``.
    """
    parts = []
    for names, part in conditions(frame):
        column = score_column(part)
        if column is not None:
            area = presence_area(part, column).row()
            curve = roc_curve(part, column)
            whole = {"auroc": area.pop("estimate"), **area}
            parts.append(labelled(curve.assign(ranked_by=column, **whole), names))
    return join(parts)


def point_table(frame: pd.DataFrame, attributes: Mapping[str, LabelAttributes]) -> pd.DataFrame:
    """Single predictions of the first seed of each condition, for a figure.

    Args:
        frame: predictions of networks and baselines.
        attributes: units of the labels.

    Returns:
        The table ``tables/points.csv``.
    """
    parts = []
    for names, part in conditions(frame):
        seed = part["seed"].min()
        long = long_errors(part[part["seed"] == seed], [PRESENT])
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
        scored: as from :func:`patchwork.analysis.predictions.metric_tables`.
        covered: as from :func:`localisation_intervals.conformal_table`.
        present: as from :func:`presence_table`.

    Returns:
        ``tables.FINDINGS``: ``<label>_r``, ``<label>_slope``, ``<label>_bias``, ``<label>_mae``,
        ``coverage_<label>``, ``presence_auroc``, and of networks ``<label>_mae_minus_<baseline>``,
        paired by image.
    """
    values = scored.assign(quantity=scored["target"] + "_" + scored["metric"].map(METRICS)).dropna(
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
        for baseline in (CONSTANT, *TRACKERS):
            other = simple[
                (simple["dataset"] == names["dataset"]) & (simple["backbone"] == baseline)
            ]
            both = learning.paired_sizes(part, other)
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
