"""Networks and data small enough for unit tests."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from patchwork.models import backbones, fine_tuned, tasks

ARCHITECTURE = {
    "name": "vit_tiny_patch16_224",
    "options": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
}
RANDOM = {"source": "random", "architecture": ARCHITECTURE, "position_scale": 0.5}
LORA = {"kind": "lora", "rank": 2, "alpha": 4, "dropout": 0.1, "modules": ["qkv"]}
TARGETS = {
    "brightness": {"labels": ["brightness"], "encoding": "scaled", "scale": 255},
    "side": {
        "labels": ["side"], "encoding": "scaled", "loss": "huber", "delta": 0.1, "weight": 0.5,
    },
}  # fmt: skip
TRAINING = {
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.003,
    "weight_decay": 0.01,
    "schedule": {"kind": "cosine", "warmup_steps": 2},
    "early_stopping_patience": None,
    "gradient_clip": 1.0,
    "mixed_precision": "no",
    "checkpoint_every_s": 0.0,
}


class Pictures:
    """Grey pictures whose left or right half is brighter: easy to learn."""

    def __init__(self, n: int, seed: int, image_px: int = 16) -> None:
        rng = np.random.Generator(np.random.Philox(seed))
        level = rng.integers(20, 200, n)
        side = rng.integers(0, 2, n)
        images = np.tile(level[:, None, None, None], (1, image_px, image_px, 3))
        half = image_px // 2
        for i, one in enumerate(side):
            images[i, :, one * half : (one + 1) * half] += 50
        self.images = torch.from_numpy(images.astype(np.uint8))
        self.labels = {"brightness": level.astype(float), "side": side.astype(float)}

    def __len__(self) -> int:
        return len(self.images)

    def batches(
        self, order: np.ndarray, batch_size: int
    ) -> Iterator[tuple[torch.Tensor, Mapping[str, np.ndarray]]]:
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            yield self.images[rows], {name: column[rows] for name, column in self.labels.items()}


def network(
    adapter: dict = LORA,
    readout: str = "cls",
    seed: int = 0,
    image_px: int = 16,
    architecture: dict = ARCHITECTURE,
) -> fine_tuned.Network:
    backbone = backbones.prepare(RANDOM | {"architecture": architecture}, image_px, seed=seed)
    targets = {name: tasks.read_target(block, image_px) for name, block in TARGETS.items()}
    settings = {"readout": readout, "head_hidden": [8], "adapter": adapter}
    return fine_tuned.build(backbone, targets, settings, seed=seed)
