"""The figures: panels, labels, numbers drawn, captions, legibility, and bytes that repeat."""

import ast
import io
import itertools
from pathlib import Path

import figure_frames as frames
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.text import Text
from patchwork import figures
from patchwork.figures import (
    claims,
    colour,
    heads,
    lines,
    orientation,
    panels,
    theme,
    training,
)

HERE = Path(figures.__file__).parent
SOURCES = sorted(HERE.glob("*.py"))


def images(n=5, side=16):
    rng = frames.generator()
    return {name: rng.integers(0, 256, (n, side, side, 3), np.uint8) for name in frames.DATASETS}


def with_transitions(**kwargs):
    frame = frames.losses(**kwargs)
    return training.loss_curves(frame, frames.transitions(frame))


DRAW = {
    "samples": lambda: lines.samples(images(), {"angle": ["270 deg, 50 px, teal"] * 5}),
    "loss": with_transitions,
    "loss_seven": lambda: with_transitions(protocols=("described",), targets=7, seeds=1),
    "correlation": lambda: training.correlation_over_epochs(frames.correlations()),
    "histograms": lambda: training.error_histograms(frames.histograms()),
    "error_one": lambda: orientation.error_vs_angle(frames.angle_curves(protocols=("described",))),
    "error_six": lambda: orientation.error_vs_angle(
        frames.angle_curves(protocols=(*frames.PROTOCOLS, "random_backbone", "full"))
    ),
    "error_grid": lambda: orientation.error_vs_angle(frames.angle_curves(datasets=frames.DATASETS)),
    "bias": lambda: orientation.bias_curve(frames.bias_curves()),
    "energy": lambda: colour.colour_error_vs_energy(frames.colour_points()),
    "dendrogram": lambda: colour.colour_dendrogram(
        frames.linkages(), frames.RGB, frames.CATEGORIES
    ),
    "heads": lambda: heads.head_effects(frames.head_effects(), unit="deg"),
    "heads_many": lambda: heads.head_effects(
        frames.head_effects(frames.PROTOCOLS[:3], ("mean",), (12, 12)), unit="deg"
    ),
    "patch_tokens": lambda: heads.patch_effects(frames.patch_effects()),
    "patch_map": lambda: heads.patch_effects(frames.patch_effects(), (8, 8)),
    "similarity": lambda: heads.head_similarity(frames.similarities()),
    "claims": lambda: claims.claims_table(frames.claims()),
}
COUNTED = set(DRAW) - {"samples", "patch_tokens", "patch_map"}  # frames with n and seeds


@pytest.fixture(scope="module")
def drawn():
    made = {name: draw() for name, draw in DRAW.items()}
    with mpl.rc_context(theme.SETTINGS):
        for figure in made.values():
            figure.draw_without_rendering()
    return made


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


@pytest.mark.parametrize("name", DRAW)
def test_text_is_legible_inside_the_page_and_apart(drawn, name):
    figure = drawn[name]
    page = figure.bbox
    texts = written(figure)
    for text, box in texts:
        assert text.get_fontsize() >= 7, text
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= page.x1 + 1, text
        assert box.y1 <= page.y1 + 1, text
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, f"{one.get_text()!r} and {other.get_text()!r} overlap"


@pytest.mark.parametrize("name", DRAW)
def test_width_is_that_of_a_column_or_a_page(drawn, name):
    width = drawn[name].get_size_inches()[0] * 2.54
    assert min(abs(width - w) for w in (8, 10, 11, 17)) < 1e-6


@pytest.mark.parametrize("name", sorted(set(DRAW) - {"samples", "claims"}))
def test_axes_carry_units_on_the_outer_panels(drawn, name):
    panes = [axes for axes in drawn[name].axes if axes.get_subplotspec() is not None]
    for axis in ("get_xlabel", "get_ylabel"):
        labels = {getattr(axes, axis)().splitlines()[-1] for axes in panes if getattr(axes, axis)()}
        if name == "dendrogram" and axis == "get_ylabel":
            continue  # names of colours
        assert labels, axis
        assert all("(" in label and label.endswith(")") for label in labels), labels


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_captions_count_n_and_seeds(drawn, name):
    caption = theme.text_of(drawn[name], "caption")
    assert "n = " in caption
    assert ("seeds: 3" in caption) or (name == "loss_seven" and "seeds: 1" in caption)


def test_caption_follows_the_data():
    frame = frames.angle_curves(protocols=("described",)).assign(n=range(100, 148), seeds=5)
    caption = theme.text_of(orientation.error_vs_angle(frame), "caption")
    assert "n = 100 to 147 per bin; seeds: 5." in caption
    mixed = frame.assign(seeds=[2, 5] * 24)
    assert "seeds: 2 to 5" in theme.text_of(orientation.error_vs_angle(mixed), "caption")


