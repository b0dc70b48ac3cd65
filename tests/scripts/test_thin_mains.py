"""The scripts' mains on a handful of images, without Snakemake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from patchwork.data import sources, store, tensors
from patchwork.jobs import provenance
from patchwork.models import backbones, fine_tuned
from rule_files import outputs_of

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow/scripts"
sys.path.insert(0, str(SCRIPTS))

import ablate_heads  # noqa: E402
import compare_heads  # noqa: E402
import evaluate  # noqa: E402
import extract_features  # noqa: E402
import fine_tune  # noqa: E402
import gather_pictures  # noqa: E402
import patch_layers  # noqa: E402
import prepare_backbone  # noqa: E402
import summarise_heads  # noqa: E402
import synthesise_dataset  # noqa: E402
import synthesise_shard  # noqa: E402

LINES = {
    "image_px": 32, "length_px": {"min": 6, "max": 10}, "width_px": {"min": 2, "max": 2},
    "palette": "white", "margin": "length", "noise_levels": [0.0, 0.1], "rasteriser": "pil",
}  # fmt: skip
BACKBONE = {
    "source": "random",
    "architecture": {
        "name": "vit_tiny_patch16_224",
        "options": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    },
    "position_scale": 0.5,
}
PROTOCOL = {
    "readout": "cls",
    "head_hidden": [8],
    "adapter": {"kind": "lora", "rank": 2, "alpha": 4, "dropout": 0.0, "modules": ["qkv"]},
    "targets": {
        "orientation": {"labels": ["orientation_deg"], "encoding": "double_angle", "period": 180},
        "length": {"labels": ["length_px"], "encoding": "scaled", "scale": "image_px"},
        "width": {"labels": ["width_px"], "encoding": "scaled", "scale": 8},
    },
}
TRAINING = {
    "epochs": 2, "batch_size": 8, "learning_rate": 0.003, "weight_decay": 0.0,
    "schedule": {"kind": "cosine", "warmup_steps": 1}, "early_stopping_patience": None,
    "gradient_clip": None, "mixed_precision": "no", "checkpoint_every_s": 60,
}  # fmt: skip


def draw(folder: Path, split: str, first: int, n: int) -> str:
    images = {"kind": "lines", "seed": 1, "settings": LINES, "first_index": first, "n": n}
    shards = [str(folder / f"{split}_{i}.h5") for i in (1, 2)]
    for i, shard in enumerate(shards):
        synthesise_shard.main(images=images, part=(i + 1, 2), shard=shard, code="test")
    path = str(folder / f"{split}.h5")
    synthesise_dataset.main(shards=shards, dataset=path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, str]:
    """Images and a backbone."""
    folder = tmp_path_factory.mktemp("made")
    outputs = outputs_of("prepare_backbone", folder)
    prepare_backbone.main(
        backbone=BACKBONE, image_px=32, seed=0, pictures=[], outputs=outputs,
        folders=(str(folder / "state"), str(folder / "events")), device="cpu",
    )  # fmt: skip
    return {
        "train": draw(folder, "train", 0, 32),
        "validation": draw(folder, "validation", 1000, 16),
        "test": draw(folder, "test", 2000, 16),
        **outputs,
    }


def arguments(made: dict[str, str], folder: Path) -> tuple:
    inputs = {key: made[key] for key in ("train", "validation", "backbone")}
    outputs = outputs_of("fine_tune", folder)
    folders = (str(folder / "state"), str(folder / "events"))
    return inputs, outputs, PROTOCOL, TRAINING, 0, folders, "cpu"


@pytest.fixture(scope="module")
def tuned(made, tmp_path_factory) -> dict[str, str]:
    given = arguments(made, tmp_path_factory.mktemp("tuned"))
    fine_tune.main(*given)
    return given[1]


def test_shards_join_into_the_images_of_one_draw(made, tmp_path):
    images = {"kind": "lines", "seed": 1, "settings": LINES, "first_index": 0, "n": 32}
    whole = str(tmp_path / "whole.h5")
    synthesise_shard.main(images=images, part=(1, 1), shard=whole, code="test")
    assert (store.read(whole).images == store.read(made["train"]).images).all()


def test_a_training_leaves_model_logs_and_events_and_no_checkpoint(tuned):
    folder = Path(tuned["model"]).parent
    assert {str(p) for p in folder.iterdir()} == set(tuned.values())
    steps = pd.read_parquet(tuned["steps"])
    # Width does not vary in these images, so nothing learns it.
    assert set(steps["target"]) == {"orientation", "length"}
    assert steps["step"].nunique() == 8


def test_predictions_of_the_saved_model_stand_beside_labels(made, tuned, tmp_path):
    path = str(tmp_path / "predictions.parquet")
    evaluate.main(
        test=made["test"], files=[(tuned["model"], made["backbone"])], seeds=[3],
        predictions=path, device="cpu",
    )  # fmt: skip
    table = pd.read_parquet(path)
    assert len(table) == 16
    assert set(table["seed"]) == {3}
    images = torch.from_numpy(store.read(made["test"]).images)
    network = fine_tuned.load(tuned["model"], made["backbone"])
    expected = fine_tuned.predict(network, images)["length"][:, 0] * 32
    assert table["predicted_length_px"].to_numpy() == pytest.approx(expected, rel=1e-4)


def test_heads_on_features_that_were_kept_are_those_on_images(made, tmp_path):
    frozen = PROTOCOL | {"adapter": {"kind": "none"}}
    kept = outputs_of("extract_features", tmp_path)
    extract_features.main(
        images={name: made[name] for name in ("train", "validation")}, backbone=made["backbone"],
        protocol=frozen, device="cpu", **kept,
    )  # fmt: skip
    models = []
    for i, more in enumerate(({}, kept)):
        inputs, outputs, _, *rest = arguments(made, tmp_path / str(i))
        fine_tune.main(inputs | more, outputs, frozen, *rest)
        models.append(outputs["model"])
    one, other = (tensors.read_tensors(path)[0] for path in models)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    data, network = sources.Stored(made["train"]), fine_tuned.load(models[0], made["backbone"])
    vectors = tensors.read_tensors(kept["features"])[0]["validation"]
    with pytest.raises(ValueError, match="16 vectors are given; allowed are 32"):
        sources.Features(data, network, vectors)
    table = str(tmp_path / "predictions.parquet")
    evaluate.main(
        test=made["test"], files=[(model, made["backbone"]) for model in models], seeds=[0, 1],
        predictions=table, device="cpu",
    )  # fmt: skip
    by_seed = [part.drop(columns="seed") for _, part in pd.read_parquet(table).groupby("seed")]
    pd.testing.assert_frame_equal(*(part.reset_index(drop=True) for part in by_seed))


@pytest.fixture(scope="module")
def intervened(made, tuned, tmp_path_factory) -> dict[str, str]:
    """What the scripts about heads write; one model stands for two tasks and two seeds."""
    folder = tmp_path_factory.mktemp("intervened")
    patching, comparison = (outputs_of(name, folder) for name in ("patch_layers", "compare_heads"))
    files = {
        "ablated": outputs_of("ablate_heads", folder)["effects"],
        "patched": patching["effects"], "pictures": patching["picture"],
        "compared": comparison["similarity"], "maps": comparison["maps"],
        "picture": comparison["picture"],
    }  # fmt: skip
    model = tuned["model"]
    ablate_heads.main(
        test=made["test"], files=[(model, made["backbone"])] * 2, seeds=[0, 1],
        effects=files["ablated"],
        settings={"n_images": 8, "baselines": ["zero", "mean"]}, targets=["orientation"],
        device="cpu",
    )  # fmt: skip
    patch_layers.main(
        files=[(model, made["backbone"])] * 2, seeds=[0, 1], outputs=patching,
        images={"seed": 1, "settings": LINES, "first_index": 2000},
        settings={
            "n_pairs": 3, "components": ["resid_pre"],
            "changed": {"angle": {"attribute": "orientation", "targets": ["orientation"]}},
        },
        dataset="angle", device="cpu",
    )  # fmt: skip
    compare_heads.main(
        probe=made["test"], files=[(made["backbone"], [model, model])] * 2, seeds=[0, 1],
        outputs=comparison, datasets=["angle", "other"], n_images=8, device="cpu",
    )  # fmt: skip
    return files


def test_interventions_write_one_row_per_cell_and_example(intervened):
    ablated, patched = (pd.read_parquet(intervened[key]) for key in ("ablated", "patched"))
    assert ablated.groupby("seed").size().to_dict() == dict.fromkeys((0, 1), 2 * 2 * 2 * 8)
    assert patched.groupby("seed").size().to_dict() == dict.fromkeys((0, 1), 2 * 2 * 17 * 3)


def test_one_model_is_alike_in_two_tasks_and_not_its_backbone(intervened):
    table = pd.read_csv(intervened["compared"]).set_index(["one", "other"])
    assert table.loc[("angle", "other"), "linear_cka"].tolist() == pytest.approx([1] * 8)
    assert table.loc[("angle", "untouched"), "linear_cka"].min() < 1 - 1e-6


def test_heads_are_summarised_over_seeds(intervened, tmp_path):
    outputs = outputs_of("summarise_heads", tmp_path)
    names = {"backbone": "pretrained", "protocol": "corrected"}
    conditions = [{"dataset": "angle", **names}]
    compared = [names, {"backbone": "random", "protocol": "full"}]
    summarise_heads.main(
        inputs={
            "ablated": [intervened["ablated"]],
            "patched": [intervened["patched"]],
            "pictures": [intervened["pictures"]],
            "compared": 2 * [intervened["compared"]],
            "maps": 2 * [intervened["maps"]],
            "picture": 2 * [intervened["picture"]],
        },
        outputs=outputs,
        runs={"ablated": conditions, "patched": conditions, "compared": compared},
        similarity={"control": compared[1], "planted": 0.2},
        block={"seed": 0},
    )
    tables = {name: pd.read_csv(path) for name, path in outputs.items()}
    wanted = ["layer", "head", "baseline", "metric", "effect", "ci_low", "ci_high", "p", "q", "n"]
    assert set(wanted) <= set(tables["effects"])
    assert set(tables["effects"]["n"]) == {2 * 8}
    per_image = pd.read_parquet(intervened["ablated"])
    means = per_image.groupby(["layer", "head", "baseline"])["effect"].mean()
    found = tables["effects"].set_index(["layer", "head", "baseline"])["effect"]
    assert found.to_numpy() == pytest.approx(means[found.index].to_numpy())
    assert {"position", "component", "direction", "recovery"} <= set(tables["patches"])
    assert len(tables["patches"]) == 2 * 2 * 17
    # Weights of the patches leave out what the class token keeps for itself.
    shares = tables["maps"].groupby(["backbone", "task", "layer"])["weight"].sum()
    assert shares.between(0.5, 1).all()
    assert set(tables["maps"]["task"]) == {"angle", "other", "untouched"}
    assert set(tables["pictures"]["dataset"]) == {"angle"}
    assert len(tables["picture"]) == tables["picture"]["row"].nunique() ** 2
    findings = tables["findings"].set_index(["quantity", "backbone"])["estimate"]
    assert findings["cross_task_head_similarity", "pretrained"] == pytest.approx(1)
    assert findings["greatest_layer_similarity_excess", "pretrained"] == pytest.approx(0)


@pytest.mark.slow
def test_two_processes_write_what_one_writes(made, tuned, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import fine_tune, json\n"
        "from patchwork.training import distributed\n"
        "arguments = json.loads(sys.argv[2])\n"
        "distributed.launch(fine_tune.main, (*arguments, 2), 2)"
    )
    given = arguments(made, tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", code, str(SCRIPTS), json.dumps(given)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    one, two = (pd.read_parquet(files["steps"]) for files in (tuned, given[1]))
    assert one["loss"].to_numpy() == pytest.approx(two["loss"].to_numpy(), rel=1e-3)


PICTURES = {
    "side_px": 24,
    "source": {
        "kind": "procedural", "label": "shape", "n": 300, "seed": 7,
        "stimuli": {
            "kind": "objects", "orientation_statistics": "cardinal",
            "colour_statistics": "uniform", "clutter_probability": 0.5,
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def gathered(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("gathered") / "pictures.h5")
    gather_pictures.main(settings=PICTURES, colour=False, path=path, code="test")
    return path


def test_pictures_are_gathered_into_one_file_that_says_what_it_holds(gathered):
    with store.Reader(gathered) as reader:
        assert reader.images.shape == (300, 24, 24, 3)
        names = reader.label_attributes["class"].names
        assert set(reader.labels["class"]) == set(range(len(names)))
        assert reader.attributes["seed"] == 7
        assert reader.attributes["code"] == "test"
        assert reader.attributes["settings"] == {"side_px": 24, **PICTURES["source"]}


def test_no_file_is_left_of_pictures_that_are_refused(tmp_path):
    folder, path = tmp_path / "images", tmp_path / "pictures.h5"
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        (folder / name / "text.jpg").write_text("no picture")
    source = {"kind": "folder", "path": str(folder)}
    with pytest.raises(ValueError, match=r"of 2 pictures 2 cannot be read \(first: one/text.jpg\)"):
        gather_pictures.main(
            settings={"side_px": 24, "source": source}, colour=True, path=str(path), code="test"
        )
    assert not path.exists()


def pretrained(made: dict[str, str], gathered: str, folder: Path, **views) -> dict[str, str]:
    """A backbone that grew up with pictures for a few steps, its log and snapshots."""
    target = {
        "labels": ["class"], "encoding": "category", "n_classes": 8, "loss": "cross_entropy",
    }  # fmt: skip
    block = {
        "views": {"magnification": 1.5, **views}, "n_train": 64, "n_validation": 16,
        "head_hidden": [], "targets": {"class": target},
        "training": {**TRAINING, "snapshot_images": [16, 100]},
    }  # fmt: skip
    outputs = outputs_of("prepare_backbone", folder)
    prepare_backbone.main(
        backbone={**BACKBONE, "source": "pretrained", "pretraining": block}, image_px=32, seed=0,
        pictures=[gathered], outputs=outputs,
        folders=(str(folder / "state"), str(folder / "events")), device="cpu",
    )  # fmt: skip
    return outputs


def test_a_backbone_grows_up_with_the_gathered_pictures(made, gathered, tmp_path):
    outputs = pretrained(made, gathered, tmp_path)
    assert not (tmp_path / "state").exists()
    one, initial = (backbones.load(p) for p in (outputs["backbone"], made["backbone"]))
    assert one.provenance["pictures_sha256"] == provenance.file_sha256(gathered)
    assert set(pd.read_parquet(outputs["log"])["target"]) == {"class"}
    own = one.encoder.state_dict()
    states = {
        record["images"]: {name: value.clone() for name, value in encoder.state_dict().items()}
        for record, encoder in backbones.snapshots(initial, outputs["snapshots"])
    }
    assert list(states) == [16, 100]
    name = "blocks.0.attn.qkv.weight"
    assert not torch.equal(states[16][name], states[100][name])
    assert not torch.equal(states[100][name], own[name])
    # The condition of no turn is the upright one, to the last byte.
    (tmp_path / "again").mkdir()
    again = pretrained(made, gathered, tmp_path / "again", rotation_deg=0)
    assert Path(again["snapshots"]).read_bytes() == Path(outputs["snapshots"]).read_bytes()


def test_a_backbone_without_rearing_has_an_empty_log_and_no_snapshots(made):
    assert len(pd.read_parquet(made["log"])) == 0
    one = backbones.load(made["backbone"])
    assert list(backbones.snapshots(one, made["snapshots"])) == []
