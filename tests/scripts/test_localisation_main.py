"""The script about places of chirps on a handful of spectrograms, without Snakemake."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from patchwork import stimuli
from patchwork.data import store
from patchwork.tables import FINDINGS
from rule_files import outputs_of

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow/scripts"
sys.path.insert(0, str(SCRIPTS))

import analyse_localisation  # noqa: E402

N, FIRST, SEED = 60, 2000, 3
SETTINGS = {
    "plain": {"image_px": 32, "signal": "ridge", "presence_probability": 0.7},
    "measured": {"image_px": 32, "signal": "waveform", "snr_db": {"min": 0, "max": 10}},
}
LABELS = ("start_s", "start_hz", "end_hz")
BLOCK = {"coverage": 0.9, "n_bins": 3, "sizes": {"plain": 500}}


def written(folder: Path, dataset: str) -> str:
    """A test set, where the workflow puts it."""
    indices = range(FIRST, FIRST + N)
    path = folder / dataset / "data/test.h5"
    settings = SETTINGS[dataset]
    store.write(
        path,
        stimuli.stream("chirps", settings, seed=SEED, indices=indices),
        n=N,
        attributes={
            "seed": SEED,
            "settings": {"kind": "chirps", **settings},
            "first_index": FIRST,
            "code": "test",
        },
        label_attributes=stimuli.LABELS["chirps"](settings),
    )
    return str(path)


def predicted(folder: Path, test: str, run: dict) -> str:
    """Predictions that miss by a second or a hertz, as a network's evaluation writes them."""
    rng = np.random.Generator(np.random.Philox(run["seed"]))
    labels = store.read(test).labels
    columns = {"index": np.arange(N), **labels}
    for label in LABELS:
        columns[f"predicted_{label}"] = np.nan_to_num(labels[label]) + rng.standard_normal(N)
    if run["dataset"] == "plain":
        columns["predicted_present"] = labels["present"].astype(float)
        columns["score_present"] = labels["present"] + rng.standard_normal(N)
    path = folder / f"{run['dataset']}_{run['seed']}.parquet"
    pd.DataFrame(columns).to_parquet(path)
    return str(path)


def logged(folder: Path) -> str:
    """The log of a training of two steps."""
    columns = {"step": [1, 2], "epoch": 0, "learning_rate": 0.1, "target": "chirp"}
    table = pd.DataFrame(columns | {"loss": [1.0, 0.5], "absolute_error": 0.4})
    table.to_parquet(folder / "log.parquet")
    return str(folder / "log.parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("results")
    tests = {dataset: written(folder, dataset) for dataset in SETTINGS}
    runs = [
        {"dataset": dataset, "backbone": "pretrained", "protocol": "corrected", "seed": seed}
        for dataset in SETTINGS
        for seed in (0, 1)
    ]
    outputs = outputs_of("analyse_localisation", folder)
    analyse_localisation.main(
        inputs={
            "predictions": [predicted(folder, tests[run["dataset"]], run) for run in runs],
            "tests": list(tests.values()),
            "steps": [logged(folder)],
        },
        outputs=outputs,
        conditions=runs,
        runs=runs[:1],
        settings=BLOCK,
        planted={"start_s_r": {"effect": 0.98, "claimed": [0.95, 1]}},
    )
    return {name: pd.read_csv(path) for name, path in outputs.items()}


def test_networks_and_baselines_are_scored_on_both_datasets(made):
    rows = made["metrics"].set_index(["dataset", "backbone", "target", "metric"])["estimate"]
    for dataset in SETTINGS:
        assert rows[(dataset, "pretrained", "start_s", "mae")] == pytest.approx(0.8, abs=0.2)
        # The spectrograms are read from the pixels, or the filter would find nothing.
        assert rows[(dataset, "matched_filter", "start_s", "pearson_r")] > 0.9
        assert rows[(dataset, "constant", "start_s", "mae")] > 5
    assert rows[("measured", "ridge_tracker", "start_hz", "mae")] < 3


def test_findings_hold_places_coverage_and_presence(made):
    findings = made["findings"]
    assert list(findings) == list(FINDINGS)
    network = findings[findings["backbone"] == "pretrained"].set_index(["dataset", "quantity"])
    assert 0.7 < network.loc[("plain", "presence_auroc"), "estimate"] < 0.85
    assert ("measured", "presence_auroc") not in network.index
    assert 0.6 < network.loc[("measured", "coverage_end_hz"), "estimate"] <= 1
    assert network.loc[("measured", "start_s_mae_minus_constant"), "estimate"] < -5


def test_errors_lie_along_the_noise_of_each_dataset(made):
    along = made["errors_along"].groupby("dataset")["along"].unique()
    assert set(along["plain"]) == {"noise_sd", "duration_s", "sweep"}
    assert set(along["measured"]) == {"snr_db", "duration_s", "sweep"}


def test_presence_intervals_points_and_sentences_are_written(made):
    assert set(made["presence"]["dataset"]) == {"plain"}
    assert set(made["conformal"]["seed"]) == {"0", "1", "all"}
    assert set(made["points"]["target"]) == set(LABELS)
    assert made["sentences"]["sentence"].str.match(r"A chirp starts at|There is no chirp").all()


def test_positive_controls_losses_and_histograms_are_written(made):
    found = made["findings"].set_index(["dataset", "quantity"])
    assert 0 <= found.loc[("plain", "start_s_r_found"), "estimate"] <= 1
    assert made["losses"]["loss"].tolist() == [1.0, 0.5]
    assert made["learning"]["n_train"].unique().tolist() == [500]
    assert set(made["histograms"]["dataset"]) == set(SETTINGS)