def test_svg_and_png_repeat_byte_for_byte(tmp_path):
    first = theme.save(DRAW["error_one"](), tmp_path / "a.b")
    second = theme.save(DRAW["error_one"](), tmp_path / "c")
    assert first[0].name == "a.b.svg"
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert b"<dc:date>" not in first[0].read_bytes()


def test_png_has_300_dots_per_inch(tmp_path):
    from PIL import Image

    _, png = theme.save(DRAW["error_one"](), tmp_path / "a")
    with Image.open(png) as image:
        assert image.width == int(8 / 2.54 * 300)


def test_a_reader_s_own_settings_change_nothing(tmp_path):
    plain, _ = theme.save(DRAW["histograms"](), tmp_path / "plain")
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        before = dict(mpl.rcParams)
        odd, _ = theme.save(DRAW["histograms"](), tmp_path / "odd")
        assert dict(mpl.rcParams) == before
    assert plain.read_bytes() == odd.read_bytes()


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.name)
def test_only_the_theme_touches_settings_and_files(source):
    tree = ast.parse(source.read_text())
    names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    names |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not {m for m in imported if m.split(".")[0] in {"torch", "snakemake", "yaml"}}
    assert "matplotlib.pyplot" not in imported
    if source.name != "theme.py":
        touching = {"rcParams", "rc_context", "rcParamsDefault", "savefig", "open", "read_csv"}
        assert not names & (touching | {"to_csv", "write_text", "rc"})


@pytest.mark.parametrize("n", range(1, 7))
def test_one_to_six_protocols_make_as_many_panels(n):
    protocols = [f"protocol_{i}" for i in range(n)]
    figure = orientation.error_vs_angle(frames.angle_curves(protocols=protocols, bins=6))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        f"protocol {i}" for i in range(n)
    ]


def test_a_missing_combination_has_no_panel_and_its_neighbour_keeps_the_label():
    frame = frames.angle_curves(("described", "corrected"), ("angle", "color"), bins=6)
    frame = frame[(frame["dataset"] != "color") | (frame["protocol"] != "corrected")]
    figure = orientation.error_vs_angle(frame)
    assert len(figure.axes) == 3
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == ["", "Line angle (deg)", "Line angle (deg)"]


def test_backbones_stand_side_by_side():
    frame = frames.angle_curves(protocols=("described",), bins=6)
    both = pd.concat([frame, frame.assign(backbone="random")])
    figure = orientation.error_vs_angle(both)
    headings = [axes.get_title(loc="left") for axes in figure.axes]
    assert headings == ["described, reared", "described, random"]


@pytest.mark.parametrize(
    ("draw", "make", "value"),
    [
        (orientation.error_vs_angle, frames.angle_curves, "error_deg"),
        (orientation.bias_curve, frames.bias_curves, "signed_error_deg"),
    ],
)
def test_curves_and_bands_are_the_frame_s_numbers(draw, make, value):
    frame = make(protocols=("described",), bins=12)
    (axes,) = draw(frame.sample(frac=1, random_state=0)).axes
    lines_by_name = {line.get_label(): line for line in axes.lines}
    bands = [band.get_paths()[0].vertices for band in axes.collections]
    for condition, part in frame.groupby("condition"):
        line = lines_by_name[condition.replace("_", " ")]
        assert np.array_equal(line.get_xdata(), part["bin_deg"])
        assert np.array_equal(line.get_ydata(), part[value])
        wanted = {(x, y) for c in ("ci_low", "ci_high") for x, y in part[["bin_deg", c]].to_numpy()}
        assert any(wanted <= set(map(tuple, band)) for band in bands)


def test_the_angle_axis_covers_the_period_and_errors_start_at_zero():
    figure = orientation.error_vs_angle(frames.angle_curves(("described", "corrected")))
    described, corrected = figure.axes
    assert described.get_xlim() == (0, 360)
    assert corrected.get_xlim() == (0, 180)
    assert described.get_ylim()[0] == 0
    low, high = orientation.bias_curve(frames.bias_curves()).axes[0].get_ylim()
    assert low == -high


def test_datasets_of_one_protocol_share_their_scale():
    frame = frames.angle_curves(("described", "corrected"), ("angle", "color"), bins=6)
    values = ["error_deg", "ci_low", "ci_high"]
    frame.loc[frame["dataset"] == "color", values] *= 2
    figure = orientation.error_vs_angle(frame)
    limits = [axes.get_ylim() for axes in figure.axes]
    assert limits[0] == limits[2]
    assert limits[1] == limits[3]
    assert limits[0] != limits[1]


