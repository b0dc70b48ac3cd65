"""Logit lens, direct logit attribution and path patching against loops that say what they mean."""

import architecture_models
import intervention_models as models
import numpy as np
import pytest
import torch
from patchwork.interventions import (
    LogitDifference,
    ablate,
    direct_effects,
    lens,
    logit_lens,
    patch,
    path_sweep,
    read,
)
from patchwork.models import sites
from patchwork.models.sites import Site

TEXT = ["gpt2", "llama", "pythia", "gpt-neo"]
ROWS = torch.arange(4)
METRIC = LogitDifference(ROWS, ROWS + 9)
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module", params=TEXT)
def case(request):
    if request.param == "gpt2":
        ids = torch.randint(0, 50, (2, 4, 6), generator=torch.Generator().manual_seed(0))
        model = models.gpt2()
        for parameter in model.parameters():
            parameter.data *= 2.5  # effects far above rounding
        return model, *ids
    made = architecture_models.make(request.param)
    return made, *[architecture_models.inputs(request.param, 4, 6, seed) for seed in (0, 1)]


def test_the_lens_is_the_read_out_of_each_stream(case):
    model, ids, _ = case
    outputs = list(lens(model, ids))
    n_layers = sites.find(model).n_layers
    assert len(outputs) == n_layers + 1
    torch.testing.assert_close(outputs[-1].logits, model(ids).logits)
    # A model whose later blocks write nothing says what the lens says.
    silent = [f"{layer}.{kind}" for layer in (1, 2) for kind in ("attn_out", "mlp_out")]
    with ablate(model, silent):
        torch.testing.assert_close(outputs[1].logits, model(ids).logits, **CLOSE)
        inside = list(lens(model, ids))
    torch.testing.assert_close(inside[-1].logits, outputs[1].logits, **CLOSE)
    values = logit_lens(model, ids, METRIC, chunk=3)
    want = [METRIC(output, ROWS) for output in outputs]
    np.testing.assert_allclose(values, torch.stack(want), **CLOSE)


def test_the_lens_of_images_uses_the_models_own_end():
    model, batch = models.timm_vit(global_pool="avg"), models.images(3)
    outputs = list(lens(model, batch))
    with ablate(model, ["2.attn_out", "2.mlp_out"]):
        torch.testing.assert_close(outputs[2], model(batch))
    torch.testing.assert_close(outputs[3], model(batch))
    with pytest.raises(ValueError, match="hooks on the blocks"), ablate(model, "0.resid_pre"):
        list(lens(model, batch))
    with pytest.raises(ValueError, match="norms behind its layers"):
        list(lens(architecture_models.make("bert"), architecture_models.inputs("bert")))


def test_direct_effects_sum_to_the_logit_difference_and_show_what_they_leave_out(case):
    model, ids, _ = case
    anatomy = sites.find(model)
    frame = direct_effects(model, ids, METRIC, neurons=[1], chunk=3)
    want = METRIC(model(ids), ROWS).numpy()
    parts = frame[frame.component != "neuron"]
    sums = parts.groupby("example").effect.sum()
    np.testing.assert_allclose(sums, want, **CLOSE)
    final = read(model, "2.resid_post@-1", ids)[Site("resid_post", 2, None, (-1,))][:, 0]
    z = read(model, "1.head_out.2@-1", ids)[Site("head_out", 1, 2, (-1,))][:, 0]
    with ablate(model, "1.head_out.2"):
        proj_in = read(model, "1.attn_out@-1", ids)[Site("attn_out", 1, None, (-1,))][:, 0]
    written = read(model, "1.attn_out@-1", ids)[Site("attn_out", 1, None, (-1,))][:, 0] - proj_in
    assert z.shape[-1] == anatomy.d_head

    def value(stream):
        return METRIC.from_hidden(model, anatomy.final_norm(stream), ROWS)

    head = frame[(frame.component == "head") & (frame.layer == 1) & (frame["index"] == 2)]
    np.testing.assert_allclose(head.removed, value(final) - value(final - written), **CLOSE)
    # At the scale of the whole stream a small share counts as its share.
    share = 1e-3 * written
    slope = METRIC.from_hidden(model, scaled(anatomy.final_norm, final, share), ROWS)
    bias = METRIC.from_hidden(model, torch.zeros_like(final), ROWS)
    np.testing.assert_allclose(head.effect, (slope - bias) / 1e-3, rtol=1e-3, atol=1e-4)
    neurons = frame[frame.component == "neuron"]
    assert len(neurons) == 4 * anatomy.d_hidden
    mlp = frame[(frame.component == "mlp") & (frame.layer == 1)].set_index("example").effect
    bias = getattr(anatomy.blocks[1].mlp_last, "bias", None)
    if bias is None:  # with one, the MLP writes more than its units
        np.testing.assert_allclose(neurons.groupby("example").effect.sum(), mlp, **CLOSE)


