"""Chirps as time-frequency arrays: drawn as a ridge, or measured from a signal.

Rows of an array are frequencies, ascending, columns are times. Row k is the band around
(k + 0.5) * `ROW_HZ`, column j for the span around (j + 0.5) * `COLUMN_S`, so that an array drawn
over axes of 0 to 60 s and 0 to 100 Hz has each value at its own time and frequency.

Source: arXiv 2503.22713.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from patchwork.stimuli.common.noise import normal_scores

if TYPE_CHECKING:
    from scipy.signal import ShortTimeFFT

DURATION_S = 60.0
FREQUENCY_MAX_HZ = 100.0
GRID = 128
COLUMN_S = DURATION_S / GRID
ROW_HZ = FREQUENCY_MAX_HZ / GRID
SWEEPS = ("linear", "exponential", "curved")

# ASSUME: an exponential sweep cannot pass through zero; ends below half a row, which no array can
# tell from zero, are drawn as half a row. Labels keep the end that was asked for.
EXPONENTIAL_FLOOR_HZ = ROW_HZ / 2
RIDGE_HALF_WIDTH = 2
_SMOOTHING_SD = 1.0

# How signals become arrays. 128 hops of 141 samples make 60 s, and every odd bin of a transform of
# 770 points lies within 0.01 Hz of the middle of a row.
# ASSUME: a Hann window of one second: two hops long, and 2 Hz or 2.5 rows wide.
HOP_SAMPLES, FFT_POINTS, WINDOW_SAMPLES = 141, 770, 301
SAMPLE_RATE_HZ = HOP_SAMPLES / COLUMN_S
WINDOW, SCALING = "hann", "psd"
# Noise is a little longer than 60 s, so that the outermost windows are full; its length suits the
# Fourier transform.
_SIGNAL_SAMPLES = 18432
_LEAD_SAMPLES = (_SIGNAL_SAMPLES - GRID * HOP_SAMPLES) // 2
# The first window has its middle half a hop after time 0.
_FIRST_WINDOW = _LEAD_SAMPLES + HOP_SAMPLES // 2 - WINDOW_SAMPLES // 2
# ASSUME: noise is flat below 0.5 Hz, the usual high-pass of an EEG amplifier.
_NOISE_CORNER_HZ = 0.5

N_RIDGE_BITS, N_WAVEFORM_BITS = GRID * GRID, _SIGNAL_SAMPLES


@dataclass(frozen=True)
class Chirp:
    """One chirp.

    Attributes:
        start_s: first moment, in s.
        duration_s: length in s, above 0.
        start_hz: frequency at the first moment, 0 to 100 Hz.
        end_hz: frequency at the last moment, 0 to 100 Hz.
        sweep: one of `SWEEPS`; "curved" changes its frequency with the square of time.
    """

    start_s: float
    duration_s: float
    start_hz: float
    end_hz: float
    sweep: str

    def _exponent(self) -> tuple[float, float]:
        """Start of an exponential sweep in Hz, and the logarithm of end over start."""
        low, high = (max(hz, EXPONENTIAL_FLOOR_HZ) for hz in (self.start_hz, self.end_hz))
        return low, float(np.log(high / low))

    def frequency_hz(self, time_s: np.ndarray) -> np.ndarray:
        """Instantaneous frequency at times within the chirp.

        Args:
            time_s: any shape, in s.

        Returns:
            The same shape, in Hz.
        """
        share = (time_s - self.start_s) / self.duration_s
        if self.sweep == "exponential":
            low, logarithm = self._exponent()
            return low * np.exp(logarithm * share)
        power = 2 if self.sweep == "curved" else 1
        return self.start_hz + (self.end_hz - self.start_hz) * share**power

    def cycles(self, time_s: np.ndarray) -> np.ndarray:
        """Cycles since the start: the integral of `frequency_hz`.

        Args:
            time_s: any shape, in s.

        Returns:
            The same shape, in cycles.
        """
        share = (time_s - self.start_s) / self.duration_s
        if self.sweep == "exponential":
            low, logarithm = self._exponent()
            # Equal ends: the limit, a steady tone.
            steps = np.expm1(logarithm * share) / logarithm if logarithm else share
            return self.duration_s * low * steps
        power = 2 if self.sweep == "curved" else 1
        bend = (self.end_hz - self.start_hz) * share**power / (power + 1)
        return self.duration_s * share * (self.start_hz + bend)

    def columns(self) -> np.ndarray:
        """Columns whose middle lies within the chirp, ascending."""
        middles = (np.arange(GRID) + 0.5) * COLUMN_S
        inside = (middles >= self.start_s) & (middles <= self.start_s + self.duration_s)
        return np.flatnonzero(inside)


def ridge_mask(chirp: Chirp, *, smeared: bool) -> np.ndarray:
    """Cells that a chirp covers: its row in each of its columns, and two rows to either side.

    Two rows are 1.56 Hz, so the band is 3.9 Hz wide: the five bins that a ridge is drawn in.

    Args:
        chirp: the chirp.
        smeared: whether a column holds all frequencies of its span, as a measured one does, or
            that of its middle alone, as a drawn one does.

    Returns:
        shape (128, 128), bool.
    """
    columns = chirp.columns()
    reach = COLUMN_S / 2 if smeared else 0.0
    edges = (columns + 0.5) * COLUMN_S + np.array([[-reach], [reach]])
    edges = np.clip(edges, chirp.start_s, chirp.start_s + chirp.duration_s)
    rows = np.rint(chirp.frequency_hz(edges) / ROW_HZ - 0.5)
    low, high = rows.min(axis=0) - RIDGE_HALF_WIDTH, rows.max(axis=0) + RIDGE_HALF_WIDTH
    mask = np.zeros((GRID, GRID), dtype=bool)
    numbers = np.arange(GRID)[:, None]
    mask[:, columns] = (numbers >= low) & (numbers <= high)
    return mask


def ridge_weights(chirp: Chirp) -> np.ndarray:
    """Gaussian weight exp(-(f - f0)^2) in the five rows nearest to f0, in each column.

    Args:
        chirp: the chirp.

    Returns:
        shape (128, 128), float32, 0 to 1.
    """
    # ASSUME: f and f0 count rows, and f0 need not be whole: in Hz, the ridge of a chirp that lies
    # between two rows would be dimmer than that of one on a row.
    columns = chirp.columns()
    place = chirp.frequency_hz((columns + 0.5) * COLUMN_S) / ROW_HZ - 0.5
    offsets = np.arange(-RIDGE_HALF_WIDTH, RIDGE_HALF_WIDTH + 1)[:, None]
    rows = np.rint(place).astype(np.int64) + offsets
    weights = np.exp(-((rows - place) ** 2)).astype(np.float32)
    inside = (rows >= 0) & (rows < GRID)
    array = np.zeros((GRID, GRID), dtype=np.float32)
    array[rows[inside], np.broadcast_to(columns, rows.shape)[inside]] = weights[inside]
    return array


def ridge(chirp: Chirp | None, noise_sd: float, bits: np.ndarray) -> np.ndarray:
    """A ridge in Gaussian noise, smoothed.

    Args:
        chirp: what is drawn, or None for noise alone.
        noise_sd: standard deviation before smoothing, in units of the ridge's peak.
        bits: shape (`N_RIDGE_BITS`,), uint16: the noise.

    Returns:
        shape (128, 128), float32.

    Source: arXiv 2503.22713.
    """
    # Here and below, libraries are imported where arrays are drawn: checks of settings draw none.
    from scipy import ndimage

    array = np.float32(noise_sd) * np.take(normal_scores(), bits).reshape(GRID, GRID)
    if chirp is not None:
        array += ridge_weights(chirp)
    # ASSUME: noise is smoothed along with the ridge, and the picture mirrored beyond its border.
    return ndimage.gaussian_filter(array, _SMOOTHING_SD)


@cache
def _noise_amplitudes() -> np.ndarray:
    """Spread of each Fourier coefficient of 1/f noise with unit power from 0 to 100 Hz."""
    from scipy import fft

    hz = fft.rfftfreq(_SIGNAL_SAMPLES, 1 / SAMPLE_RATE_HZ)[:-1]
    amplitudes = 1 / np.sqrt(np.maximum(hz, _NOISE_CORNER_HZ))
    amplitudes[0] = 0
    power = 4 * np.sum(amplitudes[hz <= FREQUENCY_MAX_HZ] ** 2) / _SIGNAL_SAMPLES**2
    return amplitudes / np.sqrt(power)


@cache
def transform() -> "ShortTimeFFT":
    """The short-time Fourier transform behind every measured array."""
    from scipy.signal import ShortTimeFFT, get_window

    return ShortTimeFFT(
        get_window(WINDOW, WINDOW_SAMPLES),
        hop=HOP_SAMPLES,
        fs=SAMPLE_RATE_HZ,
        mfft=FFT_POINTS,
        fft_mode="onesided2X",
        scale_to=SCALING,
        phase_shift=None,
    )


def recording(
    chirp: Chirp | None, snr_db: float, start_cycles: float, bits: np.ndarray
) -> np.ndarray:
    """A chirp in 1/f noise of unit power from 0 to 100 Hz, as samples.

    Args:
        chirp: what sounds, or None for noise alone.
        snr_db: power of the chirp while it lasts over that of the noise from 0 to 100 Hz, in dB.
        start_cycles: phase at the start, in cycles.
        bits: shape (`N_WAVEFORM_BITS`,), uint16: the noise.

    Returns:
        shape (18432,), float64, at 300.8 Hz; sample 192 lies half a sample after time 0.
    """
    from scipy import fft

    scores = np.take(normal_scores(), bits).astype(np.float64).reshape(2, -1)
    samples = fft.irfft((scores[0] + 1j * scores[1]) * _noise_amplitudes(), _SIGNAL_SAMPLES)
    if chirp is not None:
        # ASSUME: the chirp starts and ends at full strength.
        time_s = (np.arange(_SIGNAL_SAMPLES) - _LEAD_SAMPLES + 0.5) / SAMPLE_RATE_HZ
        first, last = np.searchsorted(time_s, [chirp.start_s, chirp.start_s + chirp.duration_s])
        cycles = start_cycles + chirp.cycles(time_s[first:last])
        samples[first:last] += np.sqrt(2) * 10 ** (snr_db / 20) * np.cos(2 * np.pi * cycles)
    return samples


def waveform(
    chirp: Chirp | None, snr_db: float, start_cycles: float, bits: np.ndarray
) -> np.ndarray:
    """The power spectral density over time of a chirp in 1/f noise.

    Args:
        chirp: as in `recording`.
        snr_db: as in `recording`.
        start_cycles: as in `recording`.
        bits: as in `recording`.

    Returns:
        shape (128, 128), float32, in dB; 0 dB is the noise's power from 0 to 100 Hz per Hz.
    """
    from scipy import fft

    samples = recording(chirp, snr_db, start_cycles, bits)
    # All windows of an image at once, with the window and scale of `transform`: its own method
    # takes them one by one, which costs several times as long.
    windows = sliding_window_view(samples, WINDOW_SAMPLES)[_FIRST_WINDOW::HOP_SAMPLES][:GRID]
    bins = fft.rfft(windows * transform().win, FFT_POINTS)[:, 1 : 2 * GRID : 2]
    density = 2 * (bins.real**2 + bins.imag**2)
    return (10 * np.log10(density.T)).astype(np.float32)


@cache
def colour_table() -> np.ndarray:
    """The viridis colour map, shape (256, 3), uint8, read-only."""
    from matplotlib import colormaps

    table = np.ascontiguousarray(colormaps["viridis"](np.arange(256), bytes=True)[:, :3])
    table.flags.writeable = False
    return table


@cache
def nearest_entries() -> np.ndarray:
    """Entry of the colour table nearest to each colour of 6 bits a channel, shape (64, 64, 64)."""
    from scipy.spatial import KDTree

    colours = np.moveaxis(np.indices((64, 64, 64)), 0, -1) * 4 + 1.5
    return KDTree(colour_table()).query(colours)[1].astype(np.uint8)


def colour_indices(array: np.ndarray) -> np.ndarray:
    """Entry of the colour table of each cell, from least to greatest value, as matplotlib counts.

    Args:
        array: any shape, float32.

    Returns:
        The same shape, 0 to 255, the least 0 and the greatest 255; all 0 if all values are equal.
    """
    low, high = array.min(), array.max()
    share = (array - low) / (high - low) if high > low else np.zeros_like(array)
    return np.minimum((share * np.float32(256)).astype(np.int64), 255)