def test_samples_show_the_given_pixels_and_leave_gaps_empty():
    given = images()
    given["color"] = given["color"][:2]
    figure = lines.samples(given)
    shown = [a for a in figure.axes if a.get_visible()]
    assert len(shown) == 5 + 5 + 5 + 2
    assert np.array_equal(shown[6].images[0].get_array(), given["length"][1])
    caption = theme.text_of(figure, "caption")
    assert "color n = 2" in caption
    assert "16 \u00d7 16 px" in caption


@pytest.mark.parametrize(
    "given", [{}, {"a": np.zeros((2, 4, 4, 3))}, {"a": np.zeros((0, 4, 4, 3), np.uint8)}]
)
def test_samples_refuse_what_is_no_image(given):
    with pytest.raises(ValueError, match=r"^samples: .*(allowed|needed)"):
        lines.samples(given)


def test_losses_are_drawn_raw_and_smoothed_and_transitions_lie_on_the_curve():
    frame = frames.losses(("described",), ("angle",), targets=2, seeds=2, steps=60)
    found = frames.transitions(frame).assign(step=300)
    (axes,) = training.loss_curves(frame, found, window=1).axes
    assert axes.get_yscale() == "log"
    curves = [line for line in axes.lines if len(line.get_xdata()) == 60]
    assert len(curves) == 2 * 2 * 2  # targets, seeds, raw and smoothed
    first = frame[(frame["target"] == "angle") & (frame["seed"] == 0)]
    assert np.array_equal(curves[0].get_ydata(), first["loss"])
    assert np.array_equal(curves[1].get_ydata(), first["loss"])  # a window of one changes nothing
    marks = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert len(marks) == len(found)
    assert len({line.get_marker() for line in marks}) == 2
    at_300 = set(frame.loc[(frame["step"] == 300) & (frame["seed"] == 0), "loss"])
    assert {float(line.get_ydata()[0]) for line in marks} == at_300


def test_the_running_median_is_that_of_the_window():
    frame = frames.losses(("described",), ("angle",), targets=1, seeds=1, steps=30)
    (axes,) = training.loss_curves(frame, pd.DataFrame(), window=5).axes
    smooth = axes.lines[1].get_ydata()
    loss = frame["loss"].to_numpy()
    assert smooth[10] == np.median(loss[8:13])
    assert smooth[0] == np.median(loss[:3])


def test_no_transition_found_is_said():
    frame = frames.losses(("described",), ("angle",), steps=20)
    figure = training.loss_curves(frame, pd.DataFrame())
    assert "Transitions found: none" in theme.text_of(figure, "caption")


def test_a_transition_of_an_unknown_run_is_refused():
    frame = frames.losses(("described",), ("angle",), steps=20)
    stray = frames.transitions(frame).assign(seed=9)
    with pytest.raises(ValueError, match=r"^loss_curves: transitions of .*9"):
        training.loss_curves(frame, stray)


def test_correlations_are_the_frame_s_numbers():
    frame = frames.correlations(protocols=("described",), datasets=("angle",), targets=1, seeds=1)
    (axes,) = training.correlation_over_epochs(frame).axes
    assert np.array_equal(axes.lines[0].get_ydata(), frame["r"])
    assert np.array_equal(axes.lines[0].get_xdata(), frame["epoch"])


def test_histograms_keep_bins_and_densities():
    frame = frames.histograms(protocols=("described",))
    (axes,) = training.error_histograms(frame).axes
    values, edges, _ = axes.patches[0].get_data()
    assert np.array_equal(values, frame["density"])
    assert edges[0] == 0
    assert edges[-1] == 180
    assert (values * np.diff(edges)).sum() == pytest.approx(1)


def test_colours_are_drawn_in_their_own_colour_with_intervals():
    frame = frames.colour_points(protocols=("described",))
    (axes,) = colour.colour_error_vs_energy(frame).axes
    bars, points, ideal = axes.collections
    assert np.array_equal(points.get_offsets(), frame[["energy", "error_deg"]])
    assert np.array_equal(ideal.get_offsets(), frame[["energy", "ideal_error_deg"]])
    assert np.allclose(points.get_facecolors()[:, :3], frame[["red", "green", "blue"]] / 255)
    ends = [segment[:, 1] for segment in bars.get_segments()]
    assert np.allclose(ends, frame[["ci_low", "ci_high"]])
    assert {text.get_text() for text in axes.texts} == set(frames.RGB)


