"""What heads, pairs of heads and layers do: effects of each network, example by example."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from patchwork import interventions
from patchwork.interventions import PatchGrid, attention
from patchwork.interventions.readout import Metric
from patchwork.interventions.similarity import head_similarity
from patchwork.interventions.sweeps.grid import DIRECTIONS
from patchwork.models import sites
from patchwork.models.fine_tuned import Network
from patchwork.models.tasks import Category, Patches
from patchwork.statistics.metrics import circular_error
from patchwork.tables import UNTOUCHED

GROUPS = ("heads", "pairs", "layers")
# ASSUME: beyond this many, pairs are a random sample; all 10,296 of a ViT-Base cost as many passes.
PAIRS_MOST = 100
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
INTACT = -1

Members = tuple[tuple[int, int], ...]
Outputs = Mapping[str, Tensor]


def target_loss(network: Network, name: str, labels: Mapping[str, np.ndarray]) -> Metric:
    """Loss of one target against fixed labels, per example, as a metric of interventions.

    Args:
        network: whose heads predict the target.
        name: of the target.
        labels: label columns of the examples, each shape (n,).
    """
    target = network.targets[name]
    encoded = torch.from_numpy(target.encode(labels)).to(network.mean.device)
    return lambda output, rows: target.losses(output[name], encoded[rows])


def target_error(network: Network, name: str, labels: Mapping[str, np.ndarray]) -> Metric:
    """Absolute error of one target per example, in the unit of its labels; as `target_loss`.

    Angles are compared the short way round; several labels of one target are averaged.

    Raises:
        ValueError: if the target has no unit.
    """
    decode = _decoder(network, name)
    actual = np.stack([np.asarray(labels[x], float) for x in network.targets[name].labels], axis=1)
    period = getattr(network.targets[name].encoding, "period", None)

    def error(output: Outputs, rows: Tensor) -> Tensor:
        found, true = decode(output), actual[rows.cpu().numpy()]
        apart = np.abs(found - true) if period is None else circular_error(found, true, period)
        # The network's precision: sweeps judge by it what is rounding.
        return torch.from_numpy(apart.mean(1)).to(output[name])

    return error


def _decoder(network: Network, name: str) -> Callable[[Outputs], np.ndarray]:
    """From outputs to predicted labels of one target, shape (n, labels), in their units."""
    encoding = network.targets[name].encoding
    if isinstance(encoding, Category | Patches):
        raise ValueError(f"measure is error, but target {name} has no unit; allowed is loss")
    return lambda output: encoding.decode(output[name].detach().double().cpu().numpy())


MEASURES: dict[str, Callable[..., Metric]] = {"loss": target_loss, "error": target_error}


def predicted_targets(network: Network, wanted: Sequence[str]) -> list[str]:
    """Those of the wanted targets that the network predicts.

    Raises:
        ValueError: if it predicts none.
    """
    names = [name for name in wanted if name in network.targets]
    if not names:
        raise ValueError(
            f"targets is {list(wanted)}; allowed is one of {', '.join(network.targets)}"
        )
    return names


def ablation(
    network: Network,
    images: np.ndarray,
    labels: Mapping[str, np.ndarray],
    targets: Sequence[str],
    baselines: Sequence[str],
    measure: str = "loss",
) -> pd.DataFrame:
    """Change of a target's loss or error when each head alone is ablated.

    Args:
        network: merged, in eval mode.
        images: uint8, shape (n, H, W, 3).
        labels: label columns of the images.
        targets: the first that the network predicts is scored.
        baselines: as for ``interventions.head_ablation_sweep``.
        measure: key of ``MEASURES``.

    Returns:
        The table ``head_effects.parquet`` without seed; the error is in the unit of the labels.
    """
    name = predicted_targets(network, targets)[0]
    metric, inputs = MEASURES[measure](network, name, labels), torch.from_numpy(images)
    sweep = interventions.head_ablation_sweep(network, inputs, metric, baselines=tuple(baselines))
    return sweep.frame(per_example=True).assign(metric=f"{name} {measure}")


def patching(
    network: Network,
    pairs: tuple[np.ndarray, np.ndarray],
    labels: Mapping[str, np.ndarray],
    targets: Sequence[str],
    components: Sequence[str],
) -> pd.DataFrame:
    """Change of a target's loss when an activation of the paired image is put in its place.

    Args:
        network: merged, in eval mode.
        pairs: clean and corrupted images, uint8, each shape (n, H, W, 3).
        labels: label columns of the clean images; the loss is against them in both runs.
        targets: the first that the network predicts is scored.
        components: as for ``interventions.PatchGrid``.

    Returns:
        The table ``patch_effects.parquet`` without seed, for both directions.
    """
    name = predicted_targets(network, targets)[0]
    metric = target_loss(network, name, labels)
    clean, corrupted = (torch.from_numpy(one) for one in pairs)
    frames = []
    for direction in DIRECTIONS:
        grid = PatchGrid(tuple(components), None, direction)
        sweep = interventions.patch_sweep(network, clean, corrupted, metric, grid=grid)
        frames.append(sweep.frame(per_example=True))
    return pd.concat(frames, ignore_index=True).assign(metric=f"{name} loss")


def similarities(
    networks: Mapping[str, Network], untouched: nn.Module, images: np.ndarray
) -> pd.DataFrame:
    """Similarity of every head between any two tasks, and with the untouched backbone.

    Args:
        networks: task to its network, merged; all on one backbone.
        untouched: that backbone's encoder.
        images: uint8, shape (n, H, W, 3), the same for all.

    Returns:
        The table ``heads/*/*.csv`` without seed; other is `UNTOUCHED` for the backbone.
    """
    names = list(networks)
    first = networks[names[0]]
    with torch.no_grad():
        pixels = first.pixels(torch.from_numpy(images).to(first.mean.device))
    frames = []
    for i, one in enumerate(names):
        encoder = networks[one].encoder
        others = {name: networks[name].encoder for name in names[i + 1 :]}
        for other, model in {**others, UNTOUCHED: untouched.eval()}.items():
            table = head_similarity(encoder, model, pixels, chunk=32)
            frames.append(table.assign(one=one, other=other))
    return pd.concat(frames, ignore_index=True)


def picture_table(images: np.ndarray) -> pd.DataFrame:
    """Mean grey levels of pictures, as `tables/attention_picture.csv`.

    Args:
        images: uint8, shape (n, H, W, 3).
    """
    grey = images.mean(axis=(0, -1)).round(2)
    row, column = np.indices(grey.shape)
    return pd.DataFrame({"row": row.ravel(), "column": column.ravel(), "level": grey.ravel()})


@torch.no_grad()
def attention_maps(
    networks: Mapping[str, Network], untouched: nn.Module, image: np.ndarray
) -> pd.DataFrame:
    """Attention of the class token to the patches of one picture, heads averaged.

    Args:
        networks: task to its network, merged; all on one backbone.
        untouched: that backbone's encoder.
        image: uint8, shape (H, W, 3).

    Returns:
        Columns task (`UNTOUCHED` for the backbone), layer, row, column, weight.
    """
    first = next(iter(networks.values()))
    pixels = first.pixels(torch.from_numpy(image[None]).to(first.mean.device))
    encoders = {name: network.encoder for name, network in networks.items()}
    parts = []
    for task, encoder in {**encoders, UNTOUCHED: untouched.eval()}.items():
        for layer, pattern in enumerate(attention.patterns(encoder, pixels)):
            weights = pattern[0, :, 0, 1:].mean(0).cpu().numpy()
            side = round(len(weights) ** 0.5)
            row, column = np.indices((side, side)).reshape(2, -1)
            part = {"row": row, "column": column, "weight": weights[: side**2]}
            parts.append(pd.DataFrame(part).assign(task=task, layer=layer))
    return pd.concat(parts, ignore_index=True)


def members(
    n_layers: int, n_heads: int, groups: str, *, most: int = PAIRS_MOST, seed: int = 0
) -> dict[str, Members]:
    """The (layer, head) of each group; heads and layers are counted from 0.

    Args:
        n_layers: of the model.
        n_heads: of each layer.
        groups: of `GROUPS`; pairs are of any two heads.
        most: pairs; a sample is drawn if there are more.
        seed: of the sample.

    Returns:
        Name of the group (``1.2``, ``1.2+3.0``, ``1``) to its heads.
    """
    layers = [[(layer, head) for head in range(n_heads)] for layer in range(n_layers)]
    if groups == "layers":
        return {str(layer): tuple(heads) for layer, heads in enumerate(layers)}
    every = [one for heads in layers for one in heads]
    found: list[Members] = list(combinations(every, 2 if groups == "pairs" else 1))
    if groups == "pairs" and len(found) > most:
        rng = np.random.Generator(np.random.Philox(seed))
        found = [found[i] for i in np.sort(rng.choice(len(found), most, replace=False))]
    return {"+".join(f"{layer}.{head}" for layer, head in one): one for one in found}


@dataclass(frozen=True)
class Grouping:
    """Which heads are ablated together, and how.

    Args:
        groups: of `GROUPS`, see :func:`members`.
        baselines: of ``zero``, ``mean``, ``resample``.
        measure: key of `MEASURES`.
        order_seed: runs groups in this random order, and names them ``<groups>_in_random_order``;
            None is the order of layers and heads. The rows come in the latter either way, and the
            numbers must not depend on it.
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
    how: Grouping,
) -> pd.DataFrame:
    """Change of the targets' loss when groups of heads are ablated together, and restored.

    Args:
        network: merged, in eval mode.
        images: uint8, shape (n, H, W, 3).
        labels: label columns of the images.
        targets: those that the network predicts are scored, and their mean is taken.
        how: groups, baselines, measure and order.

    Returns:
        The table ``group_effects.parquet``.
    """
    metric, name = mean_metric(network, labels, targets, how.measure)
    return _swept(network, images, metric, how).assign(metric=name)


def _swept(network: Network, images: np.ndarray, metric: Metric, how: Grouping) -> pd.DataFrame:
    anatomy = sites.find(network)
    wanted = members(anatomy.n_layers, anatomy.n_heads, how.groups, most=how.pairs_most)
    names = list(wanted)
    if how.order_seed is not None:
        names = list(np.random.Generator(np.random.Philox(how.order_seed)).permutation(names))
    inputs = torch.from_numpy(images)
    if how.groups == "heads" and how.order_seed is None:
        frame = _single_heads(network, inputs, metric, how.baselines)
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
    suffix = "" if how.order_seed is None else "_in_random_order"
    return _named(frame, wanted, how.groups).assign(groups=how.groups + suffix)


def _single_heads(
    network: Network, inputs: Tensor, metric: Metric, baselines: Sequence[str]
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
    rows = []
    for place, (name, heads) in enumerate(wanted.items()):
        layer, head = heads[0] if groups != "layers" else (heads[0][0], -1)
        other = heads[1] if groups == "pairs" else (-1, -1)
        rows.append((name, layer, head, *other, place))
    names = ["group", "layer", "head", "other_layer", "other_head"]
    joined = frame.merge(pd.DataFrame(rows, columns=[*names, "place"]), validate="many_to_one")
    ordered = joined.sort_values(["baseline", "place", "example"], kind="stable")
    columns = [*names, "baseline", "example", "clean", "effect"]
    return ordered.reset_index(drop=True).assign(groups=groups)[["groups", *columns]]


def mean_metric(
    network: Network,
    labels: Mapping[str, np.ndarray],
    targets: Sequence[str],
    measure: str = "loss",
) -> tuple[Metric, str]:
    """Mean of several targets' metrics for each example, and its name: targets and measure.

    Args:
        network: whose heads predict the targets.
        labels: label columns of the images.
        targets: those that the network predicts count.
        measure: key of `MEASURES`.
    """
    names = predicted_targets(network, targets)
    metrics = [MEASURES[measure](network, name, labels) for name in names]

    def mean(output: Outputs, rows: Tensor) -> Tensor:
        return torch.stack([metric(output, rows) for metric in metrics]).mean(0)

    return mean, f"{' + '.join(names)} {measure}"


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
        The table ``prediction_spread.csv``; layer and head are `INTACT` for the network as it is.
    """
    name = predicted_targets(network, targets)[0]
    decode = _decoder(network, name)

    # A prediction as a metric: its effect is how far an ablation moves it.
    def predicted(output: Outputs, rows: Tensor) -> Tensor:
        return torch.from_numpy(decode(output)[:, 0]).to(output[name])

    effects = _swept(network, images, predicted, Grouping("heads", (baseline,)))
    cells = effects.assign(prediction=effects["clean"] + effects["effect"])
    first = cells[cells["group"] == cells["group"].iloc[0]]
    intact = first.assign(layer=INTACT, head=INTACT, prediction=first["clean"])
    places = pd.concat([intact, cells]).groupby(["layer", "head"])["prediction"]
    rows = [
        {"layer": layer, "head": head}
        | {f"q{round(100 * q):02d}": values.quantile(q) for q in QUANTILES}
        | {"n": len(values)}
        for (layer, head), values in places
    ]
    label = network.targets[name].labels[0]
    return pd.DataFrame(rows).assign(label=label, baseline=baseline)
