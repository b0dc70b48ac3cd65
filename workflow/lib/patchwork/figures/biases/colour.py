"""Angle errors of the colours: against signal energy, and as clusters."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox, offset_copy

from patchwork.figures import panels, theme
from patchwork.figures.panels import Facets, words

POINTS = [
    "protocol", "dataset", "colour", "red", "green", "blue", "energy", "error_deg", "ci_low",
    "ci_high", "ideal_error_deg", "n", "seeds",
]  # fmt: skip
RGB = tuple[int, int, int]


def _points(axes: Axes, part: pd.DataFrame) -> None:
    axes.vlines(part["energy"], part["ci_low"], part["ci_high"], color=theme.INK, lw=0.7)
    axes.scatter(
        part["energy"], part["error_deg"], s=26, zorder=3, edgecolors=theme.INK, linewidths=0.8,
        c=(part[["red", "green", "blue"]] / 255).to_numpy(float),
    )  # fmt: skip
    axes.plot(
        [], [], "o", color="white", mec=theme.INK, mew=0.8, ms=5, label="network, as coloured"
    )
    axes.scatter(
        part["energy"], part["ideal_error_deg"], s=16, marker="D", facecolors="none",
        edgecolors=theme.PALETTE[1], linewidths=0.8, zorder=2, label="ideal observer",
    )  # fmt: skip
    top = float(part[["error_deg", "ci_high", "ideal_error_deg"]].max().max())
    axes.set_ylim(0, 1.15 * top)
    axes.set_xlim(0, 1.08 * float(part["energy"].max()))
    axes.grid()


def _offsets() -> list[tuple[float, float]]:
    """Places for a label around its point, in points: the nearest first, beside before above."""
    turns = sorted(np.arange(0, 360, 22.5), key=lambda a: abs(np.sin(np.radians(a))))
    rings = product((8, 14, 21, 29, 38), turns)
    return [(r * np.cos(np.radians(a)), r * np.sin(np.radians(a))) for r, a in rings]


def _label_points(axes: Axes, part: pd.DataFrame) -> None:
    """Write each colour's name where it covers the least of names, marks and frame.

    Greedy over rings of candidate places; positions are those of the final layout.
    """
    to_pixels = axes.transData.transform
    scale = axes.figure.dpi / 72
    low, high = (to_pixels(part[["energy", c]].to_numpy(float)) for c in ("ci_low", "ci_high"))
    taken = [
        Bbox.from_extents(x, min(y, top), x, max(y, top)).padded(1.5 * scale)
        for (x, y), (_, top) in zip(low, high, strict=True)
    ]
    for column in ("error_deg", "ideal_error_deg"):
        marks = to_pixels(part[["energy", column]].to_numpy(float))
        taken += [Bbox.from_extents(x, y, x, y).padded(4 * scale) for x, y in marks]
    inside = axes.get_window_extent()
    for row in part.sort_values("error_deg", ascending=False).to_dict("records"):
        name, point = row["colour"], (row["energy"], row["error_deg"])
        size = np.array([theme.text_width(name), theme.TEXT_PT]) * scale / 2
        x, y = to_pixels(point)
        boxes = {}
        for dx, dy in _offsets():
            # The offset is to the label's nearer side, so that long names do not cover the point.
            centre = (x + dx * scale + np.sign(round(dx, 3)) * size[0], y + dy * scale)
            boxes[dx, dy] = Bbox([centre - size, centre + size])
        cost = [_cost(box, taken, inside) for box in boxes.values()]
        (dx, dy), box = list(boxes.items())[int(np.argmin(cost))]
        taken.append(box.padded(scale))
        side = {1: "left", -1: "right", 0: "center"}[int(np.sign(round(dx, 3)))]
        leader = {"arrowstyle": "-", "color": theme.PALE, "lw": 0.5, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            name, point, (dx, dy), textcoords="offset points", ha=side,
            va="center", arrowprops=leader if np.hypot(dx, dy) > 10 else None,
        )  # fmt: skip


def _cost(box: Bbox, taken: list[Bbox], inside: Bbox) -> float:
    """Area (px^2) that a label would cover, with what leaves the panel counted tenfold."""
    shared = [Bbox.intersection(box, other) for other in taken]
    covered = sum(overlap.width * overlap.height for overlap in shared if overlap is not None)
    kept = Bbox.intersection(box, inside)
    lost = box.width * box.height - (kept.width * kept.height if kept is not None else 0)
    return covered + 10 * lost


@theme.styled
def colour_error_vs_energy(frame: pd.DataFrame) -> Figure:
    """Angle error of each colour against the signal energy that it carries.

    Args:
        frame: protocol, dataset, colour (name), red, green, blue (0 to 255), energy (sum of squared
            channels, one full channel is 1), error_deg, ci_low, ci_high, ideal_error_deg
            (degrees, NaN if not known), n (images per colour), seeds (number).

    Returns:
        One panel per dataset, protocol and, if given, backbone.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    panels.require(frame, POINTS, "colour_error_vs_energy")
    grid = panels.grid(frame, Facets(height_cm=6.2, most_columns=2, single_cm=11, aside=True))
    for axes, part in grid:
        _points(axes, part)
    grid.label("Signal energy (full channels squared)", "Angle error (deg)")
    grid.legend()
    caption = (
        "Energy: sum of the squared channels of a colour on black, one full channel being 1. Bars: "
        f"95 % intervals. Scales differ between panels. {panels.counts(frame, 'colour')}"
    )
    figure = grid.finish("Angle error of each colour by its signal energy", caption)
    figure.draw_without_rendering()  # lays out, so that labels can be set around their points
    for axes, part in grid:
        _label_points(axes, part)
    return figure


