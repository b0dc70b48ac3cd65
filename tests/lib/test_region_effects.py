"""Attention against ablation: agreement is found where it was planted, and not where it was not."""

import numpy as np
import pandas as pd
import pytest
from patchwork.analysis.selectivity import region_effects, region_tables
from patchwork.statistics import Resampling
from scipy import stats

RUN = {"dataset": "d", "backbone": "b", "protocol": "p"}
FEW = Resampling(200)
DEPTH, HEADS = 4, 3


def planted(related: bool, seeds: int = 4, n: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Verdicts on the chirp and effects; heads 0 look, and they matter if related, else heads 1."""
    verdicts, effects = [], []
    for seed in range(seeds):
        rng = np.random.Generator(np.random.Philox(seed))
        for layer in range(DEPTH):
            for head in range(HEADS):
                looks, matters = head == 0, head == (0 if related else 1)
                place = RUN | {"seed": seed, "layer": layer, "head": head}
                ratio = (4 if looks else 1) + 0.3 * rng.random()
                for region in ("chirp", "text"):
                    hit = looks and (region == "chirp" or layer == 0)
                    verdicts.append(
                        place
                        | {"state": "tuned", "variant": "cls", "region": region}
                        | {"ratio": ratio, "passes": hit}
                    )
                values = (0.2 if matters else 0.0) + 0.05 * rng.standard_normal(n)
                effects.append(
                    pd.DataFrame({"example": range(n), "effect": values, "clean": 2.0}).assign(
                        **place, groups="heads", baseline="zero", metric="m"
                    )
                )
    return pd.DataFrame(verdicts), pd.concat(effects, ignore_index=True)


def heads_of(related: bool) -> pd.DataFrame:
    return region_effects.looks_and_matters(*planted(related), "chirp", resampling=FEW)


def test_each_head_of_each_run_is_there_once():
    heads = heads_of(True)
    assert len(heads) == 4 * DEPTH * HEADS
    assert set(heads.query("looks and layer == 0")["kind"]) == {region_tables.KINDS[1]}
    assert set(heads.query("looks and layer > 0")["kind"]) == {region_tables.KINDS[0]}
    assert heads.query("looks")["matters"].all()
    assert heads.query("matters")["effect"].mean() == pytest.approx(10, abs=1)
    verdicts, effects = planted(True)
    with pytest.raises(ValueError, match="'sky'"):
        region_effects.looks_and_matters(verdicts, effects, "sky")


def test_planted_agreement_is_found():
    heads = heads_of(True)
    table = region_effects.agreement_table(heads, FEW).iloc[0]
    found = (
        heads[["looks", "matters"]]
        .value_counts()
        .reindex([(True, True), (True, False), (False, True), (False, False)], fill_value=0)
    )
    assert table[list(region_effects.COUNTS)].tolist() == found.tolist()
    assert table["looks_matters"] == 4 * DEPTH
    assert table["odds_ratio"] > 20
    assert table["ci_low"] > 1
    rows = region_effects.agreement_findings(heads, FEW).set_index("quantity")
    rank = rows.loc["attention_effect_rank_correlation"]
    per_seed = [
        stats.spearmanr(part["ratio"], part["effect"]).statistic
        for _, part in heads.groupby("seed")
    ]
    assert rank["estimate"] == pytest.approx(np.mean(per_seed))
    assert 0.3 < rank["ci_low"] < rank["estimate"] < rank["ci_high"] <= 1
    assert rows.loc["attention_predicts_mattering_auroc", "estimate"] > 0.95
    assert rows.loc["share_of_heads_that_look", "estimate"] == pytest.approx(1 / 3)
    assert rows.loc["looks_matters_log_odds_ratio", "seeds"] == 4


def test_unrelated_attention_predicts_nothing():
    rows = region_effects.agreement_findings(heads_of(False), FEW).set_index("quantity")
    assert rows.loc["looks_matters_log_odds_ratio", "estimate"] < 0
    assert rows.loc["attention_predicts_mattering_auroc", "estimate"] < 0.5
    assert rows.loc["attention_effect_rank_correlation", "ci_low"] < 0.2


def test_what_cannot_be_computed_is_left_out():
    heads = heads_of(True).assign(matters=False)
    rows = region_effects.agreement_findings(heads, FEW).set_index("quantity")
    auroc = rows.loc["attention_predicts_mattering_auroc"]
    assert np.isnan(auroc["estimate"])
    assert auroc["seeds"] == 0
    assert np.isfinite(rows.loc["looks_matters_log_odds_ratio", "estimate"])
