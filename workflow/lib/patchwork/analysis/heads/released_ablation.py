"""What a published ablation measured: its numbers split into order, scale and intervention."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from patchwork import statistics
from patchwork.analysis.heads.group_tables import EARLY, MIDDLE, published_layers
from patchwork.analysis.heads.row_zeroing import (
    LABEL_SCALES,
    RowZeroing,
    expected_outputs,
    row_zeroing_sweep,
)
from patchwork.models import fine_tuned, sites
from patchwork.models.fine_tuned import Network
from patchwork.statistics import Resampling
from patchwork.tables import CONDITION, FINDINGS, groups

# From the published procedure to the exact one, one switch at a time.
_SWITCHES: dict[str, dict[str, Any]] = {
    "as_released": {},
    "own_label_scale": {"label_scale": "standardised"},
    "before_forward": {"before_forward": True},
    "restored": {"restore": True},
    "whole_head": {"row_block": "head"},
}
CHAIN: dict[str, RowZeroing] = {}
for _name, _switch in _SWITCHES.items():
    CHAIN[_name] = replace(next(reversed(CHAIN.values()), RowZeroing()), **_switch)
FORWARD, REVERSE, RANDOM = "forward", "reverse", "random"


def orders(
    n_layers: int, n_heads: int, n_random: int, seed: int = 0
) -> dict[str, list[tuple[int, int]]]:
    """Orders of zeroing: first to last, last to first, and at random (``random1`` and on)."""
    forward = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = {
        f"{RANDOM}{i + 1}": [forward[place] for place in rng.permutation(len(forward))]
        for i in range(n_random)
    }
    return {FORWARD: forward, REVERSE: forward[::-1], **drawn}


def decompose(
    network: Network,
    images: np.ndarray,
    labels: Mapping[str, np.ndarray],
    targets: Sequence[str],
    *,
    n_random: int = 4,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Run the published procedure and each step from it to the exact one, in several orders.

    Args:
        network: merged, in eval mode.
        images: uint8, shape (n, H, W, 3).
        labels: label columns of the images.
        targets: those that the network predicts are scored together.
        n_random: random orders, 2 or more.
        batch_size: images at once; in the published procedure the first batch of a head is spared.

    Returns:
        procedure (key of `CHAIN`), order, step, layer, head, clean (mean squared error of the
        intact network), effect (percent of it), n (images).

    Raises:
        ValueError: for fewer than two random orders, and as `row_zeroing_sweep` does.
    """
    if n_random < 2:
        raise ValueError(f"n_random is {n_random}; allowed is 2 or more")
    anatomy = sites.find(network)
    parts = []
    for procedure, how in CHAIN.items():
        sized = replace(how, batch_size=batch_size)
        means = pd.DataFrame()
        for name, order in orders(anatomy.n_layers, anatomy.n_heads, n_random).items():
            if means.empty or not how.restore:
                sweep = row_zeroing_sweep(network, images, labels, targets, order=order, how=sized)
                means = sweep.groupby(["layer", "head"])[["clean", "effect"]].mean()
            # Of a network that is whole again before each head, every order is the same.
            steps = pd.DataFrame(order, columns=["layer", "head"]).rename_axis("step").reset_index()
            table = steps.join(means, on=["layer", "head"])
            table = table.assign(procedure=procedure, order=name, n=len(images))
            parts.append(table.assign(effect=100 * table["effect"] / table["clean"]))
    first = ["procedure", "order", "step", "layer", "head", "clean", "effect", "n"]
    return pd.concat(parts, ignore_index=True)[first]


def label_scales(
    network: Network,
    images: np.ndarray,
    labels: Mapping[str, np.ndarray],
    targets: Sequence[str],
) -> pd.DataFrame:
    """Mean squared error of simple predictors on either scale of the labels.

    Args:
        network: in eval mode.
        images: uint8, shape (n, H, W, 3).
        labels: label columns of the images.
        targets: those that the network predicts are scored together.

    Returns:
        label_scale, predictor, mse, n. Predictors: ``network``; ``constant`` (0, the mean of
        standardised targets); ``perfect`` (standardised targets themselves); ``mean`` (the labels'
        mean on the scale that is scored).
    """
    names = [name for name in targets if name in network.targets]
    outputs = fine_tuned.predict(network, torch.from_numpy(images))
    predicted = np.concatenate([outputs[name] for name in names], axis=1)
    own = expected_outputs(network, labels, names, "standardised")
    rows = []
    for scale in LABEL_SCALES:
        expected = expected_outputs(network, labels, names, scale)
        predictors = {
            "network": predicted,
            "constant": np.zeros_like(own),
            "perfect": own,
            "mean": expected.mean(0),
        }
        rows += [
            {"label_scale": scale, "predictor": name, "mse": float(((y - expected) ** 2).mean())}
            for name, y in predictors.items()
        ]
    return pd.DataFrame(rows).assign(n=len(images))


