"""A circuit set by hand is found, and faithfulness is that of runs edited by hand."""

import intervention_models as models
import numpy as np
import pytest
import torch
from patchwork.interventions import (
    LogitDifference,
    PatchGrid,
    ablate,
    attention,
    attribution_sweep,
    circuits,
    faithfulness,
    node_scores,
    patch_sweep,
)
from patchwork.models.sites import Site

NODES = PatchGrid(("head_out", "mlp_out"))


@pytest.fixture(scope="module")
def known():
    return circuits.induction(), circuits.induction_prompts(12, seed=0)


def test_the_model_does_its_task_by_its_two_heads(known):
    (model, circuit), (clean, corrupted, metric) = (known[0].model, known[0].circuit), known[1]
    rows = torch.arange(12)
    with torch.no_grad():
        assert torch.equal(model(clean).logits[:, -1].argmax(-1), metric.right)
        assert torch.equal(model(corrupted).logits[:, -1].argmax(-1), metric.wrong)
        before = metric(model(clean), rows)
        for site in circuits.nodes(model):
            with ablate(model, site, expect_change=False):
                off = (metric(model(clean), rows) - before).abs()
            assert bool((off > 0.5 * before).all()) is (site in circuit)
            assert bool((off < 0.3 * before).all()) is (site not in circuit)
    first, second = attention.patterns(model, clean)
    places = torch.arange(1, 11)
    assert bool((first[:, 0, places, places - 1] > 0.99).all())
    attended = second[:, 0, -1].argmax(-1)
    assert torch.equal(clean[rows, attended], metric.right)


def test_exact_patching_finds_the_circuit(known):
    (clean, corrupted, metric), own = known[1], known[0]
    exact = node_scores(patch_sweep(own.model, clean, corrupted, metric, grid=NODES))
    assert circuits.auroc(exact, own.circuit) == 1
    assert set(exact) == set(circuits.nodes(own.model))
    flat = node_scores(attribution_sweep(own.model, clean, corrupted, metric, grid=NODES))
    before = Site("head_out", 0, 0)
    assert flat[before] < 0.3 * exact[before]  # what goes through a saturated key is not seen
    curve = faithfulness(own.model, clean, corrupted, metric, exact)
    worst = faithfulness(own.model, clean, corrupted, metric, {k: -x for k, x in exact.items()})
    shares = np.array(curve.shares)
    np.testing.assert_allclose(curve.values[shares >= 0.2], 1, atol=0.1)
    np.testing.assert_allclose(curve.values[shares < 0.1], 0, atol=0.1)
    assert curve.kept[-4:] == (1, 2, 5, 10)
    assert curve.cpr > worst.cpr + 0.2
    assert curve.cmd < worst.cmd - 0.2


def test_faithfulness_is_that_of_runs_edited_with_hooks():
    model = models.gpt2(heads=2)
    generator = torch.Generator().manual_seed(0)
    clean, corrupted = torch.randint(0, 50, (2, 10, 5), generator=generator)
    metric, rows = LogitDifference(torch.arange(10), torch.arange(10) + 20), torch.arange(10)
    every = circuits.nodes(model)
    scores = {site: float(i * 7 % 9) for i, site in enumerate(every)}  # a mixed order
    got = faithfulness(model, clean, corrupted, metric, scores, shares=(0.0, 0.4, 1.0), chunk=3)

    def module(site):
        block = model.transformer.h[site.layer]
        return block.attn.c_proj if site.kind == "head_out" else block.mlp.c_proj

    @torch.no_grad()
    def by_hand(kept):
        taken, handles = {}, []
        for site in every:
            heads = site.kind == "head_out"
            part = slice(8 * site.index, 8 * site.index + 8) if heads else slice(None)

            def keep(m, args, output=None, site=site, part=part):
                taken[site] = (args[0] if output is None else output)[..., part].clone()

            hook = (
                module(site).register_forward_pre_hook
                if heads
                else module(site).register_forward_hook
            )
            handles.append(hook(keep))
        model(corrupted)
        for handle in handles:
            handle.remove()
        handles = []
        for site in every:
            if site in kept:
                continue
            heads = site.kind == "head_out"
            part = slice(8 * site.index, 8 * site.index + 8) if heads else slice(None)

            def enter(m, args, site=site, part=part):
                x = args[0].clone()
                x[..., part] = taken[site]
                return (x,)

            def leave(m, args, output, site=site):
                return taken[site]

            handles.append(
                module(site).register_forward_pre_hook(enter)
                if heads
                else module(site).register_forward_hook(leave)
            )
        value = metric(model(clean), rows).mean()
        for handle in handles:
            handle.remove()
        return float(value)

    ranked = sorted(every, key=lambda site: -scores[site])
    with torch.no_grad():
        none, whole = (float(metric(model(x), rows).mean()) for x in (corrupted, clean))
    assert got.kept == (0, 3, 9)
    want = [(by_hand(ranked[:k]) - none) / (whole - none) for k in got.kept]
    np.testing.assert_allclose(got.values, want, atol=1e-9)
    f = np.array(want)
    assert got.cpr == pytest.approx(0.2 * (f[0] + f[1]) + 0.3 * (f[1] + f[2]))
    g = np.abs(1 - f)
    assert got.cmd == pytest.approx(0.2 * (g[0] + g[1]) + 0.3 * (g[1] + g[2]))


def test_bad_rankings_are_refused(known):
    (clean, corrupted, metric), own = known[1], known[0]
    scores = dict.fromkeys(circuits.nodes(own.model), 1.0)
    with pytest.raises(ValueError, match="shares is"):
        faithfulness(own.model, clean, corrupted, metric, scores, shares=(0.5, 0.2))
    with pytest.raises(ValueError, match="metric is the same"):
        faithfulness(own.model, clean, clean, metric, scores)
    del scores[Site("mlp_out", 1)]
    with pytest.raises(ValueError, match="mlp_out is in one of scores and model"):
        faithfulness(own.model, clean, corrupted, metric, scores)
    with pytest.raises(ValueError, match="circuit holds 0 of 9 nodes"):
        circuits.auroc(scores, frozenset())
