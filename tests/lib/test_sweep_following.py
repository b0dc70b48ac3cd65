"""Sweeps against plain ones on models that differ from their blocks where it is hard to see."""

import intervention_models as models
import numpy as np
import peft
import pytest
import torch
from patchwork.interventions import (
    LogitDifference,
    PatchGrid,
    Plan,
    ablate,
    attribution_sweep,
    group_ablation_sweep,
    head_ablation_sweep,
    patch,
    patch_sweep,
)
from patchwork.interventions.fast_path import following
from torch import nn
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

PLAIN = Plan(path="plain")
IMAGES = models.images(6)


def ids(n=24, low=1):
    return torch.randint(low, 50, (n, 9), generator=torch.Generator().manual_seed(1))


def first(output, rows):
    return models.logits(output)[:, 0]


def path_of(model, inputs, metric, plan=None):
    """The path that a sweep takes by itself; its numbers must be those of the plain one."""
    own, plain = (
        head_ablation_sweep(model, inputs, metric, baselines=("zero",), plan=how)
        for how in (plan, PLAIN)
    )
    scale = np.abs(plain.values).max()
    assert scale > 0
    assert np.abs(own.values - plain.values).max() <= 1e-9 * scale
    return own.metadata["path"]


class OnePlus(nn.LayerNorm):
    def forward(self, x):
        return F.layer_norm(x, self.normalized_shape, 1 + self.weight, self.bias, self.eps)


class Squashed(nn.Linear):
    def forward(self, x):
        return super().forward(torch.tanh(x))


def test_a_norm_of_another_kind_takes_no_corrections():
    assert path_of(models.timm_vit(norm_layer=OnePlus), IMAGES, first) == "fast"
    model = models.timm_vit()
    norm = model.blocks[1].norm2
    norm.forward = lambda x: type(norm).forward(norm, x) * 1.5
    assert path_of(model, IMAGES, first) == "fast"


@pytest.mark.parametrize(
    ("name", "path"), [("attn.proj", "plain"), ("attn.qkv", "fast"), ("mlp.fc1", "fast")]
)
def test_layers_that_are_not_linear_are_not_taken_for_linear(name, path):
    model = models.timm_vit()
    for block in model.blocks:
        block.get_submodule(name).__class__ = Squashed
    assert path_of(model, IMAGES, first) == path
    grid = PatchGrid(components=("head_out",))
    own, plain = (
        patch_sweep(model, IMAGES[:3], IMAGES[3:], first, grid=grid, plan=how)
        for how in (None, PLAIN)
    )
    assert np.abs(own.values["head_out"] - plain.values["head_out"]).max() <= 1e-12


class Capped(GPT2LMHeadModel):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = torch.tanh(output.logits)
        return output


def language_models():
    capped = models.gpt2()
    capped.__class__ = Capped
    tuned = peft.get_peft_model(
        models.gpt2(), peft.LoraConfig(r=2, target_modules=["c_attn", "lm_head"])
    )
    generator = torch.Generator().manual_seed(5)
    for name, weight in tuned.named_parameters():
        if "lora" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.3
    hooked = models.gpt2()
    hooked.lm_head.register_forward_hook(lambda module, args, output: 2 * output)
    return {"capped": capped, "tuned": tuned.double().eval(), "hooked": hooked}


@pytest.mark.parametrize("name", ["capped", "tuned", "hooked"])
def test_attribution_asks_the_model_for_its_logits(name):
    model, clean = language_models()[name], ids(6)
    corrupted = clean.clone()
    corrupted[:, 3] = (clean[:, 3] + 1) % 50
    metric = LogitDifference(clean[:, 0], (clean[:, 0] + 1) % 50)
    short = attribution_sweep(model, clean, corrupted, metric)
    whole = attribution_sweep(model, clean, corrupted, lambda out, rows: metric(out, rows))
    assert np.abs(short.base - whole.base).max() <= 1e-12
    for component, values in whole.values.items():
        assert np.abs(values).max() > 1e-3
        assert np.abs(short.values[component] - values).max() <= 1e-12


def test_a_mask_of_the_models_own_shows_whatever_the_metric():
    tokens = ids()
    tokens[1:, :3] = 0
    model = models.OwnMask(models.gpt2())
    with torch.no_grad():
        answer = model(tokens).logits[:, -1].argmax(-1)
    right = head_ablation_sweep(model, tokens, lambda o, r: o.logits[:, -1].argmax(-1) == answer[r])
    assert right.metadata["path"] == "plain"
    assert path_of(model, tokens, lambda o, r: o.logits[:, -1].softmax(-1)[:, 7] * 1e-9) == "plain"


