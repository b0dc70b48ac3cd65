"""Small computations on a block's parts: its pattern, a projection's weight, what is linear."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from patchwork.models.families.parts import Rotation
from patchwork.models.sites import BlockParts


def pattern(
    parts: BlockParts,
    normed: Tensor,
    causal: bool,
    mask: Tensor | None = None,
    rotation: Rotation | None = None,
) -> tuple[Tensor, Tensor]:
    """Recompute one block's attention pattern; the forward pass keeps its fused kernel.

    Args:
        parts: the block.
        normed: shape (n, t, d), the input of the attention module.
        causal: whether tokens attend only backwards.
        mask: broadcastable to (n, heads, t, t): True or 0 where attention is allowed, False or
            -inf where it is not.
        rotation: angles of rotary positions, broadcastable to (n, heads, t, width).

    Returns:
        The pattern, shape (n, heads, query, key), rows summing to 1 (a row without an allowed
        key is zero), and the values, shape (n, heads, t, d_head).
    """
    q, k, v = parts.qkv(normed)
    return pattern_of(parts, q, k, causal, mask, rotation), v


def pattern_of(
    parts: BlockParts,
    q: Tensor,
    k: Tensor,
    causal: bool,
    mask: Tensor | None,
    rotation: Rotation | None,
) -> Tensor:
    """The pattern of queries and keys (n, heads, t, d_head), otherwise as `pattern`."""
    scores = scores_of(parts, q, k, causal, mask, rotation)
    return F.softmax(scores, dim=-1).nan_to_num(nan=0.0)


def scores_of(
    parts: BlockParts,
    q: Tensor,
    k: Tensor,
    causal: bool,
    mask: Tensor | None,
    rotation: Rotation | None,
) -> Tensor:
    """What the softmax is taken of, (n, heads, query, key), -inf where a key is hidden."""
    q, k = parts.rotated(q, k, rotation)
    scores = (q * parts.softmax_scale) @ k.transpose(-2, -1)
    if causal and mask is None:
        t = scores.shape[-1]
        mask = torch.ones(t, t, dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = (
            scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        )
    if parts.score_bias is not None:
        scores = scores + parts.score_bias()
    if parts.window is not None:
        age = torch.arange(scores.shape[-1], device=scores.device)
        scores = scores.masked_fill(age[:, None] - age >= parts.window, -torch.inf)
    return scores


def output_weight(linear: nn.Module, d_in: int) -> Tensor:
    """Weight of a linear module as (d_in, d_out), also through Conv1D or an unmerged LoRA.

    The module is run instead of read, so that a wrapper's own arithmetic counts.
    """
    weight = weight_of(linear)
    with torch.no_grad():
        eye = torch.eye(d_in, dtype=weight.dtype, device=weight.device)
        return linear(eye) - linear(torch.zeros_like(eye[:1]))


def weight_of(linear: nn.Module) -> Tensor:
    """Weight of a linear module or of the one that a LoRA wraps, for its type and device."""
    return cast(Tensor, getattr(linear, "base_layer", linear).weight)


@torch.no_grad()
def is_linear(function: Callable[[Tensor], Tensor], d_in: int, like: Tensor) -> bool:
    """Whether a function of rows (m, d_in) is linear, but for a constant; found by trying."""
    x, y = _probes(d_in, like)
    joint = function(x + y)
    parts = function(x) + function(y) - function(torch.zeros_like(x))
    return _same(joint, parts)


@torch.no_grad()
def is_layer_norm(norm: nn.Module, like: Tensor) -> bool:
    """Whether a module is the plain LayerNorm over the last axis; found by trying."""
    if not isinstance(norm, nn.LayerNorm) or len(norm.normalized_shape) != 1:
        return False
    probes = _probes(norm.normalized_shape[0], like)
    plain = (F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps) for x in probes)
    return all(_same(norm(x), y) for x, y in zip(probes, plain, strict=True))


def _probes(d: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Small and large rows, (64, d) each."""
    generator = torch.Generator(like.device).manual_seed(0)
    x = torch.empty(2, 64, d, dtype=like.dtype, device=like.device).normal_(generator=generator)
    return x[0], 30 * x[1]


def _same(one: Tensor, other: Tensor) -> bool:
    allowed = 1e3 * torch.finfo(one.dtype).eps * float(one.abs().max())
    return bool(((one - other).abs() <= allowed).all())
