"""Other libraries as oracles, on shared random weights in fp32: effects agree to 1e-5."""

import copy

import intervention_models as models
import numpy as np
import pytest
import torch
from patchwork import interventions
from patchwork.interventions import PatchGrid

TOLERANCE = 1e-5


def gpt2_data():
    model = models.gpt2(dtype=torch.float32)
    clean = torch.randint(0, 50, (3, 6), generator=torch.Generator().manual_seed(0))
    corrupted = clean.clone()
    corrupted[:, 2] = (clean[:, 2] + 1) % 50
    return model, clean, corrupted


def difference(output, rows=None):
    output = models.logits(output)
    return output[:, -1, 3] - output[:, -1, 4] if output.ndim == 3 else output[:, 0] - output[:, 1]


def vit_data():
    return models.hf_vit(dtype=torch.float32), models.images(3, torch.float32)


def lens(model, architecture):
    bridges = pytest.importorskip("transformer_lens.model_bridge.sources._bridge_builder")
    return bridges.build_bridge_from_module(
        copy.deepcopy(model), architecture, hf_config=model.config
    )


def ablation_of(model, batch):
    sweep = interventions.head_ablation_sweep(model, batch, difference, baselines=("zero",))
    assert sweep.metadata["path"] == "fast"
    assert np.abs(sweep.values).max() > 1e-2
    return sweep.values[0]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["gpt2", "vit"])
def test_transformer_lens_ablates_alike(kind):
    model, batch = gpt2_data()[:2] if kind == "gpt2" else vit_data()
    name = "GPT2LMHeadModel" if kind == "gpt2" else "ViTForImageClassification"
    bridge, want = lens(model, name), ablation_of(model, batch)
    clean = difference(model(batch))
    for layer, head in np.ndindex(*want.shape[:2]):

        def zero(z, hook, head=head):
            z[:, :, head] = 0
            return z

        hooks = [(f"blocks.{layer}.attn.hook_z", zero)]
        effect = difference(bridge.run_with_hooks(batch, fwd_hooks=hooks)) - clean
        assert np.abs(effect.numpy() - want[layer, head]).max() < TOLERANCE


@torch.no_grad()
def test_transformer_lens_patches_alike():
    model, clean, corrupted = gpt2_data()
    bridge = lens(model, "GPT2LMHeadModel")
    _, cache = bridge.run_with_cache(clean)
    components = ("resid_pre", "attn_out", "mlp_out")
    sweep = interventions.patch_sweep(
        model, clean, corrupted, difference, grid=PatchGrid(components)
    )
    base = difference(model(corrupted))
    for component, want in sweep.values.items():
        for layer, position in np.ndindex(*want.shape[:2]):
            name = f"blocks.{layer}.hook_{component}"

            def swap(x, hook, name=name, position=position):
                x = x.clone()
                x[:, position] = cache[name][:, position]
                return x

            effect = difference(bridge.run_with_hooks(corrupted, fwd_hooks=[(name, swap)])) - base
            assert np.abs(effect.numpy() - want[layer, position]).max() < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("kind", ["gpt2", "vit"])
def test_nnsight_ablates_alike(kind):
    nnsight = pytest.importorskip("nnsight")
    model, batch = gpt2_data()[:2] if kind == "gpt2" else vit_data()
    traced, want = nnsight.NNsight(copy.deepcopy(model)), ablation_of(model, batch)
    clean = difference(model(batch))
    for layer, head in np.ndindex(*want.shape[:2]):
        part = slice(8 * head, 8 * head + 8)
        with traced.trace(batch):
            if kind == "gpt2":
                traced.transformer.h[layer].attn.c_proj.input[:, :, part] = 0
            else:
                traced.vit.layers[layer].attention.o_proj.input[:, :, part] = 0
            logits = traced.output.logits.save()
        effect = difference(logits) - clean
        assert np.abs(effect.numpy() - want[layer, head]).max() < TOLERANCE


@torch.no_grad()
def test_nnsight_patches_alike():
    nnsight = pytest.importorskip("nnsight")
    model, clean, corrupted = gpt2_data()
    traced = nnsight.NNsight(copy.deepcopy(model))
    sweep = interventions.patch_sweep(
        model, clean, corrupted, difference, grid=PatchGrid(("mlp_out",))
    )
    want, base = sweep.values["mlp_out"], difference(model(corrupted))
    for layer, position in np.ndindex(*want.shape[:2]):
        with traced.trace(clean):
            stored = traced.transformer.h[layer].mlp.c_proj.output.save()
        with traced.trace(corrupted):
            traced.transformer.h[layer].mlp.c_proj.output[:, position] = stored[:, position]
            logits = traced.output.logits.save()
        effect = difference(logits) - base
        assert np.abs(effect.numpy() - want[layer, position]).max() < TOLERANCE


def test_captum_ablates_units_alike():
    attribution = pytest.importorskip("captum.attr")
    model, batch = models.timm_vit(dtype=torch.float32), models.images(2, torch.float32)
    layer = model.blocks[1].mlp.act
    tool = attribution.LayerFeatureAblation(lambda x: difference(model(x)), layer)
    # One feature group per hidden unit, over all tokens.
    groups = torch.arange(96).expand(1, 5, 96)
    given = tool.attribute(batch, layer_mask=groups)
    clean = difference(model(batch))
    with torch.no_grad():
        for unit in (0, 17, 95):
            with interventions.ablate(model, f"1.mlp_hidden.{unit}"):
                effect = clean - difference(model(batch))
            torch.testing.assert_close(given[:, 0, unit], effect, rtol=0, atol=TOLERANCE)
