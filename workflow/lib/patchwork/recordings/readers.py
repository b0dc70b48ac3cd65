"""Recordings of people: files that MNE reads, or folders of spectrograms, read piece by piece."""

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import mne
import numpy as np

from patchwork.jobs.log import LOGGER
from patchwork.recordings import channels, edf
from patchwork.recordings.channels import Channel, Choice
from patchwork.stimuli.spectrograms import COLUMN_S, GRID

# How MNE reads a file, by its ending. EDF and BDF are read by `_open_edf`.
_READ: Mapping[str, Callable[..., mne.io.BaseRaw]] = {
    ".edf": mne.io.read_raw_edf,
    ".bdf": mne.io.read_raw_bdf,
    ".fif": mne.io.read_raw_fif,
    ".fif.gz": mne.io.read_raw_fif,
    ".vhdr": mne.io.read_raw_brainvision,
    ".set": mne.io.read_raw_eeglab,
    ".gdf": mne.io.read_raw_gdf,
}
ALLOWED = (
    "an .edf, .bdf, .fif, .fif.gz, .vhdr (BrainVision), .set (EEGLAB) or .gdf file, or a folder of "
    ".npy spectrograms"
)
# ASSUME: s; a quarter of a window, and as long as the longest chirp of the training data.
SHORTEST_S = 15.0
# ASSUME: EEG from the scalp or the cortex, V: what lies outside is given in another unit.
PLAUSIBLE_V = (1e-7, 5e-3)
# Samples of one read, all channels together: 32 MB as float64.
SAMPLES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Clock:
    """When the first sample of a recording was taken.

    Attributes:
        meas_date: the recording's own zero of time; None if it keeps none. Its zone is UTC, as MNE
            wants it, also where that is not so. For EDF and BDF a whole second, as MNE reads it.
        first_time_s: from there to the first sample that the file still has, seconds.
        is_utc: whether it is known to be UTC, as in FIF; other formats keep local time and no zone.
        stretches: pieces of a file with gaps; empty for a continuous one.
    """

    meas_date: datetime | None = None
    first_time_s: float = 0.0
    is_utc: bool = True
    stretches: tuple[edf.Stretch, ...] = ()

    def moment(self, onset_s: float) -> datetime | None:
        """Date and time of a moment in seconds after the first sample; no zone if unknown."""
        if self.meas_date is None:
            return None
        zero = self.meas_date if self.is_utc else self.meas_date.replace(tzinfo=None)
        return zero + timedelta(seconds=self.first_time_s + float(onset_s))

    def in_file(self, onset_s: float) -> float:
        """Seconds after the first sample as MNE counts them, which closes the gaps of a file."""
        return edf.in_file(self.stretches, float(onset_s))


@dataclass(frozen=True)
class Bad:
    """A stretch that the recording's annotations call bad.

    Attributes:
        start_s: seconds after the file's first sample.
        end_s: likewise.
        channels: that it is about; empty: all.
    """

    start_s: float
    end_s: float
    channels: frozenset[str] = frozenset()


