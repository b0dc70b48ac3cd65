"""Train a small backbone from nothing on procedural images."""

from collections.abc import Mapping
from pathlib import Path

import torch

from patchwork import models, tasks, training
from patchwork.backbones import Backbone
from patchwork.sources import Generated


def rear(
    backbone: Backbone,
    settings: Mapping,
    *,
    seed: int,
    folder: Path,
    events: Path | None = None,
    device: str = "cpu",
) -> tuple[Backbone, training.Training]:
    """Train every parameter of a backbone on a procedural task.

    Args:
        backbone: its initial state; trained in place.
        settings: ``stimuli`` (``kind`` and the generator's settings), ``targets`` (blocks),
            ``n_train`` and ``n_validation`` images, ``head_hidden`` and ``training`` (see
            :func:`patchwork.training.fit`).
        seed: of heads, order and images.
        folder: of the checkpoint, for this very rearing only.
        events: folder of the TensorBoard events; beside the checkpoint if None.
        device: ``cpu`` or ``cuda``.

    Returns:
        The trained backbone, with the rearing in its provenance, and its logs.

    Raises:
        ValueError: for impossible settings or a training that diverges.
    """
    image_px = backbone.architecture["image_px"]
    drawn = dict(settings["stimuli"])
    kind = drawn.pop("kind")
    drawn["image_px"] = image_px
    data = Generated(kind, drawn, seed=2 * seed, n=settings["n_train"])
    validation = Generated(kind, drawn, seed=2 * seed + 1, n=settings["n_validation"])
    targets = tasks.read_targets(settings["targets"], data.labels, image_px)
    network = models.build(
        backbone,
        targets,
        {"readout": "cls", "head_hidden": settings["head_hidden"], "adapter": {"kind": "full"}},
        seed=seed,
    ).to(torch.device(device))
    log = training.fit(
        network, data, validation, settings["training"], seed=seed, folder=folder, events=events
    )
    kept = log.epochs[log.epochs["epoch"] == log.best_epoch].dropna(subset="r")
    final = {label: round(float(r), 4) for label, r in zip(kept["label"], kept["r"], strict=True)}
    backbone.provenance = {**backbone.provenance, "rearing": dict(settings), "validation_r": final}
    backbone.encoder = network.encoder.to("cpu")  # type: ignore[assignment]
    return backbone, log
