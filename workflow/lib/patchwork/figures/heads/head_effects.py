"""Effects of single heads and sites, and how alike heads are, layer by layer."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from patchwork.figures import panels, theme
from patchwork.figures.panels import Facets, Grid, words

INTERVAL = ["ci_low", "ci_high"]


def _norm(values: pd.Series) -> TwoSlopeNorm:
    reach = float(np.nanmax(np.abs(values.to_numpy(float)), initial=0.0)) or 1.0
    return TwoSlopeNorm(0.0, -reach, reach)


def _excludes_zero(frame: pd.DataFrame) -> pd.Series:
    return (frame["ci_low"] > 0) | (frame["ci_high"] < 0)


def _heat_map(axes: Axes, part: pd.DataFrame, value: str, norm: TwoSlopeNorm) -> None:
    """Cells at integer columns ``x`` and ``y`` of the frame; dots where the interval is clear."""
    if part.duplicated(["x", "y"]).any():
        twice = part.loc[part.duplicated(["x", "y"]), ["x", "y"]].iloc[0].tolist()
        raise ValueError(f"heat map: two rows for cell {twice}; allowed is one per panel and cell")
    columns = range(int(part["x"].min()), int(part["x"].max()) + 1)
    rows = range(int(part["y"].min()), int(part["y"].max()) + 1)
    table = part.pivot(index="y", columns="x", values=value).reindex(rows, columns=columns)
    extent = (columns[0] - 0.5, columns[-1] + 0.5, rows[0] - 0.5, rows[-1] + 0.5)
    axes.imshow(
        table.to_numpy(float), cmap=theme.DIVERGING, norm=norm, origin="lower", aspect="auto",
        extent=extent, interpolation="nearest",
    )  # fmt: skip
    axes.set_facecolor(theme.PALE)  # cells that were not measured
    clear = part[_excludes_zero(part)]
    axes.plot(clear["x"], clear["y"], "o", color=theme.INK, mec="white", mew=0.4, ms=2.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=7))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=13))
    axes.spines[:].set_visible(True)


def _colour_bar(grid: Grid, label: str) -> None:
    width, height = grid.figure.get_size_inches()
    grid.figure.set_size_inches(width, height + 1.2 * theme.CM)
    bar = grid.figure.colorbar(
        grid.axes[0].images[0], ax=grid.axes, location="bottom",
        fraction=0.05, aspect=40, shrink=min(1.0, 9 * theme.CM / width),
    )  # fmt: skip
    room = min(72 * width, 72 * 9 * theme.CM) - 12 * theme.TEXT_PT
    bar.set_label("\n".join(theme.wrap(label, room)))
    bar.locator = MaxNLocator(5, symmetric=True)
    bar.outline.set_linewidth(0.6)


def _marked(frame: pd.DataFrame) -> str:
    return (
        f"Dots: the 95 % interval excludes zero ({int(_excludes_zero(frame).sum())} of "
        f"{len(frame)} cells)."
    )


@theme.styled
def head_effects(frame: pd.DataFrame, *, unit: str) -> Figure:
    """Effect of ablating each head, as a map of layers and heads.

    Args:
        frame: layer, head (from 0), baseline, metric (one), effect, ci_low, ci_high (in unit), n
            (images); optionally protocol, dataset, backbone, seeds.
        unit: unit of the effect, for example ``deg``.

    Returns:
        One panel per dataset and baseline (down), protocol and backbone (across).

    Raises:
        ValueError: if a column is missing, or frame holds more than one metric.
    """
    needed = ["layer", "head", "baseline", "metric", "effect", *INTERVAL, "n"]
    panels.require(frame, needed, "head_effects")
    metrics = list(frame["metric"].unique())
    if len(metrics) != 1:
        raise ValueError(f"head_effects: metric is {metrics}; allowed is one metric per figure")
    cells = frame.assign(x=frame["head"] + 1, y=frame["layer"] + 1)
    grid = panels.grid(cells, Facets(("dataset", "baseline"), height_cm=4.0, aside=True))
    norm = _norm(frame["effect"])
    for axes, part in grid:
        _heat_map(axes, part, "effect", norm)
    grid.label("Head (no.)", "Layer (no.)")
    _colour_bar(grid, f"Change of {words(metrics[0])} under ablation ({unit})")
    baselines = " and ".join(words(name) for name in frame["baseline"].unique())
    caption = (
        f"Layers and heads counted from 1; baseline: {baselines}. {_marked(frame)} "
        f"{panels.counts(frame, 'head')}"
    )
    title = f"Effect of single heads on {words(metrics[0])}"
    return grid.finish(title, caption)


def _patch_cells(frame: pd.DataFrame, grid_shape: tuple[int, int] | None) -> pd.DataFrame:
    """Place each row: token by layer, or, with a grid, the patch's column and row by layer."""
    cells = frame.copy()
    if "head" in frame.columns and (frame["head"] >= 0).any():
        by_head = frame["component"] + " " + (frame["head"] + 1).astype(str)
        cells["component"] = frame["component"].where(frame["head"] < 0, by_head)
    if grid_shape is None:
        return cells.assign(x=frame["position"], y=frame["layer"] + 1)
    rows, columns = grid_shape
    outside = frame.loc[~frame["position"].between(0, rows * columns - 1), "position"]
    if not outside.empty:
        raise ValueError(
            f"patch_effects: position {outside.iloc[0]}; allowed is 0 to {rows * columns - 1} for "
            f"a grid of {rows} by {columns} patches"
        )
    return cells.assign(
        x=frame["position"] % columns + 1,
        # Images run from the top down, the axes from the bottom up.
        y=rows - frame["position"] // columns,
        site=[f"layer {layer + 1}" for layer in frame["layer"]],
    ).sort_values("layer", kind="stable")


