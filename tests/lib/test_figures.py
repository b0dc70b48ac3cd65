"""The figures: panels, labels, numbers drawn, captions, legibility, and bytes that repeat."""

import ast
import itertools
from collections import defaultdict
from pathlib import Path

import figure_frames as frames
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import Bbox
from pages import check_text, laid_out
from patchwork import figures
from patchwork.figures import claims, panels, registry, theme
from patchwork.figures.biases import colour, orientation, stimuli, training
from patchwork.figures.heads import head_effects, pictures

HERE = Path(figures.__file__).parent
SOURCES = sorted(HERE.glob("*.py"))


def images(n=5, side=16):
    rng = frames.generator()
    return {name: rng.integers(0, 256, (n, side, side, 3), np.uint8) for name in frames.DATASETS}


def with_transitions(**kwargs):
    frame = frames.losses(**kwargs)
    return training.loss_curves(frame, frames.transitions(frame))


DRAW = {
    "samples": lambda: stimuli.samples(images(), {"angle": ["270 deg, 50 px, teal"] * 5}),
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
    "hues": lambda: colour.hue_errors(frames.hue_points()),
    "scatter": lambda: colour.colour_scatter(frames.colour_predictions()),
    "heads": lambda: head_effects.head_effects(frames.head_effects(), unit="deg"),
    "heads_many": lambda: head_effects.head_effects(
        frames.head_effects(frames.PROTOCOLS[:3], ("mean",), (12, 12)), unit="deg"
    ),
    "patch_tokens": lambda: head_effects.patch_effects(frames.patch_effects()),
    "patch_pictures": lambda: pictures.patch_pictures(
        frames.patch_effects(positions=65).assign(dataset="angle"), frames.picture(dataset="angle")
    ),
    "attention": lambda: pictures.attention_across_tasks(frames.attention_maps(), frames.picture()),
    "similarity": lambda: head_effects.head_similarity(frames.similarities()),
    "claims": lambda: claims.claims_picture(frames.claims()),
}
# Those of frames with n and seeds.
COUNTED = set(DRAW) - {"samples", "patch_tokens", "patch_pictures", "attention"}


@pytest.fixture(scope="module")
def drawn():
    return laid_out({name: draw() for name, draw in DRAW.items()})


@pytest.mark.parametrize("name", DRAW)
def test_text_is_legible_inside_the_page_and_apart(drawn, name):
    check_text(drawn[name])


@pytest.mark.parametrize("name", DRAW)
def test_width_is_that_of_a_column_or_a_page(drawn, name):
    width = drawn[name].get_size_inches()[0] * 2.54
    assert min(abs(width - w) for w in (8, 10, 11, 17)) < 1e-6


@pytest.mark.parametrize("name", sorted(set(DRAW) - {"samples", "claims", "attention"}))
def test_axes_carry_units_on_the_outer_panels(drawn, name):
    panes = [axes for axes in drawn[name].axes if axes.get_subplotspec() is not None]
    for axis in ("get_xlabel", "get_ylabel"):
        labels = {getattr(axes, axis)().splitlines()[-1] for axes in panes if getattr(axes, axis)()}
        assert labels, axis
        assert all("(" in label and label.endswith(")") for label in labels), labels


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_captions_count_n_and_seeds(drawn, name):
    caption = theme.text_of(drawn[name], "caption")
    assert "n = " in caption
    assert ("seeds: 3" in caption) or (name in ("loss_seven", "scatter") and "seeds: 1" in caption)


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


def test_files_stay_the_same_where_the_layout_s_last_digits_do_not(tmp_path):
    class Wavering(ConstrainedLayoutEngine):
        def __init__(self, seed):
            super().__init__()
            self.noise = np.random.default_rng(seed)

        def execute(self, fig):
            super().execute(fig)
            for axes in fig.axes:
                corners = axes.get_position(original=True).get_points()
                moved = corners + 1e-8 * self.noise.standard_normal(corners.shape)
                axes.set_position(Bbox(moved), which="original")

    for name, seed in (("a", 1), ("b", 2)):
        figure = Figure(layout=Wavering(seed))
        figure.subplots(2, 2)[0, 0].imshow(np.eye(9))
        figure.supylabel("Row")
        theme.save(figure, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


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
    assert headings == ["described, pretrained", "described, random"]


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
    figure = stimuli.samples(given)
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
        stimuli.samples(given)


# Those that take rows together before they draw.
PREPARED = {"error_vs_angle", "bias_curve", "correlation_over_epochs"}


@pytest.mark.parametrize("name", sorted(registry.DRAWINGS.keys() - PREPARED))
def test_a_frame_without_columns_is_refused_in_one_line(name):
    tables = defaultdict(lambda: pd.DataFrame({"other": [1]}))
    options = {"unit": "deg"} if name in ("head_effects", "prediction_spread") else {}
    with pytest.raises(ValueError, match=f"^{name}: frame lacks") as caught:
        registry.DRAWINGS[name](tables, **options)
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
