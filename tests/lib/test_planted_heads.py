"""A head wired by hand to carry the answer is found; a dead one is not; the null is calibrated."""

import intervention_models as models
import numpy as np
import pandas as pd
import pytest
import torch
from patchwork import interventions, statistics
from patchwork.analysis.heads import effect_tables
from scipy import stats

CARRIER, DEAD = (1, 2), (0, 1)
LEVEL, N = 0.05, 60


def wired(seed: int = 0) -> pd.DataFrame:
    """A read-out that one head alone feeds: error when each head is ablated, as share of variance.

    Returns:
        Per-example effects as the workflow gathers them, for one network as one seed.
    """
    model, generator = models.timm_vit(seed, depth=2), torch.Generator().manual_seed(3)
    images = torch.randn(N, 3, 32, 32, generator=generator, dtype=torch.float64)
    images += 3 * torch.randn(N, 1, 1, 1, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
        model.head.weight[0, 0] = 1
        # Only the carrier writes to the one direction that the read-out sees.
        for layer, block in enumerate(model.blocks):
            block.mlp.fc2.weight[0] = block.mlp.fc2.bias[0] = 0
            for head in range(3):
                if (layer, head) != CARRIER:
                    block.attn.proj.weight[0, 8 * head : 8 * head + 8] = 0
        model.blocks[CARRIER[0]].attn.proj.weight[0, 16:24] *= 6
        model.blocks[DEAD[0]].attn.proj.weight[:, 8 * DEAD[1] : 8 * DEAD[1] + 8] = 0
        target = model(images)[:, 0]
    noise = 0.2 * target.std() * torch.randn(N, generator=generator, dtype=torch.float64)

    def loss(output, rows):
        return (output[:, 0] - target[rows] - noise[rows]) ** 2 / target.var()

    sweep = interventions.head_ablation_sweep(model, images, loss, baselines=("zero", "mean"))
    names = {"dataset": "d", "backbone": "b", "protocol": "p", "metric": "loss", "seed": seed}
    return sweep.frame(per_example=True).assign(**names)


@pytest.fixture(scope="module")
def effects() -> pd.DataFrame:
    return wired()


def table_of(frame: pd.DataFrame, baseline: str) -> pd.DataFrame:
    table = effect_tables.ablation_table(frame, seed=0)
    return table[table["baseline"] == baseline].set_index(["layer", "head"])


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_the_carrier_is_found(effects, baseline):
    table = table_of(effects, baseline)
    found = table.loc[CARRIER]
    assert table["effect"].idxmax() == CARRIER
    assert found["ci_low"] > 0
    assert found["q"] < LEVEL
    assert found["p_family"] < LEVEL
    assert bool(found["confirmed"])


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_a_dead_head_is_not_found(effects, baseline):
    here = effects[effects["baseline"] == baseline].set_index(["layer", "head"])["effect"].abs()
    assert here.loc[DEAD].max() < 1e-12
    others = here.drop([DEAD, CARRIER]).groupby(["layer", "head"]).mean()
    assert 1e-9 < others.min() < others.max() < here.loc[CARRIER].mean()
    table = table_of(effects, baseline)
    assert table.loc[DEAD, ["effect", "ci_low", "ci_high"]].tolist() == [0, 0, 0]
    assert table.loc[DEAD, ["p", "q", "p_family"]].tolist() == [1, 1, 1]
    assert not table.loc[DEAD, "confirmed"]


def test_the_carrier_is_found_over_networks_that_share_nothing_else():
    """All other weights are drawn anew, and networks are what is resampled."""
    table = table_of(pd.concat([wired(seed) for seed in range(6)]), "mean")
    assert table["effect"].idxmax() == table["p"].idxmin() == CARRIER
    assert table.loc[CARRIER, "seeds"] == 6
    assert table.loc[CARRIER, "ci_low"] > 0
    assert table.loc[CARRIER, "q"] < LEVEL
    assert table.loc[DEAD, "p"] == 1


def without_effect(n_models: int = 4, n_draws: int = 50):
    """Grids of real effects whose signs are drawn: no head has a mean effect, by symmetry."""
    for seed in range(n_models):
        sweep = interventions.head_ablation_sweep(
            models.timm_vit(seed), models.images(24, seed=seed), models.vit_metric,
            baselines=("zero",),
        )  # fmt: skip
        rng = np.random.default_rng(seed)
        for _ in range(n_draws):
            yield sweep.values[0].reshape(9, 24).T * rng.choice([-1.0, 1.0], (24, 9))


def within_binomial(count: int, n: int) -> bool:
    low, high = stats.binom.interval(0.999, n, LEVEL)
    return low <= count <= high


def test_heads_without_effect_are_flagged_at_the_nominal_rate():
    p = np.array([statistics.effect_table(g, None)["p"] for g in without_effect()])
    assert within_binomial(int((p < LEVEL).sum()), p.size)


def test_grids_without_effect_are_flagged_at_the_nominal_rate():
    """Max-T: any head of the grid; the false discovery rate is then the same thing."""
    families = [statistics.max_t_p(g, n_flips=400).min() for g in without_effect()]
    assert within_binomial(sum(p < LEVEL for p in families), len(families))
    lowest = [statistics.effect_table(g, None)["q"].min() for g in without_effect()]
    assert sum(q < LEVEL for q in lowest) <= stats.binom.ppf(0.999, len(lowest), LEVEL)


def test_beside_a_carrier_few_discoveries_are_false():
    """Share of wrong heads among those flagged, over grids in which one head has an effect."""
    shares = []
    for grid in without_effect(2):
        grid[:, 4] += 2 * grid.std()
        flagged = statistics.effect_table(grid, None)["q"].to_numpy() < LEVEL
        assert flagged[4]
        shares.append((flagged.sum() - 1) / flagged.sum())
    assert np.mean(shares) <= LEVEL + 3 * np.std(shares) / np.sqrt(len(shares))
