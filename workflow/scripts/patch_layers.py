"""Patch activations between pairs of images that differ in one attribute."""

import torch
from patchwork import devices, models
from patchwork.analysis import heads
from patchwork.joblog import job_log
from patchwork.stimuli import lines


def main(
    *,
    backbone: str,
    model: str,
    effects: str,
    images: dict,
    settings: dict,
    dataset: str,
    device: str,
) -> None:
    network = models.load(model, backbone).to(torch.device(device))
    chosen = settings["changed"][dataset]
    first = images["first_index"]
    clean, corrupted = lines.pairs(
        images["settings"],
        chosen["attribute"],
        seed=images["seed"],
        indices=range(first, first + settings["n_pairs"]),
    )
    table = heads.patching(
        network,
        (clean.images, corrupted.images),
        clean.labels,
        chosen["targets"],
        settings["components"],
    )
    table.to_parquet(effects, index=False)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            **snakemake.input,
            **snakemake.output,
            images=snakemake.params.images,
            settings=snakemake.params.settings,
            dataset=snakemake.wildcards.dataset,
            device=device,
        )
