"""Heads ablated alone, in pairs and in layers, against naive loops; effects in percent."""

import numpy as np
import pandas as pd
import pytest
import torch
from patchwork import interventions
from patchwork.analysis.heads import effect_tables, effects
from patchwork.analysis.heads.effects import Grouping
from patchwork.models import fine_tuned
from patchwork.statistics.power import Planted
from scipy import stats
from small_networks import Pictures, network

RUN = {"dataset": "d", "backbone": "b", "protocol": "p", "seed": 0}
TARGETS = ["brightness", "side"]


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures(7, 0, image_px=32)


@pytest.fixture(scope="module")
def tuned() -> fine_tuned.Network:
    one = network(image_px=32)
    with torch.no_grad():
        for name, value in one.named_parameters():
            if "lora_B" in name:  # as if it had been trained
                value.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    return fine_tuned.merge(one)


def loss(one: fine_tuned.Network, pictures: Pictures) -> np.ndarray:
    with torch.no_grad():
        out = one(pictures.images)
    bright = torch.tensor(pictures.labels["brightness"]) / 255
    side = torch.tensor(pictures.labels["side"]).float()
    first = (out["brightness"][:, 0] - bright) ** 2
    second = torch.nn.functional.huber_loss(out["side"][:, 0], side, delta=0.1, reduction="none")
    return ((first + second) / 2).numpy()


def without(one, pictures, heads, values) -> np.ndarray:
    """Loss with some heads' outputs replaced: hooks of torch alone."""
    handles = []
    for layer, head in heads:
        attn = one.encoder.blocks[layer].attn
        part = slice(head * attn.head_dim, (head + 1) * attn.head_dim)

        value = values(layer, part)

        def replace(module, args, part=part, value=value):
            z = args[0].clone()
            z[..., part] = value
            return (z,)

        handles.append(attn.proj.register_forward_pre_hook(replace))
    found = loss(one, pictures)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("groups", effects.GROUPS)
@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_groups_equal_naive_loops(tuned, pictures, groups, baseline):
    taken = {}
    for layer, block in enumerate(tuned.encoder.blocks):
        handle = block.attn.proj.register_forward_pre_hook(
            lambda module, args, layer=layer: taken.update({layer: args[0].mean(0)})
        )
        loss(tuned, pictures)
        handle.remove()

    def value(layer, part):
        return 0.0 if baseline == "zero" else taken[layer][:, part]

    table = effects.group_effects(
        tuned, pictures.images.numpy(), pictures.labels, TARGETS, Grouping(groups, (baseline,))
    )
    wanted = effects.members(2, 2, groups)
    clean = loss(tuned, pictures)
    assert len(table) == len(wanted) * 7
    assert set(table["metric"]) == {"brightness + side loss"}
    for name, heads in wanted.items():
        part = table[table["group"] == name].set_index("example")
        naive = without(tuned, pictures, heads, value) - clean
        assert np.abs(part["effect"] - naive).max() < 1e-5
        assert np.abs(naive).max() > 1e-4
        assert np.abs(part["clean"] - clean).max() < 1e-6
    assert table["group"].drop_duplicates().tolist() == list(wanted)


def test_resampling_takes_another_image_and_order_does_not_matter(tuned, pictures):
    images, labels = pictures.images.numpy(), pictures.labels
    how = Grouping("layers", ("resample", "zero"))
    table = effects.group_effects(tuned, images, labels, TARGETS, how)
    shuffled = Grouping("layers", ("resample", "zero"), order_seed=3)
    assert np.random.Generator(np.random.Philox(3)).permutation(["0", "1"]).tolist() == ["1", "0"]
    again = effects.group_effects(tuned, images, labels, TARGETS, shuffled)
    assert set(again["groups"]) == {effect_tables.RANDOM_ORDER}
    pd.testing.assert_frame_equal(table, again.assign(groups="layers"))
    metric, _ = effects.mean_metric(tuned, labels, TARGETS)
    rows = torch.arange(7)
    with (
        torch.no_grad(),
        interventions.ablate(tuned, "1.head_out", "resample", reference=pictures.images),
    ):
        one = metric(tuned(pictures.images), rows).numpy()
    found = table[(table["group"] == "1") & (table["baseline"] == "resample")]
    assert np.abs(found["effect"] - (one - found["clean"])).max() < 1e-5


