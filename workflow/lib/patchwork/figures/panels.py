"""What every figure shares: checked frames, a grid of panels, and counts for captions."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from patchwork.figures import theme

BACKBONE = "backbone"
_SPACE = "\u00a0"  # no line break within a count


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
    if not columns:
        return [()]
    return list(frame[list(columns)].drop_duplicates().itertuples(index=False, name=None))


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
    aside: bool = False
    """Name the rows once, left of them, in place of in every heading."""


@dataclass(frozen=True)
class _Cell:
    heading: str
    row: str
    part: pd.DataFrame


@dataclass
class Grid:
    """Panels of one figure, each with its part of the frame."""

    figure: Figure
    wrapped: bool = False
    cells: dict[tuple[int, int], tuple[Axes, pd.DataFrame]] = field(default_factory=dict)
    row_names: dict[int, str] = field(default_factory=dict)
    strip_pt: float = 0.0

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
            y: quantity with unit; rows named aside get their name above it.
        """
        for (row, column), (axes, _) in self.cells.items():
            if (row + 1, column) not in self.cells:
                axes.set_xlabel(x)
            if not any((row, left) in self.cells for left in range(column)):
                name = self.row_names.get(row)
                axes.set_ylabel(f"{name}\n{y}" if name else y, multialignment="center")

    def share_y(self) -> None:
        """Give the panels of one protocol (one column of an unwrapped grid) the same limits."""
        if self.wrapped:
            return
        self._share_y(1)

    def share_y_of_rows(self) -> None:
        """Give the panels of one row the same limits."""
        self._share_y(0)

    def _share_y(self, place: int) -> None:
        """The same limits for panels whose cells agree in row (0) or column (1)."""
        for same in {cell[place] for cell in self.cells}:
            panels = [axes for cell, (axes, _) in self.cells.items() if cell[place] == same]
            low = min(axes.get_ylim()[0] for axes in panels)
            high = max(axes.get_ylim()[1] for axes in panels)
            for axes in panels:
                axes.set_ylim(low, high)

    def legend(self, columns: int | None = None, *, least: int = 2) -> None:
        """One legend for all panels, above them, of the labelled artists if there are enough."""
        found: dict[str, Any] = {}
        for axes in self.axes:
            found |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        if len(found) < least:
            return
        width, height = self.figure.get_size_inches()
        widest = max(theme.text_width(name) for name in found) + 5 * theme.TEXT_PT
        ncols = columns or max(1, min(len(found), int(72 * width / widest)))
        lines = -(-len(found) // ncols)
        extra_pt = theme.TEXT_PT * (1 + 1.5 * lines)
        self.figure.set_size_inches(width, height + extra_pt / 72)
        self.figure.legend(list(found.values()), list(found), loc="outside upper left", ncols=ncols)
        self.strip_pt = extra_pt

    def finish(self, title: str, caption: str) -> Figure:
        """Set title and caption, and give the legend its own strip below the title."""
        figure = theme.finish(self.figure, title, caption)
        engine = figure.get_layout_engine()
        assert engine is not None
        left, bottom, width, height = engine.get()["rect"]
        for legend in figure.legends:
            legend.set_loc("upper left")
            legend.set_bbox_to_anchor((left, bottom, width, height), transform=figure.transFigure)
        strip = self.strip_pt / 72 / figure.get_size_inches()[1]
        engine.set(rect=(left, bottom, width, height - strip))  # type: ignore[call-arg]
        return figure


def _spots(n_rows: int, n_columns: int, facets: Facets) -> dict[tuple[int, int], tuple[int, int]]:
    """Where each combination of row and column stands: one row of panels may be wrapped."""
    every = itertools.product(range(n_rows), range(n_columns))
    n_lines = -(-n_columns // facets.most_columns)
    length = -(-n_columns // n_lines)  # four panels stand two by two, not three and one
    return {(r, c): divmod(c, length) if n_rows == 1 else (r, c) for r, c in every}


def _select(frame: pd.DataFrame, keys: Sequence[str], values: Sequence[Any]) -> pd.DataFrame:
    for key, value in zip(keys, values, strict=True):
        frame = frame[frame[key].isna() if pd.isna(value) else frame[key] == value]
    return frame


def _name(keys: Sequence[str], values: Sequence[Any], shown: Sequence[str]) -> str:
    return ", ".join(words(v) for k, v in zip(keys, values, strict=True) if k in shown)


def _place(frame: pd.DataFrame, facets: Facets) -> dict[tuple[int, int], _Cell]:
    """Cut the frame; each combination that has rows, by where it stands."""
    rows = [c for c in facets.rows if c in frame.columns]
    columns = [c for c in facets.columns if c in frame.columns]
    shown = [*varying(frame, *rows, *columns), *columns[:1], *rows[:1]]
    down, across = levels(frame, *rows), levels(frame, *columns)
    cells = {}
    for (r, c), spot in _spots(len(down), len(across), facets).items():
        part = _select(frame, [*rows, *columns], [*down[r], *across[c]])
        row, column = _name(rows, down[r], shown), _name(columns, across[c], shown)
        if not part.empty:
            heading = column if facets.aside else ", ".join(filter(None, (column, row)))
            cells[spot] = _Cell(heading, row if facets.aside else "", part)
    return cells


def grid(frame: pd.DataFrame, facets: Facets) -> Grid:
    """Lay the panels of a frame out: protocols side by side, datasets below each other.

    Args:
        frame: tidy rows; facet columns that it lacks are ignored.
        facets: how to cut it.

    Returns:
        Panels with headings; 8 cm wide for one panel, 17 cm for more.
    """
    cells = _place(frame, facets)
    n_rows, n_columns = (1 + max(spot[axis] for spot in cells) for axis in (0, 1))
    width = facets.single_cm if n_columns == 1 else theme.DOUBLE_CM
    room = 72 * theme.CM * width / n_columns - 5 * theme.TEXT_PT
    headings = {spot: theme.wrap(cell.heading, room, weight="bold") for spot, cell in cells.items()}
    lines = max(len(text) for text in headings.values())
    height = n_rows * (facets.height_cm + 0.32 * lines)
    figure = Figure(figsize=(width * theme.CM, height * theme.CM), layout="constrained")
    wrapped = len(levels(frame, *[c for c in facets.rows if c in frame.columns])) == 1
    result = Grid(figure, wrapped)
    spec = figure.add_gridspec(n_rows, n_columns)
    for spot in sorted(cells):
        axes = figure.add_subplot(spec[spot])
        axes.set_title("\n".join(headings[spot]), parse_math=False)
        result.cells[spot] = (axes, cells[spot].part)
        result.row_names.setdefault(spot[0], cells[spot].row)
    return result


def band(axes: Axes, x: str, y: str, part: pd.DataFrame, **style: Any) -> None:
    """Draw estimates as a line with points and their interval as a band.

    Args:
        axes: where.
        x: column of the abscissa.
        y: column of the estimate.
        part: rows of one curve, with ``ci_low`` and ``ci_high`` in the unit of y.
        style: passed to the line; ``color`` also colours the band.
    """
    ordered = part.sort_values(x)
    axes.fill_between(
        ordered[x], ordered["ci_low"], ordered["ci_high"], color=style["color"], alpha=0.2, lw=0
    )
    axes.plot(ordered[x], ordered[y], **style)


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
    parts = [f"n{_SPACE}={_SPACE}{span(frame['n'])} per {per}"] if "n" in frame.columns else []
    if "seeds" in frame.columns:
        parts.append(f"seeds:{_SPACE}{span(frame['seeds'])}")
    elif "seed" in frame.columns:
        parts.append(f"seeds:{_SPACE}{frame['seed'].nunique()}")
    return "; ".join(parts) + "." if parts else ""
