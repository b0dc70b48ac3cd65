"""The same results on a CPU and on CUDA, to the tolerance that each test states."""

import os
import subprocess
import sys
from collections.abc import Mapping

import intervention_models as models
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from patchwork import interventions
from patchwork.data import sources, store
from patchwork.interventions.batches import free_bytes
from patchwork.jobs import devices
from patchwork.models import fine_tuned
from patchwork.stimuli import Batch, LabelAttributes
from patchwork.training import evaluation, feeding, trainer
from small_networks import LORA, TRAINING, Pictures, network

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
# Read when CUDA starts; a lease sets it for a job.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
STILL = {**LORA, "dropout": 0.0}  # dropout draws other numbers on another device


class CutError(Exception):
    """Stands for a kill: nothing after it runs."""


class Cutting(Pictures):
    """Pictures whose reader dies after a number of batches, unless that is negative."""

    batches_left = -1

    def batches(self, order, batch_size):
        for batch in super().batches(order, batch_size):
            if self.batches_left == 0:
                raise CutError
            self.batches_left -= 1
            yield batch


def fit(one, folder, data=None, **changes):
    # One process has one device and one precision, so accelerate's own memory is cleared.
    AcceleratorState._reset_state(reset_partial_state=True)
    settings = {**TRAINING, **changes}
    data = data or Pictures(96, 1)
    try:
        return trainer.fit(one, data, Pictures(32, 2), settings, seed=5, folder=folder)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def same(one, other):
    one, other = fine_tuned.trainable(one), fine_tuned.trainable(other)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_losses_of_a_training_agree_to_a_thousandth(tmp_path):
    logs = [
        fit(network(STILL).to(device), tmp_path / device, checkpoint_every_s=60)
        for device in ("cpu", "cuda")
    ]
    on_cpu, on_gpu = (log.steps["loss"].to_numpy() for log in logs)
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-3, atol=1e-6)
    on_cpu, on_gpu = (log.epochs["loss"].to_numpy() for log in logs)
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("adapter", [LORA, {"kind": "full"}], ids=["lora", "full"])
def test_a_training_cut_on_cuda_ends_with_the_same_bits(tmp_path, precision, adapter):
    whole = network(adapter).cuda()
    log = fit(whole, tmp_path / "whole", mixed_precision=precision)
    for left in (1, 4, 5):
        pieces, cut = network(adapter).cuda(), Cutting(96, 1)
        cut.batches_left = left
        with pytest.raises(CutError):
            fit(pieces, tmp_path / "cut", cut, mixed_precision=precision)
    pieces = network(adapter).cuda()
    again = fit(pieces, tmp_path / "cut", mixed_precision=precision)
    assert same(whole, pieces)
    assert again.steps.equals(log.steps)
    assert log.precision == precision


def test_a_loss_that_is_no_number_stops_a_training_on_cuda(tmp_path):
    broken = Pictures(96, 1)
    broken.labels["side"] = broken.labels["side"] * np.nan
    with pytest.raises(ValueError, match="loss of target side is nan at step 0"):
        fit(network().cuda(), tmp_path, broken)


def test_predictions_agree_to_a_ten_thousandth():
    one, data = fine_tuned.merge(network()), Pictures(300, 3)
    on_cpu = evaluation.predictions(one, data, 64)
    on_gpu = evaluation.predictions(one.cuda(), data, 64)
    assert list(on_cpu["index"]) == list(on_gpu["index"])
    for name in (column for column in on_cpu if column.startswith("predicted_")):
        size = on_cpu[name].abs().max()
        np.testing.assert_allclose(on_gpu[name], on_cpu[name], rtol=0, atol=1e-4 * size)


