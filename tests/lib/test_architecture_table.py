"""One test body over all rows of the architecture table; loops of plain hooks are the judge."""

import architecture_models as models
import intervention_models as small
import numpy as np
import pytest
import torch
from patchwork.interventions import (
    PatchGrid,
    ablate,
    attention,
    attribution_sweep,
    head_ablation_sweep,
    patch,
    patch_sweep,
    read,
)
from patchwork.models import sites
from patchwork.models.sites import Site

N, T = 5, 7
TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}


def hooked(model, batch, module, edit, before=False):
    """The model's outputs while a plain hook edits what goes into or comes out of a module."""

    def enter(module, args):
        return (edit(args[0].clone()), *args[1:])

    def leave(module, args, output):
        return edit(output.clone())

    handle = (
        module.register_forward_pre_hook(enter) if before else module.register_forward_hook(leave)
    )
    with torch.no_grad():
        output = model(batch)
    handle.remove()
    return output


def taken(model, batch, module, before=False):
    """What goes into or comes out of a module."""
    kept = []

    def keep(x):
        kept.append(x.clone())
        return x

    hooked(model, batch, module, keep, before)
    return kept[0]


@pytest.fixture(scope="module", params=models.CASES)
def case(request):
    return request.param, models.make(request.param)


def test_streams_and_patterns_are_the_models_own(case):
    name, model = case
    batch, anatomy = models.inputs(name), sites.find(model)
    streams = read(model, "*.resid_pre", batch)
    patterns = list(attention.patterns(model, batch))
    edited = read(model, "1.pattern", batch)[Site("pattern", 1)]
    torch.testing.assert_close(edited, patterns[1])
    if models.CASES[name][0] == "timm":
        check_timm(model, batch, streams, patterns)
        return
    model.set_attn_implementation("eager")
    eager = model(batch, output_attentions=True, output_hidden_states=True)
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    assert anatomy.causal is (name in models.CASES and models.CASES[name][0] == "ForCausalLM")
    for layer in range(anatomy.n_layers):
        torch.testing.assert_close(
            streams[Site("resid_pre", layer)], eager.hidden_states[layer], **TOLERANCE
        )
        torch.testing.assert_close(patterns[layer], eager.attentions[layer], **TOLERANCE)
    if not anatomy.causal and name != "bert":  # 4 patches; what is left is the prefix
        assert eager.hidden_states[0].shape[1] == anatomy.n_prefix + 4


def check_timm(model, batch, streams, patterns):
    """Its attention without the fused kernel drops out nothing, and hands over the pattern."""
    for block in model.blocks:
        block.attn.fused_attn = False
    for layer, block in enumerate(model.blocks):
        torch.testing.assert_close(
            streams[Site("resid_pre", layer)], taken(model, batch, block, before=True)
        )
        own = taken(model, batch, block.attn.attn_drop)
        torch.testing.assert_close(patterns[layer], own, **TOLERANCE)
        block.attn.fused_attn = True


def test_parts_add_up_to_the_next_stream(case):
    name, model = case
    anatomy, batch = sites.find(model), models.inputs(name)
    kept = read(model, ["*.resid_pre", "*.attn_out", "*.mlp_out", "*.mlp_hidden"], batch)
    assert kept[Site("mlp_hidden", 0)].shape[-1] == anatomy.d_hidden
    for layer in range(anatomy.n_layers - 1):
        parts = anatomy.blocks[layer]
        total = kept[Site("resid_pre", layer)]
        total = total + parts.attn_scale(kept[Site("attn_out", layer)].clone())
        if parts.order == "post":
            total = parts.attn_norm(total)
        total = total + parts.mlp_scale(kept[Site("mlp_out", layer)].clone())
        if parts.order == "post":
            total = parts.mlp_norm(total)
        torch.testing.assert_close(total, kept[Site("resid_pre", layer + 1)], **TOLERANCE)


def test_head_sweeps_are_loops_of_hooks(case):
    name, model = case
    batch, anatomy, rows = models.inputs(name), sites.find(model), torch.arange(N)
    sweep = head_ablation_sweep(model, batch, models.metric)
    wanted = models.CASES[name][3]
    assert (sweep.metadata["path"] == "fast") is wanted, sweep.metadata
    clean = models.metric(model(batch), rows).detach()
    for layer in range(anatomy.n_layers):
        proj = anatomy.blocks[layer].proj
        means = taken(model, batch, proj, before=True).mean(0)
        for head in range(anatomy.n_heads):
            part = slice(head * anatomy.d_head, (head + 1) * anatomy.d_head)

            def edit(x, new, part=part):
                x[..., part] = new if isinstance(new, float) else new[..., part]
                return x

            for i, new in enumerate((0.0, means)):
                output = hooked(model, batch, proj, lambda x, new=new: edit(x, new), before=True)
                want = models.metric(output, rows) - clean
                np.testing.assert_allclose(sweep.values[i, layer, head], want, **TOLERANCE)
    assert float(np.abs(sweep.values).max()) > 1e-2


