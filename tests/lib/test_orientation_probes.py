import numpy as np
import pytest
import torch
from patchwork.analysis.rearing import network_probes as op
from patchwork.analysis.rearing import orientation_measures as om
from patchwork.models import backbones, fine_tuned
from patchwork.stimuli import probes, views
from patchwork.stimuli.common import palettes
from small_networks import RANDOM

PX = 32
SMALL = op.ProbeSizes(
    n_lines_train=400, n_lines_test=480, n_noise_train=240, n_per_orientation=40, n_orientations=16
)
BAND = "band_pass_noise"


@pytest.fixture(scope="module")
def images():
    return op.probe_images(image_px=PX, seed=11, sizes=SMALL)


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def doubled(features):
    """Doubled-angle vector of energies: the population vector of an isotropic bank."""
    n = features.shape[1] // 2
    energy = np.exp(features[:, :n]) + np.exp(features[:, n:])
    phase = 2 * np.arange(n) * np.pi / n
    return energy @ np.stack([np.cos(phase), np.sin(phase)], 1) / energy.sum(1, keepdims=True)


def population(sharp_at_deg=0.0, sharpness=0.8, drawn_to_deg=0.0, attraction_deg=0.0):
    """A planted network: an isotropic bank of templates whose own noise is least at one orientation
    and its perpendicular, or whose estimates are drawn to them. The noise comes from the pixels, so
    it is a function of the image."""

    def features_of(pictures):
        matches = om.line_matches(pictures, n_orientations=16)
        phase = 2 * np.arange(16) * np.pi / 16
        vector = matches @ np.stack([np.cos(phase), np.sin(phase)], 1) / 16
        theta, length = np.arctan2(vector[:, 1], vector[:, 0]) / 2, np.hypot(*vector.T)
        away = 4 * (theta - np.deg2rad(drawn_to_deg))
        theta = theta - np.deg2rad(attraction_deg) * np.sin(away)
        pixels = pictures[:, 3:-3, 3:-3, 0].reshape(len(pictures), -1) - 127.5
        noise = pixels @ generator(5).normal(size=(pixels.shape[1], 2))
        spread = 0.5 * (1 - sharpness * np.cos(4 * (theta - np.deg2rad(sharp_at_deg))))
        noise *= length.mean() * (spread / noise.std())[:, None]
        return {
            "cls": length[:, None] * np.stack([np.cos(2 * theta), np.sin(2 * theta)], 1) + noise
        }

    return features_of


def component(table, measure, name="c4"):
    rows = table[(table["measure"] == measure) & (table["component"] == name)]
    return rows["value"].item()


@pytest.mark.parametrize("draw", [probes.noisy_lines, probes.band_pass_noise])
def test_an_image_depends_on_seed_and_index_alone(draw):
    degrees = op.even_orientations(6)
    whole = draw(image_px=PX, seed=3, indices=range(6), orientation_deg=degrees)
    part = draw(image_px=PX, seed=3, indices=[4, 1], orientation_deg=degrees[[4, 1]])
    assert np.array_equal(part.images, whole.images[[4, 1]])
    assert np.array_equal(part.labels["orientation_deg"], whole.labels["orientation_deg"][[4, 1]])
    other = draw(image_px=PX, seed=4, indices=range(6), orientation_deg=degrees)
    assert not np.array_equal(other.images, whole.images)


def test_even_orientations_fill_the_half_circle():
    degrees = op.even_orientations(400)
    assert degrees.min() < 5
    assert degrees.max() > 175
    assert abs(np.mean(np.cos(np.deg2rad(4 * degrees)))) < 0.15


@pytest.mark.parametrize("draw", [probes.noisy_lines, probes.band_pass_noise])
def test_nothing_is_seen_outside_the_disc_and_contrast_is_the_same_at_every_orientation(draw):
    disc = views.disc(PX)
    for degrees in (0, 30, 45, 90):
        drawn = draw(image_px=PX, seed=1, indices=range(150), orientation_deg=degrees).images
        assert set(np.unique(drawn[:, disc == 0])) <= {127, 128}
        inside = drawn[:, disc > 0.99, 0].astype(float)
        assert inside.mean() == pytest.approx(127.5, abs=6)
        assert inside.std() == pytest.approx(probes.RMS_LEVELS, rel=0.1)


