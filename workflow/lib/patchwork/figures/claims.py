"""All claims in one picture: estimates, regions and controls, each on an axis of its own."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from patchwork.claims import multiplicity
from patchwork.figures import panels, theme
from patchwork.figures.panels import words

NEEDED = [
    "claim", "study", "protocol", "statement", "published", "unit", "estimate", "ci_low", "ci_high",
    "ci90_low", "ci90_high", "claimed_low", "claimed_high", "control", "control_estimate",
    "control_low", "control_high", "survives_low", "survives_high", "power", "detectable",
    "verdict",
]  # fmt: skip
NONE = "\u2013"  # en dash
_MINUS = "\u2212"
# Where the bounds of a region stand on an axis from 0 to 1.
LOW, HIGH = 1 / 3, 2 / 3
_PAD = 4.0  # points
_LINE = theme.LINE_HEIGHT * theme.TEXT_PT


def number(value: Any) -> str:
    """A number with three significant digits; text as it is; a dash for what is missing."""
    if value is None or (not isinstance(value, str) and pd.isna(value)) or value == "":
        return NONE
    try:
        amount = float(value)
    except (TypeError, ValueError):
        return str(value)
    if abs(amount) < 1e-12:  # what rounding leaves of an exact zero
        return "0"
    if amount.is_integer() and abs(amount) < 1e6:
        return f"{int(amount):,}".replace("-", _MINUS)
    return f"{amount:.3g}".replace("-", _MINUS)


def check(frame: pd.DataFrame, what: str) -> None:
    """Refuses a table of claims that lacks a column or has an unknown verdict."""
    panels.require(frame, NEEDED, what)
    odd = sorted(set(frame["verdict"].astype(str)) - set(theme.VERDICTS))
    if odd:
        raise ValueError(f"{what}: verdict is {odd[0]!r}; allowed is {sorted(theme.VERDICTS)}")


def axis(low: float, high: float, spread: float) -> Callable[[float], float]:
    """Places on an axis from 0 to 1 that lines up the bounds of every region.

    A lower bound stands at 1/3, an upper one at 2/3. Between two bounds the axis is linear; beyond
    a bound it is compressed, so that every number has a place, and starts with the slope that it
    has within.

    Args:
        low: lower bound; -inf for none.
        high: upper bound; inf for none.
        spread: half width of the interval, the unit of a region with one bound only; above 0.

    Returns:
        The place of a number; nan for nan.
    """
    unit = high - low if math.isfinite(high - low) and high > low else spread

    def beyond(distance: float, room: float) -> float:
        """0 at the bound, `room` at infinity, slope 1/3 of the axis a unit at the bound."""
        scale = 3 * room * unit
        return room * (1 - scale / (distance + scale))

    def place(value: float) -> float:
        if math.isnan(value) or math.isnan(low):
            return math.nan
        if value < low:
            return LOW - beyond(low - value, LOW)
        if value > high:
            return HIGH + beyond(value - high, 1 - HIGH)
        if math.isfinite(low):
            within = value - low
            return LOW + (within / unit / 3 if math.isfinite(high) else beyond(within, HIGH))
        return HIGH - beyond(high - value, HIGH) if math.isfinite(high) else 0.5

    return place


@dataclass(frozen=True)
class Strip:
    """One estimate beside the region in which it must lie.

    Attributes:
        region: its lower and upper end, 0 to 1; nan if there is none.
        bounds: the finite bounds, by place.
        wide: ends of the 95 % interval, 0 to 1, or nan.
        deciding: ends of the 90 % interval.
        dot: place of the estimate.
        text: estimate and interval as words.
        needs: the region as words.
    """

    region: tuple[float, float]
    bounds: dict[float, str]
    wide: tuple[float, float]
    deciding: tuple[float, float]
    dot: float
    text: str
    needs: str


def strip(row: Mapping[Any, Any], control: bool = False) -> Strip:
    """What is drawn of the estimate of a claim's row, or of its control."""
    names = ("control_estimate", "control_low", "control_high", "survives_low", "survives_high")
    if not control:
        names = ("estimate", "ci90_low", "ci90_high", "claimed_low", "claimed_high")
    value, low90, high90, low, high = (float(row[name]) for name in names)
    wide = (math.nan, math.nan) if control else (float(row["ci_low"]), float(row["ci_high"]))
    # Without an interval, the distance from the bound is the unit.
    units = [(high90 - low90) / 2, (wide[1] - wide[0]) / 2, abs(value - low), abs(value - high)]
    spread = next((one for one in units if math.isfinite(one) and one > 0), 1.0)
    place = axis(low, high, spread)
    unit = "" if control or not isinstance(row["unit"], str) or math.isnan(value) else row["unit"]
    text = number(value)
    # A run without deciding intervals still has those that are shown.
    shown = (low90, high90) if low90 <= high90 else wide
    if shown[0] <= shown[1]:
        text += f" [{number(shown[0])}, {number(shown[1])}]"
    ends = (low, high)
    bounds = {place(one): number(one) for one in ends if math.isfinite(one)}
    region = tuple(
        side if math.isinf(one) else place(one) for one, side in zip(ends, (0.0, 1.0), strict=True)
    )
    needs = " to ".join(bounds.values())
    if len(bounds) == 1:
        needs = f"{'at least' if math.isfinite(low) else 'at most'} {needs}"
    return Strip(
        region=(region[0], region[1]), bounds=bounds, wide=(place(wide[0]), place(wide[1])),
        deciding=(place(low90), place(high90)), dot=place(value), text=f"{text} {unit}".strip(),
        needs=needs,
    )  # fmt: skip


