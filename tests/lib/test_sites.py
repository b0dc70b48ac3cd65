import intervention_models as models
import numpy as np
import pytest
import torch
from patchwork import interventions
from patchwork.interventions.fast_path import kernels
from patchwork.models import sites
from patchwork.models.sites import Site
from peft import LoraConfig, get_peft_model
from timm.models.vision_transformer import ResPostBlock
from torch import nn

EVERY = {**models.VITS, "gpt2": models.gpt2}


def inputs_of(name):
    return torch.arange(12).view(2, 6) if name == "gpt2" else models.images(2)


@pytest.mark.parametrize("name", EVERY)
def test_parts_rebuild_the_residual_stream(name):
    model, batch = EVERY[name](), inputs_of(name)
    anatomy = sites.find(model)
    kept = interventions.read(model, ["*.resid_pre", "*.attn_out", "*.mlp_out"], batch)
    for layer in range(anatomy.n_layers - 1):
        parts = anatomy.blocks[layer]
        total = kept[Site("resid_pre", layer)]
        total = total + parts.attn_scale(kept[Site("attn_out", layer)].clone())
        total = total + parts.mlp_scale(kept[Site("mlp_out", layer)].clone())
        torch.testing.assert_close(total, kept[Site("resid_pre", layer + 1)])


@pytest.mark.parametrize("name", EVERY)
def test_heads_are_pattern_times_values_and_add_up_to_attention(name):
    model, batch = EVERY[name](), inputs_of(name)
    anatomy = sites.find(model)
    kept = interventions.read(
        model, ["1.pattern", "*.head_out", "1.attn_out", "*.head_out.2"], batch
    )
    parts = anatomy.blocks[1]
    heads = kept[Site("head_out", 1)]
    weight = kernels.output_weight(parts.proj, heads.shape[-1])
    torch.testing.assert_close(heads @ weight + parts.proj.bias, kept[Site("attn_out", 1)])
    assert torch.equal(
        heads.unflatten(-1, (anatomy.n_heads, -1))[:, :, 2], kept[Site("head_out", 1, 2)]
    )
    pattern = kept[Site("pattern", 1)]
    torch.testing.assert_close(pattern.sum(-1), torch.ones_like(pattern[..., 0]))


def test_old_and_new_names_share_one_vocabulary():
    old, new = sites.find(models.old_vit()), sites.find(models.hf_vit())
    assert old.family != new.family
    for field in ("n_layers", "n_heads", "d_head", "d_model", "d_hidden", "n_prefix"):
        assert getattr(old, field) == getattr(new, field)


@pytest.mark.parametrize("make", [models.timm_vit, models.gpt2, models.hf_vit])
def test_base_wrapped_and_merged_models_share_sites(make):
    base = make()
    batch = inputs_of("gpt2" if make is models.gpt2 else "vit")
    targets = list(sites.find(base).lora_targets)
    lora = get_peft_model(base, LoraConfig(r=2, target_modules=targets)).to(torch.float64).eval()
    for name, parameter in lora.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    names = ["*.resid_pre", "1.head_out.2", "2.mlp_out", "0.pattern.1"]
    before = interventions.read(lora, names, batch)
    weight = kernels.output_weight(sites.find(lora).blocks[0].proj, sites.find(lora).d_model)
    merged = lora.merge_and_unload()
    after = interventions.read(merged, names, batch)
    assert list(before) == list(after)
    for site, value in before.items():
        torch.testing.assert_close(value, after[site])
    torch.testing.assert_close(
        weight, kernels.output_weight(sites.find(merged).blocks[0].proj, len(weight))
    )


