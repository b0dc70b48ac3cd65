"""How much of the bias of pre-training is left after fitting to lines."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from patchwork.analysis import predictions
from patchwork.analysis.predictions import Angle
from patchwork.analysis.rearing.contrasts import differences
from patchwork.analysis.rearing.orientation_measures import four_cycle
from patchwork.statistics import ratio_interval, t_interval
from patchwork.tables import ENDS, FINDINGS, RUN, conditions, groups, join, labelled

_ORIENTATION = Angle("orientation_deg", 180.0)
_STEMS = {
    "share_kept": "orientation_bias_share_kept",
    "contrast_after": "rearing_contrast_after",
}


def adaptation_table(
    predicted: pd.DataFrame, colours: Sequence[str], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """What is left of orientation and colour biases after fitting to lines.

    Before and after are the errors of read-outs on the same test images: before, the pre-trained
    network stays as it is and only a linear read-out is fitted.

    Args:
        predicted: of all adapted networks, as from :func:`patchwork.tables.gather`; the backbone
            is the condition.
        colours: names of the label `colour`, by index.
        settings: `coloured` (datasets with named colours), `bluish`, `yellowish`, `pairs`
            (condition, minus) and `before` (`protocol`, and the dataset of `lines` and of
            `colours`).

    Returns:
        The table ``tables/rearing_adaptation.csv`` of the measures `line_error`, `colour_contrast`.
    """
    errors = join(
        [
            labelled(predictions.angle_errors(part, _ORIENTATION), names)
            for names, part in conditions(predicted)
        ]
    )
    coloured = errors["dataset"].isin(settings["coloured"])
    names = (colours, settings["bluish"], settings["yellowish"])
    sides = {
        "line_error": ("lines", line_biases(errors[~coloured])),
        "colour_contrast": ("colours", colour_biases(errors[coloured], *names)),
    }
    tables = []
    for measure, (kind, biases) in sides.items():
        frozen = biases["protocol"] == settings["before"]["protocol"]
        before = biases[frozen & (biases["dataset"] == settings["before"][kind])]
        left = kept_after_tuning(before, biases, settings["pairs"])
        tables.append(left.assign(measure=measure))
    return pd.concat(tables, ignore_index=True)


def line_biases(errors: pd.DataFrame) -> pd.DataFrame:
    """Bias of every adapted network from its errors on single lines.

    Args:
        errors: dataset, backbone, protocol, seed, angle_deg (an orientation) and error_deg.

    Returns:
        dataset, backbone, protocol, seed, value (c4, deg).
    """
    rows = []
    for names, part in groups(errors, RUN):
        cycle = four_cycle(part["angle_deg"].to_numpy(), part["error_deg"].to_numpy())
        rows.append({**names, "value": cycle.c4})
    return pd.DataFrame(rows, columns=[*RUN, "value"])


def colour_biases(
    errors: pd.DataFrame, names: Sequence[str], bluish: Sequence[str], yellowish: Sequence[str]
) -> pd.DataFrame:
    """Mean error of bluish minus that of yellowish lines for every adapted network.

    Args:
        errors: dataset, backbone, protocol, seed, colour (an index) and error_deg.
        names: of the colours, by index.
        bluish: colours of one side.
        yellowish: colours of the other.

    Returns:
        dataset, backbone, protocol, seed, value (deg).
    """
    rows = []
    for keys, part in groups(errors, RUN):
        colour = part["colour"].astype(int).map(dict(enumerate(names)))
        sides = [part.loc[colour.isin(side), "error_deg"].mean() for side in (bluish, yellowish)]
        rows.append({**keys, "value": sides[0] - sides[1]})
    return pd.DataFrame(rows, columns=[*RUN, "value"])


def kept_after_tuning(
    before: pd.DataFrame, after: pd.DataFrame, pairs: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """How much of the contrast between conditions adaptation leaves.

    Args:
        before: backbone (the condition), seed, value: the bias of the frozen networks, one row
            each.
        after: dataset, backbone (the condition), protocol, seed, value: the bias after adaptation,
            in the same unit.
        pairs: (condition, minus).

    Returns:
        The table ``tables/rearing_adaptation.csv`` without measure, over the seeds that both
        conditions have before and after.
    """
    frozen = before.rename(columns={"backbone": "condition"})
    rows: list[dict[str, Any]] = []
    for names, part in groups(after, ["dataset", "protocol"]):
        tuned = part.rename(columns={"backbone": "condition"})
        for condition, minus in pairs:
            both = pd.concat(
                [differences(side, condition, minus)["difference"] for side in (frozen, tuned)],
                axis=1,
                keys=["before", "after"],
                join="inner",
            )
            if both.empty:
                continue
            was, is_now = both["before"].to_numpy(), both["after"].to_numpy()
            for quantity, found in (
                ("contrast_before", t_interval(was)),
                ("contrast_after", t_interval(is_now)),
                ("share_kept", ratio_interval(is_now, was)),
            ):
                key = {**names, "condition": condition, "minus": minus, "quantity": quantity}
                rows.append({**key, **found.row()})
    keys = ["dataset", "protocol", "condition", "minus", "quantity"]
    return pd.DataFrame(rows, columns=[*keys, "estimate", *ENDS, "n", "seeds"])


def kept_findings(table: pd.DataFrame) -> pd.DataFrame:
    """Findings `orientation_bias_share_kept_<dataset>` and `rearing_contrast_after_<dataset>`.

    Args:
        table: from :func:`kept_after_tuning`.

    Returns:
        Columns `tables.FINDINGS`; dataset and protocol are those of the adaptation, backbone
        `<condition>_minus_<minus>`.
    """
    shown = table[table["quantity"].isin(_STEMS)]
    named = shown.assign(
        quantity=shown["quantity"].map(_STEMS) + "_" + shown["dataset"],
        backbone=shown["condition"] + "_minus_" + shown["minus"],
    )
    # Protocols of one address stand below each other.
    parts = [part[list(FINDINGS)] for _, part in groups(named, ["quantity", "backbone"])]
    return join(parts)
