import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import train_once
from patchwork.data import sources, tensors
from patchwork.jobs.provenance import from_metadata
from patchwork.models import fine_tuned
from patchwork.training import checkpoints, evaluation, trainer
from small_networks import TARGETS, TRAINING, Pictures, network
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

N_STEPS = 18  # 96 pictures in batches of 16, three epochs


def start(where: Path, schedule: str, pause_s: float, how: str = "fork"):
    """Train in another process; spawned, it starts from nothing, which takes seconds."""
    arguments = (str(where), str(where.with_suffix(".safetensors")), schedule, str(pause_s))
    process = multiprocessing.get_context(how).Process(target=train_once.main, args=arguments)
    process.start()
    return process


def status(process) -> int | None:
    process.join(90)
    return process.exitcode


def first_checkpoint(folder: Path, process, after_s: float = 0.0) -> None:
    """Wait until the process has written its first checkpoint, then a little longer."""
    until = time.monotonic() + 90
    while checkpoints.read(folder) is None:
        assert process.is_alive()
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(after_s)


def kept(folder: Path) -> dict[str, bytes]:
    """Bytes of the encoders that were kept on the way, by examples seen."""
    return {path.stem: path.read_bytes() for path in (folder / trainer.SNAPSHOTS).iterdir()}


@pytest.mark.parametrize(
    ("schedule", "how"),
    [
        ("cosine", "fork"),
        pytest.param("cosine", "spawn", marks=pytest.mark.slow),
        pytest.param("plateau", "spawn", marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_ends_with_the_same_bits(tmp_path, schedule, how):
    whole = start(tmp_path / "whole", schedule, 0.0, how)
    for kill, after_s in enumerate((0.05, 0.31)):
        process = start(tmp_path / "cut", schedule, 0.1, how)
        first_checkpoint(tmp_path / "cut", process, after_s)
        process.kill()
        assert status(process) == -signal.SIGKILL
        assert checkpoints.read(tmp_path / "cut")[1]["step"] > 0, kill
    assert status(start(tmp_path / "cut", schedule, 0.0, how)) == 0
    assert status(whole) == 0
    one, _ = tensors.read_tensors(tmp_path / "whole.safetensors")
    other, _ = tensors.read_tensors(tmp_path / "cut.safetensors")
    assert one.keys() == other.keys()
    assert any("lora_B" in name for name in one)
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert set(kept(tmp_path / "whole")) == {"16", "50", "150", "288"}
    assert kept(tmp_path / "cut") == kept(tmp_path / "whole")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)]
)
def test_a_training_that_is_stopped_writes_its_step_first(tmp_path, number):
    process = start(tmp_path / "state", "cosine", 0.2)
    first_checkpoint(tmp_path / "state", process)
    os.kill(process.pid, number)
    assert status(process) == 128 + number
    assert 0 < checkpoints.read(tmp_path / "state")[1]["step"] < N_STEPS
    assert not (tmp_path / "state.safetensors").exists()


def fit(one, folder, data=None, validation=None, seed=5, **changes):
    settings = {**TRAINING, "checkpoint_every_s": 60, **changes}
    return trainer.fit(
        one, data or Pictures(96, 1), validation or Pictures(32, 2), settings,
        seed=seed, folder=folder,
    )  # fmt: skip


def test_a_task_that_can_be_learnt_is_learnt(tmp_path):
    log = fit(network(), tmp_path, epochs=12, learning_rate=0.01)
    last = log.epochs[log.epochs["epoch"] == log.best_epoch].set_index("label")["r"]
    assert last["brightness"] > 0.9


