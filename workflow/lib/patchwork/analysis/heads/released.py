"""A published ablation taken apart: its numbers split into order, scale and intervention.

The procedure zeroes one row of the query, key and value weights, the one whose number is the
head's, after the forward pass of a batch, never puts it back, and scores standardised predictions
against raw labels. Each of these is a switch here, so that one can see what each does. For ablation
that isolates a head see `head_ablation_sweep`.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from patchwork import statistics
from patchwork.analysis.heads.effect_tables import EARLY, MIDDLE, PUBLISHED_DEPTH
from patchwork.interventions.batches import batches
from patchwork.models import fine_tuned, sites
from patchwork.models.fine_tuned import Network
from patchwork.statistics.power import Planted, redrawn, share_found
from patchwork.tables import CONDITION, FINDINGS, groups, join

LABEL_SCALES = ("raw", "standardised")


@dataclass(frozen=True)
class RowZeroing:
    """The switches; left alone they are the published procedure.

    Args:
        restore: put the weights back after a head's images; else damage adds up over heads.
        row_block: ``row``: one row of each weight, numbered as the head; ``head``: all rows of the
            head and their biases, so that nothing of its query, key and value is left.
        before_forward: zero before a head's first batch; else after it, so that the first batch
            sees only what earlier heads left behind.
        label_scale: ``raw``: the network's outputs against labels in their own unit;
            ``standardised``: against the targets that the outputs were trained on.
        batch_size: images at once, 1 or more.

    Source:
        Released code of arXiv 2503.18762.
    """

    restore: bool = False
    row_block: str = "row"
    before_forward: bool = False
    label_scale: str = "raw"
    batch_size: int = 32


def row_zeroing_sweep(
    network: Network,
    images: np.ndarray,
    labels: Mapping[str, np.ndarray],
    targets: Sequence[str],
    *,
    order: Sequence[tuple[int, int]],
    how: RowZeroing,
) -> pd.DataFrame:
    """Squared error while one head's weights after the other's are zeroed.

    Args:
        network: merged, in eval mode, on a timm ViT; a copy of it is damaged.
        images: uint8, shape (n, H, W, 3).
        labels: label columns of the images.
        targets: those that the network predicts are scored together.
        order: (layer, head) in the order of zeroing.
        how: the switches.

    Returns:
        step (place in the order, from 0), layer, head, example, clean (squared error before
        anything was zeroed, mean over labels), effect (squared error minus clean).

    Raises:
        ValueError: for a network of another kind, targets that it lacks or whose outputs are not
            one per label, or a head that does not exist.
    """
    sites.require_eval(network)
    damaged = copy.deepcopy(network)
    linears = _projections(damaged)
    names = [name for name in targets if name in network.targets]
    expected = expected_outputs(network, labels, names, how.label_scale)
    clean = _errors(damaged, images, names, expected, how, None)
    frames = []
    for step, (layer, head) in enumerate(order):
        rows = _rows(linears, (layer, head), sites.find(damaged).n_heads, how.row_block)
        kept = [part.detach().clone() for part in _parameters(linears[layer], how.row_block)]
        errors = _errors(damaged, images, names, expected, how, (linears[layer], rows))
        if how.restore:
            for part, old in zip(_parameters(linears[layer], how.row_block), kept, strict=True):
                part.data.copy_(old)
        place = {"step": step, "layer": layer, "head": head, "example": range(len(errors))}
        frames.append(pd.DataFrame(place | {"clean": clean, "effect": errors - clean}))
    return pd.concat(frames, ignore_index=True)


def expected_outputs(
    network: Network, labels: Mapping[str, np.ndarray], targets: Sequence[str], label_scale: str
) -> np.ndarray:
    """What outputs are scored against, shape (n, outputs), float64.

    Args:
        network: whose targets they are.
        labels: label columns of the images.
        targets: names of targets.
        label_scale: of `LABEL_SCALES`.

    Raises:
        ValueError: if no target is given or one has other than one output per label.
    """
    if not targets:
        raise ValueError(f"targets fit none of the network's; it has {', '.join(network.targets)}")
    columns = []
    for name in targets:
        target = network.targets[name]
        if target.reads != "readout" or target.width != len(target.labels):
            raise ValueError(f"target {name} has {target.width} outputs; allowed is one per label")
        raw = np.stack([np.asarray(labels[one], float) for one in target.labels], axis=1)
        columns.append(raw if label_scale == "raw" else target.encode(labels).astype(float))
    return np.concatenate(columns, axis=1)


def _projections(network: Network) -> list[nn.Linear]:
    found = []
    for parts in sites.find(network).blocks:
        linear = getattr(parts.attn, "qkv", None)
        if type(linear) is not nn.Linear:
            raise ValueError(
                f"network: attention {type(parts.attn).__name__} has no joint, merged query, key "
                "and value weight; allowed is a merged timm ViT"
            )
        found.append(linear)
    return found


def _rows(
    linears: Sequence[nn.Linear], place: tuple[int, int], n_heads: int, row_block: str
) -> Tensor:
    """Rows of the joint weight that belong to a head, by the published count or by the true one."""
    layer, head = place
    if not (0 <= layer < len(linears) and 0 <= head < n_heads):
        raise ValueError(
            f"order holds head {head} of layer {layer}; allowed is 0 to {n_heads - 1} of layer 0 "
            f"to {len(linears) - 1}"
        )
    width = linears[layer].out_features // 3
    size = width // n_heads
    own = torch.tensor([head]) if row_block == "row" else torch.arange(size) + head * size
    return torch.cat([own + part * width for part in range(3)])


def _parameters(linear: nn.Linear, row_block: str) -> list[Tensor]:
    """What is zeroed: published, weights alone; of a whole head, biases too."""
    whole = row_block == "head" and linear.bias is not None
    return [linear.weight, linear.bias] if whole else [linear.weight]


@torch.no_grad()
def _errors(
    network: Network,
    images: np.ndarray,
    names: Sequence[str],
    expected: np.ndarray,
    how: RowZeroing,
    damage: tuple[nn.Linear, Tensor] | None,
) -> np.ndarray:
    """Squared error of each image, the rows zeroed before or after the first batch."""
    found = []
    for rows, batch in batches(torch.from_numpy(images), how.batch_size, network):
        if damage and how.before_forward:
            _zero(*damage, how.row_block)
        output = network(batch)
        if damage:
            _zero(*damage, how.row_block)
        outputs = torch.cat([output[name] for name in names], 1).double().cpu().numpy()
        found.append(((outputs - expected[rows.cpu().numpy()]) ** 2).mean(1))
    return np.concatenate(found)


def _zero(linear: nn.Linear, rows: Tensor, row_block: str) -> None:
    for part in _parameters(linear, row_block):
        part.data[rows.to(part.device)] = 0


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
        The table ``row_sweeps.csv``; procedures are the keys of `CHAIN`.

    Raises:
        ValueError: as `row_zeroing_sweep` does.
    """
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
        The table ``label_scales.csv``. Predictors: ``network``; ``constant`` (0, the mean of
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


def profile_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Effect by layer, procedure and order, over seeds.

    Args:
        frame: of :func:`decompose`, with the names of its runs.

    Returns:
        The table ``tables/released_profile.csv``; no interval (nan) with one seed.
    """
    return _over_seeds(frame, ["procedure", "order", "layer"], "effect")


def scale_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean squared error of simple predictors, over seeds.

    Args:
        frame: of :func:`label_scales`, with the names of its runs.

    Returns:
        The table ``tables/label_scales.csv``; no interval (nan) with one seed.
    """
    return _over_seeds(frame, ["label_scale", "predictor"], "mse")


def _over_seeds(frame: pd.DataFrame, keys: list[str], value: str) -> pd.DataFrame:
    rows = []
    for names, part in groups(frame, [*CONDITION, *keys]):
        one = statistics.over_seeds(part.groupby("seed")[value].mean())
        row = names | {value: one.pop("estimate"), **one}
        rows.append(row | {"n": int(part["n"].max())})
    return pd.DataFrame(rows)


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
    if int(part["layer"].max()) + 1 != PUBLISHED_DEPTH:
        return numbers
    for order in (FORWARD, REVERSE):
        here = part[part["order"] == order].groupby("layer")["effect"].mean()
        early, middle = here[list(EARLY)].mean(), here[list(MIDDLE)].mean()
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
    frame: pd.DataFrame, scales: pd.DataFrame, planted: Mapping[str, Planted]
) -> pd.DataFrame:
    """Where the published numbers come from, over seeds.

    Args:
        frame: of :func:`decompose`, with the names of its runs.
        scales: of :func:`label_scales`, with the names of its runs.
        planted: positive controls, by quantity.

    Returns:
        Columns `tables.FINDINGS`. For each procedure of `CHAIN`: ``<procedure>_share_from_order``,
        ``<procedure>_rank_correlation_with_step`` and ``..._with_layer`` (random orders),
        of networks of twelve layers ``<procedure>_<order>_layers_1_to_3_percent``,
        ``..._layer_6_percent`` and ``..._layer_6_minus_1_to_3_percent`` for orders forward and
        reverse; ``<scale>_label_mse_<predictor>``; and, with ``_found`` behind, how often a planted
        effect would be found.
    """
    rows = []
    for names, part in groups(frame, [*CONDITION, "procedure"]):
        per_seed = pd.DataFrame({seed: _numbers(one) for seed, one in part.groupby("seed")}).T
        procedure = names.pop("procedure")
        n = int(part["n"].max())
        for quantity, column in per_seed.items():
            row = statistics.over_seeds(column, _ENDS.get(quantity, (-np.inf, np.inf)))
            name = f"{procedure}_{quantity}"
            rows.append({"quantity": name, **names, **row, "n": n})
            if name in planted and column.notna().all():
                means, seeds = statistics.means(column.to_numpy(float)), column.index.to_numpy()
                draw = redrawn(means, planted[name].effect, seeds)
                share = share_found(draw, planted[name].claimed, 0).row()
                rows.append({"quantity": f"{name}_found", **names, **share})
    simple = scale_table(scales).rename(columns={"mse": "estimate"})
    simple["quantity"] = simple["label_scale"] + "_label_mse_" + simple["predictor"]
    return join([pd.DataFrame(rows), simple])[list(FINDINGS)]


_ENDS: dict[Any, tuple[float, float]] = {
    "share_from_order": (0.0, 1.0),
    "rank_correlation_with_step": (-1.0, 1.0),
    "rank_correlation_with_layer": (-1.0, 1.0),
}
