"""Where and whether there is a chirp: networks and baselines, presence, words, and time taken."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from sklearn import metrics

from patchwork import statistics
from patchwork.analysis.chirps import baselines
from patchwork.analysis.chirps.baselines import Plane
from patchwork.analysis.predictions import PREDICTED, predicted_labels
from patchwork.statistics import Interval
from patchwork.stimuli import LabelAttributes
from patchwork.stimuli.spectrograms import DURATION_S, FREQUENCY_MAX_HZ
from patchwork.tables import CONDITION, RUN, groups

PRESENT = "present"
CONSTANT = "constant"
NO_PROTOCOL = "none"
LEVELS = ("noise_sd", "snr_db")
TRACKERS = {
    "ridge_tracker": baselines.ridge_tracker,
    "matched_filter": baselines.matched_filter,
}
_SCORE = "score_present"
_NOT_LABELS = (PREDICTED, "loss_", "score_")
_CLAUSES = {
    "start_s": ("starts at", "s"),
    "duration_s": ("lasts", "s"),
    "start_hz": ("begins at", "Hz"),
    "end_hz": ("ends at", "Hz"),
}
_MOST = {"s": DURATION_S, "Hz": FREQUENCY_MAX_HZ}  # of the figure, which begins at zero


def targets(frame: pd.DataFrame) -> list[str]:
    """Labels that a frame predicts as numbers: all but presence."""
    return [name for name in predicted_labels(frame) if name != PRESENT]


def unit_of(attributes: Mapping[str, LabelAttributes], label: str) -> str:
    """The unit of a label; empty where it is not described."""
    return attributes[label].units if label in attributes else ""


def detections(arrays: Iterable[np.ndarray], plane: Plane) -> pd.DataFrame:
    """What the baselines find in the images of a dataset.

    They see the arrays behind the images, at full resolution and before colours and decoration:
    an advantage over a network, which sees the picture.

    Args:
        arrays: spectrograms in order, in batches of shape (n, rows, columns).
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


def long_errors(part: pd.DataFrame) -> pd.DataFrame:
    """Each prediction of one condition on a line of its own; images without a chirp have none.

    Args:
        part: predictions of one condition.

    Returns:
        The columns of part, with target, actual and predicted (physical units) and example, the
        image's index.
    """
    rows = [
        part.assign(
            target=label, actual=part[label].astype(float), predicted=part[PREDICTED + label]
        )
        for label in targets(part)
    ]
    long = pd.concat(rows, ignore_index=True).assign(example=lambda table: table["index"])
    return long[np.isfinite(long["actual"])].reset_index(drop=True)


def score_column(part: pd.DataFrame) -> str | None:
    """The column that ranks images by presence: a score, else the predicted class, else none."""
    known = (name for name in (_SCORE, PREDICTED + PRESENT) if name in part)
    both = PRESENT in part and part[PRESENT].nunique() == 2
    return next(known, None) if both else None


def auroc(part: pd.DataFrame, column: str) -> Interval:
    """Chance that an image with a chirp scores higher than one without, over seeds and images.

    Args:
        part: seed, index, present (0 or 1) and the score, one row per seed and image.
        column: the score.

    Returns:
        The mean over seeds of the area under the receiver operating characteristic (ties count
        half), with an interval from its placement values; within 0 and 1.

    Source: DeLong et al. 1988: the area is a mean of placement values.
    """
    values = pd.concat([_placements(one, column) for _, one in part.groupby("seed", sort=False)])
    seeds, images = (part.loc[values.index, name].to_numpy() for name in ("seed", "index"))
    return statistics.share_intervals(values.to_numpy(), seeds, images)[0]


def _placements(part: pd.DataFrame, column: str) -> pd.Series:
    """One value per image whose mean is the area, and whose spread is that of the area."""
    scores, present = part[column].to_numpy(float), part[PRESENT].to_numpy() == 1
    places = np.empty(len(part))
    for own, sign in ((present, 1), (~present, -1)):
        others = np.sort(sign * scores[~own])
        sides = [np.searchsorted(others, sign * scores[own], side) for side in ("left", "right")]
        places[own] = np.mean(sides, axis=0) / len(others)
    area = places[present].mean()
    shares = np.where(present, present.mean(), 1 - present.mean())
    return pd.Series(area + (places - area) / shares, index=part.index)


