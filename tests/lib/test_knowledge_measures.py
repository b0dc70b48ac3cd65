"""Measures of traced effects find what was planted and hold their error rates."""

import numpy as np
import pandas as pd
import pytest
from patchwork.analysis.knowledge import measures


def test_recovery_covers_the_true_ratio_of_means():
    rng, true, hits = np.random.default_rng(0), 56.0, 0
    n, repetitions = 60, 400
    for _ in range(repetitions):
        gap = rng.normal(2.0, 2.5, n)  # ratios of single facts would have no mean
        effect = true / 100 * gap + rng.normal(0, 1, n)
        found = measures.recovery(effect, gap, np.arange(n))
        hits += found.low90 <= true <= found.high90
    assert 0.855 <= hits / repetitions <= 0.945  # 3 standard errors


def test_recovery_without_a_gap_excludes_nothing():
    rng = np.random.default_rng(1)
    found = measures.recovery(rng.normal(0, 1, 40), rng.normal(0, 1, 40), np.arange(40))
    assert np.isnan([found.low90, found.high90]).all()


def test_a_planted_difference_of_recoveries_is_found():
    rng = np.random.default_rng(2)
    gap = rng.normal(5, 1, 200)
    noise = rng.normal(0, 0.3, (2, 200))
    found = measures.recovery_difference(
        0.5 * gap + noise[0], 0.2 * gap + noise[1], gap, np.repeat(np.arange(5), 40)
    )
    assert found.low90 < 30 < found.high90
    assert found.high90 - found.low90 < 10


@pytest.mark.parametrize("k", [1, 4, 16])
def test_the_participation_ratio_counts_planted_sites(k):
    rng = np.random.default_rng(3)
    effects = rng.normal(0, 1.0, (800, 48))
    effects[:, :k] += 2.0
    assert measures.participation_ratio(effects, 0) == pytest.approx(k, rel=0.15)


def test_the_participation_ratio_of_noise_is_not_defined_or_not_large():
    rng = np.random.default_rng(4)
    found = [measures.participation_ratio(rng.normal(size=(40, 20)), i) for i in range(20)]
    assert np.isnan(found).mean() > 0.2


def test_layers_that_differ_are_named_and_no_others():
    rng = np.random.default_rng(5)
    effects = rng.normal(0, 1, (100, 6, 2))
    effects[:, 2, 1] += 1.0
    p, exceeded = measures.layer_p(effects, 500, 0)
    assert p[2, 1] < 0.01
    assert exceeded == 0
    assert (p[:, 0] > 0.05).all()


def test_layer_p_holds_its_error_rate():
    rng = np.random.default_rng(6)
    wrong = [
        measures.layer_p(rng.normal(size=(20, 4, 2)), 99, i)[0].min() <= 0.1 for i in range(80)
    ]
    assert np.mean(wrong) < 0.2


def test_an_interaction_of_group_and_layer_is_found_and_a_main_effect_is_none():
    rng = np.random.default_rng(7)
    group, seeds = np.tile([True, False], 60), np.repeat(np.arange(4), 30)
    scores = rng.normal(0, 1, (120, 6)) + 2.0 * group[:, None]
    assert measures.interaction_p(scores, group, seeds, 300, 0)[0] > 0.05
    scores[group, 3] += 1.5
    p, exceeded = measures.interaction_p(scores, group, seeds, 300, 0)
    assert p < 0.01
    row = measures.p_interval(exceeded, 300, 120, 4)
    assert row.low90 < row.estimate < row.high90


def curve(half, recovered, component="mlp_out", layers=None):
    n = len(recovered)
    return pd.DataFrame(
        {
            "half": half, "n_sites": range(1, n + 1), "component": component,
            "layer": layers or list(range(n)), "recovered": recovered, "gap": 10.0,
            "enough": np.array(recovered) >= 8,
        }
    )  # fmt: skip


def test_the_localisation_index_is_the_smallest_set_of_both_halves():
    both = pd.concat([curve(0, [5, 9, 9]), curve(1, [4, 5, 6, 8])])
    assert measures.localisation_index(both) == 3
    assert np.isnan(measures.localisation_index(pd.concat([curve(0, [9]), curve(1, [5])])))


def test_the_named_layer_is_that_of_the_first_mlp():
    attn = curve(0, [3], "attn_out", [5])
    mlp = curve(0, [5, 9], layers=[2, 1])
    mlp["n_sites"] += 1
    assert measures.named_layer(pd.concat([attn, mlp, curve(1, [8], layers=[2])])) == 2
    assert measures.named_layer(pd.concat([mlp, curve(1, [8], layers=[1])])) == -1


def test_levels_are_paired_within_seeds():
    frame = pd.DataFrame(
        {"seed": [0, 0, 1, 1, 2], "fan": [1, 3, 1, 3, 1], "x": [5.0, 3.0, 9.0, 6.0, 1.0]}
    )
    assert measures.paired_levels(frame, "fan", (1, 3), "x").tolist() == [2.0, 3.0]
    assert measures.paired_levels(frame, "fan", (1, 2), "x").size == 0
