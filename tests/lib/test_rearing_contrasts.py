from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from patchwork import statistics
from patchwork.analysis.rearing import adaptation, contrasts
from patchwork.analysis.rearing.contrasts import Outcome, biases, final
from patchwork.analysis.rearing.orientation_measures import four_cycle, ridge_readout_errors
from patchwork.tables import FINDINGS
from scipy import stats

MEASURES = ("fisher_noise_cls", "ridge_error_lines_cls", "ridge_error_noise_cls")
PLAN = {
    "outcomes": [
        {"measure": name, "condition": "upright", "minus": "turned", "predicted_sign": sign}
        for name, sign in zip(MEASURES, (None, -1, 1), strict=True)
    ],
    "test": "sign_flip",
    "alpha": 0.05,
    "seeds_min": 5,
    "exclusions": {"accuracy_min": 0.3},
    "decision": "each co-primary is decided on its own",
}
OUTCOMES = [Outcome(**one) for one in PLAN["outcomes"]]


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def networks(
    effects, *, n=8, seed=0, sd=1.0, turns_deg=None, rearing_conditions=("upright", "turned")
):
    """Component rows of networks: c4 of the first condition is the effect, else minus it."""
    rng, rows = generator(seed), []
    turns = turns_deg or {}
    for s in range(n):
        shared = rng.normal(size=len(effects))
        for sign, condition in zip((1, -1), rearing_conditions, strict=True):
            for i, (measure, effect) in enumerate(effects.items()):
                vector = (sign if condition not in turns else 1) * effect
                phase = np.deg2rad(4 * turns.get(condition, 0))
                noise = shared[i] + sd * rng.normal(size=2)
                values = vector * np.array([np.cos(phase), np.sin(phase)]) + noise
                for name, value in zip(("c4", "s4"), values, strict=True):
                    rows.append((condition, s, 2.0, measure, name, value))
            rows.append((condition, s, 2.0, "accuracy", "value", 0.5 + 0.01 * sign))
    return pd.DataFrame(
        rows, columns=["condition", "seed", "epoch", "measure", "component", "value"]
    )


def contrasted(frame, plan=PLAN, pairs=()):
    return contrasts.contrast_table(final(biases(frame)), plan, pairs)


def row(table, measure, status=None):
    chosen = table[table["measure"] == measure]
    chosen = chosen if status is None else chosen[chosen["status"] == status]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_planted_effects_are_found_with_their_sign_and_nothing_else():
    frame = networks({MEASURES[0]: 0.0, MEASURES[1]: -6.0, MEASURES[2]: -6.0, "signed_x": 0.0})
    table = contrasted(frame)
    assert row(table, MEASURES[1])["outcome"] == "as predicted"
    assert row(table, MEASURES[2])["outcome"] == "opposite"
    assert row(table, MEASURES[0])["outcome"] == "not shown"
    assert set(table.loc[table["status"] == contrasts.EXPLORATORY, "measure"]) == {"signed_x"}
    found = row(table, MEASURES[1])
    rows = biases(frame)
    rows = rows[rows["measure"] == MEASURES[1]]
    pairs = contrasts.differences(rows, "upright", "turned")["difference"]
    peer = stats.ttest_1samp(pairs, 0).confidence_interval()
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((peer.low, peer.high))
    assert found["estimate"] == pytest.approx(found["mean_condition"] - found["mean_minus"])
    assert (found["accuracy_condition"], found["accuracy_minus"]) == pytest.approx((0.51, 0.49))
    assert found["p"] == found["p_least"] == 2 / 2**8
    first = table[table["status"] == contrasts.CO_PRIMARY]
    assert list(first["p_adjusted"]) == pytest.approx(list(statistics.holm(first["p"].to_numpy())))


def test_exploratory_contrasts_share_one_false_discovery_rate():
    frame = networks(dict.fromkeys((*MEASURES, "fisher_a", "ridge_b", "signed_c"), 0.5))
    table = contrasted(frame, pairs=[("turned", "upright")])
    others = table[table["status"] == contrasts.EXPLORATORY]
    assert len(others) == 3 + 6
    assert np.allclose(others["p_adjusted"], stats.false_discovery_control(others["p"]))


def test_signed_errors_are_compared_by_their_sine():
    frame = networks({"signed_error_lines_cls": 3.0, "fisher_noise_cls": 3.0})
    kept = biases(frame).groupby("measure")["component"].unique()
    assert list(kept["signed_error_lines_cls"]) == ["s4"]
    assert list(kept["fisher_noise_cls"]) == ["c4"]
    assert list(kept["accuracy"]) == ["value"]


