"""Probe images of an orientation: a line in noise, and noise around one direction.

All are shown behind one smooth disc on mean grey, so that no border has a direction. Orientations
run from the positive x axis towards the positive y axis (down), as those of `lines` do.
"""

import numpy as np
from scipy import fft

from patchwork.stimuli import lines, views
from patchwork.stimuli.common import noise, palettes, rng
from patchwork.stimuli.common.batch import Batch

MEAN_LEVEL = 127.5
# The contrast and the disc of the views that networks are pre-trained on.
RMS_LEVELS = views.CONTRAST * 255

# ASSUME: 3/8 of the side, 1/24 wide, as strong as 1.5 sd of the noise: readers of small networks
# then err by 10 to 25 deg, neither at floor nor at chance (45 deg).
LINE_LENGTH, LINE_WIDTH, _LINE_LEVELS = 3 / 8, 1 / 24, 1.5 * RMS_LEVELS
# All middles keep the whole line within this radius, where the disc hides next to nothing.
_DISC_INNER = 0.445
# ASSUME: eight cycles per side, one in the 8 px of a patch at 64 px, and a sigma of .35 in natural
# logarithms (about an octave at half height): where orientation is neither trivial nor lost.
_CYCLES_PER_IMAGE, _SIGMA_LOG_FREQUENCY = 8.0, 0.35
# ASSUME: concentration 4 of the doubled angle: energy halves 17 deg away from the orientation.
_CONCENTRATION = 4.0

# Streams of one image: what is drawn, and in what noise.
_GEOMETRY, _PIXELS = 0, 1


def _orientations(given: np.ndarray | float, indices: np.ndarray) -> np.ndarray:
    """The given orientations, one for all or one each, 0 to 180."""
    return np.broadcast_to(np.mod(np.asarray(given, float), 180.0), indices.shape).copy()


def _as_pictures(levels: np.ndarray) -> np.ndarray:
    """Levels about mean grey as uint8 with three channels; grey ones share memory, read-only."""
    pictures = np.clip(np.rint(MEAN_LEVEL + levels), 0, 255).astype(np.uint8)
    return np.broadcast_to(pictures, (*pictures.shape[:3], 3))


def contrast(rgb: np.ndarray) -> np.ndarray:
    """Direction of a colour from mean grey, with the energy of white.

    Args:
        rgb: shape (..., 3), levels 0 to 255, none mean grey.

    Returns:
        shape (..., 3): root mean square 1, so that every colour is as strong as white in noise
        that is equal and independent in each channel.
    """
    # ASSUME: equal energy, so that colours differ by their hue, not by their contrast.
    apart = (np.asarray(rgb, dtype=np.float64) - MEAN_LEVEL) / MEAN_LEVEL
    return apart / np.sqrt(np.mean(apart**2, axis=-1, keepdims=True))


def noisy_lines(
    *,
    image_px: int,
    seed: int,
    indices: range | np.ndarray,
    orientation_deg: np.ndarray | float,
    colour: str | None = None,
) -> Batch:
    """One anti-aliased line in strong pixel noise behind the disc, anywhere that it fits.

    Args:
        image_px: height and width, 16 to 1024.
        seed: 0 to 2**64 - 1.
        indices: image numbers, shape (n,).
        orientation_deg: one for all or one each.
        colour: a name of `palettes.BASIC11`, in noise that is independent in each channel; None:
            a light line in grey noise.

    Returns:
        Images of shape (n, image_px, image_px, 3), uint8 (read-only where grey), and the label
        `orientation_deg`.
    """
    disc, numbers = views.disc(image_px), np.asarray(indices, dtype=np.uint64)
    orientation = _orientations(orientation_deg, numbers)
    place = rng.uniforms(seed, numbers, 3, _GEOMETRY).T[1:]
    starts, ends = _ends(image_px, np.deg2rad(orientation), place)
    channels = np.ones(1) if colour is None else contrast(np.array(palettes.BASIC11[colour]))
    images = np.empty((len(numbers), image_px, image_px, len(channels)), dtype=np.float32)
    width, draw = max(1, round(LINE_WIDTH * image_px)), lines.RASTERISERS["antialiased"]
    for i, index in enumerate(numbers):
        line = draw(image_px, starts[i], ends[i], width)[..., None] * (_LINE_LEVELS / 255)
        images[i] = line * channels + RMS_LEVELS * _normal(seed, int(index), images[i].shape)
    return Batch(_as_pictures(images * disc[..., None]), {"orientation_deg": orientation})