def test_batches_arrive_whole_and_in_order():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 200, 40)
    images = [torch.from_numpy(rng.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)) for n in sizes]
    drawn = [(some, {"row": rng.random(len(some))}) for some in images]

    def encode(labels: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        return {"row": torch.from_numpy(labels["row"])}

    busy = torch.randn(2048, 2048, device="cuda")
    seen = 0
    for (images, labels), (there, encoded) in zip(
        drawn, feeding.on_device(iter(drawn), encode, torch.device("cuda")), strict=True
    ):
        for _ in range(10):  # work in whose midst the next copy arrives
            busy = (busy @ busy).clamp(-1, 1)
        assert there.is_cuda
        assert torch.equal(there.cpu(), images)
        assert np.array_equal(encoded["row"].cpu().numpy(), labels["row"])
        assert feeding.numbers(encoded["row"])() == labels["row"].tolist()
        seen += 1
    assert seen == len(drawn)


def test_processes_that_read_change_no_bit_of_a_training(tmp_path):
    pictures = Pictures(96, 1)
    labels = {
        "brightness": LabelAttributes("level", 0, 255),
        "side": LabelAttributes("index", 0, 1),
    }
    store.write(
        tmp_path / "pictures.h5", [Batch(pictures.images.numpy(), pictures.labels)], n=96,
        attributes={"seed": 1, "settings": {}, "first_index": 0, "code": "test"},
        label_attributes=labels,
    )  # fmt: skip
    trained = []
    for workers in (0, 2):
        one = network().cuda()
        fit(one, tmp_path / str(workers), sources.Stored(tmp_path / "pictures.h5", workers))
        trained.append(one)
    assert same(*trained)


def test_attribution_on_cuda_equals_that_on_cpu():
    ids = torch.randint(0, 50, (3, 6), generator=torch.Generator().manual_seed(1))
    other = ids.clone()
    other[:, 2] = (ids[:, 2] + 1) % 50
    metric = interventions.LogitDifference(torch.arange(3), torch.arange(3) + 10)
    cpu = interventions.attribution_sweep(models.gpt2(), ids, other, metric)
    gpu = interventions.attribution_sweep(models.gpt2().cuda(), ids, other, metric)
    assert all(np.abs(cpu.values[c] - gpu.values[c]).max() < 1e-10 for c in cpu.values)
    single = models.gpt2(dtype=torch.float32).cuda()
    half = interventions.attribution_sweep(single, ids, other, metric, mixed_precision="bf16")
    assert half.metadata["precision"] == "bf16"
    rounded = interventions.attribution_sweep(
        single.cpu(), ids, other, metric, mixed_precision="bf16"
    )
    for c, exact in cpu.values.items():
        # As near to the exact values as a CPU's products of the same format.
        found, known = (interventions.correlation(one.values[c], exact) for one in (half, rounded))
        assert found > known - 0.02, (c, found, known)


@pytest.mark.parametrize("path", ["auto", "plain"])
def test_sweeps_in_fp32_agree_to_a_hundred_thousandth(path):
    images, plan = models.images(5).float(), interventions.Plan(path=path)
    found = [
        interventions.head_ablation_sweep(
            models.timm_vit(dtype=torch.float32).to(device), images, models.vit_metric, plan=plan
        )
        for device in ("cpu", "cuda")
    ]
    assert found[0].metadata["path"] == found[1].metadata["path"]
    size = np.abs(found[0].values).max()
    assert np.abs(found[0].values - found[1].values).max() < 1e-5 * max(size, 1)


def test_memory_that_torch_keeps_counts_as_free():
    before = free_bytes(torch.device("cuda"))
    block = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    assert free_bytes(torch.device("cuda")) < before - (1 << 29)
    del block
    assert free_bytes(torch.device("cuda")) > before - (1 << 27)


HOLDER = """
import os, sys, time
from pathlib import Path
import torch
from patchwork.jobs import devices
with devices.lease(int(sys.argv[1]), Path(sys.argv[2])) as device:
    print(float(torch.ones(3, device=device).sum()), flush=True)
    time.sleep(60)
"""


def test_a_leased_gpu_computes_and_is_not_given_away(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    n = torch.cuda.device_count()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(n), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "3.0"
        with pytest.raises(ValueError, match=f"0 of {n} are free"), devices.lease(1, tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
    with devices.lease(1, tmp_path) as device:
        assert device == "cuda"
