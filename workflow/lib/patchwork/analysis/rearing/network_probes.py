"""Orientation and colour bias of frozen networks, measured on probe images that they share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from patchwork.analysis.rearing.orientation_measures import (
    four_cycle,
    gabor_energy,
    line_matches,
    linear_fisher_information,
    ridge_readout_errors,
)
from patchwork.models import backbones
from patchwork.models.backbones import Backbone
from patchwork.stimuli import probes
from patchwork.stimuli.common.batch import Batch, concatenate

COLUMNS = ("measure", "kind", "component", "orientation_deg", "value")
# Information below this cannot be distinguished from none; 2**-10 per squared degree is a just
# noticeable difference of 32 deg.
_LEAST_LOG2_INFORMATION = -10.0

Features = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class ProbeSizes:
    """Numbers of probe images.

    Attributes:
        n_lines_train: lines that the read-out is fitted on.
        n_lines_test: lines on which it is scored.
        n_noise_train: noise images that the read-out is fitted on.
        n_per_orientation: noise images at each orientation, for read-out and Fisher information.
        n_orientations: of noise, equally spaced; also the bins of curves; a multiple of 8.
    """

    n_lines_train: int
    n_lines_test: int
    n_noise_train: int
    n_per_orientation: int
    n_orientations: int


@dataclass(frozen=True)
class ProbeImages:
    """Lines and noise; grey images share one channel's memory.

    Attributes:
        lines_train: lines at evenly spread orientations.
        lines_test: further lines.
        noise_train: band-pass noise at evenly spread orientations.
        noise_test: band-pass noise, equally often at equally spaced orientations, in blocks.
        n_orientations: how many.
    """

    lines_train: Batch
    lines_test: Batch
    noise_train: Batch
    noise_test: Batch
    n_orientations: int


@dataclass(frozen=True)
class ColourImages:
    """The same lines in the same noise, in each colour: `train` over all, `test` by colour."""

    train: Batch
    test: dict[str, Batch]


@dataclass(frozen=True)
class Probes:
    """Images on which every network of a study is measured.

    Attributes:
        lines: lines and noise of all orientations.
        colours: lines in each colour of `hues`.
        hues: pairs of opposite colours: `tested`, and `control`.
    """

    lines: ProbeImages
    colours: ColourImages
    hues: dict[str, list[str]]


def draw_probes(settings: Mapping[str, Any], image_px: int) -> Probes:
    """Draw the probes of a study once, for all of its networks.

    Args:
        settings: `probes` (`seed`, `sizes` and `colours`) and `hues` (`tested` and `control`, each
            a colour and the one opposite).
        image_px: side of the images that the networks take.
    """
    drawn, hues = settings["probes"], settings["hues"]
    common: dict[str, Any] = {"image_px": image_px, "seed": drawn["seed"]}
    return Probes(
        probe_images(**common, sizes=ProbeSizes(**drawn["sizes"])),
        colour_images([*hues["tested"], *hues["control"]], **common, **drawn["colours"]),
        dict(hues),
    )


def even_orientations(n: int) -> np.ndarray:
    """Orientations, 0 to 180, that fill the half circle evenly however many are taken."""
    # Multiples of the golden section leave no gap that is much larger than the others.
    return 180 * np.mod((np.arange(n) + 0.5) * (np.sqrt(5) - 1) / 2, 1)


def probe_images(*, image_px: int, seed: int, sizes: ProbeSizes) -> ProbeImages:
    """Draw lines and noise.

    Args:
        image_px: side of the images that the networks take.
        seed: of the probes; the same for all conditions that are compared.
        sizes: numbers of images.
    """
    step = 180 / sizes.n_orientations
    # Half a step off, so that information between neighbours belongs to 0, step, 2 step, ...
    places = (np.repeat(np.arange(sizes.n_orientations), sizes.n_per_orientation) - 0.5) * step
    even = [
        even_orientations(n) for n in (sizes.n_lines_train, sizes.n_lines_test, sizes.n_noise_train)
    ]
    draws = [probes.noisy_lines] * 2 + [probes.band_pass_noise] * 2
    batches, first = [], 0
    for draw, degrees in zip(draws, [*even, places], strict=True):
        # Numbers of their own, so that no image is drawn twice.
        indices = np.arange(first, first := first + len(degrees))
        batches.append(draw(image_px=image_px, seed=seed, indices=indices, orientation_deg=degrees))
    lines_train, lines_test, noise_train, noise_test = batches
    return ProbeImages(lines_train, lines_test, noise_train, noise_test, sizes.n_orientations)


def colour_images(
    colours: Sequence[str], *, image_px: int, seed: int, n_train: int, n_test: int
) -> ColourImages:
    """Draw the same lines in the same noise in each of some colours, which alone differ.

    Args:
        colours: names in `palettes.BASIC11`.
        image_px: side of the images.
        seed: of the probes.
        n_train: training lines of each colour.
        n_test: test lines of each colour.
    """

    def lines(colour: str, first: int, n: int) -> Batch:
        return probes.noisy_lines(
            image_px=image_px,
            seed=seed,
            colour=colour,
            indices=np.arange(first, first + n),
            orientation_deg=even_orientations(n),
        )

    train = concatenate([lines(name, n_test, n_train) for name in colours])
    return ColourImages(train, {name: lines(name, 0, n_test) for name in colours})


@torch.no_grad()
def features(network: Backbone, images: np.ndarray, batch_size: int = 250) -> dict[str, np.ndarray]:
    """Final state of the class token and mean of the other tokens, both after the last norm.

    Args:
        network: in eval mode; a backbone, or a network whose adapter is merged.
        images: shape (n, height, width, 3), uint8.
        batch_size: images at once.

    Returns:
        `cls` (if there is such a token) and `mean`, each float64 (n, width).
    """
    encoder: Any = network.encoder
    found: dict[str, list[np.ndarray]] = {"cls": [], "mean": []}
    for pixels in backbones.normalised(network, images, batch_size):
        tokens = encoder.forward_features(pixels).double().cpu().numpy()
        n_prefix = encoder.num_prefix_tokens
        if n_prefix:
            found["cls"].append(tokens[:, 0])
        found["mean"].append(tokens[:, n_prefix:].mean(1))
    return {name: np.concatenate(parts) for name, parts in found.items() if parts}


def measure_features(features_of: Features, images: ProbeImages) -> pd.DataFrame:
    """All orientation measures of a function from images to vectors.

    Args:
        features_of: images to vectors (n, d) by the name of the readout.
        images: from :func:`probe_images`.

    Returns:
        The table ``tables/stimulus_ceiling.csv``. Measures, each for every readout:
        `fisher_noise_<readout>` (log2 of information per squared degree),
        `ridge_error_lines_<readout>` and `ridge_error_noise_<readout>` (deg),
        `signed_error_lines_<readout>` and `signed_error_noise_<readout>` (deg, predicted minus
        true). Kind `curve`: one row per orientation, component empty. Kind `component`:
        `mean`, `c4`, `s4`, orientation missing.
    """
    vectors = {
        name: (features_of(batch.images), batch.labels["orientation_deg"])
        for name, batch in vars(images).items()
        if isinstance(batch, Batch)
    }
    n, rows = images.n_orientations, []
    step = 180 / n
    for readout in vectors["lines_test"][0]:
        for what in ("lines", "noise"):
            train, test = vectors[f"{what}_train"], vectors[f"{what}_test"]
            errors = ridge_readout_errors(train[0][readout], train[1], test[0][readout], test[1])
            # Bins are centred on 0; the components are those of the single values.
            bins = np.floor(test[1] / step + 0.5).astype(int) % n
            for name, values in zip(("ridge", "signed"), errors, strict=True):
                curve = {i * step: values[bins == i].mean() for i in np.unique(bins)}
                rows += _rows(f"{name}_error_{what}_{readout}", curve, test[1], values)
        places, values = _information(vectors["noise_test"][0][readout], n)
        curve = dict(zip(places, values, strict=True))
        rows += _rows(f"fisher_noise_{readout}", curve, places, values)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(
    measure: str, curve: Mapping[float, float], place: np.ndarray, value: np.ndarray
) -> list[tuple]:
    """A curve, and the components of values along the half circle."""
    found = [(measure, "curve", "", at, float(x)) for at, x in curve.items()]
    components = vars(four_cycle(place, value)).items()
    return found + [(measure, "component", name, np.nan, x) for name, x in components]


def _information(vectors: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Orientations, and log2 of the information between neighbours round the half circle."""
    blocks = np.split(vectors, n)
    information = [
        linear_fisher_information(blocks[i], blocks[(i + 1) % n], 180 / n) for i in range(n)
    ]
    least = 2.0**_LEAST_LOG2_INFORMATION
    return np.arange(n) * (180 / n), np.log2(np.maximum(information, least))


