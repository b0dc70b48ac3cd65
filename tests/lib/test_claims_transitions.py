"""What the registered rules for phase transitions decide on planted courses of training."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from patchwork import claims
from patchwork.analysis.biases import transitions

CLAIMS = Path(__file__).resolve().parents[2] / "config/claims.yaml"
STATED = yaml.safe_load(CLAIMS.read_text())["claims"]
DATASETS = ["angle", "length", "width", "color"]
PROTOCOLS = ["described", "released", "corrected"]


def decided(name, counts):
    """Verdicts on one claim, under each protocol, if its runs count the same.

    `outside` where an estimate lies there: the power, without which no claim fails, is not here.
    """
    every = pd.concat([counts.assign(protocol=protocol) for protocol in PROTOCOLS])
    found = transitions.findings(every, DATASETS, ("angle", ["width", "color"]))
    table = claims.decide({name: STATED[name]}, found.assign(study="lines"))
    away = table["reason"].str.contains("outside the claimed region")
    return table.assign(verdict=table["verdict"].mask(away, "outside"))


def run(seed, drops, n=800, width=0.025):
    rng = np.random.Generator(np.random.Philox(seed))
    time = np.linspace(0, 1, n)
    fall = sum(-1.5 / (1 + np.exp(-(time - place) / width)) for place in drops)
    smooth = np.log(0.3 + 0.7 * np.exp(-6 * time)) + fall
    noisy = {
        metric: np.exp(smooth + rng.normal(0, 0.05, n)) for metric in ("loss", "absolute_error")
    }
    log = pd.DataFrame(
        {"step": np.arange(n), "learning_rate": 1e-3, "target": transitions.TOTAL, **noisy}
    )
    search = transitions.Search(n_surrogates=49)
    return transitions.of_run(log, ["loss", "absolute_error"], search)[1]


def trained(drops):
    return pd.concat(
        run(3 * i + seed, drops).assign(dataset=dataset, backbone="pretrained", seed=seed)
        for i, dataset in enumerate(DATASETS)
        for seed in range(3)
    )


@pytest.mark.parametrize(
    ("drops", "verdict"), [([0.5], "outside"), ([0.35, 0.7], "replicates"), ([], "outside")]
)
def test_two_phase_transitions_are_two_drops(drops, verdict):
    assert decided("A4", trained(drops))["verdict"].tolist() == [verdict] * 3


def test_the_claims_table_says_where_transitions_were_looked_for():
    (row, *_) = decided("A4", trained([])).to_dict("records")
    assert "middle four fifths after warm-up" in row["statement"]
    assert "in the searched part" in row["reason"]


def delayed(color, width, length):
    """Counts with given delays, percent of the training, by seed."""
    first = {"angle": [0, 0, 0], "length": [0, 0, 0], "width": width, "color": color}
    return pd.DataFrame(
        [
            {
                "dataset": dataset, "backbone": "pretrained", "seed": seed, "n_transitions": 1,
                "n_null": 0, "first_step": length * (0.4 + later / 100),
                "searched_from": 0.1 * length, "searched_to": 0.9 * length, "last_step": length,
            }
            for dataset, delays in first.items()
            for seed, later in enumerate(delays)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("length", [171, 4000, 100000])
@pytest.mark.parametrize(
    ("color", "width", "verdict"),
    [
        ([0, 0, 0], [0, 0, 0], "outside"),  # no delay at all is no "later"
        ([0.1, -0.1, 0.2], [0, 0, 0], "outside"),
        ([12, 12.5, 13], [0, 0, 0], "replicates"),
        ([12, 12.5, 13], [0.7, -0.7, 0.2], "replicates"),  # width does nothing that matters
        ([12, 12.5, 13], [12, 12.5, 13], "artefact"),  # whatever is added delays
        ([12, 12.5, 13], [-12, -12.5, -13], "artefact"),
        ([5, 8, 2], [0, 0, 0], "undetermined"),
        ([-12, -12.5, -13], [0, 0, 0], "outside"),
    ],
)
def test_later_is_more_than_the_smallest_delay_that_matters(color, width, verdict, length):
    assert decided("A5", delayed(color, width, length))["verdict"].tolist() == [verdict] * 3
