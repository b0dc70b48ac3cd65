"""Predicted labels of many runs: metrics, and errors of the predicted angle."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from patchwork.statistics import metrics
from patchwork.statistics.metrics import TargetScale
from patchwork.stimuli import LabelAttributes
from patchwork.tables import conditions, join, labelled

PREDICTED = "predicted_"
_STIMULUS = ("colour", "red", "green", "blue", "hue_deg")


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


def unit_of(attributes: Mapping[str, LabelAttributes], label: str) -> str:
    """The unit of a label; empty where it is not described."""
    return attributes[label].units if label in attributes else ""


def predicted_labels(frame: pd.DataFrame) -> list[str]:
    """Labels that the runs of a frame predict."""
    columns = map(str, frame.columns)
    return [name.removeprefix(PREDICTED) for name in columns if name.startswith(PREDICTED)]


def metric_tables(
    predictions: pd.DataFrame,
    attributes: Mapping[str, LabelAttributes],
) -> pd.DataFrame:
    """Every metric of every predicted label under every condition.

    Args:
        predictions: as from :func:`patchwork.tables.gather`.
        attributes: units and ranges of the labels.

    Returns:
        The table ``tables/metrics.csv``.
    """
    known, parts = scales(attributes), []
    for names, part in conditions(predictions):
        parts.append(labelled(metrics.metric_table(long_errors(part), known), names))
    return join(parts)


def long_errors(part: pd.DataFrame, left_out: Sequence[str] = ()) -> pd.DataFrame:
    """Each prediction of one condition on a line of its own.

    Args:
        part: predictions of one condition.
        left_out: labels that are not wanted.

    Returns:
        The columns of part, with target, actual and predicted (in the label's unit) and example,
        the image's index. What is not there, such as the start of no chirp, has no line.
    """
    rows = [
        part.assign(
            target=label, actual=part[label].astype(float), predicted=part[PREDICTED + label]
        )
        for label in predicted_labels(part)
        if label not in left_out
    ]
    long = pd.concat(rows, ignore_index=True).assign(example=lambda table: table["index"])
    return long[np.isfinite(long["actual"])].reset_index(drop=True)


def angle_errors(part: pd.DataFrame, angle: Angle) -> pd.DataFrame:
    """Errors of one condition.

    Args:
        part: predictions of one condition.
        angle: which one.

    Returns:
        seed, example, angle_deg (of the stimulus, directed), error_deg, signed_error_deg, and the
        labels of the stimulus's colour where there are any.
    """
    signed = metrics.signed_circular_error(
        part[PREDICTED + angle.label].to_numpy(), part[angle.label].to_numpy(float), angle.period
    )
    kept = [name for name in _STIMULUS if name in part]
    return part[["seed", *kept]].assign(
        example=part["index"],
        angle_deg=part["angle_deg"].astype(float),
        error_deg=np.abs(signed),
        signed_error_deg=signed,
    )


def errors_by_condition(
    predictions: pd.DataFrame, angles: Sequence[Angle]
) -> Iterator[tuple[dict[str, str], Angle, pd.DataFrame]]:
    """Names, angle and :func:`angle_errors` of each condition that predicts one of the angles.

    Args:
        predictions: as from :func:`patchwork.tables.gather`.
        angles: which predicted angle counts, first match.
    """
    for names, part in conditions(predictions):
        angle = next((one for one in angles if PREDICTED + one.label in part), None)
        if angle is not None:
            yield names, angle, angle_errors(part, angle)
