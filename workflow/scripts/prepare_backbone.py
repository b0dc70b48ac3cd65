"""Get or make one backbone and write it with its provenance."""

import shutil
from pathlib import Path

import pandas as pd
import torch
from patchwork import backbones, devices, provenance, rearing, training
from patchwork.joblog import job_log


def main(
    *,
    backbone: dict,
    image_px: int,
    seed: int,
    outputs: dict,
    folders: tuple[str, str],
    device: str,
) -> None:
    checkpoints, events = map(Path, folders)
    made = backbones.prepare(backbone, image_px, seed=seed)
    steps = pd.DataFrame(columns=list(training.STEP_COLUMNS))
    if backbone["source"] == "reared":
        made, logs = rearing.rear(
            made,
            backbone["rearing"],
            seed=seed,
            folder=checkpoints,
            events=events,
            device=device,
        )
        steps = logs.steps
    steps.to_parquet(outputs["log"])
    backbones.save(made, outputs["backbone"])
    shutil.rmtree(checkpoints, ignore_errors=True)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        key = provenance.settings_digest(snakemake.params.backbone, snakemake.params.code)
        main(
            backbone=snakemake.params.backbone,
            image_px=snakemake.params.image_px,
            seed=int(snakemake.wildcards.seed),
            outputs=dict(snakemake.output.items()),
            folders=(f"{snakemake.params.checkpoints}/{key}", snakemake.params.events),
            device=device,
        )
