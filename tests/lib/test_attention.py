import intervention_models as models
import numpy as np
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
    assert torch.equal(attention.rollout(model, batch), attention.rollout(model, plain))
    assert attention.summary(model, batch).equals(attention.summary(model, plain))


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


def test_entropy_rows_and_received():
    uniform, one = torch.full((1, 1, 8, 8), 1 / 8), torch.eye(8)[None, None]
    assert attention.entropy(uniform).item() == pytest.approx(3)
    assert attention.entropy(one).item() == 0
    pattern = torch.rand(2, 3, 5, 5).softmax(-1)
    assert torch.equal(attention.cls_row(pattern), pattern[:, :, 0])
    assert torch.allclose(attention.mean_received(pattern).sum(-1), torch.ones(2, 3))


def test_distance_on_known_patterns():
    stay = torch.eye(7)[None, None]
    assert attention.distance(stay, (2, 3), 1).item() == 0
    step = torch.zeros(1, 1, 7, 7)
    step[0, 0, range(1, 7), [2, 1, 2, 5, 4, 5]] = 0.5  # half on a neighbour, half on CLS
    step[..., 0] += 0.5
    assert attention.distance(step, (2, 3), 1).item() == pytest.approx(1)
    with pytest.raises(ValueError, match="6 patches"):
        attention.distance(stay, (2, 4), 1)


def test_rollout_multiplies_layers_from_the_input():
    model, batch = models.timm_vit(), models.images(2)
    flow = attention.rollout(model, batch)
    assert torch.allclose(flow.sum(-1), torch.ones_like(flow[..., 0]))
    want = torch.eye(5, dtype=torch.float64)
    for pattern in attention.patterns(model, batch):
        want = (0.5 * torch.eye(5, dtype=torch.float64) + 0.5 * pattern.mean(1)) @ want
    torch.testing.assert_close(flow, want)
    with pytest.raises(ValueError, match="residual is 1"):
        attention.rollout(model, batch, residual=1)


def test_planted_high_norm_token_is_found():
    model = models.timm_vit(img_size=64)
    batch = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        model.pos_embed[0, 1 + 6] += 50
    flags = attention.high_norm_tokens(model, batch, layer=0)
    assert flags[:, 6].all()
    assert flags.sum() == 2
    last = attention.high_norm_tokens(model, batch, ratio=1.0001)
    assert last.shape == (2, 16)
    stream = read(model, "2.resid_pre", batch)[Site("resid_pre", 2)]
    assert stream.shape == (2, 17, 24)
    with pytest.raises(ValueError, match="ratio is 1"):
        attention.high_norm_tokens(model, batch, ratio=1)


def test_summary_has_a_row_for_every_layer_head_and_example():
    model, batch = models.timm_vit(reg_tokens=1), models.images(5)
    frame = attention.summary(model, batch, (2, 2), chunk=2)
    assert len(frame) == 3 * 3 * 5
    assert not frame.isna().any().any()
    pattern = list(attention.patterns(model, batch))[1]
    row = frame[(frame.layer == 1) & (frame["head"] == 2) & (frame.example == 4)]
    assert np.isclose(row.prefix_share.item(), pattern[4, 2, :, :2].sum(-1).mean())
    assert np.isclose(row.entropy.item(), attention.entropy(pattern)[4, 2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_have_a_summary_with_distances(dtype):
    model, batch = models.timm_vit(dtype=dtype), models.images(3, dtype)
    frame = attention.summary(model, batch, (2, 2), chunk=2)
    pattern = next(attention.patterns(model, batch[:2]))
    assert pattern.dtype == dtype
    first = frame[(frame.layer == 0) & (frame.example < 2)]
    for name, value in {
        "distance": attention.distance(pattern.double(), (2, 2), 1),
        "entropy": attention.entropy(pattern.double()),
        "prefix_share": pattern.double()[..., 0].mean(-1),
    }.items():
        want = value.flatten().numpy()
        assert first[name].dtype == np.float32
        np.testing.assert_allclose(first[name], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_of_full_types_keep_their_type_and_bits(dtype):
    pattern = torch.randn(2, 3, 7, 7, dtype=dtype).softmax(-1)
    inner = pattern[:, :, 1:, 1:] / pattern[:, :, 1:, 1:].sum(-1, keepdim=True)
    places = torch.cartesian_prod(torch.arange(2), torch.arange(3)).to(dtype)
    want = (inner * torch.cdist(places, places)).sum(-1).mean(-1)
    assert torch.equal(attention.distance(pattern, (2, 3), 1), want)


def test_no_example_has_no_summary():
    with pytest.raises(ValueError, match="inputs holds no example; allowed is at least one"):
        attention.summary(models.timm_vit(), models.images(0))
