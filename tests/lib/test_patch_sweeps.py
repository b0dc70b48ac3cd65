"""Fast patching sweeps against loops that use torch hooks and nothing of the library."""

import intervention_models as models
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from patchwork import interventions
from patchwork.interventions import LogitDifference, PatchGrid, Plan
from patchwork.interventions.fast_path import streams
from patchwork.interventions.sweeps import plan
from patchwork.models import sites

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
PLAIN = Plan(path="plain")
ALL = ("resid_pre", "attn_out", "mlp_out", "head_out")


@torch.no_grad()
def naive_patch(model, base, source, metric, component):
    """Loop over layer, (head,) position with plain torch hooks."""
    anatomy, rows = sites.find(model), torch.arange(len(base))
    before, effects = metric(model(base), rows), []
    heads = range(anatomy.n_heads) if component == "head_out" else [None]
    for parts in anatomy.blocks:
        module = {"resid_pre": parts.block, "mlp_out": parts.mlp_last}.get(component, parts.proj)
        enters = component in ("resid_pre", "head_out")
        kept = []
        handle = module.register_forward_hook(
            lambda m, args, out, kept=kept, enters=enters: kept.append(args[0] if enters else out)
        )
        model(source)
        handle.remove()
        for head in heads:
            width = kept[0].shape[-1] if head is None else anatomy.d_head
            part = slice(None) if head is None else slice(head * width, (head + 1) * width)
            for position in range(kept[0].shape[1]):

                def change(x, position=position, part=part, kept=kept):
                    x = x.clone()
                    x[:, position, part] = kept[0][:, position, part]
                    return x

                handle = (
                    module.register_forward_pre_hook(lambda m, args: (change(args[0]), *args[1:]))
                    if enters
                    else module.register_forward_hook(lambda m, args, out: change(out))
                )
                effects.append(metric(model(base), rows) - before)
                handle.remove()
    shape = (anatomy.n_layers, *([len(heads)] if component == "head_out" else []), -1, len(base))
    return torch.stack(effects).view(shape).numpy()


def prompts(n, t, first, seed=0):
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randint(0, 50, (n, t), generator=generator)
    corrupted = clean.clone()
    corrupted[:, first] = (clean[:, first] + 1) % 50
    metric = LogitDifference(
        torch.randint(0, 25, (n,), generator=generator),
        torch.randint(25, 50, (n,), generator=generator),
    )
    return clean, corrupted, metric


@pytest.mark.parametrize("direction", ["clean_to_corrupted", "corrupted_to_clean"])
def test_gpt2_patching_equals_the_naive_loop(direction):
    model = models.gpt2()
    clean, corrupted, metric = prompts(5, 7, 3)
    corrupted[1] = clean[1]
    corrupted[1, 5] = (clean[1, 5] + 1) % 50
    sweep = interventions.patch_sweep(
        model, clean, corrupted, metric, grid=PatchGrid(ALL, None, direction), plan=Plan(chunk=2)
    )
    assert sweep.metadata["path"] == "fast"
    base, source = (corrupted, clean) if direction == "clean_to_corrupted" else (clean, corrupted)
    for component in ALL:
        naive = naive_patch(model, base, source, metric, component)
        assert np.abs(naive).max() > 1e-4
        assert np.abs(sweep.values[component] - naive).max() <= 1e-10
        assert not sweep.values[component][..., :3, :].any()


@settings(max_examples=12, deadline=None)
@given(
    layers=st.integers(1, 3),
    heads=st.integers(1, 3),
    n=st.integers(1, 3),
    t=st.integers(2, 7),
    first=st.integers(0, 6),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from(list(TOLERANCE)),
)
def test_gpt2_patching_on_random_shapes(layers, heads, n, t, first, seed, dtype):
    model = models.gpt2(seed, dtype, layers, heads)
    clean, corrupted, metric = prompts(n, t, min(first, t - 1), seed)
    sweep = interventions.patch_sweep(model, clean, corrupted, metric, grid=PatchGrid(ALL))
    assert sweep.metadata["path"] == "fast"
    for component in ALL:
        naive = naive_patch(model, corrupted, clean, metric, component)
        bound = TOLERANCE[dtype] * max(1, np.abs(naive).max())
        assert np.abs(sweep.values[component] - naive).max() <= bound