def test_a_fast_condition_is_compared_where_it_was_as_accurate():
    early = networks({"ridge_x": -2.0}, sd=0.1).assign(epoch=1.0)
    late = networks({"ridge_x": -9.0}, sd=0.1).assign(epoch=2.0)
    both = pd.concat([early, late], ignore_index=True)
    is_accuracy = both["measure"] == "accuracy"
    both.loc[is_accuracy, "value"] = 0.3 * both["epoch"] + 0.1 * (both["condition"] == "upright")
    both.loc[is_accuracy & (both["condition"] == "turned") & (both["epoch"] == 2), "value"] = 0.41
    matched = contrasts.at_matched_accuracy(both, "upright", "turned")
    assert set(matched["condition"]) == {"upright_matched_to_turned"}
    assert set(matched["epoch"]) == {1.0}
    assert len(matched) == len(early) // 2
    table = contrasted(pd.concat([both, matched]), pairs=[("upright_matched_to_turned", "turned")])
    one = table[table["condition"] == "upright_matched_to_turned"].iloc[0]
    assert one["accuracy_condition"] == pytest.approx(0.4)
    assert one["estimate"] == pytest.approx(-2 - 9, abs=1)
    assert contrasts.at_matched_accuracy(both, "upright", "nobody").empty


def test_too_few_seeds_decide_nothing_and_say_what_they_could_reach():
    found = row(contrasted(networks(dict.fromkeys(MEASURES, 9.0), n=4)), MEASURES[0])
    assert found["outcome"] == "too few seeds"
    assert found["p_least"] == 2 / 2**4
    five = contrasted(networks(dict.fromkeys(MEASURES, 9.0), n=5))
    assert row(five, MEASURES[2])["outcome"] == "as predicted"  # its interval lies beyond zero,
    assert not row(five, MEASURES[2])["significant"]  # but 2 / 32 cannot be below .05


def test_exclusions_are_counted_by_rule_and_unpaired_networks_do_not_count():
    frame = networks(dict.fromkeys(MEASURES, 1.0), n=8)
    poor = (
        (frame["condition"] == "turned") & (frame["seed"] == 3) & (frame["measure"] == "accuracy")
    )
    frame.loc[poor, "value"] = 0.1
    blank = (
        (frame["condition"] == "upright") & (frame["seed"] == 6) & (frame["measure"] == "accuracy")
    )
    frame.loc[blank, "value"] = np.nan  # as an untrained network: no accuracy, not a bad one
    broken = (frame["condition"] == "upright") & (frame["seed"] == 5)
    frame.loc[broken & (frame["measure"] == MEASURES[0]), "value"] = np.nan
    kept, left_out = contrasts.exclude(frame, 0.3)
    assert left_out[["rule", "condition", "seed"]].to_numpy().tolist() == [
        ["not_finite", "upright", 5],
        ["accuracy_min", "turned", 3],
    ]
    assert row(contrasted(kept), MEASURES[1])["seeds"] == 6
    everything, none = contrasts.exclude(networks(dict.fromkeys(MEASURES, 1.0)), 0.3)
    assert none.empty
    assert len(everything) == len(networks(dict.fromkeys(MEASURES, 1.0)))


def test_only_the_last_epoch_decides():
    late = networks(dict.fromkeys(MEASURES, 5.0))
    early = networks(dict.fromkeys(MEASURES, -50.0)).assign(epoch=0.5)
    both = pd.concat([early, late])
    assert contrasted(both).equals(contrasted(late))
    path = contrasts.trajectory_table(biases(both), OUTCOMES)
    assert list(path["epoch"].unique()) == [0.5, 2.0]
    assert (path.loc[path["epoch"] == 0.5, "estimate"] < -90).all()
    rearing_conditions = contrasts.condition_table(biases(both))
    assert set(rearing_conditions["epoch"]) == {0.5, 2.0}
    assert rearing_conditions["accuracy"].round(2).isin([0.51, 0.49]).all()


def synthetic_contrast(rng, n_seeds, sharpness=0.0):
    """Networks of random tuned units; noise is planted least at the own orientation."""
    rows = []
    for seed in range(n_seeds):
        for condition, best in (("upright", 0.0), ("turned", 45.0)):
            preferred = rng.uniform(0, 180, 8)
            degrees = np.tile(np.linspace(0, 180, 90, endpoint=False), 2)
            tuning = np.exp(np.cos(np.deg2rad(2 * (degrees[:, None] - preferred))))
            spread = 0.8 * (1 - sharpness * np.cos(np.deg2rad(4 * (degrees - best))))
            seen = tuning + spread[:, None] * rng.normal(size=tuning.shape)
            error, _ = ridge_readout_errors(seen[:90], degrees[:90], seen[90:], degrees[90:])
            value = four_cycle(degrees[90:], error).c4
            rows.append((condition, seed, 1.0, MEASURES[1], "c4", value))
    return pd.DataFrame(
        rows, columns=["condition", "seed", "epoch", "measure", "component", "value"]
    )


