"""The table of claims: every row, each verdict, escaped and complete."""

import io

import figure_frames as frames
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from patchwork.figures import claims, theme


def test_claims_figure_says_every_row_and_flags_each_verdict():
    (axes,) = claims.claims_table(frames.claims()).axes
    said = " ".join(text.get_text() for text in axes.texts)
    for text in ("A1", "178 [172, 185]", "shifted origin: 91.3", "undetermined", "180 deg"):
        assert text in said
    fills = [to_rgb(patch.get_facecolor()) for patch in axes.patches]
    assert fills == [to_rgb(theme.VERDICTS[v]) for v in frames.claims()["verdict"]]
    assert said.count("oblique effect") == 1  # the statement stands once for its two protocols


def test_claims_figure_grows_with_its_text():
    longer = frames.claims().assign(statement="a long statement " * 20)
    short, tall = claims.claims_table(frames.claims()), claims.claims_table(longer)
    assert tall.get_size_inches()[1] > 1.5 * short.get_size_inches()[1]
    with mpl.rc_context(theme.SETTINGS):
        tall.draw_without_rendering()
    (axes,) = tall.axes
    frame = axes.get_window_extent()
    assert all(text.get_window_extent().y0 >= frame.y0 - 1 for text in axes.texts)


def test_the_grid_has_one_mark_per_verdict_in_the_row_of_its_protocol():
    frame = frames.claims()
    (axes,) = claims.verdict_grid(frame).axes
    fills = [to_rgb(patch.get_facecolor()) for patch in axes.patches]
    assert fills == [to_rgb(theme.VERDICTS[v]) for v in frame["verdict"]]
    placed = {text.get_text(): text.get_position() for text in axes.texts}
    x, y = zip(*((p.get_x() + p.get_width() / 2, p.get_y()) for p in axes.patches), strict=True)
    names = [placed[name][0] for name in frame["claim"]]
    assert np.allclose(x, names, atol=1)
    rows = [placed[name][1] for name in frame["protocol"]]
    assert np.ptp(np.array(rows) - y) < 1e-6  # labels stand at their row's cells
    assert "\u2717 fails (1)" in theme.text_of(claims.verdict_grid(frame), "caption")


def test_two_decisions_of_one_protocol_share_a_cell_of_the_grid():
    frame = pd.concat([frames.claims(), frames.claims().tail(1)])
    (axes,) = claims.verdict_grid(frame).axes
    widths = [patch.get_width() for patch in axes.patches]
    assert widths[-1] == widths[-2] < widths[0] / 2


def test_claims_page_is_escaped_well_formed_and_complete():
    from html.parser import HTMLParser

    frame = frames.claims()
    frame.loc[0, "statement"] = '<script>alert("x")</script>'
    page = claims.claims_html(frame)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page

    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.rows, self.heads = [], 0, 0

        def handle_starttag(self, tag, attrs):
            self.rows += tag == "tr"
            self.heads += tag == "th" and ("scope", "col") in attrs
            self.open += [] if tag == "meta" else [tag]

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    reader = Reader()
    reader.feed(page)
    assert not reader.open
    assert reader.rows == 1 + len(frame)
    assert reader.heads == 12
    assert page.count('<span class="artefact">artefact</span>') == 1


def test_claims_survive_the_way_through_csv():
    text = frames.claims().to_csv(index=False)
    back = pd.read_csv(io.StringIO(text))
    assert claims.claims_html(back) == claims.claims_html(frames.claims())


@pytest.mark.parametrize("draw", [claims.claims_table, claims.claims_html])
def test_an_unknown_verdict_is_refused(draw):
    with pytest.raises(ValueError, match="verdict is 'maybe'"):
        draw(frames.claims().assign(verdict="maybe"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(np.nan, "\u2013"), ("", "\u2013"), (0.98412, "0.984"), (-3, "\u22123"), (1200, "1,200"),
     ("0.12 %", "0.12 %"), (True, "1"), (1e-7, "1e\u221207"), (float("inf"), "inf")],
)  # fmt: skip
def test_numbers_in_tables(value, text):
    assert claims.number(value) == text