def chances(row: Mapping[Any, Any]) -> list[str]:
    """Power of the positive control and detectable distance, as far as they are known."""
    said = []
    if pd.notna(row["power"]):
        said.append(f"power {100 * row['power']:.0f} %")
    if pd.notna(row["detectable"]):
        said.append(f"detects {number(row['detectable'])}")
    return said


def tally(frame: pd.DataFrame) -> str:
    """How many verdicts of each kind, and how many may be wrong."""
    found = ", ".join(f"{words(v)} {n}" for v, n in frame["verdict"].value_counts().items())
    return (
        f"{frame['claim'].nunique()} claims, {len(frame)} verdicts: {found}. {multiplicity(frame)}"
    )


# The drawn picture -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """Heading and width (points) of one column of the picture."""

    name: str
    width: float


COLUMNS = (
    Column("Claim", 26),
    Column("Statement", 112),
    Column("Protocol", 56),
    Column("Estimate, claimed region", 112),
    Column("Control, its region", 66),
    Column("Power", 50),
    Column("Verdict", 58),
)
_RIGHT = sum(column.width for column in COLUMNS)


def _cells(row: Mapping[Any, Any], first: bool) -> list[list[str]]:
    """Wrapped lines of each column; a claim's statement stands in its first row only."""
    texts = [
        str(row["claim"]) if first else "", str(row["statement"]) if first else "",
        words(row["protocol"]), "", "", "", words(row["verdict"]),
    ]  # fmt: skip
    cells = [
        theme.wrap(text, column.width - _PAD) if text else []
        for text, column in zip(texts, COLUMNS, strict=True)
    ]
    wide = COLUMNS[5].width - _PAD
    cells[5] = [line for said in chances(row) for line in theme.wrap(said, wide)]
    for i, control in ((3, False), (4, True)):
        said = strip(row, control).text
        # The first line is left to the axis.
        cells[i] = ["", *theme.wrap(said, COLUMNS[i].width - _PAD)] if said != NONE else []
    return cells


def _heights(block: list[list[list[str]]]) -> list[float]:
    """Height of each row of a claim, points; the last grows if the statement needs it."""
    tall = [_PAD + _LINE * max(len(cells[c]) for c in range(2, 7)) for cells in block]
    beside = _PAD + _LINE * max(len(block[0][c]) for c in (0, 1))
    tall[-1] += max(0.0, beside - sum(tall))
    return tall


def _write(axes: Axes, y: float, cells: Sequence[Sequence[str]], *, bold: bool = False) -> None:
    x = _PAD
    for column, lines in zip(COLUMNS, cells, strict=True):
        for i, line in enumerate(lines):
            # One text per line, on its baseline: else the glyphs' heights move the lines.
            base = y + _PAD / 2 + theme.TEXT_PT + i * _LINE
            if line:
                axes.text(x, base, line, va="baseline", weight="bold" if bold else "normal",
                          parse_math=False)  # fmt: skip
        x += column.width


