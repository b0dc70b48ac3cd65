from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from patchwork import stimuli
from patchwork.stimuli import lines
from patchwork.stimuli.common import palettes, rng
from PIL import Image, ImageDraw
from scipy import stats

SETTINGS = {
    "image_px": 64,
    "length_px": {"min": 6, "max": 25},
    "width_px": {"min": 1, "max": 5},
    "palette": "basic11",
    "margin": "length_and_width",
    "noise_levels": [0.0, 0.1, 0.2, 0.3],
    "rasteriser": "pil",
}
CLEAN = {**SETTINGS, "noise_levels": [0.0]}


def _draw(settings, n=200, seed=3):
    return lines.generate(settings, seed=seed, indices=range(n))


def _bytes_of(indices):
    return [image.tobytes() for image in lines.generate(SETTINGS, seed=9, indices=indices).images]


def _centroid(image):
    weight = image.astype(float).sum(axis=2)
    y, x = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()


@pytest.mark.parametrize("size", [64, 224])
def test_lines_are_drawn_exactly_as_pil_draws_them(size):
    batch = _draw({**CLEAN, "image_px": size, "length_px": {"min": 1, "max": size // 3}})
    labels = batch.labels
    for i, image in enumerate(batch.images):
        expected = Image.new("RGB", (size, size))
        points = [int(labels[f"{p}_{a}_px"][i]) for p in ("start", "end") for a in "xy"]
        colour = tuple(int(labels[c][i]) for c in ("red", "green", "blue"))
        ImageDraw.Draw(expected).line(points, fill=colour, width=int(labels["width_px"][i]))
        np.testing.assert_array_equal(image, np.asarray(expected))


@hypothesis_settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), first=st.integers(0, 2**63))
def test_geometry_follows_the_text(seed, first):
    labels = lines.generate(CLEAN, seed=seed, indices=range(first, first + 8)).labels
    margin = labels["length_px"] + labels["width_px"]
    for axis, part in (("x", np.cos), ("y", np.sin)):
        start = labels[f"start_{axis}_px"]
        assert ((start >= margin) & (start <= 63 - margin)).all()
        step = np.trunc(labels["length_px"] * part(np.deg2rad(labels["angle_deg"])))
        np.testing.assert_array_equal(labels[f"end_{axis}_px"], start + step)
        middle = (start + labels[f"end_{axis}_px"]) / 2
        np.testing.assert_array_equal(labels[f"mid_{axis}_px"], middle)
    np.testing.assert_array_equal(labels["orientation_deg"], labels["angle_deg"] % 180)


def test_parameters_are_uniform():
    numbers = np.arange(20000)
    drawn = lines._draw_geometry(lines.parse_settings(SETTINGS), 5, numbers)
    assert stats.kstest(drawn.angle_deg / 360, "uniform").pvalue > 1e-3
    for values in (drawn.length, drawn.width, drawn.colour, drawn.noise):
        counts = np.unique(values, return_counts=True)[1]
        assert stats.chisquare(counts).pvalue > 1e-3
    assert set(drawn.length) == set(range(6, 26))
    assert set(drawn.width) == set(range(1, 6))
    margin = drawn.length + drawn.width
    place = (drawn.start - margin[:, None] + 0.5) / (64 - 2 * margin[:, None])
    assert abs(place.mean() - 0.5) < 0.01
    assert place.min() < 0.02
    assert place.max() > 0.98
    correlation = np.corrcoef([*drawn.start.T, drawn.angle_deg, drawn.colour, drawn.noise])
    assert np.abs(correlation - np.eye(5)).max() < 0.03


def test_same_bytes_in_any_order_shard_and_process():
    whole = _bytes_of(range(70))
    order = np.random.default_rng(0).permutation(70)
    assert [whole[i] for i in order] == _bytes_of(order)
    shards = [range(first, min(first + 11, 70)) for first in range(0, 70, 11)]
    assert len(shards) == 7
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert [image for part in pool.map(_bytes_of, shards) for image in part] == whole
    streamed = stimuli.stream("lines", SETTINGS, seed=9, indices=range(70), batch_size=13)
    assert [image.tobytes() for batch in streamed for image in batch.images] == whole


def test_images_and_seeds_differ():
    images = _draw(SETTINGS, 50).images.reshape(50, -1)
    assert len(np.unique(images, axis=0)) == 50
    assert (_draw(SETTINGS, 50, seed=4).images.reshape(50, -1) != images).any(axis=1).all()


def test_bytes_are_those_of_earlier_versions():
    # Whoever changes what a seed means must see it here.
    first = [6763254593281985707, 2167163343696135169]
    assert rng.stream(1, 2, 3).random_raw(2).tolist() == first
    np.testing.assert_allclose(rng.uniforms(1, np.array([2]), 1, 3)[0, 0], first[0] / 2**64)


@pytest.mark.parametrize("sd", [0.1, 0.3])
def test_noise_on_black_is_a_clipped_truncated_gaussian(sd):
    settings = {**SETTINGS, "noise_levels": [sd], "length_px": {"min": 1, "max": 1}}
    settings["width_px"] = {"min": 1, "max": 1}
    values = _draw(settings, 100).images[:, :2].ravel().astype(int)
    exact = stats.norm.cdf(np.arange(1, 256) / (sd * 255))  # P(level < v) = P(noise < v)
    levels = np.diff(np.concatenate([[0], exact, [1]]))
    seen = np.bincount(values, minlength=256) / len(values)
    assert np.abs(np.cumsum(seen) - np.cumsum(levels)).max() < 1.95 / np.sqrt(len(values))
    mean = (levels * np.arange(256)).sum()
    spread = np.sqrt((levels * (np.arange(256) - mean) ** 2).sum())
    assert values.mean() == pytest.approx(mean, abs=4 * spread / np.sqrt(len(values)))
    assert values.std() == pytest.approx(spread, rel=0.02)


def test_noise_on_the_line_has_the_mean_and_spread_of_its_level():
    settings = {**SETTINGS, "length_px": {"min": 20, "max": 20}, "noise_levels": [0.1]}
    settings["palette"] = "basic11"
    noisy, clean = _draw(settings, 400), _draw({**settings, "noise_levels": [0.0]}, 400)
    purple = noisy.labels["colour"] == palettes.palette("basic11").names.index("purple")
    on_line = clean.images[purple][..., 0] == 128
    values = noisy.images[purple][..., 0][on_line].astype(float)
    # Truncation lowers the mean by half a level; 128 lies five sd from either border.
    tolerance = 4 * 25.5 / np.sqrt(len(values))
    assert values.mean() == pytest.approx(127.5, abs=tolerance)
    assert values.std() == pytest.approx(25.5, rel=0.05)


def test_noise_is_independent_between_channels_and_neighbours():
    settings = {**SETTINGS, "noise_levels": [0.3]}
    patch = _draw(settings, 60).images[:, :4].astype(float)
    assert abs(np.corrcoef(patch[..., 0].ravel(), patch[..., 1].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(patch[:, :, 1:].ravel(), patch[:, :, :-1].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(patch[1:].ravel(), patch[:-1].ravel())[0, 1]) < 0.03


def test_a_control_changes_one_thing_and_keeps_the_noise():
    plain = _draw(SETTINGS, 30)
    smooth = _draw({**SETTINGS, "rasteriser": "antialiased"}, 30)
    np.testing.assert_array_equal(plain.labels["angle_deg"], smooth.labels["angle_deg"])
    assert (plain.images[:, :2] == smooth.images[:, :2]).all()
    assert (plain.images != smooth.images).any()


@pytest.mark.parametrize("rasteriser", ["pil", "antialiased"])
def test_clean_line_lies_around_its_labelled_midpoint(rasteriser):
    settings = {**CLEAN, "rasteriser": rasteriser, "width_px": {"min": 2, "max": 2}}
    batch = _draw(settings, 60)
    tolerance = 1.0 if rasteriser == "pil" else 0.1
    for i, image in enumerate(batch.images):
        x, y = _centroid(image)
        assert abs(x - batch.labels["mid_x_px"][i]) < tolerance
        assert abs(y - batch.labels["mid_y_px"][i]) < tolerance


def test_antialiased_line_has_the_area_of_its_rectangle_at_every_angle():
    settings = {**CLEAN, "rasteriser": "antialiased", "palette": "white"}
    batch = _draw({**settings, "length_px": {"min": 18, "max": 18}}, 200)
    area = batch.images[..., 0].astype(float).sum(axis=(1, 2)) / 255
    np.testing.assert_allclose(area, 18 * batch.labels["width_px"], rtol=0.06)


@pytest.mark.parametrize("rotation", [90, 45, -30])
def test_rotation_turns_picture_and_labels_together(rotation):
    base = {**CLEAN, "rasteriser": "antialiased", "width_px": {"min": 2, "max": 2}}
    base["length_px"] = {"min": 20, "max": 25}
    plain, turned = _draw(base, 60), _draw({**base, "rotation_deg": rotation}, 60)
    difference = turned.labels["angle_deg"] - plain.labels["angle_deg"] - rotation
    np.testing.assert_allclose((difference + 180) % 360 - 180, 0, atol=1e-9)
    for i, image in enumerate(turned.images):
        if (
            max(abs(turned.labels[f"{p}_{a}_px"][i] - 31.5) for p in ("start", "end") for a in "xy")
            > 28
        ):
            continue  # part of the line left the frame
        x, y = _centroid(image)
        assert abs(x - turned.labels["mid_x_px"][i]) < 0.3
        assert abs(y - turned.labels["mid_y_px"][i]) < 0.3
        weight = image.astype(float).sum(axis=2)
        gy, gx = np.mgrid[:64, :64] - np.array([y, x])[:, None, None]
        sxx, syy, sxy = (weight * gx**2).sum(), (weight * gy**2).sum(), (weight * gx * gy).sum()
        axis = np.rad2deg(0.5 * np.arctan2(2 * sxy, sxx - syy)) % 180
        error = (axis - turned.labels["orientation_deg"][i] + 90) % 180 - 90
        assert abs(error) < 2


def test_the_same_lines_and_noise_in_every_colour():
    rgb = palettes.BASIC11["red"], palettes.BASIC11["green"], palettes.BASIC11["white"]
    images, labels = lines.in_colours(SETTINGS, np.array(rgb), seed=4, indices=range(6))
    plain = _draw(SETTINGS, 6, seed=4)
    for name in ("angle_deg", "noise_sd", "width_px", "start_x_px"):
        assert np.array_equal(labels[name], plain.labels[name])
    red, green, white = images
    # A channel that a colour has or lacks is the same in all colours that have or lack it.
    assert np.array_equal(red[..., 0], white[..., 0])
    assert np.array_equal(green[..., 1], white[..., 1])
    assert np.array_equal(red[..., 2], green[..., 2])
    same = (plain.images == white).all(-1).mean((1, 2))
    assert same.min() > 0.9


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"palette": "white", "margin": "length"},
        {"palette": "hue_circle"},
        {"rotation_deg": 45, "rasteriser": "antialiased"},
    ],
)
def test_labels_stay_in_their_announced_ranges(extra):
    settings = {**SETTINGS, **extra}
    batch, attributes = _draw(settings, 300), lines.label_attributes(settings)
    assert list(batch.labels) == list(attributes)
    for name, values in batch.labels.items():
        assert values.shape == (300,)
        given = values[~np.isnan(values)]
        low, high = attributes[name].minimum, attributes[name].maximum
        assert ((given >= low) & (given <= high)).all(), name
        if attributes[name].units == "index":
            assert len(attributes[name].names) == high + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image_px": 224, "margin": "length", "length_px": {"min": 1, "max": 400}},
            r"^length_px.max is 400; allowed is at most 111 for a 224 px image "
            r"\(line plus margin must fit\)$",
        ),
        ({"length_px": {"min": 9, "max": 8}}, r"length_px.min is 9; allowed is at most 8"),
        ({"lenght_px": {}}, r"unknown key lenght_px; allowed are .*length_px"),
    ],
)
def test_impossible_settings_give_one_line(change, message):
    with pytest.raises(ValueError, match=message) as error:
        lines.generate({**SETTINGS, **change}, seed=0, indices=range(1))
    assert "\n" not in str(error.value)


def test_a_missing_key_and_a_bad_seed_are_named():
    without = {key: value for key, value in SETTINGS.items() if key != "margin"}
    with pytest.raises(ValueError, match="margin is missing"):
        lines.parse_settings(without)
    with pytest.raises(ValueError, match="seed is -1"):
        lines.generate(SETTINGS, seed=-1, indices=range(1))
