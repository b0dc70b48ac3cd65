"""Train a small backbone from nothing, on procedural images or on views of pictures."""

from collections.abc import Mapping
from pathlib import Path

import torch

from patchwork.data.sources import Generated, Source, Views
from patchwork.jobs.provenance import file_sha256
from patchwork.models import fine_tuned, tasks
from patchwork.models.backbones import Backbone
from patchwork.training import trainer


def pretrain(
    backbone: Backbone,
    settings: Mapping,
    *,
    seed: int,
    folder: Path,
    events: Path | None = None,
    pictures: Path | None = None,
    device: str = "cpu",
) -> tuple[Backbone, trainer.Training]:
    """Train every parameter of a backbone.

    Args:
        backbone: its initial state; trained in place.
        settings: ``stimuli`` (``kind`` and the generator's settings) or ``views`` (see
            :class:`patchwork.stimuli.views.ViewSettings`), ``targets`` (blocks), ``n_train`` and
            ``n_validation`` images, ``head_hidden`` and ``training`` (see
            :func:`patchwork.training.trainer.fit`).
        seed: of heads, order and images.
        folder: of the checkpoint, for this very pre-training only.
        events: folder of the TensorBoard events; beside the checkpoint if None.
        pictures: dataset file that views are taken of.
        device: ``cpu`` or ``cuda``.

    Returns:
        The trained backbone, with the pre-training in its provenance, and its logs.

    Raises:
        ValueError: for impossible settings or a training that diverges.
    """
    image_px = backbone.architecture["image_px"]
    data, validation = _sources(settings, image_px, seed, pictures)
    targets = tasks.read_targets(settings["targets"], data.labels, image_px)
    network = fine_tuned.build(
        backbone,
        targets,
        {"readout": "cls", "head_hidden": settings["head_hidden"], "adapter": {"kind": "full"}},
        seed=seed,
    ).to(torch.device(device))
    log = trainer.fit(
        network, data, validation, settings["training"], seed=seed, folder=folder, events=events
    )
    kept = log.epochs[log.epochs["epoch"] == log.best_epoch].dropna(subset="r")
    final = {label: round(float(r), 4) for label, r in zip(kept["label"], kept["r"], strict=True)}
    backbone.provenance |= {
        "pretraining": dict(settings), "validation_r": final, "precision": log.precision,
    }  # fmt: skip
    if "views" in settings:
        backbone.provenance["pictures_sha256"] = file_sha256(str(pictures))
    backbone.encoder = network.encoder.to("cpu")  # type: ignore[assignment]
    return backbone, log


def _sources(
    settings: Mapping, image_px: int, seed: int, pictures: Path | None
) -> tuple[Source, Source]:
    """Images to train on and images to validate on, which never meet."""
    n_train, n_validation = settings["n_train"], settings["n_validation"]
    if "views" in settings:
        if pictures is None:
            raise ValueError("pretraining.views needs pictures; allowed is a dataset file of them")
        seen = {**settings["views"], "image_px": image_px}
        return (
            Views(pictures, seen, seed=seed, n=n_train, held_out=n_validation),
            Views(
                pictures, seen, seed=seed, n=n_validation, held_out=n_validation, validation=True
            ),
        )
    drawn = dict(settings["stimuli"])
    kind = drawn.pop("kind")
    drawn["image_px"] = image_px
    return (
        Generated(kind, drawn, seed=2 * seed, n=n_train),
        Generated(kind, drawn, seed=2 * seed + 1, n=n_validation),
    )
