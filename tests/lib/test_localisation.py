"""Tables about chirps say what was planted in the predictions, for networks and baselines."""

import re

import localisation_frames as frames
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patchwork.analysis import predictions
from patchwork.analysis.chirps import localisation, localisation_intervals
from patchwork.analysis.chirps.baselines import PLANE
from patchwork.statistics import conformal
from patchwork.tables import FINDINGS
from scipy import stats
from sklearn.metrics import roc_auc_score

NETWORK = {"backbone": "pretrained"}


def pick(table, **values):
    for column, value in values.items():
        table = table[table[column] == value]
    return table


@pytest.fixture(scope="module")
def frame():
    found = {"plain": frames.detected(frames.images())}
    return localisation.with_baselines(frames.predictions(), found)


@pytest.fixture(scope="module")
def tables(frame):
    return localisation.localisation_tables(
        frame, frames.ATTRIBUTES, n_bins=4, coverage=0.9, sizes={"plain": 500}, planted={}
    )


def test_planted_slope_and_bias_are_found():
    planted = frames.predictions(bias=-2.0, slope=0.8)
    table = predictions.metric_tables(planted, frames.ATTRIBUTES)
    for label in frames.LABELS:
        rows = pick(table, target=label).set_index("metric")
        assert rows.loc["slope", "ci_low"] < 0.8 < rows.loc["slope", "ci_high"]
        mean = frames.images()[label].mean()
        low, high = rows.loc["bias", ["ci_low", "ci_high"]]
        assert low < -2 - 0.2 * mean < high
        assert rows.loc["bias", "unit"] == label.rpartition("_")[2].replace("hz", "Hz")


def test_metrics_are_those_of_the_images_with_a_chirp(frame, tables):
    network = pick(frame, **NETWORK)
    seen = network[network["present"] == 1]
    error = seen["predicted_start_hz"] - seen["start_hz"]
    rows = pick(tables["metrics"], target="start_hz", **NETWORK).set_index("metric")["estimate"]
    assert rows["mae"] == pytest.approx(error.abs().mean())
    assert rows["bias"] == pytest.approx(error.mean())
    each = [
        np.corrcoef(one["predicted_start_hz"], one["start_hz"])[0, 1]
        for _, one in seen.groupby("seed")
    ]
    assert rows["pearson_r"] == pytest.approx(np.tanh(np.mean(np.arctanh(each))))
    # What is predicted for images without a chirp does not count.
    moved = network.assign(
        predicted_start_hz=network["predicted_start_hz"].where(network["present"] == 1, 1e6)
    )
    again = predictions.metric_tables(moved, frames.ATTRIBUTES)
    assert pick(again, target="start_hz").set_index("metric")["estimate"].equals(rows)


def test_the_constant_is_the_median_and_beats_other_constants(frame):
    rows = pick(frame, backbone="constant")
    images = frames.images()
    assert (rows["predicted_start_s"] == images["start_s"].median()).all()
    best = (rows["predicted_start_s"] - rows["start_s"]).abs().mean()
    for other in (5.0, 20.0, 30.0, images["start_s"].mean()):
        assert best <= (rows["start_s"] - other).abs().mean()


def test_baselines_meet_their_images_whatever_the_order():
    images = frames.images(n=40)
    network = frames.run(images, seed=0).sample(frac=1, random_state=1)
    found = frames.detected(images).sample(frac=1, random_state=2)
    rows = localisation.baseline_predictions(network, {"plain": found})
    tracked = pick(rows, backbone="ridge_tracker").set_index("index").sort_index()
    wanted = pick(found, backbone="ridge_tracker").set_index("index").sort_index()
    assert tracked["predicted_end_hz"].tolist() == wanted["end_hz"].tolist()
    assert tracked["score_present"].tolist() == wanted["score"].tolist()
    assert tracked["end_hz"].dropna().tolist() == images["end_hz"].dropna().tolist()
    assert set(rows["protocol"]) == {"none"}
    assert set(rows["seed"]) == {0}
    assert "loss_place" not in rows


def test_baselines_predict_what_networks_do():
    network = frames.predictions(n=30, seeds=2).drop(columns="predicted_duration_s")
    rows = localisation.baseline_predictions(network, {"plain": frames.detected(frames.images(30))})
    assert localisation_intervals.targets(rows) == ["start_s", "start_hz", "end_hz"]
    assert len(rows) == 3 * 30


