import numpy as np
import pandas as pd
import pytest
from patchwork import tables
from patchwork.analysis import predictions
from patchwork.analysis.biases import observer, orientation
from patchwork.analysis.biases.observer import LineGeometry
from patchwork.analysis.predictions import Angle
from patchwork.stimuli import LabelAttributes

ANGLES = [Angle("angle_deg", 360), Angle("orientation_deg", 180)]
ATTRIBUTES = {
    "angle_deg": LabelAttributes("deg", 0, 360),
    "orientation_deg": LabelAttributes("deg", 0, 180),
    "length_px": LabelAttributes("px", 6, 27),
}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Of positive controls: every draw fits all conditions."""
    monkeypatch.setattr(orientation, "_N_DRAWS", 10)


def run(dataset="angle", protocol="corrected", seed=0, n=720, error=None) -> pd.DataFrame:
    """A run whose error at each angle is planted."""
    rng = np.random.Generator(np.random.Philox(key=[seed, len(dataset)]))
    angle = rng.uniform(0, 360, n)
    size = (error or (lambda a: np.full_like(a, 4.0)))(angle)
    sign = rng.choice([-1, 1], n)
    return pd.DataFrame(
        {
            "index": np.arange(n),
            "angle_deg": angle,
            "orientation_deg": angle % 180,
            "length_px": rng.integers(6, 28, n),
            "predicted_orientation_deg": (angle + sign * size) % 180,
            "dataset": dataset,
            "backbone": "pretrained",
            "protocol": protocol,
            "seed": seed,
        }
    )


def directed(**options) -> pd.DataFrame:
    """A run that predicts the direction, worse the farther from 180 deg."""
    frame = run(protocol="described", **options).drop(columns="predicted_orientation_deg")
    off = np.abs(frame["angle_deg"] - 180)
    return frame.assign(predicted_angle_deg=(frame["angle_deg"] + off / 2) % 360)


def test_gathered_rows_carry_their_run(tmp_path):
    runs = [{"dataset": "d", "backbone": "b", "protocol": "p", "seed": s} for s in (3, 4)]
    pd.DataFrame({"x": [1.0]}).to_csv(tmp_path / "0.csv", index=False)
    pd.DataFrame({"x": [2.0]}).to_parquet(tmp_path / "1.parquet")
    frame = tables.gather([tmp_path / "0.csv", tmp_path / "1.parquet"], runs)
    assert frame[["x", "seed"]].to_numpy().tolist() == [[1, 3], [2, 4]]
    (tmp_path / "2.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"2.parquet: not a readable table"):
        tables.gather([tmp_path / "2.parquet"], runs[:1])


def test_metrics_score_only_what_was_predicted():
    frame = pd.concat([run(seed=s) for s in range(3)])
    table = predictions.metric_tables(frame, ATTRIBUTES)
    assert set(table["target"]) == {"orientation_deg"}
    error = table.set_index("metric").loc["circular_error"]
    assert error["estimate"] == pytest.approx(4)
    assert error["unit"] == "deg"
    assert error["constant"] == pytest.approx(45, abs=2)
    assert error["seeds"] == 3


def test_a_period_follows_the_range_of_the_label():
    assert predictions.scales(ATTRIBUTES)["orientation_deg"].period == 180
    assert predictions.scales(ATTRIBUTES)["length_px"].period is None


def test_histograms_hold_every_error():
    frame = pd.concat([run(seed=s) for s in range(2)])
    table = orientation.histograms(frame, ANGLES, 5.0)
    assert (table["density"] * table["bin_width_deg"]).sum() == pytest.approx(1)
    assert table.loc[table["density"] > 0, "error_deg"].tolist() == [2.5]


def test_a_planted_minimum_is_found_where_it_was_planted():
    frame = pd.concat(
        [run(seed=s, error=lambda a: 6 - 2 * np.cos(2 * np.deg2rad(a - 30))) for s in range(3)]
        + [directed(seed=s) for s in range(3)]
    )
    found = orientation.orientation_tables(frame, ANGLES, 36, ["angle"], {})
    place = found.contrasts.set_index(["dataset", "protocol", "quantity"])["estimate"]
    assert place["angle", "corrected", "place_of_minimum"] == pytest.approx(30, abs=3)
    assert place["angle", "described", "place_of_minimum"] == pytest.approx(180, abs=8)
    assert place["all", "corrected", "place_of_minimum"] == pytest.approx(30, abs=3)
    counts = found.curves.groupby(["dataset", "protocol"])["bin_deg"].nunique()
    assert (counts == 36).all()
    signed = found.bias.query("protocol == 'described' and dataset == 'angle'")
    assert signed["signed_error_deg"].min() > -1


def test_an_index_is_one_unit_in_all_pooled_datasets():
    hits, names = 0, ["angle", "length", "width", "color"]
    for draw in range(40):
        rng = np.random.Generator(np.random.Philox(draw))
        angle = rng.uniform(0, 180, 300)
        signed = 20 + rng.normal(0, 6, 300)  # of the image, in every dataset
        columns = {"index": np.arange(300), "angle_deg": angle, "orientation_deg": angle}
        frame = pd.concat(
            pd.DataFrame(columns).assign(
                predicted_orientation_deg=(angle + signed + rng.normal(0, 4, 300)) % 180,
                dataset=name, backbone="pretrained", protocol="corrected", seed=0,
            )
            for name in names
        )  # fmt: skip
        pooled = orientation.with_pool(frame, names).query("dataset == 'all'")
        found = orientation.wave_contrasts(predictions.angle_errors(pooled, ANGLES[1]))
        one = found["oblique_minus_cardinal"]
        hits += one.low <= 0 <= one.high
    assert hits >= 35


def placed(dataset: str, place: float, protocol: str = "described") -> pd.DataFrame:
    """Three seeds whose error is least at a place."""
    frame = pd.concat([run(dataset, protocol, seed=s) for s in range(3)])
    size = 20 - 10 * np.cos(np.deg2rad(frame["angle_deg"] - place))
    size *= np.random.default_rng(len(dataset)).uniform(0.8, 1.2, len(size))
    frame["predicted_angle_deg"] = (frame["angle_deg"] + size) % 360
    return frame.drop(columns="predicted_orientation_deg")


def extremes(frames, angle):
    every = {name: predictions.angle_errors(one, angle) for name, one in frames.items()}
    return orientation.extremes(every, angle.period, seed=0).set_index("quantity"), every


@pytest.mark.parametrize("other", [180, 0])
def test_every_condition_has_the_minimum_or_it_is_far(other):
    places = {"angle": 180, "length": 180, "width": other}
    found, _ = extremes({name: placed(name, place) for name, place in places.items()}, ANGLES[0])
    far = found.loc["farthest_minimum_from_180"]
    assert far["estimate"] == pytest.approx(180 - other, abs=8)
    assert 0 <= far["ci_low"] <= far["estimate"] <= far["ci_high"] <= 180
    assert (far["seeds"], far["n"]) == (3, 3 * 3 * 720)
    # Whatever the place, the same wave at 180 deg would have been found.
    assert found.loc["farthest_minimum_from_180_power", "estimate"] > 0.9


def test_the_least_advantage_is_that_of_the_worst_wave_of_the_worst_condition():
    def error(oblique, seed):
        noise = np.random.default_rng(seed).normal(0, 1, 720)
        return lambda a: (
            9 - 2 * np.cos(2 * np.deg2rad(a)) - oblique / 2 * np.cos(4 * np.deg2rad(a)) + noise
        )

    oblique = {"angle": 3.0, "turned": -3.0, "color": 1.5}
    found, every = extremes(
        {
            name: pd.concat(run(name, seed=seed, error=error(size, seed)) for seed in range(3))
            for name, size in oblique.items()
        },
        ANGLES[1],
    )
    least = found.loc["least_advantage"]
    worst = orientation.wave_contrasts(every["turned"])["oblique_minus_cardinal"]
    assert least["estimate"] == worst.estimate == pytest.approx(-3, abs=0.5)
    assert least["ci_low"] == pytest.approx(worst.low)
    assert least["ci_high"] > worst.high  # any of them could be below it
    split = orientation.picture_and_lattice(every["angle"], every["turned"])["estimate"]
    assert split.tolist() == pytest.approx([0, 3], abs=0.5)
    # Two degrees would be clear in these data.
    assert found.loc["least_advantage_power", "estimate"] > 0.9


def test_the_observer_puts_the_minimum_where_the_label_says():
    protocols = {
        "described": {"targets": {"a": {"labels": ["angle_deg"], "origin": 0, "delta": 0.1}}},
        "shifted": {"targets": {"a": {"labels": ["angle_deg"], "origin": 90, "delta": 0.1}}},
        "corrected": {"targets": {"o": {"labels": ["orientation_deg"], "delta": 0.1}}},
        "not_run": {"targets": {"o": {"labels": ["orientation_deg"], "delta": 0.1}}},
    }
    runs = {("angle", name) for name in ("described", "shifted", "corrected")}
    geometries = {"angle": LineGeometry(64, (14, 14))}
    curves, contrasts = observer.observer_tables(geometries, protocols, ANGLES, 36, runs)
    place = contrasts.query("quantity == 'place_of_minimum'").set_index("protocol")["estimate"]
    assert place["described"] == pytest.approx(180, abs=4)
    assert place["shifted"] == pytest.approx(270, abs=4)
    assert set(curves["protocol"]) == {"described", "shifted", "corrected"}
