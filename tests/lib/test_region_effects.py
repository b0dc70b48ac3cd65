"""Attention against ablation: agreement is found where it was planted, and not where it was not."""

import numpy as np
import pandas as pd
import pytest
from patchwork.analysis.heads import competence
from patchwork.analysis.selectivity import region_tables
from patchwork.statistics.power import Planted
from patchwork.tables import FINDINGS
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
                    before = {"state": "untouched", "ratio": rng.random(), "passes": False}
                    tests.append(tests[-1] | before)
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


CORRELATION = "attention_effect_partial_rank_correlation"


def test_planted_agreement_is_found():
    heads = heads_of(True)
    planted = {CORRELATION: Planted(0.6, (0.3, 1))}
    rows = region_tables.agreement_findings(heads, planted).set_index("quantity")
    assert list(rows.reset_index()) == list(FINDINGS)
    rank = rows.loc[CORRELATION]
    per_seed = []
    for _, part in heads.groupby("seed"):
        ranks = part[["ratio", "effect"]].rank()
        within = ranks - ranks.groupby(part["layer"]).transform("mean")
        per_seed.append(stats.pearsonr(within["ratio"], within["effect"]).statistic)
    assert rank["estimate"] == pytest.approx(np.tanh(np.mean(np.arctanh(per_seed))))
    assert 0.3 < rank["ci90_low"] < rank["estimate"] < rank["ci90_high"] <= 1
    assert rows.loc["share_of_heads_that_attend", "estimate"] == pytest.approx(1 / 3)
    assert rows.loc[f"{CORRELATION}_found", "estimate"] > 0.5
    before = rows.loc[f"{CORRELATION}_untouched"]
    assert before["ci90_low"] < 0 < before["ci90_high"], "attention before had nothing planted"


def test_attention_that_goes_with_depth_alone_predicts_nothing():
    heads = heads_of(True)
    rng = np.random.default_rng(0)
    depth = heads["layer"] + 0.1 * rng.random(len(heads))
    deep = heads.assign(ratio=depth, effect=heads["layer"] + 0.1 * rng.random(len(heads)))
    row = region_tables.agreement_findings(deep, {}).set_index("quantity").loc[CORRELATION]
    assert stats.spearmanr(deep["ratio"], deep["effect"]).statistic > 0.8
    assert row["ci90_low"] < 0 < row["ci90_high"]


def test_unrelated_attention_predicts_nothing():
    rows = region_tables.agreement_findings(heads_of(False), {}).set_index("quantity")
    assert rows.loc[CORRELATION, "ci90_low"] < 0.2


def test_networks_that_have_not_learnt_their_task_are_left_out_and_counted():
    rng = np.random.default_rng(1)
    parts = []
    for seed, noise in ((0, 1.0), (1, 500.0), (2, 1.0)):
        start = rng.uniform(0, 45, 200)
        found = start + noise * rng.standard_normal(200)
        parts.append(pd.DataFrame({"start_s": start, "predicted_start_s": found, "seed": seed}))
    frame = pd.concat(parts).assign(**RUN)
    frame.loc[frame.index[:3], "start_s"] = np.nan  # no chirp
    table = competence.competence_table(frame, {"label": "start_s", "r_least": 0.9})
    assert table["competent"].tolist() == [True, False, True]
    row = competence.competence_findings(table).iloc[0]
    assert (row["estimate"], row["ci90_low"], row["seeds"]) == (2, 2, 3)
    heads = heads_of(True)
    assert set(competence.competent(heads, table)["seed"]) == {0, 2}
    # Of a condition without any, all are described.
    none = table.assign(competent=False)
    assert set(competence.competent(heads, none)["seed"]) == {0, 1, 2}
    assert competence.competence_findings(none)["estimate"].tolist() == [0]
