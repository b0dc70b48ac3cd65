"""Predict the places of chirps on real pictures with networks that were trained on drawn ones."""

import torch
from patchwork import tables
from patchwork.analysis.chirps import transfer
from patchwork.data import annotated, sources
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.training import evaluation


def main(*, pictures: list, files: list, seeds: list, predictions: str, device: str) -> None:
    """Of each recording one picture is read, whatever its split: none was trained on."""
    images, labels, _ = annotated.joined(pictures)
    rows = annotated.one_of_each(labels)
    shown = transfer.labels_of({name: column[rows] for name, column in labels.items()})
    source = sources.Held(images[rows], shown)
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
            pictures=list(snakemake.input.pictures),
            files=list(zip(snakemake.input.tuned, snakemake.input.backbones, strict=True)),
            seeds=snakemake.params.seeds,
            predictions=snakemake.output.predictions,
            device=device,
        )
