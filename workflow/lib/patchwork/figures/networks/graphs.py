"""Figures of signed networks: the graph, its spectrum, its cycles, who attends to its nodes."""

import itertools

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.ticker import MaxNLocator

from patchwork.figures import panels, theme
from patchwork.figures.panels import Facets, words

NEGATIVE, POSITIVE = theme.PALETTE[1], theme.PALETTE[0]
_NODE_RADIUS = 0.16


@theme.styled
def plot_network(edges: pd.DataFrame, nodes: pd.DataFrame, *, title: str, caption: str) -> Figure:
    """The signed network on a circle, once per score, nodes coloured by it.

    Args:
        edges: columns source, target (node numbers), weight; self-loops are not drawn.
        nodes: columns score (panel), node (number), value; one row per panel and node.
        title: what is shown.
        caption: what the scores are and how many seeds they come from.

    Returns:
        The figure.

    Raises:
        ValueError: if a frame lacks a column or has no rows.
    """
    panels.require(edges, ["source", "target", "weight"], "plot_network")
    panels.require(nodes, ["score", "node", "value"], "plot_network")
    grid = panels.grid(nodes, Facets(rows=(), columns=("score",), height_cm=5.2, most_columns=3))
    for axes, part in grid:
        _draw_edges(axes, edges, _circle(nodes["node"].nunique()))
        _draw_nodes(axes, part)
    handles = [
        Line2D([], [], color=POSITIVE, label="positive edge"),
        Line2D([], [], color=NEGATIVE, ls=(0, (4, 1.5)), label="negative edge"),
    ]
    grid.figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return _finish(grid.figure, title, caption)


@theme.styled
def plot_spectrum(spectrum: pd.DataFrame, field: pd.DataFrame, *, caption: str) -> Figure:
    """Eigenvalues over the pseudospectrum, one panel per window of the complex plane.

    Args:
        spectrum: columns real, imaginary (1 / time unit).
        field: columns window, real, imaginary, smallest_singular_value; a full grid per window.
        caption: which network, and what the levels are.

    Returns:
        The figure.

    Raises:
        ValueError: if a frame lacks a column or has no rows.
    """
    panels.require(spectrum, ["real", "imaginary"], "plot_spectrum")
    panels.require(
        field, ["window", "real", "imaginary", "smallest_singular_value"], "plot_spectrum"
    )
    grid = panels.grid(field, Facets(rows=(), columns=("window",), height_cm=5.5))
    for axes, part in grid:
        wide = part.pivot(index="imaginary", columns="real", values="smallest_singular_value")
        levels = np.log10(np.maximum(wide.to_numpy(), 1e-12))
        low, high = np.floor(np.quantile(levels, 0.02)), np.ceil(levels.max() * 2) / 2
        drawn = axes.contourf(
            wide.columns, wide.index, levels, np.linspace(low, high, 13),
            cmap=theme.SEQUENTIAL, extend="min",
        )  # fmt: skip
        bar = grid.figure.colorbar(drawn, ax=axes, shrink=0.9)
        bar.set_label("log10 of smallest singular value")
        ticks = [float(level) for level in np.linspace(low, high, 5)]
        bar.set_ticks(ticks, labels=[f"{tick:.1f}" for tick in ticks])
        axes.axvline(0, color="white", lw=0.8, ls=(0, (4, 1.5)))
        axes.plot(spectrum["real"], spectrum["imaginary"], ls="", marker="o", ms=3.5, mfc="white",
                  mec=theme.INK, mew=0.7, clip_on=True)  # fmt: skip
        axes.set_xlim(part["real"].min(), part["real"].max())
        axes.set_ylim(part["imaginary"].min(), part["imaginary"].max())
    grid.label("real part (1 / time unit)", "imaginary part (1 / time unit)")
    return _finish(grid.figure, "Eigenvalues and pseudospectrum", caption)


