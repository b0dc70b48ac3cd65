"""Frozen measures of a network's orientation and colour bias on probe images that all share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
from patchwork.stimuli import probes
from patchwork.stimuli.common import palettes
from patchwork.stimuli.common.batch import Batch

READOUTS = ("cls", "mean")
COLUMNS = ("measure", "kind", "component", "orientation_deg", "value")
# Below: information that cannot be told from none; 2**-10 per squared degree is a just noticeable
# difference of 32 deg.
_LEAST_LOG2_INFORMATION = -10.0

Features = Callable[[np.ndarray], dict[str, np.ndarray]]


class Seeing(Protocol):
    """What probes need of a network: a `backbones.Backbone` and a `models.Network` have it."""

    encoder: Any
    mean: Any
    std: Any


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

    n_lines_train: int = 1600
    n_lines_test: int = 1920
    n_noise_train: int = 960
    n_per_orientation: int = 160
    n_orientations: int = 24

    def __post_init__(self) -> None:
        if self.n_orientations < 8 or self.n_orientations % 8:
            raise ValueError(f"n_orientations is {self.n_orientations}; allowed is a multiple of 8")
        for name in ("n_lines_train", "n_lines_test", "n_noise_train", "n_per_orientation"):
            if getattr(self, name) < 8:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is 8 or more")


@dataclass(frozen=True)
class ProbeImages:
    """The images that every network of a comparison sees.

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


def even_orientations(n: int) -> np.ndarray:
    """Orientations, 0 to 180, that fill the half circle evenly however many are taken.

    Args:
        n: how many, 1 or more; multiples of the golden section.
    """
    return 180 * np.mod((np.arange(n) + 0.5) * (np.sqrt(5) - 1) / 2, 1)


def probe_images(
    *, image_px: int, seed: int, sizes: ProbeSizes = ProbeSizes(), turned_deg: float = 0.0
) -> ProbeImages:
    """Draw the probe images once, for many networks.

    Args:
        image_px: side of the images that the networks take.
        seed: of the probes; the same for all conditions that are compared.
        sizes: numbers of images.
        turned_deg: for networks whose patch lattice is turned against the world by this much.

    Returns:
        Images and orientations; grey images share one channel's memory.

    Raises:
        ValueError: if an argument is impossible.
    """
    common: dict[str, Any] = {"image_px": image_px, "seed": seed, "turned_deg": turned_deg}
    step = 180 / sizes.n_orientations
    # Half a step off, so that information between neighbours belongs to 0, step, 2 step, ...
    places = (np.repeat(np.arange(sizes.n_orientations), sizes.n_per_orientation) - 0.5) * step
    ends = np.cumsum([sizes.n_lines_train, sizes.n_lines_test, sizes.n_noise_train, len(places)])
    parts = [
        np.arange(last - n, last) for last, n in zip(ends, np.diff(ends, prepend=0), strict=True)
    ]
    even = [even_orientations(len(part)) for part in parts]
    return ProbeImages(
        probes.noisy_lines(**common, indices=parts[0], orientation_deg=even[0]),
        probes.noisy_lines(**common, indices=parts[1], orientation_deg=even[1]),
        probes.band_pass_noise(**common, indices=parts[2], orientation_deg=even[2]),
        probes.band_pass_noise(**common, indices=parts[3], orientation_deg=places),
        sizes.n_orientations,
    )