def test_every_step_and_target_is_logged_and_the_first_is_the_plain_loss(tmp_path):
    one = network(adapter={"kind": "none"})
    data = Pictures(96, 1)
    before = network(adapter={"kind": "none"}).eval()
    log = fit(one, tmp_path, data=data)
    assert len(log.steps) == N_STEPS * len(TARGETS)
    order = np.random.Generator(np.random.Philox(key=[5, 0])).permutation(96)[:16]
    images, labels = next(data.batches(order, 16))
    output = before(images)["brightness"].detach().numpy()[:, 0]
    expected = np.mean((output - labels["brightness"] / 255) ** 2)
    first = log.steps.iloc[0]
    assert first["target"] == "brightness"
    assert first["loss"] == pytest.approx(expected, rel=1e-5)
    assert first["absolute_error"] == pytest.approx(
        np.mean(np.abs(output - labels["brightness"] / 255)), rel=1e-5
    )
    assert log.steps["learning_rate"].iloc[0] == pytest.approx(0.0015)  # half way up the warm-up


def test_the_epoch_that_validation_likes_best_is_kept(tmp_path):
    # Validation labels run against those of training: it gets worse as training goes on.
    against = Pictures(32, 2)
    against.labels = {name: -column for name, column in against.labels.items()}
    one = network()
    changes = {"epochs": 12, "early_stopping_patience": 2, "learning_rate": 0.01}
    log = fit(one, tmp_path, validation=against, **changes)
    weights = pd.Series({name: block.get("weight", 1.0) for name, block in TARGETS.items()})
    total = (log.epochs.pivot(index="epoch", columns="target", values="loss") * weights).sum(axis=1)
    assert log.best_epoch == total.idxmin()
    assert log.best_epoch < total.index.max() < 11
    assert total.index.max() == log.best_epoch + 2
    assert evaluation.validate(one, against, 16)[1] == pytest.approx(total.min(), rel=1e-5)


def test_cached_features_train_the_same_heads(tmp_path):
    frozen = {"kind": "none"}
    plain, cached = network(adapter=frozen), network(adapter=frozen)
    fit(plain, tmp_path / "a")
    data, validation = (sources.Features(Pictures(n, s), cached) for n, s in ((96, 1), (32, 2)))
    fit(cached, tmp_path / "b", data=data, validation=validation)
    for name, value in fine_tuned.trainable(plain).items():
        assert torch.allclose(value, fine_tuned.trainable(cached)[name], atol=1e-6), name


def test_order_and_dropout_follow_the_seed(tmp_path):
    same = [fine_tuned.trainable(trained) for trained in (network(), network())]
    for i, folder in enumerate(("a", "b")):
        one = network()
        fit(one, tmp_path / folder)
        same[i] = fine_tuned.trainable(one)
    other = network()
    fit(other, tmp_path / "c", seed=6)
    name = next(iter(same[0]))
    assert all(torch.equal(same[0][n], same[1][n]) for n in same[0])
    assert not torch.equal(same[0][name], fine_tuned.trainable(other)[name])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_no_number_stops_with_step_and_target(tmp_path, value):
    data = Pictures(96, 1)
    data.labels["side"] = np.full(96, value)
    with pytest.raises(ValueError, match=r"loss of target side is (nan|inf) at step 0"):
        fit(network(), tmp_path, data=data)


class Exploding(Pictures):
    """Labels that leave all reason after some batches."""

    n_read = 0

    def batches(self, order, batch_size):
        for images, labels in super().batches(order, batch_size):
            far = 1e6 if self.n_read == 10 else 1.0
            self.n_read += 1
            yield images, {**labels, "side": labels["side"] * far}


def test_divergence_stops_with_step_and_target(tmp_path):
    with pytest.raises(ValueError, match=r"loss of target side diverged to .* at step 10"):
        fit(network(), tmp_path, data=Exploding(96, 1))


def test_events_can_be_read_by_tensorboard(tmp_path):
    fit(network(), tmp_path)
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"loss/brightness", "loss/side", "learning_rate", "r/side/side"} <= set(tags)


def test_a_plateau_lowers_the_rate(tmp_path):
    against = Pictures(32, 2)
    against.labels = {name: -column for name, column in against.labels.items()}
    schedule = {"kind": "plateau", "warmup_steps": 0, "patience": 0, "factor": 0.5}
    log = fit(network(), tmp_path, validation=against, epochs=6, schedule=schedule)
    rates = log.steps.groupby("epoch")["learning_rate"].first()
    assert rates[0] == 0.003
    assert rates[5] < 0.002


