"""Predict every target of every test image with the networks of all seeds."""

import torch
from patchwork import devices, evaluation, models, sources
from patchwork.joblog import Progress, job_log


def main(*, test: str, backbones: list, tuned: list, predictions: list, device: str) -> None:
    progress = Progress("seeds", len(tuned))
    for i, (backbone, model, path) in enumerate(zip(backbones, tuned, predictions, strict=True)):
        network = models.load(model, backbone).to(torch.device(device))
        evaluation.predictions(network, sources.Stored(test)).to_parquet(path, index=False)
        progress.step(i + 1)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            test=snakemake.input.test,
            backbones=list(snakemake.input.backbones),
            tuned=list(snakemake.input.tuned),
            predictions=list(snakemake.output.predictions),
            device=device,
        )
