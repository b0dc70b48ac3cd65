"""Ideal observers against Monte Carlo and closed forms."""

import numpy as np
import pytest
from patchwork.analysis.biases import observer
from patchwork.analysis.biases.observer import LineGeometry
from patchwork.statistics import metrics
from patchwork.stimuli import lines
from patchwork.stimuli.common import palettes
from scipy import integrate, stats

PAPER = LineGeometry(image_px=224, length_px=(50, 50))


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


@pytest.mark.parametrize(
    "geometry",
    [
        PAPER,
        LineGeometry(224, (20, 100), (1, 5), "length_and_width"),
        LineGeometry(64, (14, 14)),
    ],
)
def test_flip_probability_agrees_with_the_lines_that_are_drawn(geometry):
    low, high = geometry.length_px
    settings = {
        "image_px": geometry.image_px,
        "length_px": {"min": low, "max": high},
        "width_px": dict(zip(("min", "max"), geometry.width_px, strict=True)),
        "palette": "white",
        "margin": geometry.margin,
        "noise_levels": [0.0],
        "rasteriser": "pil",
    }
    drawn = lines._draw_geometry(lines.parse_settings(settings), 3, np.arange(6000))
    margin = drawn.length + (drawn.width if geometry.margin == "length_and_width" else 0)
    inside = (drawn.end >= margin[:, None]) & (drawn.end <= geometry.image_px - 1 - margin[:, None])
    ambiguous = inside.all(1)
    expected = observer.flip_probability(drawn.angle_deg, geometry)
    assert ambiguous.mean() == pytest.approx(expected.mean(), abs=0.03)
    for first in range(0, 180, 45):
        part = (drawn.angle_deg % 180) // 45 == first // 45
        assert ambiguous[part].mean() == pytest.approx(expected[part].mean(), abs=0.05)


def test_flip_probability_of_the_published_dataset():
    angles = np.arange(0.05, 360, 0.1)
    chance = observer.flip_probability(angles, PAPER)
    assert chance.mean() == pytest.approx(0.545, abs=0.001)
    assert observer.flip_probability(np.array([0.5, 90.5]), PAPER) == pytest.approx(0.605, abs=1e-3)
    assert observer.flip_probability(np.array([45.0, 135.0]), PAPER) == pytest.approx(
        0.515, abs=1e-3
    )
    # By hand: room for 124 start points; steps of 50 and 0, or of 35 and 35.
    assert observer.flip_probability(np.array([0.0]), PAPER)[0] == pytest.approx(74 / 124)
    assert observer.flip_probability(np.array([45.0]), PAPER)[0] == pytest.approx((89 / 124) ** 2)


def test_unknown_direction_gives_a_v_about_the_middle_of_the_label():
    table = observer.directed_observer(PAPER)
    # Two directions are 1 apart and delta is 0.1, so 0 is optimal unless a target is within 0.1.
    angle, delta_deg = table["angle_deg"], 18
    free = (angle % 180).between(delta_deg, 180 - delta_deg)
    vee = table["ambiguous"] * (angle - 180).abs()
    np.testing.assert_allclose(table.loc[free, "error_deg"], vee[free], atol=1e-9)
    assert angle[table["error_deg"].idxmin()] == pytest.approx(180, abs=18)
    assert table["error_deg"].max() > 90


@pytest.mark.parametrize("origin", [0.0, 90.0, 37.0])
@pytest.mark.parametrize("noise", [0.0, 6.0])
def test_the_v_moves_with_the_label(origin, noise):
    moved = observer.directed_observer(PAPER, origin_deg=origin, noise_sd_deg=noise)
    place = np.deg2rad(moved["angle_deg"] - origin)
    error = moved["error_deg"]
    # First harmonic: largest at the jump, with no sideways part.
    cosine, sine = (error * np.cos(place)).mean(), (error * np.sin(place)).mean()
    assert cosine > 5
    assert abs(sine) < 0.05 * cosine
    # Signed errors point to the middle of the label from both sides.
    assert np.sign(moved["signed_error_deg"][(place > 0.5) & (place < 2.5)]).eq(1).all()


def test_without_ambiguity_and_noise_there_is_no_error():
    far = LineGeometry(image_px=40, length_px=(19, 19))  # a 2 px box: the end is always outside
    assert observer.directed_observer(far)["error_deg"].max() < 1e-9
    clear = observer.axial_observer()
    assert clear["error_deg"].eq(0).all()


def test_best_outputs_agree_with_a_brute_force_search():
    rng = generator(0)
    sd, delta = 8.0, 0.1
    for seen in (3.0, 100.0, 355.0):
        truth = np.mod(seen + sd * rng.standard_normal(20000), 360) / 180 - 1
        outputs = np.linspace(-1, 1, 201)
        apart = np.abs(outputs - truth[:, None])
        loss = np.where(apart <= delta, apart**2 / 2, delta * (apart - delta / 2)).mean(0)
        row = observer._kernel(sd)[int(seen / 0.5)][None]
        best = observer._best_outputs(row, delta, 0.0)[0]
        assert loss[np.abs(outputs - best).argmin()] <= loss.min() + 2e-4
        if seen == 100:
            assert best == pytest.approx(100 / 180 - 1, abs=0.01)


def test_every_optimal_answer_errs_by_90_deg_over_both_directions():
    for lean in (-0.4, 0.0, 0.3):
        table = observer.directed_observer(PAPER, lean=lean)
        by_angle = (table["error_deg"] / table["ambiguous"]).to_numpy().reshape(2, -1)
        np.testing.assert_allclose(by_angle.sum(0), 180, atol=1e-6)


