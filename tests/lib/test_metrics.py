"""Metrics against planted predictions, plain formulas and the constant predictor."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patchwork import tables
from patchwork.statistics import metrics
from patchwork.statistics.metrics import TargetScale
from scipy import stats


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def predictions(seeds=4, n=150, slope=0.8, shift=3.0, noise=5.0, target="length"):
    rng, parts = generator(1), []
    for seed in range(seeds):
        actual = rng.uniform(20, 100, n)
        predicted = 60 + slope * (actual - 60) + shift + noise * rng.standard_normal(n)
        parts.append(
            pd.DataFrame({"seed": seed, "target": target, "actual": actual, "predicted": predicted})
        )
    return pd.concat(parts, ignore_index=True)


def table(frame, **scale):
    found = metrics.metric_table(frame, {frame["target"].iloc[0]: TargetScale(**scale)})
    columns = tables.schema_of("tables/metrics.csv").columns
    assert [*tables.CONDITION, *found.columns] == list(columns)
    return found.set_index("metric")


angles = st.floats(-1000, 1000)


@given(angles, angles, st.sampled_from([180.0, 360.0]), st.integers(-3, 3))
def test_circular_error_is_a_distance_on_the_circle(a, b, period, turns):
    a, b = np.array([a]), np.array([b])
    error = metrics.circular_error(a, b, period)
    naive = min(abs(a[0] - b[0] + k * period) for k in range(-13, 14))
    assert error[0] == pytest.approx(naive, abs=1e-9)
    assert 0 <= error[0] <= period / 2
    assert metrics.circular_error(b, a, period)[0] == pytest.approx(error[0], abs=1e-9)
    moved = metrics.circular_error(a + turns * period, b, period)
    assert moved[0] == pytest.approx(error[0], abs=1e-9)


def test_sign_says_which_way():
    predicted, actual = np.array([10.0, 350, 91, 0]), np.array([350.0, 10, 90, 179])
    assert metrics.signed_circular_error(predicted, actual, 360).tolist() == [20, -20, 1, -179]
    assert metrics.signed_circular_error(predicted, actual, 180).tolist() == [20, -20, 1, 1]


def test_chance_is_a_quarter_of_the_period():
    rng = generator(0)
    error = metrics.circular_error(rng.uniform(0, 180, 20000), rng.uniform(0, 180, 20000), 180)
    assert error.mean() == pytest.approx(45, abs=0.6)


def test_estimates_agree_with_plain_formulas():
    frame = predictions()
    found = table(frame, unit="px")
    error = frame["predicted"] - frame["actual"]
    fit = stats.linregress(frame["actual"], frame["predicted"])
    each = [stats.pearsonr(s["actual"], s["predicted"])[0] for _, s in frame.groupby("seed")]
    mean = np.tanh(np.mean(np.arctanh(each)))
    assert found.loc["pearson_r", "estimate"] == pytest.approx(mean)
    assert found.loc["slope", "estimate"] == pytest.approx(fit.slope)
    assert found.loc["mae", "estimate"] == pytest.approx(error.abs().mean())
    assert found.loc["bias", "estimate"] == pytest.approx(error.mean())
    assert found.loc["mae", "unit"] == "px"
    assert (found["n"] == 600).all()
    assert (found["seeds"] == 4).all()


def test_planted_slope_and_bias_are_in_their_intervals():
    found = table(predictions())
    for metric, truth in {"slope": 0.8, "bias": 3.0}.items():
        assert found.loc[metric, "ci_low"] < truth < found.loc[metric, "ci_high"]
    assert found.loc["bias", "ci_low"] > 0
    assert found.loc["slope", "ci_high"] < 1


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 200))
def test_interval_of_r_stays_on_its_scale(noise):
    found = table(predictions(noise=noise, n=20)).loc["pearson_r"]
    assert -1 <= found["ci_low"] <= found["estimate"] <= found["ci_high"] <= 1


def test_coverage_of_r_over_seeds():
    hits = 0
    sds = np.exp(0.3 * stats.norm.ppf((np.arange(2000) + 0.5) / 2000))
    truth = np.tanh(np.arctanh(1 / np.sqrt(1 + sds**2)).mean())  # of many networks
    for trial in range(150):
        rng, seeds = generator(trial), np.repeat(np.arange(4), 60)
        actual = rng.standard_normal(240)
        # Each seed has a noise of its own, and an offset, which is none of r's concern.
        sd = np.exp(0.3 * rng.standard_normal(4))[seeds]
        shift = 3 * rng.standard_normal(4)[seeds]
        predicted = actual + shift + sd * rng.standard_normal(240)
        frame = pd.DataFrame(
            {"seed": seeds, "target": "x", "actual": actual, "predicted": predicted}
        )
        found = table(frame).loc["pearson_r"]
        hits += found["ci_low"] <= truth <= found["ci_high"]
    assert stats.binom.interval(0.998, 150, 0.95)[0] <= hits


def test_r_is_that_of_a_network_whatever_the_others_offsets():
    frame, shift = predictions(seeds=3, noise=2.0), np.array([-50.0, 0.0, 50.0])
    crossed = frame.assign(example=np.tile(np.arange(150), 3))
    for one in (frame, crossed):
        moved = one.assign(predicted=one["predicted"] + shift[one["seed"]])
        both = [table(part).loc["pearson_r"] for part in (one, moved)]
        for end in ("estimate", "ci_low", "ci_high"):
            assert both[1][end] == pytest.approx(both[0][end], abs=1e-9)
    pooled = stats.pearsonr(moved["actual"], moved["predicted"])[0]
    assert both[1]["ci_low"] > pooled + 0.2


def test_a_network_that_says_one_thing_only_has_r_zero():
    frame = predictions(seeds=4, noise=2.0)
    stuck = frame.assign(predicted=frame["predicted"].where(frame["seed"] > 0, 0.1))
    each = [stats.pearsonr(s["actual"], s["predicted"])[0] for _, s in frame.groupby("seed")]
    found = table(stuck).loc["pearson_r"]
    assert found["estimate"] == pytest.approx(np.tanh(np.sum(np.arctanh(each[1:])) / 4))
    assert found["ci_low"] < 0.2
    apart = frame.assign(predicted=frame["seed"].astype(float))
    assert np.isnan(table(apart).loc["pearson_r", "estimate"])


def test_constant_stands_beside_every_metric_and_scores_like_itself():
    frame = predictions()
    found = table(frame, constant=60.0)
    assert found.loc["mae", "constant"] == pytest.approx((frame["actual"] - 60).abs().mean())
    assert found.loc["bias", "constant"] == pytest.approx((60 - frame["actual"]).mean())
    lazy = table(frame.assign(predicted=60.0), constant=60.0)
    assert np.isnan(lazy.loc["pearson_r", "estimate"])
    for metric in ("slope", "mae", "bias"):
        assert lazy.loc[metric, "estimate"] == pytest.approx(lazy.loc[metric, "constant"])


def test_angles_are_scored_round_the_circle():
    rng = generator(3)
    actual = rng.uniform(0, 180, 600)
    predicted = np.mod(actual + 2 + rng.standard_normal(600), 180)
    frame = pd.DataFrame(
        {"seed": np.arange(600) % 3, "target": "orientation", "actual": actual,
         "predicted": predicted}
    )  # fmt: skip
    found = table(frame, unit="deg", period=180.0)
    assert found.loc["circular_bias", "estimate"] == pytest.approx(2, abs=0.2)
    assert found.loc["circular_error", "estimate"] == pytest.approx(2.1, abs=0.3)
    assert found.loc["circular_error", "constant"] == pytest.approx(45, abs=2)
    assert found.loc["mae", "estimate"] > 3  # the jump at 180 deg


@pytest.mark.parametrize("period", [None, 180.0])
def test_best_constant_beats_all_others(period):
    labels = np.mod(generator(5).normal(175, 20, 400), 180)

    def cost(c):
        apart = labels - c if period is None else np.mod(labels - c + 90, 180) - 90
        return np.abs(apart).mean()

    best = metrics.best_constant(labels, period)
    assert cost(best) <= min(cost(c) for c in np.arange(0, 180, 0.7)) + 0.01


def test_images_that_all_seeds_saw_are_resampled_together():
    rng = generator(6)
    hard = rng.exponential(5, 80)  # the same images are hard for every seed
    frame = pd.DataFrame(
        {"seed": np.repeat(np.arange(8), 80), "target": "x", "actual": 0.0,
         "predicted": np.tile(hard, 8), "example": np.tile(np.arange(80), 8)}
    )  # fmt: skip
    crossed = table(frame).loc["mae"]
    blind = table(frame.drop(columns="example")).loc["mae"]
    width = crossed["ci_high"] - crossed["ci_low"], blind["ci_high"] - blind["ci_low"]
    assert width[0] > 1.8 * width[1]


def test_bad_input_is_one_clear_line():
    with pytest.raises(ValueError, match="frame lacks column seed"):
        metrics.metric_table(pd.DataFrame({"target": []}), {})
    with pytest.raises(ValueError, match=r"predicted has shape \(2,\)"):
        metrics.circular_error(np.zeros(2), np.zeros(3), 360)
    with pytest.raises(ValueError, match="period is 0"):
        metrics.circular_error(np.zeros(2), np.zeros(2), 0)
    with pytest.raises(ValueError, match="labels is empty"):
        metrics.best_constant(np.array([]))
