"""The claims: verdicts at a glance, a table as a figure, and a page."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from patchwork.figures import panels, theme
from patchwork.figures.panels import words

NEEDED = [
    "claim", "protocol", "statement", "published", "estimate", "ci_low", "ci_high", "control",
    "control_estimate", "verdict",
]  # fmt: skip
NONE = "\u2013"  # en dash
_MINUS = "\u2212"
_PAD = 4.0  # points
_LINE = theme.LINE_HEIGHT * theme.TEXT_PT


@dataclass(frozen=True)
class Column:
    """Heading and width (points) of one column of the drawn table."""

    name: str
    width: float


COLUMNS = (
    Column("Claim", 28),
    Column("Statement", 122),
    Column("Protocol", 58),
    Column("Published", 54),
    Column("Estimate [95 % interval]", 84),
    Column("Control", 72),
    Column("Verdict", 58),
)


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


def estimate(row: Any) -> str:
    """Estimate with its interval, or a dash."""
    text = number(row["estimate"])
    if text == NONE or number(row["ci_low"]) == NONE:
        return text
    return f"{text} [{number(row['ci_low'])}, {number(row['ci_high'])}]"


def control(row: Any) -> str:
    """The control's name and estimate, or a dash."""
    name, text = number(row["control"]), number(row["control_estimate"])
    return words(name) if text == NONE else f"{words(name)}: {text}"


def _check(frame: pd.DataFrame, what: str) -> None:
    panels.require(frame, NEEDED, what)
    odd = sorted(set(frame["verdict"].astype(str)) - set(theme.VERDICTS))
    if odd:
        raise ValueError(f"{what}: verdict is {odd[0]!r}; allowed is {sorted(theme.VERDICTS)}")


def _cells(row: Any, first: bool) -> list[list[str]]:
    """Wrapped lines of each column; a claim's statement stands in its first row only."""
    texts = [
        str(row["claim"]) if first else "", str(row["statement"]) if first else "",
        words(row["protocol"]), number(row["published"]) if first else "", estimate(row),
        control(row), words(row["verdict"]),
    ]  # fmt: skip
    return [
        theme.wrap(text, column.width - _PAD) if text else []
        for text, column in zip(texts, COLUMNS, strict=True)
    ]


def _blocks(frame: pd.DataFrame) -> list[list[list[list[str]]]]:
    """Claims, their rows, the cells of a row, the lines of a cell."""
    return [
        [_cells(row, first=i == 0) for i, row in enumerate(group.to_dict("records"))]
        for _, group in frame.groupby("claim", sort=False)
    ]


def _heights(block: list[list[list[str]]]) -> list[float]:
    """Height of each row of a claim, points; the last grows if the statement needs it."""
    # The claim, its statement and what was published run down beside the rows of protocols.
    tall = [_PAD + _LINE * max(len(cells[c]) for c in (2, 4, 5, 6)) for cells in block]
    beside = _PAD + _LINE * max(len(block[0][c]) for c in (0, 1, 3))
    tall[-1] += max(0.0, beside - sum(tall))
    return tall


def _write(axes: Axes, y: float, cells: Sequence[Sequence[str]], *, bold: bool = False) -> None:
    x = _PAD
    for column, lines in zip(COLUMNS, cells, strict=True):
        for i, line in enumerate(lines):
            # One text per line, on its baseline: else the glyphs' heights move the lines.
            base = y + _PAD / 2 + theme.TEXT_PT + i * _LINE
            axes.text(x, base, line, va="baseline", weight="bold" if bold else "normal",
                      parse_math=False)  # fmt: skip
        x += column.width


def _flag(axes: Axes, y: float, said: Sequence[str]) -> None:
    (verdict,) = (name for name in theme.VERDICTS if words(name) == " ".join(said))
    x = _PAD + sum(column.width for column in COLUMNS[:-1]) - 2
    box = FancyBboxPatch(
        (x, y + _PAD / 2 - 1), COLUMNS[-1].width - _PAD, _LINE * len(said) + 1,
        boxstyle="round,pad=0,rounding_size=2", fc=theme.VERDICTS[verdict], alpha=0.55, lw=0,
    )  # fmt: skip
    axes.add_patch(box)


