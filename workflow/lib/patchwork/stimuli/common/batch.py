"""What every generator returns, and how it describes its labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Batch:
    """Images with their labels.

    Attributes:
        images: shape (n, height, width, 3), uint8, 0 to 255.
        labels: name to array of shape (n,); units and ranges come from the generator's
            `label_attributes`.
        extras: further pictures of the same images, name to uint8 array of shape
            (n, height, width, channels); empty for most generators.
    """

    images: np.ndarray
    labels: dict[str, np.ndarray]
    extras: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class LabelAttributes:
    """Unit and range of one label.

    Attributes:
        units: "deg", "px", "fraction", "level" (0 to 255), "s", "Hz", "dB", or "index".
        minimum: smallest possible value.
        maximum: largest possible value.
        names: for units "index": what each index stands for.
    """

    units: str
    minimum: float
    maximum: float
    names: tuple[str, ...] = ()


def concatenate(batches: list[Batch]) -> Batch:
    """Joins batches of the same labels into one, in order.

    Args:
        batches: at least one.

    Returns:
        One batch of as many images as all of them together.

    Raises:
        ValueError: if the list is empty or the batches' labels differ.
    """
    if not batches:
        raise ValueError("batches is empty; allowed is a list of at least one Batch")
    names: list[Mapping[str, np.ndarray]] = [batch.labels for batch in batches]
    if any(set(labels) != set(names[0]) for labels in names):
        raise ValueError(f"batches have different labels; allowed is {sorted(names[0])} in each")
    return Batch(
        images=np.concatenate([batch.images for batch in batches]),
        labels={k: np.concatenate([b.labels[k] for b in batches]) for k in batches[0].labels},
        extras={k: np.concatenate([b.extras[k] for b in batches]) for k in batches[0].extras},
    )
