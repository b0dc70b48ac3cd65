"""Angle errors and their bias along the circle of line angles."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from patchwork.figures import panels, theme
from patchwork.figures.panels import Facets, Grid, words

CURVE = [
    "protocol", "dataset", "backbone", "condition", "bin_deg", "ci_low", "ci_high", "n", "seeds",
]  # fmt: skip


def _angle_axis(axes: Axes, part: pd.DataFrame) -> None:
    """Ticks at the cardinal angles: of directions if any bin lies beyond 180 deg."""
    period = 360 if part["bin_deg"].max() > 180 else 180
    axes.set_xlim(0, period)
    axes.xaxis.set_major_locator(FixedLocator([0, period / 2, period]))
    axes.xaxis.set_minor_locator(FixedLocator([period / 4, 3 * period / 4]))
    axes.grid(which="both")


def _curves(frame: pd.DataFrame, value: str) -> Grid:
    names = list(frame["condition"].unique())
    colours, dashes = theme.colours(names), theme.dashes(names)
    grid = panels.grid(frame, Facets(aside=True))
    for axes, part in grid:
        for condition, curve in part.groupby("condition", sort=False):
            panels.band(
                axes, "bin_deg", value, curve, color=colours[condition], ls=dashes[condition],
                marker="o", ms=1.8, label=words(condition),
            )  # fmt: skip
        _angle_axis(axes, part)
    return grid


def _caption(frame: pd.DataFrame) -> str:
    bins = frame.groupby(CURVE[:4], sort=False)["bin_deg"].nunique()
    scales = "Scales differ between protocols. " if frame["protocol"].nunique() > 1 else ""
    return (
        f"{panels.span(bins)} bins per curve; bands: 95 % intervals. {scales}"
        f"{panels.counts(frame, 'bin')}"
    )


@theme.styled
def error_vs_angle(frame: pd.DataFrame) -> Figure:
    """Angle error along the line angle, protocols side by side.

    Args:
        frame: protocol, dataset, backbone, condition (text), bin_deg (centre of the bin, degrees),
            error_deg, ci_low, ci_high (degrees, >= 0), n (images per bin), seeds (number).

    Returns:
        One panel per dataset, protocol and backbone; one curve per condition.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    panels.require(frame, [*CURVE, "error_deg"], "error_vs_angle")
    grid = _curves(frame, "error_deg")
    for axes in grid.axes:
        axes.set_ylim(bottom=0)
    grid.share_y()
    grid.label("Line angle (deg)", "Angle error (deg)")
    grid.legend(least=1)
    return grid.finish("Angle error by line angle", _caption(frame))


@theme.styled
def bias_curve(frame: pd.DataFrame) -> Figure:
    """Signed angle error along the line angle, protocols side by side.

    Args:
        frame: as for `error_vs_angle`, with signed_error_deg (predicted minus true, degrees) in
            place of error_deg.

    Returns:
        One panel per dataset, protocol and backbone; one curve per condition; a line at zero.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    panels.require(frame, [*CURVE, "signed_error_deg"], "bias_curve")
    grid = _curves(frame, "signed_error_deg")
    for axes in grid.axes:
        axes.axhline(0, color=theme.INK, lw=0.6)
        reach = max(abs(limit) for limit in axes.get_ylim())
        axes.set_ylim(-reach, reach)
    grid.share_y()
    grid.label("Line angle (deg)", "Signed error (deg)")
    grid.legend(least=1)
    caption = f"Above zero: predicted angle too large. {_caption(frame)}"
    return grid.finish("Bias of the predicted angle by line angle", caption)