@theme.styled
def claims_table(frame: pd.DataFrame) -> Figure:
    """Every claim with its estimates, controls and verdicts.

    Args:
        frame: claim, protocol, statement, published, estimate, ci_low, ci_high, control,
            control_estimate, verdict; optionally n, seeds. One row per claim and protocol; text or
            numbers in the statement's unit, missing ones are dashes.

    Returns:
        A table of 17 cm width, as tall as its text.

    Raises:
        ValueError: if a column is missing, frame is empty, or a verdict is not in `theme.VERDICTS`.
    """
    _check(frame, "claims_table")
    blocks = _blocks(frame)
    head = [theme.wrap(c.name, c.width - _PAD, weight="bold") for c in COLUMNS]
    y = _PAD + _LINE * max(len(lines) for lines in head)
    total = y + sum(sum(_heights(block)) for block in blocks) + _PAD
    figure, axes = theme.blank(theme.DOUBLE_CM, total / 72 / theme.CM)
    _write(axes, 0, head, bold=True)
    right = sum(column.width for column in COLUMNS)
    for block in blocks:
        axes.plot([_PAD, right], [y, y], color=theme.PALE, lw=0.5)
        for cells, height in zip(block, _heights(block), strict=True):
            _flag(axes, y, cells[-1])
            _write(axes, y, cells)
            y += height
    tally = ", ".join(f"{words(v)} {n}" for v, n in frame["verdict"].value_counts().items())
    caption = (
        f"Claims: {len(blocks)}; rows by verdict: {tally}. {panels.counts(frame, 'row')} "
        f"{NONE}: no number. Each verdict follows from the decision rule of its claim."
    )
    return theme.finish(figure, "Published claims and what became of them", caption.strip())


# A mark beside each colour, for readers who do not see it.
MARKS = {
    "replicates": "\u2713", "artefact": "!", "fails": "\u2717", "undetermined": "?",
    "not_applicable": "\u2013", "identity": "\u2261",
}  # fmt: skip
_CELL = 17.0  # points


def _mark(axes: Axes, x: float, y: float, verdicts: Sequence[str], width: float) -> None:
    """Marks of one claim under one protocol, side by side in one cell."""
    part = (width - 1.5) / len(verdicts)
    for i, verdict in enumerate(verdicts):
        left = x + i * part
        axes.add_patch(Rectangle((left, y), part - 0.5, _CELL - 1.5, lw=0, alpha=0.55,
                                 fc=theme.VERDICTS[verdict]))  # fmt: skip
        axes.text(left + part / 2, y + _CELL / 2 - 1, MARKS[verdict], ha="center", va="center")


