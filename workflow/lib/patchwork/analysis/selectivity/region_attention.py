"""Attention of a ViT's heads over patches, scored against regions of the picture and their null."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from patchwork.interventions import attention, read
from patchwork.interventions.batches import batches
from patchwork.models import sites
from patchwork.models.sites import Anatomy, Site
from patchwork.statistics.metrics import auroc

VARIANTS = ("cls", "received", "rollout")
HIGH_NORM = "high_norm_tokens"
# Rollout averages over heads; its rows carry this number in place of a head's.
NO_HEAD = -1
# ASSUME: a patch belongs to a region that covers at least this share of it, so that a line one
# pixel wide across a patch of 16 by 16 pixels (1/16 of it) still counts. Of a region thinner than
# that, the patches count that it covers at least half as much as any.
BELONGS = 0.05
# ASSUME: masks that overlap less than this from image to image (sum of minima over sum of maxima)
# move; only for these is another image's mask a null.
MOVES_BELOW = 0.5
N_PERMUTATIONS = 4999
OTHER_IMAGE, SHIFTED = "other_image", "shifted"
SCORES = (
    "mass", "area", "hit", "auroc", "mass_high_norm", "null_mass", "null_hit", "null_auroc",
)  # fmt: skip


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
        rows["cls"].append(pattern[:, :, 0])
        rows["received"].append(pattern.mean(2))
        flow = attention.rollout(flow, pattern)
        rows["rollout"].append(flow[:, :1])
    stacked = [torch.stack(rows[name], 1) for name in VARIANTS]
    patches = [one[..., anatomy.n_prefix :] for one in stacked]
    weights = [one / one.sum(-1, keepdim=True) for one in patches]
    prefix = [1 - one.sum(-1) for one in patches]
    names = [Site("resid_pre", layer) for layer in range(anatomy.n_layers)]
    streams = read(model, names, batch)
    long = attention.high_norm_tokens(
        torch.stack([streams[name] for name in names], 1), anatomy.n_prefix
    )
    return [one.cpu().numpy() for one in (*weights, *prefix, long)]


@dataclass(frozen=True)
class Shares:
    """How much of each patch lies in each region.

    Attributes:
        names: of the regions, length r.
        values: shape (n, r, rows, columns), 0 to 1.
    """

    names: tuple[str, ...]
    values: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        """Shape (n, r, patches)."""
        return self.values.reshape(*self.values.shape[:2], -1)

    def with_region(self, name: str, member: np.ndarray) -> "Shares":
        """One more region, of whole patches: member is boolean, shape (n, patches)."""
        n, _, rows, columns = self.values.shape
        more = member.reshape(n, 1, rows, columns).astype(np.float64)
        return Shares((*self.names, name), np.concatenate([self.values, more], axis=1))

    def members(self) -> np.ndarray:
        """Which patches belong to each region (see `BELONGS`), shape (n, r, patches)."""
        flat = self.flat
        least = np.minimum(BELONGS, flat.max(-1, keepdims=True) / 2)
        return (flat > 0) & (flat >= least)

    def moves(self) -> np.ndarray:
        """Whether each region lies elsewhere in another image, shape (r,)."""
        found = []
        for one in range(len(self.names)):
            some = self.values[:, one]
            some = some[some.any((1, 2))]
            other = np.roll(some, 1, axis=0)
            whole = np.maximum(some, other).sum()
            overlap = np.minimum(some, other).sum() / whole if whole else 1.0
            found.append(len(some) > 1 and overlap < MOVES_BELOW)
        return np.array(found)

    def elsewhere(self, seed: int) -> "Shares":
        """One null mask per image: another image's if the region moves, else shifted at random.

        Shifts wrap around the borders; they are drawn anew for each image.
        """
        rng = np.random.Generator(np.random.Philox(seed))
        n, _, rows, columns = self.values.shape
        moved = self.values.copy()
        drawn = 1 + rng.integers(rows * columns - 1, size=n)
        for one, moving in enumerate(self.moves()):
            if moving:
                with_it = np.flatnonzero(self.values[:, one].any((1, 2)))
                moved[with_it, one] = self.values[np.roll(with_it, 1), one]
                continue
            for i, shift in enumerate(drawn):
                moved[i, one] = np.roll(self.values[i, one], divmod(shift, columns), (0, 1))
        return Shares(self.names, moved)


def shares_of(
    regions: np.ndarray,
    names: Sequence[str],
    n_patches: int,
    merged: Mapping[str, Sequence[str]],
) -> Shares:
    """Spread a map of region numbers over the patches of a ViT.

    Args:
        regions: uint8, shape (n, H, W, 1): index into names of each pixel.
        names: of the regions.
        n_patches: patches of the ViT; they are square.
        merged: name of a further region to the names that it joins.

    Returns:
        Shares of the names, then of the merged ones.

    Raises:
        ValueError: if a number has no name, the picture cannot be cut into so many square patches,
            or a merged name is unknown.
    """
    n, height, width = regions.shape[:3]
    px = round(np.sqrt(height * width / n_patches))
    if px == 0 or height % px or width % px or height * width // px**2 != n_patches:
        raise ValueError(
            f"regions are {height} by {width}; allowed is a size that {n_patches} square patches "
            "cover"
        )
    if regions.max() >= len(names):
        raise ValueError(f"regions hold {regions.max()}; allowed is below {len(names)}")
    unknown = [one for parts in merged.values() for one in parts if one not in names]
    if unknown:
        raise ValueError(f"merged names {unknown[0]!r}; allowed is {', '.join(names)}")
    cut = regions.reshape(n, height // px, px, width // px, px)
    plain = np.stack([(cut == k).mean((2, 4)) for k in range(len(names))], axis=1)
    place = {name: k for k, name in enumerate(names)}
    joined = [plain[:, [place[one] for one in parts]].sum(1) for parts in merged.values()]
    return Shares((*names, *merged), np.concatenate([plain, *(j[:, None] for j in joined)], axis=1))


def pointing(weights: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Whether the patch of largest weight belongs to the region; tied patches share the point.

    Args:
        weights: shape (n, heads, patches).
        member: boolean, shape (n, r, patches).

    Returns:
        shape (n, heads, r), 0 to 1.

    Source:
        Zhang et al. 2018, Top-down Neural Attention by Excitation Backprop, section 4.3.
    """
    top = weights == weights.max(-1, keepdims=True)
    return np.einsum("nhp,nrp->nhr", top / top.sum(-1, keepdims=True), member.astype(float))


