"""Bias of orientation by depth: what a linear read-out of each block's tokens gets wrong, where.

One network is measured, so that intervals are over images and speak of this network alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from patchwork import statistics
from patchwork.analysis.biases import observer, orientation
from patchwork.analysis.rearing.orientation_measures import ridge_readout_errors
from patchwork.models import backbones
from patchwork.models.backbones import Backbone
from patchwork.stimuli.common.batch import Batch

# Of pictures as they are, and of the same lines turned by 45 deg after they were drawn.
VIEWS = ("upright", "turned")
_KEYS = ["backbone", "readout", "block"]

Vectors = dict[tuple[str, int], np.ndarray]


@torch.no_grad()
def block_vectors(network: Backbone, images: np.ndarray, batch_size: int = 64) -> Vectors:
    """State of the class token and mean of the patches' tokens, as every block leaves them.

    Args:
        network: in eval mode.
        images: shape (n, height, width, 3), uint8.
        batch_size: images at once.

    Returns:
        (`cls` or `mean`, number of the block from 1) to float32 (n, width).
    """
    encoder: Any = network.encoder
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    for pixels in backbones.normalised(network, images, batch_size):
        blocks = encoder.forward_intermediates(
            pixels, return_prefix_tokens=True, norm=False, output_fmt="NLC",
            intermediates_only=True,
        )  # fmt: skip
        for number, (patches, prefix) in enumerate(blocks, 1):
            read = {"mean": patches.mean(1)}
            if encoder.has_class_token:
                read["cls"] = prefix[:, 0]
            for name, vectors in read.items():
                found.setdefault((name, number), []).append(vectors.float().cpu().numpy())
    return {key: np.concatenate(parts) for key, parts in found.items()}


def pixel_vectors(images: np.ndarray) -> Vectors:
    """Grey levels as the vectors of a network without blocks: (`pixels`, 0) to (n, pixels)."""
    return {("pixels", 0): images.mean(-1, dtype=np.float32).reshape(len(images), -1)}


def held_out_errors(vectors: Vectors, orientation_deg: np.ndarray, n_folds: int) -> pd.DataFrame:
    """Errors of a ridge read-out of the doubled angle on images that it was not fitted on.

    Args:
        vectors: those of the same n images, by read-out and block.
        orientation_deg: shape (n,).
        n_folds: parts of the images, each read by what was fitted on the others; 2 or more.

    Returns:
        readout, block, example, angle_deg (0 to 180), error_deg, signed_error_deg.
    """
    n = len(orientation_deg)
    fold = np.arange(n) % n_folds
    parts = []
    for (readout, block), values in vectors.items():
        errors = np.empty((2, n))
        for one in range(n_folds):
            test = fold == one
            errors[:, test] = ridge_readout_errors(
                values[~test], orientation_deg[~test], values[test], orientation_deg[test]
            )
        columns = dict(zip(("error_deg", "signed_error_deg"), errors, strict=True))
        rows = {"readout": readout, "block": block, "example": np.arange(n)}
        parts.append(pd.DataFrame({**rows, "angle_deg": orientation_deg, **columns}))
    return pd.concat(parts, ignore_index=True)


def depth_errors(vectors_of: Any, images: Mapping[str, Batch], n_folds: int) -> pd.DataFrame:
    """The table ``depth/*_errors.parquet``: errors of read-outs of upright and of turned pictures.

    Each view has its own read-outs.

    Args:
        vectors_of: from images to `Vectors`.
        images: the same lines by the names of `VIEWS`, with the label `orientation_deg`.
        n_folds: see :func:`held_out_errors`.
    """
    parts = [
        held_out_errors(
            vectors_of(images[view].images), images[view].labels["orientation_deg"], n_folds
        ).assign(view=view)
        for view in VIEWS
    ]
    return pd.concat(parts, ignore_index=True)


def bias_by_depth(errors: pd.DataFrame) -> pd.DataFrame:
    """Mean error and waves of the error of every read-out, beside the ideal observer.

    Args:
        errors: rows of :func:`depth_errors` with backbone.

    Returns:
        The table ``tables/bias_by_depth.csv``. Quantities, deg: `error`; those of
        `orientation.CONTRASTS` for each view; for view `both` the parts of the 4-cycle wave that go
        with the picture's axes and with the lattice, see `orientation.picture_and_lattice`.
    """
    rows = [row for _, part in errors.groupby(_KEYS, sort=False) for row in _of_readout(part)]
    ideal = orientation.wave_contrasts(observer.axial_observer().assign(seed=0))
    names = {"backbone": "ideal_observer", "readout": "none", "block": 0}
    for view in VIEWS:
        for quantity, one in ideal.items():
            exact = statistics.exact(round(one.estimate, 6), 0, 0)
            rows.append({**names, "view": view, "quantity": quantity, **exact.row()})
    return pd.DataFrame(rows)


def _of_readout(errors: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows of one read-out of one block of one network."""
    names = {key: errors[key].iloc[0] for key in _KEYS}
    frames = {
        # One network is one cluster, and its images are what was sampled.
        view: part.assign(seed=0).drop(columns=[*_KEYS, "view"])
        for view, part in errors.groupby("view", sort=False)
    }
    for view, frame in frames.items():
        found = orientation.wave_contrasts(frame)
        mean = statistics.interval(
            frame["error_deg"].to_numpy(), frame["seed"].to_numpy(),
            units=frame["example"].to_numpy(),
        )  # fmt: skip
        for quantity, one in {"error": mean, **found}.items():
            yield {**names, "view": view, "quantity": quantity, **one.row()}
    split = orientation.picture_and_lattice(frames["upright"], frames["turned"])
    for row in split.drop(columns="unit").to_dict("records"):
        yield {**names, "view": "both", **{str(key): value for key, value in row.items()}}
