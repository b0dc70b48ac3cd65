"""Figures about places of chirps show the numbers of their tables, legibly."""

import localisation_frames as frames
import numpy as np
import pandas as pd
import pytest
from pages import check_text, laid_out
from patchwork.analysis.chirps import localisation
from patchwork.figures import theme
from patchwork.figures.chirps import learning
from patchwork.figures.chirps import localisation as figures

TABLE = {
    "predicted_against_true": "points",
    "error_along": "errors_along",
    "coverage": "conformal",
    "presence_roc": "presence",
    "chirp_errors": "histograms",
    "learning_curve": "learning",
}
OF_LEARNING = ("chirp_errors", "learning_curve")
METHODS = ["pretrained", "constant", "ridge tracker", "matched filter"]


def draw(name):
    return getattr(learning if name in OF_LEARNING else figures, name)


def tables(*, several):
    """Of one dataset and network, or of two each, read as the workflow reads them: as text."""
    table = frames.images(160)
    parts = [frames.run(table, seed=seed) for seed in (0, 1, 2)]
    if several:
        parts += [frames.run(table, seed=0).assign(protocol="described")]
        measured = [frames.run(table, seed=seed, dataset="measured") for seed in (0, 1, 2)]
        parts += [one.rename(columns={"noise_sd": "snr_db"}) for one in measured]
    found = {name: frames.detected(table) for name in ("plain", "measured")}
    # Layout takes its time: of several networks, half of the targets are enough.
    left_out = [f"predicted_{name}" for name in ("duration_s", "start_hz")] if several else []
    predicted = pd.concat(parts, ignore_index=True).drop(columns=left_out)
    made = localisation.localisation_tables(
        localisation.with_baselines(predicted, found),
        frames.ATTRIBUTES,
        n_bins=4,
        coverage=0.9,
        sizes={"plain": 8000, "measured": 2000},
        planted={},
    )
    return {draw: made[name] for draw, name in TABLE.items()}


@pytest.fixture(scope="module")
def one():
    return tables(several=False)


@pytest.fixture(scope="module")
def drawn(one):
    made = {name: draw(name)(table) for name, table in one.items()}
    for name, table in tables(several=True).items():
        made[f"{name}, several"] = draw(name)(table)
    return laid_out(made)


CASES = [*TABLE, *(f"{name}, several" for name in TABLE)]


@pytest.mark.parametrize("name", CASES)
def test_text_is_legible_inside_the_page_and_apart(drawn, name):
    check_text(drawn[name])


@pytest.mark.parametrize("name", CASES)
def test_axes_carry_units_and_captions_numbers(drawn, name):
    for which in ("get_xlabel", "get_ylabel"):
        labels = {getattr(axes, which)() for axes in drawn[name].axes} - {""}
        assert labels
        assert all(label.endswith(")") and "(" in label for label in labels), labels
    assert "n = " in theme.text_of(drawn[name], "caption").replace("\u00a0", " ")
    assert drawn[name].get_size_inches()[0] * 2.54 == pytest.approx(
        8 if name == "presence_roc" else 17
    )


def test_points_and_their_line_are_the_table_s(drawn, one):
    table = one["predicted_against_true"]
    panels = drawn["predicted_against_true"].axes
    assert len(panels) == 4 * len(METHODS)
    cell = table[(table["backbone"] == "matched_filter") & (table["target"] == "start_s")]
    axes = panels[3]
    assert np.array_equal(axes.collections[0].get_offsets(), cell[["actual", "predicted"]])
    x, y = axes.get_lines()[1].get_data()
    assert (y[1] - y[0]) / (x[1] - x[0]) == pytest.approx(cell["slope"].iloc[0])
    caption = theme.text_of(drawn["predicted_against_true"], "caption")
    assert f"matched filter: start {cell['pearson_r'].iloc[0]:.3f}" in caption
    assert "constant" not in caption  # it has no correlation


