"""Linear layers of a block on weights packed for oneDNN, for as long as a sweep multiplies by them.

For a product in fp32 torch calls MKL, which on an AMD Zen 4 leaves a tenth of the rate to oneDNN.
The operators are private in torch, so they are tried out before any use and the model's own layers
stay where they fail.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

# Rows from which a faster product makes up for packing.
_ROWS = 4096


@contextmanager
def packed(block: nn.Module, rows: int) -> Iterator[None]:
    """Let the linear layers of a block multiply by packed weights while the context lasts.

    Layers are packed when they are first called. Those on another device or of another type than
    fp32 stay as they are, and so does everything when `rows` are few.

    Args:
        block: whose parameters must not change meanwhile; no gradient passes.
        rows: about as many will be multiplied.
    """
    with ExitStack() as stack:
        if rows >= _ROWS and _works():
            for module in block.modules():
                if _suits(module):
                    # An attribute of the instance hides the method of its class until deleted.
                    object.__setattr__(module, "forward", _Packed(module))
                    stack.callback(object.__delattr__, module, "forward")
        yield


def _suits(module: nn.Module) -> bool:
    if type(module) not in (nn.Linear, Conv1D) or "forward" in vars(module):
        return False
    weight: Any = module.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32


class _Packed:
    """The forward of a linear layer; its weight is packed at the first call."""

    def __init__(self, module: Any) -> None:
        self.weight = module.weight.T if type(module) is Conv1D else module.weight
        # The operator takes no notice of strides.
        self.bias = None if module.bias is None else module.bias.contiguous()
        self.packed: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed is None:
            rows = x.numel() // x.shape[-1]
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous(), rows)
        return _multiply(x, self.packed, self.bias)


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@cache
def _works() -> bool:
    """Whether this torch has the operators and they give what its own linear layer gives."""
    kind: Any = {"dtype": torch.float32, "device": "cpu"}
    x, weight = (torch.linspace(-1, 1, n * 32, **kind).view(n, 32) for n in (8, 16))
    bias = torch.linspace(-1, 1, 16, **kind)
    try:
        found = _multiply(x, torch.ops.mkldnn._reorder_linear_weight(weight, len(x)), bias)
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(found, F.linear(x, weight, bias), atol=1e-5)
