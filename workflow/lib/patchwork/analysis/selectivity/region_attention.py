"""Where the heads of a ViT look: attention over patches, and how it falls on regions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from patchwork.analysis.selectivity import region_scores
from patchwork.interventions import attention, read
from patchwork.interventions.batches import batches
from patchwork.models import sites
from patchwork.models.sites import Anatomy, Site

VARIANTS = ("cls", "received", "rollout")
HIGH_NORM = "high_norm_tokens"
# ASSUME: Darcet et al. give absolute lengths of their own models; a multiple of the image's median
# fits any (see `attention.high_norm_tokens`).
HIGH_NORM_RATIO = 4.0
# Rollout averages over heads; its rows carry this number in place of a head's.
NO_HEAD = -1
_RESIDUAL = 0.5


@dataclass(frozen=True)
class Maps:
    """Attention over patches, the tokens before the first patch left out.

    Attributes:
        weights: variant to shape (n, layers, heads, patches), rows summing to 1; one "head" for
            ``rollout``.
        prefix: variant to shape (n, layers, heads): share that went to class token and registers,
            taken out of the weights.
        high_norm: shape (n, layers, patches): tokens whose stream enters a layer far longer than
            the image's median.
    """

    weights: Mapping[str, np.ndarray]
    prefix: Mapping[str, np.ndarray]
    high_norm: np.ndarray


def attend(model: nn.Module, inputs: Any, *, chunk: int = 8) -> Maps:
    """Attention maps of a model, reduced to one row per head while they stream by.

    Variants: ``cls`` (what the class token attends to), ``received`` (mean attention that a patch
    receives), ``rollout`` (what reaches the class token after each layer, heads averaged).

    Args:
        model: a supported ViT in eval mode.
        inputs: n examples, as sweeps take them.
        chunk: examples at once.

    Returns:
        The maps.

    Raises:
        ValueError: if the model is in training mode or has no class token.
    """
    anatomy = sites.find(model)
    if anatomy.n_prefix < 1:
        raise ValueError("model has no class token; allowed is a ViT with one")
    parts = [_of_batch(model, anatomy, batch) for _, batch in batches(inputs, chunk, model)]
    whole = [np.concatenate(column) for column in zip(*parts, strict=True)]
    n = len(VARIANTS)
    return Maps(
        dict(zip(VARIANTS, whole[:n], strict=True)),
        dict(zip(VARIANTS, whole[n : 2 * n], strict=True)),
        whole[-1],
    )


def _of_batch(model: nn.Module, anatomy: Anatomy, batch: Any) -> list[np.ndarray]:
    """Weights of each variant, their share on the prefix, and long tokens, of one batch."""
    rows: dict[str, list[Tensor]] = {name: [] for name in VARIANTS}
    flow: Tensor | None = None
    for pattern in attention.patterns(model, batch):
        rows["cls"].append(attention.cls_row(pattern))
        rows["received"].append(attention.mean_received(pattern))
        flow = _followed(flow, pattern.mean(1))
        rows["rollout"].append(flow[:, :1])
    stacked = [torch.stack(rows[name], 1) for name in VARIANTS]
    patches = [one[..., anatomy.n_prefix :] for one in stacked]
    weights = [one / one.sum(-1, keepdim=True) for one in patches]
    prefix = [1 - one.sum(-1) for one in patches]
    return [one.cpu().numpy() for one in (*weights, *prefix, _high_norm(model, anatomy, batch))]


def _followed(flow: Tensor | None, mean: Tensor) -> Tensor:
    """Rollout after one more layer (Abnar, Zuidema 2020, section 3)."""
    eye = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
    step = _RESIDUAL * eye + (1 - _RESIDUAL) * mean
    return step if flow is None else step @ flow


def _high_norm(model: nn.Module, anatomy: Anatomy, batch: Any) -> Tensor:
    names = [Site("resid_pre", layer) for layer in range(anatomy.n_layers)]
    streams = read(model, names, batch)
    lengths = torch.stack([streams[name].norm(dim=-1) for name in names], 1)
    lengths = lengths[..., anatomy.n_prefix :]
    return lengths > HIGH_NORM_RATIO * lengths.median(dim=-1, keepdim=True).values


def region_attention(
    maps: Maps,
    regions: np.ndarray,
    names: Sequence[str],
    merged: Mapping[str, Sequence[str]] | None = None,
    *,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score every map against every region, per image, and test each head against masks elsewhere.

    Tokens of high norm count as patches like any other; they are one more region of their own,
    `HIGH_NORM`, and each region's mass on them stands beside its mass.

    Args:
        maps: of the images.
        regions: uint8, shape (n, H, W, 1): index into names of each pixel.
        names: of the regions.
        merged: name of a further region to the names that it joins.
        seed: of the null's masks.

    Returns:
        Two tables. Per image: layer, head (`NO_HEAD` for rollout), variant, region, example, and
        `region_scores.SCORES`. Per head: layer, head, variant, region, null, ratio, ratio_null, p
        (one-sided, see `region_scores.tests`), the means of the scores, prefix_share (0 to 1) and
        n (images that have the region).

    Raises:
        ValueError: if regions and maps do not fit together, or a name is unknown.
    """
    n_patches = next(iter(maps.weights.values())).shape[-1]
    plain = region_scores.shares_of(regions, names, n_patches, merged or {})
    per_image, per_head = [], []
    for layer in range(maps.high_norm.shape[1]):
        long = maps.high_norm[:, layer]
        here = plain.with_region(HIGH_NORM, long) if long.any() else plain
        nulls = here.elsewhere(seed)
        for variant, weights in maps.weights.items():
            given = weights[:, layer].astype(np.float64)
            images = region_scores.score(given, here, nulls, long)
            table = region_scores.tests(given, here, seed).merge(
                region_scores.means(images), on=["head", "region"], validate="one_to_one"
            )
            share = maps.prefix[variant][:, layer].mean(0)
            table = table.assign(prefix_share=share[table["head"]])
            per_image.append(_named(images, layer, variant))
            per_head.append(_named(table, layer, variant))
    return pd.concat(per_image, ignore_index=True), pd.concat(per_head, ignore_index=True)


