import numpy as np
import pytest
from coloraide import Color
from patchwork.stimuli.common import palettes


def test_signal_energy_counts_full_channels():
    rgb = np.array([[0, 0, 0], [0, 0, 255], [255, 255, 0], [255, 255, 255]])
    assert palettes.signal_energy(rgb).tolist() == [0, 1, 2, 3]


def test_basic_colours_differ_in_energy_and_equal_energy_ones_do_not():
    basic = palettes.signal_energy(palettes.palette("basic11").rgb)
    equal = palettes.signal_energy(palettes.palette("equal_energy").rgb)
    assert basic.max() / basic.min() > 5
    # Rounding three channels to whole levels moves the energy by at most sum(2 c * 0.5) / 255**2.
    np.testing.assert_allclose(equal, 1, atol=3 * 255 / 255**2)


def test_equal_energy_keeps_each_hue():
    basic, equal = palettes.palette("basic11"), palettes.palette("equal_energy")
    assert basic.names == equal.names
    for before, after in zip(basic.rgb.astype(float), equal.rgb.astype(float), strict=True):
        ratio = after[before > 0] / before[before > 0]
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=0.01)
        assert (after[before == 0] == 0).all()


def test_hue_circle_has_one_lightness_and_chroma_and_stays_in_gamut():
    table = palettes.hue_circle()
    for step in range(0, 3600, 50):
        colour = Color("srgb", table[step] / 255).convert("oklch")
        lightness, chroma, hue = colour.coords()
        assert lightness == pytest.approx(0.75, abs=0.004)
        assert chroma == pytest.approx(0.12, abs=0.004)
        assert abs((hue - step / 10 + 180) % 360 - 180) < 2
        assert Color("oklch", [0.75, 0.12, step / 10]).in_gamut("srgb", tolerance=0)


def test_held_out_arcs_are_left_out_also_through_zero():
    hue = palettes.palette("hue_circle", ((350, 10), (90, 120))).hue_deg
    assert not ((hue >= 350) | (hue <= 10)).any()
    assert not ((hue >= 90) & (hue <= 120)).any()
    assert len(hue) == 3600 - 201 - 301


def test_hues_are_named_by_the_nearest_of_twelve():
    circle = palettes.palette("hue_circle")
    nearest = np.array([int(name.split()[1]) for name in circle.names])[circle.colour]
    assert np.abs((circle.hue_deg - nearest + 180) % 360 - 180).max() <= 15
