"""Chirps in noise as spectrograms: bare data areas, or figures with axes, title and colour bar.

Source: arXiv 2503.22713.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from patchwork.stimuli import spectrograms
from patchwork.stimuli.chirp_figure.names import REGION, REGIONS
from patchwork.stimuli.common import rng
from patchwork.stimuli.common.batch import Batch, LabelAttributes
from patchwork.stimuli.common.validation import read_settings
from patchwork.stimuli.spectrograms import DURATION_S, FREQUENCY_MAX_HZ, GRID, SWEEPS, Chirp

__all__ = [
    "DURATION_S",
    "FREQUENCY_MAX_HZ",
    "GRID",
    "REGIONS",
    "SIGNALS",
    "SWEEPS",
    "arrays",
    "generate",
    "label_attributes",
    "read_pixels",
]

SIGNALS = ("ridge", "waveform")
PRESENCE = ("absent", "present")
# Parameters and noise draw from streams of their own, and every image draws all parameters: one
# setting changed leaves the rest of each image as it was.
_PARAMETERS, _NOISE = 0, 1

# Source: arXiv 2503.22713.
_START_S = (0.0, 45.0)
_DURATION_S = (1.0, 15.0)
_STEP_HZ = (-30.0, 30.0)
_NOISE_SD = (0.09, 0.3)


@dataclass(frozen=True)
class ChirpSettings:
    """Settings of a chirp dataset.

    Attributes:
        image_px: height and width, 16 to 1024.
        signal: "ridge" for a drawn ridge in Gaussian noise, "waveform" for the short-time Fourier
            transform of a chirp in 1/f noise.
        rendering: "plain" for the bare data area, "decorated" for the published figure.
        titled: whether figures carry their title, which names the sweep; False for "plain", and
            where some images have no chirp, which a title would give away.
        presence_probability: share of images with a chirp, 0 to 1.
        snr_db: for "waveform", and required there: least and greatest power of the chirp over that
            of the noise from 0 to 100 Hz, -60 to 60 dB, each equally likely.
        sweeps: some of `SWEEPS`, each equally likely; "curved" for "waveform" only.
    """

    image_px: int
    signal: str
    rendering: str = "plain"
    titled: bool = False
    presence_probability: float = 1.0
    snr_db: tuple[float, float] | None = None
    sweeps: tuple[str, ...] = ("linear", "exponential")


@dataclass(frozen=True)
class _Drawn:
    """Parameters of each image, all of shape (n,); `level` is noise_sd or snr_db."""

    start_s: np.ndarray
    duration_s: np.ndarray
    start_hz: np.ndarray
    end_hz: np.ndarray
    sweep: np.ndarray
    present: np.ndarray
    level: np.ndarray
    start_cycles: np.ndarray

    def chirp(self, i: int) -> Chirp | None:
        """The chirp of image i, if it has one."""
        if not self.present[i]:
            return None
        return Chirp(
            start_s=float(self.start_s[i]),
            duration_s=float(self.duration_s[i]),
            start_hz=float(self.start_hz[i]),
            end_hz=float(self.end_hz[i]),
            sweep=SWEEPS[self.sweep[i]],
        )


def parse_settings(settings: Mapping[str, object]) -> ChirpSettings:
    """Settings of a chirp dataset.

    Args:
        settings: plain mapping with the keys of `ChirpSettings`, of which `image_px` and `signal`
            are required, and `snr_db`, a mapping {min, max}, with signal "waveform".

    Returns:
        The same settings, typed.

    Raises:
        ValueError: one line that names a key that is unknown or missing, or what does not go
            together.
    """
    parsed = read_settings(ChirpSettings, settings)
    if parsed.signal == "waveform" and parsed.snr_db is None:
        raise ValueError("snr_db is missing; required with signal 'waveform'")
    if parsed.signal == "ridge" and parsed.snr_db is not None:
        raise ValueError("snr_db is given with signal 'ridge'; allowed with: waveform")
    if parsed.signal == "ridge" and "curved" in parsed.sweeps:
        raise ValueError("sweeps has curved with signal 'ridge'; allowed with: waveform")
    if parsed.titled and parsed.rendering == "plain":
        raise ValueError("titled is True with rendering 'plain'; allowed with: decorated")
    if parsed.titled and parsed.presence_probability < 1:
        share = parsed.presence_probability
        raise ValueError(f"titled is True with presence_probability {share:g}; allowed with: 1")
    return parsed


def _between(draws: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return limits[0] + draws * (limits[1] - limits[0])


def _draw(settings: ChirpSettings, seed: int, indices: np.ndarray) -> _Drawn:
    """Draws the parameters of each image, in a fixed order, from its own stream."""
    draws = rng.uniforms(seed, indices, 8, _PARAMETERS).T
    numbers = np.array([SWEEPS.index(sweep) for sweep in settings.sweeps])
    start_hz = FREQUENCY_MAX_HZ * draws[2]
    return _Drawn(
        start_s=_between(draws[0], _START_S),
        duration_s=_between(draws[1], _DURATION_S),
        start_hz=start_hz,
        end_hz=np.clip(start_hz + _between(draws[3], _STEP_HZ), 0, FREQUENCY_MAX_HZ),
        sweep=numbers[rng.uniform_integers(draws[4], 0, len(numbers) - 1)],
        present=(draws[5] < settings.presence_probability).astype(np.int64),
        level=_between(draws[6], settings.snr_db or _NOISE_SD),
        start_cycles=draws[7],
    )


def _array(settings: ChirpSettings, drawn: _Drawn, i: int, seed: int, index: int) -> np.ndarray:
    """Spectrogram of image i of the drawn, which has this index in its dataset."""
    bits = rng.stream(seed, index, _NOISE)
    chirp, level = drawn.chirp(i), float(drawn.level[i])
    if settings.signal == "ridge":
        return spectrograms.ridge(chirp, level, rng.sixteen_bits(bits, spectrograms.N_RIDGE_BITS))
    phase = float(drawn.start_cycles[i])
    noise = rng.sixteen_bits(bits, spectrograms.N_WAVEFORM_BITS)
    return spectrograms.waveform(chirp, level, phase, noise)


def arrays(settings: Mapping[str, object], *, seed: int, indices: range | np.ndarray) -> np.ndarray:
    """The spectrograms behind the images of `generate`, before colours.

    Args:
        settings: see `parse_settings`.
        seed: 0 to 2**64 - 1.
        indices: image numbers, shape (n,), in any order.

    Returns:
        shape (n, 128, 128), float32: rows are bands of 100 / 128 Hz, ascending, columns spans of
        60 / 128 s. Ridges in units of the ridge's peak before smoothing, waveforms in dB.

    Raises:
        ValueError: if the settings or the seed are impossible.
    """
    parsed = parse_settings(settings)
    numbers = np.asarray(indices, dtype=np.uint64)
    drawn = _draw(parsed, seed, numbers)
    out = np.empty((len(numbers), GRID, GRID), dtype=np.float32)
    for i, index in enumerate(numbers):
        out[i] = _array(parsed, drawn, i, seed, int(index))
    return out


def _chirp_mask(settings: ChirpSettings, chirp: Chirp | None) -> np.ndarray:
    if chirp is None:
        return np.zeros((GRID, GRID), dtype=bool)
    return spectrograms.ridge_mask(chirp, smeared=settings.signal == "waveform")


def _plain(array: np.ndarray, mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture and regions of a bare data area, time to the right and frequency up."""
    colours = spectrograms.colour_table()[spectrograms.colour_indices(array[::-1])]
    picture = Image.fromarray(colours).resize((size, size), Image.Resampling.BILINEAR)
    cells = ((np.arange(size) + 0.5) * GRID / size).astype(np.int64)
    regions = np.where(mask[::-1], REGION["chirp"], REGION["background"])
    return np.asarray(picture), regions[np.ix_(cells, cells)]