def _linkage(part: pd.DataFrame, n_leaves: int) -> np.ndarray:
    rows = part.sort_values("merge")[["left", "right", "distance", "size"]].to_numpy(float)
    if len(rows) != n_leaves - 1:
        raise ValueError(
            f"colour_dendrogram: {len(rows)} merges for {n_leaves} names; allowed is one fewer "
            "merge than names in each panel"
        )
    return rows


def _within(linkage: np.ndarray, groups: Sequence[str]) -> dict[int, bool]:
    """For each merged cluster: do all its leaves share one category?"""
    members = [{group} for group in groups]
    for left, right, *_ in linkage:
        members.append(members[int(left)] | members[int(right)])
    return {i: len(group) == 1 for i, group in enumerate(members)}


def _tree(
    axes: Axes, linkage: np.ndarray, names: Sequence[str], groups: Sequence[str], rgb: list[RGB]
) -> None:
    same = _within(linkage, groups)
    accent = theme.PALETTE[1]
    # A quarter of the imports of every figure, for this one alone.
    from scipy.cluster.hierarchy import dendrogram

    tree = dendrogram(
        linkage, no_plot=True, link_color_func=lambda k: accent if same[k] else theme.INK
    )
    for y, x, colour in zip(tree["icoord"], tree["dcoord"], tree["color_list"], strict=True):
        axes.plot(x, y, color=colour, lw=1.8 if colour == accent else 0.9)
    leaves = tree["leaves"]
    places = 10 * np.arange(len(leaves)) + 5.0  # SciPy sets leaf i at 10 i + 5
    axes.set_yticks(places, [f"{words(names[i])} ({words(groups[i])})" for i in leaves])
    axes.tick_params(axis="y", length=0, pad=15)
    # Left of the axis by a fixed distance, at the height of the leaf.
    beside = offset_copy(
        axes.get_yaxis_transform(), axes.get_figure(root=True), x=-8, units="points"
    )
    for place, leaf in zip(places, leaves, strict=True):
        fill = tuple(channel / 255 for channel in rgb[leaf])
        axes.plot(0, place, "s", ms=7, color=fill, mec=theme.INK, mew=0.6, transform=beside,
                  clip_on=False)  # fmt: skip
    axes.spines["left"].set_visible(False)
    axes.set(xlim=(0, 1.05 * linkage[:, 2].max() or 1), ylim=(0, 10 * len(leaves)))


@theme.styled
def colour_dendrogram(
    frame: pd.DataFrame,
    rgb: Mapping[str, RGB],
    categories: Mapping[str, str],
    *,
    distance: str = "Distance of angle errors (deg)",
) -> Figure:
    """How colours cluster, with the category that people give each.

    Args:
        frame: protocol, merge (order), left, right (clusters: leaves first, then merges, as in
            SciPy's linkage), distance, size; optionally dataset, backbone, features, n, seeds.
        rgb: leaf name to channels, 0 to 255, in the order of the leaves.
        categories: leaf name to the basic colour category that people use.
        distance: what the distance is, with unit.

    Returns:
        One panel per protocol (and dataset, backbone, features where given). Branches that stay
        within one human category are thick and in the second colour.

    Raises:
        ValueError: if a column is missing, merges do not fit the names, or a category is missing.
    """
    panels.require(frame, ["protocol", "merge", "left", "right", "distance", "size"], "dendrogram")
    lacking = [name for name in rgb if name not in categories]
    if lacking:
        raise ValueError(f"colour_dendrogram: categories lacks {lacking}; every name needs one")
    names, groups = list(rgb), [categories[name] for name in rgb]
    size = 1.4 + 0.36 * len(names)
    facets = Facets(rows=("dataset", "features"), height_cm=size, most_columns=2, single_cm=10)
    grid = panels.grid(frame, facets)
    for axes, part in grid:
        _tree(axes, _linkage(part, len(names)), names, groups, list(rgb.values()))
    grid.label(distance, "")
    caption = (
        "In brackets: the basic category that people use. Thick branches join colours of one such "
        f"category only. {len(names)} colours. {panels.counts(frame, 'panel')}"
    )
    return grid.finish("Colours clustered by angle error", caption)