def roc_curve(part: pd.DataFrame, column: str, n_points: int = 51) -> pd.DataFrame:
    """Receiver operating characteristic, averaged over seeds at equal rates of false alarms.

    Args:
        part: as for :func:`auroc`.
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


def sentence(
    prediction: Mapping[str, float], half_width: Mapping[str, float], *, coverage: float = 0.9
) -> str:
    """One sentence that says what is predicted, and how sure that is.

    Args:
        prediction: label to value (s, Hz); ``present`` 0 means that no chirp is predicted.
        half_width: label to the half width of its interval, in the same unit, >= 0.
        coverage: chance that such an interval covers, between 0 and 1.

    Returns:
        For example ``A chirp starts at 12.3 s (90 % interval 11.0 to 13.6 s) and ends at 40.0 Hz
        (38.5 to 41.5 Hz).``; values and intervals keep to the figure, 0 to 60 s and 0 to 100 Hz,
        and where the estimate does not, the sentence says so.

    Raises:
        ValueError: if nothing that the sentence could say is predicted.
    """
    if prediction.get(PRESENT, 1) == 0:
        return "There is no chirp."
    clauses: list[str] = []
    for label, (words, unit) in _CLAUSES.items():
        if label in prediction:
            which = "" if clauses else f"{100 * coverage:.3g} % interval "
            clauses.append(f"{words} {_span(prediction[label], half_width[label], unit, which)}")
    if not clauses:
        raise ValueError(
            f"prediction has {sorted(prediction)}; allowed is one or more of {', '.join(_CLAUSES)}"
        )
    *most, last = clauses
    return f"A chirp {', '.join(most)} and {last}." if most else f"A chirp {last}."


def _span(value: float, half: float, unit: str, which: str) -> str:
    """A value with its interval, both within the figure, and where the estimate lies outside."""
    low, inside, high = np.clip([value - half, value, value + half], 0, _MOST[unit])
    span = f"{low:.1f} to {high:.1f} {unit}" if np.isfinite(half) else "unknown"
    out = "" if round(abs(value - inside), 1) == 0 else f"; the estimate, {value:.1f}, lies outside"
    return f"{inside:.1f} {unit} ({which}{span}{out})"


def timing_findings(frame: pd.DataFrame) -> pd.DataFrame:
    """How fast images are evaluated, and how much repeated passes differ.

    Args:
        frame: dataset, backbone, protocol, seed, repetition, seconds (> 0), n_images.

    Returns:
        quantity, dataset, backbone, protocol, estimate, ci_low, ci_high, n (passes), seeds:
        ``images_per_s``, and ``repetition_spread``, the coefficient of variation of the seconds
        of repeated passes of one network, where there are any.

    Raises:
        ValueError: if seconds is not positive.
    """
    if not (frame["seconds"] > 0).all():
        raise ValueError(f"seconds has {frame['seconds'].min()}; allowed is more than 0")
    rows = []
    for names, part in groups(frame, CONDITION):
        seeds = part["seed"].to_numpy()
        speed = statistics.interval((part["n_images"] / part["seconds"]).to_numpy(), seeds)
        rows.append({"quantity": "images_per_s", **names, **speed.row()})
        runs = part.groupby("seed")["seconds"]
        passes = runs.transform("size")
        if (passes > 1).all():
            share = ((part["seconds"] / runs.transform("mean") - 1) ** 2) * passes / (passes - 1)
            spread = statistics.interval(share.to_numpy(), seeds, _root_of_mean)
            row = spread.within(least=0.0).row()
            rows.append({"quantity": "repetition_spread", **names, **row})
    return pd.DataFrame(rows)


def _root_of_mean(means: np.ndarray) -> np.ndarray:
    return np.sqrt(means[..., 0])
