"""The claims as a page for a browser, on a phone too."""

import html
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from patchwork.figures import theme
from patchwork.figures.claims import NONE, Strip, chances, check, number, strip, tally
from patchwork.figures.panels import words

# A mark beside each colour, for readers who do not see it.
MARKS = {
    "replicates": "\u2713", "artefact": "!", "fails": "\u2717", "undetermined": "?",
    "not_applicable": "\u2013", "identity": "\u2261", "not_run": "\u00b7",
}  # fmt: skip

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Claims and verdicts</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<style>
*{{box-sizing:border-box}}
body{{font:15px/1.4 system-ui,sans-serif;color:{ink};background:#fff;margin:1rem auto;
max-width:72rem;padding:0 .8rem;overflow-wrap:anywhere}}
h1{{font-size:1.4rem}} h2{{font-size:1.2rem;margin:2rem 0 0;text-transform:capitalize}}
h3{{font-size:1rem;margin:1.2rem 0 .1rem}}
small,.says,.power,details{{font-size:.82rem;color:#444}}
.row{{display:grid;grid-template-columns:6.5rem minmax(0,3fr) minmax(0,2fr) 7.5rem 8.5rem;
gap:.2rem .9rem;padding:.4rem 0;border-top:1px solid #ddd}}
.row>details{{grid-column:2/-1}}
a.strip{{display:block;color:inherit;text-decoration:none}}
a.strip[href]:hover .axis,a.strip[href]:focus .axis{{outline:2px solid #0072B2}}
.axis{{display:block;position:relative;height:1.3rem;background:linear-gradient(#bbb,#bbb) 0 50%/
100% 1px no-repeat;margin-bottom:1rem}}
.axis i,.axis b{{position:absolute;top:50%;transform:translateY(-50%)}}
.axis .region{{height:100%;background:#009E7338}}
.axis .wide{{height:2px;min-width:2px;background:{ink}}}
.axis .deciding{{height:6px;min-width:2px;background:{ink}}}
.axis .dot{{width:11px;height:11px;margin-left:-5.5px;border-radius:50%;background:{ink};
border:2px solid #fff}}
.control .deciding,.control .dot{{background:{blue}}} .control .dot{{border-radius:0;width:9px;
height:9px;margin-left:-4.5px;transform:translateY(-50%) rotate(45deg)}}
.axis b{{top:100%;transform:translateX(-50%);font:.72rem/1rem system-ui,sans-serif;color:#555}}
.says{{display:block}}
.verdict span{{padding:.1rem .45rem;border-radius:3px;white-space:nowrap}}
{verdicts}
@media (max-width:48rem){{
.row{{grid-template-columns:minmax(0,1fr) auto}}
.strip,.row>details{{grid-column:1/-1}}
.protocol{{order:-2}} .verdict{{order:-1}} .power{{grid-column:1/-1}}
.power span{{margin-right:1rem}}
}}
@media (min-width:48.01rem){{.power span{{display:block}}}}
</style></head><body>
<h1>Claims and verdicts</h1>
<p>{tally}</p>
<p><small>Dot: estimate; thick line and numbers: 90&nbsp;% interval, which decides; thin line:
95&nbsp;%; band: where it must lie. The second axis is the control's. Each axis has the scale of
its region: its bounds stand at a third and two thirds, and beyond them it is compressed. Power:
share of planted effects that the analysis finds; without 80&nbsp;% of them no claim fails.
Detects: distance from a bound that is decided in 80&nbsp;% of repetitions. A click on an axis
opens the figure that shows it.</small></p>
{body}
</body></html>
"""


def _percent(place: float) -> str:
    return f"{100 * place:.2f}%"


def _span(name: str, ends: tuple[float, float]) -> str:
    low, high = ends
    if math.isnan(low) or math.isnan(high):
        return ""
    return f'<i class="{name}" style="left:{_percent(low)};width:{_percent(high - low)}"></i>'


def _axis(drawn: Strip, name: str, kind: str, link: str) -> str:
    """One axis with what it shows in words above it; empty if there is nothing to show."""
    says = html.escape(f"{name}: {drawn.text}" if drawn.text != NONE else f"{name}: no number")
    opened = f' href="{html.escape(link)}"' if link else ""
    if math.isnan(drawn.region[0]):
        return f'<a class="strip {kind}"{opened}><span class="says">{says}</span></a>'
    label = html.escape(f"{name}: {drawn.text}; must be {drawn.needs}")
    marks = [_span("region", drawn.region), _span("wide", drawn.wide)]
    marks.append(_span("deciding", drawn.deciding))
    if not math.isnan(drawn.dot):
        marks.append(f'<i class="dot" style="left:{_percent(drawn.dot)}"></i>')
    marks += [
        f'<b style="left:{_percent(at)}">{html.escape(text)}</b>'
        for at, text in drawn.bounds.items()
    ]
    axis = f'<span class="axis" role="img" aria-label="{label}">{"".join(marks)}</span>'
    return f'<a class="strip {kind}"{opened}><span class="says">{says}</span>{axis}</a>'


def _row(row: Mapping[Any, Any]) -> str:
    link = row.get("figure", "")
    link = link if isinstance(link, str) else ""
    control = row["control"] if isinstance(row["control"], str) and row["control"] else ""
    against = _axis(strip(row, control=True), f"Control, {control}", "control", link)
    verdict = str(row["verdict"])
    counts = ", ".join(
        f"{name} {number(row[key])}"
        for key, name in (("n", "n ="), ("seeds", "seeds:"))
        if number(row.get(key)) != NONE
    )
    why = " ".join(
        html.escape(f"{text.rstrip('.')}.")
        for text in (str(row.get("reason", "")), counts, str(row.get("rule", "")))
        if text and text != "nan"
    )
    return (
        f'<div class="row"><div class="protocol">{html.escape(words(row["protocol"]))}</div>'
        f"{_axis(strip(row), 'Estimate', 'estimate', link)}"
        f"{against if control else '<span class=strip></span>'}"
        f'<div class="power">{"".join(f"<span>{html.escape(one)}</span> " for one in chances(row))}'
        f'</div><div class="verdict"><span class="{verdict}">{MARKS[verdict]} {words(verdict)}'
        f"</span></div><details><summary>why</summary>{why}</details></div>"
    )


def claims_html(frame: pd.DataFrame) -> str:
    """The claims as one self-contained page: no scripts, nothing fetched, all escaped.

    Args:
        frame: as for `claims_picture`; paper, n, seeds, reason, rule and figure (a path from the
            page, which a click opens) are shown where given.

    Returns:
        HTML text, UTF-8.

    Raises:
        ValueError: if a column is missing, frame is empty, or a verdict is not in `theme.VERDICTS`.
    """
    check(frame, "claims_html")
    body = []
    for study, part in frame.groupby("study", sort=False):
        body.append(f"<section><h2>{html.escape(words(study))}</h2>")
        for claim, rows in part.groupby("claim", sort=False):
            first = rows.to_dict("records")[0]
            paper = f"{first['paper']}. " if isinstance(first.get("paper"), str) else ""
            origin = html.escape(f"{paper}Published: {number(first['published'])}")
            title = html.escape(f"{claim} {first['statement']}")
            body.append(f"<article><h3>{title}</h3><small>{origin}</small>")
            body += [_row(row) for row in rows.to_dict("records")]
            body.append("</article>")
        body.append("</section>")
    return _PAGE.format(
        ink=theme.INK,
        blue=theme.PALETTE[0],
        verdicts="\n".join(f".{name}{{background:{c}8c}}" for name, c in theme.VERDICTS.items()),
        tally=html.escape(tally(frame)),
        body="\n".join(body),
    )
