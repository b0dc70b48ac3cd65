"""What heads look at: patterns recomputed beside the fused forward pass, streamed by layer."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from patchwork.interventions.batches import batches, call
from patchwork.interventions.fast_path import kernels
from patchwork.interventions.readout import embed
from patchwork.models import sites
from patchwork.models.sites import BlockParts


def patterns(model: nn.Module, batch: Any, layers: list[int] | None = None) -> Iterator[Tensor]:
    """Attention patterns of one batch, one layer after the other, never all at once.

    The model's forward pass runs once, fused attention included; each pattern is recomputed from
    the input of its attention module when it is asked for.

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
    taken = _attention_inputs(model, [anatomy.blocks[layer] for layer in chosen], batch)
    for layer in chosen:
        parts = anatomy.blocks[layer]
        normed, mask = taken.pop(id(parts))
        # Yielded outside: a generator that is left half way must not leave gradients off.
        with torch.no_grad():
            pattern = kernels.pattern(parts, normed, anatomy.causal, mask)[0]
        yield pattern


def _attention_inputs(
    model: nn.Module, blocks: list[BlockParts], batch: Any
) -> dict[int, tuple[Tensor, Tensor | None]]:
    taken: dict[int, tuple[Tensor, Tensor | None]] = {}

    def keep(parts: BlockParts) -> Any:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            mask = kwargs.get("attention_mask", kwargs.get("attn_mask"))
            if len(args) > 1 and isinstance(args[1], Tensor):
                mask = args[1]
            taken[id(parts)] = (args[0] if args else kwargs["hidden_states"], mask)

        return hook

    with ExitStack() as stack, torch.no_grad():
        for parts in blocks:
            handle = parts.attn.register_forward_pre_hook(keep(parts), with_kwargs=True)
            stack.callback(handle.remove)
        call(model, batch)
    return taken


def cls_row(pattern: Tensor) -> Tensor:
    """What the first token attends to: (n, heads, key) of patterns (n, heads, query, key)."""
    return pattern[:, :, 0]


def mean_received(pattern: Tensor) -> Tensor:
    """Attention that each token receives, averaged over queries: (n, heads, key)."""
    return pattern.mean(2)


def entropy(pattern: Tensor) -> Tensor:
    """Shannon entropy of each query's attention, in bits, averaged over queries: (n, heads).

    0 is attention to one token, log2(tokens) is uniform attention.
    """
    return -torch.special.xlogy(pattern, pattern).sum(-1).mean(-1) / np.log(2)


