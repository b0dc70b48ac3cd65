from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from patchwork.analysis.biases import colour, paired
from patchwork.analysis.biases.observer import LineGeometry
from patchwork.models.tasks import DoubleAngle, Target
from patchwork.statistics.power import crossed_found
from patchwork.stimuli.common import palettes

ROOT = Path(__file__).parents[2]
BLOCK = yaml.safe_load((ROOT / "config/studies/lines.yaml").read_text())["studies"]["lines"][
    "analyses"
]["colour"]
GEOMETRY = {name: (LineGeometry(64, (14, 14)), (0.0, 0.2)) for name in ("color", "hue")}
NAMED, HUES = (paired.colours_of(name, 36) for name in ("basic11", "hue_circle"))
LINES = 60


def frame(dataset, colours, mean, seeds=3, n=LINES, noise=3.0, draw=0):
    """Errors on lines that are hard in every colour alike, with planted means by colour."""
    rng = np.random.Generator(np.random.Philox(draw))
    hard = rng.exponential(20, n)
    parts = []
    for seed in range(seeds):
        scatter = noise * rng.standard_normal((len(colours), n))
        error = hard + np.asarray(mean)[:, None] + scatter + rng.standard_normal()
        rows = colours.loc[np.repeat(colours.index, n)].reset_index(drop=True)
        parts.append(
            rows.assign(
                seed=seed, example=np.tile(np.arange(n), len(colours)), angle_deg=0.0,
                predicted_deg=0.0, error_deg=error.reshape(-1), dataset=dataset,
                backbone="pretrained", protocol="corrected",
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def named(**mean):
    return [mean.get(name, 0.0) for name in NAMED["colour"]]


def contrast(mean, name="blue_minus_yellow"):
    values = colour.contrasts(*colour.paired(frame("color", NAMED, mean)), BLOCK)
    return colour.contrast_interval(values[name])


def test_lines_that_differ_in_colour_alone_tell_small_differences():
    found = contrast(named(blue=2.0, purple=9.0))
    assert found.estimate == pytest.approx(2, abs=0.8)
    assert 0 < found.low < 2 < found.high  # errors of single lines spread by 20 deg
    assert (found.clusters, found.n) == (3, 3 * LINES)


def test_what_the_number_of_channels_does_is_no_hue():
    energy = palettes.signal_energy(NAMED[colour.CHANNELS].to_numpy())
    assert contrast(6 / energy).low > 0.5
    beyond = contrast(6 / energy, "blue_minus_yellow_beyond_channels")
    assert beyond.low < 0 < beyond.high
    hue = contrast(6 / energy + named(blue=3.0), "blue_minus_yellow_beyond_channels")
    assert hue.low > 0.5


@pytest.mark.parametrize(("noise", "least", "most"), [(0.5, 0.9, 1.0), (25.0, 0.0, 0.4)])
def test_the_power_says_whether_a_planted_difference_would_be_found(noise, least, most):
    data = frame("color", NAMED, named(), noise=noise, seeds=5, n=20)
    values = colour.contrasts(*colour.paired(data), BLOCK)["blue_minus_yellow"]
    found = crossed_found(values, 1.0, (0.5, None), seed=0)
    assert least <= found.estimate <= most


def test_the_axis_is_the_wave_from_blue_to_yellow():
    turn = np.deg2rad(HUES["hue_deg"].to_numpy())
    mean = 10 + 2 * np.cos(turn - np.deg2rad(240)) + 5 * np.sin(turn - np.deg2rad(240))
    mean += 3 * np.cos(6 * turn)
    errors, names = colour.paired(frame("hue", HUES, mean))
    found = colour.axis_interval(errors, HUES.set_index("colour").loc[names, "hue_deg"], 240)
    assert found.estimate == pytest.approx(4, abs=0.5)
    assert found.low < 4 < found.high


def by_category(shift=0.0, size=3.0):
    hue = HUES["hue_deg"].to_numpy() - shift
    member = [palettes.in_arc(hue, arc) for arc in BLOCK["categories"].values()]
    assert (np.sum(member, 0) == 1).all()
    level = np.random.default_rng(1).permutation(len(member)) * size
    return level[np.argmax(member, 0)]


@pytest.mark.parametrize(
    ("mean", "low", "high"),
    [
        (by_category(), 0.1, 1),  # as people group hues
        (by_category(shift=60), -1, 0.05),  # as large groups with other borders
        (15 * np.cos(np.deg2rad(HUES["hue_deg"].to_numpy())), -1, 0.05),  # neighbours are alike
        (np.zeros(36), -0.05, 0.05),
    ],
    ids=["categories", "turned", "smooth", "nothing"],
)
def test_categories_are_more_than_neighbours(mean, low, high):
    errors, names = colour.paired(frame("hue", HUES, mean))
    colours = HUES.set_index("colour").loc[names]
    excess = [
        colour.category_excess(
            colour.paired_distance(one), colours, dict.fromkeys(names, 3.0), BLOCK["categories"]
        )
        for one in errors
    ]
    assert low < np.mean(excess) < high


def test_tables_hold_every_colour_and_the_ideal_observer():
    data = pd.concat([
        frame("color", NAMED, named(blue=2.0), n=16), frame("hue", HUES, np.zeros(36), n=16)
    ])  # fmt: skip
    found = colour.colour_tables(data, GEOMETRY, BLOCK, seed=0)
    table = found["errors"].set_index(["dataset", "colour"])
    means = data.groupby(["dataset", "colour"])["error_deg"].mean()
    assert np.allclose(table["error_deg"], means[table.index])
    assert table.loc[("color", "white"), "energy"] == 3
    ideal = table.loc["color", "ideal_error_deg"]
    assert ideal["blue"] > ideal["yellow"]
    rows = found["findings"].set_index(["backbone", "quantity"])
    observer = rows.loc[("ideal_observer", colour.CATEGORY)]
    assert abs(observer["estimate"]) < 0.05
    assert observer["seeds"] == 0
    for name in ("blue_minus_yellow", "blue_minus_yellow_beyond_channels", colour.CATEGORY):
        assert 0 <= rows.loc[("pretrained", f"{name}_power"), "estimate"] <= 1
    assert set(found["predictions"]["seed"]) == {0}


class Seer(torch.nn.Module):
    """Reads the orientation of the brightest pixels' spread, whatever the colour."""

    def __init__(self):
        super().__init__()
        encoding = DoubleAngle(180)
        self.targets = {"orientation": Target(("orientation_deg",), encoding)}
        self.mean = torch.zeros(3)

    def forward(self, images):
        weight = images.float().amax(-1)
        weight = weight / weight.sum((1, 2), keepdim=True)
        place = torch.arange(images.shape[1]).float()
        x, y = (weight.sum(axis) @ place for axis in (1, 2))
        x, y = place - x[:, None], place - y[:, None]
        xx, yy = (weight.sum(1) * x**2).sum(1), (weight.sum(2) * y**2).sum(1)
        xy = (weight * x[:, None, :] * y[:, :, None]).sum((1, 2))
        return {"orientation": torch.stack([xx - yy, 2 * xy], 1)}


def test_a_network_sees_the_same_line_in_every_colour():
    settings = {
        "image_px": 64, "length_px": {"min": 20, "max": 20}, "width_px": {"min": 2, "max": 2},
        "palette": "basic11", "margin": "length", "noise_levels": [0.0], "rasteriser": "pil",
    }  # fmt: skip
    images = {"settings": settings, "seed": 3, "first_index": 5}
    periods = {"angle_deg": 360.0, "orientation_deg": 180.0}
    table = paired.paired_errors(Seer(), images, NAMED, periods, n_lines=30)
    assert len(table) == 11 * 30
    assert table["error_deg"].max() < 6  # steps of the drawn edge
    wide = table.pivot_table(index="example", columns="colour", values="predicted_deg")
    assert np.ptp(wide[["red", "blue", "white"]].to_numpy(), axis=1).max() < 1e-3
