"""Patch activations between pairs of images that differ in one attribute."""

import torch
from patchwork import tables
from patchwork.analysis.heads import effects as head_effects
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.stimuli import lines
from patchwork.training import evaluation


def main(
    *,
    files: list,
    seeds: list,
    outputs: dict,
    images: dict,
    settings: dict,
    dataset: str,
    device: str,
) -> None:
    chosen = settings["changed"][dataset]
    first = images["first_index"]
    clean, corrupted = lines.pairs(
        images["settings"],
        chosen["attribute"],
        seed=images["seed"],
        indices=range(first, first + settings["n_pairs"]),
    )
    pairs, targets = (clean.images, corrupted.images), chosen["targets"]
    table = evaluation.of_seeds(
        lambda network: head_effects.patching(
            network, pairs, clean.labels, targets, settings["components"]
        ),
        files,
        seeds,
        device,
    )
    tables.write(table, outputs["effects"])
    tables.write(head_effects.picture_table(clean.images), outputs["picture"])


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            files=list(zip(snakemake.input.tuned, snakemake.input.backbones, strict=True)),
            seeds=snakemake.params.seeds,
            outputs=dict(snakemake.output.items()),
            images=snakemake.params.images,
            settings=snakemake.params.settings,
            dataset=snakemake.wildcards.dataset,
            device=device,
        )
