"""What may be done while a block is open, and what a model is refused for, in one clear line."""

import copy
import io
import threading

import intervention_models as models
import numpy as np
import pytest
import torch
from architecture_models import make
from patchwork.interventions import (
    LogitDifference,
    ablate,
    group_ablation_sweep,
    head_ablation_sweep,
    mean_activations,
    patch_sweep,
    read,
)
from patchwork.models.sites import Site
from peft import PrefixTuningConfig, get_peft_model
from torch import nn

IDS = torch.randint(1, 50, (4, 6), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 5 + [0], [1] * 3 + [0] * 3])
METRIC = LogitDifference(torch.arange(4), torch.arange(4) + 25)


def message_of(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("site", ["1.attn_out", "1.pattern.0"])
def test_a_model_is_not_copied_or_saved_within_a_block(site):
    model = models.gpt2()
    for act in (copy.deepcopy, lambda model: torch.save(model, io.BytesIO())):
        with ablate(model, site, expect_change=False):
            model(IDS)
            with pytest.raises(ValueError, match="copied or saved while a block") as caught:
                act(model)
            message_of(caught)
    other = copy.deepcopy(model)
    assert torch.equal(other(IDS).logits, model(IDS).logits)


def test_another_thread_is_refused():
    model, caught = models.gpt2(), []

    def run():
        try:
            model(IDS)
        except ValueError as error:
            caught.append(str(error))

    with ablate(model, "1.attn_out"):
        model(IDS)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert "1.attn_out: the model is called by another thread" in caught[0]


def test_a_block_may_be_entered_again():
    model = models.gpt2()
    block = ablate(model, "1.attn_out")
    with torch.no_grad():
        with block:
            once = model(IDS).logits
        with block:
            assert torch.equal(model(IDS).logits, once)
        assert not torch.equal(model(IDS).logits, once)


def test_means_leave_padding_out():
    model = models.gpt2()
    reference = {"input_ids": IDS, "attention_mask": MASK}
    names = ["1.attn_out", "1.head_out.2@1,4", "1.pattern.0", "0.resid_pre@-1"]
    raw, means = read(model, names, reference), mean_activations(model, names, reference, chunk=3)
    shown = MASK.double()
    own = raw[Site("attn_out", 1)]
    want = (own * shown[..., None]).sum(0) / shown.sum(0)[:, None]
    torch.testing.assert_close(means[Site("attn_out", 1)][0], want)
    assert not torch.allclose(want, own.mean(0))
    site = Site("head_out", 1, 2, (1, 4))
    torch.testing.assert_close(means[site][0, 1], raw[site][[0, 2], 1].mean(0))
    torch.testing.assert_close(means[Site("resid_pre", 0, None, (-1,))][0, 0],
                               raw[Site("resid_pre", 0, None, (-1,))][0, 0])  # fmt: skip
    pattern = means[Site("pattern", 1, 0)]
    torch.testing.assert_close(pattern[0, 0, 5], raw[Site("pattern", 1, 0)][0, 0, 5])
    # A position that is padding everywhere has the mean of the others.
    short = {"input_ids": IDS[1:], "attention_mask": MASK[1:]}
    last = mean_activations(model, "1.attn_out", short)[Site("attn_out", 1)][0, 5]
    torch.testing.assert_close(last, own[1:][MASK[1:].bool()].mean(0))


def test_a_mean_over_tokens_serves_every_length_and_generation():
    model = models.gpt2()
    site = Site("attn_out", 1)
    means = mean_activations(model, [site], [IDS[:2], IDS[2:, :3]], over_tokens=True)
    own = torch.cat([read(model, site, x)[site].flatten(0, 1) for x in (IDS[:2], IDS[2:, :3])])
    torch.testing.assert_close(means[site], own.mean(0)[None, None])
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    with ablate(model, site, "token_mean", reference=IDS):
        cached = model.generate(IDS, use_cache=True, **options)
        assert torch.equal(model.generate(IDS, use_cache=False, **options), cached)
    sweep = head_ablation_sweep(model, IDS, METRIC, baselines=["token_mean"])
    with torch.no_grad(), ablate(model, "1.head_out.2", "token_mean", reference=IDS):
        want = METRIC(model(IDS), torch.arange(4)) - sweep.clean
    np.testing.assert_allclose(sweep.values[0, 1, 2], want, atol=1e-12)
    with pytest.raises(ValueError, match="allowed for patterns is one by position"):
        ablate(model, "0.pattern", "token_mean", reference=IDS)


@pytest.mark.parametrize("use_cache", [True, False])
def test_all_steps_of_a_generation_are_of_the_same_examples(use_cache):
    model, seen = models.gpt2(), []

    def keep(site, tensor, rows):
        seen.append(rows.tolist())
        return tensor

    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "use_cache": use_cache}
    with torch.no_grad(), ablate(model, "1.attn_out", keep, expect_change=False):
        model(IDS)
        model.generate(IDS[:2], **options)
        model.generate(IDS[:2], num_beams=2, **options)
        model(IDS[:1])
    assert seen == [[0, 1, 2, 3], *[[4, 5]] * 3, *[[6, 6, 7, 7]] * 3, [8]]
    assert "generate" not in vars(model)


