"""Where examples come from: a stored dataset, a generator, views of pictures, kept features."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from patchwork import stimuli
from patchwork.data import store
from patchwork.models.fine_tuned import Network
from patchwork.stimuli import views

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


Drawn = tuple[torch.Tensor, Mapping[str, np.ndarray]]


def _ahead(
    draw: Callable[[np.ndarray], Drawn], order: np.ndarray, batch_size: int
) -> Iterator[Drawn]:
    """Draws one batch while the one before is used."""
    parts = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(draw, parts[0]) if parts else None
        for following in [*parts[1:], None]:
            if ahead is None:
                return
            drawn = ahead.result()
            ahead = None if following is None else pool.submit(draw, following)
            yield drawn


class Stored:
    """A dataset file.

    Args:
        path: written by :mod:`patchwork.data.store`.
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
        yield from _ahead(self._draw, order, batch_size)


class Views:
    """Views of stored pictures in an order that every condition of one seed shares.

    Pictures come in passes, each in a new order; every view has its own flip and cut.

    Args:
        path: pictures, written by :mod:`patchwork.data.store`.
        settings: of the condition, see :class:`patchwork.stimuli.views.ViewSettings`.
        seed: of order, flips and cuts.
        n: number of views.
        held_out: pictures kept for validation, the same for every seed: the training views never
            show them, validation views show nothing else.
        validation: which of the two this is.

    Raises:
        ValueError: for impossible settings, or fewer pictures than are held out.
    """

    def __init__(
        self,
        path: str | Path,
        settings: Mapping[str, object],
        *,
        seed: int,
        n: int,
        held_out: int,
        validation: bool = False,
    ) -> None:
        self.settings, self.seed = views.parse_settings(settings), seed
        self.reader = store.Reader(path)
        total = len(self.reader)
        if held_out >= total:
            raise ValueError(f"{path}: holds {total} pictures; allowed is more than {held_out}")
        shuffled = np.random.Generator(np.random.Philox(key=0)).permutation(total)
        self.rows = shuffled[:held_out] if validation else shuffled[held_out:]
        rows = self._rows_of(np.arange(n))
        self.labels: Mapping[str, np.ndarray] = {
            name: column[rows] for name, column in self.reader.labels.items()
        }
        self.n = n

    def __len__(self) -> int:
        return self.n

    def _rows_of(self, numbers: np.ndarray) -> np.ndarray:
        passes, places = np.divmod(numbers, len(self.rows))
        rows = np.empty_like(places)
        for one in np.unique(passes):
            order = np.random.Generator(np.random.Philox(key=[self.seed, 1 + int(one)]))
            here = passes == one
            rows[here] = self.rows[order.permutation(len(self.rows))[places[here]]]
        return rows

    def draw(self, numbers: np.ndarray) -> tuple[torch.Tensor, Mapping[str, np.ndarray]]:
        """Views by number, uint8 (n, image_px, image_px, 3), with their labels."""
        batch = self.reader.read(self._rows_of(numbers))
        seen = views.view(batch.images, self.settings, seed=self.seed, indices=numbers)
        return torch.from_numpy(seen), batch.labels

    def batches(
        self, order: np.ndarray, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, Mapping[str, np.ndarray]]]:
        """Views with their labels, one batch ahead of their user."""
        yield from _ahead(self.draw, order, batch_size)


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
