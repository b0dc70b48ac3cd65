"""Predict the angle of the same lines in every colour with the networks of all seeds."""

import torch
from patchwork import tables
from patchwork.analysis.biases import paired
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.stimuli import lines
from patchwork.training import evaluation


def main(
    *,
    files: list,
    seeds: list,
    errors: str,
    images: dict,
    block: dict,
    angles: list,
    device: str,
) -> None:
    colours = paired.colours_of(images["settings"]["palette"], block["n_hues"])
    periods = paired.periods_of(angles, lines.label_attributes(images["settings"]))
    table = evaluation.of_seeds(
        lambda network: paired.paired_errors(network, images, colours, periods, block["n_lines"]),
        files,
        seeds,
        device,
        share_vectors=True,
    )
    tables.write(table, errors)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        settings = snakemake.params.settings
        main(
            files=list(zip(snakemake.input.tuned, snakemake.input.backbones, strict=True)),
            seeds=snakemake.params.seeds,
            errors=snakemake.output.errors,
            images=snakemake.params.images,
            block=settings["colour"],
            angles=settings["orientation"]["angles"],
            device=device,
        )