def of_states(
    networks: Mapping[str, tuple[nn.Module, Any]],
    regions: np.ndarray,
    names: Sequence[str],
    merged: Mapping[str, Sequence[str]] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """:func:`region_attention` of several states of one network on the same pictures.

    Args:
        networks: state (`region_tables.TUNED`, or `UNTOUCHED` for the backbone as it was before)
            to the model and the pictures as it takes them.
        regions: as for :func:`region_attention`.
        names: of the regions.
        merged: as for :func:`region_attention`.

    Returns:
        The two tables with a column state.
    """
    tables = [
        [table.assign(state=state) for table in
         region_attention(attend(model, inputs), regions, names, merged)]
        for state, (model, inputs) in networks.items()
    ]  # fmt: skip
    per_image, per_head = (pd.concat(some, ignore_index=True) for some in zip(*tables, strict=True))
    return per_image, per_head


def overlay(
    maps: Maps, images: np.ndarray, variant: str = "cls"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The maps of the first picture, and the picture, as tables that a figure is drawn from.

    Args:
        maps: of pictures.
        images: uint8, shape (n, H, W, 3), the same pictures.
        variant: of the attention.

    Returns:
        layer, head, row, column (patches), weight (sums to 1 over patches); and row, column
        (pixels), red, green, blue (0 to 255).
    """
    weights = maps.weights[variant][0]
    height, width = images.shape[1:3]
    columns = round((weights.shape[-1] * width / height) ** 0.5)
    cells = weights.reshape(*weights.shape[:2], -1, columns)
    layer, head, row, column = (place.reshape(-1) for place in np.indices(cells.shape))
    drawn = {"layer": layer, "head": head, "row": row, "column": column}
    y, x = (place.reshape(-1) for place in np.indices((height, width)))
    red, green, blue = images[0].reshape(-1, 3).T
    picture = {"row": y, "column": x, "red": red, "green": green, "blue": blue}
    return pd.DataFrame(drawn | {"weight": cells.reshape(-1)}), pd.DataFrame(picture)


def _named(table: pd.DataFrame, layer: int, variant: str) -> pd.DataFrame:
    head = NO_HEAD if variant == "rollout" else table["head"]
    named = table.assign(layer=layer, variant=variant, head=head)
    first = ["layer", "head", "variant"]
    return named[[*first, *(name for name in named.columns if name not in first)]]
