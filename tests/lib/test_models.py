import numpy as np
import pytest
import torch
from patchwork.data.sources import Features
from patchwork.jobs.provenance import as_metadata
from patchwork.models import backbones, fine_tuned, tasks
from safetensors.torch import save_file
from small_networks import ARCHITECTURE, LORA, RANDOM, TARGETS, Pictures, network

FULL, FROZEN = {"kind": "full"}, {"kind": "none"}
IMAGES = Pictures(6, 1).images


def trained(one, by=0.05):
    """A network whose trainable parameters have moved."""
    generator = torch.Generator().manual_seed(1)
    for value in fine_tuned.trainable(one).values():
        value.add_(by * torch.randn(value.shape, generator=generator))
    return one.eval()


def saved(folder, adapter=LORA, readout="cls"):
    """A network on disk with its backbone, and its outputs."""
    backbone = backbones.prepare(RANDOM, 16, seed=3)
    backbones.save(backbone, folder / "backbone.safetensors")
    targets = {name: tasks.read_target(block, 16) for name, block in TARGETS.items()}
    settings = {"readout": readout, "head_hidden": [8], "adapter": adapter}
    one = trained(fine_tuned.build(backbone, targets, settings, seed=4))
    record = {
        "settings": settings, "targets": TARGETS, "image_px": 16, "seed": 4,
        "backbone": backbone.provenance,
    }  # fmt: skip
    fine_tuned.save(one, record, folder / "model.safetensors")
    return one, fine_tuned.predict(one, IMAGES)


def test_lora_alone_trains_in_the_encoder_and_starts_without_effect():
    one, plain = network(LORA).eval(), network(FROZEN).eval()
    names = [n for n, p in one.encoder.named_parameters() if p.requires_grad]
    assert len(names) == 4  # two factors in each of two blocks
    assert all("qkv.lora_" in name for name in names)
    assert all(p.requires_grad for p in one.heads.parameters())
    up = [p for n, p in one.encoder.named_parameters() if "lora_B" in n]
    assert all(bool((p == 0).all()) for p in up)
    a, b = (n.features(n.pixels(IMAGES)) for n in (one, plain))
    assert torch.equal(a, b)


def test_an_adapter_that_learnt_nothing_is_noticed():
    one = network(LORA)
    with pytest.raises(AssertionError, match=r"lora_B.* is zero after training"):
        fine_tuned.check_adapted(one, "lora")
    fine_tuned.check_adapted(trained(one), "lora")
    with pytest.raises(AssertionError, match="no parameter of the encoder trainable"):
        fine_tuned.check_adapted(network(FROZEN), "lora")
    with pytest.raises(AssertionError, match="frozen encoder is trainable"):
        fine_tuned.check_adapted(one, "none")
    with pytest.raises(AssertionError, match="beside the adapter"):
        fine_tuned.check_adapted(network(FULL), "lora")


def test_none_trains_no_encoder_parameter_and_full_trains_all():
    frozen, full = network(FROZEN), network(FULL)
    assert not any(p.requires_grad for p in frozen.encoder.parameters())
    assert all(p.requires_grad for p in full.encoder.parameters())
    loss = sum(out.sum() for out in full(IMAGES).values())
    loss.backward()
    assert all(p.grad is not None for p in full.parameters())


