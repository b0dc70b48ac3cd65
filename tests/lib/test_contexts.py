import intervention_models as models
import pytest
import torch
from patchwork.interventions import BASELINES, ablate, gaussian_noise, patch, read
from patchwork.models import sites
from patchwork.models.sites import Site

EVERY = {**models.VITS, "gpt2": models.gpt2}


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def inputs_of(name, seed=0):
    if name == "gpt2":
        return torch.randint(0, 50, (4, 6), generator=torch.Generator().manual_seed(seed))
    return models.images(4, seed=seed)


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("kind", sites.KINDS)
def test_patching_a_run_into_itself_leaves_every_bit(name, kind):
    model, batch = EVERY[name](), inputs_of(name)
    want = models.logits(model(batch))
    with patch(model, f"*.{kind}", batch, expect_change=False):
        assert torch.equal(models.logits(model(batch)), want)


@pytest.mark.parametrize("name", EVERY)
def test_patching_the_whole_first_stream_gives_the_other_run(name):
    model, batch, other = EVERY[name](), inputs_of(name), inputs_of(name, 1)
    with patch(model, "0.resid_pre", other):
        assert torch.equal(models.logits(model(batch)), models.logits(model(other)))


@pytest.mark.parametrize("name", EVERY)
def test_zeroed_head_equals_zeroed_columns_of_the_projection(name):
    model, batch = EVERY[name](), inputs_of(name)
    anatomy = sites.find(model)
    with ablate(model, "1.head_out.2"):
        ablated = models.logits(model(batch))
    weight = anatomy.blocks[1].proj.weight
    part = slice(2 * anatomy.d_head, 3 * anatomy.d_head)
    (weight[part] if name == "gpt2" else weight[:, part]).zero_()
    torch.testing.assert_close(ablated, models.logits(model(batch)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["plain", "gpt2", "hugging_face"])
def test_zeroed_pattern_of_a_head_equals_zeroed_head(name):
    model, batch = EVERY[name](), inputs_of(name)
    with ablate(model, "1.pattern.0"):
        by_pattern = models.logits(model(batch))
    with ablate(model, "1.head_out.0"):
        torch.testing.assert_close(by_pattern, models.logits(model(batch)))


def test_knockout_is_a_mask_before_the_softmax():
    model, batch = models.timm_vit(), models.images(3)
    parts = sites.find(model).blocks[0]
    with ablate(model, "0.pattern.1@0<-1,2", "knockout"):
        got = read_proj_input(model, parts, batch)
    normed = parts.attn_norm(read(model, "0.resid_pre", batch)[Site("resid_pre", 0)])
    q, k, v = parts.qkv(normed)
    scores = q @ k.transpose(-2, -1) * parts.softmax_scale
    scores[:, 1, 0, [1, 2]] = -torch.inf
    want = (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(got, want)


def read_proj_input(model, parts, batch):
    kept = []
    handle = parts.proj.register_forward_hook(lambda m, args, out: kept.append(args[0]))
    model(batch)
    handle.remove()
    return kept[0]


def test_knockout_of_every_key_silences_the_query():
    model, ids = models.gpt2(), torch.arange(8).view(2, 4)
    parts = sites.find(model).blocks[1]
    with ablate(model, "1.pattern.2@0<-0", "knockout"):
        heads = read_proj_input(model, parts, ids).unflatten(-1, (4, -1))
    assert bool((heads[:, 0, 2] == 0).all())
    assert bool((heads[:, 0, 1] != 0).all())


def test_mean_is_taken_position_by_position():
    model, batch = models.timm_vit(), models.images(6)
    want = read(model, "1.head_out.0", batch)[Site("head_out", 1, 0)].mean(0)
    with ablate(model, "1.head_out.0", "mean", reference=batch):
        heads = read_proj_input(model, sites.find(model).blocks[1], batch[:2])
    torch.testing.assert_close(heads[0, :, :8], want)


def test_resample_takes_each_example_from_another_one_across_batches():
    model, batch = models.timm_vit(), models.images(6)
    own = read(model, "2.head_out.1", batch)[Site("head_out", 2, 1)]
    parts, got = sites.find(model).blocks[2], []
    with ablate(model, "2.head_out.1", "resample", reference=batch, seed=3):
        got = [read_proj_input(model, parts, batch[i : i + 2])[:, :, 8:16] for i in (0, 2, 4)]
    distances = (torch.cat(got)[:, None] - own[None]).abs().amax((2, 3))
    source = distances.argmin(1)
    assert distances.min(1).values.max() < 1e-12
    assert sorted(source.tolist()) == list(range(6))
    assert bool((source != torch.arange(6)).all())


def test_noise_has_the_stated_size_and_does_not_depend_on_batches():
    model, batch = models.timm_vit(), models.images(64)
    clean = read(model, "0.attn_out", batch)[Site("attn_out", 0)]
    edit, again = gaussian_noise(0.5, seed=7), gaussian_noise(0.5, seed=7)
    site, rows = Site("attn_out", 0), torch.arange(64)
    noisy = edit(site, clean, rows)
    halves = torch.cat([again(site, clean[:20], rows[:20]), again(site, clean[20:], rows[20:])])
    assert torch.equal(noisy, halves)
    ratio = (noisy - clean).flatten(1).std(1) / clean.flatten(1).std(1)
    assert abs(float(ratio.mean()) - 0.5) < 4 * 0.5 / (2 * clean.numel()) ** 0.5 + 0.01


@pytest.mark.parametrize("baseline", ["zero", "mean", "resample", "noise"])
def test_any_order_gives_the_same_numbers(baseline):
    model, batch = models.timm_vit(), models.images(4)
    names = [f"{layer}.head_out.{head}" for layer in range(3) for head in range(3)]
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1)).tolist()

    def run(name):
        with ablate(model, name, baseline, reference=batch):
            return model(batch)

    forward = {name: run(name) for name in names}
    shuffled = {names[i]: run(names[i]) for i in order}
    assert all(torch.equal(forward[name], shuffled[name]) for name in names)