def test_pairs_are_all_or_a_fixed_sample():
    every = effects.members(3, 4, "pairs")
    assert len(every) == 12 * 11 // 2
    some = effects.members(12, 12, "pairs", most=50)
    assert len(some) == 50
    assert some == effects.members(12, 12, "pairs", most=50)
    assert some != effects.members(12, 12, "pairs", most=50, seed=1)


def test_predictions_without_a_head_are_spread_as_a_loop_says(tuned, pictures):
    table = effects.prediction_spread(tuned, pictures.images.numpy(), TARGETS)
    with torch.no_grad():
        intact = tuned(pictures.images)["brightness"][:, 0].double().numpy() * 255
        with interventions.ablate(tuned, "1.head_out.0"):
            cut = tuned(pictures.images)["brightness"][:, 0].double().numpy() * 255
    rows = table.set_index(["layer", "head"])
    assert len(rows) == 1 + 4
    columns = ["q05", "q50", "q95"]
    for place, values in (((-1, -1), intact), ((1, 0), cut)):
        expected = np.quantile(values, [0.05, 0.5, 0.95])
        assert rows.loc[place, columns].to_numpy(float) == pytest.approx(expected, rel=1e-4)
    assert set(table["label"]) == {"brightness"}


def made(effect, seeds=3, n=40, depth=6, heads=2, noise=0.02, seed=0) -> pd.DataFrame:
    """Effects of single heads with a clean loss of about 2: effect is (layer, head) to percent."""
    rng, rows = np.random.Generator(np.random.Philox(seed)), []
    for run in range(seeds):
        clean = 2 + 0.2 * rng.standard_normal(n)
        for layer in range(depth):
            for head in range(heads):
                true = effect(layer, head) / 100 * 2
                rows.append(
                    pd.DataFrame(
                        {"example": range(n), "clean": clean,
                         "effect": true + noise * rng.standard_normal(n)}
                    ).assign(**RUN | {"seed": run}, layer=layer, head=head, group=f"{layer}.{head}")
                )  # fmt: skip
    none = {
        "other_layer": -1,
        "other_head": -1,
        "baseline": "zero",
        "metric": "m",
        "groups": "heads",
    }
    return pd.concat(rows, ignore_index=True).assign(**none)


def test_percent_is_the_ratio_of_means_and_agrees_with_the_table_of_heads():
    frame = made(lambda layer, head: 10.0 * (layer == 3))
    table = effect_tables.percent_table(frame).set_index(["layer", "head"])
    part = frame[(frame["layer"] == 3) & (frame["head"] == 1)]
    expected = 100 * part["effect"].mean() / part["clean"].mean()
    assert table.loc[(3, 1), "effect"] == pytest.approx(expected)
    assert table.loc[(3, 1), "ci_low"] < 10 < table.loc[(3, 1), "ci_high"] + 0.5
    assert table.loc[(3, 1), "q"] < 0.05
    plain = effect_tables.ablation_table(frame, seed=0).set_index(["layer", "head"])["effect"]
    clean = frame["clean"].mean()
    assert np.allclose(100 * plain / clean, table["effect"][plain.index], rtol=1e-6)


def test_no_effect_is_equivalent_and_a_large_one_is_not():
    frame = made(lambda layer, head: 10.0 * (layer == 3), n=400, noise=0.002)
    table = effect_tables.percent_table(frame).set_index(["layer", "head"])
    assert not table.loc[3, "equivalent"].any()
    assert table.drop(index=3, level="layer")["equivalent"].mean() > 0.8
    wild = effect_tables.percent_table(made(lambda *_: 0, n=10, noise=0.5))
    assert not wild["equivalent"].any(), "too few images to say that nothing happens"


