"""What every figure shares: checked frames, a grid of panels, and counts for captions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from patchwork.figures import theme

BACKBONE = "backbone"


def require(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Refuse a frame that lacks a column or has no rows.

    Raises:
        ValueError: one line with the figure, the missing columns and those present.
    """
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ValueError(f"{what}: frame lacks {missing}; it has {sorted(map(str, frame.columns))}")
    if frame.empty:
        raise ValueError(f"{what}: frame has 0 rows; at least 1 is needed")


def words(name: Any) -> str:
    """A name as a reader would write it: underscores become spaces."""
    return str(name).replace("_", " ")


def levels(frame: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """Distinct combinations of the columns, in order of appearance."""
    return list(dict.fromkeys(frame[list(columns)].itertuples(index=False, name=None)))


def varying(frame: pd.DataFrame, *columns: str) -> list[str]:
    """Those of the columns that the frame has with more than one value."""
    return [c for c in columns if c in frame.columns and frame[c].nunique(dropna=False) > 1]


@dataclass(frozen=True)
class Facets:
    """How a frame is cut into panels: rows, columns, panel size (cm).

    One row of panels that is too long is wrapped; a combination without rows gets no panel.
    """

    rows: Sequence[str] = ("dataset",)
    columns: Sequence[str] = ("protocol", BACKBONE)
    height_cm: float = 4.2
    most_columns: int = 3
    single_cm: float = theme.SINGLE_CM


@dataclass
class Grid:
    """Panels of one figure, each with its part of the frame."""

    figure: Figure
    cells: dict[tuple[int, int], tuple[Axes, pd.DataFrame]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[Axes, pd.DataFrame]]:
        """Panels with their rows of the frame, in reading order."""
        return iter(self.cells.values())

    @property
    def axes(self) -> list[Axes]:
        """Panels in reading order."""
        return [axes for axes, _ in self.cells.values()]

    def label(self, x: str, y: str) -> None:
        """Label the lowest panel of each column and the first panel of each row.

        Args:
            x: quantity with unit.
            y: quantity with unit.
        """
        for (row, column), (axes, _) in self.cells.items():
            if (row + 1, column) not in self.cells:
                axes.set_xlabel(x)
            if not any((row, left) in self.cells for left in range(column)):
                axes.set_ylabel(y)

    def share_y(self) -> None:
        """Give the panels of one protocol (one column of an unwrapped grid) the same limits."""
        for column in {c for _, c in self.cells}:
            stack = [axes for (_, c), (axes, _) in self.cells.items() if c == column]
            low = min(axes.get_ylim()[0] for axes in stack)
            high = max(axes.get_ylim()[1] for axes in stack)
            for axes in stack:
                axes.set_ylim(low, high)

    def legend(self, columns: int | None = None) -> None:
        """One legend for all panels, above them, from the labelled artists of each."""
        found: dict[str, Any] = {}
        for axes in self.axes:
            found |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        if len(found) < 2:
            return
        room = 72 * self.figure.get_size_inches()[0]
        widest = max(theme.text_width(name) for name in found) + 5 * theme.TEXT_PT
        fitting = max(1, min(len(found), int(room / widest)))
        self.figure.legend(
            list(found.values()), list(found), loc="outside upper left", ncols=columns or fitting
        )


def _heading(keys: Sequence[str], values: Sequence[Any], shown: Sequence[str]) -> str:
    return ", ".join(words(v) for k, v in zip(keys, values, strict=True) if k in shown)


def _place(
    frame: pd.DataFrame, facets: Facets
) -> tuple[dict[tuple[int, int], tuple[str, pd.DataFrame]], int, int]:
    """Where each combination stands, its heading and rows; then the grid's size."""
    rows = [c for c in facets.rows if c in frame.columns]
    columns = [c for c in facets.columns if c in frame.columns]
    shown = varying(frame, *rows, *columns) + columns[:1] + rows[:1]
    across = levels(frame, *columns) if columns else [()]
    down = levels(frame, *rows) if rows else [()]
    wrapped = len(down) == 1
    cells: dict[tuple[int, int], tuple[str, pd.DataFrame]] = {}
    for r, row in enumerate(down):
        for c, column in enumerate(across):
            keys, values = [*columns, *rows], [*column, *row]
            part = frame
            for key, value in zip(keys, values, strict=True):
                part = part[part[key].isna() if pd.isna(value) else part[key] == value]
            if part.empty:
                continue
            spot = divmod(c, facets.most_columns) if wrapped else (r, c)
            cells[spot] = (_heading(keys, values, shown), part)
    return cells, max(r for r, _ in cells) + 1, max(c for _, c in cells) + 1


def grid(frame: pd.DataFrame, facets: Facets) -> Grid:
    """Lay the panels of a frame out: protocols side by side, datasets below each other.

    Args:
        frame: tidy rows; facet columns that it lacks are ignored.
        facets: how to cut it.

    Returns:
        Panels with headings; 8 cm wide for one panel, 17 cm for more.
    """
    cells, n_rows, n_columns = _place(frame, facets)
    width = facets.single_cm if n_columns == 1 else theme.DOUBLE_CM
    room = 72 * theme.CM * width / n_columns - 5 * theme.TEXT_PT
    headings = {spot: theme.wrap(text, room, weight="bold") for spot, (text, _) in cells.items()}
    lines = max(len(text) for text in headings.values())
    height = n_rows * (facets.height_cm + 0.32 * lines)
    figure = Figure(figsize=(width * theme.CM, height * theme.CM), layout="constrained")
    result = Grid(figure)
    spec = figure.add_gridspec(n_rows, n_columns)
    for spot in sorted(cells):
        axes = figure.add_subplot(spec[spot])
        axes.set_title("\n".join(headings[spot]), parse_math=False)
        result.cells[spot] = (axes, cells[spot][1])
    return result


def span(values: pd.Series) -> str:
    """Smallest to largest of the values as text, once if they agree.

    Args:
        values: whole numbers; missing ones are left out.

    Returns:
        For example ``3``, ``2 to 5`` or ``not given``.
    """
    known = pd.to_numeric(values).dropna()
    if known.empty:
        return "not given"
    low, high = f"{known.min():,.0f}", f"{known.max():,.0f}"
    return low if low == high else f"{low} to {high}"


def counts(frame: pd.DataFrame, per: str) -> str:
    """Sentence with n and seeds read from the frame.

    Args:
        frame: rows with ``n`` and ``seeds`` (numbers of seeds), or one ``seed`` per row; what it
            lacks is left out.
        per: what one n counts for, for example ``bin``.

    Returns:
        For example ``n = 180 to 220 per bin; seeds: 3.``, or empty text.
    """
    parts = [f"n = {span(frame['n'])} per {per}"] if "n" in frame.columns else []
    if "seeds" in frame.columns:
        parts.append(f"seeds: {span(frame['seeds'])}")
    elif "seed" in frame.columns:
        parts.append(f"seeds: {frame['seed'].nunique()}")
    return "; ".join(parts) + "." if parts else ""
