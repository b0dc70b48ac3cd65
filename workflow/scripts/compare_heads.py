"""Compare every head between tasks, and with the untouched backbone, on the same images."""

import pandas as pd
import torch
from patchwork import tables
from patchwork.analysis.heads import effects as head_effects
from patchwork.data import store
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.models import backbones, fine_tuned


def main(
    *,
    probe: str,
    files: list,
    seeds: list,
    outputs: dict,
    datasets: list,
    n_images: int,
    device: str,
) -> None:
    """`files`: of each seed the backbone and the models tuned on it, one per dataset."""
    place, parts = torch.device(device), []
    images = store.read(probe, n_images).images
    for (backbone, tuned), seed in zip(files, seeds, strict=True):
        networks = {
            name: fine_tuned.load(path, backbone).to(place)
            for name, path in zip(datasets, tuned, strict=True)
        }
        untouched = backbones.load(backbone).encoder.to(place)
        parts.append(head_effects.similarities(networks, untouched, images).assign(seed=seed))
        if seed == seeds[0]:
            maps = head_effects.attention_maps(networks, untouched, images[0]).assign(seed=seed)
            tables.write(maps, outputs["maps"])
    tables.write(pd.concat(parts, ignore_index=True), outputs["similarity"])
    tables.write(head_effects.picture_table(images[:1]), outputs["picture"])


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        tuned, n = list(snakemake.input.tuned), len(snakemake.params.datasets)
        by_seed = [tuned[first : first + n] for first in range(0, len(tuned), n)]
        main(
            probe=snakemake.input.probe,
            files=list(zip(snakemake.input.backbones, by_seed, strict=True)),
            seeds=snakemake.params.seeds,
            outputs=dict(snakemake.output.items()),
            datasets=snakemake.params.datasets,
            n_images=snakemake.params.settings["n_images"],
            device=device,
        )
