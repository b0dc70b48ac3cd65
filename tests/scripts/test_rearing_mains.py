"""The scripts about rearing and timed passes on a handful of images, without Snakemake."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from patchwork import stimuli, tables
from patchwork.data import store
from patchwork.data.tensors import write_tensors
from patchwork.models import backbones, fine_tuned, tasks
from rule_files import outputs_of

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow/scripts"
sys.path.insert(0, str(SCRIPTS))

import contrast_rearing  # noqa: E402
import describe_rearing  # noqa: E402
import evaluate  # noqa: E402
import gather_pictures  # noqa: E402
import probe_backbones  # noqa: E402
import time_inference  # noqa: E402

PX = 32
ARMS = ("upright", "turned", "untrained")
SEEDS = [0, 1]
SIZES = {
    "n_lines_train": 24, "n_lines_test": 24, "n_noise_train": 24, "n_per_orientation": 8,
    "n_orientations": 8,
}  # fmt: skip
SETTINGS = {
    "names": list(ARMS), "accuracy": "class",
    "turns": {"upright": "upright", "turned": "turned", "between": "untrained"},
    "pairs": [["upright", "turned"]], "matched": [], "followed": ["upright"],
    "trajectory": ["colour_contrast"],
    "before": {"protocol": "few_shot", "dataset": "plain"},
    "described": {"n_views": 32, "n_samples": 3},
    "hues": {"tested": ["blue", "yellow"], "control": ["magenta", "green"]},
    "planted": {
        "seed": 0,
        "contrasts": [
            {"measure": "fisher_noise_cls", "condition": "upright", "minus": "turned",
             "effect": -1.0, "claimed": [None, 0]},
        ],
    },
    "probes": {"seed": 5, "sizes": SIZES, "colours": {"n_train": 8, "n_test": 8}},
}  # fmt: skip
PLAN = {
    "outcomes": [
        {"measure": "fisher_noise_cls", "condition": "upright", "minus": "turned",
         "predicted_sign": None},
    ],
    "test": "sign_flip", "alpha": 0.05, "seeds_min": 2, "exclusions": {"accuracy_min": None},
    "decision": "none",
}  # fmt: skip
LINES = {
    "image_px": PX, "length_px": {"min": 8, "max": 8}, "width_px": {"min": 2, "max": 2},
    "palette": "white", "margin": "length", "noise_levels": [0.1], "rasteriser": "antialiased",
}  # fmt: skip
TARGETS = {"orientation": {"labels": ["orientation_deg"], "encoding": "double_angle"}}
PROTOCOL = {"readout": "cls", "head_hidden": [], "adapter": {"kind": "full"}}


def pretrained(folder: Path, condition: str, seed: int) -> tuple[str, str]:
    """A network and what was kept on its way, none of it trained."""
    architecture = {
        "name": "vit_tiny_patch16_224",
        "options": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3},
    }
    block = {"source": "random", "architecture": architecture, "position_scale": 0.5}
    backbone = backbones.prepare(block, PX, seed=seed)
    path = str(folder / f"{condition}{seed}.safetensors")
    snapshots = folder / f"{condition}{seed}"
    if condition != "untrained":
        backbone.provenance |= {
            "pretraining": {"n_train": 64, "training": {"epochs": 1}},
            "validation_r": {"class": 0.5},
        }
        record = {"images": 32, "loss": 1.0, "scores": {"class": 0.25}}
        write_tensors(backbone.encoder.state_dict(), record, snapshots / "32.safetensors")
    backbones.save(backbone, path)
    backbones.join_snapshots(snapshots, f"{snapshots}_snapshots.safetensors")
    return path, f"{snapshots}_snapshots.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("rearing_conditions")
    found: dict = {"measures": [], "backbones": {}}
    for condition in ARMS:
        files = [pretrained(folder, condition, seed) for seed in SEEDS]
        path = outputs_of("probe_backbones", folder)["measures"].replace("backbone", condition)
        probe_backbones.main(
            pretrained=[one for one, _ in files], snapshots=[kept for _, kept in files],
            seeds=SEEDS,
            followed=condition == "upright",
            image_px=PX, settings=SETTINGS, measures=path, device="cpu",
        )  # fmt: skip
        found["measures"].append(path)
        found["backbones"][condition] = [one for one, _ in files]
    found["plain"] = str(folder / "plain" / "data" / "test.h5")
    store.write(
        found["plain"],
        stimuli.stream("lines", LINES, seed=1, indices=range(64)),
        n=64,
        attributes={"seed": 1, "settings": LINES, "first_index": 0, "code": "test"},
        label_attributes=stimuli.LABELS["lines"](LINES),
    )
    return found


def test_stages_stand_at_the_images_they_had_seen(made):
    table = pd.read_csv(made["measures"][0])
    accuracy = table[table["measure"] == "accuracy"].set_index(["seed", "epoch"])["value"]
    assert accuracy.to_dict() == {(s, n): a for s in SEEDS for n, a in ((32, 0.25), (64, 0.5))}
    assert set(pd.read_csv(made["measures"][1])["epoch"]) == {64}  # not followed
    untrained = pd.read_csv(made["measures"][2])
    assert set(untrained["epoch"]) == {0}
    # Nothing was trained, so every stage of a condition is the untrained network of its seed.
    keys = ["seed", "measure", "component", "orientation_deg"]
    plain = untrained[untrained["measure"] != "accuracy"].set_index(keys)["value"]
    last = table[(table["epoch"] == 64) & (table["measure"] != "accuracy")].set_index(keys)["value"]
    assert np.allclose(plain, last[plain.index], atol=1e-6)


def predicted(made: dict, condition: str, test: str, folder: Path) -> str:
    """What networks of a condition say of lines, with heads that nothing trained."""
    tuned = []
    targets = {name: tasks.read_target(block, PX) for name, block in TARGETS.items()}
    for seed, path in zip(SEEDS, made["backbones"][condition], strict=True):
        backbone = backbones.load(path)
        network = fine_tuned.build(backbone, targets, PROTOCOL, seed=seed)
        record = {"settings": PROTOCOL, "targets": TARGETS, "image_px": PX, "seed": seed}
        tuned.append(str(folder / f"{condition}{seed}.safetensors"))
        fine_tuned.save(network, record | {"backbone": backbone.provenance}, tuned[-1])
    folder = folder / condition / Path(test).parts[-3]
    out = outputs_of("evaluate", folder)["predictions"]
    files = list(zip(tuned, made["backbones"][condition], strict=True))
    evaluate.main(test=test, files=files, seeds=SEEDS, predictions=out, device="cpu")
    outputs = outputs_of("time_inference", folder)
    time_inference.main(
        test=test, files=files, seeds=SEEDS, outputs=outputs,
        condition={"dataset": "plain", "backbone": condition, "protocol": "corrected"},
        settings={"n_images": 8, "repetitions": 2}, planted={}, device="cpu",
    )  # fmt: skip
    found = pd.read_csv(outputs["findings"]).set_index("quantity")
    assert found.loc[["images_per_s", "repetition_spread"], "seeds"].tolist() == [len(SEEDS)] * 2
    timed = pd.read_csv(outputs["timings"])
    assert timed.groupby("seed").size().to_dict() == dict.fromkeys(SEEDS, 2)
    assert (timed["seconds"] > 0).all()
    assert set(timed["n_images"]) == {8}
    return out


def test_arms_that_do_not_differ_have_no_contrast(made, tmp_path):
    conditions = [
        {"dataset": "plain", "backbone": condition, "protocol": protocol}
        for protocol in ("few_shot", "corrected")
        for condition in ARMS[:2]
    ]
    files = [predicted(made, one["backbone"], made[one["dataset"]], tmp_path) for one in conditions]
    outputs = outputs_of("contrast_rearing", tmp_path)
    contrast_rearing.main(
        inputs={"measures": made["measures"], "predictions": files},
        outputs=outputs, rearing_conditions=list(ARMS), conditions=conditions,
        settings=SETTINGS, plan=PLAN,
    )  # fmt: skip
    contrasts = pd.read_csv(outputs["contrasts"])
    assert (contrasts["estimate"].abs() < 1e-6).all()
    assert contrasts.loc[0, "status"] == "co-primary"
    adapted = pd.read_csv(outputs["adapted"])
    assert set(adapted["protocol"]) == {"few_shot", "corrected"}
    kept = adapted[adapted["quantity"] == "contrast_after"]
    assert (kept["estimate"].abs() < 1e-6).all()
    assert list(pd.read_csv(outputs["findings"]).columns) == list(tables.FINDINGS)


def test_every_arm_is_shown_and_measured(tmp_path):
    path = str(tmp_path / "pictures.h5")
    drawn = {
        "kind": "objects", "orientation_statistics": "cardinal", "colour_statistics": "uniform",
        "clutter_probability": 0.5,
    }  # fmt: skip
    source = {"kind": "procedural", "stimuli": drawn, "label": "shape", "n": 48, "seed": 1}
    gather_pictures.main(
        settings={"side_px": 48, "source": source}, colour=True, path=path, code="test"
    )
    views = {
        condition: {"magnification": 1.0, "image_px": PX, "rotation_deg": turn, "colour": colour}
        for condition, turn, colour in (("upright", 0, "grey"), ("turned", 45, "natural"))
    }
    outputs = outputs_of("describe_rearing", tmp_path)
    describe_rearing.main(
        pictures=path, views=views, seed=0, settings=SETTINGS,
        outputs=outputs,
    )  # fmt: skip
    energy = pd.read_csv(outputs["energy"]).pivot(
        index="orientation_deg", columns="condition", values="share"
    )
    # Edges of cardinal pictures lie at 0 and 90 deg, those of turned ones at 45 and 135.
    oblique = energy.index[np.abs(energy.index % 90 - 45) <= 10]
    assert energy.loc[oblique, "turned"].sum() > 1.3 * energy.loc[oblique, "upright"].sum()
    assert Path(outputs["png"]).stat().st_size > 1000
