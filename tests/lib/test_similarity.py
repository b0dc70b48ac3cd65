import copy

import intervention_models as models
import numpy as np
import pytest
import torch
from patchwork.interventions import similarity


def test_a_model_is_like_itself_and_unlike_a_random_one():
    model, batch = models.timm_vit(), models.images(40)
    same = similarity.head_similarity(model, copy.deepcopy(model), batch)
    assert len(same) == 9
    assert np.allclose(same.linear_cka, 1)
    assert np.allclose(same.map_correlation, 1)
    other = similarity.head_similarity(model, models.timm_vit(seed=1), batch)
    assert other.linear_cka.max() < 0.9
    assert other.map_correlation.mean() < 0.5


def test_one_changed_head_is_the_one_that_differs():
    model, batch = models.timm_vit(), models.images(30)
    changed = copy.deepcopy(model)
    part = slice(2 * 24 + 8, 2 * 24 + 16)  # the values of head 1
    with torch.no_grad():
        changed.blocks[2].attn.qkv.weight[part].normal_()
    table = similarity.head_similarity(model, changed, batch).set_index(["layer", "head"])
    rest = table.drop((2, 1))
    assert table.linear_cka[2, 1] < 0.95
    assert np.allclose(rest.linear_cka, 1)
    assert np.allclose(table.map_correlation, 1)


def unbiased_hsic(k, m):
    """The unbiased estimator as Song et al. 2012 write it, term by term."""
    n = len(k)
    k, m = (x - torch.diag(torch.diag(x)) for x in (k, m))
    one = torch.ones(n, dtype=k.dtype)
    return (
        torch.trace(k @ m)
        + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (one @ k @ m @ one)
    ) / (n * (n - 3))


def test_linear_cka_against_its_kernel_form():
    one, other = torch.randn(20, 5).double() + 1, torch.randn(20, 3).double()
    k, m = one @ one.T, other @ other.T
    want = unbiased_hsic(k, m) / (unbiased_hsic(k, k) * unbiased_hsic(m, m)).sqrt()
    assert similarity.linear_cka(one, other) == pytest.approx(float(want))
    rotation = torch.linalg.qr(torch.randn(5, 5).double())[0]
    assert similarity.linear_cka(one, 3 * one @ rotation + 1) == pytest.approx(1)
    assert np.isnan(similarity.linear_cka(one, torch.ones(20, 3)))


@pytest.mark.parametrize("n", [8, 64])
def test_unrelated_features_are_not_alike_however_many(n):
    generator = torch.Generator().manual_seed(n)
    values = [
        similarity.linear_cka(*torch.randn(2, n, 64, generator=generator).double())
        for _ in range(50)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(50)


def test_a_planted_share_is_found_with_few_examples():
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(50):
        one, fresh = torch.randn(2, 24, 64, generator=generator).double()
        values.append(similarity.linear_cka(one, (one + fresh) / 2**0.5))
    many = torch.randn(2, 4000, 64, generator=generator).double()
    want = similarity.linear_cka(many[0], (many[0] + many[1]) / 2**0.5)
    assert np.mean(values) == pytest.approx(want, abs=0.05)


def test_map_correlation_is_pearson():
    one, other = torch.rand(2, 3, 7), torch.rand(2, 3, 7)
    got = similarity.map_correlation(one, other)
    assert got[1, 2].item() == pytest.approx(np.corrcoef(one[1, 2], other[1, 2])[0, 1], abs=1e-6)


def test_bad_input():
    model, batch = models.timm_vit(), models.images(4)
    with pytest.raises(ValueError, match="layers, heads"):
        similarity.head_similarity(model, models.timm_vit(depth=2), batch)
    with pytest.raises(ValueError, match="inputs holds 3 examples; allowed is at least 4"):
        similarity.head_similarity(model, model, batch[:3])
    with pytest.raises(ValueError, match="one shape"):
        similarity.map_correlation(torch.rand(1, 2, 3), torch.rand(1, 2, 4))
    with pytest.raises(ValueError, match="equal numbers"):
        similarity.linear_cka(torch.rand(3, 2), torch.rand(4, 2))
    with pytest.raises(ValueError, match="inputs holds 0 examples; allowed is at least 4"):
        similarity.head_similarity(model, model, batch[:0])