def test_labels_of_crowded_colours_keep_clear_of_each_other_and_of_the_points():
    frame = frames.colour_points(protocols=("described",))
    frame["error_deg"] = 5 + 0.1 * np.arange(len(frame))
    frame = frame.assign(ci_low=frame["error_deg"] - 0.5, ci_high=frame["error_deg"] + 0.5)
    figure = colour.colour_error_vs_energy(frame)
    with mpl.rc_context(theme.SETTINGS):
        figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    points = axes.transData.transform(frame[["energy", "error_deg"]].to_numpy())
    for a, b in itertools.combinations(boxes, 2):
        assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
    assert not any(box.contains(*point) for box in boxes for point in points)


def test_dendrogram_joins_leaves_at_the_given_distances_and_marks_one_category():
    rgb = {"red": (255, 0, 0), "blue": (0, 0, 255), "cyan": (0, 255, 255)}
    category = {"red": "red", "blue": "blue", "cyan": "blue"}
    frame = pd.DataFrame(
        {"protocol": "described", "merge": [1, 0], "left": [0, 1], "right": [3, 2],
         "distance": [4.0, 1.5], "size": [3, 2]}
    )  # fmt: skip
    (axes,) = colour.colour_dendrogram(frame, rgb, category).axes
    branches = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert sorted(max(line.get_xdata()) for line in branches) == [1.5, 4.0]
    inner, outer = sorted(branches, key=lambda line: max(line.get_xdata()))
    assert inner.get_linewidth() > outer.get_linewidth()
    assert to_rgb(inner.get_color()) != to_rgb(outer.get_color())
    leaves = [text.get_text() for text in axes.get_yticklabels()]
    assert leaves == ["red (red)", "blue (blue)", "cyan (blue)"]
    swatches = [line.get_color() for line in axes.lines if line.get_marker() == "s"]
    assert swatches == [tuple(c / 255 for c in rgb[leaf.split()[0]]) for leaf in leaves]


def test_dendrogram_refuses_merges_that_do_not_fit_and_names_without_category():
    with pytest.raises(ValueError, match=r"^colour_dendrogram: 9 merges for 11 names"):
        colour.colour_dendrogram(
            frames.linkages().query("merge < 9"), frames.RGB, frames.CATEGORIES
        )
    with pytest.raises(ValueError, match=r"^colour_dendrogram: categories lacks \['red'\]"):
        colour.colour_dendrogram(frames.linkages(), {"red": (255, 0, 0)}, {})


def test_head_map_holds_every_effect_centred_at_zero_with_layers_from_one():
    frame = frames.head_effects(protocols=("described",), baselines=("mean",), size=(3, 2))
    figure = heads.head_effects(frame.sample(frac=1, random_state=1), unit="deg")
    axes = figure.axes[0]
    (image,) = [a for a in axes.get_children() if isinstance(a, AxesImage)]
    assert np.array_equal(image.get_array(), frame["effect"].to_numpy().reshape(3, 2))
    assert image.norm.vmin == -image.norm.vmax
    assert image.norm(0.0) == 0.5
    assert axes.get_ylim() == (0.5, 3.5)  # layer 1 at the bottom
    clear = frame[(frame["ci_low"] > 0) | (frame["ci_high"] < 0)]
    dots = set(zip(axes.lines[0].get_xdata(), axes.lines[0].get_ydata(), strict=True))
    assert dots == set(zip(clear["head"] + 1, clear["layer"] + 1, strict=True))
    assert f"({len(clear)} of 6 cells)" in theme.text_of(figure, "caption")
    assert (
        figure.axes[-1].get_xlabel().replace("\n", " ")
        == "Change of angle error under ablation (deg)"
    )


def test_head_map_leaves_unmeasured_heads_empty_and_refuses_doubles_and_mixed_metrics():
    frame = frames.head_effects(protocols=("described",), baselines=("mean",), size=(3, 2))
    image = heads.head_effects(frame.drop(index=3), unit="deg").axes[0].images[0]
    assert np.isnan(np.ma.filled(image.get_array(), np.nan)[1, 1])
    with pytest.raises(ValueError, match="two rows for cell"):
        heads.head_effects(pd.concat([frame, frame]), unit="deg")
    mixed = frame.assign(metric=["mae", "r"] * 3)
    with pytest.raises(ValueError, match="one metric per figure"):
        heads.head_effects(mixed, unit="deg")