def test_intervals_in_percent_cover():
    """Images are redrawn; the truth is 5 percent."""
    hits, n = 0, 120
    for seed in range(n):
        frame = made(lambda *_: 5.0, seeds=1, n=40, depth=1, heads=1, noise=0.1, seed=seed)
        row = effect_tables.percent_table(frame).iloc[0]
        hits += row["ci_low"] <= 5 <= row["ci_high"]
    low, high = stats.binom.interval(0.999, n, 0.95)
    assert low <= hits <= high


def test_findings_by_depth():
    frame = made(lambda layer, head: 1.0 + layer)
    joint = frame[frame["head"] == 0].assign(groups="layers", head=-1)
    joint = joint.assign(group=joint["layer"].astype(str), effect=2 * joint["effect"])
    shuffled = joint.assign(groups=effect_tables.RANDOM_ORDER)
    found = effect_tables.percent_findings(pd.concat([frame, joint, shuffled]))
    rows = found.set_index("quantity")["estimate"]
    for layer in range(6):
        assert rows[f"layer{layer}_percent_loss_increase"] == pytest.approx(1 + layer, abs=0.3)
        assert rows[f"layer{layer}_joint_percent_loss_increase"] == pytest.approx(
            2 + 2 * layer, abs=0.6
        )
    assert rows["random_order_difference_percent"] == 0
    assert rows["equivalent_heads_share"] == 0
    assert (rows["n_heads"], rows["n_layers"]) == (12, 6)
    assert not [name for name in rows.index if name.startswith("log2")], "six layers have no 1-3"
    assert found.set_index("quantity").loc["n_heads", "seeds"] == 0  # no training made it
    wide = effect_tables.percent_findings(frame, margin=3.0).set_index("quantity")["estimate"]
    assert wide["equivalent_heads_share"] == pytest.approx(2 / 6), "layers 0 and 1 of six"
    one = found.set_index("quantity").loc["layer3_percent_loss_increase"]
    assert one["ci_low"] < one["estimate"] < one["ci_high"]
    assert (one["n"], one["seeds"]) == (3 * 40, 3)


def test_published_layers_are_compared_on_a_logarithmic_scale():
    sizes = {1: 0.5, 2: 1.0, 3: 1.5, 6: 4.0}
    frame = made(lambda layer, head: sizes.get(layer, 9.0), depth=12, n=60, noise=0.001)
    planted = {"log2_layer_6_over_1_to_3_zero": Planted(2.0, (1, None))}
    found = effect_tables.percent_findings(frame, planted=planted).set_index("quantity")
    early = found.loc["log2_percent_layers_1_to_3_zero"]
    assert early["estimate"] == pytest.approx(0, abs=0.1)
    ratio = found.loc["log2_layer_6_over_1_to_3_zero"]
    assert ratio["estimate"] == pytest.approx(2, abs=0.1)
    assert ratio["ci90_low"] < 2 < ratio["ci90_high"]
    assert found.loc["log2_layer_6_over_1_to_3_zero_found", "estimate"] > 0.9
    # Heads without any effect, or that help when they are gone, have the least of them.
    none = effect_tables.percent_findings(frame.assign(effect=-0.1)).set_index("quantity")
    assert none.loc["log2_percent_layers_1_to_3_zero", "estimate"] == pytest.approx(np.log2(0.001))


def test_two_heads_that_stand_in_for_each_other_have_excess():
    single = made(lambda *_: 0.0, depth=1, noise=0.0)
    pair = single[single["head"] == 0].assign(
        groups="pairs", group="0.0+0.1", other_layer=0, other_head=1, effect=0.2
    )
    frame = pd.concat([single, pair])
    excess = effect_tables.derived(frame).query("groups == 'pair_excess'")
    assert len(excess) == len(pair)
    assert excess["effect"].tolist() == pytest.approx([0.2] * len(pair))
    found = effect_tables.percent_findings(frame).set_index("quantity")["estimate"]
    assert found["pair_excess_percent"] == pytest.approx(10, rel=0.05)
    additive = pd.concat([single.assign(effect=0.1), pair])
    assert np.allclose(
        effect_tables.derived(additive).query("groups == 'pair_excess'")["effect"], 0
    )
