"""Pure generators of stimuli: an image is a function of its settings, seed and index.

A new kind of stimulus is a module with `generate` and `label_attributes`, in `KINDS` and `_module`.
"""

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from patchwork.stimuli.common.batch import Batch, LabelAttributes, concatenate

__all__ = ["GENERATORS", "LABELS", "Batch", "LabelAttributes", "concatenate", "draw", "stream"]

KINDS = ("lines", "objects", "chirps")


def _module(kind: str) -> ModuleType:
    """The module of a kind, imported when it is needed: most jobs draw nothing.

    These are statements, for what decides whether a job runs again reads the imports.
    """
    if kind == "lines":
        from patchwork.stimuli import lines

        return lines
    if kind == "objects":
        from patchwork.stimuli import objects

        return objects
    from patchwork.stimuli import chirps

    return chirps


def _of(kind: str, function: str) -> Callable[..., Any]:
    return lambda *args, **kwargs: getattr(_module(kind), function)(*args, **kwargs)


GENERATORS: dict[str, Callable[..., Batch]] = {kind: _of(kind, "generate") for kind in KINDS}
LABELS: dict[str, Callable[[Mapping[str, object]], dict[str, LabelAttributes]]] = {
    kind: _of(kind, "label_attributes") for kind in KINDS
}


def draw(images: Mapping[str, Any]) -> Batch:
    """Generates images that fit into memory.

    Args:
        images: ``kind`` (a key of `GENERATORS`), ``settings``, ``seed``, ``first_index`` and ``n``.
    """
    indices = np.arange(images["first_index"], images["first_index"] + images["n"])
    return GENERATORS[images["kind"]](images["settings"], seed=images["seed"], indices=indices)


def stream(
    kind: str,
    settings: Mapping[str, object],
    *,
    seed: int,
    indices: range | np.ndarray,
    batch_size: int = 256,
) -> Iterator[Batch]:
    """Generates a dataset batch by batch, so that memory stays bounded.

    Args:
        kind: a key of `GENERATORS`.
        settings: what that generator takes.
        seed: 0 to 2**64 - 1.
        indices: image numbers, shape (n,).
        batch_size: images held at once, at least 1; it changes no pixel.

    Returns:
        Batches in the order of `indices`.
    """
    return (
        GENERATORS[kind](settings, seed=seed, indices=indices[first : first + batch_size])
        for first in range(0, len(indices), batch_size)
    )
