"""What a network predicts, as data: encodings, output activations, losses, weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F


class Encoding(Protocol):
    """Physical labels to network targets and back."""

    def width(self, n_labels: int) -> int:
        """Number of network outputs for ``n_labels`` label columns."""

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Labels (n, n_labels) in physical units to targets (n, width)."""

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Network outputs (n, width) to labels (n, n_labels) in physical units."""


@dataclass(frozen=True)
class Turn:
    """A directed angle on a line from -1 to 1: ((angle - origin) mod period) / (period / 2) - 1.

    It jumps at ``origin``: two almost equal angles on either side get targets -1 and 1.

    Source: arXiv 2504.09393, training targets, with origin 0 and period 360.
    """

    period: float = 360.0
    origin: float = 0.0

    def width(self, n_labels: int) -> int:
        """One output per angle."""
        return n_labels

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Degrees, any range, to [-1, 1)."""
        return np.mod(labels - self.origin, self.period) / (self.period / 2) - 1

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """[-1, 1] to degrees in [0, period)."""
        return np.mod((outputs + 1) * (self.period / 2) + self.origin, self.period)


@dataclass(frozen=True)
class DoubleAngle:
    """An angle as (cos, sin) of its phase in the period: no jump, no favoured origin.

    With period 180 this is the orientation of a line as (cos 2 theta, sin 2 theta).
    """

    period: float = 180.0

    def width(self, n_labels: int) -> int:
        """Two outputs per angle."""
        return 2 * n_labels

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Degrees to the unit circle, cosines first."""
        phase = labels * (2 * np.pi / self.period)
        return np.concatenate([np.cos(phase), np.sin(phase)], axis=1)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Any vector in the plane to degrees in [0, period)."""
        cos, sin = np.split(outputs, 2, axis=1)
        return np.mod(np.arctan2(sin, cos) * (self.period / (2 * np.pi)), self.period)


@dataclass(frozen=True)
class Scaled:
    """Quantities less a fixed offset, divided by a fixed scale.

    Attributes:
        scale: one for all label columns, or one for each.
        offset: likewise, in the labels' unit.
    """

    scale: float | Sequence[float] = 1.0
    offset: float | Sequence[float] = 0.0

    def width(self, n_labels: int) -> int:
        """One output per label."""
        return n_labels

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Physical units to (label - offset) / scale."""
        return (labels - np.asarray(self.offset)) / np.asarray(self.scale)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs to physical units."""
        return outputs * np.asarray(self.scale) + np.asarray(self.offset)


@dataclass(frozen=True)
class Category:
    """One of ``n_classes`` classes, as scores."""

    n_classes: int

    def width(self, n_labels: int) -> int:
        """One score per class; one label column."""
        return self.n_classes

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Class numbers (n, 1) to one-hot rows; ValueError for a class that there is not."""
        wrong = labels[~((labels >= 0) & (labels < self.n_classes))]
        if wrong.size:
            raise ValueError(
                f"class is {wrong[0]:g}; allowed is 0 to n_classes - 1, {self.n_classes - 1}"
            )
        return np.eye(self.n_classes)[labels[:, 0].astype(int)]

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Scores to the number of the best class, (n, 1)."""
        return outputs.argmax(axis=1)[:, None].astype(float)


@dataclass(frozen=True)
class Patches:
    """Pixels of a picture (n, H, W, 3), uint8, as one row of values in 0..1 per square patch."""

    patch_px: int

    def width(self, n_labels: int) -> int:
        """Three values per pixel of a patch."""
        return 3 * self.patch_px**2

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Pictures (n, H, W, 3) to (n, patches, width), row by row as a ViT cuts them."""
        n, height, width, _ = labels.shape
        p = self.patch_px
        cut = labels.reshape(n, height // p, p, width // p, p, 3).swapaxes(2, 3)
        return cut.reshape(n, -1, self.width(1)) / 255

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Pictures are learnt from, not reported."""
        raise ValueError("a picture target has no label columns to decode")


ENCODINGS: dict[str, type] = {
    "turn": Turn,
    "double_angle": DoubleAngle,
    "scaled": Scaled,
    "category": Category,
    "patches": Patches,
}

ACTIVATIONS = {"none": lambda x: x, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "huber": F.huber_loss,
    "squared": F.mse_loss,
    "cross_entropy": F.cross_entropy,
}


