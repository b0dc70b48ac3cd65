"""Zeroing of weights, head by head, as a published procedure does it, fault by fault.

The procedure zeroes one row of the query, key and value weights, the one whose number is the
head's, after the forward pass of a batch, never puts it back, and scores standardised predictions
against raw labels. Each of these is a switch here, so that one can see what each does. For ablation
that isolates a head see `head_ablation_sweep`.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from patchwork.interventions.batches import batches
from patchwork.models import sites
from patchwork.models.fine_tuned import Network

BLOCKS = ("row", "head")
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

    Raises:
        ValueError: for an unknown block or scale.

    Source:
        Released code of arXiv 2503.18762.
    """

    restore: bool = False
    row_block: str = "row"
    before_forward: bool = False
    label_scale: str = "raw"
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.row_block not in BLOCKS:
            raise ValueError(f"row_block is {self.row_block!r}; allowed is {', '.join(BLOCKS)}")
        if self.label_scale not in LABEL_SCALES:
            raise ValueError(
                f"label_scale is {self.label_scale!r}; allowed is {', '.join(LABEL_SCALES)}"
            )


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
