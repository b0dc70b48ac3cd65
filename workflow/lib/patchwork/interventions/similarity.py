"""Similarity of the heads of two models: their attention and their outputs."""

from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from patchwork.interventions import attention
from patchwork.interventions.batches import batches, rewindable
from patchwork.interventions.hooks import read
from patchwork.models import sites
from patchwork.models.sites import Site


def map_correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson correlation of two heads' attention maps, image by image.

    Args:
        one: maps (n, heads, tokens), e.g. CLS rows.
        other: maps of the other model, same shape.

    Returns:
        shape (n, heads), in [-1, 1]; nan where a map is uniform.

    Raises:
        ValueError: if the shapes differ.
    """
    if one.shape != other.shape:
        raise ValueError(
            f"one has shape {tuple(one.shape)} and other {tuple(other.shape)}; allowed is one shape"
        )
    a, b = (x.double() - x.double().mean(-1, keepdim=True) for x in (one, other))
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def linear_cka(one: Tensor, other: Tensor) -> float:
    """Linear centred kernel alignment of two sets of features of the same examples, debiased.

    The plain alignment of unrelated features is well above 0 where there are few examples for the
    number of features (0.5 with 64 of both), so products of an example with itself are left out.

    Args:
        one: shape (n, d), n >= 4.
        other: shape (n, e).

    Returns:
        In [-1, 1]; 1 for features equal up to rotation and one scale, 0 on average for unrelated
        ones; nan if either is constant.

    Raises:
        ValueError: if the numbers of examples differ or are below 4.

    Source:
        Kornblith et al. 2019, Similarity of Neural Network Representations Revisited, section 3;
        kernels centred as by Szekely and Rizzo 2014, Partial Distance Correlation, section 2.
    """
    if len(one) != len(other) or len(one) < 4:
        raise ValueError(
            f"one has {len(one)} rows and other {len(other)}; allowed is equal numbers, at least 4"
        )
    k, m = (_centred_kernel(x.double()) for x in (one, other))
    norm = k.norm() * m.norm()
    return float((k * m).sum() / norm) if norm > 0 else float("nan")


def _centred_kernel(features: Tensor) -> Tensor:
    """Products of different examples (n, n), centred without their own; zero on the diagonal."""
    n = len(features)
    centred = features - features.mean(0)  # changes nothing but rounding
    kernel = (centred @ centred.T).fill_diagonal_(0)
    rows = kernel.sum(0) / (n - 2)
    kernel = kernel - rows - rows[:, None] + kernel.sum() / ((n - 1) * (n - 2))
    if float(kernel.abs().max()) <= 1e-12 * float(features.square().sum(1).max()):
        return torch.zeros_like(kernel)
    return kernel.fill_diagonal_(0)


def head_similarity(one: nn.Module, other: nn.Module, inputs: Any, chunk: int = 8) -> pd.DataFrame:
    """Similarity of every head with the same head of another model, by attention and output of CLS.

    Args:
        one: a supported model in eval mode.
        other: another with the same number of layers, heads and tokens.
        inputs: examples that both models take, at least 4; streamed.
        chunk: examples at once.

    Returns:
        Columns layer, head, map_correlation (mean over images) and linear_cka, both in
        [-1, 1], and n.

    Raises:
        ValueError: if the models differ in layers or heads, or fewer than 4 examples are given.
    """
    rewindable(inputs, "inputs")
    shapes = [(a.n_layers, a.n_heads) for a in (sites.find(one), sites.find(other))]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"one has (layers, heads) {shapes[0]} and other {shapes[1]}; allowed is equal numbers"
        )
    (n_layers, n_heads), n = shapes[0], 0
    maps: list[list[Tensor]] = [[] for _ in range(n_layers)]
    outputs: list[list[list[Tensor]]] = [[[] for _ in range(n_layers)] for _ in range(2)]
    names = [Site("head_out", layer, None, (0,)) for layer in range(n_layers)]
    # The first model fixes device and floating type of the inputs for both.
    for rows, batch in batches(inputs, chunk, one):
        pairs = zip(attention.patterns(one, batch), attention.patterns(other, batch), strict=True)
        for layer, (a, b) in enumerate(pairs):
            maps[layer].append(map_correlation(a[:, :, 0], b[:, :, 0]).cpu())
        for kept, model in zip(outputs, (one, other), strict=True):
            for site, value in read(model, names, batch).items():
                kept[site.layer].append(value[:, 0].cpu())
        n += len(rows)
    if n < 4:
        raise ValueError(f"inputs holds {n} examples; allowed is at least 4")
    found = []
    for layer in range(n_layers):
        means = torch.cat(maps[layer]).nanmean(0).numpy()
        a, b = (torch.cat(kept[layer]).unflatten(-1, (n_heads, -1)) for kept in outputs)
        for head in range(n_heads):
            cka = linear_cka(a[:, head], b[:, head])
            found.append((layer, head, float(means[head]), cka, n))
    columns = ["layer", "head", "map_correlation", "linear_cka", "n"]
    return pd.DataFrame(found, columns=columns)