def region_scores(
    weights: np.ndarray, regions: Shares, nulls: Shares, long: np.ndarray
) -> pd.DataFrame:
    """Scores of every head, image and region that the image has.

    Args:
        weights: shape (n, heads, patches), rows summing to 1.
        regions: true masks.
        nulls: masks elsewhere, as `Shares.elsewhere` gives them.
        long: boolean, shape (n, patches): tokens of high norm.

    Returns:
        head, region, example and `SCORES`, as in the table ``region_scores.parquet``.
    """
    shape = (*weights.shape[:2], len(regions.names))
    member, null_member = regions.members(), nulls.members()
    columns = {
        "mass": np.einsum("nhp,nrp->nhr", weights, regions.flat),
        "area": np.broadcast_to(regions.flat.mean(-1)[:, None], shape),
        "hit": pointing(weights, member),
        "auroc": auroc(weights[:, :, None], member[:, None]),
        "mass_high_norm": np.einsum("nhp,nrp,np->nhr", weights, regions.flat, long),
        "null_mass": np.einsum("nhp,nrp->nhr", weights, nulls.flat),
        "null_hit": pointing(weights, null_member),
        "null_auroc": auroc(weights[:, :, None], null_member[:, None]),
    }
    example, head, region = (place.reshape(-1) for place in np.indices(shape))
    table = pd.DataFrame(
        {"head": head, "region": np.array(regions.names)[region], "example": example}
        | {name: values.reshape(-1).astype(np.float32) for name, values in columns.items()}
    )
    return table[table["area"] > 0].reset_index(drop=True)


