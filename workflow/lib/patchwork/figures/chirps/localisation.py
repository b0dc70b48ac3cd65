"""Where and whether there is a chirp: predictions, errors, coverage and presence, by method."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from patchwork.figures import panels, theme
from patchwork.figures.panels import Facets, Grid, words
from patchwork.tables import CONDITION

INTERVAL = ["ci_low", "ci_high", "n", "seeds"]
_BASELINE = "none"  # protocol of what was not trained
_ALL = "all"
_LEVELS = ("noise_sd", "snr_db")
_NAMES = {
    "start_s": "start",
    "duration_s": "duration",
    "start_hz": "start frequency",
    "end_hz": "end frequency",
    "noise_sd": "Noise (share of the ridge's peak)",
    "snr_db": "Signal to noise (dB)",
}


def methods_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Methods, those that were trained first: backbone, with the protocol if there are several."""
    trained = frame["protocol"] != _BASELINE
    several = frame.loc[trained, "protocol"].nunique() > 1
    protocol = (", " + frame["protocol"].map(words)).where(trained & several, "")
    named = frame.assign(method=frame["backbone"].map(words) + protocol)
    return named.sort_values("protocol", key=lambda c: c == _BASELINE, kind="stable")


def target_name(name: Any) -> str:
    """A target as figures call it, without its unit."""
    return _NAMES.get(str(name), words(name))


def styles_of(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Colour and dash of each method; baselines are dashed."""
    methods = frame.drop_duplicates("method").set_index("method")["protocol"]
    colours = theme.colours(methods.index)
    dashed = {name: methods[name] == _BASELINE for name in methods.index}
    return {n: {"color": colours[n], "ls": theme.DASHES[int(dashed[n])]} for n in methods.index}


def label_rows(grid: Grid, x: str, y: str) -> None:
    """Name target and unit on both axes of each row, and the dataset where there are several."""
    datasets = {part["dataset"].iloc[0] for _, part in grid}
    for (row, column), (axes, part) in grid.cells.items():
        first = part.iloc[0]
        if not grid.wrapped and (row - 1, column) in grid.cells:
            axes.set_title("")  # named above
        quantity = f"{target_name(first['target'])} ({first['unit']})"
        if x:
            axes.set_xlabel(f"{x} ({first['unit']})")
        if not any((row, left) in grid.cells for left in range(column)):
            lines = [words(first["dataset"])] if len(datasets) > 1 else []
            lines.append(f"{y} {quantity}")
            room = 72 * theme.CM * 2.8
            text = [piece for line in lines for piece in theme.wrap(line, room)]
            axes.set_ylabel("\n".join(text), multialignment="center")


@theme.styled
def predicted_against_true(frame: pd.DataFrame) -> Figure:
    """Single predictions against the truth, each target in a row and each method in a column.

    Args:
        frame: the table ``tables/points.csv``.

    Returns:
        One panel per dataset, target and method, with the line of equality and the fitted one.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    needed = [*CONDITION, "seed", "target", "unit", "actual", "predicted"]
    panels.require(
        frame, [*needed, "slope", "intercept", "pearson_r", "n"], "predicted_against_true"
    )
    named = methods_of(frame)
    facets = Facets(("dataset", "target"), ("method",), 3.6, 6, 8.0, aside=True)
    grid, styles = panels.grid(named, facets), styles_of(named)
    for axes, part in grid:
        own = named[named["target"] == part["target"].iloc[0]]
        values = own[["actual", "predicted"]].to_numpy()
        low, high = float(values.min()), float(values.max())
        axes.plot([low, high], [low, high], color=theme.PALE, lw=0.6, label="equality")
        axes.scatter(
            part["actual"], part["predicted"], s=2.5, lw=0, alpha=0.5,
            color=styles[part["method"].iloc[0]]["color"], rasterized=True,
        )  # fmt: skip
        ends, fit = part["actual"].agg(["min", "max"]).to_numpy(), part.iloc[0]
        line = fit["intercept"] + fit["slope"] * ends
        axes.plot(ends, line, color=theme.INK, lw=0.9, label="least squares")
        pad = 0.03 * (high - low)
        axes.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(3))
    label_rows(grid, "True", "Predicted")
    grid.legend(least=1)
    return grid.finish("Predictions against the truth", _points_caption(named))


def _points_caption(frame: pd.DataFrame) -> str:
    fits = frame.drop_duplicates([*CONDITION, "target"])
    several = fits["dataset"].nunique() > 1
    parts = []
    for method, own in fits.groupby("method", sort=False):
        known = own.dropna(subset="pearson_r")
        names = (known["dataset"].map(words) + " " if several else "") + known["target"].map(
            target_name
        )
        each = [f"{n} {r:.3f}" for n, r in zip(names, known["pearson_r"], strict=True)]
        if each:
            parts.append(f"{method}: {', '.join(each)}")
    shown = frame.groupby([*CONDITION, "target"], sort=False).size()
    trained = fits[fits["protocol"] != "none"]  # what is not trained has no seed of its own
    seeds = panels.span((trained if len(trained) else fits)["seed"])
    return (
        f"Points: {panels.span(shown)} images with a chirp per panel, of seed {seeds}. Pearson r "
        f"of all images of that seed: {'; '.join(parts)}. {panels.counts(fits[['n']], 'panel')}"
    )


