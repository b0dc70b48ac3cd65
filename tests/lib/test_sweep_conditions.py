"""Where a fast path would be wrong it is left, and says so; bad input is one clear line."""

import intervention_models as models
import numpy as np
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
    mean_activations,
    patch,
    patch_sweep,
)
from transformers import GPT2Config, GPT2ForSequenceClassification

PLAIN = Plan(path="plain")
IDS = torch.randint(0, 50, (6, 9), generator=torch.Generator().manual_seed(0))
IMAGES = models.images(6)


def last(output, rows):
    return output.logits[:, -1, 0]


def first(output, rows):
    return models.logits(output)[:, 0]


def compared(model, inputs, metric, **options):
    """The sweep by its own choice and the plain one."""
    own, plain = (
        head_ablation_sweep(model, inputs, metric, baselines=("zero",), plan=plan, **options)
        for plan in (None, PLAIN)
    )
    assert np.abs(plain.values).max() > 1e-4
    assert np.abs(own.values - plain.values).max() <= 1e-10
    return own.metadata


class Aged(models.Inner):
    def forward(self, images, age):
        return self.inner(images) * age[:, None]


class Brightened(models.Inner):
    def forward(self, images):
        return self.inner(images) * (1 + images.mean((1, 2, 3)))[:, None]


class Logits(models.Inner):
    def forward(self, ids):
        return self.inner(ids).logits


def test_a_model_that_reads_its_inputs_again_is_not_taken_for_its_blocks():
    aged = {"images": IMAGES, "age": torch.arange(1.0, 7)}
    assert compared(Aged(models.timm_vit()), aged, first)["path"] == "plain"
    metadata = compared(Brightened(models.timm_vit()), IMAGES, first)
    assert "its outputs differ" in metadata["reason"]
    assert compared(models.timm_vit(), IMAGES, first)["path"] == "fast"


def test_a_mask_of_the_models_own_shows_in_later_examples():
    ids = IDS.clamp(min=1)
    ids[4, :3] = 0
    assert compared(models.OwnMask(models.gpt2()), ids, last)["path"] == "plain"
    assert compared(models.OwnMask(models.gpt2()), IDS.clamp(min=1), last)["path"] == "fast"
    grid = PatchGrid(components=("mlp_out",))
    base, source = IDS.clamp(min=1), ids
    own, plain = (
        patch_sweep(models.OwnMask(models.gpt2()), source, base, last, grid=grid, plan=plan)
        for plan in (None, PLAIN)
    )
    assert np.abs(own.values["mlp_out"] - plain.values["mlp_out"]).max() <= 1e-10


def test_a_metric_that_counts_hides_no_steering_hook():
    model = models.timm_vit()
    steering = torch.randn(24, generator=torch.Generator().manual_seed(1)).double()
    hook = model.blocks[1].register_forward_hook(lambda m, args, out: out + steering)
    with torch.no_grad():
        middle = model(IMAGES)[:, 0].median()
    sweep = head_ablation_sweep(model, IMAGES, lambda out, rows: out[:, 0] > middle)
    assert sweep.clean.tolist() == [float(x > middle) for x in model(IMAGES)[:, 0]]
    assert "hooks in the model's blocks" in sweep.metadata["reason"]
    hook.remove()
    # The same from within the block, where no hook gives it away.
    inner = models.timm_vit()
    block = inner.blocks[1]
    block.forward = lambda x, *args, **kwargs: type(block).forward(block, x, *args, **kwargs) * 1.5
    sweep = head_ablation_sweep(inner, IMAGES, lambda out, rows: out[:, 0] > -99)
    assert "more than its blocks" in sweep.metadata["reason"]


def test_a_counting_metric_over_all_tokens_is_not_taken_for_one():
    def more(output, rows):
        mean = output.logits.mean(1)
        return mean[:, 0] > mean[:, 1]

    for seed in range(8):
        model = models.gpt2(seed)
        sweep = head_ablation_sweep(model, IDS[:1], more, baselines=("zero",))
        assert sweep.metadata["read"] == "all tokens"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_numbers_of_16_bits_take_the_plain_path(dtype):
    model, images = models.timm_vit(dtype=dtype), models.images(4, dtype)
    sweep = head_ablation_sweep(model, images, first)
    assert "16 bits" in sweep.metadata["reason"]
    assert sweep.values.dtype == np.float32
    text = models.gpt2(dtype=dtype)
    metric = LogitDifference(IDS[:, 0], IDS[:, 1])
    assert patch_sweep(text, IDS, IDS.flip(1), metric).metadata["path"] == "plain"
    estimate = attribution_sweep(text, IDS, IDS.flip(1), metric)
    assert all(np.isfinite(x).all() for x in estimate.values.values())


