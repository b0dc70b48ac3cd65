"""What every generator returns, and how it describes its labels."""

from collections.abc import Sequence
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
        units: "deg", "px", "fraction", "level" (0 to 255), "s", "Hz", "dB", "count",
            or "index".
        minimum: smallest possible value.
        maximum: largest possible value.
        names: for units "index": what each index stands for.
    """

    units: str
    minimum: float
    maximum: float
    names: tuple[str, ...] = ()


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Batches of the same labels as one, in order."""

    def joined(kind: str) -> dict[str, np.ndarray]:
        names = getattr(batches[0], kind)
        return {name: np.concatenate([getattr(b, kind)[name] for b in batches]) for name in names}

    images = np.concatenate([batch.images for batch in batches])
    return Batch(images, joined("labels"), joined("extras"))
