"""Controlled rearing: pictures, biases, and contrasts of conditions."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from patchwork.figures import panels, theme
from patchwork.figures.panels import Facets, words

CO_PRIMARY = "co-primary"
_INTERVAL = ("ci_low", "ci_high", "n", "seeds")
_UNITS = {"fisher": "log2 per deg\u00b2", "ridge": "deg", "signed": "deg", "colour": "deg"}
_QUANTITIES = {
    "fisher": "Fisher information",
    "ridge": "Read-out error",
    "signed": "Signed error",
    "colour": "Colour contrast",
}
_SHORT = {"fisher": "Information", "ridge": "Error", "signed": "Signed error"}
_PLACES = {"cls": "class token", "mean": "mean token"}


def _kind(measure: str) -> str:
    return measure.split("_")[0]


def _unit(measure: str) -> str:
    return _UNITS.get(_kind(measure), "value")


def _contrast_label(measure: str) -> str:
    if _kind(measure) == "colour":
        return f"Contrast of bluish minus yellowish ({_unit(measure)})"
    cycle = "4-cycle component" if _kind(measure) in _SHORT else "value"
    return f"Contrast of the {cycle} ({_unit(measure)})"


def measure_name(measure: str) -> str:
    """A measure as a reader would write it: quantity, stimulus, read-out."""
    if _kind(measure) not in ("fisher", "ridge", "signed"):
        return words(measure).capitalize()
    *_, stimulus, readout = measure.split("_")
    return f"{_QUANTITIES[_kind(measure)]}, {stimulus}, {_PLACES.get(readout, readout)}"


def _orientation_axis(axes: Axes) -> None:
    axes.set_xlim(0, 180)
    axes.xaxis.set_major_locator(FixedLocator([0, 45, 90, 135, 180]))
    axes.grid(axis="x")


def _closed(part: pd.DataFrame, x: str, period: float) -> pd.DataFrame:
    """The curve with its first point again at the end of the circle."""
    ordered = part.sort_values(x)
    first = ordered.iloc[[0]]
    if first[x].item() != 0:
        return ordered
    return pd.concat([ordered, first.assign(**{x: period})])


def _styles(names: Iterable[Any], pale: Sequence[Any]) -> dict[Any, dict[str, Any]]:
    """Line styles by name; controls are pale and dashed."""
    named = [name for name in dict.fromkeys(names) if name not in pale]
    colours, dashes = theme.colours(named), theme.dashes(named)
    found: dict[Any, dict[str, Any]] = {
        name: {"color": colours[name], "ls": dashes[name]} for name in named
    }
    return found | {name: {"color": theme.PALE, "ls": (0, (2, 1))} for name in pale}


@theme.styled
def image_statistics(edges: pd.DataFrame, colours: pd.DataFrame) -> Figure:
    """Orientations of edges and hues in the pictures of each condition.

    Args:
        edges: condition, orientation_deg, share, n (images).
        colours: condition, hue_deg, chroma, n; conditions without chroma are not drawn.

    Returns:
        Two panels; edge energy as a multiple of that of isotropic pictures.

    Raises:
        ValueError: if a column is missing or a frame is empty.
    """
    panels.require(edges, ["condition", "orientation_deg", "share", "n"], "image_statistics")
    panels.require(colours, ["condition", "hue_deg", "chroma", "n"], "image_statistics")
    figure = Figure(figsize=(theme.DOUBLE_CM * theme.CM, 5 * theme.CM), layout="constrained")
    spec = figure.add_gridspec(1, 2)
    left, right = figure.add_subplot(spec[0]), figure.add_subplot(spec[1])
    styles = _styles([*edges["condition"], *colours["condition"]], ())
    for condition, part in edges.groupby("condition", sort=False):
        flat = part.assign(ratio=part["share"] * part["orientation_deg"].nunique())
        curve = _closed(flat, "orientation_deg", 180)
        left.plot(
            curve["orientation_deg"], curve["ratio"], **styles[condition], label=words(condition)
        )
    left.axhline(1, color=theme.INK, lw=0.6)
    left.set_ylim(bottom=0)
    _orientation_axis(left)
    left.set(xlabel="Edge orientation (deg)", ylabel="Edge energy (multiple of flat)")
    left.set_title("edges")
    for condition, part in colours.groupby("condition", sort=False):
        if part["chroma"].sum() > 0:
            curve = _closed(part, "hue_deg", 360)
            right.plot(
                curve["hue_deg"], curve["chroma"], **styles[condition], label=words(condition)
            )
    right.set(xlim=(0, 360), xlabel="Hue in CIELCh (deg)", ylabel="Chroma per bin (CIELAB)")
    right.xaxis.set_major_locator(FixedLocator([0, 90, 180, 270, 360]))
    right.set_ylim(bottom=0)
    right.set_title("colours")
    grid = panels.Grid(figure, True, {(0, 0): (left, edges), (0, 1): (right, colours)})
    grid.legend(least=1)
    grey = [
        words(a) for a, p in colours.groupby("condition", sort=False) if not p["chroma"].sum() > 0
    ]
    caption = (
        "Inside the disc that networks see. Line at one: isotropic pictures. "
        + (f"Without colour: {', '.join(grey)}. " if grey else "")
        + panels.counts(edges, "condition")
    )
    return grid.finish("What the pictures of each condition hold", caption)


@theme.styled
def bias_curves(frame: pd.DataFrame, pale: Sequence[str] = ("untrained",)) -> Figure:
    """Error, signed error and Fisher information along orientation, by condition.

    Args:
        frame: measure, condition, orientation_deg, value, ci_low, ci_high, n, seeds.
        pale: conditions that are controls.

    Returns:
        One panel per measure, one curve per condition.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    columns = [*_INTERVAL, "measure", "condition", "orientation_deg", "value"]
    panels.require(frame, columns, "bias_curves")
    named = frame.assign(shown=frame["measure"].map(measure_name))
    grid = panels.grid(named, Facets(rows=(), columns=("shown",)))
    styles = _styles(frame["condition"], [a for a in pale if a in set(frame["condition"])])
    for axes, part in grid:
        measure = part["measure"].iloc[0]
        for condition, own in part.groupby("condition", sort=False):
            curve = _closed(own, "orientation_deg", 180)
            panels.band(
                axes, "orientation_deg", "value", curve, **styles[condition], marker="o", ms=1.5,
                label=words(condition),
            )  # fmt: skip
        _orientation_axis(axes)
        axes.set_xlabel("Orientation (deg)")
        axes.set_ylabel(f"{_SHORT.get(_kind(measure), 'Value')} ({_unit(measure)})")
        if _kind(measure) == "signed":
            axes.axhline(0, color=theme.INK, lw=0.6)
            reach = max(abs(limit) for limit in axes.get_ylim())
            axes.set_ylim(-reach, reach)
    grid.legend(least=1)
    caption = (
        "Frozen networks on the same probe images. Bands: 95 % intervals over seeds. "
        f"{panels.counts(frame, 'bin')}"
    )
    return grid.finish("Orientation bias of each condition", caption)


