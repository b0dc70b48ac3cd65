"""Two small computations on a block's parts: its attention pattern, and a projection's weight."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from patchwork.sites import BlockParts


def pattern(
    parts: BlockParts, normed: Tensor, causal: bool, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Recompute one block's attention pattern; the forward pass keeps its fused kernel.

    Args:
        parts: the block.
        normed: shape (n, t, d), the input of the attention module.
        causal: whether tokens attend only backwards.
        mask: broadcastable to (n, heads, t, t): True or 0 where attention is allowed, False or
            -inf where it is not.

    Returns:
        The pattern, shape (n, heads, query, key), rows summing to 1 (a row without an allowed
        key is zero), and the values, shape (n, heads, t, d_head).
    """
    q, k, v = parts.qkv(normed)
    scores = (q * parts.softmax_scale) @ k.transpose(-2, -1)
    if causal and mask is None:
        t = scores.shape[-1]
        mask = torch.ones(t, t, dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = (
            scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        )
    return F.softmax(scores, dim=-1).nan_to_num(nan=0.0), v


def output_weight(linear: nn.Module, d_in: int) -> Tensor:
    """Weight of a linear module as (d_in, d_out), also through Conv1D or an unmerged LoRA.

    The module is asked instead of read, so that a wrapper's own arithmetic counts.
    """
    weight = cast(Tensor, getattr(linear, "base_layer", linear).weight)
    with torch.no_grad():
        eye = torch.eye(d_in, dtype=weight.dtype, device=weight.device)
        return linear(eye) - linear(torch.zeros_like(eye[:1]))
