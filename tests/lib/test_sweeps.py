"""Fast sweeps against loops that use torch hooks and nothing of the library."""

import intervention_models as models
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from patchwork import interventions
from patchwork.interventions import LogitDifference, PatchGrid, Plan
from patchwork.interventions.fast_path import removal, streams
from patchwork.models import sites

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
PLAIN = Plan(path="plain")
ALL = ("resid_pre", "attn_out", "mlp_out", "head_out")


@torch.no_grad()
def naive_ablation(model, batch, metric, baseline):
    anatomy, rows = sites.find(model), torch.arange(len(batch))
    clean, effects = metric(model(batch), rows), []
    for parts in anatomy.blocks:
        kept = []
        handle = parts.proj.register_forward_hook(
            lambda m, args, out, kept=kept: kept.append(args[0])
        )
        model(batch)
        handle.remove()
        for head in range(anatomy.n_heads):
            part = slice(head * anatomy.d_head, (head + 1) * anatomy.d_head)

            def hook(module, args, part=part, kept=kept):
                z = args[0].clone()
                z[..., part] = 0 if baseline == "zero" else kept[0].mean(0)[..., part]
                return (z,)

            handle = parts.proj.register_forward_pre_hook(hook)
            effects.append(metric(model(batch), rows) - clean)
            handle.remove()
    return torch.stack(effects).view(anatomy.n_layers, anatomy.n_heads, -1).numpy()


def check_ablation(model, batch, metric, tolerance, how=None):
    sweep = interventions.head_ablation_sweep(model, batch, metric, plan=how)
    for i, baseline in enumerate(sweep.baselines):
        naive = naive_ablation(model, batch, metric, baseline)
        assert np.abs(naive).max() > 1e-3
        assert np.abs(sweep.values[i] - naive).max() <= tolerance
    return sweep


@pytest.mark.parametrize("name", models.VITS)
def test_head_ablation_equals_the_naive_loop(name):
    sweep = check_ablation(
        models.VITS[name](), models.images(5), models.vit_metric, 1e-10, Plan(chunk=2)
    )
    assert sweep.metadata["path"] == "fast"
    assert sweep.metadata["read"] == ("all tokens" if name == "average_pool" else "token 0")


@settings(max_examples=12, deadline=None)
@given(
    depth=st.integers(1, 4),
    heads=st.integers(1, 4),
    n=st.integers(1, 4),
    prefix=st.integers(0, 3),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from(list(TOLERANCE)),
)
def test_head_ablation_on_random_shapes(depth, heads, n, prefix, seed, dtype):
    model = models.timm_vit(
        seed, dtype, depth=depth, num_heads=heads, embed_dim=8 * heads, reg_tokens=prefix
    )
    batch = models.images(n, dtype, seed)
    sweep = interventions.head_ablation_sweep(model, batch, models.vit_metric)
    assert sweep.metadata["path"] == "fast"
    for i, baseline in enumerate(sweep.baselines):
        naive = naive_ablation(model, batch, models.vit_metric, baseline)
        assert np.abs(sweep.values[i] - naive).max() <= TOLERANCE[dtype] * max(
            1, np.abs(naive).max()
        )


def test_mlps_of_all_but_old_names_take_corrections():
    for name, make in (models.VITS | {"gpt2": models.gpt2}).items():
        first = removal.HeadRemoval(sites.find(make()), 0)
        assert (first.into_hidden is None) == (name == "hugging_face_old"), name


def test_gpt2_heads_too():
    model = models.gpt2()
    batch = torch.randint(0, 50, (3, 7), generator=torch.Generator().manual_seed(0))
    metric = LogitDifference(torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]))
    check_ablation(model, batch, metric, 1e-10)


def test_small_packets_change_nothing(monkeypatch):
    model, batch = models.timm_vit(), models.images(4)
    whole = interventions.head_ablation_sweep(model, batch, models.vit_metric)
    monkeypatch.setitem(streams._ROWS, "cpu", 7)
    small = interventions.head_ablation_sweep(model, batch, models.vit_metric, plan=Plan(chunk=3))
    assert np.abs(whole.values - small.values).max() < 1e-12


def test_inputs_stream_from_arrays_lists_and_hdf5(tmp_path):
    import h5py

    model, batch = models.timm_vit(), models.images(5)
    want = interventions.head_ablation_sweep(model, batch, models.vit_metric).values
    with h5py.File(tmp_path / "images.h5", "w") as file:
        stored = file.create_dataset("images", data=batch.numpy())
        for inputs in (batch.numpy(), list(batch.split(2)), stored):
            sweep = interventions.head_ablation_sweep(
                model, inputs, models.vit_metric, plan=Plan(chunk=2)
            )
            assert np.abs(sweep.values - want).max() < 1e-12


def test_rows_reach_the_metric_in_order():
    model, batch = models.timm_vit(), models.images(5)
    weights = torch.arange(1.0, 6.0, dtype=torch.float64)

    def metric(output, rows):
        return models.vit_metric(output, rows) * weights[rows]

    weighted = interventions.head_ablation_sweep(model, batch, metric, plan=Plan(chunk=2)).values
    plain = interventions.head_ablation_sweep(model, batch, models.vit_metric).values
    assert np.allclose(weighted, plain * weights.numpy())


