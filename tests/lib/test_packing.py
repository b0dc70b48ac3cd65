"""Sweeps on packed weights against the same sweeps on the model's own layers."""

import intervention_models as models
import numpy as np
import pytest
import torch
from patchwork import interventions
from patchwork.interventions import LogitDifference
from patchwork.interventions.fast_path import packing
from torch import nn

needs_operators = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch cannot pack weights"
)


@pytest.fixture
def counted(monkeypatch):
    """Pack for any number of rows, and count the products."""
    products = []
    multiply = packing._multiply
    packing._works()
    monkeypatch.setattr(packing, "_ROWS", 1)
    monkeypatch.setattr(packing, "_multiply", lambda *a: products.append(1) or multiply(*a))
    return products


@needs_operators
@pytest.mark.parametrize("name", models.VITS)
def test_ablation_on_packed_weights(name, counted, monkeypatch):
    model, batch = models.VITS[name]().float(), models.images(3, torch.float32)
    packed = interventions.head_ablation_sweep(model, batch, models.vit_metric)
    assert counted
    monkeypatch.setattr(packing, "_works", lambda: False)
    own = interventions.head_ablation_sweep(model, batch, models.vit_metric)
    assert np.abs(own.values).max() > 1e-3
    assert np.abs(packed.values - own.values).max() <= 1e-5
    assert not any("forward" in vars(module) for module in model.modules())


@needs_operators
def test_patching_on_packed_weights(counted, monkeypatch):
    model = models.gpt2(dtype=torch.float32)  # its linear layers hold transposed weights
    clean = torch.randint(0, 50, (2, 6), generator=torch.Generator().manual_seed(0))
    corrupted = clean.roll(1, dims=1)
    metric = LogitDifference(torch.tensor([1, 2]), torch.tensor([3, 4]))
    packed = interventions.patch_sweep(model, clean, corrupted, metric)
    assert counted
    monkeypatch.setattr(packing, "_works", lambda: False)
    own = interventions.patch_sweep(model, clean, corrupted, metric)
    for name, values in own.values.items():
        assert np.abs(packed.values[name] - values).max() <= 1e-5


@needs_operators
def test_layers_get_their_own_forward_back_whatever_happens(counted):
    layer, x = nn.Linear(8, 4), torch.randn(3, 8)

    def stop():
        with packing.packed(layer, 3):
            assert torch.allclose(layer(x), x @ layer.weight.T + layer.bias, atol=1e-6)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop()
    layer(x)
    assert len(counted) == 1


def test_only_plain_layers_in_single_precision_are_packed_and_only_for_many_rows(monkeypatch):
    monkeypatch.setattr(packing, "_works", lambda: True)
    wrapped = nn.Linear(4, 4)
    object.__setattr__(wrapped, "forward", lambda x: x)
    for layer in (nn.Linear(4, 4).double(), nn.Bilinear(4, 4, 4), wrapped):
        before = dict(vars(layer))
        with packing.packed(layer, packing._ROWS):
            assert vars(layer) == before
    layer = nn.Linear(4, 4)
    with packing.packed(layer, packing._ROWS - 1):
        assert "forward" not in vars(layer)


@pytest.mark.parametrize("wrong", [AttributeError, RuntimeError, None])
def test_operators_that_fail_or_err_are_not_used(wrong, monkeypatch):
    def multiply(x, weight, bias):
        if wrong:
            raise wrong("no such operator")
        return torch.zeros(len(x), len(bias))

    monkeypatch.setattr(packing, "_multiply", multiply)
    assert not packing._works.__wrapped__()