def _flag(axes: Axes, y: float, verdict: str, lines: int) -> None:
    box = FancyBboxPatch(
        (_PAD + _RIGHT - COLUMNS[-1].width - 2, y + _PAD / 2 - 1), COLUMNS[-1].width - _PAD,
        _LINE * lines + 1, boxstyle="round,pad=0,rounding_size=2", fc=theme.VERDICTS[verdict],
        alpha=0.55, lw=0,
    )  # fmt: skip
    axes.add_patch(box)


def _draw(axes: Axes, y: float, column: int, drawn: Strip, colour: str) -> None:
    """One axis: the region as a band, both intervals as lines, the estimate as a dot."""
    left = _PAD + sum(one.width for one in COLUMNS[:column])
    width, middle = COLUMNS[column].width - 2 * _PAD, y + _PAD / 2 + _LINE / 2
    low, high = (left + width * end for end in drawn.region)
    if math.isnan(low):
        return
    axes.add_patch(Rectangle((low, middle - 4), high - low, 8, fc=theme.PALETTE[2], alpha=0.22,
                             lw=0, gid="region"))  # fmt: skip
    axes.plot([left, left + width], [middle] * 2, color=theme.PALE, lw=0.4)
    for ends, thick in ((drawn.wide, 0.9), (drawn.deciding, 2.4)):
        axes.plot([left + width * end for end in ends], [middle] * 2, color=colour, lw=thick,
                  solid_capstyle="butt")  # fmt: skip
    axes.plot(left + width * drawn.dot, middle, "o" if column == 3 else "D", color=colour, ms=3)


@theme.styled
def claims_picture(frame: pd.DataFrame) -> Figure:
    """Every claim with estimate, region, control, power and verdict, sorted by study.

    Args:
        frame: the table ``claims.csv``, one row per claim and protocol; missing numbers are nan.

    Returns:
        A picture of 17 cm width, as tall as its rows.

    Raises:
        ValueError: if a column is missing, frame is empty, or a verdict is not in `theme.VERDICTS`.
    """
    check(frame, "claims_picture")
    blocks = [
        rows.to_dict("records")
        for _, part in frame.groupby("study", sort=False)
        for _, rows in part.groupby("claim", sort=False)
    ]
    cells = [[_cells(row, first=i == 0) for i, row in enumerate(rows)] for rows in blocks]
    head = [theme.wrap(c.name, c.width - _PAD, weight="bold") for c in COLUMNS]
    y = _PAD + _LINE * max(len(lines) for lines in head)
    titles = _LINE + 2 * _PAD
    studies = frame["study"].nunique()
    total = y + sum(sum(_heights(block)) for block in cells) + studies * titles + _PAD
    figure, axes = theme.blank(theme.DOUBLE_CM, total / 72 / theme.CM)
    _write(axes, 0, head, bold=True)
    study = None
    for rows, block in zip(blocks, cells, strict=True):
        if rows[0]["study"] != study:
            study = rows[0]["study"]
            axes.text(_PAD, y + titles - _PAD, words(study), va="baseline", weight="bold",
                      size=theme.TITLE_PT)  # fmt: skip
            y += titles
        axes.plot([_PAD, _RIGHT], [y, y], color=theme.PALE, lw=0.5)
        for row, lines, height in zip(rows, block, _heights(block), strict=True):
            _flag(axes, y, row["verdict"], len(lines[-1]))
            _write(axes, y, lines)
            _draw(axes, y, 3, strip(row), theme.INK)
            _draw(axes, y, 4, strip(row, control=True), theme.PALETTE[0])
            y += height
    caption = (
        f"{tally(frame)} Dot: estimate; thick line and numbers: 90 % interval, which decides; thin "
        "line: 95 %. Band: where it must lie. Each axis has the scale of its region: bounds at a "
        "third and two thirds, compressed beyond. Power: share of planted effects that the "
        "analysis finds; detects: distance from a bound that is decided in 80 % of repetitions. "
        f"{panels.counts(frame, 'row')}"
    )
    return theme.finish(figure, "Published claims and what became of them", caption.strip())
