"""Training, colour and head figures draw the numbers that they were given."""

import itertools

import figure_frames as frames
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import AxesImage
from matplotlib.text import Text
from patchwork.figures import theme
from patchwork.figures.biases import colour, training
from patchwork.figures.heads import head_effects, pictures


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
    figure = training.loss_curves(frame, frames.transitions(frame).iloc[:0])
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


def test_hues_stand_at_their_errors_and_the_ideal_below():
    frame = frames.hue_points(protocols=("corrected",))
    (axes,) = colour.hue_errors(frame).axes
    points = axes.collections[1]
    assert np.array_equal(points.get_offsets(), frame[["hue_deg", "error_deg"]])
    ideal = axes.lines[-1]
    assert np.array_equal(ideal.get_ydata(), frame["ideal_error_deg"])


def test_a_line_stands_once_in_every_colour_of_the_scatter():
    frame = frames.colour_predictions(protocols=("described",))
    (axes,) = colour.colour_scatter(frame).axes
    points = axes.collections[0]
    assert np.array_equal(points.get_offsets(), frame[["angle_deg", "predicted_deg"]])
    assert np.allclose(points.get_facecolors()[:, :3], frame[["red", "green", "blue"]] / 255)


def test_head_map_holds_every_effect_centred_at_zero_with_layers_from_one():
    frame = frames.head_effects(protocols=("described",), baselines=("mean",), size=(3, 2))
    figure = head_effects.head_effects(frame.sample(frac=1, random_state=1), unit="deg")
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
    image = head_effects.head_effects(frame.drop(index=3), unit="deg").axes[0].images[0]
    assert np.isnan(np.ma.filled(image.get_array(), np.nan)[1, 1])
    with pytest.raises(ValueError, match="two rows for cell"):
        head_effects.head_effects(pd.concat([frame, frame]), unit="deg")
    mixed = frame.assign(metric=["mae", "r"] * 3)
    with pytest.raises(ValueError, match="one metric per figure"):
        head_effects.head_effects(mixed, unit="deg")


def test_patches_lie_over_the_picture_and_the_class_token_stands_apart():
    frame = frames.patch_effects(layers=2, positions=5, components=("resid_pre",))
    frame = frame.assign(dataset="angle", recovery=[0.7, 0, 0, 0, 0, 0.9, 0, -1, 0, 0])
    dark = frames.picture(dataset="angle").assign(level=0.0)
    figure = pictures.patch_pictures(frame, dark)
    first, second, token = figure.axes[:3]
    assert np.array_equal(token.lines[-1].get_ydata(), [0.7, 0.9])
    assert not first.images[0].get_array().any()
    seen = second.images[0].get_array()
    assert seen[:32, 32:].any(axis=-1).all()  # the second patch is at the top right
    assert not seen[32:].any()
    assert not seen[:, :32].any()
    with pytest.raises(ValueError, match=r"6 tokens; allowed is a class token and a square"):
        pictures.patch_pictures(frame.assign(position=frame["position"] + 1), dark)


def test_attention_is_drawn_where_a_patch_has_more_than_its_share():
    maps = frames.attention_maps(tasks=("angle",), layers=1).assign(weight=0.01)
    maps.loc[(maps["row"] == 2) & (maps["column"] == 5), "weight"] = 0.4
    dark = frames.picture().assign(level=0.0)
    seen = pictures.attention_across_tasks(maps, dark).axes[0].images[0].get_array()
    assert seen[16:24, 40:48].any(axis=-1).all()
    assert np.count_nonzero(seen.any(axis=-1)) == 64
    with pytest.raises(ValueError, match="maps of several networks"):
        pictures.attention_across_tasks(pd.concat([maps, maps]), dark)


def test_patch_tokens_make_layers_by_positions_and_heads_their_own_panels():
    frame = frames.patch_effects(layers=3, positions=4, components=("resid_pre",))
    by_head = [frame.assign(component="head_out", head=h) for h in (0, 1)]
    figure = head_effects.patch_effects(pd.concat([frame, *by_head]))
    panes = [axes for axes in figure.axes if axes.images]
    names = [axes.get_ylabel().splitlines()[0] for axes in panes]
    assert names == ["resid pre", "head out 1", "head out 2"]
    assert panes[0].images[0].get_array().shape == (3, 4)


def test_similarity_draws_each_head_once_with_its_interval():
    frame = frames.similarities(protocols=("described",), layers=2, heads=3)
    frame = frame[frame["measure"] == "linear_cka"]
    (axes,) = head_effects.head_similarity(frame).axes
    for line, (_, part) in zip(axes.lines, frame.groupby("backbone", sort=False), strict=True):
        assert np.array_equal(line.get_ydata(), part["similarity"])
        assert np.array_equal(np.round(line.get_xdata()), part["layer"] + 1)
    ends = np.vstack([[s[:, 1] for s in bars.get_segments()] for bars in axes.collections])
    assert np.allclose(ends, frame[["ci_low", "ci_high"]])
