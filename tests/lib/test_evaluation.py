"""Scores over a source: classes, unknown labels, and what stands in a table of predictions."""

import numpy as np
import pandas as pd
import pytest
import torch
from patchwork.models import backbones, fine_tuned, tasks
from patchwork.training import evaluation
from small_networks import RANDOM, Pictures, network


class Labelled(Pictures):
    """Pictures with a class of three, one of two, and a label that is sometimes unknown."""

    def __init__(self, n, seed):
        super().__init__(n, seed)
        level = self.labels["brightness"]
        self.labels |= {
            "third": (level // 60).astype(int) % 3,
            "present": self.labels["side"].astype(int),
            "start": np.where(self.labels["side"] > 0, level, np.nan),
        }


BLOCKS = {
    "third": {
        "labels": ["third"], "encoding": "category", "n_classes": 3, "loss": "cross_entropy",
    },
    "present": {
        "labels": ["present"], "encoding": "category", "n_classes": 2, "loss": "cross_entropy",
    },
    "start": {"labels": ["start"], "encoding": "scaled", "scale": 255, "where_known": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def judged():
    data = Labelled(60, 1)
    targets = {name: tasks.read_target(block, 16) for name, block in BLOCKS.items()}
    settings = {"readout": "cls", "head_hidden": [8], "adapter": {"kind": "full"}}
    one = fine_tuned.build(backbones.prepare(RANDOM, 16, seed=0), targets, settings, seed=0).eval()
    with torch.no_grad():
        outputs = {name: value.double().numpy() for name, value in one(data.images).items()}
    return one, data, outputs


def test_classes_are_scored_by_the_share_that_is_right(judged):
    one, data, outputs = judged
    rows, total = evaluation.validate(one, data, 16)
    table = {label: (loss, score) for _, label, loss, score in rows}
    for name in ("third", "present"):
        guess = outputs[name].argmax(axis=1)
        right = np.mean([a == b for a, b in zip(guess, data.labels[name], strict=True)])
        assert table[name][1] == pytest.approx(right)
        logs = outputs[name] - np.log(np.exp(outputs[name]).sum(axis=1, keepdims=True))
        expected = -np.mean([row[k] for row, k in zip(logs, data.labels[name], strict=True)])
        assert table[name][0] == pytest.approx(expected, rel=1e-5)
    assert total == pytest.approx(sum(loss for _, _, loss, _ in rows))


def test_examples_whose_label_is_unknown_are_left_out_of_its_correlation(judged):
    one, data, outputs = judged
    rows, _ = evaluation.validate(one, data, 16)
    loss, score = next((loss, score) for _, label, loss, score in rows if label == "start")
    known = data.labels["side"] > 0
    assert 10 < known.sum() < 50
    guess, truth = outputs["start"][known, 0], data.labels["start"][known]
    assert score == pytest.approx(np.corrcoef(guess, truth)[0, 1], abs=1e-6)
    # An unknown label costs nothing, and the mean is over all examples.
    assert loss == pytest.approx(((guess - truth / 255) ** 2).sum() / 60, rel=1e-4)


def test_a_label_that_is_never_known_has_no_score(judged):
    one, _, _ = judged
    data = Labelled(20, 2)
    data.labels["start"] = np.full(20, np.nan)
    rows, total = evaluation.validate(one, data, 16)
    scores = {label: score for _, label, _, score in rows}
    assert np.isnan(scores["start"])
    assert np.isfinite(total)


def test_two_classes_get_the_log_odds_of_the_second(judged):
    one, data, outputs = judged
    table = evaluation.predictions(one, data)
    odds = np.exp(outputs["present"])
    odds /= odds.sum(axis=1, keepdims=True)
    assert np.allclose(table["score_present"], np.log(odds[:, 1] / odds[:, 0]), atol=1e-5)
    assert ((table["score_present"] > 0) == (table["predicted_present"] == 1)).all()
    assert {c for c in table.columns if c.startswith("score_")} == {"score_present"}


def test_predictions_keep_what_is_unknown_and_predict_it_all_the_same(judged):
    one, data, outputs = judged
    table = evaluation.predictions(one, data)
    unknown = data.labels["side"] == 0
    assert np.array_equal(table["start"].isna(), unknown)
    assert np.allclose(table["predicted_start"], outputs["start"][:, 0] * 255, rtol=1e-4)
    assert (table.loc[unknown, "loss_start"] == 0).all()
    assert (table.loc[~unknown, "loss_start"] > 0).all()


@pytest.mark.parametrize("shared", [False, True])
def test_seeds_on_one_frozen_encoder_share_vectors_only_where_asked(monkeypatch, shared):
    images = Pictures(8, 1).images
    monkeypatch.setattr(fine_tuned, "load", lambda *_: network(adapter={"kind": "none"}).eval())

    def change_of_an_edit(one):
        plain = fine_tuned.predict(one, images)["side"]
        edit = one.encoder.blocks[0].register_forward_hook(lambda *_: torch.zeros_like(_[2]))
        edited = fine_tuned.predict(one, images)["side"]
        edit.remove()
        return pd.DataFrame({"change": [np.abs(edited - plain).max()]})

    files = [("a", "backbone"), ("b", "backbone")]
    found = evaluation.of_seeds(
        change_of_an_edit, files, [0, 1], "cpu", **({"share_vectors": True} if shared else {})
    )
    # An edit inside of the encoder is seen, unless the vectors of the pictures are kept.
    assert ((found["change"] == 0) == shared).all()
