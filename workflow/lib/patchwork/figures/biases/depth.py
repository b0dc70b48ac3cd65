"""Orientation error and its bias along the depth of frozen networks."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from patchwork.figures import panels, theme
from patchwork.figures.panels import Facets, words

_COLUMNS = [
    "backbone", "readout", "block", "view", "quantity", "estimate", "ci_low", "ci_high", "n",
]  # fmt: skip
_PLACES = {"cls": "class token", "mean": "mean token", "pixels": "", "none": ""}
_NAMES = {
    "error": "Error",
    "oblique_minus_cardinal": "4-cycle: oblique minus cardinal",
    "vertical_minus_horizontal": "2-cycle: vertical minus horizontal",
}
_READ = ("cls", "mean")


def _limits(axes: Axes, part: pd.DataFrame, shown: str) -> None:
    """As far as the first network reaches: what reads next to nothing scatters far beyond."""
    own = part[part["backbone"] == shown]
    low, high = own["ci_low"].min(), own["ci_high"].max()
    reach = 1.4 * max(abs(low), abs(high))
    axes.set_ylim(-reach, reach)


def _references(axes: Axes, part: pd.DataFrame) -> None:
    """What has no depth, as lines across: pixels and the ideal observer."""
    for name, dash in (("pixels", (0, (1, 1))), ("ideal_observer", "-")):
        found = part.loc[part["backbone"] == name]
        if len(found):
            row = found.iloc[0]
            color = theme.PALE if name == "pixels" else theme.INK
            axes.axhline(row["estimate"], ls=dash, label=words(name), color=color, lw=0.8)
            if name == "pixels":
                axes.axhspan(row["ci_low"], row["ci_high"], color=theme.PALE, alpha=0.15, lw=0)


@theme.styled
def bias_by_depth(frame: pd.DataFrame) -> Figure:
    """Read-out error and the waves of the error after every block.

    Args:
        frame: backbone, readout, block (from 1; 0 where there is none), view, quantity (`error`,
            `oblique_minus_cardinal` or `vertical_minus_horizontal`), estimate, ci_low, ci_high
            (deg), n (images). The first backbone sets the limits of the differences.

    Returns:
        One row per quantity and one column per view; one curve per backbone and read-out.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    panels.require(frame, _COLUMNS, "bias_by_depth")
    shown = frame[frame["view"] != "both"]
    shown = shown.assign(quantity=shown["quantity"].map(_NAMES)).dropna(subset="quantity")
    networks = list(dict.fromkeys(shown.loc[shown["readout"].isin(_READ), "backbone"]))
    colours, dashes = theme.colours(networks), theme.dashes(_READ)
    facets = Facets(rows=("quantity",), columns=("view",), height_cm=4.0, aside=True)
    grid = panels.grid(shown, facets)
    for axes, part in grid:
        _references(axes, part)
        for (backbone, readout), curve in part.groupby(["backbone", "readout"], sort=False):
            if readout in _READ:
                panels.band(
                    axes, "block", "estimate", curve, color=colours[backbone], ls=dashes[readout],
                    marker="o", ms=1.8, label=f"{words(backbone)}, {_PLACES[readout]}",
                )  # fmt: skip
        if (part["quantity"] == _NAMES["error"]).all():
            axes.set_ylim(0, 50)
        else:
            _limits(axes, part, networks[0])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
    grid.share_y_of_rows()
    grid.label("Block", "deg")
    grid.legend(least=1)
    n = panels.span(frame["n"].where(frame["n"] > 0, np.nan))
    caption = (
        "Ridge regression of the doubled angle on held-out lines. Above zero in the lower rows: "
        "better at horizontal (2-cycle), at horizontal and vertical (4-cycle). Bands: 95 % "
        f"intervals over images (n = {n}) of one network each; differences beyond the limits of "
        "the panels are cut off. Chance is 45 deg."
    )
    return grid.finish("Orientation error and bias by depth", caption)
