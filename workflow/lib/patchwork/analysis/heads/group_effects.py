"""Ablation of heads one by one, in pairs and in whole layers; and what heads then predict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from patchwork import interventions
from patchwork.analysis.heads.head_effects import MEASURES, chosen_target
from patchwork.interventions.readout import Metric
from patchwork.models import sites
from patchwork.models.fine_tuned import Network
from patchwork.models.tasks import Category, Patches

GROUPS = ("heads", "pairs", "layers")
# ASSUME: beyond this many, pairs are a random sample; all 10,296 of a ViT-Base cost as many passes.
PAIRS_MOST = 100
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
INTACT = -1

Members = tuple[tuple[int, int], ...]


def members(
    n_layers: int, n_heads: int, groups: str, *, most: int = PAIRS_MOST, seed: int = 0
) -> dict[str, Members]:
    """The (layer, head) of each group; heads and layers are counted from 0.

    Args:
        n_layers: of the model.
        n_heads: of each layer.
        groups: ``heads``, ``pairs`` (of any two heads) or ``layers``.
        most: pairs; a sample is drawn if there are more.
        seed: of the sample.

    Returns:
        Name of the group (``1.2``, ``1.2+3.0``, ``1``) to its heads.

    Raises:
        ValueError: for an unknown kind of groups.
    """
    every = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    if groups == "heads":
        found: list[Members] = [(one,) for one in every]
    elif groups == "pairs":
        found = list(combinations(every, 2))
        if len(found) > most:
            rng = np.random.Generator(np.random.Philox(seed))
            found = [found[i] for i in np.sort(rng.choice(len(found), most, replace=False))]
    elif groups == "layers":
        return {
            str(layer): tuple((layer, head) for head in range(n_heads)) for layer in range(n_layers)
        }
    else:
        raise ValueError(f"groups is {groups!r}; allowed is {', '.join(GROUPS)}")
    return {"+".join(f"{layer}.{head}" for layer, head in one): one for one in found}


@dataclass(frozen=True)
class Grouping:
    """Which heads are ablated together, and how.

    Args:
        groups: ``heads``, ``pairs`` or ``layers``, see :func:`members`.
        baselines: of ``zero``, ``mean``, ``resample``.
        measure: key of `heads.MEASURES`.
        order_seed: runs groups in this random order; None is the order of layers and heads. The
            rows come in the latter either way, and the numbers must not depend on it.
        pairs_most: pairs; a sample is drawn if there are more.
    """

    groups: str = "layers"
    baselines: tuple[str, ...] = ("zero", "mean", "resample")
    measure: str = "loss"
    order_seed: int | None = None
    pairs_most: int = PAIRS_MOST


def group_effects(
    network: Network,
    images: np.ndarray,
    labels: Mapping[str, np.ndarray],
    targets: Sequence[str],
    how: Grouping | None = None,
) -> pd.DataFrame:
    """Change of the targets' loss when groups of heads are ablated together, and restored.

    Args:
        network: merged, in eval mode.
        images: uint8, shape (n, H, W, 3).
        labels: label columns of the images.
        targets: those that the network predicts are scored, and their mean is taken.
        how: groups, baselines, measure and order; whole layers if left out.

    Returns:
        groups, group, layer, head, other_layer, other_head (-1 where there is none), baseline,
        metric, example, clean (metric of the intact network), effect (ablated minus clean).

    Raises:
        ValueError: for an unknown kind of groups, measure or baseline, or if the network predicts
            none of the targets.
    """
    how = how or Grouping()
    metric, name = metric_of(network, labels, targets, how.measure)
    return _swept(network, images, metric, how).assign(metric=name)


def _swept(network: Network, images: np.ndarray, metric: Metric, how: Grouping) -> pd.DataFrame:
    anatomy = sites.find(network)
    wanted = members(anatomy.n_layers, anatomy.n_heads, how.groups, most=how.pairs_most)
    names = list(wanted)
    if how.order_seed is not None:
        names = list(np.random.Generator(np.random.Philox(how.order_seed)).permutation(names))
    inputs = torch.from_numpy(images)
    if how.groups == "heads" and how.order_seed is None:
        frame = _fast(network, inputs, metric, how.baselines)
    else:
        chosen = {
            name: [f"{layer}.head_out.{head}" for layer, head in wanted[name]] for name in names
        }
        frame = pd.concat(
            [
                interventions.group_ablation_sweep(network, inputs, metric, chosen, baseline=one)
                for one in how.baselines
            ]
        )
    return _named(frame, wanted, how.groups)


def _fast(
    network: Network, inputs: torch.Tensor, metric: Metric, baselines: Sequence[str]
) -> pd.DataFrame:
    """Single heads; zero and mean share one pass over the layers."""
    quick = tuple(name for name in baselines if name in ("zero", "mean"))
    slow = tuple(name for name in baselines if name not in quick)
    parts = []
    for some in filter(None, (quick, slow)):
        sweep = interventions.head_ablation_sweep(network, inputs, metric, baselines=some)
        frame = sweep.frame(per_example=True)
        name = frame["layer"].astype(str) + "." + frame["head"].astype(str)
        parts.append(frame.assign(group=name, clean=sweep.clean[frame["example"]]))
    return pd.concat(parts)[["group", "baseline", "example", "clean", "effect"]]


def _named(frame: pd.DataFrame, wanted: Mapping[str, Members], groups: str) -> pd.DataFrame:
    """Rows in the order of the groups, with the numbers of layers and heads."""
    single = {name: (one if groups != "layers" else ((one[0][0], -1),)) for name, one in
              wanted.items()}  # fmt: skip
    table = pd.DataFrame(
        [
            (name, *one[0], *(one[1] if len(one) > 1 else (-1, -1)), place)
            for place, (name, one) in enumerate(single.items())
        ],
        columns=["group", "layer", "head", "other_layer", "other_head", "place"],
    )
    joined = frame.merge(table, on="group", validate="many_to_one")
    ordered = joined.sort_values(["baseline", "place", "example"], kind="stable")
    columns = ["group", "layer", "head", "other_layer", "other_head", "baseline", "example"]
    kept = ordered[[*columns, "clean", "effect"]].reset_index(drop=True)
    return kept.assign(groups=groups)[["groups", *kept.columns]]


class MeanMetric:
    """Mean of several targets' metrics, per example."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self.metrics = list(metrics)

    def __call__(self, output: Mapping[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        """Mean over targets for each of the examples ``rows``, shape (m,)."""
        return torch.stack([metric(output, rows) for metric in self.metrics]).mean(0)


def metric_of(
    network: Network,
    labels: Mapping[str, np.ndarray],
    targets: Sequence[str],
    measure: str = "loss",
) -> tuple[Metric, str]:
    """The metric that groups are scored by: one target's, or the mean of several.

    Args:
        network: whose heads predict the targets.
        labels: label columns of the images.
        targets: those that the network predicts count.
        measure: key of `heads.MEASURES`.

    Returns:
        The metric, and its name: targets and measure.

    Raises:
        ValueError: if the network predicts none, or for an unknown measure.
    """
    if measure not in MEASURES:
        raise ValueError(f"measure is {measure!r}; allowed is {', '.join(MEASURES)}")
    chosen_target(network, targets)
    names = [name for name in targets if name in network.targets]
    metric = MeanMetric([MEASURES[measure](network, name, labels) for name in names])
    return metric, f"{' + '.join(names)} {measure}"


class Predicted:
    """A decoded prediction as a metric: its effect is how far an ablation moves it.

    Args:
        network: whose heads predict the target.
        target: its name; not one of classes or pictures.

    Raises:
        ValueError: if the target has no unit.
    """

    def __init__(self, network: Network, target: str) -> None:
        self.name, self.encoding = target, network.targets[target].encoding
        if isinstance(self.encoding, Category | Patches):
            raise ValueError(f"target is {target}; allowed is one with a unit")

    def __call__(self, output: Mapping[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        """First label of the target for each example, in its unit, shape (m,)."""
        values = output[self.name]
        found = self.encoding.decode(values.detach().double().cpu().numpy())
        return torch.from_numpy(found[:, 0]).to(values)


def prediction_spread(
    network: Network, images: np.ndarray, targets: Sequence[str], baseline: str = "zero"
) -> pd.DataFrame:
    """How predictions are distributed over images when each head is ablated, and intact.

    Args:
        network: merged, in eval mode.
        images: uint8, shape (n, H, W, 3).
        targets: the first that the network predicts is shown, and of it the first label.
        baseline: of the ablation.

    Returns:
        label, baseline, layer, head (both `INTACT` for the network as it is), q05, q25, q50, q75,
        q95 (quantiles of the prediction, in the label's unit), n (images).
    """
    name = chosen_target(network, targets)
    metric = Predicted(network, name)
    effects = _swept(network, images, metric, Grouping("heads", (baseline,)))
    cells = effects.assign(prediction=effects["clean"] + effects["effect"])
    first = cells[cells["group"] == cells["group"].iloc[0]]
    intact = first.assign(layer=INTACT, head=INTACT, prediction=first["clean"])
    rows = [
        {"layer": layer, "head": head}
        | {f"q{round(100 * q):02d}": values.quantile(q) for q in QUANTILES}
        | {"n": len(values)}
        for (layer, head), values in pd.concat([intact, cells]).groupby(["layer", "head"])[
            "prediction"
        ]
    ]
    label = network.targets[name].labels[0]
    return pd.DataFrame(rows).assign(label=label, baseline=baseline)