def test_detections_count_images_through_batches():
    rng = frames.generator(5)
    arrays = rng.standard_normal((5, 32, 32)).astype(np.float32)
    whole = localisation.detections([arrays], PLANE)
    parts = localisation.detections([arrays[:2], arrays[2:4], arrays[4:]], PLANE)
    keys = ["backbone", "index"]
    pd.testing.assert_frame_equal(
        whole.sort_values(keys, ignore_index=True),
        parts.sort_values(keys, ignore_index=True),
        atol=1e-4,
    )
    assert set(whole["backbone"]) == {"ridge_tracker", "matched_filter"}
    assert sorted(set(parts["index"])) == [0, 1, 2, 3, 4]


def test_errors_in_bins_are_naive_means_and_grow_with_the_planted_noise(frame, tables):
    seen = pick(frame, **NETWORK).dropna(subset=["start_s"])
    size = (seen["predicted_start_s"] - seen["start_s"]).abs()
    rows = pick(tables["errors_along"], target="start_s", **NETWORK)
    for along in ("noise_sd", "duration_s", "sweep"):
        own = pick(rows, along=along)
        assert own["n"].sum() == len(seen)
        for row in own.itertuples():
            top = row.bin == own["bin"].max()
            inside = (seen[along] >= row.bin_low) & (
                (seen[along] < row.bin_high) | (top & (seen[along] <= row.bin_high))
            )
            assert row.mae == pytest.approx(size[inside].mean())
            assert row.n == inside.sum()
            assert 0 <= row.ci_low < row.mae < row.ci_high
    noise = pick(rows, along="noise_sd")["mae"]
    assert noise.is_monotonic_increasing
    assert noise.iloc[-1] > 1.5 * noise.iloc[0]
    assert pick(rows, along="sweep")["bin_name"].tolist() == ["linear", "exponential"]


def test_a_label_that_does_not_vary_has_no_bins():
    flat = frames.predictions(n=60).assign(sweep=1, noise_sd=0.1)
    table = localisation.errors_along(flat, frames.ATTRIBUTES, 3)
    assert set(table["along"]) == {"duration_s"}


def test_the_auroc_is_that_of_a_peer_with_the_interval_of_delong(frame):
    one = pick(frame, seed=0, **NETWORK).copy()
    one["score_present"] = one["score_present"].round(1)  # ties
    found = localisation.presence_area(one, "score_present")
    assert found.estimate == pytest.approx(roc_auc_score(one["present"], one["score_present"]))
    error = delong_error(one["score_present"].to_numpy(), one["present"].to_numpy() == 1)
    assert found.error == pytest.approx(error, rel=0.02)
    half = stats.t.ppf(0.975, len(one) - 1) * error
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)
    assert 0 < found.low < found.estimate < found.high < 1


def delong_error(scores, present):
    """Naive: every pair, and the variance of the two means of placements."""
    a, b = scores[present], scores[~present]
    wins = np.array([[float(x > y) + 0.5 * (x == y) for y in b] for x in a])
    return np.sqrt(wins.mean(1).var(ddof=1) / len(a) + wins.mean(0).var(ddof=1) / len(b))


def test_the_auroc_of_several_seeds_is_their_mean_and_chance_is_a_half(frame):
    network = pick(frame, **NETWORK)
    each = [
        roc_auc_score(one["present"], one["score_present"]) for _, one in network.groupby("seed")
    ]
    found = localisation.presence_area(network, "score_present")
    assert found.estimate == pytest.approx(np.mean(each))
    assert found.clusters == 3
    blind = network.assign(score_present=frames.generator(3).standard_normal(len(network)))
    found = localisation.presence_area(blind, "score_present")
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.4


def test_the_area_below_the_curve_is_the_auroc(frame, tables):
    for backbone in ("pretrained", "ridge_tracker"):
        curve = pick(tables["presence"], backbone=backbone)
        area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
        assert area == pytest.approx(curve["auroc"].iloc[0], abs=0.01)
        assert curve["true_positive_rate"].is_monotonic_increasing
    assert set(tables["presence"]["backbone"]) == {"pretrained", "ridge_tracker", "matched_filter"}
    assert len(localisation.roc_curve(pick(frame, seed=0, **NETWORK), "score_present", 11)) == 11


def test_without_a_score_the_class_ranks_and_without_absence_nothing_does():
    classed = frames.predictions(n=80, score=False)
    table = localisation.presence_table(classed)
    assert set(table["ranked_by"]) == {"predicted_present"}
    one = pick(classed, seed=0)
    hits = one.loc[one["present"] == 1, "predicted_present"].mean()
    alarms = one.loc[one["present"] == 0, "predicted_present"].mean()
    found = localisation.presence_area(one, "predicted_present").estimate
    assert found == pytest.approx((1 + hits - alarms) / 2)
    full = classed[classed["present"] == 1]
    assert localisation.presence_table(full).empty