def _ends(size: int, angle: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends (n, 2) as x, y of lines whose middles are uniform in the disc where all of them fit."""
    half = LINE_LENGTH * size / 2
    radius = (_DISC_INNER * size - half) * np.sqrt(place[0])
    bearing = 2 * np.pi * place[1]
    middle = radius[:, None] * np.stack([np.cos(bearing), np.sin(bearing)], 1) + (size - 1) / 2
    reach = half * np.stack([np.cos(angle), np.sin(angle)], 1)
    return middle - reach, middle + reach


def _normal(seed: int, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers of one image."""
    bits = rng.sixteen_bits(rng.stream(seed, index, _PIXELS), int(np.prod(shape)))
    return noise.normal_scores()[bits].reshape(shape)


def _amplitude(image_px: int, canvas: int, angle: float) -> np.ndarray:
    """Spectral amplitude (canvas, canvas // 2 + 1) of noise around an orientation (radians)."""
    x, y = np.meshgrid(fft.rfftfreq(canvas), fft.fftfreq(canvas))
    radius = np.hypot(x, y)
    inside = (radius > 0) & (radius < 0.5)  # beyond, the square lattice prefers its diagonals
    steps = np.log(np.where(inside, radius, 1.0) * image_px / _CYCLES_PER_IMAGE)
    # Amplitude is the root of energy, which is Gaussian per octave: a ring's area grows with its
    # radius squared. A grating's wave vector is at right angles to its stripes.
    fall = np.exp(-0.25 * (steps / _SIGMA_LOG_FREQUENCY) ** 2)
    radial = np.where(inside, fall / np.where(inside, radius, 1.0), 0.0)
    bearing = np.arctan2(y, x)
    apart = np.cos(2 * (bearing - angle - np.pi / 2))
    return radial * np.exp(0.5 * _CONCENTRATION * (apart - 1))


def band_pass_noise(
    *,
    image_px: int,
    seed: int,
    indices: range | np.ndarray,
    orientation_deg: np.ndarray | float,
) -> Batch:
    """Noise filtered around an orientation and a spatial frequency, behind the disc.

    Energy is von Mises in orientation and log-Gaussian in spatial frequency. Each picture has zero
    mean and the same root mean square inside the disc, whatever its orientation. It is cut from a
    canvas of twice its size, so that nothing repeats at its borders.

    Args:
        image_px: height and width, 16 to 1024.
        seed: 0 to 2**64 - 1.
        indices: image numbers, shape (n,).
        orientation_deg: of the stripes; one for all or one each.

    Returns:
        Images of shape (n, image_px, image_px, 3), uint8, read-only, and the label
        `orientation_deg`.
    """
    disc, numbers = views.disc(image_px), np.asarray(indices, dtype=np.uint64)
    orientation = _orientations(orientation_deg, numbers)
    angle, canvas = np.deg2rad(orientation), 2 * image_px
    weight = disc / disc.sum()
    levels = np.empty((len(numbers), image_px, image_px, 1), dtype=np.float32)
    for i, index in enumerate(numbers):
        white = fft.rfft2(_normal(seed, int(index), (canvas, canvas)))
        filtered = white * _amplitude(image_px, canvas, angle[i])
        shown = fft.irfft2(filtered, s=(canvas, canvas))[:image_px, :image_px]
        shown = shown - np.sum(weight * shown)
        shown = shown / np.sqrt(np.sum(weight * shown**2))
        levels[i, ..., 0] = RMS_LEVELS * disc * shown
    return Batch(_as_pictures(levels), {"orientation_deg": orientation})
