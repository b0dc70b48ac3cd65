"""Figures of rearing: what is drawn is the frame, legible, with counts in the caption."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from pages import check_text, laid_out
from patchwork.figures import rearing, theme

MEASURES = ("ridge_error_lines_cls", "signed_error_lines_cls", "fisher_noise_cls")


def generator(seed=3):
    return np.random.Generator(np.random.Philox(seed))


def edges(rearing_conditions=("upright", "turned", "isotropic")):
    rows = []
    for i, condition in enumerate(rearing_conditions):
        places = np.arange(36) * 5.0
        share = 1 + (0.3, -0.3, 0)[i % 3] * np.cos(np.deg2rad(4 * places))
        rows.append(
            pd.DataFrame(
                {
                    "condition": condition,
                    "orientation_deg": places,
                    "share": share / share.sum(),
                    "n": 500,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def hues():
    places = np.arange(36) * 10.0
    chroma = 1 + np.cos(np.deg2rad(places - 60))
    parts = [
        pd.DataFrame(
            {"condition": condition, "hue_deg": places, "chroma": scale * chroma, "n": 500}
        )
        for condition, scale in (("upright", 0.0), ("natural_colours", 1.0), ("blue_poor", 0.7))
    ]
    return pd.concat(parts, ignore_index=True)


def curves():
    rng, rows = generator(), []
    for measure, (condition, sign) in itertools.product(
        MEASURES, (("upright", 1), ("turned", -1), ("untrained", 0))
    ):
        wave = np.sin if measure.startswith("signed") else np.cos
        for degrees in np.arange(24) * 7.5:
            base = 0 if measure.startswith("signed") else 20
            value = base - 4 * sign * wave(np.deg2rad(4 * degrees)) + rng.normal() / 4
            rows.append((measure, condition, degrees, value, value - 1, value + 1, 7, 7))
    names = ["measure", "condition", "orientation_deg", "value", "ci_low", "ci_high", "n", "seeds"]
    return pd.DataFrame(rows, columns=names)


def contrasts(pairs=(("upright", "turned"),)):
    rng, rows = generator(), []
    for (condition, minus), measure in itertools.product(
        pairs, (*MEASURES, "ridge_error_noise_mean", "fisher_noise_mean", "colour_contrast")
    ):
        status = "co-primary" if measure in MEASURES[::2] else "exploratory"
        value = rng.normal(0, 2)
        rows.append((status, measure, condition, minus, value, value - 1, value + 1.5, 0.031, 7, 7))
    names = [
        "status",
        "measure",
        "condition",
        "minus",
        "estimate",
        "ci_low",
        "ci_high",
        "p_adjusted",
        "n",
        "seeds",
    ]
    return pd.DataFrame(rows, columns=names)


def trajectory():
    rows = [
        (
            measure,
            condition,
            "turned",
            epoch,
            -3 / (1 + epoch / 900),
            -4 / (1 + epoch / 900),
            -1 / (1 + epoch / 900),
            7,
            7,
        )
        for measure in MEASURES
        for condition in ("upright", "isotropic")
        for epoch in (0, 500, 1200, 2400, 4800, 9600)
    ]
    names = [
        "measure",
        "condition",
        "minus",
        "epoch",
        "estimate",
        "ci_low",
        "ci_high",
        "n",
        "seeds",
    ]
    return pd.DataFrame(rows, columns=names)


def kept():
    rows = []
    for protocol, (i, dataset) in itertools.product(
        ("few_shot", "lora"), enumerate(("lines_100", "lines_1000", "lines_10000"))
    ):
        for quantity, value in (("contrast_before", -8.0), ("contrast_after", -6.0 + 2.5 * i)):
            one = (dataset, protocol, "upright", "turned", quantity, value, value - 1, value + 1)
            rows.append((*one, 7, 7))
    names = [
        "dataset",
        "protocol",
        "condition",
        "minus",
        "quantity",
        "estimate",
        "ci_low",
        "ci_high",
        "n",
        "seeds",
    ]
    return pd.DataFrame(rows, columns=names)


def planes():
    rows = [
        (measure, part, c4, s4, 7, 7)
        for measure in MEASURES[::2]
        for part, c4, s4 in (("pictures", -4.0, 0.2), ("lattice", 1.0, 0.5), ("misfit", 0.3, -0.4))
    ]
    return pd.DataFrame(rows, columns=["measure", "part", "c4", "s4", "n", "seeds"])


DRAW = {
    "statistics": lambda: rearing.image_statistics(edges(), hues()),
    "curves": lambda: rearing.bias_curves(curves()),
    "forest": lambda: rearing.contrast_forest(contrasts()),
    "forest_pairs": lambda: rearing.contrast_forest(
        contrasts((("upright", "turned"), ("turned_by_22", "upright")))
    ),
    "planes": lambda: rearing.bias_planes(planes()),
    "trajectory": lambda: rearing.bias_trajectory(trajectory()),
    "kept": lambda: rearing.bias_after_tuning(kept()),
}


@pytest.fixture(scope="module")
def drawn():
    return laid_out({name: draw() for name, draw in DRAW.items()})


@pytest.mark.parametrize("name", DRAW)
def test_text_is_legible_inside_the_page_and_apart(drawn, name):
    check_text(drawn[name])


@pytest.mark.parametrize("name", DRAW)
def test_captions_count_and_axes_have_units(drawn, name):
    caption = theme.text_of(drawn[name], "caption")
    assert "n = " in caption
    assert name == "statistics" or "seeds: 7" in caption
    labels = [a.get_xlabel() for a in drawn[name].axes] + [a.get_ylabel() for a in drawn[name].axes]
    assert any(labels)
    assert all("(" in label and label.endswith(")") for label in labels if label), labels


def test_edge_energy_is_drawn_as_a_multiple_of_flat(drawn):
    left, right = drawn["statistics"].axes
    curve = next(line for line in left.lines if line.get_label() == "upright")
    assert curve.get_ydata()[0] == pytest.approx(1.3)
    assert (curve.get_xdata()[-1], curve.get_ydata()[-1]) == pytest.approx((180, 1.3))
    assert {line.get_label() for line in right.lines} == {"natural colours", "blue poor"}
    assert "Without colour: upright." in theme.text_of(drawn["statistics"], "caption")
    # A condition has one colour in both panels.
    by_name = {line.get_label(): line.get_color() for line in left.lines}
    assert len({by_name[condition] for condition in ("upright", "turned", "isotropic")}) == 3


def test_curves_are_the_frame_s_numbers_and_controls_are_pale(drawn):
    frame = curves()
    axes = {a.get_ylabel(): a for a in drawn["curves"].axes}
    assert list(axes) == [
        "Error (deg)", "Signed error (deg)", "Information (log2 per deg\u00b2)"
    ]  # fmt: skip
    for panel, measure in zip(axes.values(), MEASURES, strict=True):
        lines = {line.get_label(): line for line in panel.lines}
        for condition in ("upright", "turned", "untrained"):
            own = frame[(frame["measure"] == measure) & (frame["condition"] == condition)]
            assert np.array_equal(lines[condition].get_ydata()[:-1], own["value"])
        assert to_hex(lines["untrained"].get_color()) == theme.PALE
    low, high = axes["Signed error (deg)"].get_ylim()
    assert low == -high


def test_registered_contrasts_are_filled_and_carry_their_p(drawn):
    frame = contrasts()
    shown = {}
    for axes in drawn["forest"].axes:
        marks = [line for line in axes.lines if line.get_marker() == "o"]
        for label, mark in zip(axes.get_yticklabels(), marks, strict=True):
            shown[label.get_text()] = mark
    assert len(shown) == len(frame)
    for row in frame.to_dict("records"):
        mark = shown[rearing.measure_name(row["measure"])]
        assert mark.get_xdata()[0] == row["estimate"]
        assert (mark.get_markerfacecolor() != "white") == (row["status"] == "co-primary")
    texts = [t.get_text() for axes in drawn["forest"].axes for t in axes.texts]
    assert texts.count("p = 0.031") == 2
    assert texts.count("q = 0.031") == 4


def test_untrained_networks_stand_at_zero_epochs(drawn):
    axes = drawn["trajectory"].axes[0]
    assert axes.get_xticklabels()[0].get_text() == "0"
    line = next(line for line in axes.lines if line.get_label() == "upright minus turned")
    assert line.get_xdata()[0] == 250
    assert [t.get_text() for t in axes.get_xticklabels()[1:3]] == ["500", "1.2k"]
    assert line.get_ydata()[0] == -3


def test_frozen_networks_stand_first_and_once(drawn):
    for axes in drawn["kept"].axes:
        labels = [label.get_text() for label in axes.get_xticklabels()]
        assert labels == ["frozen", "lines 100", "lines 1000", "lines 10000"]
        marks = next(line for line in axes.lines if line.get_label() == "upright minus turned")
        assert list(marks.get_xdata()) == [0, 1, 2, 3]
        assert list(marks.get_ydata()) == [-8, -6, -3.5, -1]


def test_each_condition_stands_where_its_parts_add_up(drawn):
    for axes in drawn["planes"].axes:
        shown = {line.get_label(): line for line in axes.lines}
        places = {
            name: complex(line.get_xdata()[0], line.get_ydata()[0]) for name, line in shown.items()
        }
        assert places["upright"] == pytest.approx(-3 + 0.7j)
        assert places["turned by 45 deg"] == pytest.approx(5 + 0.3j)
        # i times (-4 + .2 i) is -.2 - 4 i; the misfit is added.
        assert places["turned by 22.5 deg"] == pytest.approx(1.1 - 3.9j)
        ring = shown["prediction"]
        away = np.hypot(ring.get_xdata() - 0.8, ring.get_ydata() + 3.5)
        assert away == pytest.approx(np.abs(-4 + 0.2j) / 2)
