"""Likeness of heads between tasks: planted similarities are found, and counts have intervals."""

import numpy as np
import pandas as pd
import pytest
from patchwork.analysis.heads import task_tables

CONTROL = ("raw", "full")
EXCESS = "greatest_layer_similarity_excess"


def compared(pairs: dict, seed: int, network=("grown", "p"), layers=2) -> pd.DataFrame:
    """Layers of two heads, as alike between two tasks as given."""
    rows = [
        {"backbone": network[0], "protocol": network[1], "seed": seed, "one": one, "other": other,
         "layer": layer, "head": head, "map_correlation": 0.0, "n": 8,
         "linear_cka": value[layer] if isinstance(value, tuple) else value}
        for (one, other), value in pairs.items()
        for layer, head in np.ndindex(layers, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def found_in(frame):
    table = task_tables.similarity_findings(frame, CONTROL, planted=0.2)
    return table.set_index(["backbone", "quantity"])


def test_similarity_counts_seeds_and_keeps_the_backbone_apart():
    frame = pd.concat(
        compared({("x", "y"): 0.6 + 0.01 * seed, ("x", "untouched"): 0.1}, seed)
        for seed in range(3)
    )
    table = task_tables.similarity_table(frame)
    assert set(table["compared"]) == {"tasks", "untouched"}
    assert (table["seeds"] == 3).all()
    found = found_in(frame).loc["grown"]
    assert found.loc["cross_task_head_similarity", "estimate"] == pytest.approx(0.61)
    assert found.loc["similarity_to_untouched", "estimate"] == pytest.approx(0.1)


def test_the_excess_is_that_of_the_same_tasks_and_seeds_in_the_layer_where_it_is_greatest():
    """The control saw one pair of three, named the other way round; its level differs by seed."""
    frame = pd.concat(
        [
            compared(
                {("x", "y"): (0.5 - level, 0.9 - level), ("x", "z"): 0.1, ("y", "z"): 0.1}, seed
            ).assign(linear_cka=lambda t, seed=seed: t["linear_cka"] + 0.01 * (-1) ** seed)
            for seed, level in enumerate([0.0, 0.1, 0.2])
        ]
        + [
            compared({("y", "x"): 0.6 - level}, seed, CONTROL)
            for seed, level in enumerate([0.0, 0.1, 0.2])
        ]
    )
    found = found_in(frame)
    assert EXCESS not in found.loc["raw"].index
    excess = found.loc[("grown", EXCESS)]
    assert excess["seeds"] == 3
    assert excess["estimate"] == pytest.approx(0.3, abs=0.01)
    assert 0 < excess["ci_low"] < 0.3 < excess["ci_high"]
    assert found.loc[("grown", f"{EXCESS}_power"), "estimate"] > 0.9


def test_the_greatest_of_layers_without_excess_is_rarely_found():
    hits = 0
    for draw in range(60):
        values = np.random.default_rng(draw).normal(0, 0.1, (5, 6))
        hits += task_tables.greatest_layer(values).low90 > 0
    assert hits <= 9  # one-sided 5 % for all layers together; 0.999 quantile of the binomial


def test_a_head_is_agnostic_if_no_two_tasks_tell_it_apart():
    frame = pd.concat(compared({("x", "y"): 0.95, ("x", "z"): 0.95}, seed) for seed in range(2))
    one = (frame["layer"] == 1) & (frame["head"] == 0) & (frame["other"] == "z")
    frame.loc[one, "linear_cka"] = 0.3
    share = found_in(frame).loc[("grown", "share_of_agnostic_heads")]
    assert share["estimate"] == pytest.approx(0.75)
    same = found_in(frame.assign(linear_cka=0.95)).loc[("grown", "share_of_agnostic_heads")]
    assert same["ci_low"] < same["estimate"] == 1  # a count of all has an interval


def test_intervals_of_similarities_end_where_similarities_do():
    frame = pd.concat(compared({("x", "y"): 0.05 + 0.9 * seed}, seed) for seed in range(2))
    row = found_in(frame).loc[("grown", "cross_task_head_similarity")]
    assert row[["ci_low", "ci_high"]].tolist() == [-1, 1]
    alone = found_in(frame[frame["seed"] == 0])
    assert alone["ci_low"].isna().all(), "one seed says nothing about the next"


@pytest.mark.parametrize(("shared", "low", "high"), [(1.0, 0.7, 1), (0.0, -0.4, 0.4)])
def test_heads_that_matter_for_two_tasks_agree(shared, low, high):
    rng = np.random.default_rng(3)
    parts = []
    for seed in range(3):
        common = rng.exponential(size=16)
        for dataset in ("x", "y"):
            own = shared * common + (1 - shared) * rng.exponential(size=16)
            own = own + 0.05 * rng.standard_normal(16)
            for example in range(3):
                parts.append(pd.DataFrame({
                    "dataset": dataset, "backbone": "b", "protocol": "p", "seed": seed,
                    "layer": np.arange(16) // 4, "head": np.arange(16) % 4, "baseline": "mean",
                    "example": example, "effect": own * (2 if dataset == "x" else 1),
                }))  # fmt: skip
    table = task_tables.agreement_findings(pd.concat(parts))
    assert len(table) == 1
    assert low < table["estimate"][0] < high
    assert table["seeds"][0] == 3
