"""Recordings are read as they were written, piece by piece, or refused in one line."""

import pickle
from pathlib import Path

import edfio
import mne
import numpy as np
import planted
import pytest
from patchwork.recordings import channels, readers
from patchwork.stimuli.spectrograms import COLUMN_S, GRID
from scipy import io

LSB = 400e-6 / 2**15


def one(recording, start, stop, name):
    return dict(recording.read(start, stop, [name]))[name]


@pytest.fixture(scope="module")
def cropped(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """A FIF file whose first sample is not sample zero, and what it holds."""
    path = tmp_path_factory.mktemp("fif") / "sub_raw.fif"
    raw = planted.raw(256, 100, {"Cz": [40], "Pz": []}).crop(20.5, 90)
    raw.save(path, fmt="double", verbose="error")
    return path, raw.get_data()


def test_a_cropped_fif_keeps_its_clock_and_its_samples(cropped):
    path, expected = cropped
    found = readers.open_recording(path)
    assert found.clock == readers.Clock(planted.MEAS_DATE, 20.5)
    assert found.clock.moment(1.5).timestamp() == planted.MEAS_DATE.timestamp() + 22
    assert found.duration_s == pytest.approx(69.5, abs=0.01)
    piece = one(found, 10.25, 12.5, "Pz")
    np.testing.assert_allclose(piece, expected[1, 2624:3200], rtol=1e-12)
    # What lies after the end is left out.
    assert len(one(found, 69, 80, "Cz")) == expected.shape[1] - 69 * 256


def test_reading_some_channels_at_a_time_changes_nothing(cropped, monkeypatch):
    found = readers.open_recording(cropped[0])
    whole = dict(found.read(0, 60))
    monkeypatch.setattr(readers, "SAMPLES_AT_ONCE", 60 * 256)
    parts = dict(found.read(0, 60))
    assert list(parts) == ["Cz", "Pz"]
    assert all((parts[name] == whole[name]).all() for name in whole)


def test_nothing_is_preloaded(cropped, tmp_path):
    samples = {"Cz": (256, planted.eeg(256, 60, {"Cz": []})[0])}
    for path in (cropped[0], planted.write_edf(tmp_path / "a.edf", samples)):
        assert not any(raw.preload for raw in readers.open_recording(path)._raws)


@pytest.mark.parametrize("ending", [".edf", ".bdf", ".EDF"])
def test_channels_keep_their_own_rates_and_volts(tmp_path, ending):
    names = {"Fp1": 256.0, "slow": 1.0, "Cz": 512.0, "Oz": 256.0}
    samples = {
        name: (rate, planted.eeg(rate, 70, {name: []}, seed=i)[0])
        for i, (name, rate) in enumerate(names.items())
    }
    path = planted.write_edf(tmp_path / f"a{ending.lower()}", samples)
    path = path.rename(tmp_path / f"b{ending}")
    found = readers.open_recording(path, picks=["Cz", "Oz", "Fp1"])
    assert found.channels == ("Fp1", "Cz", "Oz")
    assert found.rates_hz == {"Fp1": 256, "Cz": 512, "Oz": 256}
    assert found.clock.meas_date == planted.MEAS_DATE.replace(microsecond=0)
    for name in found.channels:
        rate, written = samples[name]
        piece = one(found, 30.5, 33.25, name)
        assert len(piece) == 2.75 * rate
        np.testing.assert_allclose(piece, written[int(30.5 * rate) :][: len(piece)], atol=LSB)


def test_units_are_used_where_the_header_has_none(tmp_path):
    signal = edfio.EdfSignal(
        planted.eeg(256, 60, {"Cz": []})[0] * 1e6, 256, label="Cz", physical_range=(-400, 400)
    )
    path = tmp_path / "a.edf"
    edfio.Edf([signal]).write(path)
    bare = readers.open_recording(path)
    told = readers.open_recording(path, units="uV")
    np.testing.assert_allclose(one(told, 0, 1, "Cz"), one(bare, 0, 1, "Cz") * 1e-6)
    assert (bare.unknown, told.unknown) == ({"Cz": ""}, {})


@pytest.mark.filterwarnings("ignore:Number of records")
def test_a_recording_that_was_cut_short_is_read_as_far_as_it_goes(tmp_path):
    samples = {"Cz": (256, planted.eeg(256, 100, {"Cz": []})[0])}
    path = planted.write_edf(tmp_path / "a.edf", samples)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 8 // 10])
    found = readers.open_recording(path)
    assert found.duration_s == 79
    assert len(one(found, 60, 100, "Cz")) == 19 * 256
    path.write_bytes(data[: len(data) // 8])
    refused(path, "lasts 11 s", "15 s or more")


@pytest.mark.filterwarnings("ignore:Channel names are not unique")
def test_channels_of_one_name_are_told_apart(tmp_path):
    signals = [
        edfio.EdfSignal(planted.eeg(256, 60, {"Cz": []}, seed=i)[0] * 1e6, 256, label="EEG",
                        physical_dimension="uV", physical_range=(-400, 400))
        for i in range(3)
    ]  # fmt: skip
    edfio.Edf(signals).write(tmp_path / "a.edf")
    second = readers.open_recording(tmp_path / "a.edf", picks=["EEG-1"])
    np.testing.assert_allclose(one(second, 0, 1, "EEG-1"), signals[1].data[:256] * 1e-6)


def test_bad_and_stimulus_channels_are_no_data(tmp_path):
    raw = planted.raw(256, 70, {"Cz": [], "Pz": [], "STI": []})
    raw.set_channel_types({"STI": "stim"}, verbose="error")
    raw.info["bads"] = ["Pz"]
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    assert readers.open_recording(tmp_path / "a_raw.fif").channels == ("Cz",)
    named = readers.open_recording(tmp_path / "a_raw.fif", picks=["Pz"])
    assert named.channels == ("Pz",)
    with pytest.raises(ValueError, match=r"a_raw.fif: picks is 'meg', .* allowed is data, eeg, or"):
        readers.open_recording(tmp_path / "a_raw.fif", picks="meg")


def refused(path: Path, *words: str, **options) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        readers.check_signal(readers.open_recording(path, **options), 60)
    text = str(caught.value)
    assert "\n" not in text
    for word in (str(path), "allowed", *words):
        assert word in text, text


def test_a_channel_too_slow_for_half_of_the_band_is_left_out(tmp_path):
    for rate in (99, 100):
        samples = {
            name: (hz, planted.eeg(hz, 61, {name: []})[0])
            for name, hz in {"Cz": 512, "Pz": rate}.items()
        }
        path = planted.write_edf(tmp_path / f"{rate}.edf", samples)
        found = readers.open_recording(path)
        if rate == 100:
            assert found.channels == ("Cz", "Pz")
        else:
            assert found.channels == ("Cz",)
            assert found.choice.line() == "Pz (99 Hz, below 100 Hz)"
            refused(path, "Pz", "99 Hz", "100 Hz", picks=["Cz", "Pz"])


@pytest.mark.filterwarnings("ignore:Invalid tag")
def test_files_that_are_no_recordings_are_refused(tmp_path):
    refused(tmp_path / "none.edf", "no such file")
    for ending in ("edf", "bdf", "fif"):
        path = tmp_path / f"noise.{ending}"
        path.write_bytes(np.random.Generator(np.random.Philox(1)).bytes(5000))
        refused(path, ending.upper())
        path.write_bytes(b"")
        refused(path, ending.upper())
    (tmp_path / "table.csv").write_text("a,b\n")
    refused(tmp_path / "table.csv", ".csv")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", ".npy")


def test_a_fif_file_of_annotations_is_refused(tmp_path):
    mne.Annotations([1], [1], ["x"]).save(tmp_path / "a-annot.fif")
    refused(tmp_path / "a-annot.fif", "FIF")


def test_unknown_channels_units_and_short_recordings_are_refused(cropped, tmp_path):
    path, _ = cropped
    refused(path, "'Fz'", "Cz, Pz", picks=["Cz", "Fz"])
    refused(path, "picks is empty", picks=[])
    refused(path, "'uV'", units="uV")
    refused(path, "exclude has 'Fz'", exclude=["Fz"])
    refused(path, "'Cz'", "excluded", picks=["Cz"], exclude=["Cz"])
    planted.raw(256, 14, {"Cz": []}).save(tmp_path / "short_raw.fif", verbose="error")
    refused(tmp_path / "short_raw.fif", "14 s", "15 s")


def with_records(path: Path, begins: dict[int, int], n: int) -> Path:
    """Make an EDF+D of an EDF+ with records of 1 s: records start at other times than they did."""
    data = path.read_bytes().replace(b"EDF+C", b"EDF+D", 1)
    for i in reversed(range(n)):
        late = max((by for first, by in begins.items() if first <= i), default=0)
        old, new = (f"+{one}".encode() for one in (i, i + late))
        marks = b"\x14\x14\x00"
        assert data.count(old + marks) == 1
        grown = old + marks + b"\x00" * (len(new) - len(old))
        data = data.replace(grown, new + marks, 1)
    path.write_bytes(data)
    return path


def edf_plus(path: Path, seconds: int, **notes) -> np.ndarray:
    samples = planted.eeg(256, seconds, {"Cz": []})[0]
    listed = [edfio.EdfAnnotation(0, None, "a note long enough to leave room"),
              *notes.get("annotations", [])]  # fmt: skip
    planted.write_edf(path, {"Cz": (256, samples)}, annotations=listed)
    path.write_bytes(path.read_bytes().replace(b"EDF+C", b"EDF+D", 1))
    return samples


def test_an_edf_d_without_gaps_is_read_as_it_is(tmp_path):
    samples = edf_plus(tmp_path / "a.edf", 61)
    found = readers.open_recording(tmp_path / "a.edf")
    assert found.clock.stretches == ()
    np.testing.assert_allclose(one(found, 20, 30, "Cz"), samples[5120:7680], atol=LSB)


def test_gaps_are_counted_and_hold_no_data(tmp_path, caplog):
    samples = edf_plus(
        tmp_path / "a.edf", 150, annotations=[edfio.EdfAnnotation(170, 5, "BAD_late")]
    )
    path = with_records(tmp_path / "a.edf", {70: 25, 100: 30}, 150)
    with caplog.at_level("WARNING", logger="patchwork"):
        found = readers.open_recording(path)
    assert "has 2 gaps of 30 s together" in caplog.text
    assert found.duration_s == 180
    assert found.bad == (readers.Bad(170, 175),)
    whole = one(found, 0, 200, "Cz")
    expected = np.r_[samples[: 70 * 256], np.full(25 * 256, np.nan), samples[70 * 256 : 100 * 256],
                     np.full(5 * 256, np.nan), samples[100 * 256 :]]  # fmt: skip
    np.testing.assert_allclose(whole, expected, atol=LSB)
    np.testing.assert_array_equal(one(found, 94.5, 127.25, "Cz"), whole[24192:32576])
    # MNE closes the gaps: what lies at 130 s there has 100 s of recording before it.
    assert [found.clock.in_file(s) for s in (10, 80, 95, 130)] == [10, 70, 70, 100]


def test_records_that_overlap_are_refused(tmp_path):
    edf_plus(tmp_path / "a.edf", 61)
    data = (tmp_path / "a.edf").read_bytes()
    (tmp_path / "a.edf").write_bytes(data.replace(b"+30\x14\x14", b"+28\x14\x14", 1))
    refused(tmp_path / "a.edf", "record 30 starts -1 s after the one before")


def test_annotations_in_latin_1_are_read(tmp_path, caplog):
    note = edfio.EdfAnnotation(30, 2, "bad_x")
    planted.write_edf(
        tmp_path / "a.edf", {"Cz": (256, planted.eeg(256, 60, {"Cz": []})[0])}, annotations=[note]
    )
    data = (tmp_path / "a.edf").read_bytes()
    (tmp_path / "a.edf").write_bytes(data.replace(b"bad_x", b"bad\xe9x"))
    with caplog.at_level("WARNING", logger="patchwork"):
        found = readers.open_recording(tmp_path / "a.edf")
    assert [line.split(": ")[1] for line in caplog.messages] == [
        "annotations are not UTF-8 and are read as Latin-1"
    ]
    assert found.bad == (readers.Bad(30, 32),)


def test_a_file_of_annotations_alone_is_refused(tmp_path):
    edfio.Edf([], annotations=[edfio.EdfAnnotation(0, 30, "x")]).write(tmp_path / "a.edf")
    refused(tmp_path / "a.edf", "holds annotations alone")


@pytest.mark.parametrize("blank", [b"  .  .  ", b"        "])
@pytest.mark.parametrize("field", [168, 176])
def test_a_blank_start_claims_no_clock(tmp_path, field, blank):
    path = planted.write_edf(tmp_path / "a.edf", {"Cz": (256, planted.eeg(256, 60, {"": []})[0])})
    told = readers.open_recording(path).clock.moment(1.5)
    assert told.isoformat() == "2021-03-04T05:06:08.500000"  # local: it has no zone
    data = path.read_bytes()
    path.write_bytes(data[:field] + blank + data[field + 8 :])
    assert readers.open_recording(path).clock.moment(1.5) is None


def test_unknown_units_and_odd_amplitudes_are_said(tmp_path, caplog):
    path = planted.write_edf(tmp_path / "a.edf", {"Cz": (256, planted.eeg(256, 60, {"": []})[0])})
    data = path.read_bytes()
    for unit, words in ((b"V ", "is not that of an EEG"), (b".V", "no known unit in channel Cz")):
        path.write_bytes(data.replace(b"uV  ", unit + b"  ", 1))
        caplog.clear()
        with caplog.at_level("WARNING", logger="patchwork"):
            readers.check_signal(readers.open_recording(path), 60)
        (line,) = caplog.messages
        assert words in line
        assert "Cz" in line
    told = readers.open_recording(path, units="uV")
    assert one(told, 0, 9, "Cz").std() == pytest.approx(1e-5, rel=0.05)
    refused(path, "'ohm'", "V, mV, uV", units="ohm")


def test_other_formats_are_read_through_mne(tmp_path):
    raw = planted.raw(256, 61, {"Cz": [], "EOG left": []})
    expected = raw.get_data(["Cz"])[0]
    raw.save(tmp_path / "a_raw.fif.gz", fmt="double", verbose="error")
    # EEGLAB
    chanlocs = np.array([("Cz",), ("EOG left",)], dtype=[("labels", object)])
    eeg = {
        "setname": "a", "nbchan": 2, "pnts": raw.n_times, "trials": 1, "srate": 256.0,
        "xmin": 0.0, "xmax": 61.0, "data": raw.get_data() * 1e6, "chanlocs": chanlocs,
        "event": [], "epoch": [], "ref": "common",
    }  # fmt: skip
    io.savemat(tmp_path / "a.set", {"EEG": eeg}, appendmat=False)
    # BrainVision
    (raw.get_data().T * 1e6).astype("<f4").tofile(tmp_path / "a.eeg")
    (tmp_path / "a.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nDataFile=a.eeg\n"
        "[Marker Infos]\nMk1=New Segment,,1,1,0,20210304050607250000\n"
    )
    (tmp_path / "a.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nDataFile=a.eeg\n"
        "MarkerFile=a.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=2\n"
        "SamplingInterval=3906.25\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n"
        "Ch1=Cz,,1,\xb5V\nCh2=EOG left,,1,\xb5V\n", encoding="latin-1",
    )  # fmt: skip
    for name in ("a_raw.fif.gz", "a.set", "a.vhdr"):
        found = readers.open_recording(tmp_path / name, exclude=["EOG left"])
        assert found.channels == ("Cz",)
        np.testing.assert_allclose(one(found, 20, 30, "Cz"), expected[5120:7680], atol=1e-9)
        if name != "a_raw.fif.gz":
            assert readers.open_recording(tmp_path / name).choice.line() == "EOG left (eog)"
    local = readers.open_recording(tmp_path / "a.vhdr").clock.moment(0)
    assert local.isoformat() == "2021-03-04T05:06:07.250000"


LABELS = {
    "eeg": ["Cz", "EEG Fpz-Cz", "C3-A2", "T3", "E1", "LOC1", "ACC2", "TEMP 3", "LAT1", "A1", "POz"],
    "eog": ["EOG left", "LOC-A2", "ROC", "VEOG", "EEG EOGR-Ref"],
    "emg": ["EMG chin", "Chin1", "LEG/L", "Lleg"],
    "ecg": ["ECG", "EEG EKG1-REF", "Pulse", "HR"],
    "resp": ["Resp nasal", "THOR RES", "Airflow", "Snore", "Pleth"],
    "oxygen": ["SpO2", "SaO2", "SAO2"],
    "stim": ["STI 014", "Status", "Event marker", "TRIG"],
    "other": ["Temp rectal", "DC01", "IBI", "Light"],
}


def test_labels_tell_what_a_channel_is():
    for kind, labels in LABELS.items():
        for label in labels:
            assert channels.kind_of(label) == kind, label


def test_channels_without_data_are_all_named(tmp_path, caplog):
    raw = planted.raw(256, 130, {name: [] for name in ("Cz", "flat", "nan", "late")})
    values = raw.get_data()
    values[1], values[2], values[3, : 125 * 256] = 3e-6, np.nan, 0
    path = tmp_path / "a_raw.fif"
    mne.io.RawArray(values, raw.info, verbose="error").save(path, fmt="double", verbose="error")
    names = ["Cz", "flat", "nan", "late"]
    refused(path, "flat (flat at 3e-06), nan (not a number throughout);", picks=names)
    found = readers.open_recording(path)
    with caplog.at_level("WARNING", logger="patchwork"):
        readers.check_signal(found, 60)
    assert found.channels == ("Cz", "late")
    (line,) = caplog.messages
    assert line.endswith("left out: flat (flat at 3e-06); nan (not a number throughout)")


def test_a_folder_is_mapped_by_channel(tmp_path):
    rng = np.random.Generator(np.random.Philox(3))
    arrays = {name: rng.random((GRID, 300), dtype=np.float32) for name in ("b", "a")}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    found = readers.open_recording(tmp_path)
    assert found.channels == ("a", "b")
    assert found.duration_s == 300 * COLUMN_S
    assert found.clock.moment(3) is None
    read = dict(found.read(10 * COLUMN_S, 138 * COLUMN_S))
    assert (read["b"] == arrays["b"][:, 10:138]).all()
    assert readers.open_recording(tmp_path, picks=["b"]).channels == ("b",)
    refused(tmp_path, "'c'", "a, b", picks=["c"])
    np.save(tmp_path / "a.npy", np.ones((GRID, 300)))
    refused(tmp_path, "a (flat at 1)", picks=["a"])


def test_arrays_of_another_shape_or_kind_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    for wrong in (np.ones((64, 300)), np.ones((GRID, 300), complex), np.ones(GRID), np.float64(1)):
        np.save(path, wrong)
        with pytest.raises(ValueError, match=r"a.npy: .* allowed"):
            readers.open_recording(tmp_path)
    np.save(path, np.ones((GRID, 300)))
    np.save(tmp_path / "b.npy", np.ones((GRID, 200)))
    refused(tmp_path, "200 to 300")
    path.write_bytes(b"not an array")
    with pytest.raises(ValueError, match=r"a.npy: is no array of numbers"):
        readers.open_recording(tmp_path)


class Tripwire:
    """Unpickling it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[Tripwire(tmp_path / "sprung")]]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a.npy: is no array of numbers"):
        readers.open_recording(tmp_path)
    (tmp_path / "a.npy").write_bytes(pickle.dumps(Tripwire(tmp_path / "sprung")))
    with pytest.raises(ValueError, match=r"a.npy: is no array of numbers"):
        readers.open_recording(tmp_path)
    assert not (tmp_path / "sprung").exists()
