"""Heads of fine-tuned networks: sweeps against naive loops, tables with planted truths."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from patchwork import interventions, tables
from patchwork.analysis.heads import effect_tables
from patchwork.analysis.heads import effects as head_effects
from patchwork.interventions import Plan
from patchwork.interventions.contexts import BASELINES
from patchwork.interventions.sweeps.grid import COMPONENTS, WITHIN
from patchwork.models import fine_tuned
from patchwork.models.tasks import Category, DoubleAngle, Scaled, Target
from patchwork.stimuli import lines
from small_networks import ARCHITECTURE, LORA, Pictures, network
from timm.models.vision_transformer import VisionTransformer

SETTINGS = {
    "image_px": 64, "length_px": {"min": 6, "max": 20}, "width_px": {"min": 1, "max": 4},
    "palette": "basic11", "margin": "length_and_width", "noise_levels": [0.0, 0.2],
    "rasteriser": "pil",
}  # fmt: skip


VIT_64 = {
    "name": "vit_tiny_patch16_224",
    "options": {"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3},
}


def tuned(
    readout: str = "cls",
    adapter: dict = LORA,
    image_px: int = 32,
    architecture: dict = ARCHITECTURE,
) -> fine_tuned.Network:
    one = network(adapter, readout, image_px=image_px, architecture=architecture)
    with torch.no_grad():
        for name, value in one.named_parameters():
            if "lora_B" in name:  # as if it had been trained
                value.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    return fine_tuned.merge(one)


@torch.no_grad()
def naive_effects(one: fine_tuned.Network, images: torch.Tensor, labels: dict) -> pd.DataFrame:
    """Zero ablation with one forward pass per head and hooks of torch alone; squared error."""
    truth = torch.tensor(labels["brightness"]) / 255

    def error() -> torch.Tensor:
        return (one(images)["brightness"][:, 0] - truth) ** 2

    clean, rows = error(), []
    for layer, block in enumerate(one.encoder.blocks):
        for head in range(block.attn.num_heads):
            part = slice(head * block.attn.head_dim, (head + 1) * block.attn.head_dim)

            def without(module, args, part=part):
                z = args[0].clone()
                z[..., part] = 0
                return (z,)

            handle = block.attn.proj.register_forward_pre_hook(without)
            rows += [
                {"layer": layer, "head": head, "example": i, "naive": float(value)}
                for i, value in enumerate(error() - clean)
            ]
            handle.remove()
    return pd.DataFrame(rows)


@pytest.mark.parametrize("readout", fine_tuned.READOUTS)
def test_ablation_of_a_network_with_lora_equals_a_naive_loop(readout):
    pictures = Pictures(7, 0, image_px=64)
    one = tuned(readout, image_px=64, architecture=VIT_64)
    assert isinstance(one.encoder, VisionTransformer), "merged"
    naive = naive_effects(one, pictures.images, pictures.labels)
    table = head_effects.ablation(
        one, pictures.images.numpy(), pictures.labels, ["brightness"], ["zero"]
    )
    both = table.merge(naive, on=["layer", "head", "example"], validate="one_to_one")
    assert len(both) == len(naive) == 4 * 3 * 7
    assert np.abs(both["effect"] - both["naive"]).max() < 1e-5
    assert naive.groupby(["layer", "head"])["naive"].apply(lambda x: x.abs().max()).min() > 1e-3
    metric = head_effects.target_loss(one, "brightness", pictures.labels)
    sweep = interventions.head_ablation_sweep(one, pictures.images, metric)
    plain = interventions.head_ablation_sweep(one, pictures.images, metric, plan=Plan(path="plain"))
    assert sweep.metadata["path"] == "fast"
    assert np.abs(sweep.values - plain.values).max() < 1e-5


def test_the_metric_is_the_loss_of_the_target():
    pictures = Pictures(5, 0, image_px=32)
    one = tuned()
    rows = torch.tensor([3, 1])
    output = one(pictures.images[rows])
    found = head_effects.target_loss(one, "brightness", pictures.labels)(output, rows)
    truth = torch.tensor(pictures.labels["brightness"])[rows] / 255
    assert torch.allclose(found.double(), (output["brightness"][:, 0] - truth) ** 2, atol=1e-6)


def test_errors_are_in_the_unit_of_the_labels_and_go_the_short_way_round():
    orientation = Target(("orientation_deg",), DoubleAngle(180))
    place = Target(("x_px", "y_px"), Scaled(64))
    one = tuned()
    one.targets = {"orientation": orientation, "place": place}
    labels = {
        "orientation_deg": np.array([5.0, 90.0]),
        "x_px": np.array([10.0, 20.0]),
        "y_px": np.array([30.0, 0.0]),
    }
    far = {"orientation_deg": np.array([175.0, 60.0]), "x_px": [14.0, 20.0], "y_px": [30.0, 6.0]}
    output = {name: torch.from_numpy(t.encode(far)) for name, t in one.targets.items()}
    rows = torch.tensor([0, 1])
    turned = head_effects.target_error(one, "orientation", labels)(output, rows)
    assert turned.tolist() == pytest.approx([10, 30], abs=1e-3)
    assert turned.dtype == torch.float32
    moved = head_effects.target_error(one, "place", labels)(output, rows)
    assert moved.tolist() == pytest.approx([2, 3], abs=1e-3)
    swapped = {name: value[[1]] for name, value in output.items()}
    again = head_effects.target_error(one, "orientation", labels)(swapped, rows[1:])
    assert again.tolist() == pytest.approx([30], abs=1e-3)


def test_effects_on_the_error_equal_single_ablations():
    pictures = Pictures(5, 0, image_px=32)
    one = tuned()
    table = head_effects.ablation(
        one, pictures.images.numpy(), pictures.labels, ["brightness"], ["zero"], "error"
    )
    assert set(table["metric"]) == {"brightness error"}
    truth = torch.tensor(pictures.labels["brightness"])

    def error():
        return (one(pictures.images)["brightness"][:, 0].double() * 255 - truth).abs()

    with torch.no_grad():
        clean = error()
        with interventions.ablate(one, "1.head_out.0"):
            change = (error() - clean).numpy()
    found = table.query("layer == 1 and head == 0").sort_values("example")["effect"]
    assert found.to_numpy() == pytest.approx(change, abs=1e-3)
    assert np.abs(change).max() > 0.1


def test_classes_have_no_error_in_a_unit():
    one, pictures = tuned(), Pictures(2, 0, image_px=32)
    images = pictures.images.numpy()
    one.targets = {"shape": Target(("shape",), Category(3), loss="cross_entropy")}
    with pytest.raises(ValueError, match="target shape has no unit; allowed is loss"):
        head_effects.ablation(one, images, {"shape": np.zeros(2)}, ["shape"], ["zero"], "error")


def test_the_schema_names_what_the_library_knows():
    path = Path(__file__).resolve().parents[2] / "workflow/schemas/interventions.schema.yaml"
    parts = yaml.safe_load(path.read_text())["properties"]
    ablated, patched = (parts[name]["properties"] for name in ("ablation", "patching"))
    assert ablated["measure"]["enum"] == list(head_effects.MEASURES)
    assert set(ablated["baselines"]["items"]["enum"]) == set(BASELINES) - {"knockout"}
    assert patched["components"]["items"]["enum"] == [x for x in COMPONENTS if x not in WITHIN]
    changed = patched["changed"]["additionalProperties"]["properties"]
    assert changed["attribute"]["enum"] == list(lines.CHANGES)


def test_targets_that_are_predicted_are_scored():
    assert head_effects.predicted_targets(tuned(), ["angle", "side"]) == ["side"]
    with pytest.raises(ValueError, match="allowed is one of brightness, side"):
        head_effects.predicted_targets(tuned(), ["angle"])


def test_patching_everything_before_the_first_block_carries_everything():
    dark, light = Pictures(4, 0, image_px=32), Pictures(4, 1, image_px=32)
    one = tuned()
    table = head_effects.patching(
        one, (dark.images.numpy(), light.images.numpy()), dark.labels, ["brightness"], ["resid_pre"]
    )
    assert set(table["direction"]) == set(head_effects.DIRECTIONS)
    metric = head_effects.target_loss(one, "brightness", dark.labels)
    rows = torch.arange(4)
    clean, corrupted = (metric(one(p.images), rows).detach().numpy() for p in (dark, light))
    first = table.drop_duplicates(["direction", "example"]).set_index(["direction", "example"])
    assert np.allclose(first.loc["clean_to_corrupted", "source"], clean, atol=1e-6)
    assert np.allclose(first.loc["clean_to_corrupted", "base"], corrupted, atol=1e-6)


def test_the_same_network_is_alike_and_untrained_tasks_are_the_backbone():
    pictures = Pictures(8, 0, image_px=32).images.numpy()
    frozen = {"kind": "none"}
    networks = {"one": tuned(adapter=frozen), "other": tuned(adapter=frozen)}
    table = head_effects.similarities(
        networks, network(adapter=frozen, image_px=32).encoder, pictures
    )
    assert set(table["other"]) == {"other", tables.UNTOUCHED}
    assert table["linear_cka"].to_numpy() == pytest.approx(1)
    changed = head_effects.similarities(
        {"tuned": tuned(), **networks}, networks["one"].encoder, pictures
    )
    assert changed.query("one == 'tuned'")["linear_cka"].min() < 0.9999


def test_a_frozen_encoder_is_the_same_after_any_task():
    """Why A6 cannot but hold where the encoder is frozen, however long the heads train."""
    data = Pictures(8, 0, image_px=32)
    networks = {}
    for name in ("brightness", "side"):
        one = network(adapter={"kind": "none"}, image_px=32)
        start = {key: value.clone() for key, value in one.state_dict().items()}
        optimiser = torch.optim.SGD([p for p in one.parameters() if p.requires_grad], 0.1)
        for _ in range(3):
            optimiser.zero_grad()
            one(data.images)[name].square().mean().backward()
            optimiser.step()
        assert any(not torch.equal(start[key], value) for key, value in one.state_dict().items())
        networks[name] = fine_tuned.merge(one)
    found = head_effects.similarities(networks, networks["side"].encoder, data.images.numpy())
    apart = found[found["other"] == "side"]
    assert len(apart) == 4  # two layers of two heads
    assert apart["linear_cka"].to_numpy() == pytest.approx(1)
    assert apart["map_correlation"].to_numpy() == pytest.approx(1)


def ablated(effects: np.ndarray, seeds: int = 4, n: int = 40) -> pd.DataFrame:
    """Planted mean effects of (layer, head), noise of one, all seeds on the same images."""
    rng = np.random.default_rng(0)
    rows = [
        pd.DataFrame(
            {
                "layer": layer, "head": head, "baseline": "zero", "metric": "loss",
                "example": np.arange(n), "seed": seed,
                "effect": effects[layer, head] + rng.normal(0, 1, n),
            }
        )
        for seed in range(seeds)
        for layer, head in np.ndindex(*effects.shape)
    ]  # fmt: skip
    return pd.concat(rows).assign(dataset="d", backbone="b", protocol="p")


def test_a_planted_head_is_found_and_no_other():
    planted = np.zeros((3, 4))
    planted[1, 2] = 2.0
    table = effect_tables.ablation_table(ablated(planted), seed=0)
    assert len(table) == 12
    row = table.set_index(["layer", "head"]).loc[(1, 2)]
    assert table["effect"].idxmax() == table.index[(table["layer"] == 1) & (table["head"] == 2)][0]
    assert row["ci_low"] > 0
    assert row["q"] < 0.05
    assert row["p_family"] < 0.05
    assert bool(row["confirmed"])
    assert (table["q"] < 0.05).sum() <= 2
    assert table["n"].iloc[0] == 160
    assert {
        "layer",
        "head",
        "baseline",
        "metric",
        "effect",
        "ci_low",
        "ci_high",
        "p",
        "q",
        "n",
    } <= set(table.columns)


def test_recovery_is_the_ratio_of_means():
    rng = np.random.default_rng(0)
    gap = rng.normal(2.0, 0.3, 60)
    share = {0: 0.0, 1: 0.25, 2: 1.0}
    frame = pd.concat(
        pd.DataFrame(
            {
                "layer": layer, "position": 0, "component": "resid_pre",
                "seed": np.arange(60) // 20, "example": np.arange(60) % 20,
                "base": 1.0, "source": 1.0 + gap,
                "effect": part * gap + rng.normal(0, 0.05, 60),
            }
        )
        for layer, part in share.items()
    )  # fmt: skip
    names = {"dataset": "d", "backbone": "b", "protocol": "p", "metric": "m"}
    frame = frame.assign(**names, direction="clean_to_corrupted")
    table = effect_tables.patching_table(frame).set_index("layer")
    for layer, part in share.items():
        assert table.loc[layer, "recovery"] == pytest.approx(part, abs=0.03)
        assert table.loc[layer, "ci_low"] <= part <= table.loc[layer, "ci_high"]
    assert table.loc[2, "q"] < 0.05 < table.loc[0, "p"]


def test_a_patch_that_carries_everything_in_every_pair_is_certain():
    gap = np.random.default_rng(0).normal(2.0, 0.3, 20)
    frame = pd.concat(
        pd.DataFrame(
            {
                "layer": layer, "position": 0, "component": "resid_pre", "seed": 0,
                "example": np.arange(20), "base": 0.0, "source": gap, "effect": share * gap,
            }
        )
        for layer, share in enumerate([0.0, 1.0, 1e-7])
    )  # fmt: skip
    names = {"dataset": "d", "backbone": "b", "protocol": "p", "metric": "m"}
    frame = frame.assign(**names, direction="clean_to_corrupted")
    table = effect_tables.patching_table(frame)
    assert table["recovery"].tolist() == pytest.approx([0, 1, 0], abs=1e-12)
    assert table["p"].tolist() == [1, 0, 1]


@pytest.mark.parametrize("changed", lines.CHANGES)
def test_pairs_differ_in_one_attribute_alone(changed):
    clean, corrupted = lines.pairs(SETTINGS, changed, seed=3, indices=range(12))
    plain = lines.generate(SETTINGS, seed=3, indices=range(12))
    assert np.array_equal(clean.images, plain.images)
    kept = {"orientation": ["length_px", "width_px", "colour", "noise_sd"],
            "colour": ["angle_deg", "start_x_px", "end_y_px", "width_px", "noise_sd"],
            "width": ["angle_deg", "start_x_px", "end_y_px", "colour", "noise_sd"]}  # fmt: skip
    for name in kept[changed]:
        assert np.array_equal(clean.labels[name], corrupted.labels[name]), name
    moved = {"orientation": "angle_deg", "colour": "colour", "width": "width_px"}[changed]
    assert (clean.labels[moved] != corrupted.labels[moved]).all()
    if changed == "orientation":
        apart = np.abs(clean.labels["mid_x_px"] - corrupted.labels["mid_x_px"])
        assert apart.max() <= 0.5
    # Away from both lines the pictures are the same, noise and all.
    same = (clean.images == corrupted.images).all(-1).mean((1, 2))
    assert same.min() > 0.9


def test_a_pair_that_cannot_differ_is_refused():
    white = {**SETTINGS, "palette": "white", "margin": "length"}
    with pytest.raises(ValueError, match="one colour"):
        lines.pairs(white, "colour", seed=0, indices=range(2))
    with pytest.raises(ValueError, match="changed is 'smell'"):
        lines.pairs(SETTINGS, "smell", seed=0, indices=range(2))
