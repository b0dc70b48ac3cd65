"""What networks learn of chirps, how their errors are distributed, and how long inference takes."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from patchwork.figures import panels, theme
from patchwork.figures.chirps.localisation import label_rows, methods_of, styles_of, target_name
from patchwork.figures.panels import Facets
from patchwork.tables import CONDITION

_INTERVAL = ["ci_low", "ci_high", "n", "seeds"]


@theme.styled
def chirp_errors(frame: pd.DataFrame) -> Figure:
    """Distribution of the errors of each target, by method.

    Args:
        frame: the table ``tables/chirp_errors.csv``.

    Returns:
        Datasets and targets down, methods across; one outline a panel.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    needed = [*CONDITION, "target", "unit", "error", "density", "bin_width", "n", "seeds"]
    panels.require(frame, needed, "chirp_errors")
    named = methods_of(frame)
    grid = panels.grid(named, Facets(("dataset", "target"), ("method",), 3.0, 6, 8.0, aside=True))
    styles = styles_of(named)
    for axes, part in grid:
        bins, width = part.sort_values("error"), float(part["bin_width"].iloc[0])
        edges = [*(bins["error"] - width / 2), float(bins["error"].iloc[-1]) + width / 2]
        colour = styles[part["method"].iloc[0]]["color"]
        axes.stairs(bins["density"], edges, color=colour, lw=1)
        axes.stairs(bins["density"], edges, color=colour, alpha=0.15, fill=True)
        axes.axvline(0, color=theme.INK, lw=0.6)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(NullLocator())
        axes.margins(x=0)
    label_rows(grid, "Predicted minus true", "Images by error of")
    caption = (
        "Errors on images with a chirp, of all seeds; the outermost bins hold what lies beyond. "
        f"Each panel has its own height. {panels.counts(frame, 'panel')}"
    )
    return grid.finish("Distribution of the errors", caption)


@theme.styled
def learning_curve(frame: pd.DataFrame) -> Figure:
    """Error by number of training images, beside methods that learn nothing.

    Args:
        frame: the table ``tables/learning_curve.csv``.

    Returns:
        One panel per target; logarithmic axes.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    needed = [*CONDITION, "n_train", "target", "unit", "mae", *_INTERVAL]
    panels.require(frame, needed, "learning_curve")
    # One curve spans the datasets that differ in their number of images.
    named = methods_of(frame).assign(dataset="")
    grid, styles = panels.grid(named, Facets((), ("target",), 4.6)), styles_of(named)
    for axes, part in grid:
        for method, line in part.groupby("method", sort=False):
            panels.band(axes, "n_train", "mae", line, marker="o", ms=2.4, label=method,
                        **styles[str(method)])  # fmt: skip
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(sorted(frame["n_train"].unique()))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(axis="y")
    for axes, part in grid:
        axes.set_title(target_name(part["target"].iloc[0]).capitalize())
        axes.set_xlabel("Training images (no.)")
        axes.set_ylabel(f"Mean absolute error ({part['unit'].iloc[0]})")
    grid.legend(least=1)
    caption = (
        "Mean absolute error on the same test images; bands: 95 % intervals over seeds and images. "
        "Dashed: methods that are not trained and see the same pixels. "
        f"{panels.counts(frame, 'point')}"
    )
    return grid.finish("Error by number of training images", caption)


@theme.styled
def inference_times(frame: pd.DataFrame) -> Figure:
    """Time of repeated passes over the same images, network by network.

    Args:
        frame: the table ``tables/timings.csv``.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    panels.require(frame, [*CONDITION, "seed", "repetition", "seconds", "n_images"],
                   "inference_times")  # fmt: skip
    each = frame.assign(ms=1000 * frame["seconds"] / frame["n_images"])
    grid = panels.grid(each, Facets(height_cm=4.6, single_cm=10.0))
    for axes, part in grid:
        colours = theme.colours(part["seed"])
        for seed, run in part.groupby("seed"):
            axes.plot(run["repetition"] + 1, run["ms"], "o-", color=colours[seed], ms=2, lw=0.6,
                      label=f"seed {seed}")  # fmt: skip
            axes.axhline(run["ms"].median(), color=colours[seed], lw=0.6, ls="--")
        axes.set_ylim(0, 1.15 * float(part["ms"].max()))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(axis="y")
    grid.label("Pass (no.)", "Time of an image (ms)")
    grid.legend(least=1)
    n = panels.span(frame["n_images"])
    caption = (
        f"Whole passes over {n} test images, reading included, in a job without others beside it; "
        f"dashed: medians. n = {len(frame)} passes; seeds:\u00a0{frame['seed'].nunique()}."
    )
    return grid.finish("Time of inference", caption)