def test_patch_map_puts_position_zero_at_the_top_left():
    frame = frames.patch_effects(layers=2, positions=6, components=("resid_pre",))
    figure = heads.patch_effects(frame, (2, 3))
    first, second = figure.axes[:2]
    assert first.get_title(loc="left") == "layer 1"
    top_first = first.images[0].get_array()[::-1]
    values = frame["recovery"].to_numpy().reshape(2, 2, 3)
    assert np.array_equal(top_first, values[0])
    assert np.array_equal(second.images[0].get_array()[::-1], values[1])
    assert [t.get_text() for t in first.get_yticklabels()] == ["2", "1"]
    with pytest.raises(ValueError, match=r"position 4; allowed is 0 to 3"):
        heads.patch_effects(frame, (2, 2))


def test_patch_tokens_make_layers_by_positions_and_heads_their_own_panels():
    frame = frames.patch_effects(layers=3, positions=4, components=("resid_pre",))
    by_head = [frame.assign(component="head_out", head=h) for h in (0, 1)]
    figure = heads.patch_effects(pd.concat([frame, *by_head]))
    panes = [axes for axes in figure.axes if axes.images]
    names = [axes.get_ylabel().splitlines()[0] for axes in panes]
    assert names == ["resid pre", "head out 1", "head out 2"]
    assert panes[0].images[0].get_array().shape == (3, 4)


def test_similarity_draws_each_head_once_with_its_interval():
    frame = frames.similarities(protocols=("described",), layers=2, heads=3)
    frame = frame[frame["measure"] == "linear_cka"]
    (axes,) = heads.head_similarity(frame).axes
    for line, (_, part) in zip(axes.lines, frame.groupby("backbone", sort=False), strict=True):
        assert np.array_equal(line.get_ydata(), part["similarity"])
        assert np.array_equal(np.round(line.get_xdata()), part["layer"] + 1)
    ends = np.vstack([[s[:, 1] for s in bars.get_segments()] for bars in axes.collections])
    assert np.allclose(ends, frame[["ci_low", "ci_high"]])


def test_claims_figure_says_every_row_and_flags_each_verdict(drawn):
    (axes,) = drawn["claims"].axes
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
    tall.draw_without_rendering()
    (axes,) = tall.axes
    frame = axes.get_window_extent()
    assert all(text.get_window_extent().y0 >= frame.y0 - 1 for text in axes.texts)


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
def test_a_verdict_outside_the_four_is_refused(draw):
    with pytest.raises(ValueError, match="verdict is 'maybe'"):
        draw(frames.claims().assign(verdict="maybe"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(np.nan, "\u2013"), ("", "\u2013"), (0.98412, "0.984"), (-3, "\u22123"), (1200, "1,200"),
     ("0.12 %", "0.12 %"), (True, "1"), (1e-7, "1e\u221207"), (float("inf"), "inf")],
)  # fmt: skip
def test_numbers_in_tables(value, text):
    assert claims.number(value) == text


@pytest.mark.parametrize(
    "draw",
    [
        orientation.error_vs_angle,
        orientation.bias_curve,
        colour.colour_error_vs_energy,
        training.correlation_over_epochs,
        training.error_histograms,
        heads.patch_effects,
        heads.head_similarity,
        claims.claims_table,
    ],
)
def test_a_frame_without_columns_or_rows_is_refused_in_one_line(draw):
    with pytest.raises(ValueError, match="frame lacks") as caught:
        draw(pd.DataFrame({"other": [1]}))
    assert "\n" not in str(caught.value)


def test_an_empty_frame_is_refused():
    with pytest.raises(ValueError, match=r"error_vs_angle: frame has 0 rows; at least 1"):
        orientation.error_vs_angle(frames.angle_curves().iloc[:0])


def test_wrapped_lines_fit_and_lose_nothing():
    text = "The quick brown fox $5 jumps_over an_unbreakably_long_word_that_is_too_wide indeed"
    wrapped = theme.wrap(text, 90)
    assert all(theme.text_width(line) <= 90 for line in wrapped)
    assert "".join(wrapped).replace(" ", "") == text.replace(" ", "")
    assert theme.wrap("", 50) == [""]


def test_palette_stays_apart_without_red_green_vision():
    from coloraide import Color

    for kind in ("protan", "deutan"):
        seen = [Color(c).filter(kind) for c in theme.PALETTE]
        nearest = min(a.delta_e(b, method="2000") for a, b in itertools.combinations(seen, 2))
        assert nearest > 10, kind  # in units of a just noticeable difference


def test_counts_read_one_seed_per_row_too():
    frame = pd.DataFrame({"seed": [0, 0, 4], "n": [1200, 1200, 1200]})
    assert panels.counts(frame, "run").replace("\u00a0", " ") == "n = 1,200 per run; seeds: 2."
    assert panels.counts(frame[[]], "run") == ""
