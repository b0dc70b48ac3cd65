"""Findings of planted effects: what was put in comes out, with its controls."""

import itertools

import knowledge_models as known
import numpy as np
import pandas as pd
import pytest
import torch
from pages import check_text, laid_out
from patchwork import tables
from patchwork.analysis.knowledge import network, power, questions, summary
from patchwork.figures.knowledge import tracing as figures
from patchwork.statistics.power import Planted

CONTROLS = {
    "first_mlp_recovery": Planted(56, (46, 66)),
    "minimal_set_ratio": Planted(0.25, (0, 0.5)),
    "clean_log_odds_definitional_minus_associative": Planted(1, (0.5, None)),
    "layer_effects_p": Planted(56, (0, 0.01)),
    "rome_mean_kind_by_layer_efficacy_p": Planted(0.5, (0, 0.05)),
    "rome_mean_kind_by_layer_specificity_p": Planted(0.5, (0, 0.05)),
}
SETTINGS = summary.Settings("corrected", "shuffled", {"planted": 1}, CONTROLS, 200, 10, 3, 0)
ROLES, COMPONENTS = questions.ROLES, ("resid_pre", "attn_out", "mlp_out")
SEEDS, LAYERS, FACTS = range(4), 3, 32
FIRST = 0.56


def facts(rng) -> pd.DataFrame:
    rows = []
    for seed, task, i in itertools.product(SEEDS, ("fact", "copy"), range(FACTS)):
        definitional = i % 2 == 0
        clean = 3.0 + definitional + rng.normal(0, 0.3)
        rows.append(
            {
                "seed": seed, "task": task, "fact": i, "multi_token": False,
                "split_half": i // 2 % 2,
                "kind": "definitional" if definitional else "associative", "right": 1.0,
                "determinism": (1.0, 0.7)[i // 4 % 2], "fan": (1, 3)[i // 8 % 2],
                "exposures": (5, 10)[i // 16 % 2], "clean": clean, "corrupted": -3.0,
                "gap": clean + 3, "full": clean, "status": "used",
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def traces(frame: pd.DataFrame, rng) -> pd.DataFrame:
    """The first MLP restores 56 % of a fact, 20 % of a copy and 5 % from a wrong donor."""
    places = pd.DataFrame(
        list(itertools.product(COMPONENTS, range(LAYERS), ROLES)),
        columns=["component", "layer", "role"],
    )
    parts = []
    for task, share in (("fact", FIRST), ("copy", 0.2), ("wrong_donor", 0.05)):
        own = frame[frame["task"] == ("copy" if task == "copy" else "fact")]
        whole = own[["seed", "fact", "gap"]].merge(places, how="cross")
        there = (whole["component"] == "mlp_out") & (whole["layer"] == 0)
        there &= whole["role"] == "subject_last"
        effect = np.where(there, share, 0) * whole["gap"] + rng.normal(0, 0.1, len(whole))
        parts.append(whole.assign(effect=effect, task=task))
    return pd.concat(parts, ignore_index=True).assign(direction=summary.FORWARD, width=1)


def sets() -> pd.DataFrame:
    """Definitional facts need two sites, associative ones four; copies three."""
    rows = []
    for seed, half, n in itertools.product(SEEDS, (0, 1), range(1, 6)):
        needs = {("fact", "definitional"): 2, ("fact", "associative"): 4,
                 ("copy", "definitional"): 3, ("copy", "associative"): 3}  # fmt: skip
        for (task, level), least in needs.items():
            rows.append(
                {
                    "seed": seed, "task": task, "factor": "kind", "level": level, "half": half,
                    "n_sites": n, "component": "mlp_out", "layer": 1, "role": "last",
                    "recovered": 6.0 * min(n / least, 1), "gap": 6.0, "enough": n >= least,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def edits(rng) -> pd.DataFrame:
    rows = []
    methods = ("rome_mean", "rome_bare", "random", "tuned")
    for seed, fact, layer, method in itertools.product(SEEDS, range(8), range(LAYERS), methods):
        # Edits of definitional facts work in layer 1, those of others in layer 2.
        works = method == "rome_mean" and layer == (1 if fact % 2 == 0 else 2)
        margin = (0.9 if works else -0.5) + rng.normal(0, 0.05)
        rows.append(
            {
                "seed": seed, "fact": fact, "kind": ("definitional", "associative")[fact % 2],
                "layer": layer, "method": method, "efficacy": float(margin > 0),
                "efficacy_margin": margin, "paraphrase": 0.0, "paraphrase_margin": margin,
                "specificity": 1.0, "specificity_margin": 0.9 + rng.normal(0, 0.05),
                "perplexity": 10.0, "determinism": 1.0, "fan": 1, "exposures": 5,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def released() -> pd.DataFrame:
    modules = ["Linear(in_features=32, out_features=9)", "Conv1D(nf=96, nx=32)"]
    rows = [
        {
            "seed": s,
            "variant": v,
            "module": m,
            "n_modules": 1,
            "recovery": 100.0 if i == 0 else 13.0,
        }
        for s in SEEDS
        for v in ("linear", "linear_and_conv1d")
        for i, m in enumerate(modules[: 1 if v == "linear" else 2])
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    frame = facts(rng)
    traced = traces(frame, rng)
    shuffled = traced.assign(effect=rng.normal(0, 0.1, len(traced)))
    attribution = pd.DataFrame({"seed": list(SEEDS), "component": "mlp_out", "r": 0.9})
    own = {
        "traced_facts": frame, "traces": traced, "minimal_sets": sets(), "edits": edits(rng),
        "attribution": attribution, "released": released(),
    }  # fmt: skip
    names = {"dataset": "d", "backbone": "b"}
    gathered = {name: table.assign(**names, protocol="corrected") for name, table in own.items()}
    other = {"traced_facts": frame.assign(status="not_known", right=0.0), "traces": shuffled}
    for name, table in other.items():
        extra = table.assign(**names, protocol="shuffled")
        gathered[name] = pd.concat([gathered[name], extra], ignore_index=True)
    return summary.summarise(gathered, SETTINGS)


@pytest.fixture(scope="module")
def values(found):
    own = found["findings"]
    return own[own["protocol"] == "corrected"].set_index("quantity")


@pytest.mark.parametrize(
    ("quantity", "planted", "tolerance"),
    [
        ("first_mlp_recovery", 56, 2), ("first_mlp_above_copy", 36, 2),
        ("first_mlp_above_wrong_donor", 51, 2), ("first_mlp_above_shuffled", 56, 2),
        ("clean_log_odds_definitional_minus_associative", 1, 0.2),
        ("clean_log_odds_first_minus_second_answers", 0, 0.2),
        ("minimal_set_ratio", 0.5, 1e-9), ("copy_minimal_set_ratio", 1, 1e-9),
        ("minimal_set_associative_minus_definitional", 2, 1e-9),
        ("released_linear_head_recovery", 100, 1e-9),
        ("released_linear_and_conv1d_recovery", 13, 1e-9),
    ],
)  # fmt: skip
def test_planted_numbers_come_out(values, quantity, planted, tolerance):
    assert values.loc[quantity, "estimate"] == pytest.approx(planted, abs=tolerance)
    assert values.loc[quantity, "seeds"] == len(SEEDS)


def test_planted_differences_of_layers_are_found_and_others_are_not(values):
    assert values.loc["layer_effects_p", "estimate"] < 0.01
    assert values.loc["layer_effects_above_wrong_donor_p", "estimate"] < 0.01
    assert values.loc["rome_mean_kind_by_layer_efficacy_p", "estimate"] < 0.01
    for name in ("rome_mean_kind_by_layer_specificity_p", "random_kind_by_layer_efficacy_p"):
        assert values.loc[name, "estimate"] > 0.01


def test_edits_that_succeed_in_one_layer_are_seen(values):
    assert values.loc["rome_mean_efficacy_best_layer", "estimate"] >= 0.5


def test_positive_controls_find_what_is_planted(values):
    for name in ("first_mlp_recovery_found", "clean_log_odds_found", "minimal_set_ratio_found"):
        assert values.loc[name, "estimate"] >= 0.8, name


def test_networks_that_know_nothing_have_findings_without_numbers(found):
    own = found["findings"].set_index(["protocol", "quantity"]).loc["shuffled"]
    assert np.isnan(own.loc["first_mlp_recovery", "estimate"])
    assert own.loc["used_share", "estimate"] == 0


def test_noise_that_hides_everything_finds_nothing_planted():
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 500, 40)
    seeds = np.repeat(np.arange(4), 10)
    found = power.recovery(
        noise, rng.normal(5, 1, 40), seeds, CONTROLS["first_mlp_recovery"], SETTINGS
    )
    assert found.estimate < 0.3


def test_every_table_is_declared(found, tmp_path):
    for name, table in found.items():
        folder = tmp_path / ("findings" if name == "findings" else "tables")
        folder.mkdir(exist_ok=True)
        tables.write(table, folder / f"{'tracing' if name == 'findings' else name}.csv")


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        ("recovery_maps", "recoveries"), ("component_recovery", "recoveries"),
        ("set_curves", "set_curves"), ("edit_scores", "edit_scores"),
        ("known_shares", "knowledge_shares"), ("released_recovery", "released_recoveries"),
    ],
)  # fmt: skip
def test_figures_are_legible(found, draw, table):
    frame = found[table]
    if draw != "known_shares":
        frame = frame[frame["protocol"] == "corrected"]
    figure = laid_out({draw: getattr(figures, draw)(frame)})[draw]
    check_text(figure)
    check_text(laid_out({draw: getattr(figures, draw)(frame.iloc[:0])})[draw])


def test_the_whole_answer_of_one_token_has_the_log_odds_of_its_token():
    model, tokenizer, frame = known.trained(), known.tokenizer(), known.facts()
    whole = network.full_answers(model, tokenizer, frame)
    clean = []
    for k in (0, 1):
        (one,) = questions.about_facts(frame, tokenizer, k)
        clean.append(one.metric(model(one.clean), torch.arange(len(one.fact))).numpy())
    np.testing.assert_allclose(list(whole.values()), np.mean(clean, 0), atol=1e-3)