def test_band_pass_noise_has_its_energy_where_it_should(images):
    for degrees in (0, 22.5, 45, 90, 140):
        drawn = probes.band_pass_noise(
            image_px=64, seed=2, indices=range(40), orientation_deg=degrees
        ).images[..., 0]
        power = np.mean(np.abs(np.fft.fft2(drawn - 127.5)) ** 2, axis=0)
        y, x = np.meshgrid(np.fft.fftfreq(64) * 64, np.fft.fftfreq(64) * 64, indexing="ij")
        vector = np.sum(power * np.exp(2j * np.arctan2(y, x)))
        wave = np.rad2deg(np.angle(vector)) / 2
        assert abs((wave - 90 - degrees + 90) % 180 - 90) < 1.5
        assert np.sum(power * np.hypot(x, y)) / power.sum() == pytest.approx(8.5, abs=0.6)


def test_lines_have_the_orientation_of_their_label_and_colour_changes_nothing_else():
    indices = range(300)
    light = probes.noisy_lines(image_px=64, seed=2, indices=indices, orientation_deg=30)
    vector = doubled(om.gabor_energy(light.images)).mean(0)
    assert abs(np.rad2deg(np.arctan2(vector[1], vector[0])) / 2 - 30) < 3
    common = {"image_px": 64, "seed": 2, "indices": indices, "orientation_deg": 30}
    blue, yellow = (probes.noisy_lines(**common, colour=name) for name in ("blue", "yellow"))
    assert np.array_equal(*(b.labels["orientation_deg"] for b in (blue, yellow)))
    # Complements about mean grey: noise that is the same in both, lines of opposite sign.
    total = blue.images.astype(int) + yellow.images
    noise = 2 * np.mean([blue.images, yellow.images], axis=0)
    assert np.array_equal(total, noise)
    strength = probes.contrast(np.array(list(palettes.BASIC11.values())))
    assert np.allclose(np.mean(strength**2, axis=1), 1)


def test_fisher_information_is_that_of_a_gaussian_population():
    rng, d, n = generator(1), 12, 60
    mix = rng.normal(size=(d, d))
    apart = rng.normal(size=d)
    covariance = mix @ mix.T
    truth = apart @ np.linalg.solve(covariance, apart) / 7.5**2
    found, naive = [], []
    for _ in range(300):
        a, b = rng.normal(size=(2, n, d)) @ mix.T
        b = b + apart
        found.append(om.linear_fisher_information(a, b, 7.5))
        pooled = (np.cov(a.T) + np.cov(b.T)) / 2
        gap = b.mean(0) - a.mean(0)
        naive.append(gap @ np.linalg.solve(pooled, gap) / 7.5**2)
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - truth) < 4 * error
    assert np.mean(naive) > truth + 8 * error  # so the correction is needed


def test_fisher_information_ignores_units_mixing_and_dead_directions():
    rng = generator(2)
    a, b = rng.normal(size=(2, 80, 6))
    b = b + 1
    plain = om.linear_fisher_information(a, b, 2)
    mixed = rng.normal(size=(6, 9))
    assert om.linear_fisher_information(a @ mixed + 3, b @ mixed + 3, 2) == pytest.approx(plain)
    assert om.linear_fisher_information(a, b, 4) == pytest.approx(plain / 4)
    with pytest.raises(ValueError, match="constant"):
        om.linear_fisher_information(np.ones((9, 2)), np.ones((9, 2)), 1)


def test_fisher_information_of_few_examples_is_a_lower_bound_that_is_not_zero():
    rng = generator(3)
    d, n, apart = 100, 60, 0.6
    found = []
    for _ in range(20):
        a, b = rng.normal(size=(2, n, d))
        b[:, :20] += apart
        found.append(om.linear_fisher_information(a, b, 1))
    truth = 20 * apart**2
    assert 0.3 * truth < np.mean(found) < truth


