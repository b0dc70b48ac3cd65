"""Recordings of people: EDF, BDF and FIF files, or folders of spectrograms, read piece by piece."""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import mne
import numpy as np

from patchwork.stimuli.spectrograms import COLUMN_S, DURATION_S, FREQUENCY_MAX_HZ, GRID

FORMATS = {".edf": "EDF", ".bdf": "BDF", ".fif": "FIF"}
ALLOWED = "an .edf, .bdf or .fif file, or a folder of .npy spectrograms"
# Samples of one read, all channels together: 32 MB as float64.
SAMPLES_AT_ONCE = 4_000_000
_HEADER, _PER_SIGNAL = 256, 256
_EDF_STARTS = {".edf": b"0       ", ".bdf": b"\xffBIOSEMI"}
_MARKS = ("EDF Annotations", "BDF Annotations")


@dataclass(frozen=True)
class Clock:
    """When the first sample of a recording was taken.

    Attributes:
        meas_date: the recording's own zero of time, with time zone; None if it keeps none. For EDF
            and BDF a whole second, as MNE reads it.
        first_time_s: from there to the first sample that the file still has, seconds.
    """

    meas_date: datetime | None = None
    first_time_s: float = 0.0

    def moment(self, onset_s: float) -> datetime | None:
        """Date and time of a moment, given in seconds after the file's first sample."""
        if self.meas_date is None:
            return None
        return self.meas_date + timedelta(seconds=self.first_time_s + float(onset_s))


