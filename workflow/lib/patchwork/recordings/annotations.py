"""Events as annotations that MNE-Python and EDF viewers read, in the recording's own clock."""

from pathlib import Path

import edfio
import mne
import numpy as np
import pandas as pd

from patchwork.jobs.log import LOGGER
from patchwork.recordings.readers import Clock

DESCRIPTION = "chirp"
# Where a format cannot be read without it: an annotation of the recording's first sample.
ANCHOR = "first sample"
# Between a description and the channel that it is about, as MNE writes and reads it in EDF.
_AT = "@@"
_EDF_YEARS = (1985, 2084)


def annotate(events: pd.DataFrame, clock: Clock) -> mne.Annotations:
    """Events as annotations that lie at the right place on the recording they come from.

    Args:
        events: channel, onset_s (seconds after the file's first sample), and perhaps duration_s.
        clock: of the recording.

    Returns:
        One annotation per event, named `DESCRIPTION` and bound to its channel. Onsets count from
        the recording's ``meas_date``; where it has none, from the file's first sample, as MNE does.
        Gaps of the file are closed, as MNE closes them.
    """
    offset = 0.0 if clock.meas_date is None else clock.first_time_s
    return mne.Annotations(
        onset=[clock.in_file(onset) + offset for onset in events["onset_s"]],
        duration=events["duration_s"] if "duration_s" in events else [0.0] * len(events),
        description=[DESCRIPTION] * len(events),
        orig_time=clock.meas_date,
        ch_names=[(name,) for name in events["channel"]],
    )


def save(events: pd.DataFrame, clock: Clock, path: str | Path) -> None:
    """Write events as a file of annotations, in the format of its ending.

    Args:
        events: as for `annotate`.
        clock: of the recording.
        path: ``-annot.fif`` (onsets in single precision), ``.csv`` as MNE writes it (microseconds;
            with an `ANCHOR` where there is no date or no event, without which MNE could not read
            it), or ``.edf``, an EDF+ file of annotations alone that starts when the recording does.
            A date that EDF cannot hold is left out there, and a line in the log says so.

    Raises:
        ValueError: for another ending.
    """
    suffix = Path(path).suffix
    if suffix not in (".fif", ".csv", ".edf"):
        raise ValueError(f"{path}: ends in {suffix!r}; allowed is .fif, .csv or .edf")
    if suffix == ".edf":
        _write_edf(events, clock, Path(path))
        return
    annotations = annotate(events, clock)
    if suffix == ".csv" and (clock.meas_date is None or events.empty):
        onset = 0.0 if clock.meas_date is None else clock.first_time_s
        annotations.append(onset, 0.0, ANCHOR)
    annotations.save(path, overwrite=True, verbose="error")


def _write_edf(events: pd.DataFrame, clock: Clock, path: Path) -> None:
    """Source: Kemp and Olivan 2003, "European data format 'plus'", section 2.2."""
    begin = clock.moment(0.0)
    if begin is not None and not _EDF_YEARS[0] <= begin.year <= _EDF_YEARS[1]:
        LOGGER.warning(
            "%s: recording is of %d, and EDF holds dates of %d to %d: its date is left out",
            path, begin.year, *_EDF_YEARS,
        )  # fmt: skip
        begin = None
    rows = annotate(events, Clock())
    texts = [
        edfio.EdfAnnotation(onset, duration or None, f"{DESCRIPTION}{_AT}{channel}")
        for onset, duration, (channel,) in zip(
            rows.onset.tolist(), rows.duration.tolist(), rows.ch_names, strict=True
        )
    ]
    file = edfio.Edf(
        [],
        recording=edfio.Recording(startdate=None if begin is None else begin.date()),
        starttime=None if begin is None else begin.time(),
        annotations=texts or [edfio.EdfAnnotation(0.0, None, ANCHOR)],
    )
    file.write(path)


def as_bids(events: pd.DataFrame, clock: Clock, duration_s: float) -> pd.DataFrame:
    """Events in the columns of a BIDS file of events, as SzCORE's scoring reads them.

    Args:
        events: channel, onset_s, score, and perhaps duration_s.
        clock: of the recording.
        duration_s: of the recording.

    Source: Dan et al. 2024, "SzCORE"; BIDS specification, "Events".
    """
    begin = clock.moment(0.0)
    return pd.DataFrame(
        {
            "onset": events["onset_s"],
            "duration": events.get("duration_s", np.nan),
            "eventType": DESCRIPTION,
            "confidence": events["score"],
            "channels": events["channel"],
            "dateTime": None if begin is None else begin.strftime("%Y-%m-%d %H:%M:%S"),
            "recordingDuration": duration_s,
        },
        index=events.index,
    )


def read_edf(path: str | Path) -> mne.Annotations:
    """Annotations of an EDF+ file of annotations alone, each bound to its channel.

    Args:
        path: written by `save`.

    Returns:
        Annotations whose onsets count from the first sample of the recording.
    """
    read = mne.read_annotations(path)
    parts = [text.partition(_AT) for text in read.description]
    return mne.Annotations(
        onset=read.onset,
        duration=read.duration,
        description=[text for text, _, _ in parts],
        ch_names=[(channel,) if channel else () for _, _, channel in parts],
    )
