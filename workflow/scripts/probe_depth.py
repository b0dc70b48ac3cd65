"""Errors of linear read-outs of orientation after every block of one backbone."""

import torch
from patchwork import stimuli, tables
from patchwork.analysis.biases import depth
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.models import backbones


def main(*, backbone: str, images: dict, n_folds: int, errors: str, device: str) -> None:
    """`images`: what the lines of each view are drawn from."""
    network = backbones.load(backbone)
    network.encoder.to(torch.device(device))
    drawn = {view: stimuli.draw(block) for view, block in images.items()}
    found = depth.depth_errors(lambda seen: depth.block_vectors(network, seen), drawn, n_folds)
    tables.write(found, errors)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            backbone=snakemake.input.backbone,
            images=snakemake.params.images,
            n_folds=snakemake.params.settings["n_folds"],
            errors=snakemake.output.errors,
            device=device,
        )
