"""Recordings are read as they were written, piece by piece, or refused in one line."""

import pickle
from pathlib import Path

import edfio
import mne
import numpy as np
import planted
import pytest
from patchwork.recordings import readers
from patchwork.stimuli.spectrograms import COLUMN_S, GRID

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
    assert told.clock.meas_date is None or told.clock.meas_date.year == 1985


@pytest.mark.filterwarnings("ignore:Number of records")
def test_a_recording_that_was_cut_short_is_read_as_far_as_it_goes(tmp_path):
    samples = {"Cz": (256, planted.eeg(256, 100, {"Cz": []})[0])}
    path = planted.write_edf(tmp_path / "a.edf", samples)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 8 // 10])
    found = readers.open_recording(path)
    assert found.duration_s == 79
    assert len(one(found, 60, 100, "Cz")) == 19 * 256
    path.write_bytes(data[: len(data) // 2])
    refused(path, "lasts 49 s")


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


def test_a_channel_too_slow_for_the_band_is_refused(tmp_path):
    for rate in (199, 200):
        samples = {
            name: (hz, planted.eeg(hz, 61, {name: []})[0])
            for name, hz in {"Cz": 512, "Pz": rate}.items()
        }
        path = planted.write_edf(tmp_path / f"{rate}.edf", samples)
        if rate == 200:
            assert readers.open_recording(path).channels == ("Cz", "Pz")
        else:
            refused(path, "Pz", "199 Hz", "200 Hz")


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
    planted.raw(256, 59, {"Cz": []}).save(tmp_path / "short_raw.fif", verbose="error")
    refused(tmp_path / "short_raw.fif", "59 s", "60 s")


def test_a_recording_with_gaps_is_refused(tmp_path):
    samples = {"Cz": (256, planted.eeg(256, 61, {"Cz": []})[0])}
    path = planted.write_edf(tmp_path / "a.edf", samples, annotations=[])
    data = path.read_bytes()
    path.write_bytes(data[:192] + b"EDF+D" + data[197:])
    refused(path, "EDF+D", "gaps")


def test_channels_without_data_are_all_named(tmp_path):
    raw = planted.raw(256, 130, {name: [] for name in ("Cz", "flat", "nan", "late")})
    values = raw.get_data()
    values[1], values[2], values[3, : 125 * 256] = 3e-6, np.nan, 0
    path = tmp_path / "a_raw.fif"
    mne.io.RawArray(values, raw.info, verbose="error").save(path, fmt="double", verbose="error")
    refused(path, "flat (flat at 3e-06), nan (not a number throughout);")
    readers.check_signal(readers.open_recording(path, picks=["Cz", "late"]), 60)


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
    refused(tmp_path, "a (flat at 1)")


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
