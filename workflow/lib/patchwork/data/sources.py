"""Where examples come from: a stored dataset, a generator, views of pictures, kept features."""

import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from patchwork import stimuli
from patchwork.data import store
from patchwork.models.fine_tuned import Network
from patchwork.stimuli import views

# Labels of a generated source are examined on this many images: enough to see which ones vary.
_N_EXAMINED = 64

# Inputs of the network with their label columns.
Drawn = tuple[torch.Tensor, Mapping[str, np.ndarray]]


class Source(Protocol):
    """Examples that can be read in any order.

    Attributes:
        labels: label columns (and pictures to learn from) of all, or of some, of the examples.
    """

    labels: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        """Number of examples."""

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[Drawn]:
        """Inputs of the network with their label columns, in the given order of rows."""


class _Rows(torch.utils.data.Dataset):
    """Batches of a dataset file, by a reader that each process opens for itself."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.reader: store.Reader | None = None

    def __getitem__(self, rows: np.ndarray) -> Drawn:
        self.reader = self.reader or store.Reader(self.path)
        batch = self.reader.read(rows)
        return torch.from_numpy(batch.images), batch.labels


def _as_read(drawn: Any) -> Any:
    return drawn


class Stored:
    """A dataset file.

    Args:
        path: written by :mod:`patchwork.data.store`.
        workers: processes that read ahead; 0 reads in a thread. HDF5 decodes under the
            interpreter's lock, so a thread holds up a loop that is to keep a GPU busy.
    """

    def __init__(self, path: str | Path, workers: int = 0) -> None:
        with store.Reader(path) as reader:
            self.labels, self._shape = reader.labels, reader.images.shape
        self.path, self.workers = path, workers
        self._parts: list[np.ndarray] = []
        self._loader: torch.utils.data.DataLoader | None = None

    def __len__(self) -> int:
        return self._shape[0]

    @property
    def image_px(self) -> int:
        """Side of the images."""
        return int(self._shape[1])

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[Drawn]:
        """Images uint8 (n, H, W, 3) and their labels."""
        readers = self.readers(batch_size)
        if not readers:
            return self._in_thread(order, batch_size)
        self._parts[:] = [
            order[first : first + batch_size] for first in range(0, len(order), batch_size)
        ]
        if self._loader is None:
            self._loader = torch.utils.data.DataLoader(
                _Rows(self.path),
                batch_size=None,
                sampler=self._parts,  # refilled for every epoch, so that the processes stay
                num_workers=readers,
                collate_fn=_as_read,
                persistent_workers=True,
            )
        # Started here and not by the thread that draws: it forks.
        return self._from_workers(iter(self._loader))

    @staticmethod
    def _from_workers(drawn: Iterator[Drawn]) -> Iterator[Drawn]:
        try:
            yield from drawn
        except ValueError as error:
            # Torch puts the worker's traceback before it.
            raise ValueError(str(error).strip().rpartition("ValueError: ")[2]) from error

    def _in_thread(self, order: np.ndarray, batch_size: int) -> Iterator[Drawn]:
        with store.Reader(self.path) as reader:
            for batch in reader.batches(order, batch_size):
                yield torch.from_numpy(batch.images), batch.labels

    def readers(self, batch_size: int) -> int:
        """Processes that read: each holds two batches ready in shared memory, which may be small.

        A full one would end the process, so at most a quarter of what is free is taken.
        """
        shared = Path("/dev/shm")
        room = shutil.disk_usage(shared).free if shared.is_dir() else 0
        return min(self.workers, room // (8 * batch_size * math.prod(self._shape[1:])))


class Held:
    """Images in memory.

    Args:
        images: uint8, shape (n, H, W, 3).
        labels: columns of shape (n,).
    """

    def __init__(self, images: np.ndarray, labels: Mapping[str, np.ndarray]) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[Drawn]:
        """Images with their labels."""
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            columns = {name: column[rows] for name, column in self.labels.items()}
            yield torch.from_numpy(self.images[rows]), columns


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

    def _draw(self, indices: np.ndarray) -> Drawn:
        batch = stimuli.GENERATORS[self.kind](self.settings, seed=self.seed, indices=indices)
        return torch.from_numpy(batch.images), {**batch.labels, **batch.extras}

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[Drawn]:
        """Images uint8 (n, H, W, 3) with their labels and further pictures."""
        yield from store.read_ahead(self._draw, order, batch_size)


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
        rows, labels = self._rows_of(np.arange(n)), self.reader.labels
        self.labels: Mapping[str, np.ndarray] = {name: x[rows] for name, x in labels.items()}
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

    def draw(self, numbers: np.ndarray) -> Drawn:
        """Views by number, uint8 (n, image_px, image_px, 3), with their labels."""
        batch = self.reader.read(self._rows_of(numbers))
        seen = views.view(batch.images, self.settings, seed=self.seed, indices=numbers)
        return torch.from_numpy(seen), batch.labels

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[Drawn]:
        """Views with their labels, one batch ahead of their user."""
        yield from store.read_ahead(self.draw, order, batch_size)


def read_out(source: Source, network: Network, batch_size: int = 256) -> torch.Tensor:
    """Read-out vectors float32 (n, width) of a whole source, in its order.

    Args:
        source: images.
        network: it is in eval mode afterwards.
        batch_size: images at once.
    """
    device, vectors = network.mean.device, []
    network.eval()
    with torch.no_grad():
        for images, _ in source.batches(np.arange(len(source)), batch_size):
            vectors.append(network.features(network.pixels(images.to(device))).float().cpu())
    return torch.cat(vectors)


class Features:
    """Read-out vectors of a frozen encoder in place of images: it gives the same ones every epoch.

    Args:
        source: images.
        network: whose encoder does not train.
        vectors: those of :func:`read_out`, if they are known.

    Raises:
        ValueError: if a target reads patch tokens, which are not kept, or if vectors are of another
            number of images.
    """

    def __init__(
        self, source: Source, network: Network, vectors: torch.Tensor | None = None
    ) -> None:
        for name, target in network.targets.items():
            if target.reads == "patches":
                raise ValueError(f"target {name} reads patches; allowed is adapter lora or full")
        self.labels = source.labels
        self.vectors = read_out(source, network) if vectors is None else vectors
        if len(self.vectors) != len(source):
            raise ValueError(f"{len(self.vectors)} vectors are given; allowed are {len(source)}")

    def __len__(self) -> int:
        return len(self.vectors)

    def batches(self, order: np.ndarray, batch_size: int) -> Iterator[Drawn]:
        """Vectors float32 (n, width) and their labels."""
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            labels = {name: column[rows] for name, column in self.labels.items()}
            yield self.vectors[torch.from_numpy(rows)], labels
