"""Tables of heads where effects are missing or too few."""

import numpy as np
import pandas as pd
import pytest
from patchwork.analysis.heads import effect_tables

NAMES = {"dataset": "d", "backbone": "b", "protocol": "p", "metric": "loss"}


def sweep(seeds: int = 3, n: int = 20) -> pd.DataFrame:
    """Null effects of 3 layers of 4 heads but for head 2 of layer 1."""
    cells = [np.arange(3), np.arange(4), np.arange(seeds), np.arange(n)]
    keys = ["layer", "head", "seed", "example"]
    frame = pd.MultiIndex.from_product(cells, names=keys).to_frame(index=False)
    planted = 2.0 * ((frame["layer"] == 1) & (frame["head"] == 2))
    noise = np.random.default_rng(0).standard_normal(len(frame))
    return frame.assign(**NAMES, baseline="zero", effect=planted + noise)


def patches(seeds: int, n: int) -> pd.DataFrame:
    frame = sweep(seeds, n).rename(columns={"head": "position"})
    return frame.assign(component="z", direction="x", base=0.0, source=1.0)


def test_a_head_without_any_effect_keeps_its_place_in_the_grid():
    frame = sweep()
    gone = (frame["layer"] == 1) & (frame["head"] == 0)
    holed = frame.assign(effect=frame["effect"].where(~gone))
    table = effect_tables.ablation_table(holed, seed=0).set_index(["layer", "head"])
    assert list(table.index) == list(np.ndindex(3, 4))
    row = table.loc[(1, 0)]
    assert row[["effect", "ci_low", "ci_high", "p", "q", "p_family"]].isna().all()
    assert (row["n"], row["confirmed"], row["seeds"]) == (0, False, 3)
    assert table.index[table["confirmed"]].tolist() == [(1, 2)]
    without = effect_tables.ablation_table(frame[~gone], seed=0).set_index(["layer", "head"])
    pd.testing.assert_frame_equal(table.drop((1, 0)), without)


def test_a_head_without_some_effects_is_refused():
    frame = sweep()
    frame.loc[5, "effect"] = np.nan
    with pytest.raises(ValueError, match="differences holds nan"):
        effect_tables.ablation_table(frame, seed=0)
    with pytest.raises(ValueError, match="effect is nan in every row"):
        effect_tables.ablation_table(frame.assign(effect=np.nan), seed=0)


def test_a_patch_without_any_effect_keeps_its_place_in_the_grid():
    frame = patches(3, 20)
    gone = (frame["layer"] == 2) & (frame["position"] == 3)
    table = effect_tables.patching_table(frame.assign(effect=frame["effect"].where(~gone)))
    row = table.set_index(["layer", "position"]).loc[(2, 3)]
    assert len(table) == 12
    assert row[["effect", "recovery", "ci_low", "ci_high", "p", "q"]].isna().all()
    assert row["n"] == 0


def test_one_pair_of_one_seed_has_a_recovery_without_an_interval():
    frame = patches(1, 1)
    table = effect_tables.patching_table(frame)
    np.testing.assert_allclose(table["recovery"], frame["effect"])
    assert table[["ci_low", "ci_high", "p", "q"]].isna().all(axis=None)
    assert (table[["n", "seeds"]] == 1).all(axis=None)
