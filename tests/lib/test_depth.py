import numpy as np
import pandas as pd
import pytest
import torch
from patchwork import stimuli
from patchwork.analysis.biases import depth
from patchwork.figures.biases import depth as drawing
from patchwork.models import backbones
from small_networks import RANDOM

LINES = {
    "image_px": 32, "length_px": {"min": 12, "max": 12}, "width_px": {"min": 2, "max": 2},
    "palette": "white", "margin": "length", "noise_levels": [0.0], "rasteriser": "pil",
}  # fmt: skip


def coded(degrees, seed, *, gain=0.0, lattice=0.0, turned=False):
    """Vectors of the doubled angle whose noise depends on the orientation, as the plan says.

    `gain`: of the share by which noise is larger at oblique angles of the picture; `lattice`: of
    the pixels' lattice, which was turned with the lines.
    """
    theta = np.deg2rad(degrees)
    own = theta - np.pi / 4 if turned else theta
    sd = 0.05 * (1 - gain * np.cos(4 * theta) - lattice * np.cos(4 * own))
    rng = np.random.Generator(np.random.Philox(seed))
    clean = np.stack([np.cos(2 * theta), np.sin(2 * theta)], 1)
    return clean + sd[:, None] * rng.standard_normal(clean.shape)


def found(**planted):
    """Contrasts of read-outs of planted vectors, by quantity and view."""
    degrees = np.mod(np.arange(2400) * 137.5, 180)
    parts = []
    for view in depth.VIEWS:
        vectors = coded(degrees, len(view), turned=view == "turned", **planted)
        errors = depth.held_out_errors({("cls", 1): vectors}, degrees, 4)
        parts.append(errors.assign(view=view, backbone="planted"))
    table = depth.bias_by_depth(pd.concat(parts, ignore_index=True))
    return table[table["backbone"] == "planted"].set_index(["quantity", "view"])


def test_a_planted_bias_is_recovered_and_told_from_the_lattice():
    table = found(gain=0.3)
    expected = 2 * 0.3 * table.loc["error", "estimate"].mean()
    for row in (("oblique_minus_cardinal", "upright"), ("oblique_minus_cardinal", "turned"),
                ("oblique_minus_cardinal_picture", "both")):  # fmt: skip
        assert table.loc[row, "ci_low"] < expected < table.loc[row, "ci_high"]
        assert table.loc[row, "ci_low"] > 0
    other = table.loc[("oblique_minus_cardinal_lattice", "both")]
    assert other["ci_low"] < 0 < other["ci_high"]


def test_a_bias_of_the_lattice_turns_with_the_picture():
    table = found(lattice=0.3)
    assert table.loc[("oblique_minus_cardinal", "upright"), "ci_low"] > 0
    assert table.loc[("oblique_minus_cardinal", "turned"), "ci_high"] < 0
    assert table.loc[("oblique_minus_cardinal_lattice", "both"), "ci_low"] > 0
    picture = table.loc[("oblique_minus_cardinal_picture", "both")]
    assert picture["ci_low"] < 0 < picture["ci_high"]


def test_vectors_that_say_nothing_are_read_at_chance():
    degrees = np.mod(np.arange(400) * 137.5, 180)
    noise = np.random.Generator(np.random.Philox(1)).standard_normal((400, 5))
    errors = depth.held_out_errors({("mean", 3): noise}, degrees, 4)
    # The mean distance between two directions of no relation.
    assert errors["error_deg"].mean() == pytest.approx(45, abs=4)
    assert list(errors["example"]) == list(range(400))


def test_no_image_is_read_by_what_was_fitted_on_it():
    # With more features than images a fit would be perfect on its own images.
    degrees = np.mod(np.arange(60) * 137.5, 180)
    noise = np.random.Generator(np.random.Philox(2)).standard_normal((60, 300))
    errors = depth.held_out_errors({("cls", 1): noise}, degrees, 3)
    assert errors["error_deg"].mean() > 30


@torch.no_grad()
def test_every_block_is_read_as_it_leaves_its_tokens():
    network = backbones.prepare(RANDOM, 32, seed=3)
    images = stimuli.draw(
        {"kind": "lines", "settings": LINES, "seed": 1, "first_index": 5, "n": 7}
    ).images
    vectors = depth.block_vectors(network, images, batch_size=3)
    assert set(vectors) == {(name, block) for name in ("cls", "mean") for block in (1, 2)}
    mean, std = (torch.tensor(x)[:, None, None] for x in (network.mean, network.std))
    pixels = (torch.from_numpy(images.transpose(0, 3, 1, 2)).float() / 255 - mean) / std
    encoder = network.encoder
    tokens = encoder.norm_pre(encoder._pos_embed(encoder.patch_embed(pixels)))
    for number, block in enumerate(encoder.blocks, 1):
        tokens = block(tokens)
        expected = {"cls": tokens[:, 0], "mean": tokens[:, 1:].mean(1)}
        for name, value in expected.items():
            np.testing.assert_allclose(vectors[name, number], value.numpy(), atol=1e-5)


def test_the_figure_has_a_panel_for_each_quantity_and_view():
    rows = []
    for backbone, readout, blocks in (
        ("pretrained", "cls", (1, 2)), ("shuffled", "mean", (1, 2)), ("pixels", "pixels", (0,)),
        ("ideal_observer", "none", (0,)),
    ):  # fmt: skip
        for block in blocks:
            for view in depth.VIEWS:
                for quantity in (
                    "error", "oblique_minus_cardinal", "vertical_minus_horizontal",
                ):  # fmt: skip
                    names = {"backbone": backbone, "readout": readout, "block": block}
                    ends = {"estimate": 1.0, "ci_low": 0.5, "ci_high": 2.0, "n": 100}
                    rows.append({**names, "view": view, "quantity": quantity, **ends})
    figure = drawing.bias_by_depth(pd.DataFrame(rows))
    assert len(figure.axes) == 6
    shown = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert {"pretrained, class token", "shuffled, mean token", "pixels", "ideal observer"} == shown
    assert figure.axes[2].get_ylim() == pytest.approx((-2.8, 2.8))