@pytest.mark.parametrize(
    "name", ["plain", "layer_scale_registers", "average_pool", "qk_norm", "wrapped"]
)
def test_vit_patching_equals_the_naive_loop(name):
    model, clean = models.VITS[name](), models.images(2)
    corrupted = clean.clone()
    corrupted[:, :, :16, :16] = 0
    sweep = interventions.patch_sweep(
        model, clean, corrupted, models.vit_metric, grid=PatchGrid(ALL), plan=Plan(chunk=1)
    )
    assert sweep.metadata["path"] == "fast"
    for component in ALL:
        naive = naive_patch(model, corrupted, clean, models.vit_metric, component)
        assert np.abs(sweep.values[component] - naive).max() <= 1e-10


@pytest.mark.parametrize("make", ["gpt2", "vit"])
def test_plain_path_tight_memory_and_chosen_positions_agree(make, monkeypatch):
    if make == "gpt2":
        model, (clean, corrupted, metric) = models.gpt2(), prompts(3, 6, 2)
    else:
        model, metric = models.timm_vit(), models.vit_metric
        clean, corrupted = models.images(3), models.images(3, seed=1)
    whole = interventions.patch_sweep(model, clean, corrupted, metric, grid=PatchGrid(ALL))
    plain = interventions.patch_sweep(
        model, clean, corrupted, metric, grid=PatchGrid(ALL, (4, 0)), plan=PLAIN
    )
    monkeypatch.setattr(plan, "free_bytes", lambda device: 1)
    monkeypatch.setattr(streams, "_ROWS", {"cpu": 3})
    tight = interventions.patch_sweep(model, clean, corrupted, metric, grid=PatchGrid(ALL, (4, 0)))
    assert (plain.metadata["path"], tight.metadata["path"]) == ("plain", "fast")
    for component in ALL:
        chosen = whole.values[component][..., [4, 0], :]
        assert np.abs(plain.values[component] - chosen).max() < 1e-10
        assert np.abs(tight.values[component] - chosen).max() < 1e-10


def test_any_metric_of_the_last_token_is_fast_and_any_other_still_right():
    model = models.gpt2()
    clean, corrupted, difference = prompts(3, 6, 2)
    want = interventions.patch_sweep(model, clean, corrupted, difference).values

    def last(output, rows):
        logits = output.logits[:, -1]
        chosen = [
            logits.gather(1, ids[rows][:, None])[:, 0]
            for ids in (difference.right, difference.wrong)
        ]
        return chosen[0] - chosen[1]

    got = interventions.patch_sweep(model, clean, corrupted, last)
    assert got.metadata["read"] == "token 5"
    assert all(np.abs(got.values[c] - want[c]).max() < 1e-10 for c in want)

    def everywhere(output, rows):
        return output.logits.square().mean((1, 2))

    got = interventions.patch_sweep(model, clean, corrupted, everywhere)
    assert got.metadata["read"] == "all tokens"
    for component, values in got.values.items():
        naive = naive_patch(model, corrupted, clean, everywhere, component)
        assert np.abs(values - naive).max() < 1e-10


def test_patching_every_position_of_one_layer_recovers_everything():
    model, (clean, corrupted, metric) = models.gpt2(), prompts(4, 6, 5)
    sweep = interventions.patch_sweep(model, clean, corrupted, metric)
    # Only the last token differs, so its first stream carries the whole difference.
    assert np.allclose(sweep.recovery("resid_pre")[0], [0, 0, 0, 0, 0, 1])
    frame = sweep.frame()
    assert list(frame.columns) == [
        "component", "layer", "head", "position", "direction", "effect", "n", "recovery",
    ]  # fmt: skip
    rows = frame[(frame.component == "resid_pre") & (frame.layer == 0) & (frame.position == 5)]
    assert np.isclose(rows.recovery.item(), 1)
    long = sweep.frame(per_example=True)
    assert len(long) == len(frame) * 4
    ratio = long.groupby(["component", "layer", "position"])[["effect", "base", "source"]].mean()
    again = ratio.effect / (ratio.source - ratio.base)
    assert np.allclose(again["resid_pre"].to_numpy(), sweep.recovery("resid_pre").reshape(-1))


