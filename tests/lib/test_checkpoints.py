"""Damaged checkpoints: the one before is taken, it is said, and no bit changes."""

import logging

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from patchwork.jobs.log import LOGGER
from patchwork.models import fine_tuned
from patchwork.training import checkpoints, trainer
from small_networks import TRAINING, Pictures, network

LAST, BEFORE = "checkpoint.safetensors", "checkpoint-before.safetensors"


class CutError(Exception):
    """Stands for a kill: nothing after it runs."""


def fit(one, folder, cut_at=None, **changes):
    def step(loop, *batch, plain=trainer._Loop._step):
        if loop.state.step == cut_at:
            raise CutError
        plain(loop, *batch)

    AcceleratorState._reset_state()  # one process has one precision otherwise
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer._Loop, "_step", step)
        settings = TRAINING | changes
        trainer.fit(one, Pictures(96, 1), Pictures(32, 2), settings, seed=5, folder=folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    one = network()
    fit(one, tmp_path_factory.mktemp("whole"))
    return fine_tuned.trainable(one)


def same(one, whole):
    own = fine_tuned.trainable(one)
    return own.keys() == whole.keys() and all(torch.equal(own[k], whole[k]) for k in own)


def flipped(content, rng):
    place = rng.integers(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.integers(8))]) + content[place + 1 :]


def cut_short(content, rng):
    return content[: rng.integers(len(content))]


def overwritten(content, rng):
    first = rng.integers(len(content))
    return (content[:first] + rng.bytes(512) + content[first + 512 :])[: len(content)]


@pytest.mark.parametrize("damage", [flipped, cut_short, overwritten])
def test_after_damage_the_checkpoint_before_is_taken_and_no_bit_changes(
    tmp_path, whole, damage, caplog
):
    caplog.set_level(logging.WARNING, LOGGER.name)
    rng = np.random.Generator(np.random.Philox(8))
    for i in range(3):
        folder, pieces = tmp_path / str(i), network()
        with pytest.raises(CutError):
            fit(network(), folder, cut_at=9)
        content = (folder / LAST).read_bytes()
        (folder / LAST).write_bytes(damage(content, rng))
        caplog.clear()
        tensors, record = checkpoints.read(folder)
        assert record["step"] == 8
        assert tensors
        (line,) = [one.getMessage() for one in caplog.records]
        assert line.startswith(f"{folder / LAST}: ")
        assert line.endswith(": the checkpoint before it is taken")
        fit(pieces, folder)
        assert same(pieces, whole)


def test_every_flipped_bit_is_seen(tmp_path):
    rng = np.random.Generator(np.random.Philox(9))
    kept = {"a": torch.arange(12.0), "b": torch.zeros((), dtype=torch.bfloat16)}
    checkpoints.write(tmp_path, kept, {"step": 3, "best_loss": float("inf"), "epochs": [[1, 0.25]]})
    content = (tmp_path / LAST).read_bytes()
    found, record = checkpoints.read(tmp_path)
    assert all(torch.equal(found[k], kept[k]) for k in kept)
    assert record == {"step": 3, "best_loss": float("inf"), "epochs": [[1, 0.25]]}
    for _ in range(300):
        (tmp_path / LAST).write_bytes(flipped(content, rng))
        try:
            again = checkpoints.read(tmp_path)
        except ValueError as error:
            pytest.fail(f"not set aside: {error}")
        # A space of the header's padding may change without any meaning.
        assert again is None or (again[1] == record and torch.equal(again[0]["a"], kept["a"]))


def test_without_a_whole_one_training_starts_anew(tmp_path, whole, caplog):
    pieces = network()
    with pytest.raises(CutError):
        fit(network(), tmp_path, cut_at=9)
    for name in (LAST, BEFORE):
        (tmp_path / name).write_bytes(b"no checkpoint")
    fit(pieces, tmp_path)
    assert same(pieces, whole)
    assert [one.getMessage().rpartition(": ")[2] for one in caplog.records] == [
        "the checkpoint before it is taken", "training starts anew",
    ]  # fmt: skip


@pytest.mark.parametrize(("began", "then"), [("bf16", "no"), ("no", "bf16")])
def test_a_training_goes_on_only_in_the_precision_in_which_it_began(tmp_path, began, then):
    with pytest.raises(CutError):
        fit(network(), tmp_path, cut_at=4, mixed_precision=began)
    line = (
        rf"{tmp_path}: training began with mixed_precision {began} and would go on with {then} on "
        rf"this machine; allowed is {began}: go on where it began, or remove the folder"
    )
    with pytest.raises(ValueError, match=line):
        fit(network(), tmp_path, mixed_precision=then)
    fit(network(), tmp_path, mixed_precision=began)
