"""What single heads and layers of fine-tuned networks do: per run, per example."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from patchwork import interventions
from patchwork.interventions import PatchGrid, Plan
from patchwork.interventions.readout import Metric
from patchwork.interventions.similarity import head_similarity
from patchwork.models.fine_tuned import Network
from patchwork.models.tasks import Category, Patches
from patchwork.statistics.metrics import circular_error

DIRECTIONS = ("clean_to_corrupted", "corrupted_to_clean")
UNTOUCHED = "untouched"


class TargetLoss:
    """Loss of one target against fixed labels, per example, as a metric of interventions.

    Args:
        network: whose heads predict the target.
        target: its name.
        labels: label columns of the examples, each shape (n,).
    """

    def __init__(self, network: Network, target: str, labels: Mapping[str, np.ndarray]) -> None:
        self.name, self.target = target, network.targets[target]
        self.encoded = torch.from_numpy(self.target.encode(labels)).to(network.mean.device)

    def __call__(self, output: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        """Loss of each of the examples ``rows``, shape (m,)."""
        return self.target.losses(output[self.name], self.encoded[rows])


class TargetError:
    """Absolute error of one target per example, in the unit of its labels.

    Angles are compared the short way round; several labels of one target are averaged.

    Args:
        network: whose heads predict the target.
        target: its name; not one of classes or pictures.
        labels: label columns of the examples, each shape (n,).

    Raises:
        ValueError: if the target has no unit.
    """

    def __init__(self, network: Network, target: str, labels: Mapping[str, np.ndarray]) -> None:
        self.name, self.encoding = target, network.targets[target].encoding
        if isinstance(self.encoding, Category | Patches):
            raise ValueError(f"measure is error, but target {target} has no unit; allowed is loss")
        names = network.targets[target].labels
        self.actual = np.stack([np.asarray(labels[name], float) for name in names], axis=1)

    def __call__(self, output: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        """Error of each of the examples ``rows``, shape (m,)."""
        values = output[self.name]
        found = self.encoding.decode(values.detach().double().cpu().numpy())
        actual = self.actual[rows.cpu().numpy()]
        period = getattr(self.encoding, "period", None)
        apart = np.abs(found - actual) if period is None else circular_error(found, actual, period)
        # The network's precision: sweeps judge by it what is rounding.
        return torch.from_numpy(apart.mean(1)).to(values)


MEASURES: dict[str, Callable[..., Metric]] = {"loss": TargetLoss, "error": TargetError}


def chosen_target(network: Network, wanted: Sequence[str]) -> str:
    """The first of the wanted targets that the network predicts.

    Raises:
        ValueError: if it predicts none.
    """
    for name in wanted:
        if name in network.targets:
            return name
    raise ValueError(f"targets is {list(wanted)}; allowed is one of {', '.join(network.targets)}")


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
        layer, head, baseline, example, effect (ablated minus clean: no unit for the loss, that of
        the labels for the error), metric.

    Raises:
        ValueError: for an unknown measure, or none of the targets is predicted.
    """
    if measure not in MEASURES:
        raise ValueError(f"measure is {measure!r}; allowed is {', '.join(MEASURES)}")
    name = chosen_target(network, targets)
    sweep = interventions.head_ablation_sweep(
        network,
        torch.from_numpy(images),
        MEASURES[measure](network, name, labels),
        baselines=tuple(baselines),
    )
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
        component, layer, head (-1), position, direction, example, effect, base, source, metric,
        for both directions.
    """
    name = chosen_target(network, targets)
    metric = TargetLoss(network, name, labels)
    clean, corrupted = (torch.from_numpy(one) for one in pairs)
    frames = []
    for direction in DIRECTIONS:
        grid = PatchGrid(tuple(components), None, direction)
        sweep = interventions.patch_sweep(network, clean, corrupted, metric, grid=grid, plan=Plan())
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
        one, other (tasks; other is `UNTOUCHED` for the backbone), layer, head, map_correlation,
        linear_cka, n.
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