def test_curves_along_noise_are_the_table_s_and_legends_name_every_method(drawn, one):
    table, figure = one["error_along"], drawn["error_along"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == METHODS
    cell = table[(table["target"] == "start_s") & (table["along"] == "noise_sd")]
    for line, backbone in zip(figure.axes[0].get_lines(), cell["backbone"].unique(), strict=True):
        rows = cell[cell["backbone"] == backbone]
        assert line.get_ydata() == pytest.approx(rows["mae"].to_numpy())
        assert line.get_xdata() == pytest.approx(rows["bin"].to_numpy())
    names = [label.get_text() for label in figure.axes[2].get_xticklabels()]
    assert names == ["linear", "exponential"]
    heights = {axes.get_ylim() for axes in figure.axes[:3]}
    assert len(heights) == 1


def test_tables_from_files_are_drawn_alike(one, drawn, tmp_path):
    for name, table in one.items():
        table.to_csv(tmp_path / "table.csv", index=False)
        again = draw(name)(pd.read_csv(tmp_path / "table.csv"))
        assert theme.text_of(again, "caption") == theme.text_of(drawn[name], "caption")
        assert len(again.axes) == len(drawn[name].axes)


def test_coverage_stands_at_its_share_beside_what_was_wanted(drawn, one):
    table, figure = one["coverage"], drawn["coverage"]
    rows = table[(table["seed"] == "all") & (table["target"] == "start_s")]
    axes = figure.axes[0]
    marks = {line.get_label(): line.get_xdata() for line in axes.get_lines()}
    assert marks["mean over seeds"] == pytest.approx(rows["coverage"].to_numpy())
    assert set(marks["wanted"]) == {0.9}
    assert len(marks["single seeds"]) == 3 + 3  # three of the network, one of each baseline
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == f"pretrained, \u00b1{rows['half_width'].iloc[0]:.2g} s"
    assert len(labels) == 4


def test_the_roc_is_the_table_s_with_its_area(drawn, one):
    table, axes = one["presence_roc"], drawn["presence_roc"].axes[0]
    line = axes.get_lines()[1]
    rows = table[table["backbone"] == "pretrained"]
    assert line.get_ydata() == pytest.approx(rows["true_positive_rate"].to_numpy())
    assert line.get_label() == "pretrained"
    assert axes.texts[0].get_text().startswith(f"{rows['auroc'].iloc[0]:.3f} (")


def test_methods_are_told_apart_by_protocol_only_where_there_are_several(drawn):
    legend = drawn["error_along, several"].legends[0].get_texts()
    assert [text.get_text() for text in legend][:2] == [
        "pretrained, corrected",
        "pretrained, described",
    ]


def test_noise_and_signal_to_noise_share_a_column_each_with_its_name(drawn):
    labels = [axes.get_xlabel() for axes in drawn["error_along, several"].axes]
    assert len(labels) == 2 * 2 * 3
    assert labels[0] == labels[6] == ""
    assert labels[3] == "Noise (share of the ridge's peak)"
    assert labels[9:] == ["Signal to noise (dB)", "Chirp duration (s)", "Sweep (kind)"]


def test_many_methods_of_one_target_are_wrapped_and_each_is_named(one):
    table = one["predicted_against_true"]
    single = table[(table["target"] == "start_s") & (table["backbone"] == "pretrained")]
    many = pd.concat([single.assign(backbone=f"condition {i}") for i in range(8)])
    axes = figures.predicted_against_true(many).axes
    assert [each.get_title(loc="left") for each in axes] == [f"condition {i}" for i in range(8)]


def test_passes_of_each_network_are_drawn_with_their_median():
    rows = [
        {"seed": seed, "repetition": i, "seconds": 0.2 + 0.1 * seed + 0.01 * i, "n_images": 100}
        for seed in (0, 1)
        for i in range(3)
    ]
    names = {"dataset": "plain", "backbone": "pretrained", "protocol": "described"}
    axes = learning.inference_times(pd.DataFrame(rows).assign(**names)).axes[0]
    assert axes.get_lines()[2].get_ydata() == pytest.approx([3.0, 3.1, 3.2])
    assert axes.get_lines()[3].get_ydata() == pytest.approx([3.1, 3.1])
