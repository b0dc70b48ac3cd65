"""What was found in a recording, as one page for a browser."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from patchwork.figures.chirps import recordings
from patchwork.figures.chirps.recordings import SearchedRecording

if TYPE_CHECKING:
    from patchwork.recordings.excerpts import Excerpt

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Chirps in {name}</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<style>
body{{font:15px/1.4 system-ui,sans-serif;color:#222;max-width:72rem;
margin:1rem auto;padding:0 .8rem}}
table{{border-collapse:collapse;font-size:.82rem;display:block;overflow-x:auto}}
td,th{{padding:.15rem .5rem;border-top:1px solid #ddd;text-align:right;white-space:nowrap}}
td:first-child,th:first-child{{text-align:left}}
figure{{display:inline-block;margin:.5rem}} figcaption{{font-size:.82rem}}
img{{max-width:100%}}
</style></head><body>
<h1>Chirps in {name}</h1>
<p>{says}</p>
<p>Files: {links}</p>
<h2>Channels</h2>
{channels}
<h2>Events</h2>
{events}
<h2>Spectrograms and traces</h2>
<p>{shown} Line: predicted frequency from start to end. Drift is taken off the trace.</p>
{figures}
</body></html>
"""
_EVENT_COLUMNS = (
    "channel", "onset_clock", "onset_s", "end_s", "start_hz", "end_hz", "score", "snr_db",
    "amplitude_uv", "in_bad", "padded",
)  # fmt: skip


def page(
    searched: SearchedRecording,
    events: pd.DataFrame,
    channels: pd.DataFrame,
    excerpts: "Mapping[int, Excerpt]",
    links: Sequence[str],
) -> str:
    """The page, with its pictures inside.

    Args:
        searched: the recording.
        events: of the table ``events.csv``, rows numbered from 0.
        channels: of the table ``channels.csv``.
        excerpts: row of an event to what lies around it.
        links: files beside the page, relative to it.
    """
    columns = [column for column in _EVENT_COLUMNS if column in events]
    listed = events[columns].copy()
    listed.index = [
        f'<a href="#event{i}">{i}</a>' if i in excerpts else str(i) for i in range(len(events))
    ]
    listed["channel"] = [html.escape(channel) for channel in listed["channel"]]
    escaped = channels.assign(
        channel=[html.escape(channel) for channel in channels["channel"]],
        left_out=[html.escape(why) for why in channels["left_out"]],
    )
    n_searched = int((channels["left_out"] == "").sum())
    return _PAGE.format(
        name=html.escape(searched.name),
        says=f"{searched.duration_s:,.0f} s, {n_searched} of {len(channels)} channels searched, "
        f"{len(events)} events, {int(events['in_bad'].sum())} of them in bad stretches.",
        links=", ".join(f'<a href="{html.escape(link)}">{html.escape(link)}</a>' for link in links),
        channels=_table(escaped, index=False),
        events=_table(listed, index=True) if len(events) else "<p>None.</p>",
        shown="All events." if len(excerpts) == len(events)
        else f"The {len(excerpts)} with the best scores.",
        figures="\n".join(
            _figure(i, recordings.event_figure(one, event), event)
            for (i, one), (_, event) in zip(
                sorted(excerpts.items()), events.loc[sorted(excerpts)].iterrows(), strict=True
            )
        ),
    )  # fmt: skip


def _table(frame: pd.DataFrame, *, index: bool) -> str:
    return frame.to_html(
        index=index, border=0, escape=False, na_rep="", float_format="{:.2f}".format
    )


def _figure(number: int, figure: Figure, event: pd.Series) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    picture = base64.b64encode(buffer.getvalue()).decode()
    when = event["onset_clock"] or f"{event['onset_s']:.1f} s"
    text = f"{number}: {html.escape(event['channel'])}, {html.escape(when)}, {event['score']:.2f}"
    return (
        f'<figure id="event{number}">'
        f'<img alt="event {number}" src="data:image/png;base64,{picture}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
