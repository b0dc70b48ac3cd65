"""How strong events are, whether they lie in bad stretches, and what was searched."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from patchwork.recordings.channels import VOLT_KINDS, top_hz
from patchwork.recordings.readers import Recording, Signals
from patchwork.stimuli.spectrograms import (
    COLUMN_S,
    DURATION_S,
    FREQUENCY_MAX_HZ,
    GRID,
    RIDGE_HALF_WIDTH,
    ROW_HZ,
    SAMPLE_RATE_HZ,
    WINDOW_SAMPLES,
)

STRENGTH = ("power", "snr_db")
_PLACE = ("start_s", "duration_s", "start_hz", "end_hz", "band_hz")
# ASSUME: a predicted line may be off by this much, Hz; the strongest cell near it is the chirp's.
REACH_HZ = 5.0
# Columns beside an event that its own energy may reach into: half a transform's window, and the
# error of its ends.
_GUARD = 4


def strength(
    array: np.ndarray, start_s: float, duration_s: float, start_hz: float, end_hz: float,
    band_hz: float = FREQUENCY_MAX_HZ,
) -> tuple[float, float]:  # fmt: skip
    """Power of a chirp, and over that of everything else from 0 to 100 Hz, as in training.

    Along the predicted line the strongest cell within `REACH_HZ` of it and its neighbours count,
    less what the same rows hold in the rest of the window.

    Args:
        array: shape (128, 128), dB of a power spectral density, frequency upwards.
        start_s: seconds after the start of the window.
        duration_s: seconds.
        start_hz: frequency at the start.
        end_hz: frequency at the end.
        band_hz: up to which the noise counts.

    Returns:
        Power in the array's own unit (V^2 for EEG), half the square of a sine's amplitude, and the
        signal-to-noise ratio in dB; both nan if the chirp does not stand out or leaves no column
        to compare it with.
    """
    middles = (np.arange(GRID) + 0.5) * COLUMN_S
    inside = (middles >= start_s) & (middles <= start_s + max(duration_s, COLUMN_S))
    columns = np.flatnonzero(inside)
    near = np.convolve(inside, np.ones(2 * _GUARD + 1), mode="same") > 0
    if not len(columns) or near.all():
        return np.nan, np.nan
    density = 10.0 ** (array.astype(float) / 10)
    background = density[:, ~near].mean(axis=1)
    share = np.clip((middles[columns] - start_s) / max(duration_s, COLUMN_S), 0, 1)
    line_hz = start_hz + (end_hz - start_hz) * share
    # A window of the transform sees this much of the sweep at once.
    smear_hz = abs(end_hz - start_hz) / max(duration_s, COLUMN_S) * WINDOW_SAMPLES / SAMPLE_RATE_HZ
    half = RIDGE_HALF_WIDTH + int(np.ceil(smear_hz / 2 / ROW_HZ))
    rows_hz = (np.arange(GRID) + 0.5) * ROW_HZ
    total = 0.0
    for column, hz in zip(columns, line_hz, strict=True):
        allowed = np.flatnonzero(np.abs(rows_hz - hz) <= REACH_HZ)
        if not len(allowed):
            allowed = np.array([np.abs(rows_hz - hz).argmin()])
        best = allowed[(density[allowed, column] / background[allowed]).argmax()]
        band = slice(max(0, best - half), best + half + 1)
        total += float((density[band, column] - background[band]).sum()) * ROW_HZ
    power = total / len(columns)
    noise = float(background[rows_hz < band_hz].sum()) * ROW_HZ
    if not (power > 0 and noise > 0):
        return np.nan, np.nan
    return power, float(10 * np.log10(power / noise))


def with_strength(found: pd.DataFrame, seen: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Predictions in one window with `STRENGTH`, where the network says how long they last.

    Args:
        found: channel, start_s, start_hz, end_hz, band_hz, and perhaps duration_s.
        seen: by channel, the array of the window.
    """
    if "duration_s" not in found:
        return found
    rows = [
        strength(seen[channel], *place)
        for channel, place in zip(
            found["channel"], found[list(_PLACE)].to_numpy(float), strict=True
        )
    ]
    columns = np.array(rows, dtype=float).reshape(-1, len(STRENGTH)).T
    return found.assign(**dict(zip(STRENGTH, columns, strict=True)))