@theme.styled
def contrast_forest(frame: pd.DataFrame) -> Figure:
    """Every contrast between conditions with its interval; registered ones are filled.

    Args:
        frame: status (`co-primary` or other), measure, condition, minus, estimate, ci_low, ci_high,
            p_adjusted, n, seeds.

    Returns:
        One panel per kind of contrast, one row per contrast, the adjusted p beside it.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    columns = [*_INTERVAL, "status", "measure", "condition", "minus", "p_adjusted", "estimate"]
    panels.require(frame, columns, "contrast_forest")
    several = frame[["condition", "minus"]].drop_duplicates().shape[0] > 1
    labels = frame["measure"].map(_contrast_label)
    parts = [(label, frame[labels == label]) for label in dict.fromkeys(labels)]
    heights = [len(part) + 1.6 for _, part in parts]
    figure = Figure(
        figsize=(theme.DOUBLE_CM * theme.CM, (0.42 * sum(heights) + 0.9 * len(parts)) * theme.CM),
        layout="constrained",
    )
    spec = figure.add_gridspec(len(parts), 1, height_ratios=heights)
    cells = {}
    for i, (label, part) in enumerate(parts):
        axes = figure.add_subplot(spec[i])
        _forest(axes, part.iloc[::-1], several)
        axes.set_xlabel(label)
        cells[i, 0] = (axes, part)
    grid = panels.Grid(figure, True, cells)
    one = (
        f"{words(frame['condition'].iloc[0])} minus {words(frame['minus'].iloc[0])}. ".capitalize()
    )
    caption = (
        f"{'' if several else one}Filled: registered beforehand (p by Holm); open: "
        "exploratory (q by Benjamini and Hochberg). Bars: 95 % intervals over seeds. "
        f"{panels.counts(frame, 'contrast')}"
    )
    return grid.finish("Does rearing move the bias?", caption)


def _forest(axes: Axes, part: pd.DataFrame, several: bool) -> None:
    rows = part.to_dict("records")
    labels = []
    for y, row in enumerate(rows):
        first = row["status"] == CO_PRIMARY
        colour = theme.PALETTE[0] if first else theme.PALE
        axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, lw=1.4 if first else 1.0)
        axes.plot(
            row["estimate"], y, "o", ms=4, color=colour, mfc=colour if first else "white", zorder=3
        )
        pair = f" ({words(row['condition'])} \u2212 {words(row['minus'])})" if several else ""
        labels.append(measure_name(row["measure"]) + pair)
        symbol = "p" if first else "q"
        p = row["p_adjusted"]
        text = f"{symbol} = {p:.3f}" if np.isfinite(p) else f"{symbol} unknown"
        axes.text(1.01, y, text, transform=axes.get_yaxis_transform(), va="center")
    axes.axvline(0, color=theme.INK, lw=0.6)
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.grid(axis="x")


@theme.styled
def bias_trajectory(frame: pd.DataFrame, unit: str = "images seen") -> Figure:
    """Contrasts between conditions along training.

    Args:
        frame: measure, condition, minus, epoch, estimate, ci_low, ci_high, n, seeds.
        unit: of the column epoch.

    Returns:
        One panel per measure, one curve per pair of conditions; training on a logarithmic axis,
        untrained networks (0) at its left end.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    columns = [*_INTERVAL, "measure", "condition", "minus", "epoch", "estimate"]
    panels.require(frame, columns, "bias_trajectory")
    pair = frame["condition"].map(words) + " minus " + frame["minus"].map(words)
    named = frame.assign(shown=frame["measure"].map(measure_name), pair=pair)
    grid = panels.grid(named, Facets(rows=(), columns=("shown",)))
    styles = _styles(named["pair"], ())
    epochs = sorted(e for e in frame["epoch"].unique() if e > 0)
    start = epochs[0] / 2 if epochs else 1.0
    ticks = [*([start] if (frame["epoch"] == 0).any() else []), *epochs]
    labels = ["0"] * (len(ticks) - len(epochs)) + [
        f"{e:g}" if e < 1000 else f"{e / 1000:g}k" for e in epochs
    ]
    for axes, part in grid:
        for name, curve in part.groupby("pair", sort=False):
            at = curve.assign(x=curve["epoch"].where(curve["epoch"] > 0, start))
            panels.band(axes, "x", "estimate", at, **styles[name], marker="o", label=name)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticklabels(labels)
        axes.axhline(0, color=theme.INK, lw=0.6)
        axes.set_xlabel(f"Training ({unit})")
        axes.set_ylabel(f"Contrast ({_unit(part['measure'].iloc[0])})")
    grid.legend(least=1)
    caption = f"Bands: 95 % intervals over seeds. {panels.counts(frame, 'epoch')}"
    return grid.finish("Bias over training", caption)


