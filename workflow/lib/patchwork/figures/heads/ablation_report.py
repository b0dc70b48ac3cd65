"""What ablation does, layer by layer; and what a published procedure made of it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from patchwork.figures import panels, theme
from patchwork.figures.panels import Facets, words

INTERVAL = ["ci_low", "ci_high"]
QUANTILES = ["q05", "q25", "q50", "q75", "q95"]
# What the groups of `layer_effects` are called on the page.
_GROUPS = {"layer_means": "single heads", "layers": "whole layers"}


def _layers_from_one(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y")


@theme.styled
def layer_effects(frame: pd.DataFrame) -> Figure:
    """Loss increase by layer: heads one at a time, and all heads of the layer at once.

    Args:
        frame: groups (``layer_means`` and ``layers``; other rows are left out), layer (from 0),
            baseline, effect (percent), ci_low, ci_high; optionally dataset, backbone, protocol, n,
            seeds.

    Returns:
        Panels down: groups, each with a scale of its own; across: protocol, backbone. One line
        per baseline, intervals as bands.

    Raises:
        ValueError: if a column is missing or no row is left.
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
        frame: layer, head (from 0; both -1 for the intact network), label (one), q05 to q95
            (quantiles over images, in unit), optionally baseline, dataset, backbone, protocol, n,
            seeds; of one condition.
        unit: of the predictions.

    Returns:
        One panel per layer; per head the median, the middle half and nine tenths; the same of the
        intact network as bands behind.

    Raises:
        ValueError: if a column is missing, there is no intact network, or rows of several
            conditions.
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
    """The published procedure, taken apart: each step to exact ablation, in several orders.

    Args:
        frame: procedure, order (``forward``, ``reverse``, ``random...``), layer (from 0), effect
            (percent), ci_low, ci_high; optionally dataset, backbone, protocol, n, seeds.

    Returns:
        One panel per step, each with a scale of its own; one line per order.

    Raises:
        ValueError: if a column is missing or a procedure is unknown.
    """
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
        frame: label_scale, predictor, mse (squared unit of the scale), ci_low, ci_high; optionally
            dataset, backbone, protocol, n, seeds.
        predictors: those drawn, from the top; all if empty.

    Returns:
        One panel per label scale (across) and condition (down).

    Raises:
        ValueError: if a column is missing or no row is left.
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
