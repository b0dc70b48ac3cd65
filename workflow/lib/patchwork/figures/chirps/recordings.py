"""What was found in a recording, drawn over the spectrogram of each channel."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from patchwork.figures import theme
from patchwork.jobs.log import Progress
from patchwork.stimuli.spectrograms import FREQUENCY_MAX_HZ

if TYPE_CHECKING:
    # These bring readers and networks with them, which drawing does without.
    from patchwork.recordings.detection import Overview
    from patchwork.recordings.excerpts import Excerpt

ROW_S = 300.0
_MOST_ROWS = 6
_ROW_CM = 2.3
_BESIDE_HZ = 5.0
NEEDED = ("channel", "onset_s", "start_hz", "end_hz", "score")


@dataclass(frozen=True)
class SearchedRecording:
    """A recording and how it was searched, for captions.

    Attributes:
        name: of the recording.
        duration_s: its length, seconds.
        frequency_max_hz: top of the spectrograms.
        threshold: score from which a prediction was an event, 0 to 1.
        coverage: chance that an interval was made to cover, 0 to 1.
    """

    name: str
    duration_s: float
    frequency_max_hz: float
    threshold: float
    coverage: float


def overlays(
    levels: Mapping[str, np.ndarray], events: pd.DataFrame, searched: SearchedRecording
) -> Iterator[tuple[str, Figure, pd.DataFrame]]:
    """One figure per channel.

    Args:
        levels: channel to uint8 (frequencies, columns) over the whole recording.
        events: of all channels, see `overlay`.
        searched: what was searched, and how.

    Yields:
        A name fit for a file, the figure, and the events drawn in it.
    """
    for i, (channel, picture) in enumerate(levels.items(), 1):
        here = events[events["channel"] == channel].reset_index(drop=True)
        stem = f"{i:03d}_{re.sub(r'[^A-Za-z0-9+-]+', '_', channel)}"
        yield stem, overlay(picture, here, channel, searched), here


def save_overlays(
    overview: "Overview", events: pd.DataFrame, searched: SearchedRecording, folder: str | Path
) -> list[str]:
    """Write a figure per channel, as SVG, PNG and the table that it shows.

    Args:
        overview: pictures of each channel.
        events: as for `overlays`.
        searched: likewise.
        folder: made if it is not there.

    Returns:
        The SVG files, relative to what holds the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    progress, names = Progress("overlays", len(overview.levels)), []
    for i, (stem, figure, shown) in enumerate(overlays(overview.levels, events, searched)):
        theme.save(figure, folder / stem)
        shown.to_csv(folder / f"{stem}.csv", index=False)
        progress.step(i + 1)
        names.append(f"{folder.name}/{stem}.svg")
    return names


@theme.styled
def overlay(
    picture: np.ndarray, events: pd.DataFrame, channel: str, searched: SearchedRecording
) -> Figure:
    """The spectrogram of one channel with its events between lines from start to end.

    Args:
        picture: uint8 (frequencies, columns) over the whole recording, frequency upwards.
        events: columns `NEEDED` (s and Hz), possibly of no row; duration_s where it is known, and
            onset_low_s and onset_high_s where there are intervals.
        channel: its name.
        searched: what was searched, and how.

    Returns:
        17 cm wide; one row per five minutes, at most six rows of equal length.

    Raises:
        ValueError: if a column is missing or the picture is not of the allowed kind.
    """
    missing = [name for name in NEEDED if name not in events.columns]
    if missing:
        raise ValueError(f"overlay: events lacks {missing}; it has {sorted(events.columns)}")
    if picture.dtype != np.uint8 or picture.ndim != 2:
        raise ValueError(
            f"overlay: picture is {picture.dtype} of shape {picture.shape}; allowed is uint8 of "
            "shape (frequencies, columns)"
        )
    n_rows = min(max(int(np.ceil(searched.duration_s / ROW_S)), 1), _MOST_ROWS)
    height = (n_rows * _ROW_CM + 1.0) * theme.CM
    figure = Figure(figsize=(theme.DOUBLE_CM * theme.CM, height), layout="constrained")
    rows = figure.subplots(n_rows, 1, squeeze=False)[:, 0]
    edges = np.linspace(0, picture.shape[1], n_rows + 1).astype(int)
    for axes, first, last in zip(rows, edges, edges[1:], strict=False):
        left, right = np.array([first, last]) / picture.shape[1] * searched.duration_s
        axes.imshow(
            picture[:, first:last], extent=(left, right, 0, searched.frequency_max_hz),
            origin="lower", aspect="auto", cmap=theme.SEQUENTIAL, vmin=0, vmax=255,
            interpolation="nearest",
        )  # fmt: skip
        _draw(axes, events)
        axes.set(xlim=(left, right), ylim=(0, searched.frequency_max_hz))
    rows[-1].set_xlabel("Time from the first sample of the file (s)")
    figure.supylabel("Frequency (Hz)", size=theme.TEXT_PT)
    return theme.finish(figure, f"Chirps in channel {channel}", _caption(events, searched))


