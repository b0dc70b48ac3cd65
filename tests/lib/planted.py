"""Recordings with chirps at known places, and an observer that finds them without a network."""

from datetime import UTC, datetime
from pathlib import Path

import edfio
import mne
import numpy as np
from patchwork.stimuli.spectrograms import COLUMN_S, GRID, ROW_HZ

MEAS_DATE = datetime(2021, 3, 4, 5, 6, 7, 250000, tzinfo=UTC)
START_HZ, END_HZ, LENGTH_S = 30.0, 50.0, 10.0


def eeg(
    rate_hz: float, duration_s: float, onsets_s: dict[str, list[float]], seed: int = 0
) -> np.ndarray:
    """Noise of 10 microvolt in each channel, with strong chirps, shape (channels, n)."""
    rng = np.random.Generator(np.random.Philox(seed))
    n = round(duration_s * rate_hz)
    samples = rng.standard_normal((len(onsets_s), n)) * 1e-5
    time_s = np.arange(n) / rate_hz
    for row, onsets in zip(samples, onsets_s.values(), strict=True):
        for onset in onsets:
            since = time_s - onset
            inside = (since >= 0) & (since <= LENGTH_S)
            bend = (END_HZ - START_HZ) / (2 * LENGTH_S)
            cycles = (START_HZ + bend * since[inside]) * since[inside]
            row[inside] += 5e-5 * np.sin(2 * np.pi * cycles)
    return samples


def raw(rate_hz: float, duration_s: float, onsets_s: dict[str, list[float]]) -> mne.io.RawArray:
    info = mne.create_info(list(onsets_s), rate_hz, "eeg")
    found = mne.io.RawArray(eeg(rate_hz, duration_s, onsets_s), info, verbose="error")
    return found.set_meas_date(MEAS_DATE)


def write_edf(path: Path, samples: dict[str, tuple[float, np.ndarray]], **options) -> Path:
    """Channels with their own rates; samples in volt, stored in microvolt."""
    kind = edfio.BdfSignal if path.suffix == ".bdf" else edfio.EdfSignal
    options = {
        "recording": edfio.Recording(startdate=MEAS_DATE.date()),
        "starttime": MEAS_DATE.replace(microsecond=0, tzinfo=None).time(),
        **options,
    }
    channels = [
        kind(values * 1e6, rate, label=name, physical_dimension="uV", physical_range=(-400, 400))
        for name, (rate, values) in samples.items()
    ]
    (edfio.Bdf if path.suffix == ".bdf" else edfio.Edf)(channels, **options).write(path)
    return path


def observe(arrays: np.ndarray) -> dict[str, np.ndarray]:
    """What stands 15 dB above each row's usual level is the chirp."""
    assert arrays.shape[1:] == (GRID, GRID)
    rows = []
    for array in arrays:
        excess = array - np.median(array, axis=1, keepdims=True)
        strong = np.flatnonzero((excess > 15).sum(axis=0) >= 3)
        if not len(strong):
            rows.append((0.0, 0.0, 0.0, 0.0, 0.0))
            continue
        first, last = strong[0], strong[-1]
        start, end = excess[:, min(first + 1, GRID - 1)].argmax(), excess[:, last - 1].argmax()
        span = (last - first + 1) * COLUMN_S
        # Cut off by the window's edge it is less of a chirp.
        whole = 1.0 - 0.4 * (first == 0 or last == GRID - 1)
        rows.append((whole, first * COLUMN_S, span, (start + 0.5) * ROW_HZ, (end + 0.5) * ROW_HZ))
    names = ("score", "start_s", "duration_s", "start_hz", "end_hz")
    return dict(zip(names, np.array(rows).T, strict=True))
