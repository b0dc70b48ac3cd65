"""The plane test: parts of pictures and lattice, and where a turn by 22.5 deg must lie."""

import numpy as np
import pandas as pd
import pytest
from patchwork.analysis.rearing import planes
from patchwork.analysis.rearing.orientation_measures import four_cycle
from patchwork.statistics.vectors import hotelling, length_interval
from patchwork.tables import FINDINGS
from scipy import stats

TURNS = {"upright": "upright", "turned": "turned", "between": "turned_22"}
ANGLES = {"upright": 0.0, "turned": 45.0, "turned_22": 22.5}
EXCESS = "misfit_minus_half_of_pictures"


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def networks(pictures, lattice, *, angles=None, n=8, sd=0.3, seed=0, measure="ridge_x"):
    """Components of curves of which one part turns with the pictures and one stays."""
    rng, rows, degrees = generator(seed), [], np.arange(0, 180, 2.5)
    for s in range(n):
        for condition, turn in (angles or ANGLES).items():
            curve = pictures * np.cos(np.deg2rad(4 * (degrees - turn)))
            curve = curve + lattice * np.cos(np.deg2rad(4 * (degrees - 10)))
            cycle = four_cycle(degrees, curve)
            for name, value in (("c4", cycle.c4), ("s4", cycle.s4)):
                rows.append((condition, s, 2.0, measure, name, value + sd * rng.normal()))
    names = ["condition", "seed", "epoch", "measure", "component", "value"]
    return pd.DataFrame(rows, columns=names)


def taken_apart(frame):
    return planes.plane_table(frame, TURNS, ["ridge_x"]).set_index("part")


def test_pictures_and_lattice_are_told_apart_and_predict_the_turn_between():
    table = taken_apart(networks(-4.0, 3.0, sd=0.1))
    assert table.loc["pictures", "c4"] == pytest.approx(-4, abs=0.2)
    assert table.loc["pictures", "estimate"] == pytest.approx(4, abs=0.2)
    lattice = 3 * np.exp(4j * np.deg2rad(10))
    assert table.loc["lattice", ["c4", "s4"]].tolist() == pytest.approx(
        [lattice.real, lattice.imag], abs=0.2
    )
    assert table.loc["misfit", "p"] > 0.01
    assert table.loc[EXCESS, "ci90_high"] < -1
    assert table.loc["pictures", "p"] < 1e-6


@pytest.mark.parametrize("turn", [0.0, -22.5, 45.0])
def test_a_bias_that_does_not_turn_so_is_refused(turn):
    table = taken_apart(networks(-4.0, 3.0, angles=ANGLES | {"turned_22": turn}))
    assert table.loc["misfit", "p"] < 1e-4
    assert table.loc[EXCESS, "ci90_low"] > 0


def test_no_bias_decides_nothing():
    shares = [
        taken_apart(networks(0.0, 3.0, n=5, seed=seed)).loc[EXCESS, ["ci90_low", "ci90_high"]]
        for seed in range(20)
    ]
    assert np.mean([row["ci90_high"] < 0 for row in shares]) <= 0.1


def test_seeds_that_lack_a_condition_do_not_count():
    frame = networks(-4.0, 3.0)
    frame = frame[(frame["seed"] != 2) | (frame["condition"] != "turned_22")]
    assert (taken_apart(frame)["seeds"] == 7).all()
    assert planes.plane_table(frame, TURNS | {"between": "nobody"}, ["ridge_x"]).empty


def test_the_excess_is_a_finding_of_the_condition_between():
    table = planes.plane_table(networks(-4.0, 3.0), TURNS, ["ridge_x"])
    (found,) = planes.findings(table, "turned_22").to_dict("records")
    assert list(found) == list(FINDINGS)
    assert found["quantity"] == "turn_misfit_minus_half_of_pictures_ridge_x"
    assert found["backbone"] == "turned_22"


def test_hotelling_is_the_squared_t_of_one_dimension_and_keeps_its_level():
    values = generator(1).normal(0.5, 1, (9, 1))
    peer = stats.ttest_1samp(values[:, 0], 0)
    assert hotelling(values) == pytest.approx((peer.statistic**2, peer.pvalue))
    p = [hotelling(generator(seed).normal(size=(6, 2)))[1] for seed in range(400)]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert np.isnan(hotelling(np.ones((2, 2)))[1])


@pytest.mark.parametrize("length", [0.5, 2.0])
def test_the_interval_of_a_length_holds_it(length):
    rng, mean = generator(7), length * np.array([0.6, 0.8])
    found = [length_interval(rng.normal(size=(6, 2)) + mean) for _ in range(150)]
    held = np.mean([one.low90 <= length <= one.high90 for one in found])
    assert held >= stats.binom.ppf(0.001, 150, 0.9) / 150
    assert all(one.low >= 0 for one in found)
    above = np.mean([one.high90 < length for one in found])
    assert above <= stats.binom.ppf(0.999, 150, 0.05) / 150


def test_a_length_is_above_zero_just_where_hotelling_finds_a_mean():
    rng = generator(8)
    for _ in range(50):
        vectors = rng.normal(size=(7, 2)) + 0.6
        assert (length_interval(vectors).low90 > 0) == (hotelling(vectors)[1] < 0.05)
