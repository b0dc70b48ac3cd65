"""Angle errors of the colours: against signal energy, along hues, and line by line."""

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from patchwork.figures import panels, theme
from patchwork.figures.panels import Facets

POINTS = [
    "protocol", "dataset", "colour", "red", "green", "blue", "energy", "error_deg", "ci_low",
    "ci_high", "ideal_error_deg", "n", "seeds",
]  # fmt: skip


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
        covered = np.array([other.get_points() for other in taken])
        cost = [_cost(box, covered, inside) for box in boxes.values()]
        (dx, dy), box = list(boxes.items())[int(np.argmin(cost))]
        taken.append(box.padded(scale))
        side = {1: "left", -1: "right", 0: "center"}[int(np.sign(round(dx, 3)))]
        leader = {"arrowstyle": "-", "color": theme.PALE, "lw": 0.5, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(
            name, point, (dx, dy), textcoords="offset points", ha=side,
            va="center", arrowprops=leader if np.hypot(dx, dy) > 10 else None,
        )  # fmt: skip


def _cost(box: Bbox, taken: np.ndarray, inside: Bbox) -> float:
    """Area (px^2) that a label would cover, with what leaves the panel counted tenfold.

    Args:
        box: of the label.
        taken: what it might cover, shape (n, 2, 2): lower left and upper right corners.
        inside: the panel.
    """
    corners = box.get_points()

    def shared(others: np.ndarray) -> np.ndarray:
        low, high = (np.maximum(corners[0], others[:, 0]), np.minimum(corners[1], others[:, 1]))
        return np.clip(high - low, 0, None).prod(axis=1)

    lost = np.prod(corners[1] - corners[0]) - shared(inside.get_points()[None])[0]
    return float(shared(taken).sum() + 10 * lost)


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


@theme.styled
def hue_errors(frame: pd.DataFrame) -> Figure:
    """Angle error along hues of equal signal energy.

    Args:
        frame: protocol, dataset, hue_deg (0 to 360), red, green, blue (0 to 255), error_deg,
            ci_low, ci_high, ideal_error_deg (degrees), n (images per hue), seeds (number).

    Returns:
        One panel per dataset, protocol and, if given, backbone.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    needed = [name for name in POINTS if name not in ("colour", "energy")]
    panels.require(frame, [*needed, "hue_deg"], "hue_errors")
    grid = panels.grid(frame, Facets(height_cm=4.6, aside=True))
    for axes, part in grid:
        hues = part.sort_values("hue_deg")
        axes.vlines(hues["hue_deg"], hues["ci_low"], hues["ci_high"], color=theme.INK, lw=0.6)
        axes.scatter(
            hues["hue_deg"], hues["error_deg"], s=16, zorder=3, edgecolors=theme.INK,
            linewidths=0.5, c=(hues[["red", "green", "blue"]] / hues["red"].max()).to_numpy(float),
        )  # fmt: skip
        axes.plot([], [], "o", color="white", mec=theme.INK, mew=0.6, ms=4,
                  label="network, as coloured")  # fmt: skip
        axes.plot(
            hues["hue_deg"], hues["ideal_error_deg"], color=theme.PALETTE[1], lw=0.9,
            label="ideal observer",
        )  # fmt: skip
        axes.set_xlim(-8, 360)
        axes.set_xticks([0, 60, 120, 180, 240, 300, 360])
        axes.set_ylim(0, 1.08 * float(part[["error_deg", "ci_high"]].max().max()))
        axes.grid(axis="y")
    grid.label("Hue (deg)", "Angle error (deg)")
    grid.legend()
    caption = (
        "The same lines in the same noise in every hue (HSV: red 0, yellow 60, green 120, blue 240 "
        f"deg). Bars: 95 % intervals. Scales differ between panels. {panels.counts(frame, 'hue')}"
    )
    return grid.finish("Angle error along hues of equal energy", caption)


@theme.styled
def colour_scatter(frame: pd.DataFrame) -> Figure:
    """Predicted against true angle of the same lines in every colour.

    Args:
        frame: protocol, dataset, seed, example, red, green, blue (0 to 255), angle_deg,
            predicted_deg (degrees).

    Returns:
        One panel per dataset, protocol and, if given, backbone.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    needed = ["protocol", "dataset", "seed", "example", "red", "green", "blue", "angle_deg",
              "predicted_deg"]  # fmt: skip
    panels.require(frame, needed, "colour_scatter")
    grid = panels.grid(frame, Facets(height_cm=5.2, aside=True))
    for axes, part in grid:
        period = 360 if part["angle_deg"].max() > 180 else 180
        axes.plot([0, period], [0, period], color=theme.PALE, lw=0.8, zorder=1)
        axes.scatter(
            part["angle_deg"], part["predicted_deg"], s=7, edgecolors=theme.INK, linewidths=0.2,
            c=(part[["red", "green", "blue"]] / 255).to_numpy(float), zorder=2,
        )  # fmt: skip
        ticks = [0, period / 4, period / 2, 3 * period / 4, period]
        axes.set(xlim=(0, period), ylim=(0, period), xticks=ticks, yticks=ticks)
    grid.label("True angle (deg)", "Predicted angle (deg)")
    lines = frame.groupby(["protocol", "dataset"], sort=False)["example"].nunique()
    caption = (
        "Each line stands in every colour at one true angle; grey: right answers. One seed. "
        f"n = {panels.span(lines)} lines per panel; {panels.counts(frame, '')}"
    )
    return grid.finish("Predicted angle of the same lines in every colour", caption)