@torch.no_grad()
def all_features(
    network: Seeing, images: np.ndarray, batch_size: int = 250
) -> dict[str, np.ndarray]:
    """Final state of the class token and mean of the other tokens, both after the last norm.

    Args:
        network: in eval mode; a backbone, or a network whose adapter is merged.
        images: shape (n, height, width, 3), uint8.
        batch_size: images at once.

    Returns:
        `cls` (if there is such a token) and `mean`, each float64 (n, width).
    """
    encoder: Any = network.encoder
    device = next(iter(encoder.parameters()), torch.empty(0)).device
    mean, std = (
        torch.as_tensor(x, dtype=torch.float32, device=device).reshape(3, 1, 1)
        for x in (network.mean, network.std)
    )
    found: dict[str, list[np.ndarray]] = {name: [] for name in READOUTS}
    for first in range(0, len(images), batch_size):
        part = np.ascontiguousarray(images[first : first + batch_size].transpose(0, 3, 1, 2))
        pixels = torch.tensor(part, device=device).float() / 255
        tokens = encoder.forward_features((pixels - mean) / std).double().cpu().numpy()
        n_prefix = encoder.num_prefix_tokens
        if n_prefix:
            found["cls"].append(tokens[:, 0])
        found["mean"].append(tokens[:, n_prefix:].mean(1))
    return {name: np.concatenate(parts) for name, parts in found.items() if parts}


def features(network: Seeing, images: np.ndarray, readout: str = "cls") -> np.ndarray:
    """One read-out of :func:`all_features`, float64 (n, width).

    Raises:
        ValueError: if the readout is unknown or the network lacks it.
    """
    found = all_features(network, images)
    if readout not in found:
        raise ValueError(f"readout is {readout!r}; allowed is {', '.join(found)}")
    return found[readout]


def measure(
    network: Seeing, *, image_px: int, seed: int, sizes: ProbeSizes = ProbeSizes()
) -> pd.DataFrame:
    """All orientation measures of one network on probes drawn for it.

    Args:
        network: as for :func:`all_features`.
        image_px: side of its images.
        seed: of the probes.
        sizes: numbers of images.

    Returns:
        As :func:`measure_on`.
    """
    return measure_on(network, probe_images(image_px=image_px, seed=seed, sizes=sizes))


def measure_on(network: Seeing, images: ProbeImages) -> pd.DataFrame:
    """All orientation measures of one network on probes that others see too.

    Args:
        network: as for :func:`all_features`.
        images: from :func:`probe_images`.

    Returns:
        As :func:`measure_features`.
    """
    return measure_features(lambda pictures: all_features(network, pictures), images)


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


def measure_features(features_of: Features, images: ProbeImages) -> pd.DataFrame:
    """All orientation measures of any function from images to vectors, such as pixels' energy.

    Args:
        features_of: images to vectors (n, d) by the name of the readout.
        images: from :func:`probe_images`.

    Returns:
        measure, kind, component, orientation_deg, value. Measures, each for every readout:
        `fisher_noise_<readout>` (log2 of information per squared degree),
        `ridge_error_lines_<readout>` and `ridge_error_noise_<readout>` (deg),
        `signed_error_lines_<readout>` and `signed_error_noise_<readout>` (deg, predicted minus
        true). Kind `curve`: one row per orientation, component empty. Kind `component`:
        `mean`, `c4`, `s4`, orientation missing.
    """
    seen = {
        name: (features_of(batch.images), batch.labels["orientation_deg"])
        for name, batch in vars(images).items()
        if isinstance(batch, Batch)
    }
    rows: list[dict[str, Any]] = []
    for readout in seen["lines_test"][0]:
        for what in ("lines", "noise"):
            train, test = seen[f"{what}_train"], seen[f"{what}_test"]
            errors = ridge_readout_errors(train[0][readout], train[1], test[0][readout], test[1])
            for name, values in zip(("ridge", "signed"), errors, strict=True):
                measure_name = f"{name}_error_{what}_{readout}"
                rows += _of_values(measure_name, test[1], values, images.n_orientations)
        vectors, _ = seen["noise_test"]
        rows += _of_information(f"fisher_noise_{readout}", vectors[readout], images.n_orientations)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(measure_name: str, kind: str, component: str, place: float, value: float) -> dict:
    return dict(zip(COLUMNS, (measure_name, kind, component, place, value), strict=True))


def _components(measure_name: str, place: np.ndarray, value: np.ndarray) -> list[dict]:
    cycle = four_cycle(place, value)
    found = {"mean": cycle.mean, "c4": cycle.c4, "s4": cycle.s4}
    return [_row(measure_name, "component", name, np.nan, x) for name, x in found.items()]


