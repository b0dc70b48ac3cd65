import numpy as np
import pytest
from coloraide import Color
from patchwork.analysis.rearing import image_statistics as st
from patchwork.stimuli import probes, views


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def grey(levels):
    levels = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=-1)


def test_isotropic_noise_is_flat():
    noise = grey(127.5 + 40 * generator(1).normal(size=(60, 64, 64)))
    table = st.edge_orientation_energy(noise, n_bins=24)
    assert table["share"].sum() == pytest.approx(1)
    assert (table["n"] == 60).all()
    ratio = table["share"] * 24
    assert ratio.between(0.93, 1.07).all()
    cardinal = np.cos(np.deg2rad(4 * table["orientation_deg"]))
    assert abs((ratio * cardinal).mean()) < 0.01


@pytest.mark.parametrize("degrees", [0, 30, 45, 90, 135])
def test_edges_are_found_at_their_orientation(degrees):
    images = probes.band_pass_noise(
        image_px=64, seed=1, indices=range(20), orientation_deg=degrees
    ).images
    table = st.edge_orientation_energy(images, n_bins=36)
    assert table.loc[table["share"].idxmax(), "orientation_deg"] == pytest.approx(degrees, abs=5)


def test_turning_pictures_turns_the_curve():
    images = probes.band_pass_noise(
        image_px=64, seed=1, indices=range(20), orientation_deg=20
    ).images
    one = st.edge_orientation_energy(images, n_bins=36)["share"].to_numpy()
    turned = np.rot90(images, axes=(1, 2)).copy()
    other = st.edge_orientation_energy(turned, n_bins=36)["share"].to_numpy()
    assert np.allclose(np.roll(one, 18), other, atol=1e-6)


def test_the_border_of_the_disc_is_no_edge():
    noise = 20 * generator(4).normal(size=(5, 64, 64))
    plain = st.edge_orientation_energy(grey(100 + noise))["share"]
    bordered = st.edge_orientation_energy(grey(20 + 80 * views.disc(64) + noise))["share"]
    assert np.allclose(plain, bordered, rtol=0.05)
    with pytest.raises(ValueError, match="no edge"):
        st.edge_orientation_energy(np.full((2, 64, 64, 3), 9, np.uint8))


def test_lab_is_that_of_a_colour_library():
    rgb = generator(2).integers(0, 256, (40, 3)).astype(np.uint8)
    peer = [Color("srgb", list(row / 255)).convert("lab-d65").coords() for row in rgb]
    assert np.allclose(st.lab(rgb), peer, atol=0.02)


def test_hues_are_found_and_weighted_by_chroma():
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[0, :, :16] = (30, 30, 255)
    images[0, :, 16:] = (250, 240, 60)
    images[1] = 128
    table = st.colour_histogram(images, n_bins=36)
    assert table["share"].sum() == pytest.approx(1)
    blue, yellow = (
        np.mod(np.rad2deg(np.arctan2(*st.lab(images[0, 0, column])[[2, 1]])), 360)
        for column in (0, 31)
    )
    loaded = table[table["share"] > 0.05]
    assert sorted(loaded["hue_deg"]) == pytest.approx(sorted((blue, yellow)), abs=5.01)
    chroma = [np.hypot(*st.lab(images[0, 0, column])[1:]) for column in (0, 31)]
    assert table["chroma"].sum() == pytest.approx(np.mean(chroma) / 2, rel=1e-6)


def test_grey_pictures_have_no_hue():
    images = grey(generator(3).uniform(0, 255, (3, 32, 32)))
    assert (st.colour_histogram(images)["share"] == 0).all()
