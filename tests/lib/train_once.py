"""Train a small network and write its parameters: in a process that tests can kill.

Arguments: folder of checkpoints, output file, kind of schedule, seconds per step.
"""

import time
from pathlib import Path

import torch
from patchwork.data import tensors
from patchwork.models import fine_tuned
from patchwork.training import trainer
from small_networks import TRAINING, Pictures, network


class Slow(Pictures):
    pause_s = 0.0

    def batches(self, order, batch_size):
        for batch in super().batches(order, batch_size):
            time.sleep(self.pause_s)
            yield batch


def main(folder: str, output: str, schedule: str, pause_s: str) -> None:
    torch.set_num_threads(1)
    Slow.pause_s = float(pause_s)
    settings = dict(
        TRAINING,
        schedule={"kind": schedule, "warmup_steps": 2, "patience": 0, "factor": 0.5},
        snapshot_images=[16, 50, 150, 288],
    )
    one = network()
    log = trainer.fit(one, Slow(96, 1), Pictures(32, 2), settings, seed=5, folder=Path(folder))
    losses = {"losses": torch.from_numpy(log.steps["loss"].to_numpy().copy())}
    tensors.write_tensors({**fine_tuned.trainable(one), **losses}, {"best": log.best_epoch}, output)