def test_pair_differs_from_the_sum_of_its_heads():
    model, batch = models.timm_vit(), models.images(4)
    clean, effects = model(batch), []
    for chosen in ("0.head_out.0", "1.head_out.1", ["0.head_out.0", "1.head_out.1"]):
        with ablate(model, chosen):
            effects.append(model(batch) - clean)
    assert float((effects[2] - effects[0] - effects[1]).abs().max()) > 1e-6
    with ablate(model, "1.head_out"):
        layer = model(batch)
    with ablate(model, [f"1.head_out.{h}" for h in range(3)]):
        torch.testing.assert_close(layer, model(batch))


def test_hooks_are_removed_whatever_happens():
    model, batch = models.timm_vit(), models.images(2)
    want = model(batch)
    with pytest.raises(RuntimeError, match="mine"), ablate(model, ["*.head_out.*", "0.pattern.1"]):
        raise RuntimeError("mine")
    with pytest.raises(ValueError, match="shape"), patch(model, "1.attn_out", models.images(3)):
        model(batch)
    assert hooks_of(model) == 0
    assert torch.equal(model(batch), want)


def test_silent_hooks_are_errors():
    model, batch = models.timm_vit(), models.images(2)
    with pytest.raises(ValueError, match="never fired"), ablate(model, "0.attn_out"):
        pass
    with pytest.raises(ValueError, match="not changed"), patch(model, "1.head_out.0", batch):
        model(batch)
    sites.find(model).blocks[1].attn.qkv.weight[48:].zero_()
    sites.find(model).blocks[1].attn.qkv.bias[48:].zero_()
    with (
        pytest.raises(ValueError, match=r"1\.head_out\.2.*expect_change=False"),
        ablate(model, "1.head_out.2"),
    ):
        model(batch)


def test_bad_input_is_one_clear_line():
    model, batch = models.timm_vit(), models.images(2)
    cases = [
        (lambda: ablate(model, "0.attn_out", "median"), "allowed is zero, mean"),
        (lambda: ablate(model, "0.attn_out", "mean"), "no reference"),
        (lambda: ablate(model, "0.attn_out", "resample", reference=batch[:1]), "at least 2"),
        (lambda: ablate(model, "0.attn_out", "knockout"), "allowed is kind pattern"),
        (lambda: ablate(models.timm_vit().train(), "0.attn_out"), "training mode"),
        (lambda: patch(model, "0.attn_out", {"1.attn_out": batch}), "lacks site 0.attn_out"),
        (lambda: gaussian_noise(0, 1), "scale is 0"),
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)
    assert set(BASELINES) == {"zero", "mean", "token_mean", "resample", "noise", "knockout"}
