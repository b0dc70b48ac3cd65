import numpy as np
import pytest
import torch
from patchwork import stimuli
from patchwork.data import store
from patchwork.jobs.provenance import file_sha256
from patchwork.models import backbones, fine_tuned, tasks
from patchwork.training import evaluation, pretraining, trainer
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
def pretrained(tmp_path, monkeypatch):
    monkeypatch.setitem(stimuli.GENERATORS, "grey", draw)
    backbone = backbones.prepare({**RANDOM, "source": "pretrained"}, 16, seed=1)
    before = {name: value.clone() for name, value in backbone.encoder.state_dict().items()}
    return before, *pretraining.pretrain(backbone, SETTINGS, seed=1, folder=tmp_path / "state")


def test_a_backbone_is_pretrained_and_says_how(pretrained, tmp_path):
    before, backbone, log = pretrained
    after = backbone.encoder.state_dict()
    assert all(not torch.equal(before[k], after[k]) for k in before if k.endswith("weight"))
    kept = log.epochs[
        (log.epochs["epoch"] == log.best_epoch) & (log.epochs["label"] == "brightness")
    ]
    assert kept["r"].item() > 0.9
    # Pictures have no correlation; what is recorded is that of the epoch that was kept.
    assert backbone.provenance["validation_r"] == {"brightness": round(kept["r"].item(), 4)}
    assert backbone.provenance["pretraining"] == SETTINGS
    assert set(log.steps["target"]) == {"brightness", "copy"}  # what is fixed teaches nothing
    backbones.save(backbone, tmp_path / "pretrained.safetensors")
    again = backbones.load(tmp_path / "pretrained.safetensors")
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
        pretraining.pretrain(backbone, {**SETTINGS, "training": training}, seed=seed, folder=folder)
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
    one = fine_tuned.build(backbones.prepare(RANDOM, 16, seed=0), targets, settings, seed=0).eval()
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


N_PICTURES = 72
VIEWS = {
    "views": {"magnification": 1.0},
    "targets": {
        "class": {
            "labels": ["class"], "encoding": "category", "n_classes": 2, "loss": "cross_entropy",
        }
    },
    "n_train": 256,
    "n_validation": 24,
    "head_hidden": [],
    "training": {
        **TRAINING, "epochs": 2, "learning_rate": 0.01, "checkpoint_every_s": 60,
        "snapshot_images": [32, 256],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures that grow brighter across or down: two classes that no flip mixes up."""
    path = tmp_path_factory.mktemp("pictures") / "pictures.h5"
    classes = np.arange(N_PICTURES) % 2
    rng = np.random.Generator(np.random.Philox(1))
    across = np.broadcast_to(np.linspace(0, 160, 20), (20, 20))
    images = np.stack([across.T if one else across for one in classes])[..., None]
    images = images + rng.uniform(0, 60, (N_PICTURES, 20, 20, 3))
    names = ("across", "down")
    store.write(
        path, [stimuli.Batch(images.astype(np.uint8), {"class": classes})], n=N_PICTURES,
        attributes={"seed": 0, "settings": {}, "first_index": 0, "code": "test"},
        label_attributes={"class": stimuli.LabelAttributes("index", 0, 1, names)},
    )  # fmt: skip
    return path


def grown(pictures, folder, n_train=256, **changes):
    settings = {**VIEWS, "n_train": n_train, "views": {**VIEWS["views"], **changes}}
    backbone = backbones.prepare({**RANDOM, "source": "pretrained"}, 16, seed=1)
    return pretraining.pretrain(backbone, settings, seed=1, folder=folder, pictures=pictures)


def test_a_backbone_grows_up_with_views_and_says_of_what(pictures, tmp_path):
    backbone, log = grown(pictures, tmp_path)
    assert backbone.provenance["validation_r"]["class"] > 0.9  # the share that is right
    assert backbone.provenance["pictures_sha256"] == file_sha256(pictures)
    assert backbone.provenance["pretraining"] == VIEWS
    assert set(log.steps["target"]) == {"class"}
    assert len(log.steps) == 2 * 256 / 16
    backbones.join_snapshots(tmp_path / trainer.SNAPSHOTS, tmp_path / "snapshots.safetensors")
    again = backbones.prepare({**RANDOM, "source": "pretrained"}, 16, seed=1)
    course = [
        (record["images"], record["scores"]["class"])
        for record, _ in backbones.snapshots(again, tmp_path / "snapshots.safetensors")
    ]
    assert [images for images, _ in course] == [32, 256]
    assert course[1][1] > 0.9


def test_arms_of_a_seed_differ_in_their_views_alone(pictures, tmp_path, monkeypatch):
    """The first loss of a condition is that of the same initial network on the same pictures."""
    seen = {}
    fit = trainer.fit

    def listening(network, data, validation, settings, **rest):
        condition = rest["folder"].name
        state = {name: value.clone() for name, value in network.state_dict().items()}
        seen[condition] = state, data, validation
        return fit(network, data, validation, settings, **rest)

    monkeypatch.setattr(trainer, "fit", listening)
    rearing_conditions = {
        "upright": {},
        "turned": {"rotation_deg": 45},
        "blue_poor": {"colour": "blue_poor"},
    }
    firsts = {}
    for condition, changes in rearing_conditions.items():
        _, log = grown(pictures, tmp_path / condition, n_train=64, **changes)
        firsts[condition] = log.steps["loss"].iloc[0]
    state, data, validation = seen["upright"]
    for condition in ("turned", "blue_poor"):
        other, its_data, its_validation = seen[condition]
        assert all(torch.equal(state[name], value) for name, value in other.items())
        assert np.array_equal(data.rows, its_data.rows)
        assert np.array_equal(data.labels["class"], its_data.labels["class"])
        assert np.array_equal(validation.labels["class"], its_validation.labels["class"])
        assert not torch.equal(data.draw(np.arange(4))[0], its_data.draw(np.arange(4))[0])
    assert not set(data.rows) & set(validation.rows)
    assert firsts["upright"] != firsts["turned"]


def test_views_need_pictures(tmp_path):
    with pytest.raises(
        ValueError, match=r"pretraining.views needs pictures; allowed is a dataset file"
    ):
        grown(None, tmp_path)
