"""Attention of heads on known regions, selectivity of heads by layer, maps on a picture.

Frames are the tables of these names (see `tables.toml`), with layers and heads from 0. Every figure
raises a ValueError of one line where a column is missing or no row is left.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize, TwoSlopeNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from patchwork.figures import panels, theme
from patchwork.figures.panels import Facets, words
from patchwork.tables import RUN

INTERVAL = ["ci_low", "ci_high"]
# Mass over area is drawn as a power of two; beyond 16-fold the colour stays.
_REACH = 4.0
# A patch of this many times its fair share of attention is laid over most opaquely.
_FULL = 8
_OPACITY = 0.85
_TILE_PX = 96


def _centred(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(x=frame["head"] + 1, y=frame["layer"] + 1)


@theme.styled
def region_masses(frame: pd.DataFrame) -> Figure:
    """Attention mass of each head on each region over the region's area.

    Args:
        frame: `region_attention`; rollout, which has no heads, is left out.

    Returns:
        One panel per region; with several states, backbones or protocols regions down and those
        across.
    """
    panels.require(frame, ["layer", "head", "region", "ratio", "passes"], "region_masses")
    cells = _centred(frame[frame["head"] >= 0])
    panels.require(cells, [], "region_masses")
    kinds = panels.varying(cells, "state", "dataset", "backbone", "protocol")
    down, across = (["region"], kinds) if kinds else ([], ["region"])
    grid = panels.grid(cells, Facets(down, across, 2.8, aside=True))
    powers = np.log2(np.clip(cells["ratio"], 2.0**-_REACH, 2.0**_REACH))
    reach = max(1.0, float(powers.abs().max()))
    norm = TwoSlopeNorm(0.0, -reach, reach)
    for axes, part in grid:
        table = part.assign(power=powers).pivot(index="y", columns="x", values="power")
        extent = (0.5, table.shape[1] + 0.5, 0.5, table.shape[0] + 0.5)
        axes.imshow(table, cmap=theme.DIVERGING, norm=norm, origin="lower", aspect="auto",
                    extent=extent, interpolation="nearest")  # fmt: skip
        sure = part[part["passes"] > 0.5]
        axes.plot(sure["x"], sure["y"], "o", color=theme.INK, mec="white", mew=0.4, ms=2.6)
        _whole_numbers(axes)
    grid.label("Head (no.)", "Layer (no.)")
    width, height = grid.figure.get_size_inches()
    grid.figure.set_size_inches(width, height + 1.2 * theme.CM)
    bar = grid.figure.colorbar(ScalarMappable(norm, theme.DIVERGING), ax=grid.axes, fraction=0.1,
                               location="bottom", aspect=40, shrink=0.6)  # fmt: skip
    bar.set_label("Attention mass / area of the region (no unit)")
    bar.locator = MaxNLocator(4, integer=True)
    bar.formatter = FuncFormatter(lambda power, _: f"{2.0**power:.3g}")
    caption = (
        "Layers and heads counted from 1; 1 is what uniform attention gives. Dots: the region "
        f"passes in most seeds ({int((cells['passes'] > 0.5).sum())} of {len(cells)} cells). "
        f"{panels.counts(cells, 'cell')}"
    )
    return grid.finish("Attention of heads on each region, against its area", caption)


def _whole_numbers(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=12))
    axes.spines[:].set_visible(True)


@theme.styled
def selectivity_by_layer(frame: pd.DataFrame) -> Figure:
    """Share of heads of each layer that are monosemantic for a region, or polysemantic.

    Args:
        frame: `head_selectivity`.

    Returns:
        Panels down: state; across: protocol, backbone. One line per region or kind; bars are
        intervals, absent where there is one seed.
    """
    needed = ["layer", "kind", "region", "estimate", *INTERVAL]
    panels.require(frame, needed, "selectivity_by_layer")
    selective = frame["region"].where(frame["kind"] == "monosemantic", frame["kind"])
    # A region without text is read back from a file as missing.
    drawn = frame.assign(selective=selective)
    drawn = drawn[~drawn["selective"].isin(["any", "neither"])]
    if drawn.empty:
        raise ValueError("selectivity_by_layer: frame has no selective head; allowed is 1 or more")
    colours = theme.colours(drawn["selective"])
    marks = dict(zip(colours, theme.MARKERS, strict=False))
    facets = Facets(("state", "dataset"), ("protocol", panels.BACKBONE), aside=True)
    grid = panels.grid(drawn, facets)
    for axes, part in grid:
        for i, (name, line) in enumerate(part.groupby("selective", sort=False)):
            x = line["layer"] + 1 + 0.08 * (i - len(colours) / 2)
            axes.vlines(x, line["ci_low"], line["ci_high"], color=colours[name], lw=0.8)
            axes.plot(x, line["estimate"], marker=marks.get(name, "o"), lw=0.8,
                      color=colours[name], label=words(name))  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_ylim(-0.03, 1.03)
        axes.grid(axis="y")
    grid.label("Layer (no.)", "Share of heads (no unit)")
    grid.legend(least=1)
    caption = (
        "Layers counted from 1. Regions: heads for which that one alone passes (monosemantic); "
        f"bars: 95 % intervals over seeds. {panels.counts(drawn, 'layer (heads)')}"
    )
    return grid.finish("Selectivity of heads by layer", caption)


@theme.styled
def attention_overlay(maps: pd.DataFrame, picture: pd.DataFrame) -> Figure:
    """Attention of every head laid over the first picture: layers down, heads across.

    Args:
        maps: `overlay` of one run.
        picture: `overlay_picture`, drawn in grey.
    """
    weights, grey = _maps_and_pictures(maps, picture, "attention_overlay")
    rows = [[_blended(grey[0], one) for one in layer] for layer in weights[0]]
    n_layers, n_heads = weights.shape[1:3]
    figure, axes = _mosaic_figure(rows)
    axes.set(xticks=range(1, n_heads + 1), yticks=range(1, n_layers + 1))
    axes.set_xlabel("Head (no.)")
    axes.set_ylabel("Layer (no.)")
    caption = f"One test picture, in grey; layers and heads counted from 1{_run_of(maps)}."
    return theme.finish(figure, "Attention of every head on one picture", caption)


@theme.styled
def attention_by_kind(maps: pd.DataFrame, picture: pd.DataFrame, heads: pd.DataFrame) -> Figure:
    """Mean attention of the heads of each kind laid over pictures: kinds down, pictures across.

    Args:
        maps: `overlay` of one run.
        picture: `overlay_picture`, drawn in grey.
        heads: `attention_and_effect`, which says what each head of the run is selective for.
    """
    panels.require(heads, [*RUN, "layer", "head", "kind", "selective_for"], "attention_by_kind")
    weights, grey = _maps_and_pictures(maps, picture, "attention_by_kind")
    own = heads
    for key in [key for key in RUN if key in maps]:
        own = own[own[key] == maps[key].iloc[0]]
    if own.empty:  # a network that has not learnt its task has no kinds of heads
        own = pd.DataFrame({"layer": [0], "head": [0], "kind": ["unknown"], "selective_for": ""})
    named = _kinds(own)
    order = [*sorted(set(named) - set(_OTHER_KINDS)), *(k for k in _OTHER_KINDS if k in set(named))]
    places = [own[named == kind][["layer", "head"]].to_numpy().T for kind in order]
    rows = [
        [_blended(one, weights[i][layers, numbers].mean(0)) for i, one in enumerate(grey)]
        for layers, numbers in places
    ]
    figure, axes = _mosaic_figure(rows)
    counted = zip(order, places, strict=True)
    names = [f"{words(kind)}\nn = {len(place[0])}" for kind, place in counted]
    axes.set_yticks(range(1, len(order) + 1), names)
    axes.set_xticks(range(1, len(grey) + 1))
    axes.set_ylabel("Kind of head (region)")
    axes.set_xlabel("Picture (no.)")
    caption = f"Test pictures, in grey{_run_of(maps)}. n = {len(own)} heads."
    return theme.finish(figure, "Attention by kind of head", caption)


_OTHER_KINDS = ("polysemantic", "neither", "unknown")


def _kinds(heads: pd.DataFrame) -> pd.Series:
    """The region that each head alone is selective for, or its kind."""
    # A region without text is read back from a file as missing.
    return heads["selective_for"].where(heads["kind"] == "monosemantic", heads["kind"])


def _run_of(maps: pd.DataFrame) -> str:
    known = [key for key in RUN if key in maps]
    run = ", ".join(f"{words(key)} {words(maps[key].iloc[0])}" for key in known)
    return f"; {run}" if run else ""


def _maps_and_pictures(
    maps: pd.DataFrame, picture: pd.DataFrame, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Weights, shape (pictures, layers, heads, rows, columns), and pictures in grey, 0 to 1."""
    keys = ["example", "layer", "head", "row", "column"]
    panels.require(maps, [*keys, "weight"], what)
    panels.require(picture, ["example", "row", "column", "red", "green", "blue"], what)
    if maps.duplicated(keys).any():
        raise ValueError(f"{what}: maps of several runs; allowed is one")
    places = ["example", "row", "column"]
    ordered = picture.sort_values(places)
    sides = [int(picture[key].max()) + 1 for key in places]
    grey = ordered[["red", "green", "blue"]].mean(axis=1).to_numpy().reshape(sides) / 255
    step = -(-max(sides[1:]) // _TILE_PX)
    shape = [int(maps[key].max()) + 1 for key in keys]
    weights = maps.sort_values(keys)["weight"].to_numpy(float).reshape(shape)
    return weights, grey[:, ::step, ::step]


def _blended(grey: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Picture in grey; patches with more than their fair share of the weight are coloured."""
    rows = np.arange(grey.shape[0]) * weight.shape[0] // grey.shape[0]
    columns = np.arange(grey.shape[1]) * weight.shape[1] // grey.shape[1]
    times = np.maximum(weight / weight.mean(), 1.0)[np.ix_(rows, columns)][..., None]
    opacity = _OPACITY * np.minimum(np.log(times) / np.log(_FULL), 1.0)
    tile = (1 - opacity) * grey[..., None] + opacity * np.array(to_rgb(theme.PALETTE[1]))
    tile[0], tile[:, 0] = 1.0, 1.0  # a white line between tiles
    return tile


def _mosaic_figure(tiles: Sequence[Sequence[np.ndarray]]) -> tuple[Figure, Axes]:
    """Tiles in rows, at whole numbers from 1, with the scale of their colour."""
    mosaic = np.concatenate([np.concatenate(row, axis=1) for row in tiles])
    down, across = len(tiles), len(tiles[0])
    width = theme.DOUBLE_CM if across > 2 else theme.SINGLE_CM
    height = (width - 3) * mosaic.shape[0] / mosaic.shape[1] + 2.2
    figure = Figure(figsize=(width * theme.CM, height * theme.CM), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(mosaic, extent=(0.5, across + 0.5, down + 0.5, 0.5), aspect="auto",
                interpolation="nearest")  # fmt: skip
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    shades = LinearSegmentedColormap.from_list("overlay", ["white", theme.PALETTE[1]])
    norm = LogNorm(1, _FULL)
    bar = figure.colorbar(
        ScalarMappable(norm, shades), ax=axes, location="bottom", fraction=0.04, aspect=40,
        shrink=0.6, extend="max",
    )  # fmt: skip
    bar.set_ticks([1, 2, 4, _FULL], labels=["1", "2", "4", str(_FULL)], minor=False)
    bar.ax.xaxis.set_minor_formatter(NullFormatter())
    bar.set_label("Attention of the class token, times a patch's fair share (no unit)")
    return figure, axes


def _at_least(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Widens limits so that they hold these: narrower ones have no round numbers for ticks."""
    for limits, wanted, set_limits in (
        (axes.get_xlim(), x, axes.set_xlim),
        (axes.get_ylim(), y, axes.set_ylim),
    ):
        set_limits(min(limits[0], wanted[0]), max(limits[1], wanted[1]))


@theme.styled
def head_table(frame: pd.DataFrame) -> Figure:
    """What every head of every network is selective for, and what its ablation does to the loss.

    Args:
        frame: `attention_and_effect`, of one condition.

    Returns:
        One panel per seed, layers down and heads across: colours are regions, areas of squares
        grow with the logarithm of the effect.
    """
    panels.require(frame, ["seed", "layer", "head", "kind", "effect", "has_effect"], "head_table")
    named = _centred(frame).assign(name=_kinds(frame), network="seed " + frame["seed"].astype(str))
    regions = sorted(set(named["name"]) - set(_OTHER_KINDS))
    shades: dict[Any, str] = theme.colours(regions) | {
        "polysemantic": theme.INK, "neither": theme.PALE
    }  # fmt: skip
    depth = int(named["y"].max())
    grid = panels.grid(named, Facets((), ("network",), max(3.0, 0.55 * depth), 5))
    for axes, part in grid:
        for name in [name for name in shades if name in set(named["name"])]:
            some = part[part["name"] == name]
            # Percent of the loss, from 0.01 to 100.
            size = np.log10(some["effect"].clip(0.01, 100)) + 2
            faces = np.where(some["has_effect"], shades[name], "none")
            axes.scatter(some["x"], some["y"], s=6 + 12 * size, marker="s", facecolors=faces,
                         edgecolors=shades[name], linewidths=0.8)  # fmt: skip
            axes.plot([], [], "s", color=shades[name], ms=4, label=words(name))
        _whole_numbers(axes)
        axes.set(xlim=(0.4, named["x"].max() + 0.6), ylim=(depth + 0.6, 0.4))
    grid.label("Head (no.)", "Layer (no.)")
    grid.legend(least=1)
    caption = (
        "Colours: the one region that a head is selective for; filled: the loss rises without the "
        "head. Squares grow with the logarithm of the rise, from 0.01 to 100 %. Layers and heads "
        f"counted from 1. {panels.counts(frame, 'head')}"
    )
    return grid.finish("Every head: what it attends to, and what it does", caption)


@theme.styled
def attention_and_effect(frame: pd.DataFrame) -> Figure:
    """Attention of each head on a region against what its ablation does to the loss.

    Args:
        frame: `attention_and_effect`, of one region.

    Returns:
        One panel per dataset, protocol and backbone; one point per head and seed.
    """
    needed = ["layer", "region", "ratio", "attends", "effect", "has_effect"]
    panels.require(frame, needed, "attention_and_effect")
    regions = list(frame["region"].unique())
    if len(regions) != 1:
        raise ValueError(f"attention_and_effect: region is {regions}; allowed is one per figure")
    region = words(regions[0])
    grid = panels.grid(frame, Facets(aside=True))
    norm = Normalize(1, int(frame["layer"].max()) + 1)
    names = {True: f"attends to the {region}", False: "does not attend"}
    for axes, part in grid:
        # Before there are points, so that room is left beside them on these scales.
        axes.set_xscale("log", base=2)
        axes.set_yscale("symlog", linthresh=1)
        for (attends, has_effect), some in part.groupby(["attends", "has_effect"]):
            colours: Any = mpl.colormaps[theme.SEQUENTIAL](norm(some["layer"] + 1))
            name = f"{names[bool(attends)]}, {'has an effect' if has_effect else 'no effect'}"
            seen = some["ratio"].clip(lower=2.0**-_REACH)
            axes.scatter(
                seen, some["effect"], marker="o" if attends else "s",
                s=14 if attends else 8, facecolors=colours if has_effect else "none",
                edgecolors=colours, linewidths=0.7,
            )  # fmt: skip
            # The legend shows shapes; colours are those of layers.
            axes.plot([], [], "o" if attends else "s", color=theme.PALE, ms=3.5, label=name,
                      mfc=theme.PALE if has_effect else "none")  # fmt: skip
        axes.axhline(0, color=theme.PALE, lw=0.6)
        axes.axvline(1, color=theme.PALE, lw=0.6)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        _at_least(axes, (0.5, 2.0), (-1.0, 1.0))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    grid.label(f"Attention mass on the {region} / its area (no unit)", "Loss increase (%)")
    grid.legend(least=1)
    bar = grid.figure.colorbar(ScalarMappable(norm, theme.SEQUENTIAL), ax=grid.axes, shrink=0.8,
                               aspect=25, fraction=0.05)  # fmt: skip
    bar.set_label("Layer (no.)")
    bar.locator = MaxNLocator(integer=True, min_n_ticks=1, nbins=6)
    both = int((frame["attends"] & frame["has_effect"]).sum())
    counts = (
        f"{both} attend and have an effect, {int(frame['attends'].sum()) - both} only attend, "
        f"{int(frame['has_effect'].sum()) - both} only have an effect, "
        f"{int((~frame['attends'] & ~frame['has_effect']).sum())} neither"
    )
    caption = (
        f"One point per head and seed: {counts}. Loss increase when the head is ablated, linear "
        f"between -1 and 1. {panels.counts(frame, 'head')}"
    )
    return grid.finish(f"Attention to the {region} and effect of each head", caption)
