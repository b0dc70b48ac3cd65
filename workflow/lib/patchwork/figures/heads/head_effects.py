"""Effects of heads, layers and sites, how alike heads are, and the published ablation.

Frames are the tables of these names (see `tables.toml`), with layers and heads from 0. Every figure
raises a ValueError of one line where a column is missing or no row is left.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from patchwork.figures import panels, theme
from patchwork.figures.panels import Facets, Grid, words

INTERVAL = ["ci_low", "ci_high"]
QUANTILES = ["q05", "q25", "q50", "q75", "q95"]


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
        frame: `head_effects` or `group_effects`, of one metric.
        unit: unit of the effect, for example ``deg``.

    Returns:
        One panel per dataset and baseline (down), protocol and backbone (across).
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


@theme.styled
def patch_effects(
    frame: pd.DataFrame,
    *,
    value: str = "recovery",
    label: str = "Recovered share of the clean-corrupted difference (1 = all)",
) -> Figure:
    """Effect of patching each layer and token.

    Args:
        frame: `patch_effects`; optionally head (-1 for whole components).
        value: column to draw.
        label: what the value is, with its unit.

    Returns:
        Panels down: dataset, component and direction; across: protocol and backbone.
    """
    needed = ["layer", "position", "component", "direction", value, *INTERVAL, "n"]
    panels.require(frame, needed, "patch_effects")
    cells = frame.assign(x=frame["position"], y=frame["layer"] + 1)
    if "head" in frame.columns and (frame["head"] >= 0).any():
        by_head = frame["component"] + " " + (frame["head"] + 1).astype(str)
        cells["component"] = frame["component"].where(frame["head"] < 0, by_head)
    norm = _norm(frame[value])
    grid = panels.grid(
        cells, Facets(("dataset", "component", "direction"), height_cm=3.6, aside=True)
    )
    for axes, part in grid:
        _heat_map(axes, part, value, norm)
    grid.label("Position (token no.)", "Layer (no.)")
    _colour_bar(grid, label)
    directions = " and ".join(words(name) for name in frame["direction"].unique())
    caption = (
        f"Layers counted from 1; patched from {directions}. {_marked(frame)} "
        f"{panels.counts(frame, 'cell')}"
    )
    return grid.finish("Effect of patching by layer and position", caption)


@theme.styled
def head_similarity(frame: pd.DataFrame) -> Figure:
    """How alike heads are (`head_similarity`): measures down, protocols across."""
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


# What the groups of `layer_effects` are called on the page.
_GROUPS = {"layer_means": "single heads", "layers": "whole layers"}


def _layers_from_one(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y")


@theme.styled
def layer_effects(frame: pd.DataFrame) -> Figure:
    """Loss increase by layer: heads one at a time, and all heads of the layer at once.

    Args:
        frame: `group_effects`; rows other than ``layer_means`` and ``layers`` are left out.

    Returns:
        Panels down: groups, each with a scale of its own; across: protocol, backbone. One line
        per baseline, intervals as bands.
    """
    panels.require(frame, ["groups", "layer", "baseline", "effect", *INTERVAL], "layer_effects")
    drawn = frame[frame["groups"].isin(_GROUPS)]
    panels.require(drawn, [], "layer_effects")
    drawn = drawn.assign(number=drawn["layer"] + 1, groups=drawn["groups"].map(_GROUPS))
    drawn = drawn.sort_values("groups", key=lambda c: c.map(list(_GROUPS.values()).index))
    colours = theme.colours(drawn["baseline"])
    facets = Facets(("groups", "dataset"), ("protocol", panels.BACKBONE), 3.4, aside=True)
    grid = panels.grid(drawn, facets)
    for axes, part in grid:
        axes.axhline(0, color=theme.PALE, lw=0.6)
        for baseline, line in part.groupby("baseline", sort=False):
            panels.band(axes, "number", "effect", line, color=colours[baseline], marker="o",
                        label=words(baseline))  # fmt: skip
        _layers_from_one(axes)
    grid.label("Layer (no.)", "Loss increase (%)")
    grid.legend()
    caption = (
        "Layers counted from 1. Single heads: mean over the heads of a layer, each ablated alone; "
        "whole layers: all of them at once. Lines: what stands in for the ablated heads; bands: "
        f"95 % intervals. {panels.counts(drawn, 'layer')}"
    )
    return grid.finish("Loss increase under ablation, by layer", caption)


@theme.styled
def prediction_spread(frame: pd.DataFrame, *, unit: str) -> Figure:
    """Distribution of predictions when each head is ablated, beside that of the intact network.

    Args:
        frame: `prediction_spread` of one condition and label.
        unit: of the predictions.

    Returns:
        One panel per layer; per head the median, the middle half and nine tenths; the same of the
        intact network as bands behind.
    """
    panels.require(frame, ["layer", "head", "label", *QUANTILES], "prediction_spread")
    if frame.duplicated(["layer", "head"]).any():
        raise ValueError("prediction_spread: two rows for a head; allowed is one condition")
    intact = frame[frame["layer"] < 0]
    panels.require(intact, [], "prediction_spread (intact network)")
    cut = frame[frame["layer"] >= 0]
    cut = cut.assign(site=[f"layer {layer + 1}" for layer in cut["layer"]])
    grid = panels.grid(cut.sort_values(["layer", "head"]), Facets((), ("site",), 3.2, 4))
    for axes, part in grid:
        low, lower, middle, upper, high = intact[QUANTILES].iloc[0]
        axes.axhspan(low, high, color=theme.PALE, alpha=0.15, lw=0)
        axes.axhspan(lower, upper, color=theme.PALE, alpha=0.3, lw=0)
        axes.axhline(middle, color=theme.PALE, lw=0.8)
        x = part["head"] + 1
        axes.vlines(x, part["q05"], part["q95"], color=theme.PALETTE[0], lw=0.7)
        axes.vlines(x, part["q25"], part["q75"], color=theme.PALETTE[0], lw=2.4)
        axes.plot(x, part["q50"], "o", color="white", mec=theme.PALETTE[0], mew=0.7, ms=2.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=6))
        axes.set_xlim(0.4, float(frame["head"].max()) + 1.6)
    every = [axes.get_ylim() for axes in grid.axes]
    for axes in grid.axes:
        axes.set_ylim(min(low for low, _ in every), max(high for _, high in every))
    label = words(frame["label"].iloc[0])
    grid.label("Ablated head (no.)", f"Predicted ({unit})")
    caption = (
        "Points: median; thick bars: middle half; thin bars: from 5 to 95 %; grey: the intact "
        f"network. {panels.counts(cut, 'head')}"
    )
    return grid.finish(f"Predictions of {label} without single heads", caption)


# The chain from the published procedure to the exact one, as headings say it.
_STEPS = {
    "as_released": "1 as released",
    "own_label_scale": "2 and labels on the outputs' scale",
    "before_forward": "3 and zeroed before the forward pass",
    "restored": "4 and restored after each head",
    "whole_head": "5 and the whole head: exact",
}


@theme.styled
def released_decomposition(frame: pd.DataFrame) -> Figure:
    """The published procedure taken apart (`released_profile`): one panel per step."""
    needed = ["procedure", "order", "layer", "effect", *INTERVAL]
    panels.require(frame, needed, "released_decomposition")
    unknown = [name for name in frame["procedure"].unique() if name not in _STEPS]
    if unknown:
        raise ValueError(
            f"released_decomposition: procedure {unknown[0]!r}; allowed is {', '.join(_STEPS)}"
        )
    drawn = frame.assign(number=frame["layer"] + 1, procedure=frame["procedure"].map(_STEPS))
    kinds = panels.varying(drawn, "dataset", "backbone", "protocol")
    grid = panels.grid(drawn, Facets(kinds, ("procedure",), 3.6, 3, aside=True))
    for axes, part in grid:
        axes.axhline(0, color=theme.PALE, lw=0.6)
        _orders(axes, part)
        _layers_from_one(axes)
    grid.label("Layer (no.)", "Error increase (%)")
    grid.legend()
    caption = (
        "Mean over the heads of a layer, layers counted from 1. Forward: heads are zeroed from the "
        "first layer to the last; reverse: from the last to the first. Each panel changes one more "
        "thing and has a scale of its own; where lines of all orders meet, order makes no "
        f"difference. Bands: 95 % intervals. {panels.counts(drawn, 'line')}"
    )
    return grid.finish("What the released procedure measures", caption)


def _orders(axes: Axes, part: pd.DataFrame) -> None:
    drawn = {"forward": theme.PALETTE[0], "reverse": theme.PALETTE[1]}
    for order, line in part.groupby("order", sort=False):
        ordered = line.sort_values("number")
        if order not in drawn:
            axes.plot(ordered["number"], ordered["effect"], color=theme.PALE, lw=0.7,
                      label="random orders")  # fmt: skip
    for order, colour in drawn.items():
        line = part[part["order"] == order]
        style = "-" if order == "forward" else (0, (3, 2))
        panels.band(axes, "number", "effect", line, color=colour, marker="o", ls=style, label=order)


@theme.styled
def label_scales(frame: pd.DataFrame, predictors: Sequence[str] = ()) -> Figure:
    """Error of the network beside that of predictors that know nothing, on either label scale.

    Args:
        frame: `label_scales`.
        predictors: those drawn, from the top; all if empty.

    Returns:
        One panel per label scale (across) and condition (down).
    """
    panels.require(frame, ["label_scale", "predictor", "mse", *INTERVAL], "label_scales")
    names = list(predictors) or list(frame["predictor"].unique())
    drawn = frame[frame["predictor"].isin(names)]
    panels.require(drawn, [], "label_scales")
    kinds = panels.varying(drawn, "dataset", "backbone", "protocol")
    drawn = drawn.assign(scale=drawn["label_scale"] + " labels")
    grid = panels.grid(drawn, Facets(kinds, ("scale",), 2.8, aside=True))
    for axes, part in grid:
        y = np.array([-names.index(name) for name in part["predictor"]])
        axes.hlines(y, part["ci_low"], part["ci_high"], color=theme.PALETTE[0], lw=1.2)
        axes.plot(part["mse"], y, "o", color=theme.PALETTE[0], ms=4)
        axes.set_yticks([-i for i in range(len(names))], [words(name) for name in names])
        axes.set_ylim(-len(names) + 0.4, 0.6)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="x")
    grid.label("Mean squared error (unit of the scale, squared)", "Predictor (name)")
    caption = (
        "Constant: 0, the mean of standardised targets. Perfect: standardised targets themselves. "
        "Mean: the labels' own mean. Bars: 95 % intervals. "
        f"{panels.counts(drawn, 'point')}"
    )
    return grid.finish("What the scale of the labels makes of the error", caption)