def test_names():
    model = models.timm_vit()
    assert sites.resolve(model, "1.head_out.2@0,3") == [Site("head_out", 1, 2, (0, 3))]
    assert sites.resolve(model, "2.pattern.1@0<-3,4") == [Site("pattern", 2, 1, (0,), (3, 4))]
    assert len(sites.resolve(model, "*.head_out.*")) == 9
    assert len(sites.resolve(model, ["0.attn_out", "*.resid_pre"])) == 4
    for site in sites.resolve(model, ["*.head_out.*", "2.pattern.1@0<-3,4", "0.mlp_hidden.5"]):
        assert sites.resolve(model, str(site)) == [site]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("head 3", "matches nothing"),
        ("1.heads.2", "kind 'heads'"),
        ("3.attn_out", "layer 3; allowed is 0 to 2"),
        ("1.head_out.3", "head 3; allowed is 0 to 2"),
        ("1.mlp_hidden.96", "unit 96; allowed is 0 to 95"),
        ("1.attn_out.0", "has no index"),
        ("1.attn_out<-2", "keys are for kind pattern"),
        ([], "none named"),
    ],
)
def test_wrong_names_are_one_clear_line(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        sites.resolve(models.timm_vit(), name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (
            Site("resid_pre", 0, positions=3),
            "positions 3; allowed is a tuple of whole numbers or",
        ),
        (Site("resid_pre", 0, positions=[1, 2]), r"positions \[1, 2\]; allowed is a tuple"),
        (Site("resid_pre", 0, positions=(1.0,)), r"positions \(1.0,\); allowed is a tuple"),
        (Site("resid_pre", 0, positions=()), r"positions \(\); allowed is a tuple"),
        (Site("resid_pre", 0, positions=(True,)), r"positions \(True,\); allowed is a tuple"),
        (Site("pattern", 0, keys=2), "keys 2; allowed is a tuple of whole numbers or None"),
        (Site("pattern", 0, keys=["0"]), r"keys \['0'\]; allowed is a tuple"),
        (Site("resid_pre", "1"), "layer '1'; allowed is a whole number from 0"),
        (Site("resid_pre", 1.0), "layer 1.0; allowed is a whole number from 0"),
        (Site("resid_pre", None), "layer None; allowed is a whole number from 0"),
        (Site("head_out", 0, "2"), "index '2'; allowed is a whole number from 0 or None"),
        (Site("head_out", 0, (0, 1)), r"index \(0, 1\); allowed is a whole number from 0 or None"),
        (Site("head_out", 0, True), "index True; allowed is a whole number from 0 or None"),
        (Site(["head_out"], 0), r"kind \['head_out'\]; allowed is resid_pre"),
        (3, "sites: 3; allowed is a name, a Site, or several of them"),
        ([3], "sites: 3; allowed is a name or a Site"),
    ],
)
def test_sites_of_wrong_types_are_one_clear_line(site, message):
    with pytest.raises(ValueError, match=message) as caught:
        sites.resolve(models.timm_vit(), site)
    assert "\n" not in str(caught.value)


def test_whole_numbers_of_numpy_are_whole_numbers():
    site = Site("head_out", np.int64(1), np.int64(2), (np.int64(0),))
    assert sites.resolve(models.timm_vit(), site) == [Site("head_out", 1, 2, (0,))]


def test_a_site_named_twice_is_one_site_and_the_order_is_kept():
    model = models.timm_vit()
    named = ["1.head_out.2", "0.attn_out", "1.head_out.*", Site("attn_out", 0), "1.head_out.2@0"]
    assert [str(site) for site in sites.resolve(model, named)] == [
        "1.head_out.2", "0.attn_out", "1.head_out.0", "1.head_out.1", "1.head_out.2@0"
    ]  # fmt: skip
    batch = models.images(2)
    with torch.no_grad(), interventions.ablate(model, ["1.attn_out", "1.attn_out"]):
        twice = model(batch)
    with torch.no_grad(), interventions.ablate(model, "1.attn_out"):
        assert torch.equal(twice, model(batch))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.Linear(2, 2), "Linear holds no supported transformer"),
        (lambda: nn.ModuleList([models.timm_vit(), models.gpt2()]), "2 transformers"),
        (lambda: models.timm_vit(block_fn=ResPostBlock), "ResPostBlock"),
        (lambda: models.timm_vit(attn_layer="diff"), "DiffAttention"),
        (lambda: models.timm_vit(scale_attn_norm=True), "scale_norm"),
        (lambda: models.gpt2(add_cross_attention=True), "cross-attention"),
    ],
)
def test_unsupported_models_are_refused_by_name(model, message):
    with pytest.raises(ValueError, match=message):
        sites.find(model())


def test_position_out_of_range():
    with pytest.raises(ValueError, match="position 9; allowed is 0 to 4"):
        interventions.read(models.timm_vit(), "0.resid_pre@9", models.images(1))
