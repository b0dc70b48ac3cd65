"""Windows of recordings as the pictures that a network was trained on."""

import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from PIL import Image
from scipy import fft, interpolate, signal, stats

from patchwork.recordings.channels import FULL_RATE_HZ, top_hz
from patchwork.recordings.readers import Recording, Signals
from patchwork.stimuli import spectrograms
from patchwork.stimuli.spectrograms import COLUMN_S, DURATION_S, GRID

# Read on either side of a window, so that its outermost columns are full and no filter's edge
# shows.
MARGIN_S = 4.0
# ASSUME: drift slower than this is no part of the picture. Training noise is flat below 0.5 Hz; a
# filter there would darken the lowest rows, and with them the whole scale of colours.
DRIFT_HZ = 0.1
# ASSUME: mains keep to their frequency within a quarter of this; a row is 1.5 Hz wide.
LINE_HZ = 0.2


def spectrogram(
    samples: np.ndarray, rate_hz: float, margin: int, beyond: tuple[int, int] = (0, 0),
    mains_hz: Sequence[float] = (),
) -> np.ndarray | None:  # fmt: skip
    """The time-frequency array of a window, through the transform that made the training data.

    Args:
        samples: shape (n,), any unit: the window with margins of this many samples on both sides.
        rate_hz: sampling rate; below `FULL_RATE_HZ` noise takes the place of the frequencies that
            it cannot hold, see `with_upper_band`.
        margin: samples before the window, about `MARGIN_S`.
        beyond: samples that are missing before and after, because the recording ends; they are
            mirrored.
        mains_hz: frequencies of steady noise to take out; those that the rate cannot hold are not
            there.

    Returns:
        shape (128, 128), float32, dB, frequency upwards; None where the window lacks data: a sample
        that is not finite, or a flat second.
    """
    if not np.isfinite(samples).all():
        return None
    second = int(rate_hz)
    if (np.ptp(samples[: len(samples) // second * second].reshape(-1, second), axis=1) == 0).any():
        return None
    level = samples - slow_part(samples, rate_hz)
    for hz in mains_hz:
        if hz < rate_hz / 2:
            level = level - slow_part(level, rate_hz, hz)
    level = np.pad(level, beyond, mode="reflect")
    ratio = Fraction(spectrograms.SAMPLE_RATE_HZ / rate_hz).limit_denominator(20_000)
    even = signal.resample_poly(level, ratio.numerator, ratio.denominator, padtype="line")
    if rate_hz < FULL_RATE_HZ:
        even = with_upper_band(even, top_hz(rate_hz))
    first = round(margin * ratio) + spectrograms.HOP_SAMPLES // 2
    density = spectrograms.transform().spectrogram(even, p0=0, p1=GRID, k_offset=first)
    return (10 * np.log10(density[1 : 2 * GRID : 2])).astype(np.float32)


def slow_part(samples: np.ndarray, rate_hz: float, hz: float = 0.0) -> np.ndarray:
    """What lies next to a frequency: drift up to `DRIFT_HZ`, or mains noise within `LINE_HZ`.

    The signal is turned back by that frequency and filtered by a Butterworth filter of second
    order, there and back, which runs over means of one second: those hold nothing of mains noise if
    the frequency is zero. Over the samples it would start from the outermost one, take the crest of
    a wave of 50 Hz for an offset, and need seconds to forget it.

    Args:
        samples: shape (n,), finite, 3 s or more.
        rate_hz: sampling rate.
        hz: frequency of the mains; 0 for drift.

    Returns:
        shape (n,).
    """
    second = round(rate_hz)
    n = len(samples) // second
    numbers = np.arange(len(samples))
    turn = np.exp(2j * np.pi * hz / rate_hz * numbers) if hz else np.ones(len(samples))
    turned = samples * turn.conj()
    means = turned[: n * second].reshape(n, second).mean(axis=1)
    low_pass = signal.butter(2, LINE_HZ if hz else DRIFT_HZ, fs=rate_hz / second, output="sos")
    slow = signal.sosfiltfilt(low_pass, means, padlen=min(n - 1, 30))
    middles = (np.arange(n) + 0.5) * second - 0.5
    found = (interpolate.CubicSpline(middles, slow)(numbers) * turn).real
    return 2 * found if hz else found


def with_upper_band(samples: np.ndarray, band_hz: float) -> np.ndarray:
    """A slowly sampled signal with noise above its band, so that it looks like the training data.

    The noise goes on as a power of frequency, as steeply as the upper half of the band does.

    Args:
        samples: shape (n,), at the rate of the transform.
        band_hz: up to which they hold a signal.

    Returns:
        shape (n,).
    """
    rate_hz = spectrograms.SAMPLE_RATE_HZ
    hz, density = signal.welch(samples, rate_hz, nperseg=512, average="median")
    fitted = (hz >= band_hz / 2) & (hz <= band_hz)
    # Lines of mains noise are outliers, and do not move this fit.
    slope, intercept, *_ = stats.theilslopes(np.log(density[fitted]), np.log(hz[fitted]))
    n = len(samples)
    above = fft.rfftfreq(n, 1 / rate_hz)
    above = np.where(above > band_hz, above, np.inf)
    # ASSUME: never rising, for a filter that cuts the top of the band would else be continued.
    exponent = min(slope, 0.0)
    level = np.exp(intercept + (slope - exponent) * np.log(band_hz)) * above**exponent
    level[np.isinf(above)] = 0.0
    # Its own for each window, and the same in each run.
    rng = np.random.Generator(np.random.Philox(zlib.crc32(samples.tobytes())))
    waves = rng.standard_normal((2, len(above))) * np.sqrt(level * rate_hz * n / 4)
    held = np.where(np.isinf(above), fft.rfft(samples), 0)
    return fft.irfft(held + waves[0] + 1j * waves[1], n)


def arrays(
    recording: Recording, start_s: float, mains_hz: Sequence[float] = ()
) -> Iterator[tuple[str, np.ndarray | None]]:
    """Each channel's array of one window, (128, 128) float32, or None where data lack."""
    if not isinstance(recording, Signals):
        held = whole_columns(start_s, recording.duration_s, 0.0)
        for name, array in recording.read(start_s, start_s + DURATION_S):
            yield name, pad_columns(array, held) if np.isfinite(array).all() else None
        return
    held = whole_columns(start_s, recording.duration_s, spectrograms.WINDOW_SAMPLES)
    begin = max(0.0, start_s - MARGIN_S)
    for name, samples in recording.read(begin, start_s + DURATION_S + MARGIN_S):
        rate = recording.rates_hz[name]
        margin = round(MARGIN_S * rate)
        before = max(0, margin - round(start_s * rate))
        after = max(0, round(DURATION_S * rate) + 2 * margin - before - len(samples))
        picture = spectrogram(samples, rate, margin, (before, after), mains_hz)
        yield name, None if picture is None else pad_columns(picture, held)


def whole_columns(start_s: float, duration_s: float, samples: float) -> np.ndarray:
    """Columns of a window that hold nothing but recording.

    Args:
        start_s: start of the window, seconds.
        duration_s: length of the recording, seconds.
        samples: that a column sees, at the rate of the transform.

    Returns:
        shape (128,), bool.
    """
    middles = start_s + (np.arange(GRID) + 0.5) * COLUMN_S
    # A column of a folder of arrays is whole if its middle is.
    reach = samples / spectrograms.SAMPLE_RATE_HZ / 2
    return (middles - reach >= 0) & (middles + reach <= duration_s)


def pad_columns(array: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Where a recording ends within a window, noise like that of the rest goes on.

    Each value is drawn from those of its row, so that a row keeps its level, no chirp goes on, and
    no seam of the mirrored signal shows.

    Args:
        array: shape (128, columns), any number of columns from the first.
        held: shape (128,), bool: columns that are data; the others are replaced.

    Returns:
        shape (128, 128), float32.
    """
    filled = np.empty((GRID, GRID), np.float32)
    known = array[:, np.flatnonzero(held)]
    filled[:, held] = known
    # The seed is a constant: one recording gives one result.
    rng = np.random.Generator(np.random.Philox(0))
    drawn = rng.integers(known.shape[1], size=(GRID, int((~held).sum())))
    filled[:, ~held] = np.take_along_axis(known, drawn, axis=1)
    return filled


def render(array: np.ndarray, image_px: int) -> np.ndarray:
    """The picture of an array as the chirp generator renders it plainly.

    Args:
        array: shape (128, 128), float32, frequency upwards.
        image_px: side.

    Returns:
        shape (image_px, image_px, 3), uint8, frequency from the bottom up.
    """
    colours = spectrograms.colour_table()[spectrograms.colour_indices(array[::-1])]
    size = (image_px, image_px)
    return np.asarray(Image.fromarray(colours).resize(size, Image.Resampling.BILINEAR))