@pytest.mark.parametrize("readout", fine_tuned.READOUTS)
def test_full_training_reaches_every_parameter_that_trains(readout):
    # A parameter without a gradient stops a training that several processes share.
    one = network(FULL, readout).train()
    sum(out.sum() for out in one(IMAGES).values()).backward()
    assert [n for n, p in one.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("adapter", [LORA, FROZEN, FULL], ids=["lora", "none", "full"])
@pytest.mark.parametrize("readout", fine_tuned.READOUTS)
def test_what_was_saved_predicts_the_same(tmp_path, adapter, readout):
    _, before = saved(tmp_path, adapter, readout)
    again = fine_tuned.load(tmp_path / "model.safetensors", tmp_path / "backbone.safetensors")
    assert not again.training
    assert not any("lora" in name for name, _ in again.named_parameters())
    after = fine_tuned.predict(again, IMAGES)
    for name in before:
        # Only the merge rounds: without an adapter not a bit may change.
        same = np.array_equal if adapter["kind"] != "lora" else np.allclose
        assert same(after[name], before[name], **({} if same is np.array_equal else {"atol": 1e-5}))


def test_the_adapter_changes_what_is_predicted_after_loading(tmp_path):
    _, before = saved(tmp_path)
    backbone = backbones.load(tmp_path / "backbone.safetensors")
    again = fine_tuned.load(tmp_path / "model.safetensors", tmp_path / "backbone.safetensors")
    again.encoder.load_state_dict(backbone.encoder.state_dict())
    assert not np.allclose(fine_tuned.predict(again, IMAGES)["side"], before["side"], atol=1e-4)


def refused(path, backbone):
    with pytest.raises(ValueError, match=r"safetensors") as error:
        fine_tuned.load(path, backbone)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_backbone_is_refused_in_one_line(tmp_path):
    saved(tmp_path)
    wide = {"name": ARCHITECTURE["name"], "options": {**ARCHITECTURE["options"], "embed_dim": 48}}
    deep = {"name": ARCHITECTURE["name"], "options": {**ARCHITECTURE["options"], "depth": 3}}
    for name, architecture in (("wide", wide), ("deep", deep)):
        other = backbones.prepare({**RANDOM, "architecture": architecture}, 16, seed=3)
        backbones.save(other, tmp_path / f"{name}.safetensors")
        message = refused(tmp_path / "model.safetensors", tmp_path / f"{name}.safetensors")
        assert "model.safetensors" in message
    backbones.save(backbones.prepare(RANDOM, 16, seed=9), tmp_path / "seed.safetensors")
    message = refused(tmp_path / "model.safetensors", tmp_path / "seed.safetensors")
    assert "another backbone" in message


def test_foreign_files_are_refused_in_one_line(tmp_path):
    saved(tmp_path)
    foreign = tmp_path / "foreign.safetensors"
    for metadata in (None, {"format": "pt"}, as_metadata({"settings": {}})):
        save_file({"a": torch.zeros(2)}, foreign, metadata=metadata)
        assert "no network record" in refused(foreign, tmp_path / "backbone.safetensors")
        assert "no backbone record" in refused(tmp_path / "model.safetensors", foreign)
    foreign.write_bytes(b"no tensors here")
    assert "not a readable" in refused(foreign, tmp_path / "backbone.safetensors")
    refused(tmp_path / "absent.safetensors", tmp_path / "backbone.safetensors")


def test_readouts_are_the_tokens_they_name():
    seen = {}
    features = {}
    for readout in fine_tuned.READOUTS:
        one = network(FROZEN, readout).eval()
        one.encoder.norm.register_forward_hook(
            lambda _m, given, out: seen.update(before=given[0], after=out)
        )
        pixels = one.pixels(IMAGES)
        features[readout] = one.features(pixels)
        one.encoder.forward_features(pixels)
    assert torch.equal(features["cls"], seen["after"][:, 0])
    assert torch.equal(features["cls_before_norm"], seen["before"][:, 0])
    assert torch.allclose(features["mean"], seen["after"][:, 1:].mean(1))
    assert not torch.allclose(features["cls"], features["cls_before_norm"], atol=1e-2)


@pytest.mark.parametrize("adapter", [LORA | {"dropout": 0.0}, FULL], ids=["lora", "full"])
@pytest.mark.parametrize("readout", fine_tuned.READOUTS)
def test_training_skips_work_but_changes_neither_outputs_nor_gradients(readout, adapter):
    short, long = (trained(network(adapter, readout)) for _ in range(2))
    short.train()
    outputs, expected = short(IMAGES), long(IMAGES)
    for one in (outputs, expected):
        sum((out**2).sum() for out in one.values()).backward()
    for name in outputs:
        assert torch.allclose(outputs[name], expected[name], atol=1e-5)
    for (name, p), q in zip(short.named_parameters(), long.parameters(), strict=True):
        if p.requires_grad:
            assert torch.allclose(p.grad, q.grad, atol=1e-3, rtol=1e-3), name


def test_heads_on_patches_give_one_row_per_patch():
    block = {"labels": ["picture"], "encoding": "patches", "patch_px": 8}
    targets = {"picture": tasks.read_target(block, 16)}
    settings = {"readout": "cls", "head_hidden": [8], "adapter": FULL}
    one = fine_tuned.build(backbones.prepare(RANDOM, 16, seed=0), targets, settings, seed=0)
    assert one.train()(IMAGES)["picture"].shape == (6, 4, 192)
    with pytest.raises(ValueError, match="target picture reads patches"):
        Features(Pictures(6, 1), one)


def test_pixels_are_normalised_with_the_backbones_statistics():
    one = network()
    white = torch.full((1, 16, 16, 3), 255, dtype=torch.uint8)
    expected = (1 - one.mean) / one.std
    assert torch.allclose(one.pixels(white)[0], expected.expand(3, 16, 16))
    images = torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8)
    plain = (images.permute(0, 3, 1, 2).float() / 255 - one.mean) / one.std
    assert torch.equal(one.pixels(images), plain)
    assert one.pixels(images).stride() == plain.stride()
    whole = images.float()
    assert torch.equal(one.pixels(whole), plain)
    assert torch.equal(whole, images.float())


def test_initial_values_follow_the_seed_and_leave_the_global_state_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, same, other = network(seed=1), network(seed=1), network(seed=2)
    assert torch.equal(before, torch.random.get_rng_state())
    a, b, c = (fine_tuned.trainable(n) for n in (one, same, other))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not all(torch.equal(a[k], c[k]) for k in a)


def test_modules_that_match_nothing_are_named():
    targets = {name: tasks.read_target(block, 16) for name, block in TARGETS.items()}
    adapter = LORA | {"modules": ["nothing"]}
    settings = {"readout": "cls", "head_hidden": [8], "adapter": adapter}
    with pytest.raises(ValueError, match="nothing") as error:
        fine_tuned.build(backbones.prepare(RANDOM, 16, seed=0), targets, settings, seed=0)
    assert "\n" not in str(error.value)


def test_networks_on_one_frozen_encoder_read_a_batch_once(monkeypatch):
    first, second = (network(adapter={"kind": "none"}).eval() for _ in range(2))
    assert first.frozen
    assert not network().frozen
    expected = fine_tuned.predict(second, IMAGES)
    kept = {}
    for one in (first, second):
        fine_tuned.share_vectors(one, kept)
    fine_tuned.predict(first, IMAGES)
    assert len(kept) == 1
    monkeypatch.setattr(second, "features", None)  # asked again, it would fail
    for name, value in fine_tuned.predict(second, IMAGES).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-6)
    fine_tuned.predict(first, IMAGES.flip(0))  # other pictures, other vectors
    assert len(kept) == 2
