"""Planted curves along the angle are found where they were planted."""

import numpy as np
import pandas as pd
import pytest
from patchwork.analysis.biases import orientation
from patchwork.tables import ENDS


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def planted(curve, seeds=4, n=1500, noise=2.0, between=0.5, period=360, draw=0):
    rng, parts = generator(draw), []
    for seed in range(seeds):
        angle = rng.uniform(0, period, n)
        signed = curve(angle) + noise * rng.standard_normal(n) + between * rng.standard_normal()
        parts.append(
            pd.DataFrame(
                {"seed": seed, "angle_deg": angle, "error_deg": signed, "signed_error_deg": signed}
            )
        )
    return pd.concat(parts, ignore_index=True)


def wave(order, phase, size=3.0, mean=20.0):
    return lambda angle: mean + size * np.cos(np.deg2rad(order * (angle - phase)))


def test_curve_agrees_with_a_loop_over_bins():
    frame = planted(wave(1, 30), n=300)
    curve = orientation.angle_curve(frame, n_bins=24)
    assert list(curve.columns) == ["bin_deg", "error_deg", *ENDS, "n", "seeds"]
    assert curve["bin_deg"].tolist() == [15.0 * i for i in range(24)]
    assert curve["n"].sum() == len(frame)
    for row in curve.itertuples():
        apart = np.abs((frame["angle_deg"] - row.bin_deg + 180) % 360 - 180)
        assert row.error_deg == pytest.approx(frame.loc[apart < 7.5, "error_deg"].mean())
    truth = wave(1, 30)(curve["bin_deg"])
    covered = (curve["ci_low"] <= truth) & (truth <= curve["ci_high"])
    assert covered.mean() > 0.85


def test_curve_of_the_bias_and_angles_beyond_the_period():
    frame = planted(wave(2, 10, mean=0), period=180)
    turned = frame.assign(angle_deg=frame["angle_deg"] - 540)
    options = {"value": "signed_error_deg", "period": 180.0, "n_bins": 24}
    a, b = (orientation.angle_curve(x, **options) for x in (frame, turned))
    pd.testing.assert_frame_equal(a, b)
    assert a["bin_deg"].max() < 180
    assert a.set_index("bin_deg")["signed_error_deg"].idxmax() == 7.5


def test_fine_bins_show_a_lattice_that_coarse_bins_hide():
    def lattice(angle):
        return np.where(np.abs((angle + 22.5) % 45 - 22.5) < 5.6, 13.0, 28.0)

    frame = planted(lattice)
    curve = orientation.angle_curve(frame, n_bins=72).set_index("bin_deg")
    assert curve["error_deg"].nsmallest(8).index.sort_values().tolist() == list(range(0, 360, 45))


@pytest.mark.parametrize(("order", "phase"), [(1, 200.0), (2, 15.0), (4, 45.0)])
def test_planted_wave_is_found(order, phase):
    fit = orientation.harmonic_fit(planted(wave(order, phase)))
    fit = fit.set_index("term")
    truth = {
        "mean": 20, f"amplitude{order}": 3, f"phase{order}": phase,
        f"cos{order}": 3 * np.cos(np.deg2rad(order * phase)),
    }  # fmt: skip
    for term, value in truth.items():
        assert fit.loc[term, "ci_low"] <= value <= fit.loc[term, "ci_high"]
        assert fit.loc[term, "estimate"] == pytest.approx(value, abs=1.0)
    for other in {1, 2, 4} - {order}:
        assert fit.loc[f"amplitude{other}", "estimate"] < 0.3
        assert fit.loc[f"amplitude{other}", "ci_low"] >= 0


def test_an_amplitude_of_noise_alone_is_rarely_above_zero():
    tables = [
        orientation.harmonic_fit(
            planted(lambda a: 20 + 0 * a, seeds=1, n=200, draw=draw)
        ).set_index("term")
        for draw in range(60)
    ]
    above = [t.loc[f"amplitude{order}", "ci_low"] > 0 for t in tables for order in (1, 2, 4)]
    assert np.mean(above) < 0.12


def test_harmonic_fit_agrees_with_least_squares():
    frame = planted(wave(4, 20), n=100)
    fit = orientation.harmonic_fit(frame).set_index("term")["estimate"]
    angle = np.deg2rad(frame["angle_deg"].to_numpy())
    design = np.stack([f(k * angle) for k in (1, 2, 4) for f in (np.cos, np.sin)], axis=1)
    design = np.c_[np.ones(len(design)), design]
    truth = np.linalg.lstsq(design, frame["error_deg"], rcond=None)[0]
    names = ["mean", "cos1", "sin1", "cos2", "sin2", "cos4", "sin4"]
    np.testing.assert_allclose(fit[names], truth, atol=1e-5)


@pytest.mark.parametrize("origin", [0, 90, 300])
def test_place_of_minimum_follows_a_v(origin):
    truth = (180 + origin) % 360

    def vee(angle):
        return 20 + 0.3 * np.abs((angle - truth + 180) % 360 - 180)

    found = orientation.place_of_minimum(planted(vee, noise=8))
    assert found.estimate == pytest.approx(truth, abs=4)
    assert found.low <= truth <= found.high
    assert found.high - found.low < 30


def test_place_of_minimum_is_nowhere_on_a_flat_curve():
    found = orientation.place_of_minimum(planted(lambda a: 20 + 0 * a))
    assert found.high - found.low > 180


def test_place_of_minimum_covers_over_draws_of_seeds():
    hits = 0
    for draw in range(60):
        rng, parts = generator(1000 + draw), []
        for seed in range(3):
            place = 180 + 10 * rng.standard_normal()
            part = planted(wave(1, place + 180, size=8), seeds=1, n=200, draw=draw * 10 + seed)
            parts.append(part.assign(seed=seed))
        found = orientation.place_of_minimum(pd.concat(parts))
        hits += found.low <= 180 <= found.high
    assert hits >= 53


def even(vertical=0.0, oblique=0.0):
    """An error with the given contrasts, and a wave of one cycle that must not count."""
    return lambda a: (
        20
        - vertical / 2 * np.cos(2 * np.deg2rad(a))
        - oblique / 2 * np.cos(4 * np.deg2rad(a))
        + 4 * np.cos(np.deg2rad(a - 20))
        + np.sin(4 * np.deg2rad(a))
    )


@pytest.mark.parametrize("truth", [(3.0, 0.0), (0.0, 3.0), (-2.0, 4.0)])
def test_each_wave_is_found_and_none_is_in_the_other(truth):
    found = orientation.wave_contrasts(planted(even(*truth), draw=2))
    for one, value in zip(found.values(), truth, strict=True):
        assert one.estimate == pytest.approx(value, abs=0.4)
        assert one.low <= value <= one.high


def test_turned_pictures_tell_the_networks_axes_from_the_lattice():
    def seen(lattice):
        frame = planted(even(oblique=3 + lattice), noise=1, period=180)
        return frame.assign(example=frame.groupby("seed").cumcount())

    # The lattice is turned with the picture: at the angle seen its mark has the other sign.
    table = orientation.picture_and_lattice(seen(2.0), seen(-2.0)).set_index("quantity")
    assert table.loc["oblique_minus_cardinal_picture", "estimate"] == pytest.approx(3, abs=0.3)
    assert table.loc["oblique_minus_cardinal_lattice", "estimate"] == pytest.approx(2, abs=0.3)
