import intervention_models as models
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from patchwork.interventions import (
    LogitDifference,
    PatchGrid,
    head_ablation_sweep,
    heat_map,
    load,
    patch_sweep,
)

IDS = torch.randint(0, 50, (4, 6), generator=torch.Generator().manual_seed(0))
METRIC = LogitDifference(torch.arange(4), torch.arange(4) + 25)


@pytest.fixture(scope="module")
def ablated():
    return head_ablation_sweep(models.gpt2(), IDS, METRIC, baselines=("mean", "zero"))


@pytest.fixture(scope="module")
def patched():
    grid = PatchGrid(("mlp_out", "head_out", "resid_pre"), (5, 2))
    return patch_sweep(models.gpt2(), IDS.flip(0), IDS, METRIC, grid=grid)


def test_results_come_back_as_they_were(ablated, patched, tmp_path):
    ablated.save(tmp_path / "a.parquet")
    back = load(tmp_path / "a.parquet")
    assert back.baselines == ablated.baselines
    assert back.metadata == ablated.metadata
    assert np.array_equal(back.values, ablated.values)
    assert np.array_equal(back.clean, ablated.clean)
    patched.save(tmp_path / "p.parquet")
    back = load(tmp_path / "p.parquet")
    assert (back.positions, back.direction) == (patched.positions, patched.direction)
    assert back.metadata == patched.metadata
    assert list(back.values) == list(patched.values)
    assert all(np.array_equal(back.values[name], patched.values[name]) for name in back.values)
    assert np.array_equal(back.base, patched.base)
    assert np.array_equal(back.source, patched.source)
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="holds no result of a sweep"):
        load(tmp_path / "other.parquet")


def test_frames_say_how_they_were_made(ablated, patched):
    assert ablated.frame().attrs["path"] == "fast"
    assert patched.frame(per_example=True).attrs["architecture"] == "GPT-2"


def test_maps_show_the_mean_effects(ablated, patched):
    shown = heat_map(ablated, "zero").collections[0].get_array()
    np.testing.assert_allclose(shown, ablated.values[1].mean(-1))
    axes = heat_map(patched, tokens=["last", "second"], axes=plt.figure().subplots())
    np.testing.assert_allclose(axes.collections[0].get_array(), patched.recovery("mlp_out"))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["last", "second"]
    heads = heat_map(patched, "head_out", axes=plt.figure().subplots())
    assert heads.get_yticklabels()[5].get_text() == "1.1"
    with pytest.raises(ValueError, match="allowed is mean, zero"):
        heat_map(ablated, "noise")
    with pytest.raises(ValueError, match="tokens has 1 names; allowed is 2"):
        heat_map(patched, tokens=["one"])
    plt.close("all")