@theme.styled
def bias_after_tuning(frame: pd.DataFrame, unit: str = "deg") -> Figure:
    """Contrasts between conditions before and after adaptation with ever more examples.

    Args:
        frame: dataset, protocol, condition, minus, quantity (`contrast_before`, `contrast_after`;
            others are left out), estimate, ci_low, ci_high, n, seeds.
        unit: of the contrasts.

    Returns:
        One panel per protocol; datasets in order of appearance, frozen networks first.

    Raises:
        ValueError: if a column is missing or nothing is left.
    """
    columns = [*_INTERVAL, "dataset", "protocol", "condition", "minus", "quantity", "estimate"]
    panels.require(frame, columns, "bias_after_tuning")
    kept = frame[frame["quantity"].isin(("contrast_before", "contrast_after"))]
    panels.require(kept, columns, "bias_after_tuning")
    datasets = list(kept["dataset"].unique())
    before = kept["quantity"] == "contrast_before"
    place = kept["dataset"].map({name: i + 1 for i, name in enumerate(datasets)})
    pair = kept["condition"].map(words) + " minus " + kept["minus"].map(words)
    named = kept.assign(x=place.where(~before, 0), pair=pair)
    named = named.drop_duplicates(["protocol", "pair", "x"])
    grid = panels.grid(named, Facets(rows=(), columns=("protocol",)))
    pairs = list(named["pair"].unique())
    colours = theme.colours(pairs)
    for axes, part in grid:
        for i, (name, own) in enumerate(part.groupby("pair", sort=False)):
            x = own["x"] + 0.16 * (i - (len(pairs) - 1) / 2)
            axes.vlines(x, own["ci_low"], own["ci_high"], color=colours[name], lw=1.2)
            axes.plot(
                x, own["estimate"], theme.MARKERS[i % len(theme.MARKERS)], color=colours[name],
                ms=4, label=name,
            )  # fmt: skip
        axes.axhline(0, color=theme.INK, lw=0.6)
        axes.set_xticks(range(len(datasets) + 1), ["frozen", *map(words, datasets)])
        axes.set_xlim(-0.5, len(datasets) + 0.5)
    grid.label("Read-out or adaptation (data set)", f"Bias contrast ({unit})")
    grid.legend(least=1)
    caption = (
        "Contrast of the 4-cycle component of the error between conditions. Bars: 95 % intervals "
        f"over seeds. {panels.counts(named, 'point')}"
    )
    return grid.finish("What adaptation leaves of the bias", caption)


