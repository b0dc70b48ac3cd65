"""What fitting to lines keeps of the biases that rearing made."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from patchwork.analysis.biases import errors
from patchwork.analysis.biases.errors import Angle
from patchwork.analysis.rearing.condition_contrasts import Outcome, differences, t_interval
from patchwork.analysis.rearing.orientation_measures import four_cycle
from patchwork.statistics import CONFIDENCE, Interval
from patchwork.tables import FINDINGS, conditions, groups, join, labelled

_ORIENTATION = Angle("orientation_deg", 180.0)


def adaptation_table(
    predictions: pd.DataFrame, colours: Sequence[str], settings: Mapping[str, Any]
) -> pd.DataFrame:
    """What is left of orientation and colour biases after fitting to lines.

    Before and after are the errors of read-outs on the same test images: before, the network stays
    as rearing left it and only a linear read-out is fitted.

    Args:
        predictions: of all adapted networks, as from :func:`patchwork.tables.gather`; the backbone
            is the condition.
        colours: names of the label `colour`, by index.
        settings: `coloured` (datasets with named colours), `bluish`, `yellowish`, `pairs`
            (condition, minus) and `before` (`protocol`, and the dataset of `lines` and of
            `colours`).

    Returns:
        measure (`line_error`, `colour_contrast`) and the columns of :func:`kept_after_tuning`.
    """
    parts = [
        labelled(errors.angle_errors(part, _ORIENTATION), names)
        for names, part in conditions(predictions)
    ]
    found = join(parts)
    coloured = found["dataset"].isin(settings["coloured"])
    sides = {
        "line_error": ("lines", components_per_run(found[~coloured])),
        "colour_contrast": (
            "colours",
            colour_biases(found[coloured], colours, settings["bluish"], settings["yellowish"]),
        ),
    }
    tables = []
    for measure, (kind, biases) in sides.items():
        frozen = biases["protocol"] == settings["before"]["protocol"]
        before = biases[frozen & (biases["dataset"] == settings["before"][kind])]
        left = kept_after_tuning(
            before.rename(columns={"backbone": "condition"}), biases, settings["pairs"]
        )
        tables.append(left.assign(measure=measure))
    return pd.concat(tables, ignore_index=True)


def components_per_run(errors: pd.DataFrame) -> pd.DataFrame:
    """Bias of every adapted network from its errors on single lines.

    Args:
        errors: dataset, backbone, protocol, seed, angle_deg (an orientation) and error_deg.

    Returns:
        dataset, backbone, protocol, seed, value (c4, deg) and mean (error, deg).
    """
    rows = []
    for names, part in groups(errors, ["dataset", "backbone", "protocol", "seed"]):
        cycle = four_cycle(part["angle_deg"].to_numpy(), part["error_deg"].to_numpy())
        rows.append({**names, "value": cycle.c4, "mean": cycle.mean})
    return pd.DataFrame(rows)


def ratio_of_means(top: np.ndarray, bottom: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Ratio of two paired means with Fieller's interval.

    Args:
        top: shape (n,).
        bottom: shape (n,).
        confidence: between 0 and 1.

    Returns:
        The interval; its ends are nan where the lower mean cannot be told from zero, for then no
        ratio can be excluded.

    Source: Fieller 1954, "Some problems in interval estimation".
    """
    a, b = np.asarray(top, float), np.asarray(bottom, float)
    n = len(a)
    ratio = float(a.mean() / b.mean()) if n and b.mean() else np.nan
    if n < 2:
        return Interval(ratio, np.nan, np.nan, n, n)
    weight = stats.t.ppf((1 + confidence) / 2, n - 1) ** 2 / n
    covariance = np.cov(a, b)
    square = b.mean() ** 2 - weight * covariance[1, 1]
    middle = a.mean() * b.mean() - weight * covariance[0, 1]
    free = a.mean() ** 2 - weight * covariance[0, 0]
    root = middle**2 - square * free
    if square <= 0 or root < 0:
        return Interval(ratio, np.nan, np.nan, n, n)
    ends = (middle + np.array([-1, 1]) * np.sqrt(root)) / square
    return Interval(ratio, float(ends[0]), float(ends[1]), n, n)


def kept_after_tuning(
    before: pd.DataFrame, after: pd.DataFrame, pairs: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """What adaptation leaves of the contrast that rearing made.

    Args:
        before: condition, seed, value: the bias of the frozen networks, one row each.
        after: dataset, backbone (the condition), protocol, seed, value: the bias after adaptation,
            in the same unit, as from :func:`components_per_run`.
        pairs: (condition, minus).

    Returns:
        dataset, protocol, condition, minus, quantity (`contrast_before`, `contrast_after`,
        `share_kept`: their ratio), estimate, ci_low, ci_high, n, seeds; over the seeds that both
        conditions have before and after.
    """
    frozen = before.assign(measure="bias")
    rows: list[dict[str, Any]] = []
    for names, part in groups(after, ["dataset", "protocol"]):
        tuned = part.rename(columns={"backbone": "condition"}).assign(measure="bias")
        for condition, minus in pairs:
            outcome = Outcome("bias", condition, minus)
            both = pd.concat(
                [differences(side, outcome)["difference"] for side in (frozen, tuned)],
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
                ("share_kept", ratio_of_means(is_now, was)),
            ):
                key = {**names, "condition": condition, "minus": minus, "quantity": quantity}
                rows.append({**key, **found.row()})
    keys = ["dataset", "protocol", "condition", "minus", "quantity"]
    return pd.DataFrame(rows, columns=[*keys, "estimate", "ci_low", "ci_high", "n", "seeds"])


def kept_findings(table: pd.DataFrame) -> pd.DataFrame:
    """Findings `orientation_bias_share_kept_<dataset>` and `rearing_contrast_after_<dataset>`.

    Args:
        table: from :func:`kept_after_tuning`.

    Returns:
        Columns `tables.FINDINGS`; dataset and protocol are those of the adaptation, backbone
        `<condition>_minus_<minus>`.
    """
    stems = {
        "share_kept": "orientation_bias_share_kept",
        "contrast_after": "rearing_contrast_after",
    }
    shown = table[table["quantity"].isin(stems)]
    parts = [
        part.assign(
            quantity=f"{stems[names['quantity']]}_{names['dataset']}",
            backbone=Outcome("bias", names["condition"], names["minus"]).pair,
        )
        for names, part in groups(shown, ["dataset", "quantity", "condition", "minus"])
    ]
    return join(parts)[list(FINDINGS)] if parts else pd.DataFrame(columns=list(FINDINGS))


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
        dataset, backbone, protocol, seed, value (deg) and mean (error over all colours, deg).
    """
    rows = []
    for keys, part in groups(errors, ["dataset", "backbone", "protocol", "seed"]):
        colour = part["colour"].astype(int).map(dict(enumerate(names)))
        sides = [part.loc[colour.isin(side), "error_deg"].mean() for side in (bluish, yellowish)]
        rows.append({**keys, "value": sides[0] - sides[1], "mean": part["error_deg"].mean()})
    columns = ["dataset", "backbone", "protocol", "seed", "value", "mean"]
    return pd.DataFrame(rows, columns=columns)