def _of_values(measure_name: str, place: np.ndarray, value: np.ndarray, n_bins: int) -> list[dict]:
    """Curve in bins centred on 0, and components of the single values."""
    step = 180 / n_bins
    bins = np.floor(place / step + 0.5).astype(int) % n_bins
    curve = [
        _row(measure_name, "curve", "", i * step, float(value[bins == i].mean()))
        for i in np.unique(bins)
    ]
    return curve + _components(measure_name, place, value)


def _of_information(measure_name: str, vectors: np.ndarray, n: int) -> list[dict]:
    """Information between neighbouring orientations; the blocks run round the half circle."""
    blocks = np.split(vectors, n)
    step = 180 / n
    places = np.arange(n) * step
    information = [
        linear_fisher_information(blocks[i], blocks[(i + 1) % n], step) for i in range(n)
    ]
    values = np.log2(np.maximum(information, 2.0**_LEAST_LOG2_INFORMATION))
    curve = [_row(measure_name, "curve", "", places[i], float(values[i])) for i in range(n)]
    return curve + _components(measure_name, places, values)


@dataclass(frozen=True)
class ColourImages:
    """Lines in each basic colour: `train` over all colours, `test` by colour."""

    train: Batch
    test: dict[str, Batch]


def colour_images(
    *, image_px: int, seed: int, n_train: int = 200, n_test: int = 200
) -> ColourImages:
    """Draw lines of each of the basic colours once, for many networks.

    Test lines of all colours share places, orientations and noise: only the colour differs.

    Args:
        image_px: side of the images.
        seed: of the probes.
        n_train: training lines of each colour, 8 or more.
        n_test: test lines of each colour, 8 or more.
    """
    for name, n in (("n_train", n_train), ("n_test", n_test)):
        if n < 8:
            raise ValueError(f"{name} is {n}; allowed is 8 or more")
    common: dict[str, Any] = {"image_px": image_px, "seed": seed}
    train, test = [], {}
    for i, colour in enumerate(palettes.BASIC11):
        first = n_test + i * n_train
        own = np.arange(first, first + n_train)
        train.append(
            probes.noisy_lines(
                **common, colour=colour, indices=own, orientation_deg=even_orientations(n_train)
            )
        )
        test[colour] = probes.noisy_lines(
            **common,
            colour=colour,
            indices=np.arange(n_test),
            orientation_deg=even_orientations(n_test),
        )
    images = np.concatenate([batch.images for batch in train])
    degrees = np.concatenate([batch.labels["orientation_deg"] for batch in train])
    return ColourImages(Batch(images, {"orientation_deg": degrees}), test)


def colour_errors(network: Seeing, images: ColourImages, *, readout: str = "cls") -> pd.DataFrame:
    """Orientation error of one read-out for lines of each basic colour.

    Args:
        network: as for :func:`all_features`.
        images: from :func:`colour_images`.
        readout: `cls` or `mean`.

    Returns:
        colour, error_deg; one row per colour.
    """
    degrees = images.train.labels["orientation_deg"]
    known = features(network, images.train.images, readout)
    rows = []
    for colour, batch in images.test.items():
        asked = features(network, batch.images, readout)
        error, _ = ridge_readout_errors(known, degrees, asked, batch.labels["orientation_deg"])
        rows.append({"colour": colour, "error_deg": float(error.mean())})
    return pd.DataFrame(rows)


def colour_contrast(errors: pd.DataFrame, bluish: Sequence[str], yellowish: Sequence[str]) -> float:
    """Mean error of bluish minus mean error of yellowish colours.

    Args:
        errors: colour, error_deg.
        bluish: colours of one side.
        yellowish: colours of the other.

    Returns:
        Degrees; above zero: worse for bluish.

    Raises:
        ValueError: if a colour has no error.
    """
    by_name = errors.set_index("colour")["error_deg"]
    for colour in (*bluish, *yellowish):
        if colour not in by_name.index:
            raise ValueError(f"colour {colour!r} is not among errors: {', '.join(by_name.index)}")
    return float(by_name[list(bluish)].mean() - by_name[list(yellowish)].mean())
