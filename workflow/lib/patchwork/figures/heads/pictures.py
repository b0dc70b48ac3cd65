"""What happens at the patches of an image, laid over the stimulus: patching, and attention."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from patchwork.figures import panels, theme
from patchwork.figures.panels import words

PIXELS = ["row", "column", "level"]
_OPACITY = 0.85
# A token before the patches: the class token of a vision transformer.
_N_PREFIX = 1


def _picture(pixels: pd.DataFrame) -> np.ndarray:
    """Grey levels from 0 to 1, shape (height, width)."""
    grey = pixels.pivot(index="row", columns="column", values="level").to_numpy(float)
    return grey / max(float(grey.max()), 1.0)


def _over(axes: Axes, grey: np.ndarray, values: np.ndarray, norm: Normalize, cmap: str) -> None:
    """Values of the patches, shape (rows, columns), over a picture: the larger the less of it."""
    tall, wide = (one // patches for one, patches in zip(grey.shape, values.shape, strict=True))
    colour = mpl.colormaps[cmap](norm(values))[..., :3]
    reach = max(abs(float(norm.vmin or 0)), abs(float(norm.vmax or 0)))
    opacity = _OPACITY * np.abs(values)[..., None] / reach
    big = [np.kron(one, np.ones((tall, wide, 1))) for one in (colour, opacity)]
    ground = grey[: big[0].shape[0], : big[0].shape[1], None]
    axes.imshow(np.clip((1 - big[1]) * ground + big[1] * big[0], 0, 1), interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _name_row(axes: Axes, name: str) -> None:
    axes.text(-0.1, 0.5, name, transform=axes.transAxes, rotation=90, ha="right", va="center",
              multialignment="center")  # fmt: skip


@theme.styled
def patch_pictures(effects: pd.DataFrame, pictures: pd.DataFrame) -> Figure:
    """Recovery by patching: patches over the stimulus, layer by layer, and the class token apart.

    Args:
        effects: `patch_effects` of one protocol, backbone and direction.
        pictures: `patch_pictures`: the mean of the clean pictures of each dataset.

    Returns:
        Rows: dataset and component; columns: layers, and the class token by layer.

    Raises:
        ValueError: if a column is missing, rows stand twice or patches make no square.
    """
    needed = ["dataset", "component", "layer", "position", "recovery", "ci_low", "ci_high", "n"]
    panels.require(effects, needed, "patch_pictures")
    panels.require(pictures, ["dataset", *PIXELS], "patch_pictures")
    if effects.duplicated(needed[:4]).any():
        raise ValueError(
            "patch_pictures: two rows for a cell; allowed is one network and direction"
        )
    side = round(float(np.sqrt(effects["position"].max() + 1 - _N_PREFIX)))
    if side**2 != effects["position"].max() + 1 - _N_PREFIX:
        raise ValueError(
            f"patch_pictures: {effects['position'].max() + 1} tokens; allowed is a class token "
            "and a square of patches"
        )
    rows, layers = panels.levels(effects, "dataset", "component"), sorted(effects["layer"].unique())
    at_patches = effects.loc[effects["position"] >= _N_PREFIX, "recovery"]
    reach = float(at_patches.abs().max()) or 1.0
    norm = Normalize(-reach, reach)
    width = (theme.DOUBLE_CM - 1.5) / (len(layers) + 1.3)
    figure = Figure(
        (theme.DOUBLE_CM * theme.CM, (len(rows) * (width + 0.25) + 2.4) * theme.CM),
        layout="constrained",
    )
    ratios = [1.0] * len(layers) + [1.3]
    grid = figure.subplots(len(rows), len(ratios), squeeze=False, width_ratios=ratios)
    for (dataset, component), line in zip(rows, grid, strict=True):
        part = effects[(effects["dataset"] == dataset) & (effects["component"] == component)]
        grey = _picture(pictures[pictures["dataset"] == dataset])
        for axes, layer in zip(line, layers, strict=False):
            one = part[part["layer"] == layer].sort_values("position")
            values = one["recovery"].to_numpy(float)[_N_PREFIX:].reshape(side, side)
            _over(axes, grey, np.nan_to_num(values), norm, theme.DIVERGING)
        _name_row(line[0], f"{words(dataset)},\n{words(component)}")
        _class_token(line[-1], part[part["position"] < _N_PREFIX])
    for axes, layer in zip(grid[0], layers, strict=False):
        axes.set_title(f"layer {layer + 1}", loc="left")
    grid[0, -1].set_title("class token", loc="left")
    grid[-1, -1].set_xlabel("Layer (no.)")
    bar = figure.colorbar(
        ScalarMappable(norm, theme.DIVERGING), ax=grid[:, :-1], location="bottom", fraction=0.03,
        aspect=40,
    )  # fmt: skip
    bar.set_label("Recovered share of the clean-corrupted difference (1 = all)")
    bar.outline.set_linewidth(0.6)
    caption = (
        "Grey: mean of the clean pictures; colour: recovery when this patch's activation is "
        "patched. Right: the class token, with 95 % intervals, each row on its own scale. "
        f"{panels.counts(effects, 'cell')}"
    )
    return theme.finish(figure, "Effect of patching, over the stimulus", caption)


def _class_token(axes: Axes, part: pd.DataFrame) -> None:
    number = part["layer"] + 1
    axes.axhline(0, color=theme.PALE, lw=0.6)
    axes.vlines(number, part["ci_low"], part["ci_high"], color=theme.PALETTE[0], lw=0.8)
    axes.plot(number, part["recovery"], "o-", color=theme.PALETTE[0], ms=3, lw=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylabel("Recovery (share)")


@theme.styled
def attention_across_tasks(maps: pd.DataFrame, picture: pd.DataFrame) -> Figure:
    """Attention of the class token on one picture after each task, layer by layer.

    Args:
        maps: `attention_maps` of one backbone, protocol and seed: task, layer, row, column (of
            patches), weight (share of the attention to patches, heads averaged).
        picture: `attention_picture`: row, column, level.

    Returns:
        Rows: tasks, the untouched backbone last; columns: layers.

    Raises:
        ValueError: if a column is missing or maps of several networks are given.
    """
    keys = ["task", "layer", "row", "column"]
    panels.require(maps, [*keys, "weight"], "attention_across_tasks")
    panels.require(picture, PIXELS, "attention_across_tasks")
    if maps.duplicated(keys).any():
        raise ValueError("attention_across_tasks: maps of several networks; allowed is one a task")
    tasks: Sequence[str] = list(maps["task"].unique())
    layers, grey = sorted(maps["layer"].unique()), _picture(picture)
    fair = maps.groupby(keys[:2])["weight"].transform("mean")
    times = maps.assign(times=np.maximum(maps["weight"] / fair - 1, 0))
    norm = Normalize(0, max(1.0, float(times["times"].quantile(0.99))))
    side = min((theme.DOUBLE_CM - 1.5) / len(layers), 3.6)
    figure = Figure(
        (theme.DOUBLE_CM * theme.CM, (len(tasks) * (side + 0.15) + 2.6) * theme.CM),
        layout="constrained",
    )
    grid = figure.subplots(len(tasks), len(layers), squeeze=False)
    shade = mpl.colors.LinearSegmentedColormap.from_list("attention", ["white", theme.PALETTE[1]])
    mpl.colormaps.register(shade, name="attention", force=True)
    for task, line in zip(tasks, grid, strict=True):
        for axes, layer in zip(line, layers, strict=True):
            one = times[(times["task"] == task) & (times["layer"] == layer)]
            values = one.pivot(index="row", columns="column", values="times").to_numpy(float)
            _over(axes, grey, np.minimum(values, norm.vmax or 1), norm, "attention")
        _name_row(line[0], words(task))
    for axes, layer in zip(grid[0], layers, strict=True):
        axes.set_title(f"layer {layer + 1}", loc="left")
    bar = figure.colorbar(
        ScalarMappable(norm, shade), ax=grid, location="bottom", fraction=0.03, aspect=40,
        extend="max",
    )  # fmt: skip
    bar.set_label("Attention of the class token beyond a patch's fair share (times that share)")
    bar.outline.set_linewidth(0.6)
    known = [key for key in ("backbone", "protocol", "seed") if key in maps]
    run = ", ".join(f"{words(key)} {words(maps[key].iloc[0])}" for key in known)
    caption = "One test picture, in grey; heads averaged; layers counted from 1"
    return theme.finish(figure, "Attention after each task", f"{caption}{f'; {run}' * bool(run)}.")
