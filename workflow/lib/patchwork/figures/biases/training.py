"""What happened during training: losses with transitions, correlations, and the errors left."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from patchwork.figures import panels, theme
from patchwork.figures.panels import Facets, words
from patchwork.tables import RUN

_CURVE = [*RUN, "target"]


def _smooth(losses: pd.Series, window: int) -> np.ndarray:
    return losses.rolling(window, center=True, min_periods=1).median().to_numpy()


def _loss_panel(axes: Axes, part: pd.DataFrame, colours: dict[Any, str], window: int) -> None:
    for (target, _), curve in part.groupby(["target", "seed"], sort=False):
        run = curve.sort_values("step")
        axes.plot(run["step"], run["loss"], color=colours[target], alpha=0.15, lw=0.5)
        axes.plot(
            run["step"],
            _smooth(run["loss"], window),
            color=colours[target],
            label=words(target),
            lw=0.9,
        )
    axes.set_yscale("log", nonpositive="mask")
    axes.grid(axis="y")


def _mark_transitions(
    axes: Axes, part: pd.DataFrame, found: pd.DataFrame, look: tuple[dict, dict, int]
) -> None:
    """Set each detector's mark on the smoothed curve where it found a transition."""
    colours, marks, window = look
    runs = {key: run.sort_values("step") for key, run in part.groupby(_CURVE, sort=False)}
    for row in found.to_dict("records"):
        run = runs.get(tuple(row[name] for name in _CURVE))
        if run is None:
            continue
        loss = np.interp(row["step"], run["step"], _smooth(run["loss"], window))
        axes.plot(
            row["step"],
            loss,
            marks[row["detector"]],
            color=colours[row["target"]],
            mec=theme.INK,
            mew=0.6,
            ms=4.5,
            zorder=4,
        )
    for detector, mark in marks.items():
        name = f"transition, {words(detector)}"
        axes.plot([], [], mark, color="white", mec=theme.INK, mew=0.8, ms=4.5, label=name)


def _check_transitions(frame: pd.DataFrame, transitions: pd.DataFrame) -> None:
    panels.require(transitions, [*_CURVE, "detector", "step"], "loss_curves: transitions")
    known = set(panels.levels(frame, *_CURVE))
    stray = [key for key in panels.levels(transitions, *_CURVE) if key not in known]
    if stray:
        raise ValueError(f"loss_curves: transitions of {stray[0]}; allowed are runs in frame")


@theme.styled
def loss_curves(frame: pd.DataFrame, transitions: pd.DataFrame, *, window: int = 15) -> Figure:
    """Training loss per target with the transitions that each detector found.

    Args:
        frame: dataset, backbone, protocol, seed, step, target, loss (no unit, > 0); one row per
            logged step.
        transitions: dataset, backbone, protocol, seed, target, detector, step; may be empty.
        window: logged steps in the running median, >= 1.

    Returns:
        One panel per dataset, protocol and backbone; one line per target and seed.

    Raises:
        ValueError: if a column is missing, or a transition belongs to no run in frame.
    """
    panels.require(frame, [*_CURVE, "step", "loss"], "loss_curves")
    if window < 1:
        raise ValueError(f"loss_curves: window is {window}; allowed is 1 or more")
    marks: dict[Any, str] = {}
    if not transitions.empty:
        _check_transitions(frame, transitions)
        marks = dict(zip(transitions["detector"].unique(), theme.MARKERS, strict=False))
    colours = theme.colours(frame["target"])
    grid = panels.grid(frame, Facets(height_cm=4.6, aside=True))
    for axes, part in grid:
        _loss_panel(axes, part, colours, window)
        _mark_transitions(axes, part, transitions, (colours, marks, window))
    grid.share_y()
    grid.label("Training step (no.)", "Loss (no unit)")
    grid.legend(least=1)
    found = [f"{words(d)} {(transitions['detector'] == d).sum()}" for d in marks]
    steps = frame.groupby(_CURVE, sort=False).size()
    looked_for = f"Transitions found: {', '.join(found) or 'none'}. "
    if not len(transitions.columns):  # this study looks for none
        looked_for = ""
    caption = (
        f"Light: loss at each logged step. Dark: running median over {window} logged steps, one "
        f"line per target and seed. {looked_for}"
        f"n = {panels.span(steps)} logged steps per line; {panels.counts(frame, '')}"
    )
    return grid.finish("Training loss of each target", caption)


@theme.styled
def correlation_over_epochs(frame: pd.DataFrame) -> Figure:
    """Correlation of prediction and truth for each target as training goes on.

    Args:
        frame: dataset, backbone, protocol, seed, epoch, target, r (Pearson, -1 to 1).

    Returns:
        One panel per dataset, protocol and backbone; one line per target and seed.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    panels.require(frame, [*_CURVE, "epoch", "r"], "correlation_over_epochs")
    colours = theme.colours(frame["target"])
    grid = panels.grid(frame, Facets(aside=True))
    low = min(0.0, float(frame["r"].min()))
    for axes, part in grid:
        for (target, _), curve in part.groupby(["target", "seed"], sort=False):
            run = curve.sort_values("epoch")
            axes.plot(
                run["epoch"], run["r"], "o-", color=colours[target], label=words(target), ms=1.8,
                lw=0.8, clip_on=False,
            )  # fmt: skip
        axes.axhline(0, color=theme.PALE, lw=0.6)
        axes.set_ylim(low - 0.03, 1.03)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(axis="y")
    grid.label("Epoch (no.)", "Pearson r (no unit)")
    grid.legend(least=1)
    epochs = frame.groupby(_CURVE, sort=False).size()
    caption = (
        "One line per target and seed, on validation images; 1 is perfect, 0 is what a constant "
        f"prediction earns. n = {panels.span(epochs)} epochs per line; {panels.counts(frame, '')}"
    )
    title = "Correlation of prediction and truth over training"
    return grid.finish(title, caption)


@theme.styled
def error_histograms(frame: pd.DataFrame) -> Figure:
    """Distribution of the angle errors.

    Args:
        frame: protocol, dataset, backbone, error_deg (centre of a bin, degrees), bin_width_deg
            (> 0), density (1/deg); optionally condition, n (images) and seeds.

    Returns:
        One panel per dataset, protocol and backbone; one outline per condition.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    needed = ["protocol", "dataset", "backbone", "error_deg", "bin_width_deg", "density"]
    panels.require(frame, needed, "error_histograms")
    named = frame if "condition" in frame.columns else frame.assign(condition="all images")
    colours = theme.colours(named["condition"])
    grid = panels.grid(named, Facets(height_cm=3.8, aside=True))
    for axes, part in grid:
        for condition, curve in part.groupby("condition", sort=False):
            bins = curve.sort_values("error_deg")
            left = bins["error_deg"] - bins["bin_width_deg"] / 2
            edges = [*left, bins["error_deg"].iloc[-1] + bins["bin_width_deg"].iloc[-1] / 2]
            axes.stairs(bins["density"], edges, color=colours[condition], lw=1, label=condition)
            axes.stairs(bins["density"], edges, color=colours[condition], alpha=0.15, fill=True)
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
    grid.label("Angle error (deg)", "Density (1/deg)")
    grid.legend()
    width = sorted(frame["bin_width_deg"].unique())
    caption = (
        f"Bins of {' or '.join(f'{w:g}' for w in width)} deg. Each panel has its own scale. "
        f"{panels.counts(frame, 'panel')}"
    )
    return grid.finish("Distribution of angle errors", caption)
