"""Events found in a file lie at the same moment once they are annotations of that recording."""

import warnings
from datetime import UTC, datetime, timedelta

import edfio
import mne
import numpy as np
import pandas as pd
import planted
import pytest
from patchwork.recordings import annotations, detection, readers

CROPPED_S = 20.5
ONSETS = {"Cz": [40.0, 200.0], "Pz": [111.25]}
SEARCH = detection.Search(overlap_s=30, edge_s=5, threshold=0.5, merge_s=2)
CLOCK = readers.Clock(planted.MEAS_DATE, 20.5)
EVENTS = pd.DataFrame(
    {
        "channel": ["Cz", "Fp1-A2", "Cz"],
        "onset_s": [3.25, 3.25, 1000.0001],
        "duration_s": [0.0, 10.5, 1.0],
    }
)


@pytest.fixture(scope="module")
def whole() -> mne.io.RawArray:
    return planted.raw(256, 300, ONSETS)


def keep(raw: mne.io.BaseRaw, path) -> mne.io.BaseRaw:
    """The raw, saved and opened again, as FIF or EDF."""
    if path.suffix == ".fif":
        raw.save(path, verbose="error")
        return mne.io.read_raw_fif(path, verbose="error")
    samples = {name: (raw.info["sfreq"], raw[name][0][0]) for name in raw.ch_names}
    begin = raw.info["meas_date"] + timedelta(seconds=raw.first_time)
    planted.write_edf(path, samples, starttime=begin.replace(tzinfo=None).time())
    return mne.io.read_raw_edf(path, verbose="error")


def written(found, clock, folder, kind: str) -> mne.Annotations:
    """Annotations of the events after a round trip through a file."""
    path = folder / {"fif": "found-annot.fif", "csv": "found_annot.csv", "edf": "found.edf"}[kind]
    annotations.save(found, clock, path)
    read = annotations.read_edf(path) if kind == "edf" else mne.read_annotations(path)
    return read[read.description != annotations.ANCHOR]


@pytest.mark.parametrize("kind", ["fif", "csv", "edf"])
@pytest.mark.parametrize("source", ["cut_raw.fif", "cut.edf", "undated_raw.fif"])
def test_a_planted_chirp_is_found_at_its_own_moment(whole, tmp_path, source, kind):
    raw = whole.copy().crop(CROPPED_S, 290.5, include_tmax=False)
    if source == "undated_raw.fif":
        raw.set_meas_date(None)
    kept = keep(raw, tmp_path / source)
    recording = readers.open_recording(tmp_path / source)
    events = detection.localise(recording, planted.observe, SEARCH).events
    kept.set_annotations(written(events, recording.clock, tmp_path, kind))
    assert len(kept.annotations) == 3
    # MNE counts a FIF file's annotations from the first sample there ever was, and an EDF file's
    # from the first that it has.
    lost_s, zero_s = (0.0, CROPPED_S) if source.endswith("fif") else (CROPPED_S, 0.0)
    for one in kept.annotations:
        (name,) = one["ch_names"]
        assert min(abs(one["onset"] + lost_s - true) for true in ONSETS[name]) < 0.5
        assert one["duration"] == pytest.approx(planted.LENGTH_S, abs=1)
        # The chirp's own samples lie under the annotation, and none before it.
        begin = one["onset"] - zero_s
        assert kept.copy().crop(begin + 1, begin + 9).get_data([name]).std() > 2e-5
        assert kept.copy().crop(begin - 9, begin - 1).get_data([name]).std() < 2e-5