@pytest.mark.parametrize("component", ["resid_pre", "attn_out", "mlp_out", "head_out"])
def test_patch_sweeps_are_loops_of_hooks(case, component):
    name, model = case
    base, anatomy, rows = models.inputs(name), sites.find(model), torch.arange(N)
    source = base.clone()
    if not models.is_vision(name):
        source[:, 2:4] = models.inputs(name, seed=1)[:, 2:4]
    else:
        source[:, :, :16] = models.inputs(name, seed=1)[:, :, :16]
    sweep = patch_sweep(model, source, base, models.metric, grid=PatchGrid((component,)))
    assert (sweep.metadata["path"] == "fast") is models.CASES[name][3], sweep.metadata
    before = models.metric(model(base), rows).detach()
    np.testing.assert_allclose(sweep.base, before, **TOLERANCE)
    values = sweep.values[component]
    for layer in range(anatomy.n_layers):
        parts = anatomy.blocks[layer]
        module = {"resid_pre": parts.block, "mlp_out": parts.mlp_last}.get(component, parts.proj)
        enters = component in ("resid_pre", "head_out")
        new = taken(model, source, module, enters)
        for position in range(values.shape[-2]):
            part = slice(anatomy.d_head, 2 * anatomy.d_head) if values.ndim == 4 else slice(None)

            def edit(x, new=new, position=position, part=part):
                whole = x.view(N, -1, x.shape[-1])  # OPT's MLP takes all tokens as rows
                whole[:, position, part] = new.view_as(whole)[:, position, part]
                return x

            want = models.metric(hooked(model, base, module, edit, enters), rows) - before
            cell = values[layer, 1, position] if values.ndim == 4 else values[layer, position]
            np.testing.assert_allclose(cell, want, **TOLERANCE)
    assert float(np.abs(values).max()) > 1e-2


def test_knockout_and_attribution_run(case):
    name, model = case
    batch = models.inputs(name)
    with torch.no_grad(), ablate(model, "1.pattern.2@3<-1", "knockout"):
        cut = read(model, "1.pattern.2@3", batch)[Site("pattern", 1, 2, (3,))]
    assert not bool(cut[..., 1].any())
    torch.testing.assert_close(cut.sum(-1), torch.ones_like(cut[..., 0]))
    source = models.inputs(name, seed=1)
    grid = PatchGrid(("resid_pre", "head_out"))
    estimate = attribution_sweep(model, source, batch, models.metric, grid=grid)
    near = batch + 1e-3 * (source - batch) if batch.is_floating_point() else None
    if near is not None:  # a small step is linear
        exact = patch_sweep(model, near, batch, models.metric, grid=grid)
        quick = attribution_sweep(model, near, batch, models.metric, grid=grid)
        scale = np.abs(exact.values["resid_pre"]).max()
        off = np.abs(exact.values["resid_pre"] - quick.values["resid_pre"]).max()
        assert off < 0.05 * scale
    assert np.isfinite(estimate.values["head_out"]).all()


@pytest.mark.parametrize("hidden", ["is_causal", "attn_mask"])
def test_masks_that_a_caller_hands_to_timm_are_seen(hidden):
    model, images = small.timm_vit(), small.images(3)
    t = 5
    shown = torch.ones(t, t, dtype=torch.bool).tril()
    batch = {"x": images, "attn_mask": shown.expand(3, 1, t, t)}
    if hidden == "is_causal":
        batch = {"x": images, "is_causal": True}
    kept = read(model, ["1.pattern", "1.v", "1.head_out"], batch)
    pattern = kept[Site("pattern", 1)]
    assert not pattern[..., ~shown].any()
    values = kept[Site("v", 1)].unflatten(-1, (3, -1)).transpose(1, 2)
    heads = (pattern @ values).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(heads, kept[Site("head_out", 1)])
    if hidden == "attn_mask":
        sweep = head_ablation_sweep(model, batch, small.vit_metric, baselines=["zero"])
        assert sweep.metadata["path"] == "plain"
        with torch.no_grad(), ablate(model, "1.head_out.2"):
            want = small.vit_metric(model(**batch), None) - sweep.clean
        np.testing.assert_allclose(sweep.values[0, 1, 2], want, atol=1e-12)


def test_a_mask_of_timm_that_the_first_example_does_not_need_counts_for_the_others():
    model, images = small.timm_vit(), small.images(3)
    shown = torch.ones(3, 1, 5, 5, dtype=torch.bool)
    shown[1:] = shown[1:].tril()
    batch, rows = {"x": images, "attn_mask": shown}, torch.arange(3)
    other = {"x": small.images(3, seed=1), "attn_mask": shown}
    sweep = patch_sweep(model, other, batch, small.vit_metric, grid=PatchGrid(("head_out",)))
    heads = head_ablation_sweep(model, batch, small.vit_metric, baselines=["zero"])
    assert sweep.metadata["reason"].startswith("attn_mask")
    with torch.no_grad():
        clean = small.vit_metric(model(**batch), rows)
        with ablate(model, "1.head_out.2"):
            ablated = small.vit_metric(model(**batch), rows) - clean
        with patch(model, "1.head_out.2@3", other):
            patched = small.vit_metric(model(**batch), rows) - clean
    np.testing.assert_allclose(heads.values[0, 1, 2], ablated, atol=1e-12)
    np.testing.assert_allclose(sweep.values["head_out"][1, 2, 3], patched, atol=1e-12)


def test_is_causal_for_a_sweep_is_refused_or_handed_over_by_a_module():
    model, images = small.timm_vit(), small.images(3)
    with pytest.raises(ValueError, match="is_causal is no array with one row for each example"):
        head_ablation_sweep(model, {"x": images, "is_causal": True}, small.vit_metric)

    class Causal(small.Inner):
        def forward(self, images):
            return self.inner(images, is_causal=True)

    own = Causal(model)
    sweep = head_ablation_sweep(own, images, small.vit_metric, baselines=["zero"])
    assert sweep.metadata["path"] == "plain"
    with torch.no_grad(), ablate(own, "1.head_out.2"):
        want = small.vit_metric(own(images), None) - sweep.clean
    np.testing.assert_allclose(sweep.values[0, 1, 2], want, atol=1e-12)
