"""Ideal observers: what the stimuli and the loss allow at best, with no network.

Two questions. Can the direction of a line be seen at all, and what is the best answer where it
cannot? And how well can the orientation of a line of this colour be seen in this noise?
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from patchwork.analysis.biases import orientation
from patchwork.analysis.predictions import Angle
from patchwork.statistics.metrics import signed_circular_error
from patchwork.stimuli.common.palettes import signal_energy
from patchwork.tables import join, labelled

_STEP_DEG = 0.5
_GRID = np.arange(0, 360, _STEP_DEG)
_OUTPUTS = np.linspace(-1, 1, len(_GRID) + 1)
# Expected losses this close (Huber loss of outputs in -1..1) count as equal: a flat valley.
_SLACK = 1e-9


@dataclass(frozen=True)
class LineGeometry:
    """Where and how long the lines of a dataset may be.

    Attributes:
        image_px: height and width of the image.
        length_px: shortest and longest line, integers, each equally likely.
        width_px: thinnest and thickest line, integers, each equally likely.
        margin: how far start points stay from the border: "length" or "length_and_width".
    """

    image_px: int
    length_px: tuple[int, int]
    width_px: tuple[int, int] = (2, 2)
    margin: str = "length"

    def margin_px(self, length: int, width: int) -> int:
        """Distance in px of the box of start points from the border."""
        return length + width if self.margin == "length_and_width" else length

    def sizes(self) -> list[tuple[int, int]]:
        """All (length, width), equally likely."""
        lengths, widths = (range(lo, hi + 1) for lo, hi in (self.length_px, self.width_px))
        return [(length, width) for length in lengths for width in widths]


def flip_probability(angle_deg: np.ndarray, geometry: LineGeometry) -> np.ndarray:
    """Chance that a line's direction cannot be known from its picture.

    A line and its flip by 180 deg are the same picture. The direction shows only where one end
    lies outside the box that start points come from: then the other end is the start.

    Args:
        angle_deg: shape (n,).
        geometry: of the dataset; length and width are seen, so the box is known.

    Returns:
        shape (n,), 0 to 1: averaged over lengths and widths.
    """
    turn = np.deg2rad(np.asarray(angle_deg, float))
    chances = []
    for length, width in geometry.sizes():
        room = geometry.image_px - 2 * geometry.margin_px(length, width)
        # Whole pixels, as drawn: steps to the end point are truncated.
        x, y = (np.abs(np.trunc(length * f(turn))) for f in (np.cos, np.sin))
        chances.append(np.clip(room - x, 0, None) * np.clip(room - y, 0, None) / room**2)
    return np.mean(chances, axis=0)


def _kernel(noise_sd_deg: float) -> np.ndarray:
    """Row i: probability of each grid angle if grid angle i is seen, wrapped normal."""
    if noise_sd_deg == 0:
        return np.eye(len(_GRID))
    apart = np.mod(_GRID + 180, 360) - 180
    density = sum(stats.norm.pdf(apart + turn * 360, scale=noise_sd_deg) for turn in range(-3, 4))
    row = density / density.sum()
    return np.stack([np.roll(row, i) for i in range(len(_GRID))])


def _best_outputs(posterior: np.ndarray, delta: float, lean: float) -> np.ndarray:
    """Output with the smallest expected Huber loss for each row; of equals, the nearest to lean."""
    apart = np.abs(_OUTPUTS - (_GRID / 180 - 1)[:, None])
    huber = np.where(apart <= delta, apart**2 / 2, delta * (apart - delta / 2))
    losses = posterior @ huber
    equal = losses <= losses.min(1, keepdims=True) + _SLACK
    return _OUTPUTS[np.where(equal, np.abs(_OUTPUTS - lean), np.inf).argmin(1)]


def directed_observer(
    geometry: LineGeometry,
    *,
    origin_deg: float = 0.0,
    delta: float = 0.1,
    noise_sd_deg: float = 0.0,
    lean: float = 0.0,
) -> pd.DataFrame:
    """Bayes-optimal answers to ((angle - origin) mod 360) / 180 - 1 under the Huber loss.

    Where the direction is unknown, two targets one unit apart are equally likely and every output
    between them, `delta` away from both, is equally good.

    Args:
        geometry: of the dataset.
        origin_deg: angle at which the label jumps.
        delta: of the Huber loss, > 0.
        noise_sd_deg: sd of the seen angle about the true one, 0 to 45.
        lean: which of equally good outputs is taken: the one nearest to this, in -1..1.

    Returns:
        angle_deg (0 to 359.5 in steps of 0.5), ambiguous (0 to 1), error_deg (expected circular
        error), signed_error_deg.

    Source: arXiv 2504.09393 (encoding and loss).
    """
    # ASSUME: lean 0, the middle of the range: smooth functions of the picture, constant in the
    # limit, are optimal there. Another choice changes the depth of the V and not its place.
    seen = _kernel(noise_sd_deg)
    flipped = (seen + np.roll(seen, len(_GRID) // 2, axis=1)) / 2
    # The grid is of angles from the label's origin.
    true = np.mod(_GRID + origin_deg, 360)
    chance = flip_probability(true, geometry)
    errors = []
    for posterior in (seen, flipped):
        answers = (_best_outputs(posterior, delta, lean) + 1) * 180
        grid = np.broadcast_to(_GRID[:, None], seen.shape)
        turn = signed_circular_error(np.broadcast_to(answers, seen.shape), grid, 360)
        errors.append([(seen * np.abs(turn)).sum(1), (seen * turn).sum(1)])
    known, unknown = np.array(errors)
    error, signed = (1 - chance) * known + chance * unknown
    table = pd.DataFrame(
        {"angle_deg": true, "ambiguous": chance, "error_deg": error, "signed_error_deg": signed}
    )
    return table.sort_values("angle_deg", ignore_index=True)


def expected_circular_error(sd_deg: np.ndarray, period: float) -> np.ndarray:
    """Mean absolute value of a normal error wrapped round a circle.

    Args:
        sd_deg: shape (...), >= 0; infinity is chance.
        period: degrees after which the angle repeats.

    Returns:
        The same shape, 0 to period / 4.
    """
    # The distance to the nearest multiple of the period is a Fourier series in cosines, and the
    # mean of a cosine of a normal variable is known; odd orders only.
    sd = np.asarray(sd_deg, dtype=np.float64)
    order = np.arange(1, 4001, 2)
    decay = np.exp(-0.5 * (2 * np.pi * order * sd[..., None] / period) ** 2)
    mean = np.maximum(period / 4 - 2 * period / np.pi**2 * (decay / order**2).sum(-1), 0)
    return np.where(sd == 0, 0.0, mean)  # where the series ends too early to vanish


def axial_observer(noise_sd_deg: float = 0.0) -> pd.DataFrame:
    """Bayes-optimal answers to (cos 2 angle, sin 2 angle): no direction to know, no jump.

    Args:
        noise_sd_deg: sd of the seen orientation about the true one, >= 0.

    Returns:
        angle_deg (0 to 179.5 in steps of 0.5), ambiguous (0), error_deg, signed_error_deg (0): the
        same at every angle.
    """
    angle = _GRID[_GRID < 180]
    error = float(expected_circular_error(np.array(noise_sd_deg), 180.0))
    return pd.DataFrame(
        {"angle_deg": angle, "ambiguous": 0.0, "error_deg": error, "signed_error_deg": 0.0}
    )


def observer_curve(table: pd.DataFrame, *, period: float, n_bins: int) -> pd.DataFrame:
    """An observer's table in the bins of `orientation.angle_curve`.

    Args:
        table: as from `directed_observer` or `axial_observer`.
        period: 180 or 360.
        n_bins: bins per period.

    Returns:
        bin_deg, error_deg, signed_error_deg, ambiguous.
    """
    width = period / n_bins
    # On a border between bins an angle counts half for either.
    halves = [table.assign(place=table["angle_deg"] + side * 1e-6) for side in (-1, 1)]
    both = pd.concat(halves)
    number = (np.floor(both["place"] / width + 0.5) % n_bins).astype(int)
    means = both.groupby(number)[["error_deg", "signed_error_deg", "ambiguous"]].mean()
    return means.rename_axis("bin_deg").reset_index().assign(bin_deg=lambda t: t["bin_deg"] * width)


def signal_information(rgb: np.ndarray, noise_sd: float, *, clipped: bool = True) -> float:
    """How far one pixel of a colour stands out from black in noise, all channels together.

    Args:
        rgb: shape (3,), levels 0 to 255.
        noise_sd: sd of the noise in each channel as a fraction of 255, > 0.
        clipped: whether levels are clipped to 0..255 and truncated to whole numbers, as stored
            images are.

    Returns:
        Symmetric Kullback-Leibler divergence, >= 0; without clipping it is energy / noise_sd ** 2,
        the squared d' of signal detection.
    """
    levels = np.asarray(rgb, dtype=np.float64)
    if not clipped:
        return float(signal_energy(levels) / noise_sd**2)
    edges = np.concatenate([[-np.inf], np.arange(1, 256), [np.inf]])
    scaled = (edges - np.append(levels, 0.0)[:, None]) / (255 * noise_sd)
    # Of both tails the one that does not cancel; a floor keeps logarithms finite.
    lower, upper = np.diff(stats.norm.cdf(scaled)), -np.diff(stats.norm.sf(scaled))
    share = np.maximum(np.where(scaled[:, :-1] > 0, upper, lower), 1e-300)
    signal, ground = share[:-1], share[-1:]
    return float(((signal - ground) * np.log(signal / ground)).sum())


def orientation_sensitivity(length_px: float, width_px: float, blur_px: float = 0.5) -> float:
    """Squared change of a line's picture per radian of turn about its middle.

    The Fisher information of the orientation is this times the information of one pixel. Turning
    about the middle leaves the estimates of place, length and width alone, by symmetry.

    Args:
        length_px: > 0.
        width_px: > 0.
        blur_px: sd of the Gaussian that softens the edges, > 0.

    Returns:
        px^2 of signal per rad^2: L^3 / 12 times the integral of the squared slope of the profile.
    """
    # ASSUME: half a pixel of blur for edges drawn on a lattice. It scales all colours alike.
    slope = (1 - np.exp(-(width_px**2) / (4 * blur_px**2))) / (np.sqrt(np.pi) * blur_px)
    return float(length_px**3 / 12 * slope)


def colour_observer(
    colours: Mapping[str, Sequence[int]],
    geometry: LineGeometry,
    *,
    noise_levels: Sequence[float],
    clipped: bool = True,
) -> dict[str, float]:
    """Smallest mean orientation error that each colour allows on black ground.

    The Cramer-Rao bound: it knows where the line is but for small errors, so networks stay far
    above it; what is to be compared is the order of the colours and their ratios.

    Args:
        colours: name to levels 0 to 255.
        geometry: lengths and widths, each equally likely.
        noise_levels: sd as fractions of 255, above 0, each equally likely.
        clipped: as for `signal_information`.

    Returns:
        Name to error in deg, the mean over lengths, widths and noise levels.
    """
    turns = np.array([orientation_sensitivity(*size) for size in geometry.sizes()])

    def bound(rgb: np.ndarray, level: float) -> float:
        information = signal_information(rgb, level, clipped=clipped) * turns
        with np.errstate(divide="ignore"):
            sd = np.rad2deg(1 / np.sqrt(information))
        return float(expected_circular_error(sd, 180.0).mean())

    return {
        name: float(np.mean([bound(np.asarray(rgb), level) for level in noise_levels]))
        for name, rgb in colours.items()
    }


def observer_tables(
    geometries: Mapping[str, LineGeometry],
    protocols: Mapping[str, Mapping],
    angles: Sequence[Angle],
    n_bins: int,
    runs: Collection[tuple[str, str]],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The ideal observer's curve and contrasts for every dataset and protocol that was run.

    Args:
        geometries: dataset to the geometry of its lines.
        protocols: configuration blocks with ``targets``, whose encoding and loss count.
        angles: which predicted angle counts, first match.
        n_bins: bins per period.
        runs: (dataset, protocol) of the study's runs.

    Returns:
        Curves (dataset, protocol, condition, bin_deg, error_deg, signed_error_deg) and contrasts
        (dataset, protocol, quantity, estimate) of `orientation.contrasts_and_place`.
    """
    curves, contrasts = [], []
    for dataset, geometry in geometries.items():
        for protocol, (angle, origin, delta) in _encodings(protocols, angles).items():
            if (dataset, protocol) not in runs:
                continue
            names = {"dataset": dataset, "protocol": protocol}
            if angle.period == 180:
                table = axial_observer()
            else:
                table = directed_observer(geometry, origin_deg=origin, delta=delta)
            curve = observer_curve(table, period=angle.period, n_bins=n_bins)
            curves.append(labelled(curve.assign(condition="ideal observer"), names))
            # Values are exact: the intervals are left out.
            found = orientation.contrasts_and_place(table.assign(seed=0), angle.period)
            contrasts.append(labelled(found[["quantity", "estimate"]], names))
    return join(curves), join(contrasts)


def _encodings(
    protocols: Mapping[str, Mapping], angles: Sequence[Angle]
) -> dict[str, tuple[Angle, float, float]]:
    """Angle, origin of its label and delta of its loss for each protocol that predicts one."""
    return {
        name: (angle, target.get("origin", 0.0), target.get("delta", 1.0))
        for name, protocol in protocols.items()
        for target in protocol["targets"].values()
        for angle in angles
        if angle.label in target["labels"]
    }
