"""The claims as a picture and as a page: every row, each verdict, escaped and complete."""

import io
import math

import figure_frames as frames
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch, Rectangle
from patchwork.figures import claims, claims_page, theme

numbers = st.floats(-1e6, 1e6)


@given(numbers, st.floats(1e-3, 1e6), st.floats(1e-3, 1e6), numbers, numbers)
@pytest.mark.parametrize("sides", ["both", "low", "high"])
def test_an_axis_lines_up_bounds_and_keeps_order(sides, bound, width, spread, a, b):
    low = -math.inf if sides == "high" else bound
    high = math.inf if sides == "low" else bound + width
    place = claims.axis(low, high, spread)
    if sides != "high":
        assert place(low) == pytest.approx(1 / 3)
    if sides != "low":
        assert place(high) == pytest.approx(2 / 3)
    near, far = sorted((a, b))
    assert 0 <= place(near) <= place(far) <= 1
    for value in (a, b):
        if low < value < high:
            least, most = (0 if sides == "high" else 1 / 3), (1 if sides == "low" else 2 / 3)
            assert least - 1e-9 <= place(value) <= most + 1e-9
    assert math.isnan(place(math.nan))


def test_the_scale_does_not_change_at_a_bound():
    for region in ((0, 5), (0, math.inf), (-math.inf, 0)):
        place = claims.axis(*region, 5)
        below, above = place(0) - place(-1e-4), place(1e-4) - place(0)
        assert below == pytest.approx(above, rel=1e-3)
        assert above == pytest.approx(1e-4 / 5 / 3, rel=1e-3)


def test_a_strip_says_what_is_drawn():
    row = frames.claims().to_dict("records")[0]
    drawn = claims.strip(row)
    assert drawn.text == "178 [172, 184] deg"
    assert drawn.needs == "170 to 190"
    assert drawn.region == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    # 8.2 of 20 deg into the region, which is the middle third.
    assert drawn.dot == pytest.approx((1 + 8.2 / 20) / 3)
    assert drawn.wide[0] < drawn.deciding[0] < drawn.dot < drawn.deciding[1] < drawn.wide[1]
    against = claims.strip(row, control=True)
    assert against.text == "91.3 [90.3, 92.3]"
    assert against.dot < 1 / 3
    one_sided = claims.strip(frames.claims().to_dict("records")[2])
    assert one_sided.needs == "at least 2"
    assert one_sided.region == (pytest.approx(1 / 3), 1)
    assert one_sided.dot > 1 / 3
    empty = claims.strip(frames.claims().to_dict("records")[3])
    assert empty.text == claims.NONE
    assert math.isnan(empty.dot)


def test_the_picture_says_every_row_and_flags_each_verdict():
    frame = frames.claims()
    (axes,) = claims.claims_picture(frame).axes
    said = " ".join(text.get_text() for text in axes.texts)
    for text in ("A1", "178 [172, 184] deg", "91.3", "power 90 %", "detects 50", "undetermined"):
        assert text in said
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    fills = [to_rgb(box.get_facecolor()) for box in boxes]
    assert fills == [to_rgb(theme.VERDICTS[v]) for v in frame["verdict"]]
    assert said.count("oblique effect") == 1  # the statement stands once for its two protocols
    bands = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert len(bands) == frame["claimed_low"].notna().sum() + frame["survives_low"].notna().sum()


def test_claims_of_a_study_stand_together():
    frame = frames.claims().assign(study=["b", "b", "a", "b", "b", "a"])
    page = claims_page.claims_html(frame)
    (axes,) = claims.claims_picture(frame).axes
    drawn = [text.get_text() for text in axes.texts]
    order = [name for name in drawn if name in ("a", "b", "A1", "A2", "A6", "A7")]
    assert order == ["b", "A1", "A6", "a", "A2", "A7"]
    assert [page.index(f"<h2>{name}") for name in "ba"] == sorted(
        page.index(f"<h2>{name}") for name in "ba"
    )
    assert page.index("<h3>A6") < page.index("<h2>a") < page.index("<h3>A2")


def test_the_picture_grows_with_its_text():
    longer = frames.claims().assign(statement="a long statement " * 20)
    short, tall = claims.claims_picture(frames.claims()), claims.claims_picture(longer)
    assert tall.get_size_inches()[1] > 1.5 * short.get_size_inches()[1]
    with mpl.rc_context(theme.SETTINGS):
        tall.draw_without_rendering()
    (axes,) = tall.axes
    frame = axes.get_window_extent()
    assert all(text.get_window_extent().y0 >= frame.y0 - 1 for text in axes.texts)


def test_claims_page_is_escaped_well_formed_and_complete():
    from html.parser import HTMLParser

    frame = frames.claims()
    frame.loc[0, "statement"] = '<script>alert("x")</script>'
    frame.loc[0, "figure"] = 'a"b.png'
    page = claims_page.claims_html(frame)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert 'href="a&quot;b.png"' in page
    assert "http" not in page

    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.classes, self.places = [], [], []

        def handle_starttag(self, tag, attrs):
            given = dict(attrs)
            self.classes += given.get("class", "").split()[:1]
            if "left:" in given.get("style", ""):
                self.places += [float(p.split(":")[1][:-1]) for p in given["style"].split(";")]
            self.open += [] if tag == "meta" else [tag]

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    reader = Reader()
    reader.feed(page)
    assert not reader.open
    assert reader.classes.count("row") == len(frame)
    assert (
        reader.classes.count("dot")
        == (frame["estimate"].notna() & frame["claimed_low"].notna()).sum()
        + (frame["control_estimate"].notna() & frame["survives_low"].notna()).sum()
    )
    assert all(0 <= place <= 100 for place in reader.places)
    assert page.count('<span class="artefact">! artefact</span>') == 1
    assert page.count('href="lines/figures/error_vs_angle.png"') == 4  # both axes of two rows


def test_claims_survive_the_way_through_csv():
    text = frames.claims().to_csv(index=False)
    back = pd.read_csv(io.StringIO(text))
    assert claims_page.claims_html(back) == claims_page.claims_html(frames.claims())


@pytest.mark.parametrize("draw", [claims.claims_picture, claims_page.claims_html])
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