def test_left_padding_without_positions_is_said():
    model = models.gpt2()
    left = {"input_ids": IDS, "attention_mask": MASK.flip(1)}
    other = {**left, "input_ids": IDS.flip(0)}
    positions = {**left, "position_ids": (MASK.flip(1).cumsum(1) - 1).clamp(min=0)}
    for run in (
        lambda inputs: head_ablation_sweep(model, inputs, METRIC, baselines=["zero"]),
        lambda inputs: (
            patch_sweep(model, other, {**other, **inputs}, METRIC)
            if "position_ids" not in inputs
            else head_ablation_sweep(model, inputs, METRIC, baselines=["zero"])
        ),
    ):
        with pytest.warns(UserWarning, match="padded on the left without position_ids"):
            assert "padded on the left" in run(left).metadata["reason"]
        assert "padded on the left" not in run(positions).metadata["reason"]


def test_quantised_models_take_the_plain_path():
    model = make("opt")
    tokens = IDS % 40
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8).eval()
    metric = LogitDifference(torch.arange(4), torch.arange(4) + 9)
    sweep = head_ablation_sweep(quantised, tokens, metric, baselines=["zero"])
    assert sweep.metadata["reason"] == "quantised weights"
    with torch.no_grad(), ablate(quantised, "1.head_out.2"):
        want = metric(quantised(tokens), torch.arange(4)) - sweep.clean
    np.testing.assert_allclose(sweep.values[0, 1, 2], want, atol=1e-5)


def test_compiled_models_are_run_as_they_were_written():
    model = models.timm_vit(depth=1, dtype=torch.float32)
    batch = models.images(2, torch.float32)
    with torch.no_grad():
        clean = model(batch)
        with ablate(model, "0.attn_out"):
            want = model(batch)
        compiled = torch.compile(model, backend="eager")
        compiled(batch)
        with ablate(compiled, "0.attn_out"):
            torch.testing.assert_close(compiled(batch), want)
        torch.testing.assert_close(compiled(batch), clean)
        sweep = head_ablation_sweep(compiled, batch, models.vit_metric, baselines=["zero"])
        plain = head_ablation_sweep(model, batch, models.vit_metric, baselines=["zero"])
    np.testing.assert_allclose(sweep.values, plain.values, atol=1e-5)


def test_positions_from_the_end():
    model = models.gpt2()
    last = read(model, "1.resid_pre@-1,0", IDS)[Site("resid_pre", 1, None, (-1, 0))]
    whole = read(model, "1.resid_pre", IDS)[Site("resid_pre", 1)]
    assert torch.equal(last, whole[:, [5, 0]])
    with torch.no_grad():
        with ablate(model, "1.pattern.0@-1<--2", "knockout"):
            by_end = model(IDS).logits
        with ablate(model, "1.pattern.0@5<-4", "knockout"):
            assert torch.equal(model(IDS).logits, by_end)


def test_misleading_lines_are_gone():
    model = models.timm_vit()
    model.blocks[1].mlp.train()
    with pytest.raises(ValueError, match=r"blocks.1.mlp \(Mlp\) is in training mode") as caught:
        ablate(model, "0.attn_out")
    message_of(caught)
    with torch.device("meta"):
        empty = make_empty()
    with pytest.raises(ValueError, match=r"wte.weight has no values here") as caught:
        read(empty, "0.attn_out", IDS)
    message_of(caught)
    pairs = [(models.images(2), torch.zeros(2))]
    with pytest.raises(ValueError, match="a batch is a tuple of 2") as caught:
        head_ablation_sweep(models.timm_vit(), pairs, models.vit_metric)
    message_of(caught)
    gpt2 = models.gpt2()
    with (
        pytest.raises(ValueError, match="cached keys") as caught,
        ablate(gpt2, "1.resid_pre@2"),
    ):
        gpt2.generate(IDS, max_new_tokens=2, do_sample=False, pad_token_id=0)
    message_of(caught)
    prefix = get_peft_model(
        gpt2, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    ).to(torch.float64).eval()  # fmt: skip
    with (
        pytest.raises(ValueError, match="as generate and prefix tuning do") as caught,
        ablate(prefix, "1.attn_out@2"),
    ):
        prefix(input_ids=IDS)
    message_of(caught)


def make_empty():
    from transformers import GPT2Config, GPT2Model

    return GPT2Model(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=50)).eval()


def test_groups_take_a_mean_over_tokens():
    model = models.gpt2()
    frame = group_ablation_sweep(
        model, IDS, METRIC, {"one": "1.attn_out", "two": "0.attn_out"}, baseline="token_mean"
    )
    with torch.no_grad(), ablate(model, "0.attn_out", "token_mean", reference=IDS):
        want = METRIC(model(IDS), torch.arange(4))
    got = frame[frame.group == "two"]
    np.testing.assert_allclose(got.effect + got.clean, want, atol=1e-12)