def test_half_widths_come_from_even_images_and_coverage_from_odd_ones(frame, tables):
    one = pick(frame, seed=1, **NETWORK).dropna(subset=["end_hz"])
    residuals = one["predicted_end_hz"] - one["end_hz"]
    even = one["index"] % 2 == 0
    row = pick(tables["conformal"], seed=1, target="end_hz", group="all", **NETWORK).iloc[0]
    assert row["half_width"] == conformal.half_width(residuals[even].to_numpy(), 0.9)
    assert row["coverage"] == (residuals[~even].abs() <= row["half_width"]).mean()
    shifted = frame.assign(predicted_end_hz=frame["predicted_end_hz"] + 500 * (frame["index"] % 2))
    table = localisation_intervals.conformal_table(shifted, frames.ATTRIBUTES, 0.9)
    moved = pick(table, seed=1, target="end_hz", group="all", **NETWORK).iloc[0]
    assert moved["half_width"] == row["half_width"]
    assert moved["coverage"] == 0


def test_coverage_of_all_seeds_is_near_nominal_and_its_trials_are_images(frame, tables):
    rows = pick(tables["conformal"], group="all", target="start_s", **NETWORK)
    pooled, each = rows[rows["seed"] == "all"].iloc[0], rows[rows["seed"] != "all"]
    assert pooled["coverage"] == pytest.approx(each["coverage"].mean())
    assert pooled["n"] == each["n"].iloc[0]
    assert pooled["expected_low"] <= pooled["coverage"] <= pooled["expected_high"]
    assert pooled["ci_low"] < pooled["coverage"] < pooled["ci_high"]
    assert set(tables["conformal"]["wanted"]) == {0.9}


def test_groups_of_noise_get_wider_intervals_with_more_noise(tables):
    rows = pick(tables["conformal"], target="start_s", **NETWORK)
    grouped = rows[rows["group"] != "all"]
    assert grouped.groupby("seed")["half_width"].apply(lambda h: h.is_monotonic_increasing).all()
    assert grouped.groupby("seed")["n"].sum().eq(rows["n"].max()).all()


def test_differences_are_paired_by_image_and_negative_where_the_network_is_better(frame, tables):
    rows = tables["findings"].set_index(["quantity", "backbone"])
    error = (frame["predicted_start_s"] - frame["start_s"]).abs()
    means = error.groupby(frame["backbone"]).mean()
    for baseline in ("constant", "ridge_tracker", "matched_filter"):
        row = rows.loc[(f"start_s_mae_minus_{baseline}", "pretrained")]
        assert row["estimate"] == pytest.approx(means["pretrained"] - means[baseline])
        assert row["ci_low"] < row["estimate"] < row["ci_high"]
        assert row["seeds"] == 3
    assert rows.loc[("start_s_mae_minus_ridge_tracker", "pretrained"), "ci_high"] < 0
    same = pick(frame, backbone="ridge_tracker").assign(backbone="copy", protocol="corrected")
    again = localisation.differences(pd.concat([frame, same]))
    zero = pick(again, quantity="end_hz_mae_minus_ridge_tracker", backbone="copy").iloc[0]
    assert zero["estimate"] == zero["ci_low"] == zero["ci_high"] == 0


def test_findings_name_every_quantity_once_for_each_condition(tables):
    assert list(tables["findings"]) == list(FINDINGS)
    keys = ["quantity", "dataset", "backbone", "protocol"]
    assert not tables["findings"].duplicated(keys).any()
    found = set(pick(tables["findings"], **NETWORK)["quantity"])
    assert {"start_s_r", "start_s_bias", "end_hz_mae", "start_hz_slope"} <= found
    assert {"coverage_start_s", "presence_auroc", "end_hz_mae_minus_constant"} <= found
    assert tables["findings"]["estimate"].notna().all()


def test_points_are_single_predictions_with_their_line(frame, tables):
    one = pick(frame, seed=0, **NETWORK).dropna(subset=["start_s"])
    rows = pick(tables["points"], target="start_s", **NETWORK)
    line = stats.linregress(one["start_s"], one["predicted_start_s"])
    assert rows["slope"].iloc[0] == pytest.approx(line.slope)
    assert rows["intercept"].iloc[0] == pytest.approx(line.intercept)
    assert rows["pearson_r"].iloc[0] == pytest.approx(line.rvalue)
    assert rows["actual"].tolist() == one["start_s"].head(400).tolist()


