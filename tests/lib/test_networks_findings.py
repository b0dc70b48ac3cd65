import numpy as np
import pandas as pd
import pytest
from patchwork.networks import association, findings

POWER = {"least": 0.1, "n_draws": 10, "seed": 0}


def _nodes(n_networks, effect=0.0, polarity=0.0, seed=0):
    """Nodes whose score follows out-strength, and by an effect one or the other outcome."""
    rng = np.random.default_rng(seed)
    m = n_networks * 8
    strength = rng.normal(size=m)
    learnt = rng.normal(size=m)
    noise = {name: rng.normal(size=m) for name in association.OUTCOMES}
    outcomes = {name: value + 0.5 * strength for name, value in noise.items()}
    outcomes["abscissa_change"] += effect * learnt
    outcomes["negative_loop_gain"] += (0.6 + polarity) * learnt
    outcomes["positive_loop_gain"] += (0.6 - polarity) * learnt
    scores = {"trained": learnt + strength, "random_label": rng.normal(size=m)}
    controls = {
        name: strength + rng.normal(size=m)
        for several in findings.CONTROLS.values()
        for name in several
    }
    return pd.DataFrame(
        {
            "network": np.repeat(range(n_networks), 8),
            "out_degree": rng.integers(1, 5, m),
            "out_strength": strength,
            **outcomes,
            **scores,
            **controls,
        }
    )  # fmt: skip


def _found(nodes):
    scores = [*findings.CONTROLS, *(c for several in findings.CONTROLS.values() for c in several)]
    table = association.associations(nodes, scores)
    summary = association.over_networks(table)
    return findings.of_networks(nodes, table, summary, dict.fromkeys(scores, 2), **POWER).set_index(
        "quantity"
    )


def test_planted_effects_and_their_excess_are_found():
    found = _found(_nodes(150, effect=0.5, polarity=0.3))
    for outcome in findings.PRIMARY:
        estimate = found.loc[f"trained_{outcome}_partial_correlation"]
        assert estimate["ci90_low"] > 0.1
        excess = found.loc[f"trained_{outcome}_excess"]
        assert excess["estimate"] == pytest.approx(estimate["estimate"], abs=0.12)
        assert excess["ci90_low"] > 0


@pytest.mark.parametrize(("effect", "polarity"), [(0.0, 0.0), (0.8, 0.5)])
def test_power_is_that_of_the_plant_and_not_of_the_data_s_own_effect(effect, polarity):
    many = _found(_nodes(500, effect, polarity))
    few = _found(_nodes(8, effect, polarity))
    for outcome in findings.PRIMARY:
        assert many.loc[f"planted_trained_{outcome}", "estimate"] >= 0.8
        assert few.loc[f"planted_trained_{outcome}", "estimate"] <= 0.5


def test_draws_without_a_plant_find_nothing_whatever_the_data_hold():
    nodes = _nodes(250, effect=0.8, polarity=0.5)
    for outcome in findings.PRIMARY:
        plant = findings._Planted(nodes, "trained", outcome, 0.0)
        drawn = [plant(rng).estimate for rng in np.random.default_rng(0).spawn(10)]
        assert np.mean(drawn) == pytest.approx(0, abs=0.04)


def _signings(n_networks, slope, n=60):
    rng = np.random.default_rng(0)
    m = n_networks * n
    frustration = rng.integers(0, 5, m)
    outcomes = {k: slope * frustration + rng.normal(size=m) for k in findings.SIGNING_OUTCOMES}
    return pd.DataFrame(
        {
            "network": np.repeat(range(n_networks), n),
            "signing": np.tile(range(n), n_networks),
            "law": "own",
            "frustration": frustration,
            "negative_edges": frustration + rng.integers(0, 5, m),
            **outcomes,
        }
    )  # fmt: skip


@pytest.mark.parametrize("n_networks", [1, 30])
def test_effects_of_signs_have_their_direction_and_power(n_networks):
    found, effects = findings.of_signings(_signings(n_networks, -1.0), **POWER)
    found = found.set_index("quantity")
    assert found.index.is_unique
    row = found.loc["frustration_abscissa_own"]
    assert row["ci_high"] < -0.5
    assert row["n"] == (60 if n_networks == 1 else 30)
    assert len(effects) == n_networks * len(findings.SIGNING_OUTCOMES)
    beyond = found.loc["negative_edges_abscissa_own"]
    assert beyond["ci_low"] - 0.05 < 0 < beyond["ci_high"] + 0.05
    power = found.loc["planted_frustration_abscissa_greatest", "estimate"]
    assert power >= 0.9 if n_networks > 1 else power < 0.8
