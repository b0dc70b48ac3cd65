"""Estimates for queries, keys and values, also where the softmax is saturated (AtP*)."""

import torch
from torch import Tensor

from patchwork.interventions.fast_path import kernels
from patchwork.interventions.pattern_edits import AttentionInputs
from patchwork.models.sites import BlockParts

NAMES = ("q", "k", "v")


def attributed(
    parts: BlockParts,
    causal: bool,
    base: AttentionInputs,
    others: tuple[Tensor, Tensor, Tensor],
    slope: Tensor,
    names: tuple[str, ...],
    fix: bool,
    *,
    together: bool = False,
) -> dict[str, Tensor]:
    """Estimated effect of patching one head's query, key or value at one token.

    Args:
        parts: of the block.
        causal: whether tokens attend only backwards.
        base: what the attention of the patched run was called with.
        others: queries, keys and values that are patched in, each (n, heads, t, d_head).
        slope: gradient of the metric at the heads' outputs in the base run, (n, t, heads x d_head).
        names: of `q`, `k`, `v`.
        fix: whether the softmax is computed anew for each patched query or key (AtP*'s QK fix), and
            only what follows is linear; else its slope is taken. Both cost about the same.
        together: whether the keys of all tokens change at once; with `fix` this matters.

    Returns:
        Name to effects (n, heads, t); of keys together t are the queries.

    Source:
        Kramar, Lieberum, Shah, Nanda 2024, AtP*: An efficient and scalable method for localizing
        LLM behaviour to components, section 3.1.1 and appendix C.
    """
    q, k, v = parts.qkv(base.normed)
    where = (causal or base.causal, base.mask, base.rotation)
    scores = kernels.scores_of(parts, q, k, *where)
    pattern = scores.softmax(-1).nan_to_num(nan=0.0)
    slope = slope.unflatten(-1, (q.shape[1], -1)).transpose(1, 2)
    along = slope @ v.transpose(-2, -1)  # gradient at the pattern
    effects: dict[str, Tensor] = {}
    if "v" in names:
        effects["v"] = ((pattern.transpose(-2, -1) @ slope) * (others[2] - v)).sum(-1)
    # Rotations are linear, so changes may be turned instead of what changes.
    turned = parts.rotated(q, k, base.rotation)
    changes = parts.rotated(others[0] - q, others[1] - k, base.rotation)
    by_q = parts.softmax_scale * changes[0] @ turned[1].transpose(-2, -1)
    by_k = parts.softmax_scale * turned[0] @ changes[1].transpose(-2, -1)
    if fix:
        if "q" in names:
            new = (scores + by_q).softmax(-1).nan_to_num(nan=0.0)
            effects["q"] = ((new - pattern) * along).sum(-1)
        if "k" in names and together:
            new = (scores + by_k).softmax(-1).nan_to_num(nan=0.0)
            effects["k"] = ((new - pattern) * along).sum(-1)
        elif "k" in names:
            effects["k"] = _one_key_changed(scores, by_k, along).sum(-2)
    else:
        slope_of_scores = pattern * (along - (pattern * along).sum(-1, keepdim=True))
        if "q" in names:
            effects["q"] = (slope_of_scores * by_q).sum(-1)
        if "k" in names:
            effects["k"] = (slope_of_scores * by_k).sum(-2)
    return effects


def _one_key_changed(scores: Tensor, change: Tensor, along: Tensor) -> Tensor:
    """Change of softmax(scores) @ along for each key (..., query, key) whose score alone changes.

    The key's weight goes from sigmoid(score - rest) to that of the changed score, where rest is the
    logarithm of what the others sum to; the others share what is left as before. Where one key has
    nearly all of the weight, the others are summed without it: one minus its weight would be 0.
    """
    top = scores.argmax(-1, keepdim=True)
    is_top = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, top, True)
    greatest = scores.gather(-1, top)
    weights = (scores - greatest).exp()
    rest = (weights.sum(-1, keepdim=True) - weights).masked_fill(is_top, 1.0)
    mean = ((weights * along).sum(-1, keepdim=True) - weights * along) / rest
    rest = rest.log() + greatest
    without = scores.masked_fill(is_top, -torch.inf)
    others = without.softmax(-1).nan_to_num(nan=0.0)
    rest = torch.where(is_top, without.logsumexp(-1, keepdim=True), rest)
    mean = torch.where(is_top, (others * along).sum(-1, keepdim=True), mean)
    odds = scores - rest
    moved = (odds + change).sigmoid() - odds.sigmoid()
    return (moved * (along - mean)).nan_to_num(nan=0.0)