def test_attribution_is_exact_where_the_model_is_linear_and_close_elsewhere():
    model = models.gpt2()
    clean, corrupted, metric = prompts(4, 6, 2)
    with torch.no_grad():
        for parameter in model.transformer.wte.parameters():
            parameter.mul_(0.02)
    sweep = interventions.attribution_sweep(
        model, clean, corrupted, metric, grid=PatchGrid(ALL), check=4
    )
    exact = interventions.patch_sweep(model, clean, corrupted, metric, grid=PatchGrid(ALL))
    for component in ALL:
        r = np.corrcoef(sweep.values[component].ravel(), exact.values[component].ravel())[0, 1]
        assert np.isclose(r, sweep.metadata["pearson_r"][component])
        assert r > 0.95
    # The estimate is a derivative: at the limit of small differences it is the effect.
    last = sweep.values["mlp_out"][-1]
    assert np.abs(last[:-1]).max() < 1e-12
    unchecked = interventions.attribution_sweep(model, clean, corrupted, metric)
    assert "not measured" in unchecked.metadata["reason"]


def test_integrated_gradients_add_up_to_the_whole_difference():
    model, metric = models.gpt2(), LogitDifference(torch.arange(3), torch.arange(3) + 25)
    for parameter in model.parameters():
        parameter.data *= 2.5  # far from linear
    clean, corrupted = torch.randint(0, 50, (2, 3, 6), generator=torch.Generator().manual_seed(0))
    off = {}
    for steps in (1, 4, 64):
        sweep = interventions.attribution_sweep(model, clean, corrupted, metric, steps=steps)
        total = sweep.values["resid_pre"][0].sum(0)
        off[steps] = np.abs(total - (sweep.source - sweep.base)).max()
        assert sweep.metadata["steps"] == steps
    assert off[64] < 1e-3 * np.abs(sweep.source - sweep.base).max()
    assert off[4] < off[1]
    with pytest.raises(ValueError, match="steps is 0; allowed is at least 1"):
        interventions.attribution_sweep(model, clean, corrupted, metric, steps=0)


def test_attribution_works_on_vits_with_frozen_weights():
    model = models.timm_vit().requires_grad_(False)
    clean = models.images(2)
    corrupted = clean + 1e-4 * models.images(2, seed=5)
    sweep = interventions.attribution_sweep(
        model, clean, corrupted, models.vit_metric, grid=PatchGrid(ALL, (0, 2)), check=2
    )
    assert min(sweep.metadata["pearson_r"].values()) > 0.9999


def test_attribution_in_bf16_is_near_that_in_fp32_and_says_so():
    clean, corrupted, metric = prompts(8, 6, 1)
    sweeps = {}
    for frozen in (False, True):
        model = models.gpt2(dtype=torch.float32).requires_grad_(not frozen)
        for word in ("no", "bf16"):
            sweep = interventions.attribution_sweep(
                model, clean, corrupted, metric, grid=PatchGrid(ALL), mixed_precision=word, check=8
            )
            assert sweep.metadata["precision"] == word
            sweeps[frozen, word] = sweep
    for component in ALL:
        exact, rough, frozen = (
            sweeps[key].values[component]
            for key in ((False, "no"), (False, "bf16"), (True, "bf16"))
        )
        assert (exact != rough).any()
        assert interventions.correlation(rough, exact) > 0.95
        assert (rough == frozen).all()
        # The exact sweep beside it is not rounded, so the correlations differ by the estimate's.
        found = [sweeps[False, word].metadata["pearson_r"][component] for word in ("no", "bf16")]
        assert found[0] != found[1]
        assert abs(found[0] - found[1]) < 0.05


def test_attribution_rounds_no_double_and_refuses_other_precisions():
    clean, corrupted, metric = prompts(2, 6, 1)
    double = interventions.attribution_sweep(
        models.gpt2(), clean, corrupted, metric, mixed_precision="bf16"
    )
    own = interventions.attribution_sweep(models.gpt2(), clean, corrupted, metric)
    assert double.metadata["precision"] == "no"
    assert all((double.values[c] == own.values[c]).all() for c in own.values)
    with pytest.raises(ValueError, match="mixed_precision is 'fp16'; allowed is no, bf16, auto"):
        interventions.attribution_sweep(
            models.gpt2(), clean, corrupted, metric, mixed_precision="fp16"
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_patching_on_cuda_equals_that_on_cpu():
    clean, corrupted, metric = prompts(3, 6, 2)
    cpu = interventions.patch_sweep(models.gpt2(), clean, corrupted, metric)
    gpu = interventions.patch_sweep(models.gpt2().cuda(), clean, corrupted, metric)
    assert all(np.abs(cpu.values[c] - gpu.values[c]).max() < 1e-10 for c in cpu.values)