@theme.styled
def event_figure(excerpt: "Excerpt", event: pd.Series) -> Figure:
    """One event: its spectrogram with the predicted line, and below it the trace.

    Args:
        excerpt: what lies around it.
        event: columns `NEEDED`, and perhaps duration_s.

    Returns:
        8.5 cm wide; the trace is missing where there is none.
    """
    n = 2 if len(excerpt.samples) else 1
    figure = Figure(figsize=(8.5 * theme.CM, 2.9 * n * theme.CM), layout="constrained")
    rows = figure.subplots(n, 1, squeeze=False, sharex=True)[:, 0]
    rows[0].imshow(
        excerpt.array, extent=(*excerpt.span_s, 0, FREQUENCY_MAX_HZ), origin="lower",
        aspect="auto", cmap=theme.SEQUENTIAL, interpolation="nearest",
    )  # fmt: skip
    _draw(rows[0], event.to_frame().T.infer_objects())
    rows[0].set(ylabel="Hz", xlim=excerpt.span_s, ylim=(0, FREQUENCY_MAX_HZ))
    if n == 2:
        rows[1].plot(excerpt.time_s, excerpt.samples, color=theme.PALETTE[0], lw=0.4)
        rows[1].set_ylabel(excerpt.unit)
    rows[-1].set_xlabel("s from the first sample")
    return figure


def _draw(axes: Axes, events: pd.DataFrame) -> None:
    halo = [patheffects.withStroke(linewidth=1.8, foreground="white")]
    start, end = events["onset_s"], events["onset_s"] + events.get("duration_s", 0.0)
    # Beside a chirp, so that it can be seen between them.
    for off_hz in (-_BESIDE_HZ, _BESIDE_HZ) if "duration_s" in events else (0.0,):
        hz = [events["start_hz"] + off_hz, events["end_hz"] + off_hz]
        axes.plot([start, end], hz, color=theme.PALETTE[1], lw=0.9, path_effects=halo)
    if "duration_s" not in events:
        axes.plot(start, events["start_hz"], "o", ms=2.6, mec="white", color=theme.PALETTE[1])
    if {"onset_low_s", "onset_high_s"} <= set(events.columns):
        ends = (events["onset_low_s"], events["onset_high_s"])
        axes.hlines(events["start_hz"], *ends, color="white", lw=0.7)


def _caption(events: pd.DataFrame, searched: SearchedRecording) -> str:
    drawn = (
        "each between two lines from start to end"
        if "duration_s" in events
        else "dots at onset and start frequency, lines on to the end frequency"
    )
    bars = (
        f"; white bars: where the onset lies with a chance of {searched.coverage:.0%} if the "
        "recording is like the examples that the interval was set on"
        if "onset_low_s" in events
        else ""
    )
    return (
        f"{searched.name}, {searched.duration_s:,.0f} s: n = {len(events)} events with a score of "
        f"{searched.threshold:g} or more, {drawn}{bars}. Each window of 60 s has its own scale of "
        "colours, from its least to its greatest value, as the network sees it; dark where data "
        "lack."
    )
