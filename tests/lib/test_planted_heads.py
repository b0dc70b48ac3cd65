"""A head wired by hand to carry the answer is found; a dead one is not; the null is calibrated."""

import intervention_models as models
import numpy as np
import pytest
import torch
from patchwork import interventions
from scipy import stats

CARRIER, DEAD = (1, 2), (0, 1)


@pytest.fixture(scope="module")
def effects():
    """Squared error of a read-out that one head alone feeds, with that head ablated and others."""
    model, generator = models.timm_vit(depth=2), torch.Generator().manual_seed(3)
    images = torch.randn(60, 3, 32, 32, generator=generator, dtype=torch.float64)
    images += torch.randn(60, 1, 1, 1, generator=generator, dtype=torch.float64)
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
    noise = 0.05 * torch.randn(60, generator=generator, dtype=torch.float64)

    def loss(output, rows):
        return (output[:, 0] - target[rows] - noise[rows]) ** 2

    return interventions.head_ablation_sweep(model, images, loss, baselines=("zero", "mean"))


def test_the_carrier_ranks_first_with_an_interval_that_excludes_zero(effects):
    means = effects.values.mean(-1)
    for i, _ in enumerate(effects.baselines):
        assert np.unravel_index(means[i].argmax(), means[i].shape) == CARRIER
        sample = effects.values[i][CARRIER]
        interval = stats.bootstrap((sample,), np.mean, rng=np.random.default_rng(0))
        assert interval.confidence_interval.low > 0


def test_a_dead_head_has_no_effect_at_all(effects):
    assert np.abs(effects.values[:, DEAD[0], DEAD[1]]).max() < 1e-12
    others = np.delete(effects.values.reshape(2, 6, -1), [1, 5], axis=1)
    assert np.abs(others).mean(-1).max() < effects.values[:, *CARRIER].mean()


def test_null_heads_are_flagged_at_the_nominal_rate():
    """Heads whose effect has mean zero by symmetry: p < 0.05 in 5 % of them, binomially."""
    p_values = []
    for seed in range(12):
        model = models.timm_vit(seed, depth=3)
        images = models.images(24, seed=seed)
        signs = torch.from_numpy(np.random.default_rng(seed).choice([-1.0, 1.0], (9, 24)))
        sweep = interventions.head_ablation_sweep(
            model, images, models.vit_metric, baselines=("zero",)
        )
        flipped = sweep.values[0].reshape(9, 24) * signs.numpy()
        p_values += list(stats.ttest_1samp(flipped, 0, axis=1).pvalue)
    flagged = sum(p < 0.05 for p in p_values)
    low, high = stats.binom.interval(0.999, len(p_values), 0.05)
    assert low <= flagged <= high
