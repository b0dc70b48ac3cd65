import numpy as np
import pytest
import torch
from patchwork import backbones, evaluation, models, rearing, stimuli, tasks
from small_networks import RANDOM, TRAINING, Pictures


def draw(settings, *, seed, indices):
    """Grey pictures of the asked size, each a function of seed and index alone."""
    keys = [np.random.Generator(np.random.Philox(key=[seed, i])) for i in indices]
    level = np.array([rng.integers(20, 230) for rng in keys])
    px = settings["image_px"]
    images = np.tile(level[:, None, None, None], (1, px, px, 3)).astype(np.uint8)
    labels = {"brightness": level.astype(float), "fixed": np.ones(len(level))}
    return stimuli.Batch(images, labels, {"copy": images})


SETTINGS = {
    "stimuli": {"kind": "grey"},
    "targets": {
        "brightness": {"labels": ["brightness"], "encoding": "scaled", "scale": 255},
        "fixed": {"labels": ["fixed"], "encoding": "scaled"},
        "copy": {"labels": ["copy"], "encoding": "patches", "patch_px": 8},
    },
    "n_train": 96,
    "n_validation": 32,
    "head_hidden": [8],
    "training": {**TRAINING, "epochs": 6, "learning_rate": 0.01, "checkpoint_every_s": 60},
}


@pytest.fixture
def reared(tmp_path, monkeypatch):
    monkeypatch.setitem(stimuli.GENERATORS, "grey", draw)
    backbone = backbones.prepare({**RANDOM, "source": "reared"}, 16, seed=1)
    before = {name: value.clone() for name, value in backbone.encoder.state_dict().items()}
    return before, *rearing.rear(backbone, SETTINGS, seed=1, folder=tmp_path / "state")


def test_a_backbone_is_reared_and_says_how(reared, tmp_path):
    before, backbone, log = reared
    after = backbone.encoder.state_dict()
    assert all(not torch.equal(before[k], after[k]) for k in before if k.endswith("weight"))
    kept = log.epochs[
        (log.epochs["epoch"] == log.best_epoch) & (log.epochs["label"] == "brightness")
    ]
    assert kept["r"].item() > 0.9
    # Pictures have no correlation; what is recorded is that of the epoch that was kept.
    assert backbone.provenance["validation_r"] == {"brightness": round(kept["r"].item(), 4)}
    assert backbone.provenance["rearing"] == SETTINGS
    assert set(log.steps["target"]) == {"brightness", "copy"}  # what is fixed teaches nothing
    backbones.save(backbone, tmp_path / "reared.safetensors")
    again = backbones.load(tmp_path / "reared.safetensors")
    assert again.provenance == backbone.provenance
    assert all(torch.equal(after[k], v) for k, v in again.encoder.state_dict().items())


def test_training_and_validation_see_different_pictures(monkeypatch, tmp_path):
    seeds = set()

    def listening(settings, *, seed, indices):
        seeds.add(seed)
        return draw(settings, seed=seed, indices=indices)

    monkeypatch.setitem(stimuli.GENERATORS, "grey", listening)
    training = {**SETTINGS["training"], "epochs": 1}
    for seed in (1, 2):
        backbone = backbones.prepare(RANDOM, 16, seed=seed)
        folder = tmp_path / str(seed)
        rearing.rear(backbone, {**SETTINGS, "training": training}, seed=seed, folder=folder)
    assert len(seeds) == 4


class WithCopies(Pictures):
    def __init__(self, n, seed):
        super().__init__(n, seed)
        self.labels["copy"] = self.images.numpy()


def test_pictures_are_scored_but_stand_in_no_table():
    data = WithCopies(20, 1)
    targets = tasks.read_targets(
        {name: SETTINGS["targets"][name] for name in ("brightness", "copy")}, data.labels, 16
    )
    settings = {"readout": "cls", "head_hidden": [8], "adapter": {"kind": "full"}}
    one = models.build(backbones.prepare(RANDOM, 16, seed=0), targets, settings, seed=0).eval()
    table = evaluation.predictions(one, data)
    assert "copy" not in table.columns
    out = one(data.images)["copy"].detach().numpy()
    expected = []
    for picture, guess in zip(data.images.numpy(), out, strict=True):
        patches = [picture[y : y + 8, x : x + 8].ravel() for y in (0, 8) for x in (0, 8)]
        expected.append(np.mean((guess - np.array(patches) / 255) ** 2))
    assert np.allclose(table["loss_copy"], expected, rtol=1e-4)
    rows, total = evaluation.validate(one, data, 8)
    assert [row[:2] for row in rows] == [("brightness", "brightness"), ("copy", "copy")]
    assert np.isnan(rows[1][3])
    assert total == pytest.approx(sum(row[2] for row in rows))
    assert rows[1][2] == pytest.approx(np.mean(expected), rel=1e-4)
