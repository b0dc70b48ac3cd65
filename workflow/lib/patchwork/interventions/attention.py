"""Attention patterns, recomputed beside the fused forward pass and streamed by layer."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from patchwork.interventions.batches import call
from patchwork.interventions.fast_path import kernels
from patchwork.interventions.pattern_edits import AttentionInputs, attention_inputs
from patchwork.models import sites
from patchwork.models.sites import BlockParts


def patterns(model: nn.Module, batch: Any, layers: list[int] | None = None) -> Iterator[Tensor]:
    """Attention patterns of one batch, one layer after the other, never all at once.

    The model's forward pass runs once, fused attention included; each pattern is recomputed from
    the input of its attention module when its turn comes.

    Args:
        model: a supported model in eval mode.
        batch: what the model takes.
        layers: which, counted from 0; None is all.

    Yields:
        Patterns (n, heads, query, key), rows summing to 1, without the edits of an enclosing
        `ablate` or `patch`, which `interventions.read` sees.

    Raises:
        ValueError: for a model in training mode, or a layer out of range or named twice.
    """
    sites.require_eval(model)
    anatomy = sites.find(model)
    chosen = list(range(anatomy.n_layers)) if layers is None else layers
    outside = [layer for layer in chosen if not 0 <= layer < anatomy.n_layers]
    if outside:
        raise ValueError(f"layers: {outside[0]}; allowed is 0 to {anatomy.n_layers - 1}")
    # Each layer's input is let go with its pattern: a second one would find none.
    twice = [layer for i, layer in enumerate(chosen) if layer in chosen[:i]]
    if twice:
        raise ValueError(f"layers: {twice[0]} is named twice; allowed is each layer once")
    taken = _inputs_of(model, [anatomy.blocks[layer] for layer in chosen], batch)
    for layer in chosen:
        parts = anatomy.blocks[layer]
        given = taken.pop(id(parts))
        # Yielded outside: a generator that is left half way must not leave gradients off.
        with torch.no_grad():
            pattern = kernels.pattern(
                parts, given.normed, anatomy.causal or given.causal, given.mask, given.rotation
            )[0]
        yield pattern


def _inputs_of(
    model: nn.Module, blocks: list[BlockParts], batch: Any
) -> dict[int, AttentionInputs]:
    taken: dict[int, AttentionInputs] = {}

    def keep(parts: BlockParts) -> Any:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            taken[id(parts)] = attention_inputs(args, kwargs)

        return hook

    with ExitStack() as stack, torch.no_grad():
        for parts in blocks:
            handle = parts.attn.register_forward_pre_hook(keep(parts), with_kwargs=True)
            stack.callback(handle.remove)
        call(model, batch)
    return taken


def rollout(flow: Tensor | None, pattern: Tensor, residual: float = 0.5) -> Tensor:
    """Attention followed through one more layer, heads averaged: (n, token, input token).

    Args:
        flow: what this gave for the layers before; None before the first.
        pattern: of the layer, (n, heads, query, key).
        residual: share of each token that the skip connection carries, in [0, 1).

    Source:
        Abnar, Zuidema 2020, Quantifying Attention Flow in Transformers, section 3.
    """
    mean = pattern.mean(1)
    eye = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
    step = residual * eye + (1 - residual) * mean
    return step if flow is None else step @ flow


def high_norm_tokens(streams: Tensor, n_prefix: int, ratio: float = 4.0) -> Tensor:
    """Patch tokens whose residual stream is far longer than the typical one of their image.

    Args:
        streams: shape (..., tokens, d).
        n_prefix: tokens before the first patch.
        ratio: length over the image's median length from which a token counts.

    Returns:
        Boolean (..., patches).

    Source:
        Darcet et al. 2024, Vision Transformers Need Registers, section 2.
    """
    # ASSUME: a multiple of the median; the paper's absolute cut-off fits its own models only.
    norms = streams.norm(dim=-1)[..., n_prefix:]
    return norms > ratio * norms.median(dim=-1, keepdim=True).values
