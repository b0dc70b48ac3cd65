"""Headers of EDF and BDF files: rates, units, when each record was taken.

Source: Kemp and Olivan 2003, "European data format 'plus'", sections 2.1 and 2.2.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

MARKS = ("EDF Annotations", "BDF Annotations")
# What a physical dimension means in volts.
VOLTS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "µV": 1e-6, "μV": 1e-6, "nV": 1e-9}
_HEADER, _PER_SIGNAL = 256, 256
_STARTS = {".edf": b"0       ", ".bdf": b"\xffBIOSEMI"}
_SAMPLE_BYTES = {".edf": 2, ".bdf": 3}
# Start of a record in its first annotation: seconds, then two marks.
_TIMEKEEPING = re.compile(rb"([+-]\d+(?:\.\d+)?)\x14\x14")
_MOMENT = re.compile(rb"\d\d\.\d\d\.\d\d")
# What writers put where they know neither date nor time.
_UNKNOWN_START = b"01.01.8500.00.00"


@dataclass(frozen=True)
class Stretch:
    """A piece of a recording without a gap.

    Attributes:
        start_s: when it starts, seconds after the recording's first sample.
        file_s: seconds of recording that the file holds before it.
        length_s: how long it lasts, seconds.
    """

    start_s: float
    file_s: float
    length_s: float


@dataclass(frozen=True)
class Header:
    """What the header of an EDF or BDF file says; annotation channels are left out.

    Attributes:
        rates_hz: of each signal.
        units: physical dimension of each signal, as written.
        has_start: whether the file says when it was recorded.
        stretches: pieces without a gap; empty where the file is continuous.
    """

    rates_hz: list[float]
    units: list[str]
    has_start: bool
    stretches: tuple[Stretch, ...] = field(default=())


def read_header(path: Path) -> Header:
    """Read the header, and in a file that may have gaps the time of each record.

    Args:
        path: ends in .edf or .bdf.

    Raises:
        ValueError: if the file is none of these, holds annotations alone, or says of its records
            neither when they start nor that they are continuous.
    """
    suffix = path.suffix.lower()
    name = suffix[1:].upper()
    with path.open("rb") as file:
        header = file.read(_HEADER)
        try:
            n_signals = int(header[252:256])
            record_s = float(header[244:252])
            table = file.read(n_signals * _PER_SIGNAL)
            samples = [int(table[n_signals * 216 + 8 * i :][:8]) for i in range(n_signals)]
            correct = header.startswith(_STARTS[suffix]) and n_signals > 0
        except ValueError:
            correct = False
    if not correct:
        raise ValueError(f"{path}: is no {name} file by its header; allowed is a whole {name} file")
    labels = [table[16 * i :][:16].decode("latin-1").strip() for i in range(n_signals)]
    own = [i for i, label in enumerate(labels) if label not in MARKS]
    if not own:
        raise ValueError(
            f"{path}: holds annotations alone; allowed is {name} file with one signal or more"
        )
    units = [table[n_signals * 96 + 8 * i :][:8].decode("latin-1").strip() for i in own]
    length_s = record_s or 1.0  # as MNE does where none is given
    start = header[168:184]
    has_start = bool(_MOMENT.fullmatch(start[:8]) and _MOMENT.fullmatch(start[8:]))
    stretches: tuple[Stretch, ...] = ()
    if header[192:197] in (b"EDF+D", b"BDF+D"):
        stretches = _stretches(path, labels, samples, length_s)
    return Header(
        [samples[i] / length_s for i in own], units, has_start and start != _UNKNOWN_START,
        stretches,
    )  # fmt: skip


def _stretches(
    path: Path, labels: list[str], samples: list[int], record_s: float
) -> tuple[Stretch, ...]:
    """Pieces without a gap; none if there is but one."""
    width = _SAMPLE_BYTES[path.suffix.lower()]
    marks = [i for i, label in enumerate(labels) if label in MARKS]
    if not marks:
        raise ValueError(
            f"{path}: is marked as one with gaps, but has no annotations that say where; allowed "
            "is EDF+D with annotations"
        )
    first = _HEADER + _PER_SIGNAL * len(labels)
    before, record = width * sum(samples[: marks[0]]), width * sum(samples)
    n_records = (path.stat().st_size - first) // record
    begins = np.empty(n_records)
    with path.open("rb") as file:
        for i in range(n_records):
            file.seek(first + i * record + before)
            found = _TIMEKEEPING.match(file.read(width * samples[marks[0]]))
            if found is None:
                raise ValueError(
                    f"{path}: record {i} does not say when it starts; allowed is EDF+D whose "
                    "records do"
                )
            begins[i] = float(found[1])
    begins -= begins[0]
    # ASSUME: less than a thousandth of a record is rounding.
    steps = np.diff(begins)
    if (steps < record_s * 0.999).any():
        i = int(np.argmax(steps < record_s * 0.999))
        raise ValueError(
            f"{path}: record {i + 1} starts {steps[i]:g} s after the one before; allowed is "
            f"{record_s:g} s, the length of a record, or more"
        )
    starts = np.r_[0, np.flatnonzero(steps > record_s * 1.001) + 1]
    ends = np.r_[starts[1:], n_records]
    if len(starts) == 1:
        return ()
    return tuple(
        Stretch(float(begins[i]), float(i * record_s), float((j - i) * record_s))
        for i, j in zip(starts, ends, strict=True)
    )


def in_file(stretches: tuple[Stretch, ...], moment_s: float) -> float:
    """Seconds of recording that a file holds before a moment; in a gap, before the gap.

    Args:
        stretches: of the file, see `Header`.
        moment_s: seconds after the recording's first sample.
    """
    begun = [one for one in stretches if one.start_s <= moment_s]
    if not begun:
        return moment_s
    return begun[-1].file_s + min(moment_s - begun[-1].start_s, begun[-1].length_s)
