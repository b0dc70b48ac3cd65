"""Predict every target of every test image with the networks of all seeds."""

import torch
from patchwork import tables
from patchwork.data import sources
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.training import evaluation


def main(
    *, test: str, files: list, seeds: list, predictions: str, device: str, workers: int = 0
) -> None:
    source = sources.Stored(test, workers)
    table = evaluation.of_seeds(
        lambda network: evaluation.predictions(network, source),
        files,
        seeds,
        device,
        share_vectors=True,
    )
    tables.write(table, predictions)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            test=snakemake.input.test,
            files=list(zip(snakemake.input.tuned, snakemake.input.backbones, strict=True)),
            seeds=snakemake.params.seeds,
            predictions=snakemake.output.predictions,
            device=device,
            workers=snakemake.threads - 1 if device == "cuda" else 0,
        )