def _decorated(
    size: int, array: np.ndarray, mask: np.ndarray, words: str | None, index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Picture and regions of a figure, with these words and the image's number as its title."""
    # Matplotlib is imported where figures are drawn.
    from patchwork.stimuli.chirp_figure.frames import Caption, frames

    caption = None if words is None else Caption(words, index)
    drawn = frames(size, size)
    return drawn.picture(array, caption), drawn.regions(array, mask, caption)


def read_pixels(settings: Mapping[str, object], images: np.ndarray) -> np.ndarray:
    """The spectrograms that pictures show, from their colours alone.

    Args:
        settings: see `parse_settings`.
        images: as `generate` draws them, uint8, shape (n, image_px, image_px, 3).

    Returns:
        shape (n, rows, columns), float32, 0 to 1: entry of the colour map nearest to each pixel of
        the data area, over the greatest; rows are frequencies, ascending. Figures that are
        decorated are cut to their data area.
    """
    parsed = parse_settings(settings)
    if parsed.rendering == "decorated":
        from patchwork.stimuli.chirp_figure.frames import frames

        images = images[:, *frames(parsed.image_px, parsed.image_px).data]
    entries = spectrograms.nearest_entries()[tuple(np.moveaxis(images >> 2, -1, 0))]
    return (entries[:, ::-1] / np.float32(255)).astype(np.float32)


def _labels(settings: ChirpSettings, drawn: _Drawn) -> dict[str, np.ndarray]:
    present = drawn.present == 1
    hidden = {
        name: np.where(present, getattr(drawn, name), np.nan)
        for name in ("start_s", "duration_s", "start_hz", "end_hz")
    }
    if settings.signal == "ridge":
        hidden["noise_sd"] = drawn.level
    else:
        hidden["snr_db"] = np.where(present, drawn.level, np.nan)
    return {**hidden, "sweep": drawn.sweep, "present": drawn.present}


def generate(settings: Mapping[str, object], *, seed: int, indices: range | np.ndarray) -> Batch:
    """Draws spectrograms; each depends on the settings, the seed and its own index alone.

    Args:
        settings: see `parse_settings`.
        seed: 0 to 2**64 - 1.
        indices: image numbers, shape (n,), each 0 to 2**64 - 1, in any order.

    Returns:
        Images of shape (n, image_px, image_px, 3), the labels of `label_attributes`, and as extra
        `regions` the index in `REGIONS` of each pixel, shape (n, image_px, image_px, 1). What an
        image without chirp lacks is NaN; its sweep is the one that it would have had.

    Raises:
        ValueError: if the settings or the seed are impossible.

    Source: arXiv 2503.22713.
    """
    parsed = parse_settings(settings)
    numbers, size = np.asarray(indices, dtype=np.uint64), parsed.image_px
    drawn = _draw(parsed, seed, numbers)
    images = np.empty((len(numbers), size, size, 3), dtype=np.uint8)
    regions = np.empty((len(numbers), size, size, 1), dtype=np.uint8)
    for i, index in enumerate(numbers):
        array = _array(parsed, drawn, i, seed, int(index))
        mask = _chirp_mask(parsed, drawn.chirp(i))
        if parsed.rendering == "plain":
            images[i], regions[i, ..., 0] = _plain(array, mask, size)
        else:
            words = f"{SWEEPS[drawn.sweep[i]]} chirp" if parsed.titled else None
            images[i], regions[i, ..., 0] = _decorated(size, array, mask, words, int(index))
    return Batch(images=images, labels=_labels(parsed, drawn), extras={"regions": regions})


def label_attributes(settings: Mapping[str, object]) -> dict[str, LabelAttributes]:
    """Unit and range of each label under these settings.

    Args:
        settings: see `parse_settings`.

    Returns:
        Label name to unit and range; `sweep` and `present` carry the names of their indices.

    Raises:
        ValueError: if the settings are impossible.
    """
    snr_db = parse_settings(settings).snr_db
    if snr_db is None:
        level = {"noise_sd": LabelAttributes("fraction", *_NOISE_SD)}
    else:
        level = {"snr_db": LabelAttributes("dB", float(snr_db[0]), float(snr_db[1]))}
    return {
        "start_s": LabelAttributes("s", *_START_S),
        "duration_s": LabelAttributes("s", *_DURATION_S),
        "start_hz": LabelAttributes("Hz", 0, FREQUENCY_MAX_HZ),
        "end_hz": LabelAttributes("Hz", 0, FREQUENCY_MAX_HZ),
        **level,
        "sweep": LabelAttributes("index", 0, len(SWEEPS) - 1, SWEEPS),
        "present": LabelAttributes("index", 0, 1, PRESENCE),
    }
