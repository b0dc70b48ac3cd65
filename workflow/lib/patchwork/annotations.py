"""Events as annotations that MNE-Python and EDF viewers read, in the recording's own clock."""

from pathlib import Path

import edfio
import mne
import pandas as pd

from patchwork.recordings import Clock

# Between a description and the channel that it is about, as MNE writes and reads it in EDF.
_AT = "@@"
DESCRIPTION = "chirp"


def annotate(events: pd.DataFrame, clock: Clock) -> mne.Annotations:
    """Events as annotations that lie at the right place on the recording they come from.

    Args:
        events: channel, onset_s (seconds after the file's first sample), and perhaps duration_s.
        clock: of the recording.

    Returns:
        One annotation per event, named after `DESCRIPTION` and bound to its channel. Onsets count
        from the recording's ``meas_date``; where it has none, from the file's first sample, as MNE
        does.
    """
    offset = 0.0 if clock.meas_date is None else clock.first_time_s
    return mne.Annotations(
        onset=events["onset_s"].to_numpy(float) + offset,
        duration=events["duration_s"] if "duration_s" in events else [0.0] * len(events),
        description=[DESCRIPTION] * len(events),
        orig_time=clock.meas_date,
        ch_names=[(name,) for name in events["channel"]],
    )


def save(annotations: mne.Annotations, path: str | Path) -> None:
    """Write annotations as MNE does: ``-annot.fif`` (onsets in single precision) or ``.csv``."""
    annotations.save(path, overwrite=True, verbose="error")


def write_edf(events: pd.DataFrame, clock: Clock, path: str | Path) -> None:
    """Write an EDF+ file of annotations alone, which starts when the recording does.

    Args:
        events: as for `annotate`.
        clock: of the recording.
        path: an ``.edf`` file.

    Raises:
        ValueError: for a date that EDF cannot hold.

    Source: Kemp and Olivan 2003, "European data format 'plus'", section 2.2.
    """
    begin = clock.moment(0.0)
    if begin is not None and not 1985 <= begin.year <= 2084:
        raise ValueError(f"{path}: recording is of {begin:%Y}; allowed in EDF is 1985 to 2084")
    durations = events["duration_s"] if "duration_s" in events else [None] * len(events)
    texts = [
        edfio.EdfAnnotation(float(onset), duration or None, f"{DESCRIPTION}{_AT}{channel}")
        for channel, onset, duration in zip(
            events["channel"], events["onset_s"], durations, strict=True
        )
    ]
    edfio.Edf(
        [],
        recording=edfio.Recording(startdate=None if begin is None else begin.date()),
        starttime=None if begin is None else begin.time(),
        annotations=texts,
    ).write(Path(path))


def read_edf(path: str | Path) -> mne.Annotations:
    """Annotations of an EDF+ file of annotations alone, each bound to its channel.

    Args:
        path: written by `write_edf`.

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