@theme.styled
def bias_planes(frame: pd.DataFrame) -> Figure:
    """Where the biases of networks of turned pictures lie, and where they are predicted to lie.

    Args:
        frame: measure, part (`pictures`, `lattice`, `misfit`), c4, s4, n, seeds.

    Returns:
        One panel per measure: the plane of both components with the mean of every condition.

    Raises:
        ValueError: if a column is missing or frame is empty.
    """
    panels.require(frame, ["measure", "part", "c4", "s4", "n", "seeds"], "bias_planes")
    kept = frame[frame["part"].isin(("pictures", "lattice", "misfit"))]
    named = kept.assign(shown=kept["measure"].map(measure_name))
    grid = panels.grid(named, Facets(rows=(), columns=("shown",), height_cm=5.0))
    for axes, part in grid:
        z = {row["part"]: complex(row["c4"], row["s4"]) for row in part.to_dict("records")}
        lattice, pictures = z["lattice"], z["pictures"]
        predicted = lattice + 1j * pictures
        places = {
            "upright": lattice + pictures,
            "turned by 45 deg": lattice - pictures,
            "turned by 22.5 deg": predicted + z["misfit"],
        }
        for place in (lattice + pictures, lattice - pictures, predicted):
            ends = np.array([lattice, place])
            axes.plot(ends.real, ends.imag, color=theme.PALE, lw=0.6)
        circle = predicted + abs(pictures) / 2 * np.exp(2j * np.pi * np.linspace(0, 1, 90))
        axes.plot(circle.real, circle.imag, color=theme.PALE, ls=(0, (2, 1)), label="prediction")
        axes.plot(lattice.real, lattice.imag, "+", color=theme.INK, label="lattice alone")
        for (name, place), colour, marker in zip(
            places.items(), theme.PALETTE, theme.MARKERS, strict=False
        ):
            axes.plot(place.real, place.imag, marker, color=colour, ls="", ms=5, label=name)
        axes.set_aspect("equal", adjustable="datalim")
        unit = _unit(part["measure"].iloc[0])
        axes.set_xlabel(f"cos 4\u03b8 ({unit})")
        axes.set_ylabel(f"sin 4\u03b8 ({unit})")
    grid.legend(least=1)
    caption = (
        "Factors of the 4-cycle component, means over seeds. Dashed: as far from the prediction as "
        f"half of what turns with the pictures. {panels.counts(kept, 'point')}"
    )
    return grid.finish("Does the bias turn with the pictures?", caption)