@theme.styled
def plot_motif_costs(costs: pd.DataFrame, *, caption: str) -> Figure:
    """Cost of the signed cycles through each node, one panel per length.

    Args:
        costs: columns node, length (label), sign (negative, positive), cost.
        caption: which network and how costs are defined.

    Returns:
        The figure; costs on a symmetric logarithmic axis.

    Raises:
        ValueError: if the frame lacks a column or has no rows.
    """
    panels.require(costs, ["node", "length", "sign", "cost"], "plot_motif_costs")
    numbered = costs["length"].astype(str)
    heading = numbered.where(numbered == "combined", numbered + " nodes")
    table = costs.assign(length=heading)
    grid = panels.grid(table, Facets(rows=(), columns=("length",), height_cm=4.0))
    for axes, part in grid:
        nodes = np.sort(part["node"].unique())
        for offset, sign, colour in ((-0.2, "negative", NEGATIVE), (0.2, "positive", POSITIVE)):
            heights = part[part["sign"] == sign].set_index("node")["cost"].reindex(nodes)
            axes.bar(nodes + offset, heights, width=0.38, color=colour, label=f"{sign} cycles")
        axes.axhline(0, color=theme.INK, lw=0.6)
        axes.set_yscale("symlog", linthresh=0.1, linscale=0.6)
        _node_ticks(axes, nodes)
    grid.label("node", "cycle cost")
    grid.legend()
    return _finish(grid.figure, "Cost of signed cycles through each node", caption)


@theme.styled
def plot_scores(scores: pd.DataFrame, *, caption: str) -> Figure:
    """Node scores with their spread over seeds, one panel per score.

    Args:
        scores: columns score (panel), node, estimate, low, high.
        caption: what the interval is and how many seeds it covers.

    Returns:
        The figure.

    Raises:
        ValueError: if the frame lacks a column or has no rows.
    """
    panels.require(scores, ["score", "node", "estimate", "low", "high"], "plot_scores")
    grid = panels.grid(scores, Facets(rows=(), columns=("score",), height_cm=4.2))
    for axes, part in grid:
        arms = [part["estimate"] - part["low"], part["high"] - part["estimate"]]
        axes.errorbar(part["node"], part["estimate"], arms, fmt="o", color=POSITIVE, capsize=2)
        axes.axhline(0, color=theme.PALE, lw=0.6)
        _node_ticks(axes, part["node"].to_numpy())
    grid.label("node", "score (unitless)")
    return _finish(grid.figure, "Attention scores of nodes over seeds", caption)