def test_a_sentence_says_the_prediction_and_how_sure_it_is():
    text = localisation_intervals.sentence(
        {"start_s": 12.34, "start_hz": 2.0, "end_hz": 41.0, "present": 1.0},
        {"start_s": 1.3, "start_hz": 3.0, "end_hz": 2.5},
    )
    assert text == (
        "A chirp starts at 12.3 s (90 % interval 11.0 to 13.6 s), begins at 2.0 Hz "
        "(0.0 to 5.0 Hz) and ends at 41.0 Hz (38.5 to 43.5 Hz)."
    )
    assert (
        localisation_intervals.sentence({"present": 0.0, "start_s": 3.0}, {})
        == "There is no chirp."
    )
    unsure = localisation_intervals.sentence({"start_s": 3.0}, {"start_s": np.inf}, coverage=0.8)
    assert unsure == "A chirp starts at 3.0 s (80 % interval unknown)."
    with pytest.raises(ValueError, match="prediction has"):
        localisation_intervals.sentence({"hue_deg": 3.0}, {"hue_deg": 1.0})


@pytest.mark.parametrize(
    ("label", "value", "half", "text"),
    [
        ("start_s", -1.2, 0.5, "starts at 0.0 s (90 % interval 0.0 to 0.0 s; {})"),
        ("start_s", -1.2, 5.0, "starts at 0.0 s (90 % interval 0.0 to 3.8 s; {})"),
        ("start_s", -0.01, 1.0, "starts at 0.0 s (90 % interval 0.0 to 1.0 s)"),
        ("start_s", 59.0, 5.0, "starts at 59.0 s (90 % interval 54.0 to 60.0 s)"),
        ("end_hz", 97.0, 5.0, "ends at 97.0 Hz (90 % interval 92.0 to 100.0 Hz)"),
        ("end_hz", 103.0, 5.0, "ends at 100.0 Hz (90 % interval 98.0 to 100.0 Hz; {})"),
        ("end_hz", 103.0, np.inf, "ends at 100.0 Hz (90 % interval unknown; {})"),
    ],
)
def test_values_and_intervals_keep_to_the_figure(label, value, half, text):
    said = localisation_intervals.sentence({label: value}, {label: half})
    assert said == f"A chirp {text.format(f'the estimate, {value}, lies outside')}."


@given(st.floats(-500, 500), st.floats(0, 500), st.sampled_from(["start_s", "end_hz"]))
def test_a_value_lies_in_its_interval_and_both_in_the_figure(value, half, label):
    text = localisation_intervals.sentence({label: value}, {label: half})
    most = {"start_s": 60, "end_hz": 100}[label]
    inside, low, high = map(float, re.findall(r"-?\d+\.\d", text)[:3])
    assert 0 <= low <= inside <= high <= most
    far = max(-value, value - most)
    assert abs(far - 0.05) < 1e-9 or ("outside" in text) == (far > 0.05)


def test_groups_of_nearly_equal_noise_stay_groups():
    frame = frames.predictions(n=300)
    noise = 0.2001 + 0.0003 * (frame["noise_sd"] - 0.09) / 0.21
    table = localisation_intervals.conformal_table(
        frame.assign(noise_sd=noise), frames.ATTRIBUTES, 0.9
    )
    rows = pick(table, target="start_s", seed=0)
    assert rows["group"].nunique() == 4
    assert rows.loc[rows["group"] != "all", "n"].sum() == rows["n"].max()
    # Where quantiles coincide there are fewer groups, each with a name.
    few = frame.assign(noise_sd=np.repeat([0.1, 0.2, 0.2, 0.2, 0.2, 0.3], 50)[frame["index"]])
    few.loc[frame["index"] == 0, "noise_sd"] = 0.15
    table = localisation_intervals.conformal_table(few, frames.ATTRIBUTES, 0.9)
    rows = pick(table, target="start_s", seed=0)
    assert rows.loc[rows["group"] != "all", "n"].sum() == rows["n"].max()


def test_sentences_are_about_images_that_set_no_interval(frame, tables):
    rows = pick(tables["sentences"], **NETWORK)
    assert len(rows) == 20
    assert (rows["index"] % 2 == 1).all()
    first = rows.iloc[0]
    one = pick(frame, seed=first["seed"], index=first["index"], **NETWORK).iloc[0]
    assert f"starts at {one['predicted_start_s']:.1f} s" in first["sentence"]
