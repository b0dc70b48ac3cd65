"""What peers change in torch for good must not reach the next test."""

import pytest
import torch


@pytest.fixture(autouse=True)
def torch_stays_as_it_was():
    """nnsight replaces ``Tensor.backward`` when it is imported; others switch gradients off."""
    backward, gradients = torch.Tensor.backward, torch.is_grad_enabled()
    yield
    torch.Tensor.backward = backward
    torch.set_grad_enabled(gradients)