@theme.styled
def verdict_grid(frame: pd.DataFrame) -> Figure:
    """Every verdict as one mark: claims from left to right, protocols below each other.

    Args:
        frame: as for `claims_table`, with study.

    Returns:
        A grid of 17 cm width, a row of cells per protocol.

    Raises:
        ValueError: if a column is missing, frame is empty, or a verdict is not in `theme.VERDICTS`.
    """
    panels.require(frame, ["study"], "verdict_grid")
    _check(frame, "verdict_grid")
    protocols = list(dict.fromkeys(frame["protocol"]))
    names = list(dict.fromkeys(frame["claim"]))
    left = 2 * _PAD + max(theme.text_width(words(p)) for p in protocols)
    width = (72 * theme.DOUBLE_CM * theme.CM - left - _PAD) / len(names)
    top = 2 * _LINE + _PAD
    height = top + _CELL * len(protocols)
    figure, axes = theme.blank(theme.DOUBLE_CM, height / 72 / theme.CM)
    for study, rows in frame.groupby("study", sort=False):
        first, last = (names.index(rows["claim"].iloc[i]) for i in (0, -1))
        x = left + first * width
        axes.text(x, theme.TEXT_PT, words(study), va="baseline", weight="bold")
        axes.plot([x, left + (last + 1) * width - 2], [_LINE] * 2, color=theme.PALE, lw=0.8)
    for i, name in enumerate(names):
        axes.text(left + (i + 0.5) * width - 1, _LINE + theme.TEXT_PT + 1, str(name), ha="center",
                  va="baseline")  # fmt: skip
    for (name, protocol), rows in frame.groupby(["claim", "protocol"], sort=False):
        y = top + protocols.index(protocol) * _CELL
        _mark(axes, left + names.index(name) * width, y, list(rows["verdict"]), width)
    for i, protocol in enumerate(protocols):
        axes.text(_PAD, top + (i + 0.5) * _CELL - 1, words(protocol), va="center")
    found = frame["verdict"].value_counts()
    tally = ", ".join(f"{MARKS[str(v)]} {words(v)} ({n})" for v, n in found.items())
    return theme.finish(figure, f"Verdicts on {len(names)} claims under each protocol", tally)


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Claims and verdicts</title>
<style>
body{{font:14px/1.4 system-ui,sans-serif;color:{ink};background:#fff;margin:1rem}}
table{{border-collapse:collapse;width:100%}}
caption{{text-align:left;padding:.3rem 0 .7rem}}
th,td{{text-align:left;vertical-align:top;padding:.35rem .5rem;border-bottom:1px solid #ddd}}
thead th{{border-bottom:2px solid {ink};white-space:nowrap}}
td.verdict span{{padding:.1rem .45rem;border-radius:3px;white-space:nowrap}}
{verdicts}
</style></head><body>
<table><caption>{caption}</caption>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody></table></body></html>
"""


def _html_row(row: Any, named: dict[str, str]) -> str:
    cells = []
    for key in named:
        text = {"estimate": estimate, "control": control}.get(key, lambda r, k=key: number(r[k]))
        content = html.escape(words(row[key]) if key == "protocol" else text(row))
        if key == "verdict":
            content = f'<span class="{content}">{words(content)}</span>'
        tag = "th scope='row'" if key == "claim" else f'td class="{key}"'
        cells.append(f"<{tag}>{content}</{tag[:2]}>")
    return f"<tr>{''.join(cells)}</tr>"


def claims_html(frame: pd.DataFrame) -> str:
    """The table of claims as one self-contained page: no scripts, nothing fetched, all escaped.

    Args:
        frame: as for `claims_table`; study, paper, n, seeds, reason and rule are shown where given.

    Returns:
        HTML text, UTF-8.

    Raises:
        ValueError: if a column is missing, frame is empty, or a verdict is not in `theme.VERDICTS`.
    """
    _check(frame, "claims_html")
    every = {
        "claim": "Claim", "study": "Study", "paper": "Paper", "statement": "Statement",
        "protocol": "Protocol", "published": "Published", "estimate": "Estimate [95 % interval]",
        "n": "n", "seeds": "Seeds", "control": "Control", "verdict": "Verdict", "reason": "Reason",
        "rule": "Rule",
    }  # fmt: skip
    named = {key: title for key, title in every.items() if key in frame.columns}
    tally = ", ".join(f"{words(v)} {n}" for v, n in frame["verdict"].value_counts().items())
    return _PAGE.format(
        ink=theme.INK,
        verdicts="\n".join(f".{name}{{background:{c}8c}}" for name, c in theme.VERDICTS.items()),
        caption=html.escape(
            f"Claims: {frame['claim'].nunique()}; rows by verdict: {tally}. Each verdict follows "
            "from the decision rule of its claim."
        ),
        head="".join(f'<th scope="col">{html.escape(title)}</th>' for title in named.values()),
        body="\n".join(_html_row(row, named) for row in frame.to_dict("records")),
    )