class Signals:
    """Channels of an EDF, BDF or FIF file, each at the rate at which it was sampled.

    Args:
        path: of the file.
        raws: MNE's readers, none of them preloaded; each has channels of one rate only.
        channels: names, in the order of the file.

    Attributes:
        channels: names of the picked channels.
        rates_hz: sampling rate by channel.
        clock: when the first sample was taken.
        duration_s: length of the recording, seconds.
        step_s: from one sample to the next, seconds, at the highest rate.
    """

    def __init__(self, path: Path, raws: Sequence[mne.io.BaseRaw], channels: Sequence[str]) -> None:
        self.path, self.channels = path, tuple(channels)
        self._raws = tuple(raws)
        self._raw_of = {name: raw for raw in raws for name in raw.ch_names}
        self.rates_hz = {name: float(self._raw_of[name].info["sfreq"]) for name in channels}
        first = raws[0]
        self.clock = Clock(first.info["meas_date"], float(first.first_time))
        self.step_s = 1 / max(self.rates_hz.values())
        self.duration_s = min(raw.n_times / raw.info["sfreq"] for raw in raws)

    def read(
        self, start_s: float, stop_s: float, names: Collection[str] | None = None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Samples between two moments, a few channels in memory at a time.

        Args:
            start_s: seconds after the file's first sample, 0 or more.
            stop_s: seconds after the file's first sample; what lies after the end is left out.
            names: channels wanted; all by default.

        Yields:
            channel, and its samples in MNE's unit (volt for EEG), float64, shape (n,).
        """
        wanted = self.channels if names is None else [n for n in self.channels if n in names]
        for raw in self._raws:
            here = [name for name in wanted if self._raw_of[name] is raw]
            rate = raw.info["sfreq"]
            start = round(start_s * rate)
            stop = min(start + round((stop_s - start_s) * rate), raw.n_times)
            at_once = max(1, SAMPLES_AT_ONCE // max(stop - start, 1))
            for i in range(0, len(here), at_once):
                part = here[i : i + at_once]
                # Numbers, because a name may also be the name of a type of channels.
                numbers = [raw.ch_names.index(name) for name in part]
                yield from zip(part, raw.get_data(numbers, start, stop), strict=True)


class Spectrograms:
    """A folder of time-frequency arrays, one channel per file, mapped and never loaded whole.

    Args:
        path: the folder.
        arrays: by channel, shape (frequencies, columns), frequency upwards.

    Attributes:
        channels: stems of the file names, sorted.
        clock: a folder knows no date.
        step_s: length of a column, seconds.
        duration_s: length of the arrays, seconds.
    """

    clock = Clock()
    step_s = COLUMN_S

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        self.path, self.channels = path, tuple(arrays)
        self._arrays = arrays
        self.duration_s = min(array.shape[1] for array in arrays.values()) * COLUMN_S

    def read(
        self, start_s: float, stop_s: float, names: Collection[str] | None = None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Columns between two moments, by channel, float64, shape (frequencies, columns)."""
        start, stop = round(start_s / COLUMN_S), round(stop_s / COLUMN_S)
        for name, array in self._arrays.items():
            if names is None or name in names:
                yield name, np.array(array[:, start:stop], dtype=float)


Recording = Signals | Spectrograms


def open_recording(
    path: str | Path,
    *,
    picks: str | Sequence[str] = "data",
    units: str | None = None,
) -> Recording:
    """Open a recording, read nothing but its headers, and refuse what no network can search.

    Args:
        path: an EDF, BDF or FIF file, or a folder of ``.npy`` arrays of shape (128, columns), one
            per channel: rows are bands of 100 / 128 Hz, ascending, columns spans of 60 / 128 s.
        picks: names of channels, or one of MNE's channel types; a type leaves out channels that the
            file marks as bad. For a folder: ``data`` or names.
        units: unit of EDF and BDF channels whose header gives none, for example ``uV``.

    Returns:
        The recording.

    Raises:
        ValueError: one line with file, channel, value and what is allowed.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder; allowed is {ALLOWED}")
    if path.is_dir():
        found: Recording = _open_folder(path, picks)
    else:
        suffix = path.suffix.lower()
        if suffix not in FORMATS:
            raise ValueError(f"{path}: ends in {path.suffix!r}; allowed is {ALLOWED}")
        open_file = _open_fif if suffix == ".fif" else _open_edf
        found = open_file(path, picks, units)
        check_rates(found)
    if found.duration_s < DURATION_S:
        raise ValueError(
            f"{path}: lasts {found.duration_s:g} s; allowed is {DURATION_S:g} s, one window, "
            "or more"
        )
    return found


def check_rates(recording: Signals) -> None:
    """Stop at a channel that was sampled too slowly for the band.

    Raises:
        ValueError: naming file, channel and rate.
    """
    for name, rate in recording.rates_hz.items():
        if rate < 2 * FREQUENCY_MAX_HZ:
            raise ValueError(
                f"{recording.path}: channel {name} is sampled at {rate:g} Hz; allowed is "
                f"{2 * FREQUENCY_MAX_HZ:g} Hz or more for the band of 0 to "
                f"{FREQUENCY_MAX_HZ:g} Hz: leave it out of picks"
            )


def check_signal(recording: Recording, piece_s: float) -> None:
    """Stop at channels without data; reads on only for as long as one has shown none.

    Args:
        recording: as opened.
        piece_s: seconds read at a time, more than 0.

    Raises:
        ValueError: naming file and channels, each flat in every piece or never finite.
    """
    silent: dict[str, str] = dict.fromkeys(recording.channels, "not a number throughout")
    start_s = 0.0
    while silent and start_s < recording.duration_s:
        for name, values in recording.read(start_s, start_s + piece_s, list(silent)):
            finite = values[np.isfinite(values)]
            if finite.size and np.ptp(finite) > 0:
                del silent[name]
            elif finite.size:
                silent[name] = f"flat at {finite[0]:g}"
        start_s += piece_s
    if silent:
        listed = ", ".join(f"{name} ({what})" for name, what in silent.items())
        raise ValueError(
            f"{recording.path}: no data in channel {listed}; allowed are channels with a signal: "
            "leave it out of picks"
        )


def _open_folder(path: Path, picks: str | Sequence[str]) -> Spectrograms:
    files = {file.stem: file for file in sorted(path.glob("*.npy"))}
    if not files:
        raise ValueError(f"{path}: holds no .npy file; allowed is {ALLOWED}")
    if isinstance(picks, str) and picks != "data":
        raise ValueError(f"{path}: picks is {picks!r}; allowed for a folder is data, or names")
    names = list(files) if isinstance(picks, str) else _named(path, picks, list(files))
    arrays = {name: _mapped(files[name]) for name in names}
    lengths = {array.shape[1] for array in arrays.values()}
    if len(lengths) > 1:
        raise ValueError(
            f"{path}: arrays have {min(lengths)} to {max(lengths)} columns; allowed is one length"
        )
    return Spectrograms(path, arrays)


def _mapped(path: Path) -> np.ndarray:
    try:
        # A memory map refuses arrays of Python objects, so nothing is ever unpickled.
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError) as error:
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


def _open_fif(path: Path, picks: str | Sequence[str], units: str | None) -> Signals:
    if units is not None:
        raise ValueError(f"{path}: units is {units!r}; allowed for FIF, which has its own, is null")
    raw = _open_with_mne(path, mne.io.read_raw_fif, allow_maxshield=True)
    return Signals(path, [raw], _picked(path, raw, picks))


def _open_edf(path: Path, picks: str | Sequence[str], units: str | None) -> Signals:
    """One reader per sampling rate, for one reader of all would resample the slower ones."""
    suffix = path.suffix.lower()
    rates = _native_rates(path)
    read = mne.io.read_raw_edf if suffix == ".edf" else mne.io.read_raw_bdf
    options: dict[str, Any] = {"units": units, "exclude_after_unique": True}
    raw = _open_with_mne(path, read, **options)
    if len(rates) != len(raw.ch_names):
        raise ValueError(
            f"{path}: header describes {len(rates)} signals and {len(raw.ch_names)} can be read; "
            f"allowed is a whole {FORMATS[suffix]} file"
        )
    rate_of = dict(zip(raw.ch_names, rates, strict=True))
    names = _picked(path, raw, picks)
    raws = []
    for rate in dict.fromkeys(rate_of[name] for name in names):
        same = [name for name in names if rate_of[name] == rate]
        raws.append(_open_with_mne(path, read, include=same, **options))
    return Signals(path, raws, names)


def _native_rates(path: Path) -> list[float]:
    """Sampling rate of each signal as the header states it, annotations left out.

    Raises:
        ValueError: if the file is no EDF or BDF file, or one with gaps between its records.

    Source: Kemp and Olivan 2003, "European data format 'plus'", section 2.1.
    """
    suffix = path.suffix.lower()
    format_name = FORMATS[suffix]
    with path.open("rb") as file:
        header = file.read(_HEADER)
        try:
            n_signals = int(header[252:256])
            record_s = float(header[244:252]) or 1.0  # as MNE does where none is given
            table = file.read(n_signals * _PER_SIGNAL)
            fields = [table[n_signals * 216 + 8 * i :][:8] for i in range(n_signals)]
            samples = [int(field) for field in fields]
            correct = header.startswith(_EDF_STARTS[suffix]) and n_signals > 0
        except ValueError:
            correct = False
    if not correct:
        raise ValueError(f"{path}: is no {format_name} file by its header; allowed is {ALLOWED}")
    if header[192:197] in (b"EDF+D", b"BDF+D"):
        raise ValueError(
            f"{path}: has gaps between its records ({header[192:197].decode()}); allowed is a "
            "continuous recording"
        )
    labels = [table[16 * i :][:16].decode("latin-1").strip() for i in range(n_signals)]
    return [n / record_s for n, label in zip(samples, labels, strict=True) if label not in _MARKS]


def _open_with_mne(path: Path, read: Any, **options: Any) -> mne.io.BaseRaw:
    """Open with MNE, nothing preloaded; whatever goes wrong inside becomes one line."""
    try:
        with warnings.catch_warnings():
            # Names of files are the user's own affair.
            warnings.filterwarnings("ignore", message=".*does not conform to MNE naming.*")
            return read(path, preload=False, verbose="warning", **options)
    except Exception as error:
        raise ValueError(
            f"{path}: cannot be read as {FORMATS[path.suffix.lower()]} ({_one_line(error)}); "
            f"allowed is {ALLOWED}"
        ) from error


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160].rstrip(". ")


def _picked(path: Path, raw: mne.io.BaseRaw, picks: str | Sequence[str]) -> list[str]:
    if not isinstance(picks, str):
        return _named(path, picks, raw.ch_names)
    kinds = sorted(set(raw.get_channel_types()) - {"stim"})
    try:
        found = raw.copy().pick(picks, exclude="bads", verbose="error")
    except ValueError as error:
        raise ValueError(
            f"{path}: picks is {picks!r}, which finds no good channel; allowed is data, "
            f"{', '.join(kinds)}, or a list of names"
        ) from error
    return list(found.ch_names)


def _named(path: Path, picks: Sequence[str], names: Sequence[str]) -> list[str]:
    for name in picks:
        if name not in names:
            shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            raise ValueError(f"{path}: picks has {name!r}; allowed is {shown}")
    if not picks:
        raise ValueError(f"{path}: picks is empty; allowed is data, or one name or more")
    return [name for name in names if name in picks]
