"""Start times of chirps on real pictures, by networks that were trained on drawn ones alone."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from patchwork.analysis.chirps import learning, localisation
from patchwork.analysis.predictions import PREDICTED, metric_tables
from patchwork.statistics.power import Planted
from patchwork.stimuli import LabelAttributes
from patchwork.tables import CONDITION, FINDINGS, join

SCORED = "start_s"
_KEPT = (SCORED, "present")
# A box does not say whether the frequency in it rises or falls.
_UNKNOWN = ("start_hz", "end_hz")


def labels_of(labels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What drawn spectrograms are labelled with, as far as boxes tell it.

    Args:
        labels: of annotated pictures, each shape (n,).

    Returns:
        ``start_s``, ``duration_s``, ``present``, ``recording``; ``start_hz``, ``end_hz`` as nan.
    """
    known = {name: labels[name] for name in (*_KEPT, "duration_s", "recording")}
    return known | {name: np.full(len(labels[SCORED]), np.nan) for name in _UNKNOWN}


def transfer_tables(
    frame: pd.DataFrame,
    detected: pd.DataFrame,
    attributes: Mapping[str, LabelAttributes],
    planted: Mapping[str, Planted],
) -> dict[str, pd.DataFrame]:
    """Scores of networks on real pictures, beside a constant, a ridge tracker and templates.

    Intervals are over seeds and pictures, one of each recording.

    Args:
        frame: dataset (what the networks were trained on), backbone, protocol, seed, index,
            start_s, predicted_start_s and present, as from :func:`patchwork.tables.gather`.
        detected: `localisation.detections` on the same pictures, in the order of their index.
        attributes: units of the labels.
        planted: positive controls, by quantity.

    Returns:
        ``metrics``, the table ``tables/transfer.csv``; ``points``, ``tables/transfer_points.csv``;
        ``findings``, ``tables.FINDINGS`` with ``real_start_s_r``, ``real_start_s_slope``,
        ``real_start_s_bias``, ``real_start_s_mae`` and ``real_start_s_mae_minus_<baseline>``.
    """
    kept = [*CONDITION, "seed", "index", *_KEPT, PREDICTED + SCORED]
    beside = dict.fromkeys(frame["dataset"].unique(), detected)
    both = localisation.with_baselines(frame[kept], beside)
    scored = metric_tables(both, attributes)
    values = scored.assign(quantity=SCORED + "_" + scored["metric"].map(localisation.METRICS))
    own = {
        name.removeprefix("real_"): one for name, one in planted.items() if name.startswith("real_")
    }
    parts = [
        values.dropna(subset=["estimate", "quantity"]),
        localisation.differences(both),
        learning.positive_controls(both, own),
    ]
    found = join([part[list(FINDINGS)] for part in parts if len(part)])
    return {
        "metrics": scored,
        "points": localisation.point_table(both, attributes),
        "findings": found.assign(quantity="real_" + found["quantity"]),
    }