class MaskedPatches(models.Inner):
    """Hides empty patches, image by image."""

    def forward(self, images):
        vit, patches = self.inner, images.unfold(2, 16, 16).unfold(3, 16, 16)
        seen = (patches.abs().amax((1, 4, 5)) > 0).flatten(1)
        seen = torch.cat([torch.ones(len(images), 1, dtype=torch.bool), seen], 1)[:, None, None]
        x = vit._pos_embed(vit.patch_embed(images))
        for block in vit.blocks:
            x = block(x, attn_mask=seen)
        return vit.forward_head(vit.norm(x))


def test_every_image_is_compared():
    images = models.images(6)
    images[2:, :, :16, :16] = 0
    for some in (images, images.flip(0)):
        assert path_of(MaskedPatches(models.timm_vit()), some, first) == "plain"
    assert path_of(MaskedPatches(models.timm_vit()), IMAGES, first) == "fast"


def test_only_published_classes_are_checked_by_one_example():
    model = models.timm_vit()
    assert following.is_published(model)
    assert following.is_published(models.hf_vit())
    assert not following.is_published(Features(models.timm_vit()))
    assert not following.is_published(models.OwnMask(models.gpt2()))
    handle = model.norm.register_forward_hook(lambda module, args, output: output)
    assert not following.is_published(model)
    handle.remove()

    # Hooks that tell images apart, behind the blocks.
    bright = []
    model.register_forward_pre_hook(
        lambda module, args: bright.append(1 + args[0].mean((1, 2, 3), keepdim=True)[:, :, 0, 0])
    )
    model.head.register_forward_hook(lambda module, args, output: output * bright[-1])
    assert path_of(model, IMAGES, first) == "plain"


def test_recording_hooks_of_transformers_are_allowed():
    model = models.hf_vit()
    with torch.no_grad():
        model(IMAGES, output_attentions=True, output_hidden_states=True)
    assert path_of(model, IMAGES, first) == "fast"


class Features(models.Inner):
    def forward(self, images):
        return self.inner.forward_features(images)


def test_a_maximum_over_tokens_is_not_taken_for_one_of_them():
    path_of(Features(models.timm_vit()), IMAGES, lambda o, r: o[:, :2, 0].amax(1), Plan(chunk=1))
    path_of(models.gpt2(), ids(6), lambda o, r: o.logits[:, -2:, 3].amax(1), Plan(chunk=1))


def test_a_metric_may_squeeze():
    one = models.timm_vit(num_classes=1)
    for chunk in (None, 1, 5):
        path_of(one, IMAGES, lambda output, rows: output.squeeze(), Plan(chunk=chunk))


def test_a_block_used_twice_is_not_two():
    model = models.timm_vit()
    model.blocks[2] = model.blocks[1]
    sweep = head_ablation_sweep(model, IMAGES, first)
    assert "several blocks" in sweep.metadata["reason"]


@pytest.mark.parametrize(
    "names",
    [
        ["1.head_out", "1.head_out.0"],
        ["*.head_out.*", "1.head_out"],
        ["1.pattern", "1.pattern.0"],
        ["1.pattern.0@0<-1,2", "1.pattern.0@0<-2"],
        ["1.resid_pre", "1.resid_pre@0"],
        ["1.resid_pre@1,2", "1.resid_pre@2,1"],
    ],
)
def test_overlapping_sites_are_refused_in_any_order(names):
    model = models.timm_vit()
    for some in (names, names[::-1]):
        for case in (
            lambda some=some: ablate(model, some),
            lambda some=some: patch(model, some, IMAGES),
            lambda some=some: group_ablation_sweep(model, IMAGES, first, {"all": some}),
        ):
            with pytest.raises(ValueError, match="overlap; allowed is each place once"):
                case()
    ablate(model, ["1.head_out.0", "1.head_out.1", "1.resid_pre@1", "1.resid_pre@2"])


def test_attribution_needs_a_gradient_and_pairs():
    tokens = ids(4)
    with pytest.raises(ValueError, match="metric has no gradient"):
        attribution_sweep(
            models.gpt2(), tokens, tokens.flip(1), lambda o, r: o.logits[:, -1, 0] > 0
        )
    with pytest.raises(ValueError, match="holds no example"):
        attribution_sweep(models.gpt2(), tokens[:0], tokens[:0], lambda o, r: o.logits[:, -1, 0])
