import copy
from pathlib import Path

import numpy as np
import pytest
import yaml
from patchwork.data import store
from patchwork.jobs import settings
from patchwork.stimuli import chirps, spectrograms
from scipy import stats
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parents[2]
RIDGE = {"image_px": 32, "signal": "ridge"}
WAVEFORM = {
    "image_px": 32,
    "signal": "waveform",
    "snr_db": {"min": -15, "max": 5},
    "sweeps": ["linear", "exponential", "curved"],
}
KINDS = {
    "ridge": RIDGE,
    "waveform": WAVEFORM,
    "some absent": {**RIDGE, "presence_probability": 0.5},
    "decorated": {**RIDGE, "image_px": 64, "rendering": "decorated", "titled": True},
    "decorated waveform": {**WAVEFORM, "rendering": "decorated", "presence_probability": 0.5},
}


def _draw(settings, n=40, seed=3):
    return chirps.generate(settings, seed=seed, indices=range(n))


def _parameters(settings, n=20000, seed=5):
    return chirps._draw(chirps.parse_settings(settings), seed, np.arange(n))


def _bytes_of(settings, indices):
    batch = chirps.generate(settings, seed=9, indices=indices)
    columns = {**batch.labels, **batch.extras, "images": batch.images}
    return [
        {name: values[i].tobytes() for name, values in columns.items()} for i in range(len(batch))
    ]


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_an_image_depends_on_its_index_alone(settings):
    together = _bytes_of(settings, range(6))
    apart = [_bytes_of(settings, [i])[0] for i in range(6)]
    shuffled = _bytes_of(settings, np.array([5, 2, 0, 4, 1, 3]))
    assert together == apart
    assert [together[i] for i in (5, 2, 0, 4, 1, 3)] == shuffled
    assert together[0] != together[1]


def test_indices_reach_the_end_of_their_range():
    assert (
        len(chirps.generate(RIDGE, seed=2**64 - 1, indices=np.array([2**64 - 1], np.uint64))) == 1
    )


def test_parameters_are_uniform():
    drawn = _parameters(RIDGE)
    for values, low, high in (
        (drawn.start_s, 0, 45),
        (drawn.duration_s, 1, 15),
        (drawn.start_hz, 0, 100),
        (drawn.level, 0.09, 0.3),
        (drawn.start_cycles, 0, 1),
    ):
        assert stats.kstest((values - low) / (high - low), "uniform").pvalue > 1e-3
    step = drawn.end_hz - drawn.start_hz
    free = (drawn.start_hz > 30) & (drawn.start_hz < 70)
    assert stats.kstest((step[free] + 30) / 60, "uniform").pvalue > 1e-3
    assert (drawn.end_hz.min(), drawn.end_hz.max()) == (0, 100)
    counts = np.unique(drawn.sweep, return_counts=True)[1]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_snr_is_uniform_and_sweeps_are_those_asked_for():
    drawn = _parameters({**WAVEFORM, "sweeps": ["curved", "linear"]})
    assert stats.kstest((drawn.level + 15) / 20, "uniform").pvalue > 1e-3
    assert {chirps.SWEEPS[i] for i in drawn.sweep} == {"curved", "linear"}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_presence_has_its_probability_and_changes_nothing_else(share):
    drawn = _parameters({**RIDGE, "presence_probability": share})
    assert drawn.present.mean() == pytest.approx(share, abs=0.02 * (0 < share < 1))
    judge = _parameters(RIDGE)
    np.testing.assert_array_equal(drawn.start_hz, judge.start_hz)
    np.testing.assert_array_equal(drawn.level, judge.level)


@pytest.mark.parametrize("settings", [RIDGE, WAVEFORM], ids=["ridge", "waveform"])
def test_absent_chirps_leave_noise_and_no_label(settings):
    mixed = {**settings, "presence_probability": 0.5}
    batch, full = _draw(mixed), _draw(settings)
    here = batch.labels["present"] == 1
    assert 0 < here.sum() < len(batch)
    for name in ("start_s", "duration_s", "start_hz", "end_hz"):
        assert batch.labels[name].dtype == np.float64
        assert np.isnan(batch.labels[name][~here]).all()
        np.testing.assert_array_equal(batch.labels[name][here], full.labels[name][here])
    regions = batch.extras["regions"] == chirps.REGIONS.index("chirp")
    np.testing.assert_array_equal(regions.any(axis=(1, 2, 3)), here)
    np.testing.assert_array_equal(batch.images[here], full.images[here])
    without = chirps.arrays(mixed, seed=3, indices=range(40))
    everywhere = chirps.arrays(settings, seed=3, indices=range(40))
    change = np.abs(everywhere - without).max(axis=(1, 2))
    assert (change[here] == 0).all()
    assert (change[~here] > 0).all()


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_labels_lie_in_their_ranges(settings):
    labels = _draw(settings).labels
    attributes = chirps.label_attributes(settings)
    assert set(labels) == set(attributes)
    for name, given in attributes.items():
        values = labels[name][~np.isnan(labels[name])]
        assert given.minimum <= values.min() <= values.max() <= given.maximum
    assert attributes["present"].names == ("absent", "present")
    assert attributes["sweep"].names == ("linear", "exponential", "curved")
    assert {attributes[name].units for name in ("start_s", "start_hz")} == {"s", "Hz"}