@pytest.mark.parametrize("n", [40, pytest.param(100, marks=pytest.mark.slow)])
def test_isotropic_networks_give_no_contrast_more_often_than_alpha(n):
    plan = {**PLAN, "outcomes": PLAN["outcomes"][1:2]}
    rng = generator(4)
    tables = [contrasted(synthetic_contrast(rng, 7), plan) for _ in range(n)]
    # Of 2**7 patterns 6 reach .05: the level of the test is 6 / 128.
    for shown, level in (
        (sum(t["significant"].iloc[0] for t in tables), 6 / 128),
        (sum(t["outcome"].iloc[0] != "not shown" for t in tables), 0.05),
    ):
        low, high = stats.binom.interval(0.999, n, level)
        assert low <= shown <= high
    planted = contrasted(synthetic_contrast(rng, 7, sharpness=0.6), plan)
    assert planted["outcome"].iloc[0] == "as predicted"
    assert planted["significant"].iloc[0]


@pytest.mark.parametrize("n", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_the_family_of_co_primaries_keeps_its_level(n):
    rng = generator(5)
    hits = 0
    for _ in range(n):
        frame = networks(dict.fromkeys(MEASURES, 0.0), n=8, seed=int(rng.integers(2**31)))
        table = contrasted(frame)
        hits += table["significant"].any()
    assert hits <= stats.binom.ppf(0.999, n, 0.05)
    assert hits >= stats.binom.ppf(0.001, n, 0.02)


@pytest.mark.parametrize("seed", [1, 2])
def test_planted_contrasts_are_found_as_often_as_theory_says(seed):
    values = generator(seed).normal(3.0, 1.0, 8)
    values = (values - values.mean()) / values.std(ddof=1)
    for effect in (0.6, 1.2):
        found = contrasts.planted(values, effect, (0, None), seed)
        power = stats.nct.sf(stats.t.ppf(0.95, 7), 7, effect * np.sqrt(8))
        assert found.estimate == pytest.approx(power, abs=0.15)
        assert found.n == 100
    assert contrasts.planted(values, -1.0, (0, None), seed).estimate < 0.05
    assert np.isnan(contrasts.planted(values[:1], 1.0, (0, None), seed).estimate)


def adapted(shares, sd=0.2):
    before = biases(networks({"ridge_x": -8.0}, sd=sd))
    before = before[before["measure"] == "ridge_x"][["condition", "seed", "value"]]
    before = before.rename(columns={"condition": "backbone"}).assign(error_deg=12.0)
    rng = generator(3)
    frozen = before.assign(dataset="lines_100", protocol="frozen")
    tuned = [
        before.assign(
            dataset=f"lines_{size}",
            protocol="lora",
            value=share * before["value"] + sd * rng.normal(size=len(before)),
        )
        for size, share in shares.items()
    ]
    return pd.concat([frozen, *tuned])


KEEPING = {
    "pairs": [("upright", "turned")],
    "before": {"protocol": "frozen", "dataset": "lines_100"},
    "planted": {"seed": 0},
}


def test_half_of_a_bias_is_kept_where_what_is_left_exceeds_it():
    table = adaptation.adaptation_table(adapted({100: 0.9, 1000: 0.5, 10000: 0.0}), KEEPING)
    kept = table[table["quantity"] == "after_minus_half_before"]
    kept = kept[kept["protocol"] == "lora"].set_index("dataset")
    assert list(kept["estimate"]) == pytest.approx([-6.4, 0.0, 8.0], abs=0.4)
    assert kept.loc["lines_100", "ci90_high"] < 0 < kept.loc["lines_10000", "ci90_low"]
    assert kept.loc["lines_1000", "ci90_low"] < 0 < kept.loc["lines_1000", "ci90_high"]
    shares = table[table["quantity"] == "share_found"]
    assert (shares["estimate"] == 1).all()
    noisy = adaptation.adaptation_table(adapted({1000: 0.0}, sd=30.0), KEEPING)
    assert noisy.loc[noisy["quantity"] == "share_found", "estimate"].iloc[-1] < 0.5


def test_what_is_kept_and_known_are_findings():
    known = adapted({100: 0.9, 1000: 0.5})
    found = adaptation.findings(adaptation.adaptation_table(known, KEEPING), known)
    assert list(found.columns) == list(FINDINGS)
    assert not found.duplicated(["quantity", "dataset", "backbone", "protocol"]).any()
    kept = found[found["quantity"] == "rearing_contrast_after_minus_half_before_lines_100"]
    assert set(kept["backbone"]) == {"upright_minus_turned"}
    errors = found[found["quantity"] == "orientation_error"]
    assert set(errors["backbone"]) == {"upright", "turned"}
    assert (errors["estimate"] == 12).all()


def test_errors_of_runs_become_components():
    degrees = np.arange(0, 180, 1.0)
    error = 10 - 2 * np.cos(np.deg2rad(4 * degrees))
    predicted = pd.DataFrame(
        {
            "index": np.arange(180),
            "angle_deg": degrees,
            "orientation_deg": degrees,
            "predicted_orientation_deg": np.mod(degrees + error, 180),
        }
    ).assign(dataset="lines_100", backbone="upright", protocol="lora", seed=1)
    one = adaptation.line_biases(predicted).iloc[0]
    assert one["value"] == pytest.approx(-2)
    assert one["error_deg"] == pytest.approx(10)


def test_accuracy_counts_every_network():
    frame = networks({MEASURES[0]: 1.0}, n=5)
    found = contrasts.accuracy_findings(frame).set_index("backbone")
    assert found.loc["upright", "estimate"] == pytest.approx(0.51)
    assert found.loc["turned", "seeds"] == 5


def test_each_planted_contrast_is_a_finding():
    effect = {
        "measure": MEASURES[0],
        "condition": "upright",
        "minus": "turned",
        "claimed": (None, 0),
    }
    last = final(biases(networks({MEASURES[0]: 5.0})))
    (found,) = contrasts.planted_findings(last, [effect | {"effect": -9.0}], 0).to_dict("records")
    assert found["quantity"] == f"share_found_rearing_contrast_{MEASURES[0]}"
    assert found["backbone"] == "upright_minus_turned"
    assert found["estimate"] == 1  # planted in place of what is there
    none = contrasts.planted_findings(last, [effect | {"effect": 0.0}], 0)["estimate"].item()
    assert none < 0.2


def test_findings_have_one_row_per_address():
    frame = networks({**dict.fromkeys(MEASURES, 1.0), "colour_contrast": 1.0})
    frame.loc[frame["measure"] == "colour_contrast", "component"] = "value"
    frame = frame.drop_duplicates(["condition", "seed", "epoch", "measure", "component"])
    table = contrasted(frame)
    found = contrasts.findings(table, "contrast_" + table["measure"])
    assert list(found.columns) == list(FINDINGS)
    assert set(found["quantity"]) == {f"contrast_{m}" for m in (*MEASURES, "colour_contrast")}
    assert not found.duplicated(["quantity", "dataset", "backbone", "protocol"]).any()
    assert set(found["backbone"]) == {"upright_minus_turned"}


def test_curves_are_means_over_seeds():
    rows = [
        ("a", seed, epoch, "ridge_x", "curve", degrees, value)
        for seed, value in ((1, 2.0), (2, 4.0))
        for epoch in (1.0, 2.0)
        for degrees in (0.0, 90.0)
    ]
    frame = pd.DataFrame(
        rows, columns=["condition", "seed", "epoch", "measure", "kind", "orientation_deg", "value"]
    )
    table = contrasts.curve_table(frame)
    assert len(table) == 2
    assert (table["value"] == 3).all()
    assert (table["seeds"] == 2).all()


def test_impossible_tables_are_named():
    frame = networks({MEASURES[0]: 1.0})
    with pytest.raises(ValueError, match="twice"):
        biases(pd.concat([frame, frame]))
    with pytest.raises(ValueError, match="no bias component"):
        biases(frame.assign(component="mean"))


def test_planted_contrasts_have_the_regions_of_their_claims():
    config = Path(__file__).resolve().parents[2] / "config"
    study = yaml.safe_load((config / "studies/rearing.yaml").read_text(encoding="utf-8"))
    claims = yaml.safe_load((config / "claims.yaml").read_text(encoding="utf-8"))["claims"]
    decisions = {
        (one["quantity"], one["backbone"]): one
        for name in ("R1a", "R1b", "R1c", "R2")
        for one in claims[name]["decisions"]
    }
    rows = study["studies"]["rearing"]["rearing_conditions"]["planted"]["contrasts"]
    assert len(rows) == len(decisions)
    for row in rows:
        address = f"rearing_contrast_{row['measure']}", f"{row['condition']}_minus_{row['minus']}"
        assert decisions[address]["claimed"] == row["claimed"]
        assert decisions[address]["positive_control"]["quantity"] == f"share_found_{address[0]}"
