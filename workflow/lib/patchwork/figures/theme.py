"""One theme for every figure: palette, type sizes, captions; the only place that writes."""

import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Bbox

P = ParamSpec("P")

CM = 1 / 2.54  # inches
SINGLE_CM = 8.0
DOUBLE_CM = 17.0
TEXT_PT = 7.0
TITLE_PT = 9.0
LINE_HEIGHT = 1.3  # of the type size

INK = "#222222"
PALE = "#8c8c8c"
# Okabe and Ito's set: told apart under the common forms of colour blindness. Their yellow is
# left out, for it does not show as a thin line on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DIVERGING = "PuOr_r"  # purple and orange stay apart without red-green vision
SEQUENTIAL = "cividis"
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))
MARKERS = ("v", "o", "s", "D", "^", "P", "X")
VERDICTS = {
    "replicates": "#009E73",
    "artefact": "#E69F00",
    "fails": "#D55E00",
    "undetermined": "#999999",
    "not_applicable": "#DDDDDD",
    "identity": "#56B4E9",
    "not_run": "#FFFFFF",
}

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": TEXT_PT,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": TEXT_PT,
    "axes.titleweight": "bold",
    "figure.dpi": 150,
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same bytes on every machine
    "font.size": TEXT_PT,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "legend.fontsize": TEXT_PT,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.0,
    "savefig.dpi": 300,
    "svg.fonttype": "path",
    "svg.hashsalt": "patchwork",
    "text.color": INK,
    "text.hinting": "none",  # as wide on the page as measured, at every resolution
    "xtick.color": INK,
    "xtick.labelsize": TEXT_PT,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.color": INK,
    "ytick.labelsize": TEXT_PT,
    "ytick.major.size": 2.5,
    "ytick.major.width": 0.6,
}
# Over matplotlib's own defaults, so that a user's matplotlibrc changes nothing. The backend stays.
SETTINGS: dict[Any, Any] = {k: v for k, v in mpl.rcParamsDefault.items() if k != "backend"} | STYLE


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under the theme and leave the caller's matplotlib settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(SETTINGS):
            return draw(*args, **kwargs)

    return wrapper


def colours(names: Iterable[Any]) -> dict[Any, str]:
    """One palette colour per name, in the order given; the palette repeats after seven.

    Args:
        names: hashable labels, repeats allowed.

    Returns:
        Colour as a hexadecimal string by label.
    """
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(dict.fromkeys(names))}


def dashes(names: Iterable[Any]) -> dict[Any, Any]:
    """One line style per name: solid, dashed, dotted, dash-dotted, and again."""
    return {name: DASHES[i % len(DASHES)] for i, name in enumerate(dict.fromkeys(names))}


@functools.lru_cache(maxsize=4096)
def text_width(text: str, size_pt: float = TEXT_PT, weight: str = "normal") -> float:
    """Width in points of one line of text in the theme's typeface."""
    if not text.strip():
        return 0.32 * size_pt * len(text)
    font = FontProperties(family=STYLE["font.family"], weight=weight, size=size_pt)
    # Of outlines, as in the files; their exact extents would take a hundred times as long.
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def wrap(text: str, width_pt: float, size_pt: float = TEXT_PT, weight: str = "normal") -> list[str]:
    """Break text into lines no wider than the width, by measured glyphs.

    Args:
        text: any text; white space is collapsed, but for no-break spaces.
        width_pt: available width, points.
        size_pt: type size, points.
        weight: ``normal`` or ``bold``.

    Returns:
        At least one line. A single word that is too wide is cut where it must be.
    """
    lines: list[str] = []
    for word in re.split(r"[ \t\n]+", text.strip()):  # keeps no-break spaces
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(joined, size_pt, weight) <= width_pt:
            lines[-1] = joined
            continue
        lines.append(word)
        while len(lines[-1]) > 1 and text_width(lines[-1], size_pt, weight) > width_pt:
            whole = lines[-1]
            keep = next(
                (k for k in range(len(whole) - 1, 1, -1)
                 if text_width(whole[:k], size_pt, weight) <= width_pt),
                1,
            )  # fmt: skip
            lines[-1:] = [whole[:keep], whole[keep:]]
    return lines or [""]


def finish(figure: Figure, title: str, caption: str) -> Figure:
    """Set the title above and the caption below the panels, growing the figure to hold both.

    Args:
        figure: figure of the panels alone, with a constrained layout or one bare axes.
        title: the finding's subject.
        caption: what is drawn, n and seeds; plain text.

    Returns:
        The same figure, taller.
    """
    width, height = figure.get_size_inches()
    margin = 4.0  # points
    room = 72 * width - 2 * margin
    head = wrap(title, room, TITLE_PT, "bold")
    foot = wrap(caption, room, TEXT_PT)
    head_pt = LINE_HEIGHT * TITLE_PT * len(head) + 2 * margin
    foot_pt = LINE_HEIGHT * TEXT_PT * len(foot) + 2 * margin
    total = 72 * height + head_pt + foot_pt
    figure.set_size_inches(width, total / 72)
    inside = (0, foot_pt / total, 1, 1 - (head_pt + foot_pt) / total)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=inside)  # type: ignore[call-arg]
    else:
        for axes in figure.axes:
            axes.set_position(inside)
    common: dict[str, Any] = {"ha": "left", "linespacing": LINE_HEIGHT, "parse_math": False}
    x = margin / 72 / width
    y = margin / total
    figure.text(x, 1 - y, "\n".join(head), va="top", size=TITLE_PT, weight="bold", gid="title",
                **common)  # fmt: skip
    figure.text(x, y, "\n".join(foot), va="bottom", size=TEXT_PT, gid="caption", **common)
    return figure


def text_of(figure: Figure, part: str) -> str:
    """The figure's ``title`` or ``caption`` as one line.

    Raises:
        ValueError: if the figure has no such part.
    """
    for text in figure.texts:
        if text.get_gid() == part:
            return " ".join(text.get_text().split())
    raise ValueError(f"part is {part!r}; a finished figure has 'title' and 'caption'")


def blank(width_cm: float, height_cm: float) -> tuple[Figure, Axes]:
    """A figure of one bare axes that fills it, in points with the origin at the top left."""
    figure = Figure(figsize=(width_cm * CM, height_cm * CM))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width_cm * CM * 72), ylim=(height_cm * CM * 72, 0))
    axes.set_axis_off()
    return figure, axes


def save(figure: Figure, stem: str | Path) -> tuple[Path, Path]:
    """Write ``<stem>.svg`` and ``<stem>.png`` (300 dpi); the same figure gives the same bytes.

    Args:
        figure: a finished figure.
        stem: path without ending, in a folder that exists.

    Returns:
        Paths of the SVG and the PNG file.
    """
    svg, png = Path(f"{stem}.svg"), Path(f"{stem}.png")
    with mpl.rc_context(SETTINGS):
        _settle(figure)
        figure.savefig(svg, metadata={"Date": None, "Creator": None})
        figure.savefig(png, dpi=STYLE["savefig.dpi"], metadata={"Software": None})
    return svg, png


def _settle(figure: Figure) -> None:
    """Lay the figure out for good, on a grid of a millionth of its sides.

    The solver behind a constrained layout sums in the order of its variables' addresses, so that
    the last digits of what it places differ from one drawing to the next.
    """
    if figure.get_layout_engine() is None:
        return
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        corners = axes.get_position(original=True).get_points().round(6)
        axes.set_position(Bbox(corners), which="original")
    for text in figure.texts:
        x, y = text.get_position()
        text.set_position((round(x, 6), round(y, 6)))
