"""Interruptions at every place of a training, inside one process, and processes that share it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from patchwork import stimuli
from patchwork.data import sources, tensors
from patchwork.models import fine_tuned
from patchwork.training import checkpoints, trainer
from small_networks import LORA, TRAINING, Pictures, network

HERE = Path(__file__).parent
N_STEPS = 18


class CutError(Exception):
    """Stands for a kill: nothing after it runs."""


class Cutting(Pictures):
    """Pictures whose reader dies after a number of batches, unless that is negative."""

    def __init__(self, n, seed, batches_left=-1):
        super().__init__(n, seed)
        self.batches_left = batches_left

    def batches(self, order, batch_size):
        for batch in super().batches(order, batch_size):
            if self.batches_left == 0:
                raise CutError
            self.batches_left -= 1
            yield batch


class Slow(Pictures):
    """A training on these takes at least 0.36 s."""

    def batches(self, order, batch_size):
        for batch in super().batches(order, batch_size):
            time.sleep(0.02)
            yield batch


def fit(one, folder, data=None, validation=None, **changes):
    settings = {**TRAINING, "checkpoint_every_s": 0.0, **changes}
    data, validation = data or Pictures(96, 1), validation or Pictures(32, 2)
    return trainer.fit(one, data, validation, settings, seed=5, folder=folder)


def same(one, other):
    one, other = fine_tuned.trainable(one), fine_tuned.trainable(other)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("kind", ["constant", "cosine", "plateau"])
def test_a_cut_at_every_single_step_changes_no_bit(tmp_path, kind):
    against = Pictures(32, 2)
    against.labels = {name: -column for name, column in against.labels.items()}
    schedule = {"kind": kind, "warmup_steps": 2, "patience": 0, "factor": 0.5}
    whole, pieces = network(), None
    log = fit(whole, tmp_path / "whole", validation=against, schedule=schedule)
    for _ in range(N_STEPS - 1):
        pieces = network()
        with pytest.raises(CutError):
            fit(pieces, tmp_path / "cut", Cutting(96, 1, 1), against, schedule=schedule)
    pieces = network()
    again = fit(pieces, tmp_path / "cut", Cutting(96, 1), against, schedule=schedule)
    assert same(whole, pieces)
    pd.testing.assert_frame_equal(again.steps, log.steps, check_exact=True)
    pd.testing.assert_frame_equal(again.epochs, log.epochs, check_exact=True)
    assert again.best_epoch == log.best_epoch


def test_kills_at_any_moment_change_no_bit(tmp_path):
    """Real kills, also in the middle of a write, of a process that starts without delay."""
    whole, pieces = network(), network()
    fit(whole, tmp_path / "whole")
    rng = np.random.Generator(np.random.Philox(3))
    context = multiprocessing.get_context("fork")
    statuses = []
    while 0 not in statuses:
        child = context.Process(target=fit, args=(network(), tmp_path / "cut", Slow(96, 1)))
        child.start()
        child.join(rng.uniform(0.02, 0.12) if len(statuses) < 20 else None)
        child.kill()
        child.join()
        statuses.append(child.exitcode)
    assert statuses.count(-signal.SIGKILL) >= 3
    assert set(statuses) == {0, -signal.SIGKILL}
    fit(pieces, tmp_path / "cut")
    assert same(whole, pieces)


@pytest.mark.parametrize("n_validated", [0, 1, 2])
def test_a_cut_between_an_epoch_and_its_validation_changes_no_bit(tmp_path, n_validated):
    whole, pieces = network(), network()
    log = fit(whole, tmp_path / "whole")
    with pytest.raises(CutError):
        fit(network(), tmp_path / "cut", validation=Cutting(32, 2, n_validated))
    again = fit(pieces, tmp_path / "cut")
    assert same(whole, pieces)
    pd.testing.assert_frame_equal(again.epochs, log.epochs, check_exact=True)


def test_a_signal_at_the_last_step_of_the_last_epoch_loses_no_validation(tmp_path, monkeypatch):
    whole, pieces = network(), network()
    fit(whole, tmp_path / "whole")
    step = trainer._Loop._step

    def last(loop, *batch):
        step(loop, *batch)
        if loop.state.step == N_STEPS:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(trainer._Loop, "_step", last)
    with pytest.raises(trainer.Interrupted) as left:
        fit(network(), tmp_path / "cut", checkpoint_every_s=60)
    monkeypatch.undo()
    assert left.value.code == 128 + signal.SIGTERM
    log = fit(pieces, tmp_path / "cut")
    assert same(whole, pieces)
    assert log.epochs["epoch"].max() == 2


@pytest.mark.parametrize("order", [[], [3], [2, 0, 1], [5, 4, 3, 2]])
def test_a_generator_draws_what_is_asked_for_even_nothing(order, monkeypatch):
    def draw(settings, *, seed, indices):
        images = np.full((len(indices), 8, 8, 3), indices[:, None, None, None], np.uint8)
        return stimuli.Batch(images, {"number": indices + 100.0 * seed})

    monkeypatch.setitem(stimuli.GENERATORS, "numbers", draw)
    source = sources.Generated("numbers", {}, seed=2, n=6)
    assert len(source) == 6
    batches = list(source.batches(np.array(order, int), 2))
    assert [len(images) for images, _ in batches] == [2] * (len(order) // 2) + [1] * (
        len(order) % 2
    )
    assert [int(one[0, 0, 0]) for images, _ in batches for one in images] == order
    assert [x for _, labels in batches for x in labels["number"]] == [i + 200 for i in order]


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoints.write(tmp_path, {"a": torch.zeros(2)}, {"step": 1})

    def cut(tensors, path, metadata):
        Path(path).write_bytes(b"half a checkpoint")
        raise CutError

    monkeypatch.setattr("patchwork.data.tensors.save_file", cut)
    with pytest.raises(CutError):
        checkpoints.write(tmp_path, {"a": torch.ones(2)}, {"step": 2})
    found, record = checkpoints.read(tmp_path)
    assert record["step"] == 1
    assert torch.equal(found["a"], torch.zeros(2))


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone(tmp_path):
    seen = {}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):

        class Listening(Pictures):
            def batches(self, order, batch_size, name=name):
                seen.setdefault(name, []).append(order.copy())
                return super().batches(order, batch_size)

        adapter = {"kind": "none"} if name == "b" else LORA
        settings = {**TRAINING, "checkpoint_every_s": 60, "epochs": 2}
        data = Listening(48, 1)
        trainer.fit(
            network(adapter), data, Pictures(8, 2), settings, seed=seed, folder=tmp_path / name
        )
    assert np.array_equal(seen["a"], seen["b"])
    assert not np.array_equal(seen["a"], seen["c"])
    assert not np.array_equal(seen["a"][0], seen["a"][1])
    assert np.array_equal(np.sort(seen["a"][0]), np.arange(48))


def shared(folder, n_processes, what="well"):
    """Train in several processes; exit status, what was shown, and what was written."""
    environment = os.environ | {
        "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "yes",
        "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    output = folder / "out.safetensors"
    arguments = [str(folder / "state"), str(output), str(n_processes), what]
    done = subprocess.run(
        [sys.executable, str(HERE / "train_shared.py"), *arguments],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    written = tensors.read_tensors(output)[0] if output.exists() else None
    return done.returncode, done.stderr, written


@pytest.mark.slow
@pytest.mark.parametrize(
    "signals",
    [{"last": 5}, {"last": 5, "parent": 9}],
    ids=["once", "twice"],
)
def test_two_processes_leave_and_resume_together_and_train_as_one(tmp_path, signals):
    for what, asked_at in signals.items():
        status, shown, written = shared(tmp_path, 2, what)
        assert status == 128 + signal.SIGUSR1, shown
        assert written is None
        step = checkpoints.read(tmp_path / "state")[1]["step"]
        assert asked_at <= step < N_STEPS
        assert step == 5 or what == "parent"
    status, shown, two = shared(tmp_path, 2)
    assert status == 0, shown
    one = network(LORA | {"dropout": 0.0})
    plateau = {"kind": "plateau", "warmup_steps": 2}
    log = fit(one, tmp_path / "one", schedule=plateau)
    expected = fine_tuned.trainable(one) | {"losses": torch.tensor(log.steps["loss"])}
    expected["r"] = torch.tensor(log.epochs["r"])
    assert expected.keys() == two.keys()
    for name, value in expected.items():
        assert torch.allclose(value, two[name], atol=2e-5, rtol=1e-3), name


@pytest.mark.slow
def test_a_loss_that_is_no_number_in_two_processes_is_one_line(tmp_path):
    status, shown, written = shared(tmp_path, 2, "nan")
    assert status == 1
    assert shown.splitlines()[-1].endswith(
        "error: training: loss of target side is nan at step 0; "
        "allowed is a finite number: lower learning_rate (now 0.003)"
    )
    assert written is None
