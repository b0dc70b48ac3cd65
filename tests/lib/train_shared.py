"""Train a small network in several processes: run as a process of its own.

Arguments: folder of checkpoints, output file, number of processes, what goes on
(well, nan, or a process that gets a signal: last, parent).
"""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from patchwork.data import tensors
from patchwork.jobs.log import job_log
from patchwork.models import fine_tuned
from patchwork.training import distributed, trainer
from small_networks import LORA, TRAINING, Pictures, network

SETTINGS = TRAINING | {
    "checkpoint_every_s": 60.0,
    "schedule": {"kind": "plateau", "warmup_steps": 2},
}
STEP = trainer._Loop._step
ASKED: list[str] = []


def leaving(loop, *batch):
    """The last process is asked to leave in step 5, the parent of them all in step 9."""
    STEP(loop, *batch)
    last = loop.accelerator.process_index == loop.n_processes - 1
    if loop.state.step == {"last": 5, "parent": 9}[ASKED[0]] and last:
        os.kill(os.getppid() if ASKED == ["parent"] else os.getpid(), signal.SIGUSR1)
    if loop.state.step >= 9:
        time.sleep(0.5)


def train(folder: str, output: str, what: str) -> None:
    torch.set_num_threads(1)
    data = Pictures(96, 1)
    if what == "nan":
        data.labels["side"] = np.full(96, np.nan)
    if what in ("last", "parent"):
        ASKED.append(what)
        trainer._Loop._step = leaving
    one = network(LORA | {"dropout": 0.0})
    log = trainer.fit(one, data, Pictures(32, 2), SETTINGS, seed=5, folder=Path(folder))
    if distributed.is_main_process():
        logs = {"losses": torch.from_numpy(log.steps["loss"].to_numpy().copy())}
        logs["r"] = torch.from_numpy(log.epochs["r"].to_numpy().copy())
        tensors.write_tensors({**fine_tuned.trainable(one), **logs}, {}, output)


if __name__ == "__main__":
    folder, output, n_processes, what = sys.argv[1:]
    with job_log(f"{folder}.log"):
        distributed.launch(train, (folder, output, what), int(n_processes))
