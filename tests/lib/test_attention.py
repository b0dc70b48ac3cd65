import intervention_models as models
import pytest
import torch
from patchwork.interventions import attention, read
from patchwork.models.sites import Site
from transformers import BatchEncoding


def test_patterns_equal_hugging_face_eager_attentions():
    for model, batch in (
        (models.gpt2(), torch.arange(10).view(2, 5)),
        (models.hf_vit(), models.images(2)),
    ):
        got = list(attention.patterns(model, batch))
        model.set_attn_implementation("eager")
        want = model(batch, output_attentions=True).attentions
        for ours, theirs in zip(got, want, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_padding_is_honoured():
    ids = torch.arange(10).view(2, 5)
    batch = {"input_ids": ids, "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1] * 5])}
    pattern = next(attention.patterns(models.gpt2(), batch))
    assert not pattern[0, :, 2:, :2].any()
    assert bool((pattern[1].tril() == pattern[1]).all())


def test_a_tokenizers_batch_is_taken_as_a_mapping():
    ids, model = torch.arange(10).view(2, 5), models.gpt2()
    plain = {"input_ids": ids, "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1] * 5])}
    batch = BatchEncoding(plain)
    assert not isinstance(batch, dict)
    for a, b in zip(
        attention.patterns(model, batch), attention.patterns(model, plain), strict=True
    ):
        assert torch.equal(a, b)


def test_forward_pass_stays_fused_and_layers_stream():
    model, batch = models.timm_vit(), models.images(2)
    assert model.blocks[0].attn.fused_attn
    chosen = list(attention.patterns(model, batch, [2, 0]))
    every = list(attention.patterns(model, batch))
    assert torch.equal(chosen[0], every[2])
    assert torch.equal(chosen[1], every[0])
    with pytest.raises(ValueError, match="allowed is 0 to 2"):
        next(attention.patterns(model, batch, [3]))
    with pytest.raises(ValueError, match="layers: 1 is named twice; allowed is each layer once"):
        next(attention.patterns(model, batch, [0, 1, 1]))


def test_a_stream_left_half_way_leaves_gradients_on():
    model, batch = models.timm_vit(), models.images(2)
    first, second = attention.patterns(model, batch), attention.patterns(model, batch)
    pattern = next(first)
    assert torch.is_grad_enabled()
    next(second)
    first.close()
    second.close()
    assert torch.is_grad_enabled()
    assert not pattern.requires_grad


def test_rollout_multiplies_layers_from_the_input():
    model, batch = models.timm_vit(), models.images(2)
    want, flow = torch.eye(5, dtype=torch.float64), None
    for pattern in attention.patterns(model, batch):
        want = (0.5 * torch.eye(5, dtype=torch.float64) + 0.5 * pattern.mean(1)) @ want
        flow = attention.rollout(flow, pattern)
    torch.testing.assert_close(flow, want)
    assert torch.allclose(flow.sum(-1), torch.ones_like(flow[..., 0]))


def test_planted_high_norm_token_is_found():
    model = models.timm_vit(img_size=64)
    batch = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        model.pos_embed[0, 1 + 6] += 50
    stream = read(model, "0.resid_pre", batch)[Site("resid_pre", 0)]
    assert stream.shape == (2, 17, 24)
    flags = attention.high_norm_tokens(stream, 1)
    assert flags.shape == (2, 16)
    assert flags[:, 6].all()
    assert flags.sum() == 2