def measure_stimuli(images: ProbeImages) -> pd.DataFrame:
    """What the probes themselves allow, and the bias that they would add: observers, no network.

    Args:
        images: from :func:`probe_images`.

    Returns:
        As :func:`measure_features`, with `energy` (an isotropic bank of filters, which suits
        noise) and `match` (templates of the line, which suit lines) in place of read-outs.
    """
    return measure_features(
        lambda pictures: {"energy": gabor_energy(pictures), "match": line_matches(pictures)}, images
    )


def colour_errors(network: Backbone, images: ColourImages) -> pd.Series:
    """Mean orientation error (deg) of the class token's read-out for lines of each colour."""
    name, readout = "orientation_deg", "cls"
    known = features(network, images.train.images)[readout]
    errors = {}
    for colour, batch in images.test.items():
        vectors = features(network, batch.images)[readout]
        error, _ = ridge_readout_errors(
            known, images.train.labels[name], vectors, batch.labels[name]
        )
        errors[colour] = float(error.mean())
    return pd.Series(errors)


@dataclass(frozen=True)
class Stage:
    """A network at one moment of its pre-training.

    Attributes:
        images: seen so far; 0 for a network that nothing trained.
        accuracy: share of validation images whose class it named; None where it was not scored.
        backbone: the network, in eval mode.
        last: whether this is the end of its pre-training.
    """

    images: int
    accuracy: float | None
    backbone: Backbone
    last: bool