class Signals:
    """Channels of a file, each at the rate at which it was sampled.

    Args:
        path: of the file.
        raws: MNE's readers, none of them preloaded; each has channels of one rate only.
        choice: the channels.
        clock: when the first sample was taken, and where there are gaps.
        volts: channel to what its numbers are to be multiplied by; 1 if not there.
        unknown: channels whose unit is not known, with what the file says.
        bad: stretches that annotations call bad.

    Attributes:
        duration_s: from the first sample to the last, gaps included, seconds.
    """

    def __init__(
        self, path: Path, raws: Sequence[mne.io.BaseRaw], choice: Choice, clock: Clock, *,
        volts: Mapping[str, float] | None = None, unknown: Mapping[str, str] | None = None,
        bad: tuple[Bad, ...] = (),
    ) -> None:  # fmt: skip
        self.path, self.choice, self.clock = path, choice, clock
        self.unknown, self._volts = dict(unknown or {}), dict(volts or {})
        self._raws = tuple(raws)
        self._raw_of = {name: raw for raw in raws for name in raw.ch_names}
        self.bad = bad
        self._length_s = min(raw.n_times / raw.info["sfreq"] for raw in raws)
        last = clock.stretches[-1] if clock.stretches else edf.Stretch(0.0, 0.0, self._length_s)
        self.duration_s = last.start_s + self._length_s - last.file_s

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that are searched."""
        return tuple(one.name for one in self.choice.taken)

    @property
    def rates_hz(self) -> dict[str, float]:
        """Sampling rate by channel."""
        return {one.name: one.rate_hz for one in self.choice.taken}

    @property
    def step_s(self) -> float:
        """From one sample to the next, seconds, at the highest rate."""
        return 1 / max(self.rates_hz.values())

    def read(
        self, start_s: float, stop_s: float, names: Collection[str] | None = None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Samples between two moments, a few channels in memory at a time.

        Args:
            start_s: seconds after the file's first sample, 0 or more.
            stop_s: seconds after the file's first sample; what lies after the end is left out.
            names: channels wanted; all by default.

        Yields:
            channel, and its samples in MNE's unit (volt for EEG), float64, shape (n,); nan in gaps.
        """
        wanted = self.channels if names is None else [n for n in self.channels if n in names]
        for raw in self._raws:
            here = [name for name in wanted if self._raw_of[name] is raw]
            n = max(1, round((stop_s - start_s) * raw.info["sfreq"]))
            at_once = max(1, SAMPLES_AT_ONCE // n)
            for i in range(0, len(here), at_once):
                part = here[i : i + at_once]
                for name, samples in zip(part, self._samples(raw, part, start_s, n), strict=True):
                    yield name, samples * self._volts.get(name, 1.0)

    def _samples(
        self, raw: mne.io.BaseRaw, names: Sequence[str], start_s: float, n: int
    ) -> np.ndarray:
        """Up to n samples of channels of one rate."""
        # Numbers, because a name may also be the name of a type of channels.
        numbers = [raw.ch_names.index(name) for name in names]
        rate = raw.info["sfreq"]
        start = round(start_s * rate)
        if not self.clock.stretches:
            return raw.get_data(numbers, min(start, raw.n_times), min(start + n, raw.n_times))
        n = min(n, max(0, round(self.duration_s * rate) - start))
        samples = np.full((len(numbers), n), np.nan)
        for one in self.clock.stretches:
            # Numbers of samples: of the recording, and of those that the file holds.
            offset = round(one.start_s * rate) - round(one.file_s * rate)
            first = max(start, round(one.start_s * rate))
            last = min(start + n, round(one.start_s * rate) + round(one.length_s * rate))
            last = min(last, raw.n_times + offset)
            if first < last:
                held = raw.get_data(numbers, first - offset, last - offset)
                samples[:, first - start : last - start] = held
        return samples


def bad_stretches(annotations: mne.Annotations, first_time_s: float = 0.0) -> tuple[Bad, ...]:
    """Annotations that MNE would reject: those whose description starts with ``bad``.

    Args:
        annotations: of a recording.
        first_time_s: what to take off their onsets for seconds after the file's first sample.
    """
    return tuple(
        Bad(onset, onset + duration, frozenset(names))
        for onset, duration, text, names in zip(
            (annotations.onset - first_time_s).tolist(), annotations.duration.tolist(),
            annotations.description, annotations.ch_names, strict=True,
        )
        if text.lower().startswith("bad")
    )  # fmt: skip


class Spectrograms:
    """A folder of time-frequency arrays, one channel per file, mapped and never loaded whole.

    Args:
        path: the folder.
        arrays: by channel, shape (frequencies, columns), frequency upwards.

    Attributes:
        choice: channels: stems of the file names, sorted.
        bad: none.
        clock: a folder knows no date.
        step_s: length of a column, seconds.
        duration_s: length of the arrays, seconds.
    """

    clock = Clock()
    step_s = COLUMN_S
    bad: tuple[Bad, ...] = ()

    def __init__(
        self, path: Path, arrays: Mapping[str, np.ndarray], left_out: Mapping[str, str], *,
        by_name: bool,
    ) -> None:  # fmt: skip
        taken = tuple(Channel(name, "spectrogram", 1 / COLUMN_S) for name in arrays)
        self.path, self.choice = path, Choice(taken, left_out, by_name)
        self._arrays = arrays
        self.duration_s = min(array.shape[1] for array in arrays.values()) * COLUMN_S

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that are searched."""
        return tuple(one.name for one in self.choice.taken)

    def read(
        self, start_s: float, stop_s: float, names: Collection[str] | None = None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Columns between two moments, by channel, float64, shape (frequencies, columns)."""
        start, stop = round(start_s / COLUMN_S), round(stop_s / COLUMN_S)
        for name in self.channels:
            if names is None or name in names:
                yield name, np.array(self._arrays[name][:, start:stop], dtype=float)


Recording = Signals | Spectrograms


def open_recording(
    path: str | Path,
    *,
    picks: str | Sequence[str] = "data",
    exclude: Sequence[str] = (),
    units: str | None = None,
) -> Recording:
    """Open a recording, read nothing but its headers, and refuse what no network can search.

    Args:
        path: a file that MNE reads (see `ALLOWED`), or a folder of arrays of shape (128, columns),
            one per channel: rows are bands of 100 / 128 Hz, ascending, columns spans of 60 / 128 s.
        picks: names of channels, or one of MNE's channel types; a type leaves out channels of
            other types, too slow ones, and those that the file marks as bad. For a folder:
            ``data`` or names.
        exclude: names of channels to leave out.
        units: unit of EDF and BDF channels whose header gives none that is known: V, mV, uV or nV.

    Returns:
        The recording.

    Raises:
        ValueError: one line with file, channel, value and what is allowed.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder; allowed is {ALLOWED}")
    suffix = _suffix(path)
    if path.is_dir():
        found: Recording = _open_folder(path, picks, exclude)
    elif suffix not in _READ:
        raise ValueError(f"{path}: ends in {path.suffix!r}; allowed is {ALLOWED}")
    elif suffix in (".edf", ".bdf"):
        found = _open_edf(path, picks, exclude, units)
    else:
        if units is not None:
            raise ValueError(
                f"{path}: units is {units!r}; allowed for {suffix} files, which have their own, is "
                "null"
            )
        found = _open_other(path, picks, exclude)
    if found.duration_s < SHORTEST_S:
        raise ValueError(
            f"{path}: lasts {found.duration_s:g} s; allowed is {SHORTEST_S:g} s or more"
        )
    return found


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".fif.gz" if name.endswith(".fif.gz") else path.suffix.lower()


def check_signal(recording: Recording, piece_s: float) -> None:
    """Leave out channels without data and say which are left out, or refuse those that were named.

    Reads on only for as long as one channel has shown no data.

    Args:
        recording: as opened; changed where channels are left out.
        piece_s: seconds read at a time, more than 0.

    Raises:
        ValueError: naming file and channels, each flat in every piece or never finite.
    """
    silent: dict[str, str] = dict.fromkeys(recording.channels, "not a number throughout")
    spread: dict[str, float] = {}
    start_s = 0.0
    while silent and start_s < recording.duration_s:
        for name, values in recording.read(start_s, start_s + piece_s, list(silent)):
            finite = values[np.isfinite(values)]
            if finite.size and np.ptp(finite) > 0:
                del silent[name]
                spread[name] = float(np.std(finite))
            elif finite.size:
                silent[name] = f"flat at {finite[0]:g}"
        start_s += piece_s
    choice = recording.choice.without(silent)
    if silent and (recording.choice.by_name or not choice.taken):
        listed = ", ".join(f"{name} ({what})" for name, what in silent.items())
        raise ValueError(
            f"{recording.path}: no data in channel {listed}; allowed are channels with a signal: "
            "leave it out of picks"
        )
    recording.choice = choice
    if choice.left_out:
        LOGGER.warning("%s: left out: %s", recording.path, choice.line())
    if isinstance(recording, Signals):
        _warn_of_units(recording, spread)


def _warn_of_units(recording: Signals, spread: Mapping[str, float]) -> None:
    """Say where numbers cannot be trusted as volts."""
    told = {name: text for name, text in recording.unknown.items() if name in recording.channels}
    if told:
        listed = ", ".join(f"{name} ({text!r})" for name, text in told.items())
        LOGGER.warning(
            "%s: no known unit in channel %s: events are found, but have no amplitude; set units",
            recording.path, listed,
        )  # fmt: skip
    low, high = PLAUSIBLE_V
    odd = {
        one.name: spread[one.name]
        for one in recording.choice.taken
        if one.kind in channels.VOLT_KINDS and one.name not in told
        and not low <= spread.get(one.name, low) <= high
    }  # fmt: skip
    if odd:
        listed = ", ".join(f"{name} ({volts * 1e6:.3g} uV)" for name, volts in odd.items())
        LOGGER.warning(
            "%s: standard deviation of channel %s is not that of an EEG, %g to %g uV: is its unit "
            "right?", recording.path, listed, low * 1e6, high * 1e6,
        )  # fmt: skip


def _open_folder(path: Path, picks: str | Sequence[str], exclude: Sequence[str]) -> Spectrograms:
    files = {file.stem: file for file in sorted(path.glob("*.npy"))}
    if not files:
        raise ValueError(f"{path}: holds no .npy file; allowed is {ALLOWED}")
    if isinstance(picks, str) and picks != "data":
        raise ValueError(f"{path}: picks is {picks!r}; allowed for a folder is data, or names")
    # Arrays reach as far as the band; their rate is not looked at.
    listed = [Channel(name, "eeg", channels.RATE_MIN_HZ) for name in files]
    choice = channels.choose(path, listed, picks, exclude)
    arrays = {one.name: _mapped(files[one.name]) for one in choice.taken}
    lengths = {array.shape[1] for array in arrays.values()}
    if len(lengths) > 1:
        raise ValueError(
            f"{path}: arrays have {min(lengths)} to {max(lengths)} columns; allowed is one length"
        )
    return Spectrograms(path, arrays, choice.left_out, by_name=choice.by_name)


def _mapped(path: Path) -> np.ndarray:
    try:
        # A memory map refuses arrays of Python objects, so nothing is ever unpickled.
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # of many kinds, by what is broken in the file
        raise ValueError(
            f"{path}: is no array of numbers ({_one_line(error)}); allowed is a .npy file of "
            f"{GRID} frequencies by columns"
        ) from error
    if array.ndim != 2 or array.shape[0] != GRID or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: holds {array.dtype} of shape {array.shape}; allowed are real numbers of "
            f"shape ({GRID}, columns)"
        )
    return array


def _open_other(path: Path, picks: str | Sequence[str], exclude: Sequence[str]) -> Signals:
    """Formats of one sampling rate."""
    suffix = _suffix(path)
    is_fif = suffix.startswith(".fif")
    raw = _open_with_mne(path, {"allow_maxshield": True} if is_fif else {})
    rates = [float(raw.info["sfreq"])] * len(raw.ch_names)
    choice = channels.choose(path, _described(raw, rates, by_label=not is_fif), picks, exclude)
    clock = Clock(raw.info["meas_date"], float(raw.first_time), is_utc=is_fif)
    bad = bad_stretches(raw.annotations, float(raw.first_time))
    return Signals(path, [raw], choice, clock, bad=bad)


def _open_edf(
    path: Path, picks: str | Sequence[str], exclude: Sequence[str], units: str | None
) -> Signals:
    """One reader per sampling rate, for one reader of all would resample the slower ones."""
    if units is not None and units not in edf.VOLTS:
        raise ValueError(f"{path}: units is {units!r}; allowed is {', '.join(edf.VOLTS)}")
    header = edf.read_header(path)
    options: dict[str, Any] = {"exclude_after_unique": True}
    raw = _open_with_mne(path, options)
    if len(header.rates_hz) != len(raw.ch_names):
        raise ValueError(
            f"{path}: header describes {len(header.rates_hz)} signals and {len(raw.ch_names)} can "
            f"be read; allowed is a whole {path.suffix[1:].upper()} file"
        )
    found = _described(raw, header.rates_hz, by_label=True)
    choice = channels.choose(path, found, picks, exclude)
    raws = []
    for rate in dict.fromkeys(one.rate_hz for one in choice.taken):
        same = [one.name for one in choice.taken if one.rate_hz == rate]
        raws.append(_open_with_mne(path, {**options, "include": same}))
    # MNE takes numbers of an unknown unit as volts.
    unknown = {
        name: unit
        for name, unit in zip(raw.ch_names, header.units, strict=True)
        if unit not in edf.VOLTS
    }
    volts = {} if units is None else dict.fromkeys(unknown, edf.VOLTS[units])
    clock = Clock(
        raw.info["meas_date"] if header.has_start else None, is_utc=False,
        stretches=header.stretches,
    )  # fmt: skip
    if header.stretches:
        LOGGER.warning(
            "%s: has %d gaps of %.6g s together; windows that touch one are left out", path,
            len(header.stretches) - 1,
            header.stretches[-1].start_s - header.stretches[-1].file_s,
        )  # fmt: skip
    noted = raw.annotations
    if header.stretches:  # MNE closes the gaps, and drops annotations that then lie after the end
        noted = mne.read_annotations(path, encoding=options.get("encoding", "utf8"))
    return Signals(
        path, raws, choice, clock, volts=volts, unknown={} if units else unknown,
        bad=bad_stretches(noted),
    )  # fmt: skip


def _described(raw: mne.io.BaseRaw, rates_hz: Sequence[float], *, by_label: bool) -> list[Channel]:
    """Every channel of a file; what MNE takes for EEG is looked at again where only labels tell."""
    return [
        Channel(
            name, channels.kind_of(name) if by_label and kind == "eeg" else kind, rate,
            name in raw.info["bads"],
        )
        for name, kind, rate in zip(raw.ch_names, raw.get_channel_types(), rates_hz, strict=True)
    ]  # fmt: skip


def _open_with_mne(path: Path, options: dict[str, Any]) -> mne.io.BaseRaw:
    """Open with MNE, nothing preloaded; whatever goes wrong inside becomes one line.

    Options get the encoding of annotations where it is not UTF-8.
    """
    suffix = _suffix(path)
    try:
        with warnings.catch_warnings():
            # Names of files are the user's own affair.
            warnings.filterwarnings("ignore", message=".*does not conform to MNE naming.*")
            return _READ[suffix](path, preload=False, verbose="warning", **options)
    except Exception as error:
        if suffix in (".edf", ".bdf") and "encoding" in str(error) and "encoding" not in options:
            LOGGER.warning("%s: annotations are not UTF-8 and are read as Latin-1", path)
            options["encoding"] = "latin1"
            return _open_with_mne(path, options)
        format_name = suffix[1:].upper()
        raise ValueError(
            f"{path}: cannot be read as {format_name} ({_one_line(error)}); allowed is {ALLOWED}"
        ) from error


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160].rstrip(". ")
