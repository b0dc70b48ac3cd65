"""Which architectures are taken and read as they compute, and how the rest is refused."""

import architecture_models
import intervention_models as models
import pytest
import timm
import torch
import torchvision
import transformers
from architecture_models import REFUSED, named_alike
from patchwork import interventions
from patchwork.interventions import attention
from patchwork.models import sites
from patchwork.models.sites import Site
from torch import nn

SHAPE = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 48,
    "image_size": 32, "patch_size": 16,
}  # fmt: skip
# Model class and tokens before the first patch, of every allowed model type.
ALLOWED = {
    "vit": (transformers.ViTForImageClassification, 1),
    "vit_msn": (transformers.ViTMSNForImageClassification, 1),
    "deit": (transformers.DeiTForImageClassificationWithTeacher, 2),
    "ijepa": (transformers.IJepaForImageClassification, 0),
}


def allowed_model(model_type):
    kind, n_prefix = ALLOWED[model_type]
    model = kind(transformers.AutoConfig.for_model(model_type, num_labels=4, **SHAPE))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.15
    return model.to(torch.float64).eval(), n_prefix


def bare(make):
    with torch.device("meta"):
        return make()


def refusal(model):
    with pytest.raises(ValueError, match="model: ") as caught:
        sites.find(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_allowed_model_types_are_those_verified_here():
    table = [kind for family in sites.FAMILIES.values() for kind in family.model_types or ()]
    cases = architecture_models.CASES.values()
    elsewhere = {kind for how, kind, _, _ in cases if how != "timm"}
    assert sorted(table) == sorted([*ALLOWED, *elsewhere, "gpt2", "vit"])


@pytest.mark.parametrize("model_type", ALLOWED)
def test_allowed_models_are_read_as_they_compute(model_type):
    model, n_prefix = allowed_model(model_type)
    batch = models.images(2)
    anatomy = sites.find(model)
    assert anatomy.n_prefix == n_prefix
    streams = interventions.read(model, "*.resid_pre", batch)
    patterns = list(attention.patterns(model, batch))
    model.set_attn_implementation("eager")
    eager = model(batch, output_attentions=True, output_hidden_states=True)
    for layer in range(anatomy.n_layers):
        torch.testing.assert_close(streams[Site("resid_pre", layer)], eager.hidden_states[layer])
        torch.testing.assert_close(patterns[layer], eager.attentions[layer])
    # Of 32 by 32 pixels, 4 patches of 16 by 16: what is left of the tokens is the prefix.
    assert eager.hidden_states[0].shape[1] == n_prefix + 4


@pytest.mark.parametrize("model_type", ALLOWED)
def test_a_head_ablated_is_a_head_cut_from_the_projection(model_type):
    model, _ = allowed_model(model_type)
    batch = models.images(2)
    anatomy = sites.find(model)
    with torch.no_grad():
        clean = model(batch).logits
        with interventions.ablate(model, "1.head_out.2"):
            ablated = model(batch).logits
        anatomy.blocks[1].proj.weight[:, 2 * anatomy.d_head : 3 * anatomy.d_head] = 0
        torch.testing.assert_close(ablated, model(batch).logits)
    assert not torch.allclose(ablated, clean)


@pytest.mark.parametrize("model_type", ALLOWED)
def test_a_sweep_agrees_with_heads_ablated_one_by_one(model_type):
    model, _ = allowed_model(model_type)
    batch = models.images(3)
    sweep = interventions.head_ablation_sweep(model, batch, models.vit_metric, baselines=["zero"])
    assert sweep.metadata["path"] == "fast"
    rows = torch.arange(3)
    with torch.no_grad():
        clean = models.vit_metric(model(batch), rows)
        with interventions.ablate(model, "1.head_out.2"):
            change = models.vit_metric(model(batch), rows) - clean
    assert sweep.values[0, 1, 2] == pytest.approx(change.numpy())


def test_gpt2_streams_equal_its_hidden_states():
    model, batch = models.gpt2(scale_attn_by_inverse_layer_idx=True), torch.arange(10).view(2, 5)
    streams = interventions.read(model, "*.resid_pre", batch)
    patterns = list(attention.patterns(model, batch))
    model.set_attn_implementation("eager")
    eager = model(batch, output_attentions=True, output_hidden_states=True)
    for layer in range(3):
        torch.testing.assert_close(streams[Site("resid_pre", layer)], eager.hidden_states[layer])
        torch.testing.assert_close(patterns[layer], eager.attentions[layer])


@pytest.mark.parametrize("model_type", [x for x in REFUSED if x not in ("roberta", "t5")])
def test_models_that_only_name_their_modules_alike_are_refused(model_type):
    line = refusal(named_alike(model_type, **REFUSED[model_type]))
    assert f"(model type {model_type}) is not supported" in line
    text = ("decision_transformer", "gpt_bigcode", "imagegpt")
    family = "GPT-2" if model_type in text else "Hugging Face ViT"
    assert f"its modules are named as in {family}" in line
    assert line.split("; ")[-1] in {
        f"allowed there is model type {', '.join(types)}" for types in (ALLOWED, ["vit"], ["gpt2"])
    }


def test_names_alone_are_refused_where_no_model_type_stands():
    block = nn.Module()
    block.attn = nn.Module()
    block.attn.c_attn = nn.Linear(2, 6)
    tables = {"wte": nn.Embedding(2, 2), "wpe": nn.Embedding(2, 2)}
    own = nn.ModuleDict({**tables, "h": nn.ModuleList([block])})
    assert "ModuleDict (no model type) is not supported" in refusal(own)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)),
            "SwinTransformer holds no supported transformer: nearest is timm ViT, but blocks.0 is"
            " missing; allowed is one of timm ViT, ",
        ),
        (
            lambda: bare(torchvision.models.vit_b_16),
            "VisionTransformer holds no supported transformer: nearest is Hugging Face ViT, but"
            " embeddings, layers.0.attention, layers.0.layernorm_before are missing; allowed",
        ),
        (
            lambda: named_alike("t5", num_layers=1),
            "T5Model holds no supported transformer: model type t5 stands in no row of the table",
        ),
        (
            lambda: named_alike("roberta"),
            "RobertaModel (model type roberta) is not supported: its modules are named as in BERT;"
            " allowed there is model type bert",
        ),
        (
            lambda: timm.create_model("resnet10t"),
            "ResNet holds no supported transformer: nearest is timm ViT, but patch_embed, blocks.0"
            " are missing; allowed",
        ),
        (
            lambda: nn.Linear(2, 2),
            "Linear holds no supported transformer: no module of any family is in it; allowed",
        ),
        (
            lambda: models.timm_vit(depth=0),
            "nearest is timm ViT, but blocks.0 is missing",
        ),
    ],
)
def test_unknown_models_are_eager_what_is_missing(make, message):
    assert message in refusal(make())
