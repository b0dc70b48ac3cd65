"""Figures of attention on regions and of ablation: what they draw, say and refuse."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from pages import check_text, laid_out
from patchwork.figures import theme
from patchwork.figures.heads import head_effects, regions

DEPTH, HEADS = 4, 3
RUN = {"dataset": "decorated", "backbone": "random", "protocol": "described"}
COUNTED = {"n": 64, "seeds": 3}
REGIONS = ("chirp", "text", "frame", "colour_bar", "background", "margin")


def generator() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(4))


def cells() -> pd.DataFrame:
    return pd.DataFrame(
        list(itertools.product(range(DEPTH), range(HEADS))), columns=["layer", "head"]
    )


def masses() -> pd.DataFrame:
    rng = generator()
    parts = [cells().assign(region=name, state=state) for state in ("tuned", "untouched")
             for name in REGIONS]  # fmt: skip
    frame = pd.concat(parts, ignore_index=True)
    frame["ratio"] = 2.0 ** rng.uniform(-5, 5, len(frame))
    frame["passes"] = (frame["ratio"] > 8).astype(float)
    return frame.assign(**RUN, **COUNTED)


def shares() -> pd.DataFrame:
    rng, rows = generator(), []
    kinds = [("monosemantic", "any"), ("monosemantic", "chirp"), ("monosemantic", "text"),
             ("polysemantic", np.nan), ("neither", np.nan)]  # fmt: skip
    for layer, (kind, region), state in itertools.product(
        range(DEPTH), kinds, ("tuned", "untouched")
    ):
        share = rng.uniform(0.1, 0.4)
        row = {"layer": layer, "kind": kind, "region": region, "state": state, "estimate": share}
        rows.append(RUN | row | {"ci_low": share - 0.1, "ci_high": share + 0.1} | COUNTED)
    return pd.DataFrame(rows)


def overlay(side: int = 96, grid: int = 6) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = generator()
    shape = (3, DEPTH, HEADS, grid, grid)
    names = ("example", "layer", "head", "row", "column")
    maps = pd.DataFrame(dict(zip(names, np.indices(shape).reshape(5, -1), strict=True)))
    maps = maps.assign(weight=rng.random(len(maps)), **RUN, seed=0)
    example, y, x = (one.reshape(-1) for one in np.indices((3, side, side)))
    colours = dict.fromkeys(("red", "green", "blue"), 120)
    picture = pd.DataFrame({"example": example, "row": y, "column": x} | colours)
    return maps.sample(frac=1, random_state=1), picture.sample(frac=1, random_state=1)


def compared() -> pd.DataFrame:
    rng = generator()
    frame = pd.concat([cells().assign(seed=seed) for seed in range(3)], ignore_index=True)
    attends = frame["head"] == 0
    has_effect = rng.random(len(frame)) < 0.5
    ratio = np.where(attends, 4, 1) * rng.uniform(0.7, 1.3, len(frame))
    effect = np.where(has_effect, 20, 0) + rng.normal(0, 0.5, len(frame))
    kind = np.where(
        attends, "monosemantic", np.where(frame["layer"] == 1, "polysemantic", "neither")
    )
    text = attends & (frame["layer"] == 0)
    return frame.assign(
        kind=kind,
        selective_for=np.where(text, "text", np.where(attends, "chirp", "")),
        region="chirp",
        attends=attends,
        has_effect=has_effect,
        ratio=ratio,
        effect=effect,
        n=64,
        **RUN,
    )


def by_layer() -> pd.DataFrame:
    rows = []
    for groups, layer, baseline in itertools.product(
        ("layer_means", "layers", "pairs"), range(DEPTH), ("zero", "mean", "resample")
    ):
        effect = (1 if groups == "layer_means" else 50) * (layer + 1)
        row = {"groups": groups, "layer": layer, "baseline": baseline, "effect": effect}
        rows.append(RUN | row | {"ci_low": effect * 0.8, "ci_high": effect * 1.2} | COUNTED)
    return pd.DataFrame(rows)


def spread() -> pd.DataFrame:
    rng = generator()
    intact = pd.DataFrame({"layer": [-1], "head": [-1]})
    frame = pd.concat([intact, cells()], ignore_index=True)
    middle = 20 + rng.normal(0, 2, len(frame))
    columns = {f"q{q:02d}": middle + (q - 50) / 4 for q in (5, 25, 50, 75, 95)}
    return frame.assign(label="start_s", **columns, **RUN, **COUNTED)


def profile() -> pd.DataFrame:
    rows = []
    orders = ("forward", "reverse", "random1", "random2")
    procedures = ("as_released", "own_label_scale", "before_forward", "restored", "whole_head")
    for procedure, order, layer in itertools.product(procedures, orders, range(DEPTH)):
        effect = 3.0 * layer + (orders.index(order) if procedure == "as_released" else 0)
        row = {"procedure": procedure, "order": order, "layer": layer, "effect": effect}
        rows.append(RUN | row | {"ci_low": effect - 1, "ci_high": effect + 1} | COUNTED)
    return pd.DataFrame(rows)


def scales() -> pd.DataFrame:
    rows = []
    for scale, (name, mse) in itertools.product(
        ("raw", "standardised"),
        {"network": 2460, "constant": 2465, "perfect": 2440, "mean": 654}.items(),
    ):
        row = {"label_scale": scale, "predictor": name, "mse": mse, "ci_low": mse, "ci_high": mse}
        rows.append(RUN | row | COUNTED)
    return pd.DataFrame(rows)


DRAW = {
    "masses": lambda: regions.region_masses(masses()),
    "masses_of_one": lambda: regions.region_masses(masses().query("state == 'tuned'")),
    "shares": lambda: regions.selectivity_by_layer(shares()),
    "overlay": lambda: regions.attention_overlay(*overlay()),
    "by_kind": lambda: regions.attention_by_kind(*overlay(), compared()),
    "table": lambda: regions.head_table(compared()),
    "compared": lambda: regions.attention_and_effect(compared()),
    "layers": lambda: head_effects.layer_effects(by_layer()),
    "spread": lambda: head_effects.prediction_spread(spread(), unit="s"),
    "released": lambda: head_effects.released_decomposition(profile()),
    "scales": lambda: head_effects.label_scales(scales()),
}


@pytest.fixture(scope="module")
def drawn():
    return laid_out({name: draw() for name, draw in DRAW.items()})


@pytest.mark.parametrize("name", DRAW)
def test_text_is_legible_inside_the_page_and_apart(drawn, name):
    check_text(drawn[name])


@pytest.mark.parametrize("name", ["masses", "masses_of_one", "overlay"])
def test_colour_bars_are_legible(drawn, name):
    texts = [tick.label1 for tick in drawn[name].axes[-1].xaxis.get_major_ticks()]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert len(boxes) >= 3
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


@pytest.mark.parametrize("name", DRAW)
def test_axes_carry_units_and_captions_count(drawn, name):
    panes = [axes for axes in drawn[name].axes if axes.get_subplotspec() is not None]
    for axis in ("get_xlabel", "get_ylabel"):
        labels = {getattr(axes, axis)().splitlines()[-1] for axes in panes if getattr(axes, axis)()}
        assert labels
        assert all("(" in label and label.endswith(")") for label in labels), labels
    assert min(abs(drawn[name].get_size_inches()[0] * 2.54 - w) for w in (8, 17)) < 1e-6
    caption = theme.text_of(drawn[name], "caption")
    assert "seeds: 3" in caption or name in ("overlay", "by_kind")


def test_masses_are_powers_of_two_with_a_dot_where_a_region_passes(drawn):
    frame = masses()
    panes = [axes for axes in drawn["masses"].axes if axes.images]
    assert len(panes) == 2 * len(REGIONS)
    dots = 0
    in_order = frame.assign(region=pd.Categorical(frame["region"], REGIONS))
    parts = in_order.groupby(["region", "state"], observed=True)
    for axes, (_, part) in zip(panes, parts, strict=True):
        table = part.pivot(index="layer", columns="head", values="ratio").to_numpy()
        assert np.allclose(axes.images[0].get_array(), np.log2(np.clip(table, 1 / 16, 16)))
        dots += len(axes.lines[0].get_xdata())
    assert dots == (frame["passes"] > 0.5).sum()
    assert f"({dots} of {len(frame)} cells)" in theme.text_of(drawn["masses"], "caption")


def test_shares_leave_out_sums_and_heads_that_are_not_selective(drawn):
    axes = drawn["shares"].axes[0]
    assert {line.get_label() for line in axes.lines} == {"chirp", "text", "polysemantic"}
    line = next(line for line in axes.lines if line.get_label() == "chirp")
    part = shares().query("region == 'chirp' and state == 'tuned'")
    assert np.allclose(line.get_ydata(), part["estimate"])


def test_the_overlay_is_the_picture_where_attention_is_nil_and_colour_where_it_peaks():
    maps, picture = overlay()
    hot = (maps["row"] == 2) & (maps["column"] == 4)
    figure = regions.attention_overlay(maps.assign(weight=1.0 + 35 * hot), picture)
    mosaic = figure.axes[0].images[0].get_array()
    assert mosaic.shape == (DEPTH * 96, HEADS * 96, 3)
    tile = mosaic[96 : 2 * 96, 2 * 96 : 3 * 96]  # layer 1, head 2
    assert np.allclose(tile[5, 5], 120 / 255)
    top = np.array(to_rgb(theme.PALETTE[1]))
    assert np.allclose(tile[2 * 16 + 8, 4 * 16 + 8], 0.15 * 120 / 255 + 0.85 * top)
    twice = regions.attention_overlay(maps.assign(weight=1 + hot * 18 / 17), picture)
    shade = twice.axes[0].images[0].get_array()[2 * 16 + 8, 4 * 16 + 8]
    assert np.allclose(shade, (1 - 0.85 / 3) * 120 / 255 + 0.85 / 3 * top)
    with pytest.raises(ValueError, match="several runs"):
        regions.attention_overlay(pd.concat([maps, maps.assign(seed=1)]), picture)


def test_maps_are_averaged_over_the_heads_of_a_kind():
    maps, picture = overlay()
    hot = (maps["row"] == 2) & (maps["column"] == 4) & (maps["layer"] == 0) & (maps["head"] == 0)
    figure = regions.attention_by_kind(maps.assign(weight=1.0 + 35 * hot), picture, compared())
    axes = figure.axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["chirp\nn = 3", "text\nn = 1", "polysemantic\nn = 2", "neither\nn = 6"]
    mosaic = axes.images[0].get_array()
    assert mosaic.shape == (4 * 96, 3 * 96, 3)
    row, column = 2 * 16 + 8, 96 + 4 * 16 + 8  # of the second picture
    assert np.allclose(mosaic[row, column], 120 / 255), "no head of the chirp"
    assert not np.allclose(mosaic[96 + row, column], 120 / 255), "the head of the text"


def test_every_head_of_every_network_is_a_square(drawn):
    frame, axes = compared(), drawn["table"].axes
    assert len(axes) == 3
    points = np.concatenate([c.get_offsets() for c in axes[1].collections])
    assert len(points) == DEPTH * HEADS
    legend = [text.get_text() for text in drawn["table"].legends[0].get_texts()]
    assert legend == ["chirp", "text", "polysemantic", "neither"]
    assert frame["seed"].nunique() == len(axes)


def test_every_head_is_a_point_and_the_caption_counts_them(drawn):
    frame, figure = compared(), drawn["compared"]
    points = np.concatenate([c.get_offsets() for c in figure.axes[0].collections])
    expected = frame[["ratio", "effect"]].to_numpy()
    assert np.allclose(points[np.lexsort(points.T)], expected[np.lexsort(expected.T)])
    both = int((frame["attends"] & frame["has_effect"]).sum())
    assert f"{both} attend and have an effect" in theme.text_of(figure, "caption")
    with pytest.raises(ValueError, match="one per figure"):
        regions.attention_and_effect(pd.concat([frame, frame.assign(region="text")]))


def test_layers_have_rows_for_single_heads_and_for_all_at_once(drawn):
    axes = drawn["layers"].axes
    assert len(axes) == 2
    lines = {line.get_label(): line for line in axes[1].lines}
    assert np.allclose(lines["zero"].get_ydata(), [50, 100, 150, 200])


def test_predictions_stand_before_those_of_the_intact_network(drawn):
    frame, figure = spread(), drawn["spread"]
    assert len(figure.axes) == DEPTH
    axes = figure.axes[2]
    median = axes.lines[-1].get_ydata()
    assert np.allclose(median, frame.query("layer == 2")["q50"])
    assert np.allclose(axes.lines[0].get_ydata(), frame.query("layer == -1")["q50"])
    with pytest.raises(ValueError, match="one condition"):
        head_effects.prediction_spread(pd.concat([frame, frame]), unit="s")
    with pytest.raises(ValueError, match="intact"):
        head_effects.prediction_spread(frame.query("layer >= 0"), unit="s")


def test_the_decomposition_has_a_panel_per_step_and_a_line_per_order(drawn):
    figure = drawn["released"]
    assert len(figure.axes) == 5
    assert figure.axes[0].get_title(loc="left") == "1 as released"
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == DEPTH]
    assert len(lines) == 4
    forward = next(line for line in lines if line.get_label() == "forward")
    assert np.allclose(forward.get_ydata(), 3 * np.arange(DEPTH))
    with pytest.raises(ValueError, match="'other'"):
        head_effects.released_decomposition(profile().assign(procedure="other"))


def test_scales_show_the_chosen_predictors_from_the_top():
    figure = head_effects.label_scales(scales(), ["perfect", "mean"])
    points = figure.axes[0].lines[-1]
    assert points.get_xdata().tolist() == [2440, 654]
    assert points.get_ydata().tolist() == [0, -1]


def test_points_far_outside_have_room_beside_them():
    frame = compared()
    frame.loc[0, ["effect", "ratio"]] = 500.0, 40.0
    axes = regions.attention_and_effect(frame).axes[0]
    to_page = axes.transData.transform
    right, top = to_page((axes.get_xlim()[1], axes.get_ylim()[1]))
    x, y = to_page((40.0, 500.0))
    assert x < right - 5
    assert y < top - 5
