"""Sites that no module gives alone (q, k, v), the stream after a block, and steering."""

import architecture_models
import intervention_models as models
import pytest
import torch
from patchwork.interventions import ablate, patch, read, steer
from patchwork.models import sites
from patchwork.models.sites import Site

NAMES = ["llama", "pythia", "opt", "gpt-neo, local", "bert", "timm eva02", "timm beit", "dinov3"]
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module", params=[*NAMES, "gpt2", "vit"])
def case(request):
    if request.param == "gpt2":
        ids = torch.randint(0, 50, (2, 5, 6), generator=torch.Generator().manual_seed(0))
        return models.gpt2(), *ids
    if request.param == "vit":
        return models.timm_vit(qk_norm=True), models.images(5), models.images(5, seed=1)
    made = architecture_models.make(request.param)
    inputs = [architecture_models.inputs(request.param, seed=seed) for seed in (0, 1)]
    return made, *inputs


def test_queries_keys_and_values_of_another_run_give_its_heads(case):
    model, batch, other = case
    want = read(model, "1.head_out", other)[Site("head_out", 1)]
    with patch(model, ["1.q", "1.k", "1.v"], other):
        got = read(model, "1.head_out", batch)[Site("head_out", 1)]
    torch.testing.assert_close(got, want, **CLOSE)
    with patch(model, ["1.q.2", "1.k.2", "1.v.2"], other):
        one = read(model, ["1.head_out.2", "1.head_out.0"], batch)
    torch.testing.assert_close(one[Site("head_out", 1, 2)], read_head(want, model, 2), **CLOSE)
    clean = read(model, "1.head_out.0", batch)[Site("head_out", 1, 0)]
    assert torch.equal(one[Site("head_out", 1, 0)], clean)


def read_head(whole, model, head):
    return whole.unflatten(-1, (sites.find(model).n_heads, -1))[:, :, head]


def test_a_head_without_values_is_silent_and_one_without_queries_looks_everywhere(case):
    model, batch, _ = case
    with ablate(model, "1.v.2"):
        assert not read(model, "1.head_out.2", batch)[Site("head_out", 1, 2)].any()
    clean = read(model, "1.pattern.1", batch)[Site("pattern", 1, 1)]
    with ablate(model, "1.q.1@3"):
        flat = read(model, "1.pattern.1", batch)[Site("pattern", 1, 1)]
    bias = sites.find(model).blocks[1].score_bias
    if bias is None:
        allowed = (clean > 0).to(clean)
        torch.testing.assert_close(
            flat[:, :, 3], (allowed / allowed.sum(-1, keepdim=True))[:, :, 3]
        )
    else:
        row = bias()[:, 1, 3].softmax(-1).expand_as(flat[:, 0, 3])
        torch.testing.assert_close(flat[:, 0, 3], row)
    others = [p for p in range(clean.shape[2]) if p != 3]
    assert torch.equal(flat[:, :, others], clean[:, :, others])


def test_an_edit_of_queries_comes_before_one_of_their_pattern(case):
    model, batch, other = case
    with patch(model, "1.q.1", other), ablate(model, "1.pattern.1@3<-1", "knockout"):
        one = read(model, "1.head_out.1", batch)
    with ablate(model, "1.pattern.1@3<-1", "knockout"), patch(model, "1.q.1", other):
        two = read(model, "1.head_out.1", batch)
    torch.testing.assert_close(one, two)


def test_the_stream_after_a_block_is_that_before_the_next(case):
    model, batch, other = case
    kept = read(model, ["0.resid_post", "1.resid_pre"], batch)
    assert torch.equal(kept[Site("resid_post", 0)], kept[Site("resid_pre", 1)])
    outputs = []
    for name in ("0.resid_post@2", "1.resid_pre@2"):
        with patch(model, name, other, expect_change=False):
            outputs.append(architecture_models.outputs(model(batch)))
    assert torch.equal(*outputs)


def test_steering_adds_a_direction_also_in_generation():
    model = models.gpt2()
    ids = torch.arange(12).view(3, 4)
    direction = torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}

    def add(module, args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        new = hidden + 2.5 * direction
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = model.transformer.h[1].register_forward_hook(add)
    want, texts = model(ids).logits, model.generate(ids, **options)
    handle.remove()
    with steer(model, "1.resid_post", direction, 2.5):
        torch.testing.assert_close(model(ids).logits, want)
        assert torch.equal(model.generate(ids, use_cache=True, **options), texts)
        assert torch.equal(model.generate(ids, use_cache=False, **options), texts)
    assert not torch.equal(model.generate(ids, **options), texts)
    rows = torch.stack([direction, 0 * direction, -direction])
    with steer(model, "1.resid_post@-1", rows):
        own = read(model, "1.resid_post", ids)[Site("resid_post", 1)]
    clean = read(model, "1.resid_post", ids)[Site("resid_post", 1)]
    torch.testing.assert_close(own[:, -1] - clean[:, -1], rows)
    assert torch.equal(own[:, :-1], clean[:, :-1])
    with (
        pytest.raises(ValueError, match=r"direction has shape \(3,\)"),
        steer(model, "1.resid_post", torch.ones(3)),
    ):
        model(ids)