def _at_least_single(tensor: Tensor) -> Tensor:
    """Half types as float32: they have no distances, round sums, and NumPy lacks bfloat16."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def distance(pattern: Tensor, grid: tuple[int, int], n_prefix: int) -> Tensor:
    """Mean distance between a query patch and what it attends to, in patches: (n, heads).

    Half types are reckoned, and returned, in float32.

    Args:
        pattern: shape (n, heads, query, key).
        grid: patches down and across.
        n_prefix: tokens before the first patch; their rows and columns are left out and the
            rest of each row is rescaled to sum 1.

    Raises:
        ValueError: if grid and tokens disagree.

    Source:
        Dosovitskiy et al. 2021, An Image is Worth 16x16 Words, figure 7 (right).
    """
    rows, columns = grid
    if rows * columns + n_prefix != pattern.shape[-1]:
        raise ValueError(
            f"grid is {grid}; allowed is one of {pattern.shape[-1] - n_prefix} patches"
        )
    inner = _at_least_single(pattern[:, :, n_prefix:, n_prefix:])
    inner = inner / inner.sum(-1, keepdim=True).clamp_min(torch.finfo(inner.dtype).tiny)
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(inner)
    return (inner * torch.cdist(places, places)).sum(-1).mean(-1)


def rollout(model: nn.Module, batch: Any, residual: float = 0.5) -> Tensor:
    """Attention followed through all layers, heads averaged: (n, token, input token).

    Args:
        model: a supported model in eval mode.
        batch: what the model takes.
        residual: share of each token that the skip connection carries, in [0, 1).

    Returns:
        Rows summing to 1; row 0 is what reaches CLS.

    Raises:
        ValueError: if residual is outside [0, 1).

    Source:
        Abnar, Zuidema 2020, Quantifying Attention Flow in Transformers, section 3.
    """
    if not 0 <= residual < 1:
        raise ValueError(f"residual is {residual}; allowed is 0 <= residual < 1")
    flow: Tensor | None = None
    for pattern in patterns(model, batch):
        mean = pattern.mean(1)
        eye = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
        step = residual * eye + (1 - residual) * mean
        flow = step if flow is None else step @ flow
    assert flow is not None
    return flow


def high_norm_tokens(
    model: nn.Module, batch: Any, layer: int | None = None, ratio: float = 4.0
) -> Tensor:
    """Patch tokens whose residual stream is far longer than the typical one of their image.

    Args:
        model: a supported ViT in eval mode.
        batch: what the model takes.
        layer: the stream before this block; None is the one after the last block.
        ratio: length over the image's median length from which a token counts, > 1.

    Returns:
        Boolean (n, patches).

    Raises:
        ValueError: if ratio <= 1 or the layer is out of range.

    Source:
        Darcet et al. 2024, Vision Transformers Need Registers, section 2.
    """
    # ASSUME: a multiple of the median; the paper's absolute cut-off fits its own models only.
    if ratio <= 1:
        raise ValueError(f"ratio is {ratio}; allowed is > 1")
    sites.require_eval(model)
    anatomy = sites.find(model)
    last = anatomy.n_layers
    if layer is not None and not 0 <= layer < last:
        raise ValueError(f"layer is {layer}; allowed is 0 to {last - 1} or None")
    with torch.no_grad():
        stream = embed(model, anatomy, batch)
        for parts in anatomy.blocks[:layer]:
            output = parts.block(stream)
            stream = output[0] if isinstance(output, tuple) else output
    norms = stream[:, anatomy.n_prefix :].norm(dim=-1)
    return norms > ratio * norms.median(dim=1, keepdim=True).values


def summary(
    model: nn.Module, inputs: Any, grid: tuple[int, int] | None = None, chunk: int = 8
) -> pd.DataFrame:
    """Per layer, head and example: entropy, distance and share of attention to the prefix.

    Args:
        model: a supported model in eval mode.
        inputs: n examples, as the sweeps take them; streamed.
        grid: patches down and across, for the distance; None leaves it out.
        chunk: examples at once.

    Returns:
        Columns layer, head, example, entropy (bits), prefix_share (0 to 1, attention of all
        queries to CLS and registers) and, with a grid, distance (patches); half types are
        reckoned in float32.

    Raises:
        ValueError: for a model in training mode, no example, or a grid of another number of
            patches.
    """
    n_prefix, frames = sites.find(model).n_prefix, []
    for rows, batch in batches(inputs, chunk, model):
        for layer, pattern in enumerate(patterns(model, batch)):
            pattern = _at_least_single(pattern)
            n, heads = pattern.shape[:2]
            index = pd.MultiIndex.from_product([rows.tolist(), range(heads)])
            columns = {
                "entropy": entropy(pattern),
                "prefix_share": pattern[..., :n_prefix].sum(-1).mean(-1),
            }
            if grid is not None:
                columns["distance"] = distance(pattern, grid, n_prefix)
            frame = pd.DataFrame(
                {name: value.reshape(n * heads).cpu().numpy() for name, value in columns.items()},
                index=index.set_names(["example", "head"]),
            ).reset_index()
            frame.insert(0, "layer", layer)
            frames.append(frame)
    if not frames:
        raise ValueError("inputs holds no example; allowed is at least one")
    return pd.concat(frames, ignore_index=True)
