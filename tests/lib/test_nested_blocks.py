"""Runs of the library's own within a block: each example keeps its number, the block its count."""

import intervention_models as models
import numpy as np
import pytest
import torch
from patchwork.interventions import (
    LogitDifference,
    PatchGrid,
    ablate,
    attribution_sweep,
    gaussian_noise,
    group_ablation_sweep,
    head_ablation_sweep,
    mean_activations,
    patch,
    patch_sweep,
    read,
)
from patchwork.models.sites import Site

N = 20


def ids(seed=0, n=N, t=6):
    return torch.randint(0, 50, (n, t), generator=torch.Generator().manual_seed(seed))


def difference(n=N):
    return LogitDifference(torch.arange(n), torch.arange(n) + 25)


def block(model, baseline, reference):
    return ablate(model, "0.head_out.1", baseline, reference=reference, seed=5)


@pytest.mark.parametrize("baseline", ["resample", "noise"])
def test_clean_and_patched_runs_of_a_sweep_meet_the_same_edit(baseline):
    model, x = models.gpt2(), ids()
    with block(model, baseline, x):
        same = patch_sweep(model, x, x.clone(), difference())
        quick = attribution_sweep(model, x, x.clone(), difference())
    assert all(not values.any() for values in [*same.values.values(), *quick.values.values()])


@pytest.mark.parametrize("baseline", ["resample", "noise"])
def test_a_patch_sweep_in_a_block_is_a_loop_of_fresh_blocks_also_reordered(baseline):
    model, base = models.gpt2(), ids()
    source = base.clone()
    for row in range(N):  # the sweep orders pairs by their first difference
        source[row, (7 * row) % 6] = (base[row, (7 * row) % 6] + 1) % 50
    metric, rows = difference(), torch.arange(N)
    with block(model, baseline, base):
        sweep = patch_sweep(model, source, base, metric, grid=PatchGrid(("resid_pre",), (3,)))
        with torch.no_grad():
            clean = metric(model(base), rows)
    with block(model, baseline, base):
        stored = read(model, "1.resid_pre@3", source)
    with torch.no_grad(), block(model, baseline, base), patch(model, "1.resid_pre@3", stored):
        patched = metric(model(base), rows)
    np.testing.assert_allclose(sweep.base, clean, rtol=1e-10)
    np.testing.assert_allclose(sweep.values["resid_pre"][1, 0], patched - clean, atol=1e-10)


@pytest.mark.parametrize("baseline", ["resample", "noise"])
def test_a_head_sweep_in_a_block_is_a_loop_of_fresh_blocks(baseline):
    model, x, metric, rows = models.gpt2(), ids(), difference(), torch.arange(N)

    def fresh(site):
        with torch.no_grad(), block(model, baseline, x), ablate(model, site, expect_change=False):
            return metric(model(x), rows)

    with block(model, baseline, x):
        sweep = head_ablation_sweep(model, x, metric, baselines=["zero"])
        groups = group_ablation_sweep(model, x, metric, {"pair": ["1.head_out.0", "2.attn_out"]})
        with torch.no_grad():
            clean = metric(model(x), rows)
    for layer, head in ((0, 0), (1, 2), (2, 3)):
        want = fresh(f"{layer}.head_out.{head}") - clean
        np.testing.assert_allclose(sweep.values[0, layer, head], want, atol=1e-10)
    want = fresh(["1.head_out.0", "2.attn_out"]) - clean
    np.testing.assert_allclose(groups["effect"], want, atol=1e-10)


def test_inner_runs_leave_the_count_of_the_block_as_it_was():
    model, x, seen = models.gpt2(), ids(n=6), []

    def keep(site, tensor, rows):
        seen.append(rows.tolist())
        return tensor

    with torch.no_grad(), ablate(model, "0.attn_out", keep, expect_change=False):
        model(x[:2])
        read(model, "1.attn_out", x[:3])
        mean_activations(model, "1.attn_out", x, chunk=4)
        with patch(model, "2.attn_out", ids(1, 2), expect_change=False):
            model(x[2:4])
        model(x[4:])
    assert seen == [[0, 1], [0, 1, 2], [0, 1, 2, 3], [4, 5], [0, 1], [2, 3], [4, 5]]


def test_a_patch_around_a_sweep_gives_each_example_its_own_row():
    model, x, other = models.gpt2(), ids(), ids(1)
    metric, rows = difference(), torch.arange(N)
    with torch.no_grad(), patch(model, "0.attn_out", other):
        sweep = head_ablation_sweep(model, x, metric, baselines=["zero"])
        clean = metric(model(x), rows)
    np.testing.assert_allclose(sweep.clean, clean, rtol=1e-10)
    with pytest.raises(ValueError, match="has 3 rows"), patch(model, "0.attn_out", other[:3]):
        head_ablation_sweep(model, x, metric, baselines=["zero"])


def test_noise_of_a_row_is_its_own():
    site, tensor = Site("attn_out", 0), torch.randn(4, 3, 2, dtype=torch.float64)
    edit = gaussian_noise(1.0, seed=3)
    whole = edit(site, tensor, torch.arange(4))
    assert torch.equal(edit(site, tensor[[2, 0]], torch.tensor([2, 0])), whole[[2, 0]])
    one = edit(site, tensor[:1].expand(4, -1, -1), torch.arange(4)) - tensor[:1]
    assert len({tuple(noise.flatten().tolist()) for noise in one}) == 4


def test_noise_in_generate_with_cached_keys_is_drawn_for_each_pass():
    model, x, seen = models.gpt2(), ids(n=2), []
    noise = gaussian_noise(1.0, seed=3)

    def keep(site, tensor, rows):
        new = noise(site, tensor, rows)
        spread = tensor.flatten(1).std(1)[:, None, None]
        seen.append((rows.tolist(), (new - tensor) / spread))
        return new

    def written(**options):
        with torch.no_grad(), ablate(model, "1.attn_out", keep):
            return model.generate(x, max_new_tokens=4, do_sample=False, pad_token_id=0, **options)

    cached = written()
    assert torch.equal(cached, written())
    first, *later = seen[:4]
    assert [rows for rows, _ in seen[:4]] == [[0, 1]] * 4
    # Each new token of a row gets the draw of the first token of its prompt, in its own spread.
    for _, draw in later:
        assert draw.shape[1] == 1
        torch.testing.assert_close(draw, first[1][:, :1])
    seen.clear()
    written(use_cache=False)
    for step, (_, draw) in enumerate(seen):  # all tokens are seen again, with their own draws
        assert draw.shape[1] == x.shape[1] + step
        torch.testing.assert_close(draw[:, : x.shape[1]], first[1])


def test_sources_and_means_are_read_from_the_model_as_it_then_is():
    model, x, other = models.gpt2(), ids(n=4), ids(1, 4)
    site = "1.attn_out"
    outside = read(model, site, other)
    with torch.no_grad(), ablate(model, "0.attn_out"):
        inside = read(model, site, other)
        with patch(model, site, other):
            by_inputs = model(x).logits
        with patch(model, site, inside):
            assert torch.equal(model(x).logits, by_inputs)
        with patch(model, site, outside):
            assert not torch.allclose(model(x).logits, by_inputs)
        means = {site: inside[Site("attn_out", 1)].mean(0, keepdim=True)}
        with ablate(model, site, "mean", reference=other):
            by_reference = model(x).logits
        with patch(model, site, means):
            torch.testing.assert_close(model(x).logits, by_reference)