def profile_table(frame: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """Effect by layer, procedure and order, over seeds.

    Args:
        frame: of :func:`decompose`, with the names of its runs.
        resampling: of the intervals.

    Returns:
        dataset, backbone, protocol, procedure, order, layer, effect (percent of the intact error,
        mean over heads), ci_low, ci_high (nan with one seed), n (images), seeds.
    """
    rows = []
    for names, part in groups(frame, [*CONDITION, "procedure", "order", "layer"]):
        one = _over_seeds(part.groupby("seed")["effect"].mean(), resampling)
        row = {"effect": one["estimate"], "ci_low": one["ci_low"], "ci_high": one["ci_high"]}
        rows.append({**names, **row, "n": int(part["n"].max()), "seeds": one["seeds"]})
    return pd.DataFrame(rows)


def scale_table(frame: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """Mean squared error of simple predictors, over seeds.

    Args:
        frame: of :func:`label_scales`, with the names of its runs.
        resampling: of the intervals.

    Returns:
        dataset, backbone, protocol, label_scale, predictor, mse, ci_low, ci_high (nan with one
        seed), n (images), seeds.
    """
    rows = []
    for names, part in groups(frame, [*CONDITION, "label_scale", "predictor"]):
        one = _over_seeds(part.set_index("seed")["mse"], resampling)
        row = {"mse": one["estimate"], "ci_low": one["ci_low"], "ci_high": one["ci_high"]}
        rows.append({**names, **row, "n": int(part["n"].max()), "seeds": one["seeds"]})
    return pd.DataFrame(rows)


def _over_seeds(per_seed: pd.Series, resampling: Resampling) -> dict[str, float | int]:
    return statistics.cluster_bootstrap(
        per_seed.to_numpy(float), None, resampling=resampling
    ).row() | {"seeds": len(per_seed)}


def share_from_order(frame: pd.DataFrame) -> float:
    """Share of the variance of heads' effects that the order of zeroing makes, 0 to 1.

    Components of a one-way analysis of variance: heads are the groups, random orders the
    repetitions. 0: the order changes nothing; 1: which head it is changes nothing.

    Args:
        frame: layer, head, order, effect, of random orders.

    Returns:
        The share; nan if no effect varies.
    """
    wide = frame.pivot_table(index=["layer", "head"], columns="order", values="effect").to_numpy()
    within = float(wide.var(axis=1, ddof=1).mean())
    between = max(0.0, float(wide.mean(1).var(ddof=1)) - within / wide.shape[1])
    total = within + between
    return within / total if total > 0 else float("nan")


def _numbers(part: pd.DataFrame) -> dict[str, float]:
    """What one network says about one procedure."""
    shuffled = part[part["order"].str.startswith(RANDOM)]
    numbers = {
        "share_from_order": share_from_order(shuffled),
        "rank_correlation_with_step": _rank(shuffled, "step"),
        "rank_correlation_with_layer": _rank(shuffled, "layer"),
    }
    n_layers = int(part["layer"].max()) + 1
    for order in (FORWARD, REVERSE):
        here = part[part["order"] == order].groupby("layer")["effect"].mean()
        early = here[published_layers(EARLY, n_layers)].mean()
        middle = here[published_layers(MIDDLE, n_layers)].mean()
        numbers |= {
            f"{order}_layers_1_to_3_percent": early,
            f"{order}_layer_6_percent": middle,
            f"{order}_layer_6_minus_1_to_3_percent": middle - early,
        }
    return numbers


def _rank(frame: pd.DataFrame, column: str) -> float:
    """Mean over orders of the rank correlation of effect and column; nan if nothing varies."""
    known = [
        stats.spearmanr(one[column], one["effect"]).statistic
        for _, one in frame.groupby("order")
        if one["effect"].nunique() > 1
    ]
    return float(np.mean(known)) if known else float("nan")


def released_findings(
    frame: pd.DataFrame, scales: pd.DataFrame, resampling: Resampling
) -> pd.DataFrame:
    """Where the published numbers come from, over seeds.

    Args:
        frame: of :func:`decompose`, with the names of its runs.
        scales: of :func:`label_scales`, with the names of its runs.
        resampling: of the intervals.

    Returns:
        Columns `tables.FINDINGS`. For each procedure of `CHAIN`: ``<procedure>_share_from_order``,
        ``<procedure>_rank_correlation_with_step`` and ``..._with_layer`` (random orders),
        ``<procedure>_<order>_layers_1_to_3_percent``, ``..._layer_6_percent`` and
        ``..._layer_6_minus_1_to_3_percent`` for orders forward and reverse (published layers, at
        their relative depth); and ``<scale>_label_mse_<predictor>``.
    """
    rows = []
    for names, part in groups(frame, [*CONDITION, "procedure"]):
        per_seed = pd.DataFrame({seed: _numbers(one) for seed, one in part.groupby("seed")}).T
        procedure = names.pop("procedure")
        n = int(part["n"].max())
        for quantity, column in per_seed.items():
            row = _finding(column, resampling, *_ENDS.get(str(quantity), (-np.inf, np.inf)))
            rows.append({"quantity": f"{procedure}_{quantity}", **names, **row, "n": n})
    for names, part in groups(scales, [*CONDITION, "label_scale", "predictor"]):
        quantity = f"{names.pop('label_scale')}_label_mse_{names.pop('predictor')}"
        row = _finding(part.set_index("seed")["mse"], resampling)
        rows.append({"quantity": quantity, **names, **row, "n": int(part["n"].max())})
    return pd.DataFrame(rows, columns=list(FINDINGS))


_ENDS = {
    "share_from_order": (0.0, 1.0),
    "rank_correlation_with_step": (-1.0, 1.0),
    "rank_correlation_with_layer": (-1.0, 1.0),
}


def _finding(
    column: pd.Series, resampling: Resampling, low: float = -np.inf, high: float = np.inf
) -> dict[str, float | int]:
    """A row over seeds; no end lies beyond what the quantity can be."""
    known = column.dropna()
    if known.empty:
        return {"estimate": np.nan, "ci_low": np.nan, "ci_high": np.nan, "seeds": 0}
    row = _over_seeds(known, resampling)
    return row | {"ci_low": max(row["ci_low"], low), "ci_high": min(row["ci_high"], high)}