def test_no_information_is_none_on_average():
    rng = generator(4)
    found = [om.linear_fisher_information(*rng.normal(size=(2, 40, 10)), 1) for _ in range(300)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def test_the_four_cycle_is_found_whatever_the_two_cycle_and_the_sampling():
    degrees = generator(6).uniform(0, 180, 300) ** 1.5 / 180**0.5
    theta = np.deg2rad(degrees)
    values = 5 + np.cos(2 * theta - 1) - 3 * np.cos(4 * theta) + 2 * np.sin(4 * theta)
    cycle = om.four_cycle(degrees, values)
    assert (cycle.mean, cycle.c4, cycle.s4) == pytest.approx((5, -3, 2))
    with pytest.raises(ValueError, match="5 or more"):
        om.four_cycle(np.array([0, 45, 90, 135]), np.zeros(4))


def test_the_readout_finds_what_is_there_and_chance_where_nothing_is():
    rng = generator(7)
    degrees = rng.uniform(0, 180, 600)
    doubled_rad = np.deg2rad(2 * degrees)
    signal = np.stack([np.cos(doubled_rad), np.sin(doubled_rad)], 1) @ rng.normal(size=(2, 8))
    noisy = 3 + signal + 0.01 * rng.normal(size=(600, 8))
    split = slice(0, 300), slice(300, 600)
    error, signed = om.ridge_readout_errors(
        noisy[split[0]], degrees[split[0]], noisy[split[1]], degrees[split[1]]
    )
    assert error.mean() < 1
    assert np.allclose(np.abs(signed), error)
    error, _ = om.ridge_readout_errors(
        rng.normal(size=(300, 8)), degrees[:300], rng.normal(size=(300, 8)), degrees[300:]
    )
    assert error.mean() == pytest.approx(45, abs=4)


@pytest.mark.parametrize("sharp_at", [0, 22.5, 45])
def test_a_planted_sharp_orientation_is_recovered_by_every_measure(images, sharp_at):
    found = op.measure_features(population(sharp_at), images)
    for measure, lowest in (
        ("fisher_noise_cls", False),
        ("ridge_error_noise_cls", True),
        ("ridge_error_lines_cls", True),
    ):
        cosine, sine = component(found, measure), component(found, measure, "s4")
        place = np.rad2deg(np.arctan2(sine, cosine)) / 4 + 45 * lowest
        away = (place - sharp_at + 45) % 90 - 45
        assert abs(away) < 9, measure


def test_the_curve_and_its_component_tell_the_same(images):
    found = op.measure_features(population(0), images)
    assert list(found.columns) == list(op.COLUMNS)
    curve = found[(found["measure"] == "ridge_error_noise_cls") & (found["kind"] == "curve")]
    assert len(curve) == SMALL.n_orientations
    assert np.isfinite(found["value"]).all()
    cycle = om.four_cycle(curve["orientation_deg"], curve["value"])
    # Noise is shown half a bin beside the bins' centres.
    assert cycle.c4 == pytest.approx(component(found, "ridge_error_noise_cls"), rel=0.5)
    fisher = found[(found["measure"] == "fisher_noise_cls") & (found["kind"] == "curve")]
    assert om.four_cycle(fisher["orientation_deg"], fisher["value"]).c4 == pytest.approx(
        component(found, "fisher_noise_cls")
    )


@pytest.mark.parametrize("drawn_to", [0, 45])
def test_attraction_shows_as_a_signed_error(images, drawn_to):
    found = op.measure_features(population(0, 0, drawn_to, attraction_deg=8), images)
    plain = op.measure_features(population(0, 0), images)
    sign = 1 if drawn_to == 45 else -1
    for what, least in (("lines", 2), ("noise", 5)):
        name = f"signed_error_{what}_cls"
        apart = {c: component(found, name, c) - component(plain, name, c) for c in ("c4", "s4")}
        assert least < sign * apart["s4"] < 10, what
        assert abs(apart["c4"]) < least, what


def test_an_isotropic_population_has_no_bias(images):
    found = op.measure_features(population(sharpness=0), images)
    limits = {"fisher_noise_cls": 0.5, "ridge_error_noise_cls": 1.5, "ridge_error_lines_cls": 2.5}
    for measure, limit in limits.items():
        assert np.hypot(component(found, measure), component(found, measure, "s4")) < limit


def test_the_stimuli_favour_no_orientation():
    """Observers read the probes themselves: what those could add to any contrast."""
    sizes = op.ProbeSizes(300, 480, 300, 60, 16)
    found = op.measure_stimuli(op.probe_images(image_px=64, seed=5, sizes=sizes))
    assert abs(component(found, "fisher_noise_energy")) < 0.2
    assert abs(component(found, "ridge_error_noise_energy")) < 0.3
    assert abs(component(found, "ridge_error_lines_match")) < 0.3
    assert component(found, "ridge_error_noise_energy", "mean") < 10
    assert component(found, "ridge_error_lines_match", "mean") < 3


def test_a_network_is_read_after_its_norm_and_all_networks_see_the_same(images):
    backbone = backbones.prepare(RANDOM, PX, seed=1)
    pictures = images.lines_test.images[:7]
    both = op.features(backbone, pictures, batch_size=3)
    mean, std = (torch.tensor(x)[:, None, None] for x in (backbone.mean, backbone.std))
    pixels = (torch.tensor(pictures).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        tokens = backbone.encoder.forward_features(pixels).double().numpy()
    assert np.allclose(both["cls"], tokens[:, 0], atol=1e-5)
    assert np.allclose(both["mean"], tokens[:, 1:].mean(1), atol=1e-5)
    adapted = fine_tuned.build(
        backbone, {}, {"readout": "cls", "head_hidden": [], "adapter": {"kind": "none"}}, seed=1
    ).eval()
    assert np.allclose(op.features(adapted, pictures)["cls"], both["cls"], atol=1e-5)


def test_errors_by_colour_and_their_contrast():
    backbone = backbones.prepare(RANDOM, PX, seed=1)
    sizes = dict.fromkeys(vars(SMALL), 8)
    settings = {
        "probes": {"seed": 2, "sizes": sizes, "colours": {"n_train": 8, "n_test": 16}},
        "hues": {"tested": ["blue", "yellow"], "control": ["magenta", "green"]},
    }
    drawn = op.draw_probes(settings, PX)
    found = op.colour_errors(backbone, drawn.colours)
    assert list(found.index) == ["blue", "yellow", "magenta", "green"]
    assert found.between(0, 90).all()
    table = op.measure(op.Stage(7, 0.5, backbone, last=True), drawn)
    assert set(table["epoch"]) == {7}
    assert set(table["measure"]) >= {"fisher_noise_cls", "ridge_error_lines_mean", "accuracy"}
    by_colour = table[table["measure"] == "colour_error"].set_index("component")["value"]
    plain = table[table["component"] == "value"].set_index("measure")["value"]
    tested = by_colour["blue"] - by_colour["yellow"]
    assert plain["colour_contrast"] == pytest.approx(tested)
    assert plain["colour_excess"] == pytest.approx(
        tested - by_colour["magenta"] + by_colour["green"]
    )


def test_colours_differ_in_nothing_but_their_hue():
    drawn = op.colour_images(["blue", "yellow"], image_px=32, seed=2, n_train=8, n_test=4)
    blue, yellow = np.split(drawn.train.images.astype(int), 2)
    sums = blue + yellow  # opposite lines cancel, and what is left is twice the same noise
    clean = (np.abs(blue - 127.5) < 120).all(-1) & (np.abs(yellow - 127.5) < 120).all(-1)
    apart = np.abs(blue - yellow).max(-1)
    assert (apart[:, 0] <= 1).all()  # a corner: outside the disc, and far from any line
    assert clean.mean() > 0.9
    assert np.ptp(sums[..., 0] - 255) > 50
    degrees = np.split(drawn.train.labels["orientation_deg"], 2)
    assert np.array_equal(*degrees)
    # Without the line both would be one picture: the channel sums differ only by clipping.
    line = (blue - yellow)[..., 2][clean]
    assert np.abs((blue - yellow)[..., 0][clean] + line).max() <= 2
