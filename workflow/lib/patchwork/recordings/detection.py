"""Find chirps in recordings: windows, pictures as in training, predictions, events."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from scipy import special

from patchwork.jobs.log import LOGGER, Progress
from patchwork.models import fine_tuned
from patchwork.models.tasks import Category, decode_all
from patchwork.recordings import measures, pictures
from patchwork.recordings.readers import Recording
from patchwork.statistics import conformal
from patchwork.stimuli import spectrograms
from patchwork.stimuli.spectrograms import COLUMN_S, DURATION_S, FREQUENCY_MAX_HZ, GRID

NEEDED = ("start_s", "start_hz", "end_hz", "present")
# Label of a network to column of an event, and to the two ends of its interval.
COLUMNS = {
    "start_s": ("onset_s", "onset_low_s", "onset_high_s"),
    "duration_s": ("duration_s", "duration_low_s", "duration_high_s"),
    "start_hz": ("start_hz", "start_low_hz", "start_high_hz"),
    "end_hz": ("end_hz", "end_low_hz", "end_high_hz"),
}
# A picture of 17 cm at 300 dpi has 2000 columns; this is six rows of 512.
OVERVIEW_COLUMNS = 3072

Predict = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Search:
    """How a recording is searched.

    Attributes:
        overlap_s: what two windows of 60 s that follow each other share, 0 to less than 60 s.
        edge_s: onsets this close after the start of a window count in the window before it, which
            sees more of them; 0 to overlap_s. Chirps of up to overlap_s - edge_s lie whole in the
            window in which they count.
        threshold: score from which a prediction is an event, 0 to 1.
        merge_s: onsets from different windows no farther apart than this are one event, s, >= 0.
        mains_hz: frequencies of steady noise that is taken out. A network that was trained on
            chirps alone takes a line that goes on and on for one.
    """

    overlap_s: float
    edge_s: float
    threshold: float
    merge_s: float
    mains_hz: Sequence[float] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.edge_s <= self.overlap_s:
            raise ValueError(
                f"edge_s is {self.edge_s}; allowed is 0 to overlap_s, {self.overlap_s} s"
            )


@dataclass
class Overview:
    """Each channel's pictures side by side, pooled so that memory does not grow with time.

    Attributes:
        duration_s: length of the recording, seconds.
        levels: by channel, uint8 (128, columns): entry of the colour table, the greatest of what
            was pooled; 0 where there was no data.
    """

    duration_s: float
    levels: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, channel: str, start_s: float, array: np.ndarray) -> None:
        """Lay the picture of one window over what is there."""
        n = min(OVERVIEW_COLUMNS, int(self.duration_s / COLUMN_S))
        held = self.levels.setdefault(channel, np.zeros((GRID, n), np.uint8))
        times = start_s + (np.arange(GRID) + 0.5) * COLUMN_S
        inside = times < self.duration_s + COLUMN_S / 2
        places = np.clip((times / self.duration_s * n).astype(int), 0, n - 1)[inside]
        colours = spectrograms.colour_indices(array).astype(np.uint8)[:, inside]
        np.maximum.at(held.T, places, colours.T)


@dataclass(frozen=True)
class Detections:
    """What a search of a recording gives.

    Attributes:
        events: see `localise`.
        overview: pictures of each channel.
        channels: one row per channel, see `summary`.
        n_pictures: windows and channels that the network saw.
        n_empty: windows and channels that were not, for want of data.
    """

    events: pd.DataFrame
    overview: Overview
    channels: pd.DataFrame
    n_pictures: int
    n_empty: int


def window_starts(duration_s: float, overlap_s: float, step_s: float) -> np.ndarray:
    """First moments of windows that cover a recording to its last step; the last ends with it.

    Args:
        duration_s: length of the recording; one window if it is no longer than that.
        overlap_s: what two windows share, at least; the last two may share more.
        step_s: starts are multiples of this: one sample or one column.

    Returns:
        shape (n,), seconds, ascending.
    """
    last = max(0, int((duration_s - DURATION_S) / step_s + 1e-6))
    hop = max(1, int((DURATION_S - overlap_s) / step_s + 1e-6))
    starts = np.arange(0, last + 1, hop)
    return np.append(starts, last)[: len(starts) + (starts[-1] != last)] * step_s


def predictor(network: fine_tuned.Network) -> Predict:
    """A network as a function of arrays.

    Args:
        network: predicts start_s, start_hz, end_hz and present, and perhaps duration_s.

    Returns:
        Arrays (n, 128, 128) to columns of shape (n,): ``score``, the predicted presence,
        0 to 1, and the labels in s and Hz.

    Raises:
        ValueError: if the network does not predict what is needed.
    """
    known = [label for target in network.targets.values() for label in target.labels]
    for label in NEEDED:
        if label not in known:
            raise ValueError(
                f"network: predicts {', '.join(known)}; allowed is one trained on "
                f"{', '.join(NEEDED)}: {label} is missing"
            )
    image_px = int(network.encoder.patch_embed.img_size[0])

    def predict(found: np.ndarray) -> dict[str, np.ndarray]:
        images = np.stack([pictures.render(array, image_px) for array in found])
        outputs = fine_tuned.predict(network, torch.from_numpy(images))
        columns = decode_all(network.targets, outputs)
        return {
            "score": _scores(network, outputs),
            **{label: columns[label] for label in COLUMNS if label in columns},
        }

    return predict


def _scores(network: fine_tuned.Network, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    name = next(name for name, one in network.targets.items() if "present" in one.labels)
    if isinstance(network.targets[name].encoding, Category):
        return special.softmax(outputs[name].astype(float), axis=1)[:, 1]
    return np.clip(decode_all({name: network.targets[name]}, outputs)["present"], 0.0, 1.0)


def half_widths(predictions: pd.DataFrame, seed: int, coverage: float) -> dict[str, float]:
    """How far off each label may be, from examples that the network was not trained on.

    Args:
        predictions: columns ``seed``, ``<label>`` and ``predicted_<label>``; labels of rows without
            a chirp are nan.
        seed: of the network.
        coverage: wanted chance that the truth lies within, between 0 and 1.

    Returns:
        Label to half width of its split-conformal interval, in the label's unit; infinite where
        examples are too few. It holds for recordings as far as their chirps are like the examples.

    Raises:
        ValueError: if the seed has no predictions, or coverage is not between 0 and 1.
    """
    own = predictions[predictions["seed"] == seed]
    if own.empty:
        known = ", ".join(map(str, sorted(predictions["seed"].unique())))
        raise ValueError(f"seed is {seed}, which predicted nothing; allowed is {known}")
    widths = {}
    for label in COLUMNS:
        if {label, f"predicted_{label}"} <= set(own.columns):
            off = (own[f"predicted_{label}"] - own[label]).dropna()
            widths[label] = conformal.half_width(off.to_numpy(float), coverage)
    return widths


def localise(
    recording: Recording,
    predict: Predict,
    search: Search,
    widths: Mapping[str, float] | None = None,
) -> Detections:
    """Every chirp that a network finds in a recording, window after window.

    Args:
        recording: as opened; only one window is in memory at a time.
        predict: arrays (n, 128, 128) to columns, see `predictor`.
        search: windows, threshold, and what is merged.
        widths: label to half width of its interval, see `half_widths`.

    Returns:
        Events as in the table ``events.csv``: duration_s where the network predicts it, ends of
        intervals where widths are given.

    Raises:
        ValueError: if no window of any channel has data throughout.
    """
    starts = window_starts(recording.duration_s, search.overlap_s, recording.step_s)
    overview = Overview(recording.duration_s)
    progress, parts, n_pictures = Progress("windows", len(starts)), [], 0
    searched: dict[str, list[float]] = {name: [] for name in recording.channels}
    for i, start_s in enumerate(starts):
        drawn = pictures.arrays(recording, start_s, search.mains_hz)
        seen = {name: array for name, array in drawn if array is not None}
        for name, array in seen.items():
            overview.add(name, start_s, array)
            searched[name].append(start_s)
        if seen:
            columns = {"channel": list(seen), **predict(np.stack(list(seen.values())))}
            frame = pd.DataFrame(columns).assign(window_s=start_s)
            found = measures.in_band(above_threshold(frame, starts, i, search), recording)
            parts.append(measures.with_strength(found, seen))
        n_pictures += len(seen)
        progress.step(i + 1)
    n_empty = len(starts) * len(recording.channels) - n_pictures
    if n_empty:
        LOGGER.info("%d of %d windows lack data and are left out", n_empty, n_empty + n_pictures)
    if not n_pictures:
        raise ValueError(f"{recording.path}: no window has data; allowed is 60 s without a gap")
    events = merge(_in_recording(pd.concat(parts), recording.duration_s), search.merge_s)
    events = _with_intervals(events, recording, widths or {})
    events = measures.with_context(events, recording)
    summary = measures.summary(events, recording, searched)
    return Detections(events, overview, summary, n_pictures, n_empty)


def above_threshold(
    frame: pd.DataFrame, starts: np.ndarray, i: int, search: Search
) -> pd.DataFrame:
    """Predictions in one window that are events: every moment counts in one window alone.

    Args:
        frame: start_s (after the start of the window), score and window_s.
        starts: of all windows, see `window_starts`.
        i: number of the window.
        search: threshold and edge.
    """
    onset = frame["window_s"] + frame["start_s"]
    first = -np.inf if i == 0 else starts[i] + search.edge_s
    last = np.inf if i == len(starts) - 1 else starts[i + 1] + search.edge_s
    return frame[(frame["score"] >= search.threshold) & (onset >= first) & (onset < last)]


def _in_recording(raw: pd.DataFrame, duration_s: float) -> pd.DataFrame:
    """Predictions about windows as events of the recording, within what is possible."""
    onset = raw["window_s"] + raw["start_s"].clip(0, DURATION_S)
    if duration_s < DURATION_S:  # where the window is padded there is nothing to be found
        raw, onset = raw[onset < duration_s], onset[onset < duration_s]
    frame = pd.DataFrame({"channel": raw["channel"], "onset_s": onset.clip(upper=duration_s)})
    if "duration_s" in raw:
        frame["duration_s"] = np.clip(raw["duration_s"], 0, duration_s - frame["onset_s"])
    for name in ("start_hz", "end_hz"):
        frame[name] = raw[name].clip(0, raw["band_hz"])
    kept = ["score", "window_s", "band_hz", *(name for name in measures.STRENGTH if name in raw)]
    return frame.assign(**{name: raw[name] for name in kept})


def merge(events: pd.DataFrame, merge_s: float) -> pd.DataFrame:
    """Join events of one channel that different windows found twice; the best score stays.

    Two are one if their onsets lie no farther apart than ``merge_s``, or, where durations are
    known, if they overlap in time. Events are taken in order of falling score (the earlier window
    where scores agree); each joins the first that was kept before it and is one with it.

    Args:
        events: channel, onset_s, score, window_s, and perhaps duration_s.
        merge_s: seconds, 0 or more.

    Returns:
        The rows that stay, in order of onset and channel, with ``n_windows``: how many were joined.
    """
    ordered = events.sort_values(["score", "window_s"], ascending=[False, True], kind="stable")
    kept: list[int] = []
    for _, part in ordered.reset_index(drop=True).groupby("channel", sort=False):
        kept += _survivors(part, merge_s)
    counts = pd.Series(kept, dtype=int).value_counts(sort=False)
    chosen = ordered.reset_index(drop=True).loc[counts.index]
    chosen = chosen.assign(n_windows=counts)
    return chosen.sort_values(["onset_s", "channel"], kind="stable").reset_index(drop=True)


def _survivors(part: pd.DataFrame, merge_s: float) -> list[int]:
    """For each row of one channel, best first, the row that it joins: itself if it stays."""
    onset, window = part["onset_s"].to_numpy(), part["window_s"].to_numpy()
    end = onset + part["duration_s"].to_numpy() if "duration_s" in part else onset
    stays: list[int] = []
    joined = []
    for i in range(len(part)):
        others = np.array(stays, dtype=int)
        near = np.abs(onset[others] - onset[i]) <= merge_s
        over = (onset[others] < end[i]) & (onset[i] < end[others])
        same = others[(near | over) & (window[others] != window[i])]
        if not len(same):
            stays.append(i)
        joined.append(int(part.index[same[0] if len(same) else i]))
    return joined


def _with_intervals(
    events: pd.DataFrame, recording: Recording, widths: Mapping[str, float]
) -> pd.DataFrame:
    """Events with date and time, and with intervals cut to what is possible."""
    moments = [recording.clock.moment(onset) for onset in events["onset_s"]]
    found = events.copy()
    found.insert(2, "onset_clock", ["" if one is None else one.isoformat() for one in moments])
    tops = {"onset_s": recording.duration_s, "duration_s": recording.duration_s}
    for label, width in widths.items():
        value, low, high = COLUMNS[label]
        if value in found:
            found[low] = (found[value] - width).clip(lower=0.0)
            found[high] = (found[value] + width).clip(upper=tops.get(value, FREQUENCY_MAX_HZ))
    return found