@theme.styled
def patch_effects(
    frame: pd.DataFrame,
    grid_shape: tuple[int, int] | None = None,
    *,
    value: str = "recovery",
    label: str = "Recovered share of the clean-corrupted difference (1 = all)",
) -> Figure:
    """Effect of patching each layer and position.

    Args:
        frame: layer (from 0), position, component, direction, the value, ci_low, ci_high (in the
            value's unit), n; optionally head (-1 for whole components), protocol, dataset,
            backbone, seeds.
        grid_shape: rows and columns of the image's patches. With it position is the patch's index,
            row by row from the top left, and each layer is a map of the image; without it position
            is the token, and each panel a map of layers and tokens.
        value: column to draw.
        label: what the value is, with its unit.

    Returns:
        Panels down: dataset, component and direction; across: protocol and backbone, or layers.

    Raises:
        ValueError: if a column is missing, or a position lies outside the grid.
    """
    needed = ["layer", "position", "component", "direction", value, *INTERVAL, "n"]
    panels.require(frame, needed, "patch_effects")
    cells = _patch_cells(frame, grid_shape)
    norm = _norm(frame[value])
    if grid_shape is None:
        facets = Facets(("dataset", "component", "direction"), height_cm=3.6, aside=True)
    else:
        kinds = panels.varying(frame, "dataset", "protocol", "backbone")
        facets = Facets((*kinds, "component", "direction"), ("site",), 3.4, 6, aside=True)
    grid = panels.grid(cells, facets)
    for axes, part in grid:
        _heat_map(axes, part, value, norm)
    _name_sites(grid, grid_shape)
    _colour_bar(grid, label)
    directions = " and ".join(words(name) for name in frame["direction"].unique())
    caption = (
        f"Layers counted from 1; patched from {directions}. {_marked(frame)} "
        f"{panels.counts(frame, 'cell')}"
    )
    return grid.finish("Effect of patching by layer and position", caption)


def _name_sites(grid: Grid, grid_shape: tuple[int, int] | None) -> None:
    if grid_shape is None:
        grid.label("Position (token no.)", "Layer (no.)")
        return
    rows, columns = grid_shape
    for axes in grid.axes:
        axes.set_aspect("equal")
        axes.set_xticks([1, columns])
        axes.set_yticks([1, rows], [str(rows), "1"])
    grid.label("Patch column (no.)", "Patch row (no.)")


@theme.styled
def head_similarity(frame: pd.DataFrame) -> Figure:
    """How alike heads are in each layer, by measure, with every backbone in one panel.

    Args:
        frame: protocol, backbone, layer, head (from 0), measure, similarity, ci_low, ci_high (no
            unit); optionally dataset, n, seeds.

    Returns:
        Panels: measures down, protocols across; one point per backbone and head.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    needed = ["protocol", "backbone", "layer", "head", "measure", "similarity", *INTERVAL]
    panels.require(frame, needed, "head_similarity")
    colours = theme.colours(frame["backbone"])
    marks = dict(zip(colours, theme.MARKERS, strict=False))
    grid = panels.grid(frame, Facets(("measure",), ("protocol", "dataset"), aside=True))
    for axes, part in grid:
        for backbone, points in part.groupby("backbone", sort=False):
            x = _dodged(points, list(colours).index(backbone), len(colours))
            axes.vlines(x, points["ci_low"], points["ci_high"], color=colours[backbone], lw=0.6)
            axes.plot(x, points["similarity"], marks[backbone], color=colours[backbone], ms=2.4,
                      label=f"{words(backbone)} backbone")  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_ylim(min(0.0, 1.05 * float(part["ci_low"].min())), 1.03)
        axes.grid(axis="y")
    grid.label("Layer (no.)", "Similarity (no unit)")
    grid.legend(least=1)
    heads = frame.groupby(["protocol", "backbone", "layer"])["head"].nunique()
    caption = (
        f"One point per head ({panels.span(heads)} a layer), spread sideways within its layer; "
        f"bars: 95 % intervals; 1 is the same head. {panels.counts(frame, 'head')}"
    )
    return grid.finish("Similarity of heads by layer", caption)


def _dodged(points: pd.DataFrame, backbone: int, n_backbones: int) -> np.ndarray:
    """Place in the layer: one slot per backbone, heads spread evenly within it."""
    slot = 0.8 / n_backbones
    n_heads = int(points["head"].max()) + 1
    within = (points["head"].to_numpy(float) + 0.5) / n_heads * 0.85 + 0.075
    return points["layer"].to_numpy(float) + 1 - 0.4 + slot * (backbone + within)