def scaled(norm, stream, x):
    """What a norm with the scale of `stream` makes of x, from two of its outputs."""
    if isinstance(norm, torch.nn.LayerNorm):
        scale = (stream.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
        return (x - x.mean(-1, keepdim=True)) / scale * norm.weight
    return x / (stream.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt() * norm.weight


def frozen_run(model, base, source, sender, receiver_layer, kind):
    """Edits that hold every part before the receiver but the sender at its base value."""
    anatomy = sites.find(model)
    held = {}
    for layer in range(anatomy.n_layers):
        for name in ("head_out", "mlp_out"):
            last = (
                receiver_layer if name == "head_out" and kind == "mlp_out" else receiver_layer - 1
            )
            if layer <= last:
                site = Site(name, layer)
                held[site] = read(model, site, base)[site].clone()
    component, layer, head = sender
    site = Site(component, layer)
    other = read(model, site, source)[site]
    part = slice(None) if head < 0 else slice(head * anatomy.d_head, (head + 1) * anatomy.d_head)
    held[site][..., part] = other[..., part]
    return held


@pytest.mark.parametrize("receiver", ["2.q.1", "2.k.1", "2.v", "2.mlp_out"])
def test_paths_are_what_a_run_with_all_else_held_sends(case, receiver):
    model, base, source = case
    frame = path_sweep(model, source, base, METRIC, receiver, chunk=3)
    site = sites.resolve(model, receiver)[0]
    before = METRIC(model(base), ROWS)
    for sender in (("head_out", 0, 1), ("head_out", 1, 3), ("mlp_out", 1, -1)):
        held = frozen_run(model, base, source, sender, 2, site.kind)
        with patch(model, list(held), held, expect_change=False):
            received = read(model, site, base)
        with patch(model, site, received, expect_change=False):
            want = METRIC(model(base), ROWS) - before
        got = frame[(frame.component == sender[0]) & (frame.layer == sender[1])]
        got = got[got["head"] == sender[2]].sort_values("example")
        exact = want.dtype == torch.float64
        close = {"rtol": 1e-7, "atol": 1e-11} if exact else CLOSE
        np.testing.assert_allclose(got.effect, want, **close)
        assert float(np.abs(got.effect).max()) > (1e-7 if exact else 1e-3)


def test_paths_to_the_logits_and_at_one_position(case):
    model, base, source = case
    n_layers, n_heads = sites.find(model).n_layers, sites.find(model).n_heads
    frame = path_sweep(model, source, base, METRIC, "logits")
    assert len(frame) == 4 * n_layers * (n_heads + 1)
    held = frozen_run(model, base, source, ("head_out", 1, 3), n_layers, "logits")
    with patch(model, list(held), held, expect_change=False):
        patched = METRIC(model(base), ROWS)
    want = patched - METRIC(model(base), ROWS)
    got = frame[(frame.component == "head_out") & (frame.layer == 1) & (frame["head"] == 3)]
    np.testing.assert_allclose(got.effect, want, **CLOSE)
    early = path_sweep(model, source, base, METRIC, "logits", positions=(0, 1))
    assert not early.effect.any()  # the logits of the last token read its own stream alone
    with pytest.raises(ValueError, match=r"receiver 1.resid_pre; allowed is logits, or q, k, v"):
        path_sweep(model, source, base, METRIC, "1.resid_pre")