@theme.styled
def plot_rank_profiles(profiles: pd.DataFrame, *, caption: str) -> Figure:
    """Mean rank of each score against the rank of instability, over networks.

    Args:
        profiles: columns outcome (panel), score, rank, estimate, ci_low, ci_high.
        caption: how many networks and seeds, and what the interval is.

    Returns:
        The figure.

    Raises:
        ValueError: if the frame lacks a column or has no rows.
    """
    needed = ["outcome", "score", "rank", "estimate", "ci_low", "ci_high"]
    panels.require(profiles, needed, "plot_rank_profiles")
    colours = theme.colours(profiles["score"])
    marks = dict(zip(colours, itertools.cycle(theme.MARKERS), strict=False))
    grid = panels.grid(profiles, Facets(rows=(), columns=("outcome",), height_cm=5.0))
    for axes, part in grid:
        for score, line in part.groupby("score", sort=False):
            arms = [line["estimate"] - line["ci_low"], line["ci_high"] - line["estimate"]]
            axes.errorbar(line["rank"], line["estimate"], arms, color=colours[score],
                          marker=marks[score], capsize=1.5, label=words(score))  # fmt: skip
        axes.axhline((part["rank"].min() + part["rank"].max()) / 2, color=theme.PALE, lw=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid.label("rank of the node's instability (1 = least)", "mean rank of score (1 = least)")
    grid.legend()
    return _finish(grid.figure, "Attention against instability over networks", caption)


@theme.styled
def plot_associations(summary: pd.DataFrame, *, caption: str) -> Figure:
    """Rank correlation of each score with each outcome, plain and given the strength of edges.

    Args:
        summary: columns dataset, kind (rank, partial), score, outcome, estimate, ci_low, ci_high.
        caption: number of networks, nodes and seeds, and what the interval is.

    Returns:
        The figure: one row of panels per dataset.

    Raises:
        ValueError: if the frame lacks a column or has no rows.
    """
    needed = ["dataset", "kind", "score", "outcome", "estimate", "ci_low", "ci_high"]
    panels.require(summary, needed, "plot_associations")
    colours = theme.colours(summary["score"])
    marks = dict(zip(colours, itertools.cycle(theme.MARKERS), strict=False))
    outcomes = list(dict.fromkeys(summary["outcome"]))
    names = {"rank": "rank correlation", "partial": "given out-degree and out-strength"}
    table = summary.assign(kind=summary["kind"].replace(names))
    facets = Facets(rows=("dataset",), columns=("kind",), height_cm=1.6 + 0.75 * len(outcomes))
    grid = panels.grid(table, facets)
    for axes, part in grid:
        shift = np.linspace(-0.3, 0.3, max(2, len(colours)))
        for step, (score, colour) in zip(shift, colours.items(), strict=False):
            row = part[part["score"] == score]
            y = [outcomes.index(o) + step for o in row["outcome"]]
            arms = [row["estimate"] - row["ci_low"], row["ci_high"] - row["estimate"]]
            axes.errorbar(row["estimate"], y, xerr=arms, fmt=marks[score], color=colour,
                          lw=0.9, label=words(score))  # fmt: skip
        axes.axvline(0, color=theme.PALE, lw=0.6)
        axes.set_yticks(range(len(outcomes)), [words(o) for o in outcomes])
        axes.set_ylim(len(outcomes) - 0.5, -0.5)
        axes.set_xlim(-1.02, 1.02)
        if not axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axes.tick_params(labelleft=False)
    grid.label("Spearman correlation with the score", "")
    grid.legend()
    return _finish(grid.figure, "What attention follows", caption)


@theme.styled
def plot_sign_effects(effects: pd.DataFrame, *, caption: str) -> Figure:
    """What frustration does at fixed magnitudes: correlations of networks, a panel per outcome.

    Args:
        effects: columns dataset, law, outcome (panel), correlation; one row per network.
        caption: how many networks and signings, and what boxes are.

    Returns:
        The figure: a box per data set and law, or a mark where there is one network.

    Raises:
        ValueError: if the frame lacks a column or has no rows.
    """
    panels.require(effects, ["dataset", "law", "outcome", "correlation"], "plot_sign_effects")
    names = effects["dataset"].map(words) + ", " + effects["law"].map(words)
    table = effects.assign(group=names)
    groups = list(dict.fromkeys(table["group"]))
    facets = Facets(
        rows=(), columns=("outcome",), height_cm=1.8 + 0.6 * len(groups), most_columns=3
    )
    grid = panels.grid(table, facets)
    for axes, part in grid:
        for place, group in enumerate(groups):
            values = part.loc[part["group"] == group, "correlation"].dropna().to_numpy()
            if len(values) > 1:
                axes.boxplot(values, positions=[place], widths=0.55, whis=(5, 95),
                             orientation="horizontal", showfliers=False,
                             medianprops={"color": NEGATIVE})  # fmt: skip
            else:
                axes.plot(values, [place] * len(values), "o", color=NEGATIVE)
        axes.axvline(0, color=theme.PALE, lw=0.6)
        axes.set_yticks(range(len(groups)), groups)
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_xlim(-1.02, 1.02)
        if not axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
            axes.tick_params(labelleft=False)
    grid.label("rank correlation", "")
    return _finish(grid.figure, "Frustration against growth at fixed magnitudes", caption)


@theme.styled
def plot_sweep(sweep: pd.DataFrame, *, factor: str, title: str, caption: str) -> Figure:
    """How quantities move as one factor is swept: a line per eigenvalue or node.

    Args:
        sweep: columns edge (row of panels), quantity (column), factor, index, value.
        factor: label of the horizontal axis with its unit.
        title: the finding's subject.
        caption: which network and what was swept.

    Returns:
        The figure.

    Raises:
        ValueError: if the frame lacks a column or has no rows.
    """
    panels.require(sweep, ["edge", "quantity", "factor", "index", "value"], "plot_sweep")
    grid = panels.grid(sweep, Facets(rows=("edge",), columns=("quantity",), height_cm=3.8))
    colours = theme.colours(sorted(sweep["index"].unique()))
    dashes = theme.DASHES
    for axes, part in grid:
        for rank, (index, line) in enumerate(part.groupby("index")):
            axes.plot(line["factor"], line["value"], color=colours[index], label=str(index),
                      ls=dashes[rank // len(theme.PALETTE) % len(dashes)])  # fmt: skip
        axes.axvline(1, color=theme.PALE, lw=0.6)
        spread = part["value"].abs().quantile([0.5, 1.0]).to_numpy()
        if spread[1] > 50 * max(spread[0], 1e-3):  # stiff and slow values in one panel
            axes.set_yscale("symlog", linthresh=max(float(spread[0]), 0.1))
    grid.label(factor, "value")
    grid.legend(columns=len(colours))
    return _finish(grid.figure, title, caption)


def _finish(figure: Figure, title: str, caption: str) -> Figure:
    """Finish the figure and give an outside legend its own strip below the title."""
    finished = theme.finish(figure, title, caption)
    engine = finished.get_layout_engine()
    if engine is None:
        return finished
    for legend in finished.legends:
        left, bottom, width, height = engine.get()["rect"]
        legend.set_loc("upper left")
        legend.set_bbox_to_anchor((left, bottom, width, height), transform=finished.transFigure)
        finished.draw_without_rendering()
        strip = legend.get_window_extent().height / finished.bbox.height
        engine.set(rect=(left, bottom, width, height - 1.15 * strip))  # type: ignore[call-arg]
    return finished


def _circle(n: int) -> np.ndarray:
    angle = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _draw_edges(axes: Axes, edges: pd.DataFrame, places: np.ndarray) -> None:
    links = edges[edges["source"] != edges["target"]]
    strength = np.log10(links["weight"].abs())
    thin, thick = strength.min(), max(strength.max(), strength.min() + 1e-9)
    for source, target, weight, size in zip(
        links["source"], links["target"], links["weight"], strength, strict=True
    ):
        axes.add_patch(
            FancyArrowPatch(
                tuple(places[source]),
                tuple(places[target]),
                connectionstyle="arc3,rad=0.14",  # curved, so that antiparallel edges stay apart
                arrowstyle="-|>",
                mutation_scale=5,
                shrinkA=8,
                shrinkB=8,
                lw=0.5 + 1.1 * (size - thin) / (thick - thin),
                color=POSITIVE if weight > 0 else NEGATIVE,
                ls="-" if weight > 0 else (0, (4, 1.5)),
                alpha=0.8,
            )
        )


def _draw_nodes(axes: Axes, part: pd.DataFrame) -> None:
    shade = Normalize(part["value"].min(), part["value"].max())
    colours = colormaps[theme.SEQUENTIAL]
    for node, value in zip(part["node"], part["value"], strict=True):
        x, y = _circle(len(part))[node]
        level = float(shade(value)) if shade.vmax != shade.vmin else 0.5
        axes.add_patch(
            Circle((x, y), _NODE_RADIUS, fc=colours(level), ec=theme.INK, lw=0.6, zorder=3)
        )
        ink = "white" if level < 0.55 else theme.INK
        axes.text(x, y, str(node), color=ink, ha="center", va="center", zorder=4)
        side = "left" if x > 0.3 else "right" if x < -0.3 else "center"
        axes.text(1.22 * x, 1.28 * y, f"{value:.2g}", ha=side, va="center", color=theme.INK)
    axes.set(xlim=(-2.0, 2.0), ylim=(-1.5, 1.5), aspect="equal")
    axes.set_axis_off()


def _node_ticks(axes: Axes, nodes: np.ndarray) -> None:
    if len(nodes) <= 20:
        axes.set_xticks(np.sort(nodes))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
