"""Attention against ablation: agreement is found where it was planted, and not where it was not."""

import numpy as np
import pandas as pd
import pytest
from patchwork.analysis.selectivity import region_tables
from scipy import stats

RUN = {"dataset": "d", "backbone": "b", "protocol": "p"}
DEPTH, HEADS = 4, 3


def planted(related: bool, seeds: int = 4, n: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tests on the chirp and effects: heads 0 attend; they have effects if related, or heads 1."""
    tests, effects = [], []
    for seed in range(seeds):
        rng = np.random.Generator(np.random.Philox(seed))
        for layer in range(DEPTH):
            for head in range(HEADS):
                attends, has_effect = head == 0, head == (0 if related else 1)
                place = RUN | {"seed": seed, "layer": layer, "head": head}
                ratio = (4 if attends else 1) + 0.3 * rng.random()
                for region in ("chirp", "text"):
                    hit = attends and (region == "chirp" or layer == 0)
                    tests.append(
                        place
                        | {"state": "tuned", "variant": "cls", "region": region}
                        | {"ratio": ratio, "passes": hit}
                    )
                values = (0.2 if has_effect else 0.0) + 0.05 * rng.standard_normal(n)
                effects.append(
                    pd.DataFrame({"example": range(n), "effect": values, "clean": 2.0}).assign(
                        **place, groups="heads", baseline="zero", metric="m"
                    )
                )
    return pd.DataFrame(tests), pd.concat(effects, ignore_index=True)


def heads_of(related: bool) -> pd.DataFrame:
    return region_tables.attention_and_effect(*planted(related), "chirp")


def test_each_head_of_each_run_is_there_once():
    heads = heads_of(True)
    assert len(heads) == 4 * DEPTH * HEADS
    assert set(heads.query("attends and layer == 0")["kind"]) == {region_tables.KINDS[1]}
    assert set(heads.query("attends and layer > 0")["kind"]) == {region_tables.KINDS[0]}
    assert heads.query("attends")["has_effect"].all()
    assert heads.query("has_effect")["effect"].mean() == pytest.approx(10, abs=1)
    tests, effects = planted(True)
    with pytest.raises(ValueError, match="'sky'"):
        region_tables.attention_and_effect(tests, effects, "sky")


def test_planted_agreement_is_found():
    heads = heads_of(True)
    table = region_tables.agreement_table(heads).iloc[0]
    found = (
        heads[["attends", "has_effect"]]
        .value_counts()
        .reindex([(True, True), (True, False), (False, True), (False, False)], fill_value=0)
    )
    assert table[list(region_tables.COUNTS)].tolist() == found.tolist()
    assert table["attends_with_effect"] == 4 * DEPTH
    assert table["odds_ratio"] > 20
    assert table["ci_low"] > 1
    rows = region_tables.agreement_findings(heads).set_index("quantity")
    rank = rows.loc["attention_effect_rank_correlation"]
    per_seed = [
        stats.spearmanr(part["ratio"], part["effect"]).statistic
        for _, part in heads.groupby("seed")
    ]
    assert rank["estimate"] == pytest.approx(np.mean(per_seed))
    assert 0.3 < rank["ci_low"] < rank["estimate"] < rank["ci_high"] <= 1
    assert rows.loc["attention_predicts_effect_auroc", "estimate"] > 0.95
    assert rows.loc["share_of_heads_that_attend", "estimate"] == pytest.approx(1 / 3)
    assert rows.loc["attention_effect_log_odds_ratio", "seeds"] == 4


def test_unrelated_attention_predicts_nothing():
    rows = region_tables.agreement_findings(heads_of(False)).set_index("quantity")
    assert rows.loc["attention_effect_log_odds_ratio", "estimate"] < 0
    assert rows.loc["attention_predicts_effect_auroc", "estimate"] < 0.5
    assert rows.loc["attention_effect_rank_correlation", "ci_low"] < 0.2


def test_what_cannot_be_computed_is_left_out():
    heads = heads_of(True).assign(has_effect=False)
    rows = region_tables.agreement_findings(heads).set_index("quantity")
    auroc = rows.loc["attention_predicts_effect_auroc"]
    assert np.isnan(auroc["estimate"])
    assert auroc["seeds"] == 0
    assert np.isfinite(rows.loc["attention_effect_log_odds_ratio", "estimate"])
