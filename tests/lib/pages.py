"""Figures as a reader gets them: every text on the page, with its place."""

import itertools

import matplotlib as mpl
from matplotlib.legend import Legend
from matplotlib.text import Text
from patchwork.figures import theme


def laid_out(figures):
    """The same figures, after their layout was solved under the theme."""
    with mpl.rc_context(theme.SETTINGS):
        for figure in figures.values():
            figure.draw_without_rendering()
    return figures


def written(figure):
    """Every text that is on the page, with its box in pixels."""
    found = [*figure.texts, *([figure._supxlabel] if figure._supxlabel else [])]
    for legend in figure.findobj(Legend):
        found += legend.get_texts()
    for axes in figure.axes:
        if not axes.get_visible():
            continue
        found += [axes.title, axes._left_title, *axes.texts]
        if not axes.axison:
            continue
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-9 * (high - low)
            ticks = [
                t for t in axis.get_major_ticks() if low - slack <= t.get_loc() <= high + slack
            ]
            found += [axis.label, *(t.label1 for t in ticks)]
    shown = [t for t in found if t.get_visible() and t.get_text().strip()]
    with mpl.rc_context(theme.SETTINGS):
        return [(t, Text.get_window_extent(t)) for t in shown]  # without the leader lines


def check_text(figure):
    """Every text is large enough to read, inside the page, and apart from every other."""
    page, texts = figure.bbox, written(figure)
    for text, box in texts:
        assert text.get_fontsize() >= 7, text
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= page.x1 + 1, text
        assert box.y1 <= page.y1 + 1, text
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, f"{one.get_text()!r} and {other.get_text()!r} overlap"
