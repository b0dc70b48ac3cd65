"""The published procedure of zeroing rows, its faults switched on and off, against naive loops."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from patchwork import interventions
from patchwork.analysis.heads import released
from patchwork.analysis.heads.released import RowZeroing, row_zeroing_sweep
from patchwork.models import fine_tuned, tasks
from small_networks import LORA, Pictures, network

N, SIZE, WIDTH = 7, 16, 32
FORWARD = [(0, 0), (0, 1), (1, 0), (1, 1)]
RUN = {"dataset": "d", "backbone": "b", "protocol": "p"}


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures(N, 0, image_px=32)


@pytest.fixture(scope="module")
def tuned() -> fine_tuned.Network:
    one = network(image_px=32)
    with torch.no_grad():
        for name, value in one.named_parameters():
            if "lora_B" in name:
                value.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
        for block in one.encoder.base_model.model.blocks:  # damage to tiny weights hides in noise
            block.attn.qkv.base_layer.weight.mul_(8)
            block.attn.proj.weight.mul_(8)
    return fine_tuned.merge(one)


def sweep(tuned, pictures, order=FORWARD, **switches) -> pd.DataFrame:
    how = RowZeroing(**({"batch_size": 3} | switches))
    images = pictures.images.numpy()
    return row_zeroing_sweep(tuned, images, pictures.labels, ["brightness"], order=order, how=how)


def error(one, pictures, rows, raw: bool) -> np.ndarray:
    with torch.no_grad():
        out = one(pictures.images[rows])["brightness"][:, 0].double().numpy()
    truth = pictures.labels["brightness"][rows]
    return (out - (truth if raw else truth / 255)) ** 2


def naive(tuned, pictures, order, *, raw, after, restore, whole) -> np.ndarray:
    one, found = copy.deepcopy(tuned), []
    for layer, head in order:
        qkv = one.encoder.blocks[layer].attn.qkv
        before = copy.deepcopy(qkv.state_dict())

        def damage(qkv=qkv, head=head):
            with torch.no_grad():
                for part in range(3):
                    first = part * WIDTH + (head * SIZE if whole else head)
                    qkv.weight[first : first + (SIZE if whole else 1)] = 0
                    if whole:
                        qkv.bias[first : first + SIZE] = 0

        for first in range(0, N, 3):
            if not after:
                damage()
            found.append(error(one, pictures, slice(first, first + 3), raw))
            damage()
        if restore:
            qkv.load_state_dict(before)
    return np.concatenate(found)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("restore", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_every_switch_does_what_a_naive_loop_does(tuned, pictures, raw, after, restore, whole):
    for order in (FORWARD, FORWARD[::-1]):
        table = sweep(
            tuned, pictures, order, restore=restore, row_block="head" if whole else "row",
            before_forward=not after, label_scale="raw" if raw else "standardised",
        )  # fmt: skip
        expected = naive(tuned, pictures, order, raw=raw, after=after, restore=restore, whole=whole)
        found = table["clean"] + table["effect"]
        assert found.to_numpy() == pytest.approx(expected, rel=1e-6)
        assert list(zip(table["layer"], table["head"], strict=True))[::N] == order
        assert table["step"].tolist() == [i for i in range(4) for _ in range(N)]


def test_restored_zeroing_of_a_head_beforehand_is_its_ablation(tuned, pictures):
    table = sweep(
        tuned, pictures, restore=True, row_block="head", before_forward=True,
        label_scale="standardised",
    ).set_index(["layer", "head"])  # fmt: skip
    clean = error(tuned, pictures, slice(None), False)
    for layer, head in FORWARD:
        with torch.no_grad(), interventions.ablate(tuned, f"{layer}.head_out.{head}"):
            cut = error(tuned, pictures, slice(None), False)
        effect = table.loc[(layer, head), "effect"].to_numpy()
        assert np.abs(effect - (cut - clean)).max() < 1e-6
        assert np.abs(effect).max() > 1e-4


def test_damage_piles_up_and_the_first_batch_is_spared(tuned, pictures):
    table = sweep(tuned, pictures)
    assert not table.query("step == 0 and example < 3")["effect"].any()
    assert table.query("step == 0 and example >= 3")["effect"].all()
    assert table.query("step == 1 and example < 3")["effect"].all()
    last = [table.query("step == 3").reset_index(), sweep(tuned, pictures, [(1, 1)]).reset_index()]
    assert not np.allclose(last[0]["effect"], last[1]["effect"]), "earlier heads are still damaged"
    again = sweep(tuned, pictures, [(0, 0), (0, 0)])
    assert np.allclose(
        again.query("step == 1 and example >= 3")["effect"],
        again.query("step == 0 and example >= 3")["effect"],
    )


def test_the_network_is_left_as_it_was(tuned, pictures):
    before = {name: value.clone() for name, value in tuned.state_dict().items()}
    sweep(tuned, pictures)
    assert all(torch.equal(value, before[name]) for name, value in tuned.state_dict().items())


def test_what_the_procedure_cannot_do_is_refused(tuned, pictures):
    with pytest.raises(ValueError, match="head 2 of layer 0"):
        sweep(tuned, pictures, [(0, 2)])
    images, how = pictures.images.numpy(), RowZeroing()
    with pytest.raises(ValueError, match="brightness, side"):
        row_zeroing_sweep(tuned, images, pictures.labels, ["sky"], order=FORWARD, how=how)
    with pytest.raises(ValueError, match="merged"):
        row_zeroing_sweep(
            network(LORA).eval(), images, pictures.labels, ["side"], order=FORWARD, how=how
        )
    turned = network({"kind": "none"})
    turned.targets["side"] = tasks.Target(("side",), tasks.DoubleAngle())
    with pytest.raises(ValueError, match="one per label"):
        row_zeroing_sweep(turned.eval(), images, pictures.labels, ["side"], order=FORWARD, how=how)


@pytest.fixture(scope="module")
def split(tuned, pictures) -> pd.DataFrame:
    return released.decompose(
        tuned, pictures.images.numpy(), pictures.labels, ["brightness"], n_random=3, batch_size=3
    )


def test_the_chain_goes_from_the_released_procedure_to_the_exact_one(tuned, pictures, split):
    chain = list(released.CHAIN.values())
    assert chain[0] == RowZeroing()
    assert chain[-1] == RowZeroing(True, "head", True, "standardised")
    assert len(split) == len(chain) * 5 * 4
    first = sweep(tuned, pictures).groupby("step")[["clean", "effect"]].mean()
    part = split.query("procedure == 'as_released' and order == 'forward'")
    assert part["effect"].tolist() == pytest.approx((100 * first.effect / first.clean).tolist())


def test_order_matters_only_where_nothing_is_restored(split):
    found = split.assign(**RUN, seed=0)
    more = pd.concat([found, found.assign(seed=1)])
    scales = pd.DataFrame(
        [RUN | {"seed": s, "label_scale": "raw", "predictor": "mean", "mse": 2.0, "n": 9}
         for s in (0, 1)]
    )  # fmt: skip
    rows = released.released_findings(more, scales, {}).set_index("quantity")["estimate"]
    assert rows["restored_share_from_order"] == pytest.approx(0, abs=1e-12)
    assert rows["whole_head_share_from_order"] == pytest.approx(0, abs=1e-12)
    assert rows["own_label_scale_share_from_order"] > 0.05
    assert "as_released_forward_layers_1_to_3_percent" not in rows, "two layers have no 1-3"
    assert rows["raw_label_mse_mean"] == 2
    table = released.profile_table(more)
    assert len(table) == 5 * 5 * 2
    part = split.query("procedure == 'restored' and order == 'random1' and layer == 1")
    one = table.query("procedure == 'restored' and order == 'random1' and layer == 1").iloc[0]
    assert one["effect"] == pytest.approx(part["effect"].mean())


@pytest.mark.parametrize(("heads", "steps", "expected"), [(1, 0, 0), (0, 1, 1), (1, 1, 0.5)])
def test_the_share_from_order_is_that_which_was_planted(heads, steps, expected):
    rng = np.random.Generator(np.random.Philox(1))
    n, n_orders = 400, 5
    own = heads * rng.standard_normal(n)
    frame = pd.concat(
        pd.DataFrame({"layer": 0, "head": range(n), "order": f"random{i}",
                      "effect": own + steps * rng.standard_normal(n)})
        for i in range(n_orders)
    )  # fmt: skip
    assert released.share_from_order(frame) == pytest.approx(expected, abs=0.07)


def test_label_scales_are_those_of_simple_predictors(tuned, pictures):
    table = released.label_scales(
        tuned, pictures.images.numpy(), pictures.labels, ["brightness"]
    ).set_index(["label_scale", "predictor"])["mse"]
    truth = pictures.labels["brightness"]
    assert table["raw", "constant"] == pytest.approx((truth**2).mean())
    assert table["raw", "perfect"] == pytest.approx(((truth / 255 - truth) ** 2).mean(), rel=1e-6)
    assert table["raw", "mean"] == pytest.approx(truth.var())
    assert table["standardised", "perfect"] == 0
    assert table["raw", "network"] == pytest.approx(
        error(tuned, pictures, slice(None), True).mean(), rel=1e-6
    )


def test_equal_damage_adds_up_to_nearly_the_published_ratio(pictures, monkeypatch):
    """Every zeroed row costs the same: layer 6 over layers 1-3 is then the order of the sweep."""

    def equal(self, images):
        zeroed = sum(int((b.attn.qkv.weight == 0).all(1).sum()) for b in self.encoder.blocks)
        return {"brightness": torch.full((len(images), 1), (1 + zeroed / 300) ** 0.5)}

    options = {"patch_size": 16, "embed_dim": 32, "depth": 12, "num_heads": 4}
    architecture = {"name": "vit_tiny_patch16_224", "options": options}
    deep = network({"kind": "none"}, image_px=32, architecture=architecture).eval()
    monkeypatch.setattr(fine_tuned.Network, "forward", equal)
    labels, ratios = {"brightness": np.zeros(N)}, {}
    for name, order in released.orders(12, 4, 0).items():
        table = row_zeroing_sweep(
            deep, pictures.images.numpy(), labels, ["brightness"],
            order=order, how=RowZeroing(batch_size=3),
        )  # fmt: skip
        effect = table.groupby("layer")["effect"].mean()
        ratios[name] = effect[6] / effect[[1, 2, 3]].mean()
    assert ratios["forward"] == pytest.approx(2.6, abs=0.05)  # published: 0.34 over 0.11
    assert ratios["reverse"] == pytest.approx(0.58, abs=0.05)
