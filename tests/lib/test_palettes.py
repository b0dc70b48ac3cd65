import numpy as np
from coloraide import Color
from patchwork.stimuli.common import palettes


def test_signal_energy_counts_full_channels():
    rgb = np.array([[0, 0, 0], [0, 0, 255], [255, 255, 0], [255, 255, 255]])
    assert palettes.signal_energy(rgb).tolist() == [0, 1, 2, 3]


def test_hues_have_one_energy_and_basic_colours_have_not():
    basic = palettes.signal_energy(palettes.palette("basic11").rgb)
    equal = palettes.signal_energy(palettes.palette("hue_circle").rgb)
    assert basic.max() / basic.min() > 5
    # Rounding three channels to whole levels moves the energy by at most sum(2 c * 0.5) / 255**2.
    np.testing.assert_allclose(equal, 1, atol=3 * 255 / 255**2)


def test_equal_energy_keeps_each_hue():
    basic = palettes.palette("basic11").rgb.astype(float)
    for before, after in zip(basic, palettes.equal_energy(basic).astype(float), strict=True):
        ratio = after[before > 0] / before[before > 0]
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=0.01)
        assert (after[before == 0] == 0).all()


def test_hues_stand_evenly_round_the_circle():
    table = palettes.hue_circle(36)
    for i, levels in enumerate(table):
        hue = Color("srgb", levels / 255).convert("hsv")["hue"]
        assert abs((hue - 10 * i + 180) % 360 - 180) < 0.5
    assert table[24].tolist() == [0, 0, 255]
    assert table[6, 0] == table[6, 1] > table[6, 2] == 0


def test_an_arc_may_run_through_zero():
    hue = np.array([0.0, 344.0, 345.0, 14.9, 15.0, 180.0])
    assert palettes.in_arc(hue, (345, 15)).tolist() == [True, False, True, True, False, False]


def test_hues_are_named_by_the_nearest_of_twelve():
    circle = palettes.palette("hue_circle")
    nearest = np.array([int(name.split()[1]) for name in circle.names])[circle.colour]
    assert np.abs((circle.hue_deg - nearest + 180) % 360 - 180).max() <= 15