def test_a_plain_picture_has_time_to_the_right_and_frequency_up():
    settings = {**RIDGE, "image_px": 128}
    batch, arrays = _draw(settings), chirps.arrays(settings, seed=3, indices=range(40))
    for image, array in zip(batch.images, arrays, strict=True):
        expected = spectrograms.colour_table()[spectrograms.colour_indices(array)]
        np.testing.assert_array_equal(image[::-1], expected)


@pytest.mark.parametrize("size", [32, 100, 224])
def test_regions_of_a_plain_picture_follow_the_labels(size):
    batch = _draw({**RIDGE, "image_px": size}, n=60)
    chirp, ground = chirps.REGIONS.index("chirp"), chirps.REGIONS.index("background")
    assert set(np.unique(batch.extras["regions"])) == {chirp, ground}
    found = batch.extras["regions"][..., 0] == chirp
    for i in range(len(batch)):
        start, length = batch.labels["start_s"][i], batch.labels["duration_s"][i]
        columns = np.flatnonzero(found[i].any(axis=0))
        step = 60 / min(size, 128)
        assert columns[0] * 60 / size == pytest.approx(start, abs=1.5 * step)
        assert (columns[-1] + 1) * 60 / size == pytest.approx(start + length, abs=1.5 * step)
        rows = np.flatnonzero(found[i].any(axis=1))
        hz = sorted(batch.labels[name][i] for name in ("start_hz", "end_hz"))
        slack = 5 + 30 * 60 / 128 + 150 / size
        assert (size - rows[0]) * 100 / size == pytest.approx(hz[1], abs=slack)
        assert (size - 1 - rows[-1]) * 100 / size == pytest.approx(hz[0], abs=slack)


def test_a_chirp_is_brighter_than_its_ground():
    settings = {**WAVEFORM, "image_px": 128, "snr_db": {"min": 5, "max": 5}}
    batch = _draw(settings)
    found = batch.extras["regions"][..., 0] == chirps.REGIONS.index("chirp")
    green = batch.images[..., 1].astype(float)
    inside = [image[mask].mean() for image, mask in zip(green, found, strict=True)]
    outside = [image[~mask].mean() for image, mask in zip(green, found, strict=True)]
    assert (np.array(inside) > np.array(outside) + 20).all()


def _configured(scale):
    """The studies of chirps with a scale's numbers."""
    found = {}
    files = [
        *sorted((ROOT / "config/studies").glob("*.yaml")),
        ROOT / f"config/scales/{scale}.yaml",
    ]
    for path in files:
        _update(found, yaml.safe_load(path.read_text()).get("studies", {}))
    return [one for one in found.values() if one.get("stimuli", {}).get("kind") == "chirps"]


def _update(old, new):
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            _update(old[key], value)
        else:
            old[key] = copy.deepcopy(value)


@pytest.mark.parametrize("scale", ["paper", "tiny", "benchmark", "natural"])
def test_no_title_of_a_configured_dataset_tells_whether_there_is_a_chirp(scale):
    studies = _configured(scale)
    assert len(studies) == 2
    for study in studies:
        drawn = [x for x, own in study["stimuli"]["datasets"].items() if "annotated" not in own]
        for dataset in drawn:
            chirps.parse_settings(settings.stimulus(study, dataset))


def test_at_paper_scale_ink_where_a_title_would_be_is_at_chance():
    study = next(s for s in _configured("paper") if "waveform" in s["stimuli"]["datasets"])
    given = settings.stimulus(study, "waveform")
    assert given["rendering"] == "decorated"
    batch = _draw(given, n=60)
    assert not (batch.extras["regions"] == chirps.REGIONS.index("title")).any()
    ridge = settings.stimulus(study, "ridge")
    title = _draw(ridge, n=2).extras["regions"][..., 0] == chirps.REGIONS.index("title")
    strip = batch.images[:, title.any(axis=0)].astype(float)
    assert strip.shape[1] > 200
    ink = (255 - strip).sum(axis=(1, 2))
    assert 10 < batch.labels["present"].sum() < 50
    assert roc_auc_score(batch.labels["present"], ink) == 0.5
    assert (strip == strip[0]).all()


def test_chirps_go_to_a_file_and_back(tmp_path):
    settings = KINDS["some absent"]
    batch = _draw(settings, n=5)
    attributes = chirps.label_attributes(settings)
    store.write(
        tmp_path / "chirps.h5",
        [batch],
        n=5,
        attributes={"seed": 3, "settings": settings, "first_index": 0, "code": ""},
        label_attributes=attributes,
    )
    read = store.read(tmp_path / "chirps.h5")
    np.testing.assert_array_equal(read.extras["regions"], batch.extras["regions"])
    np.testing.assert_array_equal(read.labels["start_s"], batch.labels["start_s"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown key colour"),
        ({"titled": True}, "titled is True with rendering 'plain'"),
        (
            {"rendering": "decorated", "titled": True, "presence_probability": 0.5},
            "titled is True with presence_probability 0.5; allowed with: 1",
        ),
        ({"snr_db": {"min": 0, "max": 1}}, "snr_db is given with signal 'ridge'"),
        ({"signal": "waveform"}, "snr_db is missing"),
        ({"signal": "waveform", "snr_db": {"min": 2, "max": 1}}, "snr_db.min is 2"),
        ({"sweeps": ["curved"]}, "curved with signal 'ridge'"),
    ],
)
def test_impossible_settings_get_one_line(change, message):
    for function in (
        chirps.label_attributes,
        lambda given: chirps.generate(given, seed=0, indices=range(1)),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            function({**RIDGE, **change})
        assert "\n" not in str(caught.value)
