"""How much of the bias of pre-training is left after fitting to lines."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from patchwork.analysis import predictions
from patchwork.analysis.predictions import Angle
from patchwork.analysis.rearing.contrasts import differences, planted
from patchwork.analysis.rearing.orientation_measures import four_cycle
from patchwork.statistics import t_interval
from patchwork.tables import CONDITION, ENDS, FINDINGS, RUN, conditions, groups, join, labelled

_ORIENTATION = Angle("orientation_deg", 180.0)
_STEMS = {
    "contrast_after": "rearing_contrast_after",
    "after_minus_half_before": "rearing_contrast_after_minus_half_before",
    "share_found": "share_found_rearing_contrast_after_minus_half_before",
}


def line_biases(predicted: pd.DataFrame) -> pd.DataFrame:
    """Bias of every adapted network from its errors on single lines.

    Args:
        predicted: of all adapted networks, as from :func:`patchwork.tables.gather`; the backbone
            is the condition.

    Returns:
        dataset, backbone, protocol, seed, value (c4, deg), error_deg (mean).
    """
    errors = join(
        [
            labelled(predictions.angle_errors(part, _ORIENTATION), names)
            for names, part in conditions(predicted)
        ]
    )
    rows = []
    for names, part in groups(errors, RUN):
        cycle = four_cycle(part["angle_deg"].to_numpy(), part["error_deg"].to_numpy())
        rows.append({**names, "value": cycle.c4, "error_deg": part["error_deg"].mean()})
    return pd.DataFrame(rows, columns=[*RUN, "value", "error_deg"])


def adaptation_table(biases: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """How much of the contrast between conditions adaptation leaves.

    Before and after are the errors of read-outs on the same test images: before, the pre-trained
    network stays as it is and only a linear read-out is fitted. What is kept is the contrast after
    minus half of that before, which needs no ratio of two numbers near zero.

    Args:
        biases: from :func:`line_biases`.
        settings: `pairs` (condition, minus), `before` (`protocol` and `dataset` of the frozen
            networks) and `planted` (`seed`).

    Returns:
        The table ``tables/rearing_adaptation.csv``, over the seeds that both conditions have before
        and after; `share_found` is the positive control: the share of samples of seeds in which a
        contrast that is kept whole is found to be kept by half.
    """
    rows: list[dict[str, Any]] = []
    biases = biases.rename(columns={"backbone": "condition"})
    start = settings["before"]
    is_frozen = (biases["protocol"] == start["protocol"]) & (biases["dataset"] == start["dataset"])
    frozen = biases[is_frozen]
    for names, tuned in groups(biases, ["dataset", "protocol"]):
        for condition, minus in settings["pairs"]:
            both = pd.concat(
                [differences(side, condition, minus)["difference"] for side in (frozen, tuned)],
                axis=1,
                keys=["before", "after"],
                join="inner",
            )
            if both.empty:
                continue
            before, after = both["before"].to_numpy(), both["after"].to_numpy()
            kept = after - before / 2
            # Half of a bias below zero is kept where the rest is no more than zero.
            claimed = (None, 0.0) if before.mean() < 0 else (0.0, None)
            for quantity, found in (
                ("contrast_before", t_interval(before)),
                ("contrast_after", t_interval(after)),
                ("after_minus_half_before", t_interval(kept)),
                ("share_found", planted(kept, before / 2, claimed, settings["planted"]["seed"])),
            ):
                key = {**names, "condition": condition, "minus": minus, "quantity": quantity}
                rows.append({**key, **found.row()})
    keys = ["dataset", "protocol", "condition", "minus", "quantity"]
    return pd.DataFrame(rows, columns=[*keys, "estimate", *ENDS, "n", "seeds"])


def findings(table: pd.DataFrame, biases: pd.DataFrame) -> pd.DataFrame:
    """Contrasts after adaptation, what is kept of them, and how well networks know orientation.

    Args:
        table: from :func:`adaptation_table`.
        biases: from :func:`line_biases`.

    Returns:
        Columns `tables.FINDINGS`; dataset and protocol are those of the adaptation, backbone
        `<condition>_minus_<minus>`; of `orientation_error`, the condition.
    """
    shown = table[table["quantity"].isin(_STEMS)]
    named = shown.assign(
        quantity=shown["quantity"].map(_STEMS) + "_" + shown["dataset"],
        backbone=shown["condition"] + "_minus_" + shown["minus"],
    )
    # Protocols of one address stand below each other.
    kept = [part[list(FINDINGS)] for _, part in groups(named, ["quantity", "backbone"])]
    known = [
        {"quantity": "orientation_error", **names, **t_interval(part["error_deg"].to_numpy()).row()}
        for names, part in groups(biases, CONDITION)
    ]
    return join([*kept, pd.DataFrame(known, columns=list(FINDINGS))])
