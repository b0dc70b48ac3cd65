"""Predict every target of every test image with the networks of all seeds."""

import pandas as pd
import torch
from patchwork import devices, evaluation, models, sources
from patchwork.joblog import Progress, job_log


def main(
    *, test: str, backbones: list, tuned: list, seeds: list, predictions: str, device: str
) -> None:
    progress = Progress("seeds", len(tuned))
    parts = []
    for backbone, model, seed in zip(backbones, tuned, seeds, strict=True):
        network = models.load(model, backbone).to(torch.device(device))
        predicted = evaluation.predictions(network, sources.Stored(test))
        parts.append(predicted.assign(seed=seed))
        progress.step(len(parts))
    pd.concat(parts, ignore_index=True).to_parquet(predictions, index=False)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            test=snakemake.input.test,
            backbones=list(snakemake.input.backbones),
            tuned=list(snakemake.input.tuned),
            seeds=snakemake.params.seeds,
            predictions=snakemake.output.predictions,
            device=device,
        )
