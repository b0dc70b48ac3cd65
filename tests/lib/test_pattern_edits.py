"""Attention patterns edited together, one within the other, and beside other sites."""

from itertools import permutations

import intervention_models as models
import pytest
import torch
from patchwork.interventions import ablate, group_ablation_sweep, patch, read

EDGES = ["0.pattern.1@0<-1", "0.pattern.1@2<-3", "0.pattern.0@0<-2"]
IMAGES = models.images(6)
IDS = torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def under_mask(model, blocked):
    """Outputs with -inf scores for (layer, head, query, key), by a mask of the model's own."""
    handles = []
    for layer in {place[0] for place in blocked}:
        mask = torch.zeros(1, 3, 5, 5, dtype=torch.float64)
        for at, head, query, key in blocked:
            if at == layer:
                mask[0, head, query, key] = -torch.inf
        handles.append(
            model.blocks[layer].attn.register_forward_pre_hook(
                lambda m, args, kwargs, mask=mask: (args, {**kwargs, "attn_mask": mask}),
                with_kwargs=True,
            )
        )
    output = model(IMAGES)
    for handle in handles:
        handle.remove()
    return output


def test_joint_knockouts_are_a_joint_mask_in_any_order():
    model = models.timm_vit()
    expected = under_mask(model, [(0, 1, 0, 1), (0, 1, 2, 3), (0, 0, 0, 2)])
    for names in permutations(EDGES):
        with ablate(model, names, "knockout"):
            together = model(IMAGES)
        torch.testing.assert_close(together, expected, rtol=0, atol=1e-12)
    with ablate(model, EDGES[:1], "knockout"), ablate(model, EDGES[1:], "knockout"):
        torch.testing.assert_close(model(IMAGES), expected, rtol=0, atol=1e-12)
    sweep = group_ablation_sweep(
        model, IMAGES, models.vit_metric, {"all": EDGES}, baseline="knockout"
    )
    rows = torch.arange(6)
    effect = models.vit_metric(expected, rows) - models.vit_metric(model(IMAGES), rows)
    assert abs(sweep.effect.to_numpy() - effect.numpy()).max() <= 1e-12


def test_blocks_may_end_in_any_order():
    model = models.timm_vit()
    clean = model(IMAGES)
    outer, inner = (ablate(model, name, "knockout") for name in EDGES[:2])
    with ablate(model, EDGES[1], "knockout"):
        alone = model(IMAGES)
    outer.__enter__()
    inner.__enter__()
    both = model(IMAGES)
    outer.__exit__(None, None, None)
    assert torch.equal(model(IMAGES), alone)
    inner.__exit__(None, None, None)
    assert torch.equal(model(IMAGES), clean)
    assert not torch.equal(both, alone)


def test_a_head_stays_ablated_beside_an_edge_of_its_own():
    model, edge, head = models.timm_vit(), "1.pattern.0@0<-1", "1.head_out.0"
    with ablate(model, head):
        expected = model(IMAGES)
    for names in ([head, edge], [edge, head]):
        with ablate(model, names):
            assert torch.equal(model(IMAGES), expected)
    with ablate(model, head), ablate(model, edge):
        assert torch.equal(model(IMAGES), expected)
    with ablate(model, edge), ablate(model, head):
        assert torch.equal(model(IMAGES), expected)


def test_patched_head_and_pattern_do_not_depend_on_their_order():
    model, other = models.timm_vit(), models.images(6, seed=1)
    outputs = []
    for names in (["1.head_out.0", "1.pattern.1"], ["1.pattern.1", "1.head_out.0"]):
        with patch(model, names, other):
            outputs.append(model(IMAGES))
    assert torch.equal(*outputs)
    with patch(model, "1.pattern.1", other):
        assert not torch.equal(outputs[0], model(IMAGES))


def test_an_edited_pattern_is_what_is_read():
    model = models.timm_vit()
    with ablate(model, "0.pattern.1@0<-1"):
        (seen,) = read(model, "0.pattern.1", IMAGES).values()
        model(IMAGES)
    assert not seen[:, 0, 0, 1].any()
    assert seen[:, 0, 1, 1].all()


def test_a_source_of_another_precision_is_cast():
    model = models.timm_vit()
    source = {"1.pattern.0": read(model, "1.pattern.0", IMAGES.flip(0)).popitem()[1].float()}
    with patch(model, source, source):
        assert model(IMAGES).dtype == torch.float64


@pytest.mark.parametrize("site", ["1.resid_pre@0", "2.pattern.1<-0", "0.mlp_hidden.3@2"])
def test_tokens_are_not_counted_against_a_cache(site):
    model = models.gpt2()
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    with pytest.raises(ValueError, match="use_cache=False"), ablate(model, site):
        model.generate(IDS, use_cache=True, **options)
    with ablate(model, site):
        model.generate(IDS, use_cache=False, **options)
        model(IDS, use_cache=True)  # nothing is cached yet
    with ablate(model, "1.head_out.0"):  # all tokens: a cache does no harm
        cached = model.generate(IDS, use_cache=True, **options)
        assert torch.equal(cached, model.generate(IDS, use_cache=False, **options))


def test_noise_needs_more_than_one_number():
    model = models.timm_vit()
    for site in ("0.mlp_hidden.3@0", "0.pattern.1@0<-1"):
        with (
            pytest.raises(ValueError, match="one number per example"),
            ablate(model, site, "noise"),
        ):
            model(IMAGES)


def test_your_own_baseline_may_work_in_place():
    model = models.timm_vit()
    with ablate(model, "1.attn_out", lambda site, tensor, rows: tensor.zero_()):
        in_place = model(IMAGES)
    with ablate(model, "1.attn_out"):
        assert torch.equal(in_place, model(IMAGES))
    for wrong in (None, 0.5):
        with (
            pytest.raises(ValueError, match=f"type {type(wrong).__name__}; allowed is a tensor"),
            ablate(model, "1.attn_out", lambda site, tensor, rows, wrong=wrong: wrong),
        ):
            model(IMAGES)


def test_arrays_are_sources_too():
    model = models.timm_vit()
    (stored,) = read(model, "1.attn_out", IMAGES.flip(0)).values()
    with patch(model, "1.attn_out", {"1.attn_out": stored.numpy()}):
        from_array = model(IMAGES)
    with patch(model, "1.attn_out", IMAGES.flip(0)):
        assert torch.equal(from_array, model(IMAGES))
