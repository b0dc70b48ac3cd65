"""The scripts about regions and groups of heads on a handful of figures, without Snakemake."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from patchwork import stimuli, tables
from patchwork.data import store
from patchwork.models import backbones, fine_tuned, tasks
from rule_files import outputs_of

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow/scripts"
sys.path.insert(0, str(SCRIPTS))

import ablate_groups  # noqa: E402
import ablate_rows  # noqa: E402
import attend_regions  # noqa: E402
import summarise_regions  # noqa: E402
import summarise_released  # noqa: E402

PX, N = 96, 10
CHIRPS = {"image_px": PX, "signal": "ridge", "rendering": "decorated", "titled": True}
TARGETS = {
    "start": {"labels": ["start_s"], "encoding": "scaled", "scale": 45},
    "pitch": {"labels": ["start_hz"], "encoding": "scaled", "scale": 100},
}
ARCHITECTURE = {
    "name": "vit_tiny_patch16_224",
    "options": {"patch_size": 16, "embed_dim": 32, "depth": 3, "num_heads": 2},
}
MERGED = {"text": ["tick_labels", "axis_labels", "title", "colour_bar_labels"]}
SEEDS = (0, 1)
RUNS = [{"dataset": "d", "backbone": "b", "protocol": "p", "seed": seed} for seed in SEEDS]

CONDITION = {key: RUNS[0][key] for key in ("dataset", "backbone", "protocol")}
GATE = {"label": "start_s", "r_least": 0.9}


def predictions(folder: Path) -> str:
    """Of two networks that have learnt the task."""
    start = np.tile(np.linspace(0, 45, N), 2)
    columns = {"index": np.tile(range(N), 2), "start_s": start, "predicted_start_s": start + 1}
    path = folder / "predictions.parquet"
    pd.DataFrame(columns | {"seed": np.repeat(SEEDS, N)}).to_parquet(path)
    return str(path)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> list[dict[str, str]]:
    """What the scripts about one run write, for two seeds."""
    folder = tmp_path_factory.mktemp("regions")
    test = str(folder / "test.h5")
    store.write(
        test,
        stimuli.stream("chirps", CHIRPS, seed=1, indices=range(N)),
        n=N,
        attributes={"seed": 1, "settings": CHIRPS, "first_index": 0, "code": "test"},
        label_attributes=stimuli.LABELS["chirps"](CHIRPS),
    )
    return [one_run(folder / str(seed), test, seed) for seed in SEEDS]


def one_run(folder: Path, test: str, seed: int) -> dict[str, str]:
    source = {"source": "random", "architecture": ARCHITECTURE, "position_scale": 0.5}
    backbone = backbones.prepare(source, PX, seed=seed)
    place = {"test": test, "backbone": str(folder / "b.safetensors")}
    backbones.save(backbone, place["backbone"])
    settings = {"readout": "cls", "head_hidden": [8], "adapter": {"kind": "full"}}
    targets = {name: tasks.read_target(block, PX) for name, block in TARGETS.items()}
    network = fine_tuned.build(backbone, targets, settings, seed=seed)
    record = {"settings": settings, "targets": TARGETS, "image_px": PX, "seed": seed}
    place["model"] = str(folder / "m.safetensors")
    fine_tuned.save(network, record | {"backbone": backbone.provenance}, place["model"])
    rules = ("attend_regions", "ablate_groups", "ablate_rows")
    files = {name: path for rule in rules for name, path in outputs_of(rule, folder).items()}
    attend_regions.main(
        **place, outputs=files, settings={"n_images": 8, "merged": MERGED}, device="cpu"
    )
    ablate_groups.main(
        **place, effects=files["effects"], spread=files["spread"],
        settings={
            "n_images": 8, "groups": ["heads", "pairs", "layers"], "order_seed": 5,
            "baselines": ["zero", "mean", "resample"],
        },
        targets=["start", "pitch"], device="cpu",
    )  # fmt: skip
    ablate_rows.main(
        **place, sweeps=files["sweeps"], scales=files["scales"],
        settings={"n_images": 8, "n_random_orders": 2, "batch_size": 4},
        targets=["start", "pitch"], device="cpu",
    )  # fmt: skip
    return files


def test_attention_is_scored_for_both_states(written):
    heads = pd.read_parquet(written[0]["heads"])
    names = {"chirp", "background", "frame", "title", "colour_bar", "text", "margin"}
    assert names <= set(heads["region"])
    assert set(heads["state"]) == {"tuned", "untouched"}
    # Nothing was trained: both states are one network.
    keys = ["layer", "head", "variant", "region"]
    states = [part.set_index(keys)["ratio"] for _, part in heads.groupby("state")]
    assert np.allclose(states[0], states[1][states[0].index], rtol=1e-4)
    assert heads.groupby("region")["null"].first()["chirp"] == "other_image"
    assert heads.groupby("region")["null"].first()["frame"] == "shifted"
    scores = pd.read_parquet(written[0]["scores"])
    parts = scores[~scores["region"].isin(["text", "high_norm_tokens"])]
    whole = parts.groupby(["state", "layer", "variant", "head", "example"])[["mass", "area"]].sum()
    assert np.allclose(whole, 1, atol=1e-5)
    assert len(pd.read_csv(written[0]["overlay"])) == 4 * 3 * 2 * (PX // 16) ** 2
    assert len(pd.read_csv(written[0]["picture"])) == 4 * PX**2


def test_groups_hold_every_kind_and_order_makes_no_difference(written):
    table = pd.read_parquet(written[0]["effects"])
    counts = table[table["baseline"] == "zero"].groupby("groups").size() / 8
    assert counts.to_dict() == {"heads": 6, "pairs": 15, "layers": 3, "layers_in_random_order": 3}
    plain, shuffled = (table[table["groups"] == name]["effect"].to_numpy() for name in
                       ("layers", "layers_in_random_order"))  # fmt: skip
    assert np.array_equal(plain, shuffled)


def test_regions_are_summarised_over_seeds(written, tmp_path):
    outputs = outputs_of("summarise_regions", tmp_path)
    per_run = ("spread", "overlay", "picture")
    summarise_regions.main(
        inputs={
            "predicted": [predictions(tmp_path)],
            "attended": [files["heads"] for files in written],
            "ablated": [files["effects"] for files in written],
            **{name: [files[name] for files in written] for name in per_run},
        },
        outputs=outputs,
        runs={"predicted": [CONDITION], "attended": RUNS, "ablated": RUNS},
        settings={
            "tested_regions": ["chirp", "text", "frame", "background"], "attended_region": "chirp",
            "region_sets": {"chirp": ["chirp"], "clutter": ["text", "frame"]},
            "margin_percent": 0.1, "baseline": "zero", "competence": GATE,
        },
        planted={"share_monosemantic_chirp_late": {"effect": 0.8, "claimed": [0.5, 1]}},
    )  # fmt: skip
    read = {name: pd.read_csv(path) for name, path in outputs.items()}
    assert read["competence"]["competent"].tolist() == [True, True]
    assert len(read["attention"]) == 2 * 4 * (3 * 2 * 2 + 3)
    assert len(read["compared"]) == 2 * 6
    assert set(read["spread"]["n"]) == {8}
    found = read["findings"]
    assert list(found.columns) == list(tables.FINDINGS)
    assert not found["quantity"].duplicated().any()
    estimates = found.set_index("quantity")["estimate"]
    assert estimates["random_order_difference_percent"] == 0
    assert estimates["n_competent_networks"] == 2
    assert 0 <= estimates["share_monosemantic_chirp_late_found"] <= 1
    assert estimates["share_monosemantic_any_all_permuted"] < 0.5
    effects = pd.read_parquet(written[0]["effects"])
    one = read["effects"].set_index(["groups", "group", "baseline"])["effect"]
    single = effects.query("groups == 'heads' and group == '2.1' and baseline == 'mean'")
    other = pd.read_parquet(written[1]["effects"]).query(
        "groups == 'heads' and group == '2.1' and baseline == 'mean'"
    )
    both = pd.concat([single, other])
    expected = 100 * both["effect"].mean() / both["clean"].mean()
    assert one["heads", "2.1", "mean"] == pytest.approx(expected, rel=1e-6)


def test_the_released_procedure_is_summarised(written, tmp_path):
    outputs = outputs_of("summarise_released", tmp_path)
    summarise_released.main(
        inputs={
            "predicted": [predictions(tmp_path)],
            **{name: [files[name] for files in written] for name in ("sweeps", "scales")},
        },
        outputs=outputs, conditions=[CONDITION], runs=RUNS, gate=GATE, planted={},
    )  # fmt: skip
    read = {name: pd.read_csv(path) for name, path in outputs.items()}
    assert len(read["profile"]) == 5 * 4 * 3
    assert len(read["scales"]) == 2 * 4
    found = read["findings"].set_index("quantity")["estimate"]
    assert list(read["findings"].columns) == list(tables.FINDINGS)
    assert found["whole_head_share_from_order"] == pytest.approx(0, abs=1e-12)
    assert found["standardised_label_mse_perfect"] == 0