@dataclass(frozen=True)
class Target:
    """One head: which labels it predicts, how they are encoded and how it is scored.

    Attributes:
        labels: label columns, in the order of the decoded columns; one picture of the batch's
            extras when ``reads`` is ``patches``.
        encoding: an instance of one of ``ENCODINGS``.
        activation: key of ``ACTIVATIONS``.
        loss: key of ``LOSSES``.
        loss_options: keyword arguments of the loss.
        weight: its share in the total loss, > 0.
        reads: ``readout`` (the pooled vector) or ``patches`` (every patch token).
        where_known: whether labels may be nan, such as the start of a chirp that is not there;
            such examples then teach this head nothing.
    """

    labels: tuple[str, ...]
    encoding: Encoding
    activation: str = "none"
    loss: str = "squared"
    loss_options: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0
    reads: str = "readout"
    where_known: bool = False

    def absolute_errors(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean absolute error of each example on the encoded scale, shape (n,).

        Labels that may be unknown and are count as met. For classes: one minus the probability of
        the right one.
        """
        if self.loss == "cross_entropy":
            return 1 - (output.softmax(1) * target).sum(1)
        return (output - self._met(output, target)).abs().flatten(1).mean(1)

    @property
    def width(self) -> int:
        """Number of outputs of the head (per patch, when it reads patches)."""
        return self.encoding.width(len(self.labels))

    def encode(self, labels: Mapping[str, np.ndarray]) -> np.ndarray:
        """Label columns to float32 targets, shape (n, width)."""
        if self.reads == "patches":
            return self.encoding.encode(labels[self.labels[0]]).astype(np.float32)
        columns = np.stack([np.asarray(labels[name], float) for name in self.labels], axis=1)
        return self.encoding.encode(columns).astype(np.float32)

    def losses(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss of each example, shape (n,), without the weight."""
        met, options = self._met(output, target), {"reduction": "none", **self.loss_options}
        losses = LOSSES[self.loss](output, met, **options)
        return losses if losses.ndim == 1 else losses.flatten(1).mean(1)

    def _met(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The target, met by the output wherever it may be unknown and is."""
        if not self.where_known:
            return target
        return torch.where(torch.isnan(target), output.detach().to(target.dtype), target)


def read_targets(
    blocks: Mapping[str, Mapping], labels: Mapping[str, np.ndarray], image_px: int
) -> dict[str, Target]:
    """Build the targets whose labels vary in the data; a constant label teaches nothing.

    Args:
        blocks: target name to its configuration block (see ``config/studies``).
        labels: label columns of the training data, each shape (n,).
        image_px: image side, for scales given as ``image_px``.

    Returns:
        target name to :class:`Target`, in the order of the configuration.

    Raises:
        ValueError: for a label that the data does not have, or if no target is left.
    """
    targets = {}
    for name, block in blocks.items():
        missing = [label for label in block["labels"] if label not in labels]
        if missing:
            raise ValueError(
                f"targets.{name}.labels: {missing[0]!r} is not in the data; "
                f"it has {', '.join(sorted(labels))}"
            )
        if all(_varies(labels[label]) for label in block["labels"]):
            targets[name] = read_target(block, image_px)
    if not targets:
        raise ValueError(f"targets: none of {', '.join(blocks)} varies in the training data")
    return targets


def _varies(column: np.ndarray) -> bool:
    known = column[~np.isnan(column)]
    return known.size > 0 and np.ptp(known) > 0


def read_target(block: Mapping, image_px: int) -> Target:
    """One target from its configuration block; a scale of ``image_px`` is the image's side."""
    keys = ("period", "origin", "scale", "offset", "n_classes", "patch_px")
    options = {key: block[key] for key in keys if key in block}
    if options.get("scale") == "image_px":
        options["scale"] = image_px
    loss_options = {"delta": block["delta"]} if "delta" in block else {}
    return Target(
        labels=tuple(block["labels"]),
        encoding=ENCODINGS[block["encoding"]](**options),
        activation=block.get("activation", "none"),
        loss=block.get("loss", "squared"),
        loss_options=loss_options,
        weight=block.get("weight", 1.0),
        where_known=block.get("where_known", False),
        reads="patches" if block["encoding"] == "patches" else "readout",
    )


def encode_all(
    targets: Mapping[str, Target], labels: Mapping[str, np.ndarray]
) -> dict[str, torch.Tensor]:
    """Encoded targets of a batch, each shape (n, width), float32."""
    return {name: torch.from_numpy(target.encode(labels)) for name, target in targets.items()}


def decode_all(
    targets: Mapping[str, Target], outputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Predicted label columns in physical units, each shape (n,)."""
    columns: dict[str, np.ndarray] = {}
    for target_name, target in targets.items():
        if target.reads == "patches":
            continue
        decoded = target.encoding.decode(np.asarray(outputs[target_name], float))
        columns.update(zip(target.labels, decoded.T, strict=True))
    return columns
