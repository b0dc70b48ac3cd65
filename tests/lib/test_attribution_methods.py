"""Estimates of patching effects where one gradient fails, against the exact sweep."""

import architecture_models as architectures
import intervention_models as models
import numpy as np
import pytest
import torch
from patchwork.interventions import (
    LogitDifference,
    PatchGrid,
    attribution_sweep,
    circuits,
    correlation,
    patch_sweep,
)
from patchwork.interventions.sweeps import within_attention
from patchwork.interventions.sweeps.relevance import relevance_rules
from patchwork.models import sites
from torch import nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

WITHIN = PatchGrid(("q", "k", "v"))


def compared(model, clean, corrupted, metric, grid, *several):
    """The exact sweep, and for each of several options an estimate and its correlations."""
    exact = patch_sweep(model, clean, corrupted, metric, grid=grid)
    found = []
    for options in several:
        quick = attribution_sweep(model, clean, corrupted, metric, grid=grid, **options)
        r = {x: correlation(quick.values[x], exact.values[x]) for x in grid.components}
        found.append((quick, r))
    return exact, *found


def test_saturated_attention_is_seen_by_the_fix_and_not_by_the_gradient():
    model = circuits.induction().model
    pairs = circuits.induction_prompts(4, seed=0)
    exact, (fixed, r), (plain, _) = compared(model, *pairs, WITHIN, {"method": "qk_fix"}, {})
    whole = exact.source - exact.base
    # The induction head's query at the last token moves everything in odd rows, its key nothing.
    assert (np.abs(exact.values["q"][1, 0, -1, 1::2] / whole[1::2] - 1) < 1e-3).all()
    assert (exact.values["k"][1, 0, :, ::2].sum(0) > 0.5 * whole[::2]).all()
    assert np.abs(plain.values["q"]).max() < 1e-3 * whole.min()
    assert np.abs(plain.values["k"]).max() < 1e-3 * whole.min()
    assert r["q"] > 0.98
    assert r["k"] > 0.98
    assert plain.values["v"] == pytest.approx(fixed.values["v"])


def test_one_key_changed_is_the_softmax_of_the_changed_score():
    generator = torch.Generator().manual_seed(0)
    scores = 30 * torch.randn(2, 3, 5, 5, generator=generator)
    scores[0, 0] *= 10  # weights of exactly 0 and 1 in fp32
    scores = scores.masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), -torch.inf)
    change, along = (torch.randn(2, 3, 5, 5, generator=generator) for _ in range(2))
    change = 40 * change
    got = within_attention._one_key_changed(scores, change, along)
    before = (scores.softmax(-1) * along).sum(-1)
    for key in range(5):
        new = scores.clone()
        new[..., key] += change[..., key]
        want = (new.softmax(-1) * along).sum(-1) - before
        torch.testing.assert_close(got[..., key], want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "pythia", "gpt-neo, local", "timm eva02", "bert", "opt"])
def test_small_steps_are_linear_in_queries_keys_and_values(name):
    model, (source, base) = architectures.make(name), architectures.near(name)
    architectures.pair_tokens(model)
    grid = PatchGrid(("q", "k", "v"), (0, 3))
    exact, *estimates = compared(
        model, source, base, architectures.metric, grid, {}, {"method": "qk_fix"}
    )
    for quick, _ in estimates:
        for part in grid.components:
            scale = np.abs(exact.values[part]).max()
            assert scale > 1e-5
            assert np.abs(exact.values[part] - quick.values[part]).max() < 0.05 * scale, part


def test_the_fix_is_nearer_than_the_gradient_on_a_random_model():
    model = models.gpt2(layers=2)
    for block in model.transformer.h:
        block.attn.c_attn.weight.data[:, :64] *= 8  # queries and keys: sharper attention
    generator = torch.Generator().manual_seed(0)
    clean, corrupted = torch.randint(0, 50, (2, 6, 6), generator=generator)
    metric = LogitDifference(torch.arange(6), torch.arange(6) + 20)
    _, (_, fixed), (_, plain) = compared(
        model, clean, corrupted, metric, PatchGrid(("q", "k")), {"method": "qk_fix"}, {}
    )
    assert 1 - fixed["q"] < 0.2 * (1 - plain["q"])
    assert 1 - fixed["k"] < 0.2 * (1 - plain["k"])


def one_direction(scale=30.0):
    """A GPT-2 whose first MLP writes +-scale along one direction: the final norm is saturated."""
    config = GPT2Config(
        vocab_size=6, n_positions=4, n_embd=16, n_layer=2, n_head=2, n_inner=4,
        tie_word_embeddings=False, bos_token_id=0, eos_token_id=0, activation_function="relu",
    )  # fmt: skip
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config).eval()
    direction = torch.randn(16)
    direction = (direction - direction.mean()) / direction.norm()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.0 if bool((parameter == 1).all()) else 0.5)
        first = model.transformer.h[0].mlp
        sign = model.transformer.wte.weight[:, 0]
        sign.copy_(torch.tensor([1.0, -1.0] * 3) * 5)
        first.c_fc.weight.zero_()
        first.c_fc.weight[0, 0], first.c_fc.weight[0, 1] = 1, -1
        first.c_proj.weight.zero_()
        first.c_proj.weight[0], first.c_proj.weight[1] = scale * direction, -scale * direction
        model.lm_head.weight[0], model.lm_head.weight[1] = direction, -direction
    return model