@theme.styled
def error_along(frame: pd.DataFrame) -> Figure:
    """Mean absolute error along noise, duration and kind of sweep, by method.

    Args:
        frame: the table ``tables/errors_along.csv``.

    Returns:
        Panels: datasets and targets down, what the error is drawn along across; logarithmic error.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    needed = [*CONDITION, "target", "unit", "along", "along_unit", "bin", "bin_name", "mae"]
    panels.require(frame, [*needed, *INTERVAL], "error_along")
    # Noise and signal to noise are one column: a dataset has either.
    abscissa = frame["along"].where(~frame["along"].isin(_LEVELS), "level")
    named = methods_of(frame.assign(bin_name=frame["bin_name"].fillna(""), abscissa=abscissa))
    grid = panels.grid(named, Facets(("dataset", "target"), ("abscissa",), 3.8, aside=True))
    styles = styles_of(named)
    for (row, column), (axes, part) in grid.cells.items():
        kinds = part.drop_duplicates("bin").sort_values("bin")
        drawn = _dodged if (kinds["bin_name"] != "").all() else _curves
        drawn(axes, part, styles)
        if drawn is _dodged:
            axes.set_xticks(kinds["bin"], kinds["bin_name"].map(words))
            axes.set_xlim(kinds["bin"].min() - 0.5, kinds["bin"].max() + 0.5)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(0.6 * float(part["mae"].min()), 1.5 * float(part["mae"].max()))
        axes.grid(axis="y")
        axes.set_title("")  # the axis says it
        below = grid.cells.get((row + 1, column))
        if below is None or below[1]["along"].iloc[0] != part["along"].iloc[0]:
            axes.set_xlabel(_abscissa(part.iloc[0]))
    label_rows(grid, "", "Error of")
    _share_rows(grid)
    grid.legend(least=1)
    caption = (
        "Mean absolute error on images with a chirp; bands and bars: 95 % intervals over seeds and "
        "images. Dashed: methods that are not trained and see the arrays behind the images. "
        f"{panels.counts(frame, 'bin')}"
    )
    return grid.finish("Error by noise, duration and kind of sweep", caption)


def _abscissa(first: pd.Series) -> str:
    along = str(first["along"])
    if along in _LEVELS:
        return _NAMES[along]
    unit = first["along_unit"]
    known = isinstance(unit, str) and unit
    return (
        f"Chirp {target_name(along)} ({unit})" if known else f"{words(along).capitalize()} (kind)"
    )


def _curves(axes: Axes, part: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> None:
    for method, curve in part.groupby("method", sort=False):
        panels.band(axes, "bin", "mae", curve, marker="o", ms=1.8, label=method,
                    **styles[str(method)])  # fmt: skip


def _dodged(axes: Axes, part: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> None:
    """One point and bar per method and kind, side by side within the kind."""
    for i, (method, look) in enumerate(styles.items()):
        points = part[part["method"] == method]
        x = points["bin"] + 0.6 * ((i + 0.5) / len(styles) - 0.5)
        axes.vlines(x, points["ci_low"], points["ci_high"], color=look["color"], lw=0.8)
        axes.plot(x, points["mae"], "o", color=look["color"], ms=2.8)


def _share_rows(grid: Grid) -> None:
    """The same error has the same height all along a row."""
    for row in {row for row, _ in grid.cells}:
        beside = [axes for (other, _), (axes, _) in grid.cells.items() if other == row]
        low, high = zip(*(axes.get_ylim() for axes in beside), strict=True)
        for axes in beside:
            axes.set_ylim(min(low), max(high))


@theme.styled
def coverage(frame: pd.DataFrame) -> Figure:
    """How often conformal intervals cover, by target and method, beside what was wanted.

    Args:
        frame: the table ``tables/conformal.csv``; group ``all`` is drawn, seed ``all`` as the mean.

    Returns:
        One panel per dataset and target; one line per method with its half width.

    Raises:
        ValueError: if a column is missing, or no row is of group and seed ``all``.
    """
    needed = [*CONDITION, "seed", "target", "unit", "group", "wanted", "half_width", "coverage"]
    ends = ["ci_low", "ci_high", "expected_low", "expected_high", "n"]
    panels.require(frame, [*needed, *ends], "coverage")
    named = methods_of(frame[frame["group"] == _ALL])
    pooled = named[named["seed"].astype(str) == _ALL]
    panels.require(pooled, needed, "coverage of group and seed 'all'")
    most = int(pooled.groupby(["dataset", "target"])["method"].nunique().max())
    height = 1.2 + 0.45 * most
    grid = panels.grid(pooled, Facets((), ("dataset", "target"), height, 2, 11.0))
    for axes, part in grid:
        each = named[
            (named["dataset"] == part["dataset"].iloc[0])
            & (named["target"] == part["target"].iloc[0])
            & (named["seed"].astype(str) != _ALL)
        ]
        _coverage_panel(axes, part, each, most)
        axes.set_title(_title(part.iloc[0], pooled["dataset"].nunique() > 1))
        axes.set_xlim(_least(pooled), 1.003)
        axes.set_xlabel("Measured coverage (share)")
        axes.set_ylabel("Method (name)")
    grid.legend(least=1)
    wanted = _percent(pooled["wanted"])
    seeds = named.loc[named["seed"].astype(str) != _ALL, "seed"].nunique()
    caption = (
        "Half widths were set on one half of the images with a chirp, and coverage measured on "
        f"the other; wanted is {wanted}. Bars: 95 % binomial intervals. Shaded: where 95 % of "
        "measured coverages fall if both halves are exchangeable. \u00b1: half width of the "
        f"interval, a mean over seeds. {panels.counts(pooled[['n']], 'method').rstrip('.')}; "
        f"seeds:\u00a0{seeds}."
    )
    return grid.finish("Coverage of conformal intervals", caption)


def _percent(values: pd.Series) -> str:
    """Shares as percent, each once."""
    return " or ".join(f"{100 * value:.3g} %" for value in values.unique())


def _title(first: pd.Series, several: bool) -> str:
    name = target_name(first["target"]).capitalize()
    return f"{name}, {words(first['dataset'])}" if several else name


def _least(pooled: pd.DataFrame) -> float:
    low = float(pooled[["ci_low", "expected_low"]].min().min())
    return max(0.0, min(low, float(pooled["wanted"].min())) - 0.02)


def _coverage_panel(axes: Axes, part: pd.DataFrame, each: pd.DataFrame, most: int) -> None:
    """A line per method, the first on top, with room for the most that a panel has."""
    place = {method: -i for i, method in enumerate(part["method"])}
    y = part["method"].map(place)
    axes.barh(
        y, part["expected_high"] - part["expected_low"], left=part["expected_low"], height=0.9,
        color="#e4e4e4", label="expected if exchangeable",
    )  # fmt: skip
    axes.axvline(part["wanted"].iloc[0], color=theme.INK, lw=0.7, ls="--", label="wanted")
    axes.plot(
        each["coverage"], each["method"].map(place) - 0.2, "|", color=theme.PALE, ms=4,
        label="single seeds",
    )  # fmt: skip
    axes.hlines(y, part["ci_low"], part["ci_high"], color=theme.PALETTE[0], lw=1.0)
    axes.plot(part["coverage"], y, "o", color=theme.PALETTE[0], ms=3.4, label="mean over seeds")
    names = [f"{row.method}, \u00b1{row.half_width:.2g} {row.unit}" for row in part.itertuples()]
    axes.set_yticks(list(y), names)
    axes.set_ylim(0.4 - most, 0.6)
    axes.tick_params(axis="y", length=0)


@theme.styled
def presence_roc(frame: pd.DataFrame) -> Figure:
    """How well the presence of a chirp is detected, by method.

    Args:
        frame: the table ``tables/presence.csv``.

    Returns:
        One panel per dataset, with one curve and area per method.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    needed = [*CONDITION, "false_positive_rate", "true_positive_rate", "auroc", *INTERVAL]
    panels.require(frame, needed, "presence_roc")
    named = methods_of(frame)
    grid, styles = panels.grid(named, Facets((), ("dataset",), 6.4)), styles_of(named)
    for axes, part in grid:
        axes.plot([0, 1], [0, 1], color=theme.PALE, lw=0.6)
        methods = list(part.groupby("method", sort=False))
        for i, (method, curve) in enumerate(methods):
            x, y = curve["false_positive_rate"], curve["true_positive_rate"]
            axes.plot(x, y, label=method, clip_on=False, **styles[str(method)])
            one = curve.iloc[0]
            text = f"{one['auroc']:.3f} ({one['ci_low']:.3f} to {one['ci_high']:.3f})"
            axes.text(
                0.98, 0.03 + 0.065 * (len(methods) - 1 - i), text, ha="right",
                color=styles[str(method)]["color"], transform=axes.transAxes,
            )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(0, 1.01))
        axes.set_aspect("equal")
        axes.set_title(words(part["dataset"].iloc[0]))
    grid.label("False alarms (share of images without a chirp)", "Hits (share of images with one)")
    grid.legend(least=1)
    caption = (
        "Numbers: area under the curve with its 95 % interval over seeds and images, in the order "
        f"of the legend; 0.5 is chance. {panels.counts(frame, 'curve')}"
    )
    return grid.finish("Detection of a chirp", caption)