def stages(path: str | Path, snapshots: str | Path, label: str) -> Iterator[Stage]:
    """A network at each encoder that was kept, and at its end; one module holds them in turn.

    Args:
        path: of the backbone.
        snapshots: of `backbones.join_snapshots`.
        label: whose score is the accuracy.
    """
    backbone = backbones.load(path)
    made: Any = backbone.provenance
    last = {key: value.clone() for key, value in backbone.encoder.state_dict().items()}
    for record, _ in backbones.snapshots(backbone, snapshots):
        yield Stage(record["images"], record["scores"].get(label), backbone, last=False)
    backbone.encoder.load_state_dict(last)
    pretraining = made.get("pretraining", {"n_train": 0, "training": {"epochs": 0}})
    n_images = pretraining["n_train"] * pretraining["training"]["epochs"]
    yield Stage(n_images, made.get("validation_r", {}).get(label), backbone, last=True)


def measure(stage: Stage, images: Probes) -> pd.DataFrame:
    """All measures of a network at one moment.

    Args:
        stage: the network.
        images: from :func:`draw_probes`.

    Returns:
        The table ``rearing_conditions/*.csv`` without seed: the orientation measures; plain numbers
        (component `value`) `colour_contrast` (deg, error for lines of the first tested hue minus
        those of the second), `colour_excess` (the same minus that of the control's hues) and
        `accuracy`; and `colour_error` (deg), whose component is the colour.
    """
    network = stage.backbone
    found = measure_features(lambda pictures: features(network, pictures), images.lines)
    errors = colour_errors(network, images.colours)
    tested, control = (
        float(errors[first] - errors[second])
        for first, second in (images.hues["tested"], images.hues["control"])
    )
    plain = pd.DataFrame(
        {
            "measure": ["colour_contrast", "colour_excess", "accuracy"],
            "component": "value",
            "value": [tested, tested - control, stage.accuracy],
        }
    )
    by_colour = errors.rename_axis("component").reset_index(name="value")
    parts = [found, plain, by_colour.assign(measure="colour_error")]
    return pd.concat(parts, ignore_index=True).assign(epoch=stage.images)
