"""Pieces of a recording around its events: the trace, and the spectrogram that the network saw."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from patchwork.recordings import pictures
from patchwork.recordings.channels import VOLT_KINDS
from patchwork.recordings.readers import Recording, Signals
from patchwork.stimuli.spectrograms import COLUMN_S, DURATION_S, GRID

# ASSUME: shown on either side of an event, s.
AROUND_S = 5.0
# ASSUME: shown on a page, so that it stays small.
N_MOST = 60


@dataclass(frozen=True)
class Excerpt:
    """What lies around an event.

    Attributes:
        array: shape (128, columns), dB, frequency upwards.
        span_s: first and last moment of the array, seconds after the first sample of the file.
        time_s: of the samples, likewise; empty for a folder of spectrograms.
        samples: trace less its drift.
        unit: of the samples; empty if it is not known.
    """

    array: np.ndarray
    span_s: tuple[float, float]
    time_s: np.ndarray
    samples: np.ndarray
    unit: str


def excerpts(
    recording: Recording, events: pd.DataFrame, mains_hz: Sequence[float], n_most: int = N_MOST
) -> Iterator[tuple[int, Excerpt]]:
    """Excerpts of the events with the best scores.

    Args:
        recording: as searched.
        events: channel, onset_s, window_s, score, and perhaps duration_s; rows are numbered from 0.
        mains_hz: taken out of the spectrogram, as in the search; the trace keeps it.
        n_most: how many at most, 0 or more.

    Yields:
        Number of the row, in order of time, and its excerpt.
    """
    best = events.nlargest(n_most, "score", keep="first").sort_index()
    for _, part in best.groupby("window_s", sort=True):
        start_s = float(part["window_s"].iloc[0])
        seen = dict(pictures.arrays(recording, start_s, mains_hz))
        for number, (_, one) in zip(part.index.tolist(), part.iterrows(), strict=True):
            array = seen[one["channel"]]
            if array is None:
                continue
            end_s = one["onset_s"] + (one["duration_s"] if "duration_s" in part else 0.0)
            first = int(np.clip((one["onset_s"] - AROUND_S - start_s) // COLUMN_S, 0, GRID - 2))
            last = int(np.clip((end_s + AROUND_S - start_s) // COLUMN_S + 1, first + 2, GRID))
            until_s = min(start_s + DURATION_S, recording.duration_s) - start_s
            last = max(first + 2, min(last, int(np.ceil(until_s / COLUMN_S - 1e-6))))
            span = (start_s + first * COLUMN_S, start_s + last * COLUMN_S)
            trace = _trace(recording, one["channel"], span)
            yield number, Excerpt(array[:, first:last], span, *trace)


def _trace(
    recording: Recording, name: str, span: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, str]:
    """Times, samples and their unit."""
    if not isinstance(recording, Signals):
        return np.empty(0), np.empty(0), ""
    ((_, samples),) = recording.read(*span, [name])
    rate = recording.rates_hz[name]
    if len(samples) >= 3 * rate and np.isfinite(samples).all():
        samples = samples - pictures.slow_part(samples, rate)
    kind = next(one.kind for one in recording.choice.taken if one.name == name)
    in_volts = kind in VOLT_KINDS and name not in recording.unknown
    time_s = span[0] + np.arange(len(samples)) / rate
    return time_s, samples * 1e6 if in_volts else samples, "uV" if in_volts else ""
