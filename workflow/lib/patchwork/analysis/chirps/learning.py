"""What networks learn of chirps: errors by number of training images, and positive controls."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from patchwork import statistics
from patchwork.analysis.chirps.localisation_intervals import NO_PROTOCOL, PRESENT
from patchwork.analysis.predictions import long_errors, unit_of
from patchwork.statistics.power import Planted, redrawn, share_found
from patchwork.stimuli import LabelAttributes
from patchwork.tables import CONDITION, ENDS, FINDINGS, conditions, groups, join, labelled

_N_BINS = 41
# ASSUME: bins of a histogram reach as far as 99 % of the errors.
_REACH = 0.99
_MINUS = "_mae_minus_"


def errors(part: pd.DataFrame) -> pd.DataFrame:
    """Errors of one condition's places, in the label's unit.

    Args:
        part: predictions of one condition; only images with a chirp count.

    Returns:
        seed, index, target, actual, predicted, error (predicted minus actual) and size.
    """
    long = long_errors(part.dropna(axis=1, how="all"), [PRESENT])
    error = long["predicted"] - long["actual"]
    kept = ["seed", "index", "target", "actual", "predicted"]
    return long[kept].assign(error=error, size=error.abs())


def paired_sizes(part: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Sizes of a network's errors beside those of a baseline (``size_other``), image by image."""
    beside = errors(other)[["target", "index", "size"]]
    return errors(part).merge(
        beside, on=["target", "index"], suffixes=("", "_other"), validate="many_to_one"
    )


def histograms(frame: pd.DataFrame, attributes: Mapping[str, LabelAttributes]) -> pd.DataFrame:
    """Distribution of the errors of each target under each condition.

    Args:
        frame: predictions of networks and baselines.
        attributes: units of the labels.

    Returns:
        The table ``tables/chirp_errors.csv``; bins of a dataset's target are those of all its
        conditions, and what lies further out counts in the outermost.
    """
    parts = [labelled(errors(part), names) for names, part in conditions(frame)]
    tables = []
    for keys, own in groups(join(parts), ["dataset", "target"]):
        reach = float(own["size"].quantile(_REACH)) or 1.0
        edges = np.linspace(-reach, reach, _N_BINS + 1)
        width = edges[1] - edges[0]
        for names, part in groups(own, CONDITION):
            counts = np.histogram(part["error"].clip(-reach, reach), edges)[0]
            bins = {"error": (edges[:-1] + edges[1:]) / 2, "density": counts / len(part) / width}
            named = {"target": keys["target"], "unit": unit_of(attributes, keys["target"])}
            rest = {"bin_width": width, "n": len(part), "seeds": part["seed"].nunique()}
            tables.append(labelled(pd.DataFrame(bins).assign(**rest), names | named))
    return join(tables)


def curve(scored: pd.DataFrame, sizes: Mapping[str, int]) -> pd.DataFrame:
    """Mean absolute error by number of training images; of a baseline one row for each number.

    Args:
        scored: as from :func:`patchwork.analysis.predictions.metric_tables`.
        sizes: dataset to its number of training images; others are left out.

    Returns:
        The table ``tables/learning_curve.csv``.
    """
    rows = scored[(scored["metric"] == "mae") & scored["dataset"].isin(sizes)]
    named = rows.assign(n_train=rows["dataset"].map(sizes), mae=rows["estimate"])
    columns = [*CONDITION, "n_train", "target", "unit", "mae", *ENDS, "n", "seeds"]
    return named.reindex(columns=columns).sort_values([*CONDITION[1:], "target", "n_train"])


def gain_findings(frame: pd.DataFrame, sizes: Mapping[str, int]) -> pd.DataFrame:
    """What twice as many training images change, where there are several numbers of them.

    Args:
        frame: predictions of networks.
        sizes: as for :func:`curve`.

    Returns:
        Findings of the largest dataset: ``<label>_mae_log2_per_doubling``, the slope of the base-2
        logarithm of the mean absolute error over that of the number, over seeds.
    """
    trained = frame[(frame["protocol"] != NO_PROTOCOL) & frame["dataset"].isin(sizes)]
    rows = []
    for names, part in groups(trained, CONDITION[1:]):
        long = join([labelled(errors(one), keys) for keys, one in conditions(part)])
        mean = long.groupby(["target", "seed", "dataset"])["size"].mean().reset_index()
        largest = max(mean["dataset"], key=lambda name: sizes[name])
        for keys, own in groups(mean, ["target"]):
            x = np.log2(own["dataset"].map(sizes))
            if own["dataset"].nunique() < 2:
                continue
            apart = x - x.mean()
            slopes = [
                (apart[one.index] * np.log2(one["size"])).sum() / (apart[one.index] ** 2).sum()
                for _, one in own.groupby("seed")
            ]
            quantity = f"{keys['target']}_mae_log2_per_doubling"
            head = {"quantity": quantity, "dataset": largest, **names}
            rows.append(head | statistics.over_seeds(slopes))
    return pd.DataFrame(rows, columns=list(FINDINGS))


def positive_controls(frame: pd.DataFrame, planted: Mapping[str, Planted]) -> pd.DataFrame:
    """How often effects of this size would be found with errors such as these.

    Args:
        frame: predictions of networks and baselines.
        planted: quantity to its effect: ``<label>_r``, ``<label>_bias`` or
            ``<label>_mae_minus_<baseline>``; others are of other analyses.

    Returns:
        Findings ``<quantity>_found``: shares of draws of `statistics.power.redrawn`.
    """
    simple = frame[frame["protocol"] == NO_PROTOCOL]
    rows = []
    for names, part in conditions(frame[frame["protocol"] != NO_PROTOCOL]):
        beside = simple[simple["dataset"] == names["dataset"]]
        long = errors(part)
        for quantity, one in planted.items():
            label, minus, baseline = quantity.partition(_MINUS)
            kind = "mae" if minus else quantity.rpartition("_")[2]
            label = label if minus else quantity.rpartition("_")[0]
            own = long[long["target"] == label]
            if minus:
                other = beside[beside["backbone"] == baseline]
                own = paired_sizes(part, other).query("target == @label")
            if own.empty or kind not in ("r", "bias", "mae"):
                continue
            who = own["seed"].to_numpy(), own["index"].to_numpy()
            if kind == "r":
                z = statistics.fisher_z(
                    own["actual"].to_numpy(), own["predicted"].to_numpy(), who[0]
                )
                draw = redrawn(z, np.arctanh(one.effect), *who, np.tanh)
            else:
                values = own["size"] - own["size_other"] if minus else own["error"]
                draw = redrawn(statistics.means(values.to_numpy()), one.effect, *who)
            row = share_found(draw, one.claimed, 0).row()
            rows.append({"quantity": f"{quantity}_found", **names, **row})
    return pd.DataFrame(rows, columns=list(FINDINGS))