def in_band(raw: pd.DataFrame, recording: Recording) -> pd.DataFrame:
    """Predictions that lie at least in part below what their channel's rate can hold.

    Args:
        raw: channel, start_hz and end_hz.
        recording: that they were made of.

    Returns:
        The rows that stay, with ``band_hz``, the top of the channel's band.
    """
    bands = {one.name: top_hz(one.rate_hz) for one in recording.choice.taken}
    if not isinstance(recording, Signals):
        bands = dict.fromkeys(bands, FREQUENCY_MAX_HZ)
    found = raw.assign(band_hz=raw["channel"].map(bands).astype(float))
    return found[found[["start_hz", "end_hz"]].min(axis=1) < found["band_hz"]]


def with_context(events: pd.DataFrame, recording: Recording) -> pd.DataFrame:
    """Events with their end, amplitude, file, and whether they lie in a bad or a padded stretch.

    Args:
        events: channel and onset_s, and perhaps duration_s and power, which is taken out.
        recording: that they were found in.

    Returns:
        ``amplitude_uv`` is that of a sine of the same power; nan for channels not in volts, and
        for those whose unit is not known.
    """
    found = events.copy()
    ends = found["onset_s"] + found.get("duration_s", 0.0)
    if "duration_s" in found:
        found["end_s"] = ends
    if "power" in found:
        volts = {one.name for one in recording.choice.taken if one.kind in VOLT_KINDS}
        if isinstance(recording, Signals):
            volts -= set(recording.unknown)
        amplitude = np.sqrt(2 * found.pop("power")) * 1e6
        found["amplitude_uv"] = amplitude.where(found["channel"].isin(volts))
    found["in_bad"] = [
        any(
            one.start_s <= end and onset <= one.end_s
            for one in recording.bad
            if not one.channels or channel in one.channels
        )
        for channel, onset, end in zip(found["channel"], found["onset_s"], ends, strict=True)
    ]
    found["in_bad"] = found["in_bad"].astype(bool)
    found["padded"] = recording.duration_s < DURATION_S
    return found.assign(file=recording.path.name)


def summary(
    events: pd.DataFrame, recording: Recording, searched: Mapping[str, Sequence[float]]
) -> pd.DataFrame:
    """One row per channel of the file: what was searched of it, and what was found.

    Args:
        events: see `with_context`.
        recording: that they were found in.
        searched: by channel, starts of the windows that the network saw, ascending.
    """
    rows = []
    for one in recording.choice.taken:
        seen_s, until = 0.0, 0.0
        for start_s in searched[one.name]:
            end_s = min(start_s + DURATION_S, recording.duration_s)
            seen_s += end_s - min(end_s, max(start_s, until))
            until = end_s
        here = events[events["channel"] == one.name]
        rows.append(
            {
                "channel": one.name,
                "kind": one.kind,
                "sampling_rate_hz": one.rate_hz,
                "searched_s": seen_s,
                "searched_share": seen_s / recording.duration_s,
                "n_events": len(here),
                "n_in_bad": int(here["in_bad"].sum()),
                "events_per_hour": len(here) / seen_s * 3600 if seen_s else np.nan,
                "left_out": "",
            }
        )
    nothing = {"searched_s": 0.0, "searched_share": 0.0, "n_events": 0, "n_in_bad": 0}
    rows += [
        {"channel": name, "left_out": why, **nothing}
        for name, why in recording.choice.left_out.items()
    ]
    return pd.DataFrame(rows)
