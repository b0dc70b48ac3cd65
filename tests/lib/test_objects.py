import numpy as np
import pytest
from patchwork import stimuli
from patchwork.stimuli import objects
from scipy import ndimage, stats

SETTINGS = {"image_px": 64}


def _draw(n=300, seed=2, **change):
    return objects.generate({**SETTINGS, **change}, seed=seed, indices=range(n))


def _axis_energy_ratio(images):
    """Gradient energy near the cardinal axes over that near the oblique ones."""
    grey = images.astype(float).mean(axis=3)
    # Derivatives of a Gaussian: plain differences see more of a thin line when it is oblique.
    dy = ndimage.gaussian_filter(grey, (0, 2, 2), order=(0, 1, 0))
    dx = ndimage.gaussian_filter(grey, (0, 2, 2), order=(0, 0, 1))
    near = np.abs((np.rad2deg(np.arctan2(dy, dx)) + 45) % 90 - 45)
    energy = dx**2 + dy**2
    return energy[near < 11.25].sum() / energy[near > 33.75].sum()


def _hsv_hue(rgb):
    rgb = rgb.astype(float)
    angle = np.arctan2(np.sqrt(3) * (rgb[:, 1] - rgb[:, 2]), 2 * rgb[:, 0] - rgb[:, 1] - rgb[:, 2])
    return np.rad2deg(angle) % 360


def _rgb(batch):
    return np.stack([batch.labels[channel] for channel in ("red", "green", "blue")], axis=1)


def test_same_bytes_in_any_order_and_shard():
    whole = _draw(40)
    order = np.random.default_rng(0).permutation(40)
    mixed = objects.generate(SETTINGS, seed=2, indices=order)
    np.testing.assert_array_equal(mixed.images, whole.images[order])
    np.testing.assert_array_equal(mixed.extras["clean"], whole.extras["clean"][order])
    parts = stimuli.stream("objects", SETTINGS, seed=2, indices=range(40), batch_size=7)
    np.testing.assert_array_equal(stimuli.concatenate(list(parts)).images, whole.images)
    assert (objects.generate(SETTINGS, seed=3, indices=range(40)).images != whole.images).any()


@pytest.mark.parametrize("given", [{}, {"size": {"min": 0.5, "max": 0.8}, "noise_sd_max": 0.05}])
def test_labels_are_those_announced_and_uniform(given):
    batch, attributes = _draw(3000, **given), objects.label_attributes({**SETTINGS, **given})
    assert list(batch.labels) == list(attributes)
    assert not any("orientation" in name or "angle" in name for name in batch.labels)
    for name, values in batch.labels.items():
        low, high = attributes[name].minimum, attributes[name].maximum
        assert ((values >= low) & (values <= high)).all(), name
    assert stats.chisquare(np.bincount(batch.labels["shape"], minlength=8)).pvalue > 1e-3
    for name in ("size_px", "thickness_px", "noise_sd"):
        low, high = attributes[name].minimum, attributes[name].maximum
        assert stats.kstest((batch.labels[name] - low) / (high - low), "uniform").pvalue > 1e-3


def test_shape_lies_where_and_as_large_as_labelled():
    batch = _draw(400, clutter_probability=0)
    clean, rgb = batch.extras["clean"].astype(int), _rgb(batch)
    for i in range(400):
        ground = clean[i, 0, 0]
        if np.abs(rgb[i] - ground).max() < 60:
            continue
        drawn = np.abs(clean[i] - ground).max(axis=2) > 0.5 * np.abs(rgb[i] - ground).max()
        y, x = np.nonzero(drawn)
        away = np.hypot(x - batch.labels["x_px"][i], y - batch.labels["y_px"][i])
        reach = (batch.labels["size_px"][i] + batch.labels["thickness_px"][i]) / 2
        assert away.max() == pytest.approx(reach, abs=1.3)


def test_bar_has_the_labelled_thickness_and_colour():
    batch = _draw(1500, clutter_probability=0)
    thick = (batch.labels["shape"] == 0) & (batch.labels["thickness_px"] > 3)
    clean, rgb = batch.extras["clean"][thick].astype(float), _rgb(batch)[thick]
    ground = clean[:, :1, :1]
    signal = np.abs(clean - ground).sum(axis=(1, 2, 3))
    full = np.abs(rgb - ground[:, 0, 0]).sum(axis=1)
    width, size = batch.labels["thickness_px"][thick], batch.labels["size_px"][thick]
    area = width * size + np.pi * width**2 / 4
    kept = full > 120
    ratio = (signal / full)[kept] / area[kept]
    assert ratio.mean() == pytest.approx(1, abs=0.05)
    assert ratio.std() < 0.06


def test_noise_is_what_differs_from_clean():
    batch = _draw(300)
    difference = batch.images.astype(int) - batch.extras["clean"]
    inner = np.abs(batch.extras["clean"].astype(int) - 127) < 20
    quiet = (batch.labels["noise_sd"] < 0.1) & (inner.sum(axis=(1, 2, 3)) > 300)
    assert quiet.sum() > 5
    for i in np.flatnonzero(quiet):
        seen = difference[i][inner[i]].std()
        assert seen == pytest.approx(batch.labels["noise_sd"][i] * 255, rel=0.2, abs=0.5)


def test_orientation_statistics_show_in_the_pixels():
    ratio = {
        kind: _axis_energy_ratio(_draw(1500, orientation_statistics=kind).extras["clean"])
        for kind in objects.ORIENTATION_STATISTICS
    }
    assert ratio["isotropic"] == pytest.approx(1, abs=0.12)
    assert ratio["cardinal"] > 1.8
    assert ratio["oblique"] < 1 / 1.8


def test_statistics_leave_everything_else_alone():
    one, other = _draw(50), _draw(50, orientation_statistics="oblique")
    for name in one.labels:
        np.testing.assert_array_equal(one.labels[name], other.labels[name])


@pytest.mark.parametrize(("kind", "centre"), [("blue_poor", 240), ("yellow_poor", 60)])
def test_poor_colours_are_rare(kind, centre):
    def share(statistics):
        rgb = _rgb(_draw(3000, colour_statistics=statistics, clutter_probability=0))
        coloured = np.ptp(rgb, axis=1) > 30
        away = np.abs((_hsv_hue(rgb[coloured]) - centre + 180) % 360 - 180)
        return (away < 35).mean()

    assert share("uniform") == pytest.approx(70 / 360, abs=0.04)
    assert share(kind) < 0.03


def test_clutter_probability_is_kept():
    def cluttered(probability):
        scene = objects._draw_scene(
            objects.parse_settings({**SETTINGS, "clutter_probability": probability}),
            1,
            np.arange(2000),
        )
        counts = scene.n_clutter[scene.n_clutter > 0]
        assert len(counts) == 0 or (counts.min(), counts.max()) == (3, 8)
        return len(counts) / 2000

    assert cluttered(0) == 0
    assert cluttered(1) == 1
    assert cluttered(0.5) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": {"min": 0.5, "max": 0.4}}, r"size.min is 0.5; allowed is at most 0.4"),
        ({"orientation": "x"}, "unknown key orientation; allowed are"),
    ],
)
def test_impossible_settings_give_one_line(change, message):
    with pytest.raises(ValueError, match=message):
        _draw(1, **change)
