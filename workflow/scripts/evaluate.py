"""Predict every target of every test image."""

import torch
from patchwork import devices, evaluation, models, sources
from patchwork.joblog import job_log


def main(*, test: str, backbone: str, model: str, predictions: str, device: str) -> None:
    network = models.load(model, backbone).to(torch.device(device))
    table = evaluation.predictions(network, sources.Stored(test))
    table.to_parquet(predictions, index=False)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(**snakemake.input, **snakemake.output, device=device)