def test_a_saturated_norm_is_seen_by_relevance_and_not_by_the_gradient():
    model = one_direction()
    generator = torch.Generator().manual_seed(0)
    corrupted = torch.randint(0, 3, (8, 4), generator=generator) * 2
    clean = corrupted + 1
    metric = LogitDifference(torch.zeros(8, dtype=int), torch.ones(8, dtype=int))
    grid = PatchGrid(("mlp_out", "head_out"), (3,))
    exact, (relevance, _), (gradient, _) = compared(
        model, clean, corrupted, metric, grid, {"method": "relp"}, {}
    )
    want = exact.values["mlp_out"][0, 0]
    assert np.abs(want).min() > 1
    assert (np.abs(relevance.values["mlp_out"][0, 0] / want - 1) < 0.1).all()
    assert (np.abs(gradient.values["mlp_out"][0, 0]) < 0.1 * np.abs(want)).all()


@pytest.mark.parametrize("name", ["llama", "bert", "opt", "pythia", "timm eva", "dinov3, gated"])
def test_relevance_rules_change_gradients_and_no_values(name):
    model, batch = architectures.make(name), architectures.inputs(name)
    want = architectures.outputs(model(batch))
    with relevance_rules(model, sites.find(model)):
        got = architectures.outputs(model(batch))
    assert torch.equal(got, want)
    slopes = [torch.autograd.grad(x.sum(), next(model.parameters()))[0] for x in (got, want)]
    assert not torch.allclose(*slopes)


def relevance_by_hand(model, ids, metric, rows):
    """A one-layer GPT-2 written out, every rule in its place; coefficients at its parts."""
    block, trunk = model.transformer.h[0], model.transformer

    def norm(module, x):
        scale = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + module.eps).detach()
        return (x - x.mean(-1, keepdim=True)) * scale * module.weight + module.bias

    stream = (trunk.wte(ids) + trunk.wpe(torch.arange(ids.shape[1]))).detach().requires_grad_()
    q, k, v = (
        x.unflatten(-1, (4, -1)).transpose(1, 2)
        for x in block.attn.c_attn(norm(block.ln_1, stream)).chunk(3, -1)
    )
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    hidden = ~torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    pattern = scores.masked_fill(hidden, -torch.inf).softmax(-1).detach()
    z = (pattern @ v).transpose(1, 2).flatten(-2)
    attn = block.attn.c_proj(z)
    mid = stream + attn
    h = block.mlp.c_fc(norm(block.ln_2, mid))
    mlp = block.mlp.c_proj(h * (F.gelu(h, approximate="tanh") / h).detach())
    logits = model.lm_head(norm(trunk.ln_f, mid + mlp))
    parts = {"resid_pre": stream, "head_out": z, "attn_out": attn, "mlp_out": mlp}
    found = torch.autograd.grad(metric(logits, rows).sum(), list(parts.values()))
    return {name: (x.detach(), g) for (name, x), g in zip(parts.items(), found, strict=True)}


def test_relevance_is_that_of_the_rules_written_out():
    model, rows = models.gpt2(layers=1), torch.arange(5)
    generator = torch.Generator().manual_seed(0)
    clean, corrupted = torch.randint(0, 50, (2, 5, 6), generator=generator)
    metric = LogitDifference(rows, rows + 20)
    grid = PatchGrid(("resid_pre", "attn_out", "mlp_out", "head_out"))
    got = attribution_sweep(model, clean, corrupted, metric, grid=grid, method="relp")
    base, source = (relevance_by_hand(model, x, metric, rows) for x in (corrupted, clean))
    for name in grid.components:
        product = base[name][1] * (source[name][0] - base[name][0])
        if name == "head_out":
            want = product.unflatten(-1, (4, -1)).sum(-1).permute(2, 1, 0)[None]
        else:
            want = product.sum(-1).T[None]
        np.testing.assert_allclose(got.values[name], want, atol=1e-9)


def test_what_a_method_has_no_rule_for_is_refused():
    model, ids = models.gpt2(), torch.arange(12).view(2, 6)
    metric = LogitDifference(torch.arange(2), torch.arange(2) + 9)

    def refused(message, of=model, batch=ids, score=metric, **options):
        with pytest.raises(ValueError, match=message):
            attribution_sweep(of, batch, batch, score, **options)

    refused("method is 'lrp'; allowed is gradient, qk_fix, relp", method="lrp")
    refused("steps is 4 with method relp", method="relp", steps=4)
    refused("components holds k with steps 2", steps=2, grid=PatchGrid(("k",)))
    refused("components holds q with method relp", method="relp", grid=PatchGrid(("q",)))
    eva = architectures.make("timm eva02")
    refused("the MLP is a GluMlp", eva, architectures.inputs("timm eva02"), architectures.metric,
            method="relp")  # fmt: skip
    broken = models.gpt2()
    broken.transformer.h[0].ln_1 = nn.Identity().eval()
    refused("norm is a Identity", broken, method="relp")


def test_checks_stand_in_the_metadata_of_every_method():
    model, (clean, corrupted, metric) = circuits.induction().model, circuits.induction_prompts(4, 1)
    grid = PatchGrid(("q",), (9, 10))
    quick = attribution_sweep(model, clean, corrupted, metric, grid=grid, method="qk_fix", check=4)
    assert quick.metadata["method"] == "qk_fix"
    assert quick.metadata["pearson_r"]["q"] > 0.98
