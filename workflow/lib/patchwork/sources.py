"""Where training examples come from: a stored dataset, a generator, or features kept in memory."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from patchwork import stimuli, store
from patchwork.models import Network

# Labels of a generated source are examined on this many images: enough to see which ones vary.
_N_EXAMINED = 64


class Source(Protocol):
    """Examples that can be read in any order.

    Attributes:
        labels: label columns (and pictures to learn from) of all, or of some, of the examples.
    """

    labels: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        """Number of examples."""

    def batches(
        self, order: np.ndarray, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, Mapping[str, np.ndarray]]]:
        """Inputs of the network with their label columns, in the given order of rows."""


class Stored:
    """A dataset file.

    Args:
        path: written by :mod:`patchwork.store`.
    """

    def __init__(self, path: str | Path) -> None:
        self.reader = store.Reader(path)
        self.labels = self.reader.labels

    def __len__(self) -> int:
        return len(self.reader)

    @property
    def image_px(self) -> int:
        """Side of the images."""
        return int(self.reader.images.shape[1])

    def batches(
        self, order: np.ndarray, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, Mapping[str, np.ndarray]]]:
        """Images uint8 (n, H, W, 3) and their labels."""
        for batch in self.reader.batches(order, batch_size):
            yield torch.from_numpy(batch.images), batch.labels


class Generated:
    """Images that are drawn when they are needed, one batch ahead of their user.

    Args:
        kind: a key of ``stimuli.GENERATORS``.
        settings: what the generator takes.
        seed: of the images.
        n: number of examples.
    """

    def __init__(self, kind: str, settings: Mapping[str, object], *, seed: int, n: int) -> None:
        self.kind, self.settings, self.seed, self.n = kind, settings, seed, n
        self.labels = self._draw(np.arange(min(n, _N_EXAMINED)))[1]

    def __len__(self) -> int:
        return self.n

    def _draw(self, indices: np.ndarray) -> tuple[torch.Tensor, Mapping[str, np.ndarray]]:
        batch = stimuli.GENERATORS[self.kind](self.settings, seed=self.seed, indices=indices)
        return torch.from_numpy(batch.images), {**batch.labels, **batch.extras}

    def batches(
        self, order: np.ndarray, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, Mapping[str, np.ndarray]]]:
        """Images uint8 (n, H, W, 3) with their labels and further pictures."""
        parts = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
        with ThreadPoolExecutor(max_workers=1) as pool:
            ahead = pool.submit(self._draw, parts[0]) if parts else None
            for following in [*parts[1:], None]:
                if ahead is None:
                    return
                drawn = ahead.result()
                ahead = None if following is None else pool.submit(self._draw, following)
                yield drawn


class Features:
    """Read-out vectors of a frozen encoder, computed once: it gives the same ones every epoch.

    Args:
        source: images.
        network: whose encoder does not train.
        batch_size: images at once.

    Raises:
        ValueError: if a target reads patch tokens, which are not kept.
    """

    def __init__(self, source: Source, network: Network, batch_size: int = 256) -> None:
        for name, target in network.targets.items():
            if target.reads == "patches":
                raise ValueError(f"target {name} reads patches; allowed is adapter lora or full")
        self.labels = source.labels
        device = network.mean.device
        vectors = []
        network.eval()
        with torch.no_grad():
            for images, _ in source.batches(np.arange(len(source)), batch_size):
                vectors.append(network.features(network.pixels(images.to(device))).float().cpu())
        self.vectors = torch.cat(vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def batches(
        self, order: np.ndarray, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, Mapping[str, np.ndarray]]]:
        """Vectors float32 (n, width) and their labels."""
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            labels = {name: column[rows] for name, column in self.labels.items()}
            yield self.vectors[torch.from_numpy(rows)], labels