def mean_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean of each score over images, per head and region, and their number n."""
    grouped = scores.groupby(["head", "region"], sort=False)
    table = grouped[list(SCORES)].mean()
    return table.assign(n=grouped.size()).reset_index()


def null_tests(weights: np.ndarray, regions: Shares, seed: int) -> pd.DataFrame:
    """Does attention lie on a region more than on the same masks elsewhere?

    A region that moves is tested by giving each image the mask of another one, at random; what a
    head does in all images, such as attending to the middle, is then in the null as well. For
    a region that stays where it is (a frame, a title) that would be no null: there the masks of
    all images are shifted and mirrored together, in all ways, around the borders.

    Args:
        weights: shape (n, heads, patches), rows summing to 1.
        regions: masks.
        seed: of the permutations.

    Returns:
        head, region, null (`OTHER_IMAGE` or `SHIFTED`), ratio (attention mass over area, both
        summed over images), ratio_null (the null's mean), p (one-sided), and of one mask elsewhere,
        drawn from the null, ratio_drawn and p_drawn. Regions that no image has are left out.
    """
    rows = []
    for one, moving in enumerate(regions.moves()):
        masks = regions.values[:, one]
        with_it = masks.any((1, 2))
        if not with_it.any():
            continue
        given, masks = weights[with_it], masks[with_it]
        test = _other_images if moving else _shifts
        drawn = test(given, masks, seed)
        area, other = masks.mean((1, 2)).sum(), 1 + seed % (len(drawn) - 1)
        frame = pd.DataFrame(
            {
                "ratio": drawn[0] / area,
                "ratio_null": drawn.mean(0) / area,
                "p": _p(drawn[0], drawn),
                "ratio_drawn": drawn[other] / area,
                "p_drawn": _p(drawn[other], drawn),
            }
        )
        null = OTHER_IMAGE if moving else SHIFTED
        rows.append(frame.assign(head=range(len(frame)), region=regions.names[one], null=null))
    return pd.concat(rows, ignore_index=True)


def _p(true: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Share of the draws (draws, heads) at least as large as the truth, itself one of them."""
    # Equal sums in another order differ in the last bits.
    return (drawn >= true - 1e-9 * (1 + np.abs(true))).mean(0)


def _other_images(weights: np.ndarray, masks: np.ndarray, seed: int) -> np.ndarray:
    """Attention on the masks, then on those of other images, at random; shape (draws, heads)."""
    n = len(masks)
    # mass[h, i, j]: attention of head h in image i on the mask of image j.
    mass = np.einsum("ihp,jp->hij", weights, masks.reshape(n, -1), optimize=True)
    rng = np.random.Generator(np.random.Philox(seed))
    orders = rng.permuted(np.tile(np.arange(n), (N_PERMUTATIONS, 1)), axis=1)
    orders = np.concatenate([np.arange(n)[None], orders])
    return np.stack([one[np.arange(n), orders].sum(1) for one in mass], axis=1)


def _shifts(weights: np.ndarray, masks: np.ndarray, seed: int) -> np.ndarray:
    """Attention on the masks, then on every shift and mirror image of all of them together.

    They come in random order, the true place first; shape (draws, heads).
    """
    n, heads = weights.shape[:2]
    shape = masks.shape[1:]
    seen = np.fft.fft2(weights.reshape(n, heads, *shape))
    every = []
    for axes in ((), (1,), (2,), (1, 2)):
        placed = np.conj(np.fft.fft2(np.flip(masks, axes) if axes else masks))
        sums = np.fft.ifft2(np.einsum("nhxy,nxy->hxy", seen, placed)).real
        every.append(sums.reshape(heads, -1))
    drawn = np.concatenate(every, axis=1).T
    drawn[1:] = np.random.Generator(np.random.Philox(seed)).permutation(drawn[1:])
    return drawn


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
        The tables ``region_scores.parquet`` and ``region_heads.parquet`` without state; head is
        `NO_HEAD` for rollout, p one-sided (see `null_tests`).

    Raises:
        ValueError: if regions and maps do not fit together, or a name is unknown.
    """
    n_patches = next(iter(maps.weights.values())).shape[-1]
    plain = shares_of(regions, names, n_patches, merged or {})
    per_image, per_head = [], []
    for layer in range(maps.high_norm.shape[1]):
        long = maps.high_norm[:, layer]
        here = plain.with_region(HIGH_NORM, long) if long.any() else plain
        nulls = here.elsewhere(seed)
        for variant, weights in maps.weights.items():
            given = weights[:, layer].astype(np.float64)
            images = region_scores(given, here, nulls, long)
            table = null_tests(given, here, seed).merge(
                mean_scores(images), on=["head", "region"], validate="one_to_one"
            )
            share = maps.prefix[variant][:, layer].mean(0)
            table = table.assign(prefix_share=share[table["head"]])
            per_image.append(_named(images, layer, variant))
            per_head.append(_named(table, layer, variant))
    return pd.concat(per_image, ignore_index=True), pd.concat(per_head, ignore_index=True)


def attention_by_state(
    networks: Mapping[str, tuple[nn.Module, Any]],
    regions: np.ndarray,
    names: Sequence[str],
    merged: Mapping[str, Sequence[str]] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """:func:`region_attention` of several states of one network on the same pictures.

    Args:
        networks: state (`tables.TUNED`, or `UNTOUCHED` for the backbone as it was before)
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
    """The maps of some pictures, and the pictures, as tables that figures are drawn from.

    Args:
        maps: of pictures.
        images: uint8, shape (n, H, W, 3), the same pictures.
        variant: of the attention.

    Returns:
        The tables ``overlay.csv`` and ``overlay_picture.csv``.
    """
    weights = maps.weights[variant]
    height, width = images.shape[1:3]
    columns = round((weights.shape[-1] * width / height) ** 0.5)
    cells = weights.reshape(*weights.shape[:3], -1, columns)
    names = ("example", "layer", "head", "row", "column")
    places = (place.reshape(-1) for place in np.indices(cells.shape))
    drawn = dict(zip(names, places, strict=True))
    example, y, x = (place.reshape(-1) for place in np.indices(images.shape[:3]))
    red, green, blue = images.reshape(-1, 3).T
    picture = {"example": example, "row": y, "column": x, "red": red, "green": green, "blue": blue}
    return pd.DataFrame(drawn | {"weight": cells.reshape(-1)}), pd.DataFrame(picture)


def _named(table: pd.DataFrame, layer: int, variant: str) -> pd.DataFrame:
    head = NO_HEAD if variant == "rollout" else table["head"]
    named = table.assign(layer=layer, variant=variant, head=head)
    first = ["layer", "head", "variant"]
    return named[[*first, *(name for name in named.columns if name not in first)]]