@pytest.mark.parametrize("meas_date", [None, planted.MEAS_DATE])
@pytest.mark.parametrize("kind", ["fif", "csv", "edf"])
def test_every_format_gives_back_the_same_annotations(tmp_path, kind, meas_date):
    clock = readers.Clock(meas_date, 20.5)
    info = mne.create_info(["Cz", "Fp1-A2"], 256, "eeg")
    raw = mne.io.RawArray(
        np.zeros((2, 256 * 1100)), info, first_samp=round(20.5 * 256), verbose="error"
    )
    raw.set_meas_date(meas_date)
    expected = raw.copy().set_annotations(annotations.annotate(EVENTS, clock)).annotations
    read = raw.copy().set_annotations(written(EVENTS, clock, tmp_path, kind)).annotations
    # MNE counts annotations from the recording's zero, dated or not.
    np.testing.assert_allclose(expected.onset, EVENTS["onset_s"] + 20.5)
    # FIF holds single precision.
    np.testing.assert_allclose(read.onset, expected.onset, rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(read.duration, EVENTS["duration_s"], atol=1e-4)
    assert read.description.tolist() == ["chirp"] * 3
    assert list(read.ch_names) == [("Cz",), ("Fp1-A2",), ("Cz",)]
    assert read.orig_time == meas_date


def test_the_edf_file_starts_with_the_first_sample_of_the_recording(tmp_path):
    annotations.save(EVENTS, CLOCK, tmp_path / "a.edf")
    read = edfio.read_edf(tmp_path / "a.edf")
    assert datetime.combine(read.startdate, read.starttime, UTC) == CLOCK.moment(0)
    assert [one.onset for one in read.annotations] == EVENTS["onset_s"].tolist()
    assert read.num_signals == 0


def test_an_independent_reader_opens_the_edf_file(tmp_path):
    pyedflib = pytest.importorskip("pyedflib")
    annotations.save(EVENTS, CLOCK, tmp_path / "a.edf")
    with pyedflib.EdfReader(str(tmp_path / "a.edf")) as file:
        onsets, durations, texts = file.readAnnotations()
        # Of the part of a second it makes another number.
        begin = file.getStartdatetime().replace(microsecond=0)
    assert begin == CLOCK.moment(0).replace(microsecond=0, tzinfo=None)
    np.testing.assert_allclose(onsets, EVENTS["onset_s"], atol=1e-4)
    assert texts.tolist() == ["chirp@@Cz", "chirp@@Fp1-A2", "chirp@@Cz"]
    assert durations.tolist() == [-1, 10.5, 1]


def test_events_without_duration_are_moments(tmp_path):
    bare = EVENTS.drop(columns="duration_s")
    for kind in ("fif", "csv", "edf"):
        assert not written(bare, readers.Clock(), tmp_path, kind).duration.any()


def test_no_event_is_no_annotation(tmp_path):
    for kind in ("fif", "csv", "edf"):
        assert len(written(EVENTS[:0], readers.Clock(), tmp_path, kind)) == 0
        assert len(written(EVENTS[:0], CLOCK, tmp_path, kind)) == 0


@pytest.mark.parametrize("year", [1925, 1984, 2085])
def test_a_date_that_edf_cannot_hold_costs_nothing_but_the_date(tmp_path, caplog, year):
    clock = readers.Clock(datetime(year, 1, 1, 4, tzinfo=UTC))
    with caplog.at_level("WARNING", logger="patchwork"):
        found = {kind: written(EVENTS, clock, tmp_path, kind) for kind in ("fif", "csv", "edf")}
    (line,) = caplog.messages
    assert f"found.edf: recording is of {year}, and EDF holds dates of 1985 to 2084" in line
    np.testing.assert_allclose(found["edf"].onset, EVENTS["onset_s"], atol=1e-4)
    for kind in ("fif", "csv"):
        begin_s = (found[kind].orig_time - clock.meas_date).total_seconds()
        np.testing.assert_allclose(found[kind].onset + begin_s, EVENTS["onset_s"], atol=1e-4)
    with pytest.raises(edfio.AnonymizedDateError):
        edfio.read_edf(tmp_path / "found.edf").startdate  # noqa: B018


def test_a_chirp_that_is_off_by_the_lost_samples_would_show(whole):
    """The check above fails for onsets that forget the cut."""
    raw = whole.copy().crop(CROPPED_S, 290.5, include_tmax=False)
    clock = readers.Clock(raw.info["meas_date"], 0.0)
    wrong = annotations.annotate(EVENTS[:1], clock)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        placed = raw.set_annotations(wrong).annotations
    assert not np.isclose(placed.onset, EVENTS["onset_s"][0] + CROPPED_S).any()
