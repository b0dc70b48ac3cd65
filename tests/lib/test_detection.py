"""Windows, pictures as in training, predictions, and what becomes one event."""

import json
import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import planted
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from patchwork.models import backbones, fine_tuned, tasks
from patchwork.recordings import channels, detection, pictures, readers
from patchwork.statistics import conformal
from patchwork.stimuli import chirps, spectrograms
from patchwork.stimuli.common import rng
from patchwork.stimuli.spectrograms import COLUMN_S, GRID
from scipy import signal
from small_networks import RANDOM

SEARCH = detection.Search(overlap_s=30, edge_s=5, threshold=0.5, merge_s=2)
LEAD = 192  # samples of the generator's signals before time 0
TARGETS = {
    "start": {"labels": ["start_s"], "encoding": "scaled", "scale": 60},
    "frequency": {"labels": ["start_hz", "end_hz"], "encoding": "scaled", "scale": 100},
    "present": {"labels": ["present"], "encoding": "category", "n_classes": 2,
                "loss": "cross_entropy"},
}  # fmt: skip


def generated(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of a chirp as the generator makes them, and the array that it makes of them."""
    chirp = spectrograms.Chirp(10, 8, 20, 45, "linear")
    bits = rng.sixteen_bits(rng.stream(seed, 5, 1), spectrograms.N_WAVEFORM_BITS)
    return (
        spectrograms.recording(chirp, 0, 0.1, bits),
        spectrograms.waveform(chirp, 0, 0.1, bits),
    )


@pytest.mark.parametrize("rate", [200, 256, 499.9, 512, 2048])
def test_a_recording_looks_like_the_training_data_at_every_rate(rate):
    samples, expected = generated(3)
    # Even resampling of the signal and its mirror image, which has no jump at its ends.
    n = round(len(samples) / spectrograms.SAMPLE_RATE_HZ * rate)
    at_rate = signal.resample(np.r_[samples, samples[::-1]], 2 * n)[:n]
    margin = round(LEAD / spectrograms.SAMPLE_RATE_HZ * rate)
    # Volts and an electrode's offset change no picture but its lowest row.
    array = pictures.spectrogram(at_rate * 1e-6 + 0.01, rate, margin)
    assert array.shape == (GRID, GRID)
    off = array[3:110] - 20 * np.log10(1e-6) - expected[3:110]
    assert np.percentile(np.abs(off), 99) < 1
    got, wanted = (pictures.render(a, 64).astype(float) for a in (array, expected))
    assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > 0.99


def test_pictures_are_those_of_the_generator():
    drawn = {"image_px": 48, "signal": "waveform", "snr_db": {"min": 0, "max": 10}}
    images = chirps.generate(drawn, seed=2, indices=range(4)).images
    for image, array in zip(images, chirps.arrays(drawn, seed=2, indices=range(4)), strict=True):
        assert (pictures.render(array, 48) == image).all()


def test_windows_without_data_have_no_picture():
    rate = 256
    samples = planted.eeg(rate, 62, {"Cz": []})[0]
    assert pictures.spectrogram(samples, rate, rate) is not None
    for wrong in (np.nan, np.inf):
        assert pictures.spectrogram(np.where(np.arange(len(samples)) == 99, wrong, samples),
                                      rate, rate) is None  # fmt: skip
    gap = samples.copy()
    gap[3000:3600] = 1e-6
    assert pictures.spectrogram(gap, rate, rate) is None


@settings(deadline=None)
@given(
    st.floats(60, 4000), st.floats(0, 59.5), st.sampled_from([1 / 256, 1 / 1000, COLUMN_S, 1 / 3])
)
def test_windows_cover_the_recording(duration_s, overlap_s, step_s):
    starts = detection.window_starts(duration_s, overlap_s, step_s)
    assert starts[0] == 0
    assert duration_s - step_s - 1e-6 < starts[-1] + 60 <= duration_s + 1e-5
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= 60 - overlap_s + 1e-6).all() or 60 - overlap_s < step_s
    np.testing.assert_allclose(starts / step_s, np.rint(starts / step_s), atol=1e-6)


@settings(deadline=None)
@given(st.floats(60, 600), st.floats(1, 50), st.floats(0, 1))
def test_each_moment_counts_in_one_window_that_sees_it_whole(duration_s, overlap_s, share):
    search = detection.Search(overlap_s, share * overlap_s, 0.5, 0)
    starts = detection.window_starts(duration_s, overlap_s, 1 / 256)
    onsets = np.linspace(0, starts[-1] + 60, 300, endpoint=False)
    counted = np.zeros((len(starts), len(onsets)), bool)
    for i, start_s in enumerate(starts):
        frame = pd.DataFrame({"start_s": onsets - start_s, "score": 1.0, "window_s": start_s})
        counted[i, detection.above_threshold(frame, starts, i, search).index] = True
    assert (counted.sum(axis=0) == 1).all()
    begun = starts[counted.argmax(axis=0)]
    assert (begun <= onsets + 1e-9).all()
    whole_s = overlap_s - search.edge_s
    assert (np.minimum(onsets + whole_s, starts[-1] + 60) <= begun + 60 + 1e-2).all()


def network(targets: dict = TARGETS) -> fine_tuned.Network:
    built = {name: tasks.read_target(block, 16) for name, block in targets.items()}
    how = {"readout": "cls", "head_hidden": [8], "adapter": {"kind": "none"}}
    return fine_tuned.build(backbones.prepare(RANDOM, 16, seed=0), built, how, seed=1).eval()


def test_a_network_predicts_seconds_and_hertz():
    arrays = np.random.Generator(np.random.Philox(1)).random((3, GRID, GRID), np.float32)
    one = network()
    columns = detection.predictor(one)(arrays)
    images = np.stack([pictures.render(array, 16) for array in arrays])
    outputs = fine_tuned.predict(one, torch.from_numpy(images))
    assert set(columns) == {"score", "start_s", "start_hz", "end_hz"}
    np.testing.assert_allclose(columns["end_hz"], outputs["frequency"][:, 1] * 100, rtol=1e-5)
    odds = np.exp(outputs["present"][:, 1] - outputs["present"][:, 0])
    np.testing.assert_allclose(columns["score"], odds / (1 + odds), rtol=1e-5)


def test_a_number_between_0_and_1_is_a_score_too():
    block = {"labels": ["present"], "encoding": "scaled", "scale": 1, "activation": "sigmoid"}
    arrays = np.ones((2, GRID, GRID), np.float32)
    score = detection.predictor(network({**TARGETS, "present": block}))(arrays)["score"]
    assert ((score > 0) & (score < 1)).all()


def test_a_network_that_never_says_none_is_refused():
    targets = {name: block for name, block in TARGETS.items() if name != "present"}
    with pytest.raises(ValueError, match=r"network: predicts start_s, .*: present is missing"):
        detection.predictor(network(targets))


def test_an_edge_wider_than_the_overlap_is_refused():
    with pytest.raises(ValueError, match="edge_s is 31; allowed is 0 to overlap_s, 30 s"):
        detection.Search(**{**vars(SEARCH), "edge_s": 31})


def events(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["channel", "onset_s", "duration_s", "score", "window_s"])


def test_the_best_of_what_overlapping_windows_found_stays():
    found = detection.merge(
        events(
            ("Cz", 50.0, 8.0, 0.7, 0.0),
            ("Cz", 50.5, 8.0, 0.9, 45.0),  # the same chirp
            ("Pz", 50.5, 8.0, 0.8, 45.0),  # another channel
            ("Cz", 70.0, 5.0, 0.9, 60.0),  # another chirp
            ("Cz", 73.0, 2.0, 0.6, 72.0),  # the same, cut off by its window
        ),
        merge_s=1,
    )
    assert found[["channel", "onset_s", "score", "n_windows"]].to_numpy().tolist() == [
        ["Cz", 50.5, 0.9, 2], ["Pz", 50.5, 0.8, 1], ["Cz", 70.0, 0.9, 2]
    ]  # fmt: skip
    bare = detection.merge(found.drop(columns=["duration_s", "n_windows"]), merge_s=1)
    assert bare["n_windows"].tolist() == [1, 1, 1]


def naive(rows: list[tuple], merge_s: float) -> set[tuple]:
    kept: list[tuple] = []
    for one in sorted(rows, key=lambda row: (-row[3], row[4])):
        channel, onset, duration, _, window = one
        for other in kept:
            if other[0] != channel or other[4] == window:
                continue
            near = abs(other[1] - onset) <= merge_s
            if near or (other[1] < onset + duration and onset < other[1] + other[2]):
                break
        else:
            kept.append(one)
    return set(kept)


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["Cz", "Pz"]), st.integers(0, 40).map(float), st.integers(0, 9).map(float),
        st.sampled_from([0.5, 0.7, 0.9]), st.integers(0, 5).map(float),
    ),
    unique_by=lambda row: (row[0], row[4]),
)  # fmt: skip


@settings(deadline=None)
@given(ROWS, st.integers(0, 5))
def test_merging_does_what_its_rule_says(rows, merge_s):
    found = detection.merge(events(*rows), merge_s)
    assert set(found.drop(columns="n_windows").itertuples(index=False, name=None)) == naive(
        rows, merge_s
    )
    assert found["n_windows"].sum() == len(rows)
    again = detection.merge(found.drop(columns="n_windows"), merge_s)
    assert again["onset_s"].tolist() == found["onset_s"].tolist()


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> readers.Signals:
    onsets = {"Cz": [2.0, 112.0, 231.0], "Pz": []}
    path = tmp_path_factory.mktemp("fif") / "a_raw.fif"
    planted.raw(256, 250, onsets).crop(1).save(path, verbose="error")
    return readers.open_recording(path)


def test_chirps_are_found_once_and_whole_wherever_windows_begin(recording):
    for overlap_s in (15, 30, 45):
        search = detection.Search(overlap_s=overlap_s, edge_s=2, threshold=0.5, merge_s=2)
        found = detection.localise(recording, planted.observe, search)
        assert found.events["channel"].tolist() == ["Cz"] * 3
        np.testing.assert_allclose(found.events["onset_s"], [1, 111, 230], atol=0.6)
        np.testing.assert_allclose(found.events["duration_s"], planted.LENGTH_S, atol=1)
        np.testing.assert_allclose(found.events["start_hz"], planted.START_HZ, atol=3)
        np.testing.assert_allclose(found.events["end_hz"], planted.END_HZ, atol=3)
        stamps = pd.to_datetime(found.events["onset_clock"]) - pd.Timestamp(planted.MEAS_DATE)
        np.testing.assert_allclose(stamps.dt.total_seconds(), found.events["onset_s"] + 1)


def test_intervals_end_where_the_possible_ends(recording):
    widths = {"start_s": 3.0, "duration_s": 1.0, "start_hz": 5.0, "end_hz": np.inf}
    found = detection.localise(recording, planted.observe, SEARCH, widths).events
    assert found["onset_low_s"].tolist() == pytest.approx([0, 108, 227], abs=0.6)
    assert (found["onset_high_s"] - found["onset_s"]).tolist() == pytest.approx([3, 3, 3])
    assert (found["start_high_hz"] - found["start_low_hz"]).tolist() == pytest.approx([10] * 3)
    assert set(found["end_low_hz"]) == {0.0}
    assert set(found["end_high_hz"]) == {100.0}


class Oracle:
    """Knows of one chirp from 40 to 50 s in every channel, and sees of it what a window shows."""

    def __init__(self, starts: np.ndarray) -> None:
        self.starts = iter(starts)

    def __call__(self, arrays: np.ndarray) -> dict[str, np.ndarray]:
        start_s, ones = next(self.starts), np.ones(len(arrays))
        first, last = np.clip([40 - start_s, 50 - start_s], 0, 60)
        return {
            "score": ones * (last > first), "start_s": ones * first, "start_hz": ones * 30,
            "end_hz": ones * 40,
        }  # fmt: skip


@pytest.mark.parametrize(("edge_s", "onsets"), [(0, [40, 40, 45, 45]), (5, [40, 40])])
def test_the_rest_of_a_chirp_is_left_to_the_window_before(recording, edge_s, onsets):
    search = detection.Search(overlap_s=15, edge_s=edge_s, threshold=0.5, merge_s=0)
    starts = detection.window_starts(recording.duration_s, 15, 1 / 256)
    assert starts[1] == 45
    found = detection.localise(recording, Oracle(starts), search).events
    assert found["onset_s"].tolist() == onsets


def doubtful(arrays: np.ndarray) -> dict[str, np.ndarray]:
    found = planted.observe(arrays)
    return found | {"score": 0.99 * found["score"]}


def test_a_higher_threshold_leaves_less(recording):
    strict = detection.Search(**{**vars(SEARCH), "threshold": 1})
    none = detection.localise(recording, doubtful, strict).events
    assert none.empty
    assert {"channel", "onset_s", "start_hz", "end_hz", "score", "n_windows"} <= set(none.columns)


def test_overview_shows_the_chirp_at_its_place(recording):
    levels = detection.localise(recording, planted.observe, SEARCH).overview.levels["Cz"]
    assert levels.shape == (GRID, int(recording.duration_s / COLUMN_S))
    rows = slice(int(35 / 100 * GRID), int(45 / 100 * GRID))
    bright = levels[rows].max(axis=0)
    at = (np.arange(levels.shape[1]) + 0.5) * COLUMN_S
    inside = (at > 115) & (at < 118)
    assert bright[inside].min() > np.percentile(bright[(at > 20) & (at < 100)], 95)


@pytest.mark.parametrize("hz", [50, 60])
@pytest.mark.parametrize("volts", [1e-4, 1e-3])
def test_mains_noise_and_drift_light_up_no_end_of_a_window(tmp_path, hz, volts):
    """An edge of the drift's filter once made 40 dB of them, and an event."""
    rate = 256
    raw = planted.raw(rate, 70, {"Cz": []})
    clean = raw.get_data()[0]
    time_s = np.arange(len(clean)) / rate
    added = volts * np.sin(2 * np.pi * hz * time_s + 1) + 0.3 + 1e-2 * time_s / 60
    shown = []
    for name, samples in {"clean": clean, "noisy": clean + added}.items():
        path = tmp_path / f"{name}_raw.fif"
        mne.io.RawArray(samples[None], raw.info, verbose="error").save(
            path, fmt="double", verbose="error"
        )
        found = readers.open_recording(path)
        shown.append([array for start in (0, 5, 10) for _, array in pictures.arrays(found, start)])
    rows = np.r_[0:40, 90:GRID]  # mains noise itself lies between
    off = np.abs(np.subtract(*shown))[:, rows]
    # Of the lowest rows too; single cells in which the noise happens to vanish may differ by more.
    assert off.mean(axis=1).max() < 1
    assert off[:, :4].mean(axis=1).max() < 1


@pytest.mark.parametrize("rate", [100, 128, 200])
def test_a_slow_recording_goes_on_with_noise_like_its_own(rate):
    """A signal in 1/f noise sampled slowly has the upper band of the same one sampled fast."""
    samples, expected = generated(3)  # its chirp ends at 45 Hz
    n = round(len(samples) / spectrograms.SAMPLE_RATE_HZ * rate)
    at_rate = signal.resample(np.r_[samples, samples[::-1]], 2 * n)[:n]
    margin = round(LEAD / spectrograms.SAMPLE_RATE_HZ * rate)
    array = pictures.spectrogram(at_rate, rate, margin)
    top = int(channels.top_hz(rate) / 100 * GRID)
    # The band is the signal's own, its top two rows aside, which see both.
    assert np.median(np.abs(array - expected)[3 : top - 2]) < 0.3
    # Above it levels agree, and how values spread in a row; values themselves do not.
    above = slice(top + 3, GRID - 4)
    off = array[above].mean(axis=1) - expected[above].mean(axis=1)
    assert np.abs(off).max() < 3
    assert array[above].std() == pytest.approx(expected[above].std(), rel=0.1)
    assert np.abs(np.corrcoef(array[above].ravel(), expected[above].ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("rate", [100, 128])
def test_slow_recordings_are_searched_within_their_band(tmp_path, rate):
    path = tmp_path / "a_raw.fif"
    planted.raw(rate, 61, {"Cz": [20.0]}).save(path, verbose="error")
    found = detection.localise(readers.open_recording(path), planted.observe, SEARCH).events
    assert found["band_hz"].tolist() == [0.45 * rate]
    assert found["onset_s"].tolist() == pytest.approx([20], abs=0.6)
    assert found["start_hz"].tolist() == pytest.approx([planted.START_HZ], abs=3)
    assert (found["end_hz"] <= 0.45 * rate).all()
    # What a network sees in the noise alone is no event.
    high = detection.localise(readers.open_recording(path), above_all, SEARCH).events
    assert high.empty


def above_all(arrays: np.ndarray) -> dict[str, np.ndarray]:
    ones = np.ones(len(arrays))
    return {"score": ones, "start_s": 9 * ones, "start_hz": 70 * ones, "end_hz": 80 * ones}


def test_drift_is_what_is_slow():
    rate, time_s = 256.0, np.arange(70 * 256) / 256
    slow = 1e-3 * np.sin(2 * np.pi * 0.02 * time_s) + 5e-5 * time_s
    fast = 1e-4 * np.sin(2 * np.pi * 0.7 * time_s)
    inside = slice(10 * 256, 60 * 256)
    off = pictures.slow_part(slow + fast, rate) - slow
    assert np.abs(off[inside]).max() < 1e-5


@pytest.mark.parametrize("hz", [59.97, 60.02])
@pytest.mark.parametrize("volts", [2e-5, 5e-4])
def test_mains_noise_goes_and_chirps_stay(hz, volts):
    rate = 256
    clean = planted.eeg(rate, 68, {"Cz": [24.0]})[0]  # its chirp ends at 50 Hz
    grown = 1 + 0.2 * np.linspace(-1, 1, len(clean))
    added = clean + volts * grown * np.sin(2 * np.pi * hz * np.arange(len(clean)) / rate + 1)
    expected, noisy, found = (
        pictures.spectrogram(samples, rate, 4 * rate, mains_hz=lines)
        for samples, lines in ((clean, ()), (added, ()), (added, (60,)))
    )
    rows = slice(75, 79)  # of 58.6 to 61.7 Hz
    assert noisy[rows].mean() - expected[rows].mean() > 5
    assert found[rows].mean() == pytest.approx(expected[rows].mean(), abs=1.5)
    others = np.r_[0:70, 84:GRID]
    assert np.abs(found - expected)[others].mean() < 0.05


@pytest.mark.parametrize("duration_s", [15, 30, 59])
def test_a_short_recording_is_padded_and_marked(tmp_path, duration_s):
    path = tmp_path / "short_raw.fif"
    planted.raw(256, duration_s, {"Cz": [3.0], "Pz": []}).save(path, verbose="error")
    found = detection.localise(readers.open_recording(path), planted.observe, SEARCH)
    assert found.events["channel"].tolist() == ["Cz"]
    assert found.events["onset_s"].tolist() == pytest.approx([3], abs=0.6)
    assert found.events["padded"].all()
    assert (found.channels["searched_share"] == 1).all()
    # The padding holds no chirp, wherever the network says that there is one.
    late = detection.localise(readers.open_recording(path), after, SEARCH).events
    assert late.empty


def after(arrays: np.ndarray) -> dict[str, np.ndarray]:
    ones = np.ones(len(arrays))
    return {"score": ones, "start_s": 59.5 * ones, "start_hz": ones, "end_hz": ones}


def test_padding_keeps_the_level_of_each_row():
    array = np.random.Generator(np.random.Philox(1)).normal(np.arange(GRID)[:, None], 1, (GRID, 40))
    padded = pictures.pad_columns(array, np.arange(GRID) < 40)
    assert (padded[:, :40] == array.astype(np.float32)).all()
    np.testing.assert_allclose(padded[:, 40:].mean(axis=1), array.mean(axis=1), atol=0.5)


def test_events_in_bad_stretches_are_marked(tmp_path):
    raw = planted.raw(256, 181, {"Cz": [20.0, 100.0], "Pz": [100.0]})
    raw.set_annotations(
        mne.Annotations(
            [25, 105, 50], [1, 2, 9], ["BAD_move", "bad", "good"],
            orig_time=raw.info["meas_date"], ch_names=[(), ("Pz",), ()],
        )
    )  # fmt: skip
    raw.crop(10).save(tmp_path / "a_raw.fif", verbose="error")
    found = detection.localise(
        readers.open_recording(tmp_path / "a_raw.fif"), planted.observe, SEARCH
    )
    rows = found.events[["channel", "in_bad"]].to_numpy().tolist()
    assert sorted(rows) == [["Cz", False], ["Cz", True], ["Pz", True]]
    assert found.events["onset_s"].tolist() == pytest.approx([10, 90, 90], abs=0.6)
    assert found.channels["n_in_bad"].tolist() == [1, 1]


def test_stretches_without_data_are_left_out(tmp_path, caplog):
    raw = planted.raw(256, 181, {"Cz": [130.0], "Pz": []})
    values = raw.get_data()
    values[0, 20 * 256 : 30 * 256] = 0
    path = tmp_path / "a_raw.fif"
    mne.io.RawArray(values, raw.info, verbose="error").save(path, fmt="double", verbose="error")
    search = detection.Search(overlap_s=0, edge_s=0, threshold=0.5, merge_s=2)
    with caplog.at_level(logging.INFO, logger="patchwork"):
        found = detection.localise(readers.open_recording(path), planted.observe, search)
    assert (found.n_pictures, found.n_empty) == (7, 1)
    assert "1 of 8 windows lack data" in caplog.text
    assert "windows: 4/4 (100 %)" in caplog.text
    np.testing.assert_allclose(found.events["onset_s"], [130], atol=0.6)


def test_a_folder_of_arrays_is_searched_like_a_recording(tmp_path):
    array = np.zeros((GRID, 400)) + np.random.Generator(np.random.Philox(1)).random((GRID, 400))
    array[40:44, 200:221] = 40
    np.save(tmp_path / "Cz.npy", array)
    found = detection.localise(readers.open_recording(tmp_path), planted.observe, SEARCH)
    assert found.events["onset_s"].tolist() == [200 * COLUMN_S]
    assert found.events["onset_clock"].tolist() == [""]


def test_half_widths_come_from_examples_with_a_chirp():
    generator = np.random.Generator(np.random.Philox(4))
    truth = generator.uniform(0, 45, 100)
    truth[::5] = np.nan
    table = pd.DataFrame(
        {"seed": 3, "start_s": truth, "predicted_start_s": generator.uniform(0, 45, 100)}
    )
    off = (table["predicted_start_s"] - truth).dropna()
    other = pd.concat([table, table.assign(seed=4, predicted_start_s=99)])
    assert detection.half_widths(other, 3, 0.9) == {"start_s": conformal.half_width(off, 0.9)}
    assert detection.half_widths(table[:6], 3, 0.9) == {"start_s": np.inf}
    with pytest.raises(ValueError, match="seed is 5, which predicted nothing; allowed is 3, 4"):
        detection.half_widths(other, 5, 0.9)


MEMORY = """
    import json, sys
    sys.path.insert(0, {tests!r})
    import planted
    from patchwork.recordings import detection, readers

    def resident_mb(line):
        # Not ru_maxrss, which a new process takes over from the one that started it.
        with open("/proc/self/status") as file:
            return int(dict(one.split(":", 1) for one in file)[line].split()[0]) / 1024

    before = resident_mb("VmRSS")
    found = readers.open_recording({path!r})
    readers.check_signal(found, 60)
    search = detection.Search(overlap_s=10, edge_s=0, threshold=0.5, merge_s=2)
    events = detection.localise(found, planted.observe, search).events
    grown_mb = resident_mb("VmHWM") - before
    print(json.dumps([grown_mb, events[["channel", "onset_s"]].values.tolist()]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("minutes", "bound_mb"),  # the samples alone are 35 and 141 MB
    [(15, 35), (60, 70)],
)
def test_twenty_channels_take_less_memory_than_their_samples(tmp_path, minutes, bound_mb):
    rate, duration_s = 256, 60 * minutes
    path = tmp_path / "long.edf"
    onsets = {f"E{i + 1}": [duration_s / 2 + i] for i in range(20)}
    planted.write_edf(
        path,
        {name: (rate, planted.eeg(rate, duration_s, {name: at}, seed=i)[0])
         for i, (name, at) in enumerate(onsets.items())},
    )  # fmt: skip
    code = textwrap.dedent(MEMORY).format(tests=str(Path(__file__).parent), path=str(path))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown_mb, found = json.loads(run.stdout)
    assert grown_mb < bound_mb
    assert [name for name, _ in found] == list(onsets)
    for name, onset in found:
        assert onset == pytest.approx(onsets[name][0], abs=0.6)
