"""Get or make one backbone and write it with its provenance."""

import shutil
from pathlib import Path

import pandas as pd
import torch
from patchwork import tables
from patchwork.jobs import devices, provenance
from patchwork.jobs.log import job_log
from patchwork.models import backbones
from patchwork.training import pretraining, trainer


def main(
    *,
    backbone: dict,
    image_px: int,
    seed: int,
    pictures: list[str],
    outputs: dict,
    folders: tuple[str, str],
    device: str,
) -> None:
    """`pictures`: the file that the backbone sees views of, if it does."""
    checkpoints, events = map(Path, folders)
    made = backbones.prepare(backbone, image_px, seed=seed)
    steps = pd.DataFrame()
    if backbone["source"] == "pretrained":
        made, logs = pretraining.pretrain(
            made,
            backbone["pretraining"],
            seed=seed,
            folder=checkpoints,
            events=events,
            pictures=Path(pictures[0]) if pictures else None,
            device=device,
        )
        steps = logs.steps
    tables.write(steps, outputs["log"])
    backbones.join_snapshots(checkpoints / trainer.SNAPSHOTS, outputs["snapshots"])
    backbones.save(made, outputs["backbone"])
    shutil.rmtree(checkpoints, ignore_errors=True)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        pictures = [str(path) for path in snakemake.input]
        seen = [provenance.file_sha256(path) for path in pictures]
        key = provenance.settings_digest(snakemake.params.backbone, seen, snakemake.params.code)
        main(
            backbone=snakemake.params.backbone,
            image_px=snakemake.params.image_px,
            seed=int(snakemake.wildcards.seed),
            pictures=pictures,
            outputs=dict(snakemake.output.items()),
            folders=(f"{snakemake.params.checkpoints}/{key}", snakemake.params.events),
            device=device,
        )