def test_other_baselines_and_wishes_take_the_plain_path_and_say_so():
    model, batch = models.timm_vit(), models.images(3)
    sweep = interventions.head_ablation_sweep(
        model, batch, models.vit_metric, baselines=("zero", "resample", "noise")
    )
    assert sweep.metadata["path"] == "plain"
    assert "resample has no fast path" in sweep.metadata["reason"]
    fast = interventions.head_ablation_sweep(model, batch, models.vit_metric, baselines=("zero",))
    assert np.allclose(sweep.values[0], fast.values[0])
    plain = interventions.head_ablation_sweep(model, batch, models.vit_metric, plan=PLAIN)
    assert plain.metadata["reason"] == 'path is "plain"'


def test_a_forward_that_does_more_than_its_blocks_falls_back():
    class Doubled(type(models.timm_vit())):
        def forward_features(self, x):
            return super().forward_features(x) + self.patch_embed(x).mean(1, keepdim=True)

        def forward(self, x):
            return self.forward_head(self.blocks(self.forward_features(x)))

    model = models.timm_vit()
    model.__class__ = Doubled
    batch = models.images(2)
    sweep = interventions.head_ablation_sweep(model, batch, models.vit_metric, baselines=("zero",))
    assert sweep.metadata["path"] == "plain"
    assert "more than its blocks" in sweep.metadata["reason"]
    naive = naive_ablation(model, batch, models.vit_metric, "zero")
    assert np.abs(sweep.values[0] - naive).max() < 1e-10


def test_masked_prompts_take_the_plain_path():
    model = models.gpt2()
    ids = torch.arange(14).view(2, 7)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    metric = LogitDifference(torch.tensor([1, 2]), torch.tensor([3, 4]))
    fast = interventions.head_ablation_sweep(model, inputs, metric, baselines=("zero",))
    assert fast.metadata["path"] == "fast"
    inputs["attention_mask"][0, :2] = 0
    slow = interventions.head_ablation_sweep(model, inputs, metric, baselines=("zero",))
    assert "padded" in slow.metadata["reason"]
    assert np.abs(slow.values - fast.values)[..., 0].max() > 1e-6
    assert np.abs(slow.values - fast.values)[..., 1].max() < 1e-10


@torch.no_grad()
def test_groups_pairs_and_layers():
    model, batch = models.timm_vit(), models.images(3)
    groups = {
        "layer": "1.head_out",
        "pair": ["0.head_out.0", "2.head_out.1"],
        "one": "1.head_out.2",
    }
    frame = interventions.group_ablation_sweep(model, batch, models.vit_metric, groups)
    turned = interventions.group_ablation_sweep(
        model, batch, models.vit_metric, dict(reversed(groups.items()))
    )
    merged = frame.merge(turned, on=["group", "example", "baseline"])
    assert np.array_equal(merged.effect_x, merged.effect_y)
    single = interventions.head_ablation_sweep(model, batch, models.vit_metric).values[0, 1, 2]
    assert np.allclose(frame[frame.group == "one"].effect, single)
    cut = {"edges": "0.pattern.0@0<-1"}
    knocked = interventions.group_ablation_sweep(
        model, batch, models.vit_metric, cut, baseline="knockout"
    )
    with torch.no_grad(), interventions.ablate(model, cut["edges"], "knockout"):
        want = models.vit_metric(model(batch), None).numpy()
    assert np.allclose(knocked.clean + knocked.effect, want)


def test_bad_input_is_one_clear_line():
    model, ids = models.gpt2(), torch.arange(12).view(2, 6)
    metric = LogitDifference(torch.tensor([1, 2]), torch.tensor([3, 4]))
    sweep, patch = interventions.head_ablation_sweep, interventions.patch_sweep
    cases = [
        (lambda: patch(model, ids, ids[:, :5], metric), "equal token length"),
        (lambda: patch(model, [[1, 2], [3]], ids, metric), "rows of length"),
        (lambda: patch(model, ids, ids, metric, grid=PatchGrid(positions=(6,))), "0 to 5"),
        (lambda: PatchGrid(components=("attn",)), "components is"),
        (lambda: PatchGrid(direction="both"), "direction is 'both'"),
        (lambda: Plan(path="quick"), "path is 'quick'"),
        (lambda: Plan(chunk=0), "chunk is 0"),
        (lambda: sweep(model.train(), ids, metric), "training mode"),
        (lambda: sweep(model.eval(), ids, metric, baselines=("median",)), "baselines is"),
        (lambda: sweep(model, iter([ids]), metric), "one-pass iterator"),
        (lambda: sweep(model, ids[:0], metric), "no example"),
        (lambda: patch(model, ids, ids, metric).recovery("resid_pre"), "same metric"),
        (lambda: interventions.attribution_sweep(model, ids, ids, metric, check=3), "check is 3"),
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_sweeps_on_cuda_equal_those_on_cpu():
    batch = models.images(3)
    cpu = interventions.head_ablation_sweep(models.timm_vit(), batch, models.vit_metric)
    gpu = interventions.head_ablation_sweep(models.timm_vit().cuda(), batch, models.vit_metric)
    assert np.abs(cpu.values - gpu.values).max() < 1e-10