def test_predictions_stand_beside_their_labels():
    table = evaluation.predictions(network().eval(), Pictures(40, 3))
    assert len(table) == 40
    assert {"index", "brightness", "predicted_brightness", "loss_side"} <= set(table.columns)
    error = (table["predicted_brightness"] - table["brightness"]) / 255
    assert np.allclose(error**2, table["loss_brightness"], atol=1e-6)


class StoppingError(Exception):
    """Stands for a kill: nothing after it runs."""


class Stopping(Pictures):
    """Pictures whose reader dies in the middle of the second epoch."""

    n_left = 9

    def batches(self, order, batch_size):
        for batch in super().batches(order, batch_size):
            if self.n_left == 0:
                raise StoppingError
            self.n_left -= 1
            yield batch


def test_a_snapshot_is_made_again_when_its_step_is(tmp_path):
    """The last checkpoint lies before the snapshots: what a kill left of them is replaced."""
    changes = {"snapshot_images": [40, 112, 250]}
    fit(network(), tmp_path / "whole", **changes)
    with pytest.raises(StoppingError):
        fit(network(), tmp_path / "cut", data=Stopping(96, 1), **changes)
    assert checkpoints.read(tmp_path / "cut")[1]["step"] == 6
    assert set(kept(tmp_path / "cut")) == {"40", "112"}
    half = tmp_path / "cut" / trainer.SNAPSHOTS / "112.safetensors"
    half.write_bytes(half.read_bytes()[:100])
    fit(network(), tmp_path / "cut", **changes)
    assert set(kept(tmp_path / "whole")) == {"40", "112", "250"}
    assert kept(tmp_path / "cut") == kept(tmp_path / "whole")


def test_a_snapshot_is_the_encoder_after_its_examples(tmp_path, monkeypatch):
    """40 pictures in batches of 16 are 16, 32, 40, then 56, 72, 80 examples."""
    states, scores, step = {}, {}, trainer._Loop._step

    def listening(loop, *batch):
        step(loop, *batch)
        encoder = loop.network.encoder.state_dict()
        states[loop.state.step] = {name: value.clone() for name, value in encoder.items()}
        scores[loop.state.step] = evaluation.validate(loop.network, loop.validation, 16)

    monkeypatch.setattr(trainer._Loop, "_step", listening)
    wanted = {1: 1, 16: 1, 17: 2, 40: 3, 41: 4, 50: 4, 57: 5, 80: 6}
    changes = {"epochs": 2, "snapshot_images": [*wanted, 81, 1000]}
    one = network(adapter={"kind": "full"})
    fit(one, tmp_path / "a", data=Pictures(40, 1), **changes)
    assert set(kept(tmp_path / "a")) == {str(n) for n in wanted}
    for n, at in wanted.items():
        path = tmp_path / "a" / trainer.SNAPSHOTS / f"{n}.safetensors"
        got, metadata = tensors.read_tensors(path)
        assert got.keys() == states[at].keys()
        assert all(torch.equal(got[name], value) for name, value in states[at].items())
        record, (rows, total) = from_metadata(metadata), scores[at]
        assert record["images"] == n
        assert record["loss"] == pytest.approx(total)
        assert record["scores"] == pytest.approx({label: r for _, label, _, r in rows})


def test_snapshots_leave_the_training_as_it_is(tmp_path):
    plain, watched = network(), network()
    log = fit(plain, tmp_path / "plain")
    other = fit(watched, tmp_path / "watched", snapshot_images=[16, 100, 200])
    assert not (tmp_path / "plain" / trainer.SNAPSHOTS).exists()
    pd.testing.assert_frame_equal(log.steps, other.steps, check_exact=True)
    for name, value in fine_tuned.trainable(plain).items():
        assert torch.equal(fine_tuned.trainable(watched)[name], value), name