def test_noise_at_the_jump_pulls_to_the_middle():
    sure = LineGeometry(image_px=40, length_px=(19, 19))
    table = observer.directed_observer(sure, noise_sd_deg=8.0).set_index("angle_deg")
    assert table.loc[0.0, "error_deg"] > 2 * table.loc[180.0, "error_deg"]
    assert table.loc[180.0, "error_deg"] == pytest.approx(8 * np.sqrt(2 / np.pi), rel=0.01)


def test_expected_circular_error_against_monte_carlo_and_limits():
    sd = np.array([0.5, 10.0, 40.0, 90.0])
    draws = sd * generator(1).standard_normal((200_000, 1))
    truth = metrics.circular_error(draws, np.zeros_like(draws), 180).mean(0)
    np.testing.assert_allclose(observer.expected_circular_error(sd, 180.0), truth, rtol=0.01)
    limits = observer.expected_circular_error(np.array([0.0, 1.0, np.inf]), 180.0)
    np.testing.assert_allclose(limits, [0, np.sqrt(2 / np.pi), 45], atol=0.02)


def test_curve_in_bins_keeps_the_mean():
    table = observer.directed_observer(PAPER)
    curve = observer.observer_curve(table, period=360.0, n_bins=36)
    assert curve["bin_deg"].tolist() == [10.0 * i for i in range(36)]
    assert curve["error_deg"].mean() == pytest.approx(table["error_deg"].mean(), rel=1e-6)
    near = table["angle_deg"].between(95.25, 104.75)
    assert curve["error_deg"][10] == pytest.approx(table.loc[near, "error_deg"].mean(), abs=0.3)


@pytest.mark.parametrize(("length", "width", "blur"), [(40, 2, 0.8), (30, 5, 1.0), (24, 1, 0.7)])
def test_sensitivity_agrees_with_pictures_of_turned_lines(length, width, blur):
    x, y = np.meshgrid(np.arange(-40, 40, 0.25), np.arange(-40, 40, 0.25))

    def picture(turn):
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        profile = stats.norm.cdf((across + width / 2) / blur) - stats.norm.cdf(
            (across - width / 2) / blur
        )
        return profile * (np.abs(along) <= length / 2)

    # Half-open ends would add their own change: differences inside the line only.
    step = 1e-4
    change = (picture(step) - picture(-step)) / (2 * step)
    change[np.abs(x) > length / 2 - 0.3] = 0
    numeric = (change**2).sum() * 0.25**2
    inner = observer.orientation_sensitivity(length - 0.6, width, blur)
    assert numeric == pytest.approx(inner, rel=0.03)


def test_cramer_rao_is_reached_by_a_matched_filter():
    # One row of the design: a Gaussian-softened line, turn estimated by projection on its slope.
    rng, length, width, blur, noise = generator(2), 30, 3, 1.0, 0.2
    x, y = np.meshgrid(np.arange(-25, 26.0), np.arange(-25, 26.0))
    slope = -x * (stats.norm.pdf(y, -width / 2, blur) - stats.norm.pdf(y, width / 2, blur))
    slope *= np.abs(x) <= length / 2
    noisy = noise * rng.standard_normal((4000, slope.size))
    estimates = noisy @ slope.reshape(-1) / (slope**2).sum()
    bound = noise / np.sqrt(observer.orientation_sensitivity(length + 1, width, blur))
    assert estimates.std() == pytest.approx(bound, rel=0.05)


def test_unclipped_information_is_energy_over_variance_and_clipping_costs():
    for rgb in palettes.BASIC11.values():
        energy = palettes.signal_energy(np.array(rgb))
        plain = observer.signal_information(np.array(rgb), 0.2, clipped=False)
        assert plain == pytest.approx(energy / 0.2**2)
        assert 0 < observer.signal_information(np.array(rgb), 0.2) < plain
    assert observer.signal_information(np.zeros(3), 0.2) == 0


def test_clipped_information_agrees_with_drawn_noise():
    sd, level = 0.3, 200.0
    inside = integrate.quad(
        lambda v: (stats.norm.pdf(v, level, 76.5) - stats.norm.pdf(v, 0, 76.5))
        * (v * level - level**2 / 2) / 76.5**2, 0, 255,
    )[0]  # fmt: skip
    atoms = 0.0
    for tail, at in ((stats.norm.cdf, 0), (stats.norm.sf, 255)):
        one, none = tail(at, level, 76.5), tail(at, 0, 76.5)
        atoms += (one - none) * np.log(one / none)
    found = observer.signal_information(np.array([level, 0, 0]), sd)
    assert found == pytest.approx(inside + atoms, rel=0.02)


def test_colour_observer_orders_colours_by_energy():
    energy = {name: palettes.signal_energy(np.array(x)) for name, x in palettes.BASIC11.items()}
    found = observer.colour_observer(
        palettes.BASIC11, PAPER, noise_levels=(0.1, 0.2, 0.3), clipped=False
    )
    rank = stats.spearmanr(list(energy.values()), [found[name] for name in energy]).statistic
    assert rank == pytest.approx(-1)
    assert found["blue"] / found["yellow"] == pytest.approx(np.sqrt(2), rel=1e-3)
    assert found["blue"] == pytest.approx(found["red"])
    equal = observer.colour_observer(
        dict(enumerate(palettes.hue_circle(12))), PAPER, noise_levels=(0.2,), clipped=False
    )
    values = np.array(list(equal.values()))
    assert np.allclose(values, values.mean(), rtol=0.02)