def test_autocast_takes_the_plain_path():
    model = models.timm_vit(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        sweep = head_ablation_sweep(model, models.images(2, torch.float32), first)
    assert "16 bits" in sweep.metadata["reason"]


def test_padding_is_seen_in_every_batch_of_a_list():
    mask = torch.ones_like(IDS)
    mask[4:, :3] = 0
    batches = [
        {"input_ids": IDS[:3], "attention_mask": mask[:3]},
        {"input_ids": IDS[3:], "attention_mask": mask[3:]},
    ]
    assert "padded" in compared(models.gpt2(), batches, last)["reason"]


@pytest.mark.parametrize("lengths", [(7, 9), (9, 7)])
def test_batches_of_other_lengths_are_read_where_they_end(lengths):
    batches = [IDS[:3, : lengths[0]], IDS[3:, : lengths[1]]]
    metadata = compared(models.gpt2(), batches, last)
    assert metadata["path"] == "fast"
    assert metadata["read"] == "token 6 or token 8"
    for model, plan in [(models.gpt2(), None), (models.gpt2(), PLAIN)]:
        with pytest.raises(ValueError, match="allowed is one token length"):
            head_ablation_sweep(model, batches, last, plan=plan)
    with pytest.raises(ValueError, match="allowed is one token length"):
        head_ablation_sweep(models.gpt2(), batches, last, baselines=("resample",))
    with pytest.raises(ValueError, match="allowed for baseline mean is one token length"):
        head_ablation_sweep(models.gpt2(), IDS, last, reference=IDS[:, :7])


def test_a_metric_may_read_other_tokens_of_other_examples():
    ids = torch.cat([IDS, IDS, IDS[:4]])
    back = torch.tensor([1] * 8 + [3] * 8)

    def metric(output, rows):
        return torch.stack([output.logits[i, -int(back[r]), 0] for i, r in enumerate(rows)])

    assert compared(models.gpt2(), ids, metric)["read"] == "all tokens or token 8"


@pytest.mark.parametrize(
    "metric",
    [
        lambda output, rows: output[:, :1],
        lambda output, rows: output[:, :2],
        lambda output, rows: output.mean(),
        lambda output, rows: output[:, 0].numpy(),
        lambda output, rows: 1.0,
    ],
)
@pytest.mark.parametrize("path", ["auto", "plain"])
def test_a_metric_gives_one_number_for_each_example(metric, path):
    with pytest.raises(
        ValueError, match=r"metric gave .*allowed is a tensor of shape \(3,\)|\(1,\)"
    ):
        head_ablation_sweep(models.timm_vit(), IMAGES[:3], metric, plan=Plan(path=path))
    with pytest.raises(ValueError, match="metric gave"):
        group_ablation_sweep(models.timm_vit(), IMAGES[:3], metric, {"a": "0.head_out.0"})
    with pytest.raises(ValueError, match="metric gave"):
        patch_sweep(models.timm_vit(), IMAGES, IMAGES.flip(0), metric, plan=Plan(path=path))


def test_yes_and_no_count_as_one_and_zero():
    sweep = head_ablation_sweep(models.timm_vit(), IMAGES, lambda out, rows: out[:, 0] > out[:, 1])
    assert sweep.metadata["path"] == "fast"
    assert set(np.unique(sweep.values)) <= {-1.0, 0.0, 1.0}


def pairs_that_differ_elsewhere():
    places = torch.arange(9).expand(6, 9)
    moved = places.clone()
    moved[:, 2] = 20
    kinds = torch.ones_like(IDS)
    kinds[:, 4] = 2
    noise = torch.randn(6, 9, 32, generator=torch.Generator().manual_seed(3)).double()
    other = noise.clone()
    other[:, 5] = noise[:, 6]
    return {
        "positions": ({"input_ids": IDS, "position_ids": places},
                      {"input_ids": IDS, "position_ids": moved}),
        "types": ({"input_ids": IDS, "token_type_ids": torch.ones_like(IDS)},
                  {"input_ids": IDS, "token_type_ids": kinds}),
        "embeddings": ({"inputs_embeds": noise}, {"inputs_embeds": other}),
    }  # fmt: skip


@pytest.mark.parametrize("name", pairs_that_differ_elsewhere())
def test_pairs_may_differ_in_something_else_than_ids(name):
    clean, corrupted = pairs_that_differ_elsewhere()[name]
    fast, plain = (
        patch_sweep(models.gpt2(), clean, corrupted, last, plan=plan) for plan in (None, PLAIN)
    )
    assert fast.metadata["path"] == "fast"
    assert np.abs(plain.values["resid_pre"]).max() > 1e-3
    for component, values in plain.values.items():
        assert np.abs(fast.values[component] - values).max() <= 1e-10


def test_models_whose_end_cannot_run_alone_take_the_plain_path():
    config = GPT2Config(
        vocab_size=50, n_positions=32, n_embd=32, n_layer=3, n_head=4, bos_token_id=0,
        eos_token_id=0, pad_token_id=49, num_labels=3,
    )  # fmt: skip
    classifier = models._randomise(GPT2ForSequenceClassification(config), 0, torch.float64)
    metadata = compared(classifier, IDS % 48, lambda output, rows: output.logits[:, 0])
    assert metadata["path"] == "plain"
    labelled = {"input_ids": IDS, "labels": IDS}
    assert compared(models.gpt2(), labelled, last)["path"] == "plain"
    sweep = patch_sweep(classifier, IDS % 48, IDS.flip(1) % 48, lambda out, rows: out.logits[:, 0])
    assert sweep.metadata["path"] == "plain"


def test_a_logit_difference_of_your_own_module():
    metric, other = LogitDifference(IDS[:, 0], IDS[:, 1]), (IDS + 1) % 50
    own = patch_sweep(Logits(models.gpt2()), IDS, other, metric)
    plain = patch_sweep(Logits(models.gpt2()), IDS, other, metric, plan=PLAIN)
    assert own.metadata["path"] == "fast"
    assert np.abs(own.values["mlp_out"] - plain.values["mlp_out"]).max() <= 1e-10
    bare = attribution_sweep(models.gpt2(), IDS, other, metric)
    wrapped = attribution_sweep(Logits(models.gpt2()), IDS, other, metric)
    assert np.abs(bare.values["mlp_out"] - wrapped.values["mlp_out"]).max() <= 1e-10


def test_a_sweep_within_an_intervention_sees_it():
    for site in ("1.head_out.0", "0.attn_out", "2.mlp_out", "1.mlp_hidden.3", "1.pattern.2"):
        model = models.timm_vit()
        with ablate(model, site):
            sweep = head_ablation_sweep(model, IMAGES, first, baselines=("zero",))
            inside = patch_sweep(model, IMAGES[:2], IMAGES[2:4], first)
            with torch.no_grad():
                clean = model(IMAGES)[:, 0]
        assert "hooks" in sweep.metadata["reason"]
        assert "hooks" in inside.metadata["reason"]
        assert np.abs(sweep.clean - clean.numpy()).max() <= 1e-12


def test_a_head_that_drowns_the_rest_is_not_subtracted():
    model = models.timm_vit(dtype=torch.float32)
    model.blocks[1].attn.proj.weight.data[:, :8] *= 1e4
    images = models.images(4, torch.float32)
    sweep = head_ablation_sweep(model, images, first, baselines=("zero",))
    exact = head_ablation_sweep(model.double(), images.double(), first, baselines=("zero",))
    assert "lose digits" in sweep.metadata["reason"]
    # The one large effect is as large as the clean metric and rounds with it.
    assert np.abs(sweep.values - exact.values)[0, 1, 0].max() <= 1e-5 * np.abs(exact.clean).max()


def test_bad_input_is_one_clear_line():
    model, text = models.timm_vit(), models.gpt2()
    once = (batch for batch in [IMAGES])
    cases = [
        (lambda: PatchGrid(positions=(2, 2)), "each once"),
        (lambda: PatchGrid(positions=(-1,)), "tokens from 0"),
        (lambda: PatchGrid(positions=()), "tokens from 0"),
        (lambda: attribution_sweep(text, IDS, IDS.flip(1), last, grid=PatchGrid(positions=(99,))),
         "allowed is some of 0 to 8"),
        (lambda: head_ablation_sweep(model, IMAGES, first, baselines=("resample",), reference=once),
         "reference is a one-pass iterator"),
        (lambda: head_ablation_sweep(model, IMAGES[:0], first, plan=PLAIN), "holds no example"),
        (lambda: head_ablation_sweep(model, IMAGES[:0], first), "holds no example"),
        (lambda: group_ablation_sweep(model, IMAGES, first, {}), "groups is empty"),
        (lambda: mean_activations(model, "0.attn_out", IMAGES[:0]), "at least one"),
        (lambda: patch(model, "0.attn_out", []), "holds no example"),
        (lambda: LogitDifference(IDS[:, 0], IDS[:2, 0]), "one whole number for each example"),
        (lambda: LogitDifference(torch.rand(6), IDS[:, 0]), "one whole number for each example"),
        (lambda: patch_sweep(text, IDS, IDS.flip(1), LogitDifference(IDS[:2, 0], IDS[:2, 1])),
         "right and wrong have 2 tokens"),
        (lambda: patch_sweep(text, IDS, IDS.flip(1), LogitDifference(IDS[:, 0], IDS[:, 1] + 50)),
         "allowed is 0 to 49"),
        (lambda: patch_sweep(model, IMAGES, IMAGES.flip(0), LogitDifference(IDS[:, 0], IDS[:, 1])),
         "allowed is an output with logits"),
    ]  # fmt: skip
    for case, words in cases:
        with pytest.raises(ValueError, match=words) as caught:
            case()
        assert "\n" not in str(caught.value)
